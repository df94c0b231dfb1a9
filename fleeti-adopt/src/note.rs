//! What was taken into a profile and what was not, why, and what to do.

use serde::Serialize;

/// A part of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// Passphrases, private keys, tokens and password hashes.
    Secrets,
    /// The system as a whole.
    System,
    /// Packages and their sources.
    Software,
    /// Users, groups, sudo.
    Accounts,
    /// Logins with SSH.
    Ssh,
    /// Units of systemd, and jobs of cron.
    Services,
    /// Interfaces, names, packet filter.
    Network,
    /// Kernel, modules, sysctl, firmware.
    Kernel,
    /// Files of configuration.
    Files,
    /// Data.
    State,
}

impl Area {
    /// A heading.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::System => "system",
            Self::Software => "software",
            Self::Accounts => "users, groups and sudo",
            Self::Ssh => "SSH server",
            Self::Services => "services and jobs",
            Self::Network => "network",
            Self::Kernel => "kernel and boot",
            Self::Files => "files",
            Self::State => "data",
        }
    }
}

/// Whether something is in the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is in the profile, and there is something to know about it.
    Taken,
    /// It is not in the profile.
    NotTaken,
    /// It is not in the profile because Fleeti or the base does it in another way.
    Replaced,
}

/// Something about a part of the system that the author of the profile should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The part of the system.
    pub area: Area,
    /// Whether it is in the profile.
    pub outcome: Outcome,
    /// What it is about: a path, a name. Foreign text.
    pub subject: String,
    /// Why it was taken, or was not. Foreign text.
    pub why: String,
    /// What to do; empty for nothing.
    pub next: String,
}
