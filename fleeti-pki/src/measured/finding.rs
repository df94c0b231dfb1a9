//! Findings about a firmware log: contradictions of the measured bytes, and what only allows fewer
//! claims.

use crate::tpm::Unreadable;

/// The PCR of the Secure Boot policy.
pub const POLICY_PCR: u8 = 7;
/// The PCR of the started EFI binaries.
pub const BINARIES_PCR: u8 = 4;

/// A finding about a firmware log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// The digest of a separator covers other bytes than the event shows, or an event whose digest
    /// is that of a separator has another type.
    #[error("the separator of PCR {0} shows other bytes than were measured")]
    Separator(u8),
    /// No separator.
    #[error("firmware measured no separator into PCR {0}")]
    NoSeparator(u8),
    /// Several separators.
    #[error("firmware measured more than one separator into PCR {0}")]
    Separators(u8),
    /// The separator says that something failed.
    #[error("firmware reports a failure before boot (error separator of PCR {0})")]
    Failed(u8),
    /// An event's digest covers other bytes than the event shows.
    #[error("event {1} of PCR {0} shows other bytes than were measured")]
    Digest(u8, usize),
    /// The type of an event does not fit what the event contains.
    #[error(
        "event {1} of PCR {0} has a type that does not belong there, but contains data that does"
    )]
    Kind(u8, usize),
    /// An event that this server does not know.
    #[error("event {1} of PCR {0} is unknown to this server")]
    Unknown(u8, usize),
    /// A variable of the policy is measured again with another value, or after something was
    /// started, or has no value.
    #[error("a Secure Boot variable changed during boot (event {0} of PCR 7)")]
    Policy(usize),
    /// The same variable is measured twice.
    #[error("firmware measured a Secure Boot variable twice (event {0} of PCR 7)")]
    Repeated(usize),
    /// Variables are measured in another order.
    #[error("firmware measured its Secure Boot variables in the wrong order (event {0} of PCR 7)")]
    Order(usize),
    /// A variable that is not part of the policy.
    #[error("firmware measured an unknown variable into PCR 7: {1:?} (event {0})")]
    Variable(usize, String),
    /// Variables of the policy that are not measured.
    #[error("firmware does not measure its variables: {}", .0.join(", "))]
    NotMeasured(Vec<&'static str>),
    /// Something other than a key of db verified an EFI binary.
    #[error("an EFI binary was verified by {1:?}, not by a key of db (event {0} of PCR 7)")]
    Authority(usize, String),
    /// Firmware reports a state that weakens Secure Boot.
    #[error("firmware says: {0}")]
    Weakened(&'static str),
    /// An event cannot be read.
    #[error("an event of PCR 7 cannot be read: {0}")]
    Unreadable(#[from] Unreadable),
}

impl Finding {
    /// A stable name of the check that failed.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Separator(_) | Self::NoSeparator(_) | Self::Separators(_) | Self::Failed(_) => {
                "log-separator"
            }
            Self::Digest(..) => "log-digest",
            Self::Kind(..) | Self::Unknown(..) => "log-kind",
            Self::Policy(_)
            | Self::Repeated(_)
            | Self::Order(_)
            | Self::Variable(..)
            | Self::Authority(..)
            | Self::NotMeasured(_) => "log-policy",
            Self::Weakened(_) => "log-weakened",
            Self::Unreadable(_) => "log-event",
        }
    }

    /// Whether the finding contradicts what was measured. Any other finding only allows fewer
    /// claims: firmware that reports audit mode, or that a debugger may be attached, tells the
    /// truth.
    #[must_use]
    pub const fn is_attestation_failure(&self) -> bool {
        match self {
            Self::Separator(_) | Self::Digest(..) | Self::Kind(..) | Self::Policy(_) => true,
            Self::NoSeparator(_)
            | Self::Separators(_)
            | Self::Failed(_)
            | Self::Unknown(..)
            | Self::Repeated(_)
            | Self::Order(_)
            | Self::Variable(..)
            | Self::NotMeasured(_)
            | Self::Authority(..)
            | Self::Weakened(_)
            | Self::Unreadable(_) => false,
        }
    }

    /// What would allow more claims.
    #[must_use]
    pub const fn raise(&self) -> &'static str {
        match self {
            Self::Weakened(_) => {
                "firmware settings that avoid this (user mode, DMA protection, no debugger)"
            }
            _ => {
                "firmware that measures as the TCG PC Client profile requires; a newer version may do so"
            }
        }
    }

    /// Whether the log shows other bytes than were measured: only then does it contradict itself.
    #[must_use]
    pub const fn shows_other_bytes(&self) -> bool {
        matches!(self, Self::Separator(_) | Self::Digest(..) | Self::Kind(..))
    }

    /// The PCR that the finding is about.
    #[must_use]
    pub const fn pcr(&self) -> u8 {
        match self {
            Self::Separator(pcr)
            | Self::NoSeparator(pcr)
            | Self::Separators(pcr)
            | Self::Failed(pcr)
            | Self::Digest(pcr, _)
            | Self::Kind(pcr, _)
            | Self::Unknown(pcr, _) => *pcr,
            Self::Policy(_)
            | Self::Repeated(_)
            | Self::Order(_)
            | Self::Variable(..)
            | Self::NotMeasured(_)
            | Self::Authority(..)
            | Self::Weakened(_)
            | Self::Unreadable(_) => POLICY_PCR,
        }
    }

    /// Whether the finding is about what was started rather than about the Secure Boot policy.
    #[must_use]
    pub const fn is_about_binaries(&self) -> bool {
        self.pcr() == BINARIES_PCR
    }
}
