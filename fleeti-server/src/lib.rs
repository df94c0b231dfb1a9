//! The control plane: actix-web, an MQTT gateway and sqlx around the crates. Decides nothing that
//! `core` decides.
//!
//! Code map: [`config`] (the data folder and its keys) · [`app`] (what every part shares) ·
//! [`clock`] (the time that decides who may connect) · [`db`] (all SQL) · [`service`] (one call for
//! each thing that can be done; HTTP, MQTT and jobs call the same) · [`http`] (the API on 8080, the
//! device port on 8443) · [`web`] (the pages on 8080) · [`gateway`] (MQTT on 8883, and how
//! connections come in) · [`port`] (HTTP over them) · [`worker`] (builds in this process, and
//! signatures) · [`remote_worker`] (builds for a server elsewhere) · [`admin_tls`] (TLS of the
//! API's port) · [`limits`] (how much one client may hold) · [`log`] (what is written, and how
//! much) · [`server`] (starting and stopping).
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
//!     // A server without keys does not start, and says what to do.
//!     Err(e) => assert!(e.to_string().contains("fleeti pki init")),
//! }
//! # });
//! ```
//! `examples/src/bin/embed_server.rs` embeds one with keys.

pub mod admin_tls;
pub mod app;
pub mod clock;
pub mod config;
pub mod db;
pub mod error;
pub mod gateway;
pub mod http;
pub mod limits;
pub mod log;
pub mod port;
pub mod remote_worker;
pub mod server;
pub mod service;
pub mod web;
pub mod worker;
