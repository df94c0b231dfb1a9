//! The control plane: actix-web and an MQTT gateway around the Fleeti crates. The state
//! machines and their decisions are in `fleeti_core`; this crate does the I/O.
//!
//! Code map: [`config`] (the data folder and its keys) · [`fleeti_control`] (one function for each
//! operation; HTTP, MQTT and jobs call the same ones) · [`fleeti_store`] (all SQL) · [`http`] (the API on port 8080, the device API on port 8443, sizes of bodies) · [`web`] (the pages on
//! port 8080) · [`gateway`] (MQTT on port 8883, and how the server accepts connections) · [`port`]
//! (HTTP over these connections) · [`error`] (the one error type, with its status codes) ·
//! [`worker`] (builds and signatures in this process) · [`remote_worker`] (builds for another
//! server) · [`admin_tls`] (TLS of the API port) · [`limits`] (resources that one client may use) ·
//! [`log`] (log output and its limits) · [`server`] (start and stop).
//!
//! ```
//! # actix_web::rt::System::new().block_on(async {
//! let dir = tempfile::tempdir().unwrap();
//! let config = fleeti_server::config::Config::new(dir.path());
//! match fleeti_server::server::Server::start(config).await {
//!     Ok(server) => {
//!         println!("API at http://{}", server.addresses.api);
//!         server.stop().await;
//!     }
//!     // A server without keys does not start. The error says what to do.
//!     Err(e) => assert!(e.to_string().contains("fleeti pki init")),
//! }
//! # });
//! ```
//! `examples/src/bin/embed_server.rs` embeds one with keys.

pub mod admin_tls;
pub mod config;
pub mod error;
pub mod gateway;
pub mod http;
pub mod limits;
pub mod log;
pub mod port;
pub mod remote_worker;
pub mod server;
pub mod web;
pub mod worker;
