//! HTTP: [`api`] for people and automation, [`device`] for devices, [`worker`] for build workers.
//! Handlers extract ([`extract`]), call one service, map. [`crate::port`] is how a connection comes
//! to them.

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
