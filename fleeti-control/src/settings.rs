//! What an operator configures of the control plane.

use crate::clock::Clock;
use crate::email_relay::EmailRelay;
use crate::public_url::PublicUrl;
use fleeti_core::wire::attestation::CHALLENGE_S;
use std::path::PathBuf;

/// What the clean-up keeps.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Number of the newest builds that are kept, beside those that a release was made from.
    pub builds: u32,
    /// Age in seconds, since the last write, after which an upload is removed.
    pub upload_s: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { builds: 20, upload_s: 7 * 86_400 }
    }
}

/// Limits on what devices ask of the control plane. Times are in milliseconds unless the name says
/// otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time for the evidence that answers a challenge.
    pub challenge_ms: u64,
    /// Time for a TPM to return its secret (credential activation).
    pub proving_ms: u64,
    /// Minimum time between two recovery keys of a device, in seconds.
    pub recovery_key_s: u64,
    /// Pairing codes per minute and address (IPv6: per /64).
    pub codes_per_minute: u32,
    /// Maximum number of pending enrollments.
    pub pairing: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            challenge_ms: CHALLENGE_S * 1000,
            proving_ms: 600_000,
            recovery_key_s: 300,
            codes_per_minute: 20,
            pairing: 2000,
        }
    }
}

/// The certificate of API and pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiCertificate {
    /// Its file, PEM, leaf first.
    pub path: PathBuf,
    /// Whether the server issues and renews it.
    pub is_self_issued: bool,
}

/// What an operator configures.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data folder.
    pub data: PathBuf,
    /// DNS names and addresses by which devices reach the server. Enrollment records contain the
    /// first one.
    pub names: Vec<String>,
    /// HTTP proxy through which devices reach the server, such as `http://proxy.example:3128`, for
    /// enrollment records.
    pub device_proxy: Option<String>,
    /// The URL at which people open the pages. Without it there are no passkeys.
    pub public_url: Option<PublicUrl>,
    /// Limits on what devices ask.
    pub limits: Limits,
    /// Whether a software TPM of a trusted manufacturer counts as much as a chip.
    pub trusts_hypervisor: bool,
    /// Whether webhooks may be sent to private addresses and, to loopback, without TLS.
    pub private_webhooks: bool,
    /// The relay that takes e-mail about alerts; `None` for no e-mail.
    pub email: Option<EmailRelay>,
    /// Minimum free space on the disk of the data folder, in bytes. Below it the server refuses
    /// builds and uploads. Default: 5 % of the disk, at most 512 MiB.
    pub disk_floor: Option<u64>,
    /// Which files of builds and uploads are kept.
    pub retention: Retention,
    /// The certificate of API and pages; `None` for plain HTTP.
    pub api_certificate: Option<ApiCertificate>,
    /// The time that certificates are checked against.
    pub clock: Clock,
}

impl Settings {
    /// The default settings, for a data folder.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            names: vec!["localhost".into(), "127.0.0.1".into()],
            device_proxy: None,
            public_url: None,
            limits: Limits::default(),
            trusts_hypervisor: false,
            private_webhooks: false,
            email: None,
            disk_floor: None,
            retention: Retention::default(),
            api_certificate: None,
            clock: Clock::default(),
        }
    }
    /// The folder of releases.
    #[must_use]
    pub fn releases(&self) -> PathBuf {
        self.data.join("releases")
    }
    /// The folder into which the signing service writes the releases that it signs, next to
    /// uploads; on the same file system as the releases.
    #[must_use]
    pub fn outbox(&self) -> PathBuf {
        self.releases().join(".staging")
    }
}
