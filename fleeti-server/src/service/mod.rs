//! The operations of the server. HTTP, MQTT and jobs call the same functions. A service opens one
//! transaction, loads, calls `step`, stores, and dispatches the effects after the commit.
//!
//! Every function that uses the database returns an error when the database does not answer. The
//! `# Errors` sections name only the other errors.

pub mod approvals;
pub mod attestation;
pub mod audit;
pub mod boot;
pub mod boot_proof;
pub mod builds;
pub mod commands;
pub mod devices;
pub mod disk;
pub mod enrollment;
pub mod enrollment_batch;
pub mod evidence;
pub mod health;
pub mod jobs;
pub mod logs;
pub mod manufacturers;
pub mod notice;
pub mod overview;
pub mod pairing;
pub mod policy;
pub mod readmission;
pub mod releases;
pub mod renewal;
pub mod retention;
pub mod revisions;
pub mod revocation;
pub mod rollouts;
pub mod sessions;
pub mod signing;
pub mod standby;
pub mod tpm;
pub mod transitions;
pub mod trust;
pub mod vault;
pub mod workers;
