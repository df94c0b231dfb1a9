//! The real server, driven over its three ports.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod admin_tls;
mod approvals;
mod attestation;
mod audit;
mod boot;
mod boot_proof;
mod builds;
mod dead_signer;
mod device_port;
mod disk;
mod gateway;
mod interop;
mod large_list;
mod lifetimes;
mod manufacturers;
mod mqtt_conformance;
mod mqtt_rows;
mod mqtt_sessions;
mod pairing;
mod peer;
mod policy;
mod process;
mod raw;
mod reach;
mod recoveries;
mod rollout;
mod strangers;
mod tpm;
mod trust;
mod units;
mod vault;
mod web;
mod workers;
mod world;
