//! HTTP: [`api`] for operators and automation, [`device`] for devices, [`worker`] for build
//! workers. A handler extracts its arguments ([`extract`]), calls one service and maps the result.
//! [`crate::port`] serves the connections.

pub mod api;
pub mod attestation;
pub mod audit;
pub mod device;
pub mod extract;
mod file_body;
mod methods;
pub mod open;
pub mod openapi;
mod range;
mod recovery;
mod vault;
pub mod worker;
