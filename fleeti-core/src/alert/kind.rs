//! What rules watch, and how severe it is.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// How severe an alert is.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = AlertSeverity)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Look at it during working hours.
    Warning,
    /// Look at it now.
    Critical,
}

impl Severity {
    /// All severities, lowest first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What a rule watches.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The server got nothing from a device for a time.
    Offline,
    /// A device runs another release than its desired one for a time.
    Drift,
    /// The attestation level of a device fell.
    TrustDrop,
    /// An update of a device failed or was rolled back.
    FailedUpdate,
    /// A device raises an alarm, or the server raises one about it.
    Alarm,
    /// The certificate of a device ends.
    Certificate,
    /// The data partition of a device is full.
    Disk,
    /// A device connects again and again.
    Flapping,
    /// The CRL for devices ends.
    Crl,
    /// Acts wait for the audit log.
    AuditGap,
    /// The release of a fleet lacks security fixes for a time.
    Fixes,
}

/// What alerts of a kind are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A device.
    Device,
    /// A fleet as a whole.
    Fleet,
    /// The server.
    Server,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Offline,
        Self::Drift,
        Self::TrustDrop,
        Self::FailedUpdate,
        Self::Alarm,
        Self::Certificate,
        Self::Disk,
        Self::Flapping,
        Self::Crl,
        Self::AuditGap,
        Self::Fixes,
    ];

    /// Whether a device in its reboot window may cause it by an update: it is silent then.
    #[must_use]
    pub const fn is_of_reboots(self) -> bool {
        match self {
            Self::Offline | Self::Drift | Self::Flapping => true,
            Self::TrustDrop
            | Self::FailedUpdate
            | Self::Alarm
            | Self::Certificate
            | Self::Disk
            | Self::Crl
            | Self::AuditGap
            | Self::Fixes => false,
        }
    }

    /// The name on the wire, and the id of its shipped rule.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Drift => "drift",
            Self::TrustDrop => "trust-drop",
            Self::FailedUpdate => "failed-update",
            Self::Alarm => "alarm",
            Self::Certificate => "certificate",
            Self::Disk => "disk",
            Self::Flapping => "flapping",
            Self::Crl => "crl",
            Self::AuditGap => "audit-gap",
            Self::Fixes => "fixes",
        }
    }

    /// What it watches, in words.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Offline => "Device offline",
            Self::Drift => "Drift from the desired release",
            Self::TrustDrop => "Attestation level fell",
            Self::FailedUpdate => "Update failed",
            Self::Alarm => "Alarm of a device",
            Self::Certificate => "Device certificate ends",
            Self::Disk => "Data partition full",
            Self::Flapping => "Device connects again and again",
            Self::Crl => "CRL for devices ends",
            Self::AuditGap => "Acts wait for the audit log",
            Self::Fixes => "Security fixes wait",
        }
    }

    /// What an operator does about it, in words.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Offline => {
                "Check power and network of the devices. `fleeti device show DEVICE` has the last \
                 report. The alert ends when the device connects."
            }
            Self::Drift => "`fleeti why DEVICE` says what keeps a device from its desired release.",
            Self::TrustDrop => {
                "Take it for an attack until you know the reason: `fleeti attest show DEVICE` names \
                 what the device does not prove any more."
            }
            Self::FailedUpdate => {
                "The device runs its previous version. `fleeti device show DEVICE` has the reason; \
                 abort the rollout if more devices fail."
            }
            Self::Alarm => {
                "The page of the device explains the alarm. Take it for an attack until you know the \
                 reason."
            }
            Self::Certificate => {
                "A device renews its certificate when it connects. Bring it online before the \
                 certificate ends; afterwards it needs a readmission."
            }
            Self::Disk => {
                "Find what fills the data partition, and make room or a larger partition."
            }
            Self::Flapping => {
                "Check the network of the device, and whether two machines use one identity."
            }
            Self::Crl => {
                "Start the signing service: without a new CRL, devices refuse the server when the \
                 old one ends."
            }
            Self::AuditGap => {
                "Start the signing service, or read its log: the server refuses changes when too \
                 many acts wait."
            }
            Self::Fixes => {
                "`fleeti fleet fixes FLEET` names the packages. Build with refreshed packages, and roll \
                 the release out: `fleeti fix PACKAGE` does it within hours."
            }
        }
    }

    /// The unit of its threshold.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Offline | Self::Drift | Self::Certificate | Self::Crl | Self::Fixes => "seconds",
            Self::TrustDrop => "levels",
            Self::FailedUpdate | Self::Alarm => "none",
            Self::Disk => "percent",
            Self::Flapping => "connections within an hour",
            Self::AuditGap => "acts",
        }
    }

    /// Smallest and largest threshold.
    #[must_use]
    pub const fn thresholds(self) -> (u64, u64) {
        match self {
            Self::Offline => (120, 366 * DAY_S),
            Self::Drift => (60, 366 * DAY_S),
            Self::TrustDrop => (1, 5),
            Self::FailedUpdate | Self::Alarm => (0, 0),
            Self::Certificate => (3600, 366 * DAY_S),
            Self::Disk => (10, 99),
            Self::Flapping => (3, 1000),
            Self::Crl => (3600, 30 * DAY_S),
            Self::AuditGap => (1, 10_000),
            Self::Fixes => (3600, 366 * DAY_S),
        }
    }

    /// The threshold of its shipped rule.
    #[must_use]
    pub const fn default_threshold(self) -> u64 {
        match self {
            Self::Offline => 3600,
            Self::Drift => 7 * DAY_S,
            Self::TrustDrop => 1,
            Self::FailedUpdate | Self::Alarm => 0,
            Self::Certificate => 5 * DAY_S,
            Self::Disk => 90,
            Self::Flapping => 12,
            Self::Crl => 12 * 3600,
            Self::AuditGap => 1000,
            Self::Fixes => 3 * DAY_S,
        }
    }

    /// The severity of its shipped rule.
    #[must_use]
    pub const fn default_severity(self) -> Severity {
        match self {
            Self::TrustDrop | Self::Alarm | Self::Crl | Self::AuditGap => Severity::Critical,
            Self::Offline
            | Self::Drift
            | Self::FailedUpdate
            | Self::Certificate
            | Self::Disk
            | Self::Flapping
            | Self::Fixes => Severity::Warning,
        }
    }

    /// What its alerts are about.
    #[must_use]
    pub const fn subject(self) -> Subject {
        match self {
            Self::Offline
            | Self::Drift
            | Self::TrustDrop
            | Self::FailedUpdate
            | Self::Alarm
            | Self::Certificate
            | Self::Disk
            | Self::Flapping => Subject::Device,
            Self::Fixes => Subject::Fleet,
            Self::Crl | Self::AuditGap => Subject::Server,
        }
    }
}

/// Implements text forms by a name.
macro_rules! named {
    ($name:ident, $text:ident, $what:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.$text())
            }
        }
        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.into_iter().find(|one| one.$text() == text).ok_or_else(|| {
                    let all: Vec<_> = Self::ALL.iter().map(|one| one.$text()).collect();
                    format!("{text:?} is not a {}: expected {}", $what, all.join(", "))
                })
            }
        }
    };
}

named!(Kind, code, "kind of rule");
named!(Severity, as_str, "severity");
