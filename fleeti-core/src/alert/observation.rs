//! What is known of a device, of a fleet or of the server at a moment, and what a rule says of it.

use super::{Kind, Rule};
use crate::attestation::Level;
use crate::id::ReleaseName;

/// A disk alert ends this many percentage points below its threshold, so that it does not begin and
/// end with every file.
pub const DISK_CLEARANCE: u64 = 5;

/// What is known at a moment. Times are Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation<'a> {
    /// When the server last got something from the device, and now. Time in which the server did not
    /// run does not count.
    LastSeen {
        /// Last time.
        seen_s: u64,
        /// Now.
        now_s: u64,
    },
    /// Since when the device runs another release than its desired one; `None` if it does not.
    Drift {
        /// Since when.
        since_s: Option<u64>,
        /// Now.
        now_s: u64,
    },
    /// The level of the device before, or when an alert about it began, and now.
    Level {
        /// Before.
        before: Level,
        /// Now.
        now: Level,
    },
    /// How the last update of the device failed; `None` if it did not.
    Update(Option<&'a str>),
    /// The alarm of the device.
    Alarm(Option<&'a str>),
    /// When the certificate of the device ends.
    Certificate {
        /// End of validity.
        ends_s: u64,
        /// Now.
        now_s: u64,
    },
    /// How full the data partition is, in percent.
    Disk(u64),
    /// Number of connections of the device within an hour.
    Connections(u64),
    /// Seconds until the CRL for devices ends.
    Crl(u64),
    /// Number of acts that wait for the audit log.
    WaitingActs(u64),
    /// Security fixes that the release of a fleet lacks.
    Fixes {
        /// The release.
        release: &'a ReleaseName,
        /// Their number.
        count: u64,
        /// When the oldest of them was first seen; `None` if there is none. A newer fix of a package
        /// takes the place of the one before, so this may be later than it was.
        since_s: Option<u64>,
        /// Whether an alert about this release is open: it ends when nothing waits.
        is_open: bool,
        /// Now.
        now_s: u64,
    },
}

impl Observation<'_> {
    /// The kind of rule that judges it.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::LastSeen { .. } => Kind::Offline,
            Self::Drift { .. } => Kind::Drift,
            Self::Level { .. } => Kind::TrustDrop,
            Self::Update(_) => Kind::FailedUpdate,
            Self::Alarm(_) => Kind::Alarm,
            Self::Certificate { .. } => Kind::Certificate,
            Self::Disk(_) => Kind::Disk,
            Self::Connections(_) => Kind::Flapping,
            Self::Crl(_) => Kind::Crl,
            Self::WaitingActs(_) => Kind::AuditGap,
            Self::Fixes { .. } => Kind::Fixes,
        }
    }
}

/// What a rule says of an observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is something to alert of, in words.
    Holds(String),
    /// An alert that is open stays open, and no new one begins.
    Unchanged,
    /// There is nothing to alert of.
    Ends,
    /// There is nothing to alert of yet; look again at this time, Unix seconds.
    EndsUntil(u64),
}

/// A duration in words.
fn spoken(s: u64) -> String {
    if s < 120 { format!("{s} s") } else { crate::doctor::spoken(s) }
}

/// `Holds` from a time on.
fn from(at_s: u64, now_s: u64, words: impl FnOnce() -> String) -> Verdict {
    if now_s >= at_s { Verdict::Holds(words()) } else { Verdict::EndsUntil(at_s) }
}

impl Rule {
    /// What the rule says of an observation; `None` for one of another kind.
    #[must_use]
    pub fn judge(&self, observation: &Observation<'_>) -> Option<Verdict> {
        (observation.kind() == self.kind).then(|| self.verdict(observation))
    }

    fn verdict(&self, observation: &Observation<'_>) -> Verdict {
        let limit = self.threshold;
        match *observation {
            Observation::LastSeen { seen_s, now_s } => {
                from(seen_s.saturating_add(limit), now_s, || {
                    format!("offline for more than {}", spoken(limit))
                })
            }
            Observation::Drift { since_s: None, .. } => Verdict::Ends,
            Observation::Drift { since_s: Some(since_s), now_s } => {
                from(since_s.saturating_add(limit), now_s, || {
                    format!("not on its desired release for more than {}", spoken(limit))
                })
            }
            Observation::Level { before, now } => {
                let fallen = (before as u64).saturating_sub(now as u64);
                match fallen {
                    0 => Verdict::Ends,
                    _ if fallen < limit => Verdict::Unchanged,
                    _ => Verdict::Holds(format!(
                        "level fell from {} to {}",
                        before.code(),
                        now.code()
                    )),
                }
            }
            Observation::Update(Some(words)) | Observation::Alarm(Some(words)) => {
                Verdict::Holds(words.to_owned())
            }
            Observation::Update(None) | Observation::Alarm(None) => Verdict::Ends,
            Observation::Certificate { ends_s, now_s } => {
                from(ends_s.saturating_sub(limit), now_s, || match ends_s.checked_sub(now_s) {
                    Some(left_s) => format!("certificate ends in {}", spoken(left_s)),
                    None => "certificate has ended".to_owned(),
                })
            }
            Observation::Disk(percent) if percent >= limit => {
                Verdict::Holds(format!("data partition is {percent} % full"))
            }
            Observation::Disk(percent) if percent + DISK_CLEARANCE > limit => Verdict::Unchanged,
            Observation::Disk(_) => Verdict::Ends,
            Observation::Connections(count) if count >= limit => {
                Verdict::Holds(format!("connected {count} times within an hour"))
            }
            Observation::Connections(_) => Verdict::Ends,
            Observation::Crl(left_s) if left_s < limit => {
                Verdict::Holds(format!("the CRL for devices ends in {}", spoken(left_s)))
            }
            Observation::Crl(_) => Verdict::Ends,
            Observation::WaitingActs(count) if count >= limit => {
                Verdict::Holds(format!("{count} acts wait for the audit log"))
            }
            Observation::WaitingActs(_) => Verdict::Ends,
            Observation::Fixes { since_s: None, .. } => Verdict::Ends,
            Observation::Fixes { release, count, since_s: Some(since_s), is_open, now_s } => {
                let fixes = if count == 1 { "fix" } else { "fixes" };
                let lacks = format!("{release} lacks {count} security {fixes}");
                let at_s = since_s.saturating_add(limit);
                if is_open && now_s < at_s {
                    return Verdict::Holds(lacks);
                }
                let age_s = now_s.saturating_sub(since_s);
                from(at_s, now_s, || format!("{lacks}, the oldest for {}", spoken(age_s)))
            }
        }
    }
}
