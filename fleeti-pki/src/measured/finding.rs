//! What is odd about a log: what contradicts the bytes that were measured, and what only lets less
//! be claimed.

use crate::tpm::Unreadable;

/// The register of the Secure Boot policy.
pub const POLICY_REGISTER: u8 = 7;
/// The register of the programs that were started.
pub const PROGRAMS_REGISTER: u8 = 4;

/// What is odd about a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// The separator's digest is of other bytes than it shows, or an event that is one by its
    /// digest says that it is none.
    #[error("the separator of PCR {0} shows other bytes than were measured")]
    Separator(u8),
    /// There is none.
    #[error("firmware measured no separator into PCR {0}")]
    NoSeparator(u8),
    /// There are several.
    #[error("firmware measured more than one separator into PCR {0}")]
    Separators(u8),
    /// It says that something failed.
    #[error(
        "firmware says by the separator of PCR {0} that something failed before the system started"
    )]
    Failed(u8),
    /// An event's digest is of other bytes than the event shows.
    #[error("event {1} of PCR {0} shows other bytes than were measured")]
    Digest(u8, usize),
    /// An event says that it is of another kind than what it shows.
    #[error(
        "event {1} of PCR {0} is of a kind that has no place there, and shows something that has"
    )]
    Kind(u8, usize),
    /// An event that is not known here.
    #[error("event {1} of PCR {0} is not one that this server knows")]
    Unknown(u8, usize),
    /// A variable of the policy is measured again with another value, or once something was
    /// started, or has none.
    #[error("a Secure Boot variable was changed while the system started (event {0} of PCR 7)")]
    Policy(usize),
    /// The same variable is measured twice.
    #[error("firmware measured a Secure Boot variable twice (event {0} of PCR 7)")]
    Repeated(usize),
    /// Variables are measured in another order.
    #[error(
        "firmware measured its Secure Boot variables in another order than it should (event {0} of PCR 7)"
    )]
    Order(usize),
    /// A variable that makes no policy.
    #[error("firmware measured a variable into PCR 7 that is not known there: {1:?} (event {0})")]
    Variable(usize, String),
    /// Variables of the policy that are not measured.
    #[error("firmware does not measure its variables: {}", .0.join(", "))]
    NotMeasured(Vec<&'static str>),
    /// Something else than a key of db vouched.
    #[error(
        "what was started was vouched for by {1:?}, and not by a key of db (event {0} of PCR 7)"
    )]
    Authority(usize, String),
    /// Firmware says that something holds that takes away what Secure Boot promises.
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

    /// Whether it contradicts what was measured. Anything else only lets less be claimed: firmware
    /// that says that it is in audit mode, or that a debugger may be attached, says the truth.
    #[must_use]
    pub const fn is_contradiction(&self) -> bool {
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

    /// What would let more be claimed.
    #[must_use]
    pub const fn raise(&self) -> &'static str {
        match self {
            Self::Weakened(_) => {
                "firmware settings under which it does not say so (user mode, DMA protection, no debugger)"
            }
            _ => "firmware that measures as the TCG's PC Client profile says; a newer version may",
        }
    }

    /// Whether the log shows something else than was measured: only then it contradicts itself.
    #[must_use]
    pub const fn shows_other_bytes(&self) -> bool {
        matches!(self, Self::Separator(_) | Self::Digest(..) | Self::Kind(..))
    }

    /// The register that it is about.
    #[must_use]
    pub const fn register(&self) -> u8 {
        match self {
            Self::Separator(register)
            | Self::NoSeparator(register)
            | Self::Separators(register)
            | Self::Failed(register)
            | Self::Digest(register, _)
            | Self::Kind(register, _)
            | Self::Unknown(register, _) => *register,
            Self::Policy(_)
            | Self::Repeated(_)
            | Self::Order(_)
            | Self::Variable(..)
            | Self::NotMeasured(_)
            | Self::Authority(..)
            | Self::Weakened(_)
            | Self::Unreadable(_) => POLICY_REGISTER,
        }
    }

    /// Whether it is about what was started, and not about the policy under which it was.
    #[must_use]
    pub const fn is_about_programs(&self) -> bool {
        self.register() == PROGRAMS_REGISTER
    }
}
