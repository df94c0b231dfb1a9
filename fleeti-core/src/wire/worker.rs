//! Build workers: what an administrator does with them, and what they say to the server.
//!
//! A worker holds a token with one right: it takes builds under `/worker/v1`, and gets no other
//! answer. A build is taken by lease; a worker that is killed loses it, and another one takes it.

use super::api::CreateBuild;
use super::attestation::Secret;
use crate::id::WorkerName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Files that a worker may upload, beside the record that it finishes with.
pub const ARTIFACTS: [&str; 6] =
    ["root.erofs", "root.verity", "uki.efi", "systemd-boot.efi", "disk.raw", "lock.json"];
/// Largest file of a build, bytes.
pub const ARTIFACT_MAX: u64 = 8 << 30;
/// Most bytes of one upload; a file comes in as many as it needs. The server holds a whole one in
/// memory, and the allocator keeps what the largest took.
pub const CHUNK_MAX: usize = 1 << 20;
/// Longest log of a build, bytes; what comes after it is left out.
pub const LOG_MAX: u64 = 16 << 20;
/// Longest word of a worker about what it does, or why it failed, characters.
pub const DETAIL_CHARS_MAX: usize = 2000;
/// A worker that does not renew for so many seconds has lost its build.
pub const LEASE_S: u64 = 60;
/// A worker that asks for a build is answered after so many seconds at the latest.
pub const CLAIM_WAIT_S: u64 = 25;
/// Most workers.
pub const WORKERS_MAX: usize = 64;

/// `POST /api/v1/workers`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWorker {
    /// Its name, which the audit log and the builds show.
    pub name: WorkerName,
}

/// A worker that was added; the only time that its token is shown.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedWorker {
    /// Its name.
    pub name: WorkerName,
    /// What it shows to the server.
    #[schema(value_type = String)]
    pub token: Secret,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Worker {
    /// Its name.
    pub name: WorkerName,
    /// When it was added, Unix seconds.
    pub created_s: u64,
    /// When it asked for a build last, Unix seconds.
    pub seen_s: Option<u64>,
}

/// `POST /worker/v1/claim`: asks for a build. Asked again with the same lease, it gives the same
/// build.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// What the worker calls its next lease: 32 hexadecimal digits of its own choice.
    pub lease: String,
}

/// A build that a worker has taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The build's id.
    pub build: String,
    /// Number of the profile's revision.
    pub revision: u32,
    /// What to build.
    pub request: CreateBuild,
    /// Public halves of the organisation's keys, file by file, base64.
    pub trust: BTreeMap<String, String>,
    /// Bytes of the build's log that are there already.
    pub log_size: u64,
}

/// `POST /worker/v1/builds/{build}/renew`: keeps the lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// The lease.
    pub lease: String,
    /// What the worker does now.
    pub detail: String,
}

/// `POST /worker/v1/builds/{build}/finish`: ends the lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finish {
    /// The lease.
    pub lease: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a build ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// Every file is uploaded; the server compares them with the record.
    Succeeded {
        /// The bytes of `build.json`.
        record: String,
    },
    /// It failed.
    Failed {
        /// Why.
        detail: String,
    },
}

/// Whether a text is a lease: 32 hexadecimal digits.
#[must_use]
pub fn is_lease(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}
