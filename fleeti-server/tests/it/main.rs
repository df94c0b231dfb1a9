//! The real server, driven over its three ports.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::too_many_lines, reason = "a scenario or a table is read from its beginning")]

mod abuse;
mod admin_tls;
mod approvals;
mod attestation;
mod audit;
mod boot;
mod boot_proof;
mod builds;
mod contract;
mod dead_signer;
mod device_port;
mod disk;
mod enrollment_batch;
mod foreign_session;
mod gateway;
mod giving_way;
mod http;
mod interop;
mod large_list;
mod lifetimes;
mod machine;
mod manufacturers;
mod mqtt_conformance;
mod mqtt_rows;
mod mqtt_sessions;
mod openapi;
mod pages;
mod pairing;
mod peer;
mod policy;
mod process;
mod profiles;
mod raw;
mod reach;
mod recoveries;
mod rollout;
mod rollout_chunks;
mod strangers;
mod tpm;
mod trust;
mod units;
mod vault;
mod workers;
mod world;
