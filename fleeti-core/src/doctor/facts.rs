//! What is known of a server.

use crate::wire::doctor::Ending;

/// What is known of a server. Whoever gathers it decides nothing.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Time of the server, Unix seconds.
    pub now_s: u64,
    /// What the clock is compared with.
    pub clock: Clock,
    /// Whether the database answers, or why not.
    pub database: Result<(), String>,
    /// The disk of the data folder.
    pub disk: Option<Disk>,
    /// A warning about the disk of the audit log.
    pub audit_disk: Option<String>,
    /// The signing service.
    pub signer: SignerFacts,
    /// Acts that wait for the audit log.
    pub waiting_acts: u64,
    /// From this number on they are a warning.
    pub waiting_many: u64,
    /// When a worker made the index of the mirror's packages, Unix seconds.
    pub index_s: Option<u64>,
    /// When the last backup was made, Unix seconds.
    pub backup_s: Option<u64>,
    /// Things that the last restore left to people.
    pub restore_open: u64,
    /// Ports that were tried.
    pub ports: Vec<Port>,
    /// Everything that ends.
    pub endings: Vec<Ending>,
}

/// What the clock is compared with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    /// When the newest certificate of the server begins, Unix seconds.
    pub not_before_s: u64,
    /// Time of the audit log's newest checkpoint, Unix seconds.
    pub stated_s: Option<u64>,
    /// Whether the kernel says that a time server sets the clock.
    pub is_synchronized: Option<bool>,
}

/// Space on a disk, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Free bytes.
    pub free: u64,
    /// Below it the server refuses builds and uploads.
    pub floor: u64,
}

/// The signing service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignerFacts {
    /// It answers.
    Answers,
    /// It does not.
    Away {
        /// Since when, Unix seconds, if that is known.
        since_s: Option<u64>,
    },
    /// It is in the process of the server, and was not asked.
    Unknown,
}

/// A port of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// What it is for.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Why a connection was refused.
    pub refused: Option<String>,
}
