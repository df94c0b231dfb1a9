//! HTTP: [`api`] for people and automation, [`device`] for devices, [`worker`] for build workers. Handlers extract, call one service, map.

pub mod api;
pub mod attestation;
pub mod audit;
pub mod device;
mod file_body;
pub mod openapi;
mod recovery;
mod vault;
pub mod worker;
