//! The audit log as clients and devices read it.

use serde::{Deserialize, Serialize};

/// Entries of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditEntries {
    /// Lines of canonical JSON, oldest first. The leaves of the Merkle tree are the SHA-256 of
    /// exactly these bytes (RFC 9162, 2.1.1).
    pub lines: Vec<String>,
}

/// An entry of the audit log with its inclusion proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditProof {
    /// The entry: a line of canonical JSON.
    pub entry: String,
    /// Hashes of the inclusion proof, from the leaf upwards, base64 (RFC 9162, 2.1.3).
    pub hashes: Vec<String>,
    /// The checkpoint whose root hash the proof leads to: a signed note (C2SP tlog-checkpoint).
    pub checkpoint: String,
}

/// The consistency proof between two sizes of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditConsistency {
    /// Hashes, base64 (RFC 9162, 2.1.4).
    pub hashes: Vec<String>,
}
