//! The server: actix-web, pages and an MQTT gateway around `fleeti_control`, which has every
//! operation.
//!
//! Code map: [`server`] (start and stop: how all of it is put together) · [`config`] (the data
//! folder and its keys) · [`api`] and [`pages`] (on port 8080, one file for each resource) ·
//! [`http`] (the device API on port 8443, bodies and queries) · [`gateway`] (MQTT on port 8883, and how the server
//! accepts connections) · [`port`] (HTTP over these connections) · [`sse`] (server-sent events) ·
//! [`error`] (errors as HTTP responses) · [`remote_worker`] (builds for another server) ·
//! [`admin_tls`] (TLS of the API port) · [`limits`] (resources that one client may use) · [`log`]
//! (log output and its limits) · [`options`] (arguments, environment and file), [`check`] (checks
//! them) · [`examine`] (`doctor` on the server's machine) ·
//! [`backup`] (backups, and their restore) · [`email`] (gives e-mail to a relay).
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

pub mod access;
pub mod admin_tls;
pub mod api;
pub mod backup;
pub mod check;
pub mod config;
pub mod email;
pub mod error;
pub mod examine;
pub mod gateway;
pub mod http;
pub mod limits;
pub mod log;
pub mod options;
pub mod pages;
pub mod port;
pub mod remote_worker;
pub mod server;
pub mod sse;
pub mod webhooks;
