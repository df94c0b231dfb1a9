//! Limits of the signing service per minute, for all callers together.

/// Limits per minute.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Device certificates.
    pub certificates_per_minute: u32,
    /// Secure Boot keys made, variables changed and releases signed for a device.
    pub boot_per_minute: u32,
    /// Releases signed.
    pub releases_per_minute: u32,
    /// Recovery keys wrapped and secrets given to devices: requests that devices cause.
    pub secrets_per_minute: u32,
    /// CRLs signed.
    pub lists_per_minute: u32,
    /// Acts of the server written to the audit log.
    pub records_per_minute: u32,
}

/// Secrets set and recovery keys shown in a minute: requests that operators cause, independent of
/// devices.
const BY_PEOPLE_PER_MINUTE: u32 = 120;
/// Server certificates in a minute. A server requests one every six hours, and devices cannot use
/// up this limit.
const SERVERS_PER_MINUTE: u32 = 60;

impl Default for Limits {
    fn default() -> Self {
        Self {
            certificates_per_minute: 6_000,
            boot_per_minute: 60_000,
            releases_per_minute: 10,
            secrets_per_minute: 6_000,
            lists_per_minute: 6_000,
            records_per_minute: 60_000,
        }
    }
}

/// An exceeded limit, described in words.
pub(crate) struct Exhausted(pub(crate) String);

/// A number of tokens that is refilled each minute.
pub(crate) struct Bucket {
    option: &'static str,
    per_minute: u32,
    left: u32,
    minute: u64,
}

impl Bucket {
    fn new(option: &'static str, per_minute: u32) -> Self {
        Self { option, per_minute, left: 0, minute: 0 }
    }
    pub(crate) fn take(&mut self, now_s: u64) -> Result<(), Exhausted> {
        if self.minute != now_s / 60 {
            (self.minute, self.left) = (now_s / 60, self.per_minute);
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            Exhausted(format!("limit of {} in a minute reached ({})", self.per_minute, self.option))
        })?;
        Ok(())
    }
}

/// The remaining tokens of each limit.
pub(crate) struct Buckets {
    pub(crate) issued: Bucket,
    pub(crate) servers: Bucket,
    pub(crate) boots: Bucket,
    pub(crate) releases: Bucket,
    pub(crate) secrets: Bucket,
    pub(crate) lists: Bucket,
    pub(crate) records: Bucket,
    pub(crate) by_people: Bucket,
}

impl Buckets {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            issued: Bucket::new("--certificates-per-minute", limits.certificates_per_minute),
            servers: Bucket::new("fixed", SERVERS_PER_MINUTE),
            boots: Bucket::new("--boot-per-minute", limits.boot_per_minute),
            releases: Bucket::new("--releases-per-minute", limits.releases_per_minute),
            secrets: Bucket::new("--secrets-per-minute", limits.secrets_per_minute),
            lists: Bucket::new("--lists-per-minute", limits.lists_per_minute),
            records: Bucket::new("--records-per-minute", limits.records_per_minute),
            by_people: Bucket::new("fixed", BY_PEOPLE_PER_MINUTE),
        }
    }
}
