//! Every test runs on SQLite and on PostgreSQL.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod alerts;
mod board;
mod builds;
mod channels;
mod databases;
mod devices;
mod errors;
mod evidence;
mod identities;
mod isolation;
mod kept;
mod leases;
mod lists;
mod packages;
mod rollouts;
mod selection;
mod tls;
