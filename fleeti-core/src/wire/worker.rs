//! Build workers: how administrators manage them, and the protocol between worker and server.
//!
//! A worker has a token with a single right: it may take builds under `/worker/v1`. A worker takes
//! a build by lease. If a worker is killed, its lease ends and another worker takes the build.

use super::api::CreateBuild;
use super::attestation::Secret;
use crate::id::WorkerName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Files that a worker may upload, besides the record that it finishes with. The record has the
/// digest of each but the lock, whose own digest it has.
pub const ARTIFACTS: [&str; 12] = [
    "root.erofs",
    "root.verity",
    "uki.efi",
    "systemd-boot.efi",
    "disk.raw",
    "ids.json",
    "scripts.json",
    "brought.json",
    "contents.json",
    "sbom.cdx.json",
    "provenance.intoto.json",
    "lock.json",
];
/// What a build says of its image: numbers of users of packages, what maintainer scripts changed,
/// what each package brought, and every file.
pub const REPORTS: [&str; 4] = ["ids.json", "scripts.json", "brought.json", "contents.json"];
/// Size limit of a file of a build, bytes.
pub const ARTIFACT_MAX: u64 = 8 << 30;
/// Size limit of one upload, bytes; a larger file is uploaded in several. The server holds a whole
/// upload in memory, and the allocator keeps the memory of the largest one.
pub const CHUNK_MAX: usize = 256 << 10;
/// Size limit of the log of a build, bytes; the worker leaves out lines that exceed it, and the
/// server refuses them.
pub const LOG_MAX: u64 = 16 << 20;
/// Longest description of what a worker does, or why it failed, characters.
pub const DETAIL_CHARS_MAX: usize = 2000;
/// Lifetime of a lease after its last renewal, seconds.
pub const LEASE_S: u64 = 60;
/// Longest time that the server holds a worker's request for a build, seconds.
pub const CLAIM_WAIT_S: u64 = 25;
/// Largest number of workers.
pub const WORKERS_MAX: usize = 64;

/// `POST /api/v1/workers`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWorker {
    /// Name of the worker, shown in the audit log and with its builds.
    pub name: WorkerName,
}

/// The response to [`CreateWorker`]. The server shows the token only here.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedWorker {
    /// Name of the worker.
    pub name: WorkerName,
    /// The token with which the worker authenticates.
    #[schema(value_type = String)]
    pub token: Secret,
}

/// A build worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Worker {
    /// Name of the worker.
    pub name: WorkerName,
    /// When it was added, Unix seconds.
    pub created_s: u64,
    /// When it last asked for a build, Unix seconds.
    pub seen_s: Option<u64>,
}

/// `POST /worker/v1/claim`: takes a build. Repeating the request with the same lease returns the
/// same build.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Id of the lease, chosen by the worker: 32 hexadecimal digits.
    pub lease: String,
}

/// A build that a worker has taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Build id.
    pub build: String,
    /// Number of the profile revision.
    pub revision: u32,
    /// Profile and version to build.
    pub request: CreateBuild,
    /// Public keys of the organisation, by file name, base64.
    pub trust: BTreeMap<String, String>,
    /// Size of the build's log on the server, bytes.
    pub log_size: u64,
}

/// `POST /worker/v1/builds/{build}/renew`: renews the lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// Id of the lease.
    pub lease: String,
    /// What the worker does now.
    pub detail: String,
}

/// `POST /worker/v1/builds/{build}/finish`: ends the lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finish {
    /// Id of the lease.
    pub lease: String,
    /// Outcome of the build.
    pub outcome: Outcome,
}

/// Outcome of a build.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// The worker uploaded every file; the server compares them with the record.
    Succeeded {
        /// The bytes of `build.json`.
        record: String,
    },
    /// The build failed.
    Failed {
        /// Why.
        detail: String,
    },
}

/// Whether a text is the id of a lease: 32 hexadecimal digits.
#[must_use]
pub fn is_lease(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}
