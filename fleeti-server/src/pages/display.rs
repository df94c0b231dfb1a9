//! Display text of core types, ready for the templates.

use fleeti_core::rollout::{Category, Counts, DevicePhase, Phase};
use fleeti_core::update::{RollbackReason, State};
use fleeti_core::wire::api::{Build, BuildPhase, Device, ProfileRevision, Release, RolloutSummary};
use fleeti_core::wire::boot::{Slot, Verity};
use fleeti_store::revisions::Head;

/// A label with a tone: `good`, `warn`, `bad`, `busy` or none.
pub struct Badge {
    pub tone: &'static str,
    pub text: String,
}

impl Badge {
    pub fn new(tone: &'static str, text: impl Into<String>) -> Self {
        Self { tone, text: text.into() }
    }
}

/// RFC 3339 in UTC.
pub fn instant(s: u64) -> String {
    i64::try_from(s)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok())
        .map_or_else(|| s.to_string(), |t| t.to_string())
}

/// A `time` element. A script in the browser shows it as relative time and keeps it current.
pub fn time(s: u64) -> String {
    let at = instant(s);
    format!("<time datetime=\"{at}\" title=\"{at}\" data-relative>{at}</time>")
}

/// The date in UTC, without the time of day.
pub fn day(s: u64) -> String {
    instant(s).split('T').next().unwrap_or_default().to_owned()
}

pub fn bytes(n: u64) -> String {
    bytesize::ByteSize(n).display().iec().to_string()
}

/// Why a version was rolled back: the reason in words, and the evidence.
pub fn reason(reason: &RollbackReason) -> (&'static str, &str) {
    match reason {
        RollbackReason::Verity { evidence } => {
            ("a block of its root file system failed verification (dm-verity)", evidence)
        }
        RollbackReason::Health { evidence } => ("a health check failed", evidence),
        RollbackReason::ServerUnreachable { evidence } => {
            ("it did not reach the server, but the previous version did", evidence)
        }
        RollbackReason::BootRefused { evidence } => ("it did not boot", evidence),
    }
}

pub fn slot(slot: Slot) -> &'static str {
    match slot {
        Slot::A => "A",
        Slot::B => "B",
    }
}

pub fn verity(verity: Verity) -> Badge {
    match verity {
        Verity::Verified => Badge::new("good", "verified"),
        Verity::Corrupted => Badge::new("bad", "corrupted"),
        Verity::Absent => Badge::new("warn", "absent"),
    }
}

/// The state of a device, as one badge.
pub fn health(d: &Device) -> Badge {
    if d.revoked {
        return Badge::new("bad", "revoked");
    }
    if d.attestation_failure.is_some()
        || d.secure_boot.as_ref().is_some_and(|s| s.problem.is_some())
    {
        return Badge::new("bad", "not trusted");
    }
    match (&d.update, d.online) {
        (Some(State::RolledBack { .. }), _) => Badge::new("bad", "rolled back"),
        (Some(State::Failed { .. }), _) => Badge::new("bad", "update failed"),
        (Some(State::Staging { .. }), _) => {
            let percent =
                d.progress.map(|p| format!(" {} %", p.done.saturating_mul(100) / p.total.max(1)));
            Badge::new("busy", format!("staging{}", percent.unwrap_or_default()))
        }
        (Some(State::Staged { .. }), _) => Badge::new("busy", "staged"),
        (Some(State::Armed { .. }), _) => Badge::new("busy", "rebooting"),
        (Some(State::Trying { .. }), _) => Badge::new("busy", "trying"),
        (Some(State::Unconfirmed { .. }), _) => Badge::new("warn", "unconfirmed"),
        (Some(State::Idle), true) => Badge::new("good", "healthy"),
        (Some(State::Idle), false) => Badge::new("", "offline"),
        (None, true) => Badge::new("busy", "connected"),
        (None, false) => Badge::new("", "not seen yet"),
    }
}

/// A row of a list of devices.
pub struct DeviceRow {
    pub id: String,
    pub fleet: String,
    pub version: String,
    pub target: Option<String>,
    pub slot: &'static str,
    pub health: Badge,
    pub last_seen: String,
    pub certificate_until: String,
}

impl From<&Device> for DeviceRow {
    fn from(d: &Device) -> Self {
        let running = d.boot.as_ref().map(|b| b.running.clone());
        Self {
            id: d.id.to_string(),
            fleet: d.fleet.to_string(),
            version: running.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string),
            target: d
                .desired
                .as_ref()
                .filter(|t| running.as_ref() != Some(t))
                .map(ToString::to_string),
            slot: d.boot.as_ref().map_or("", |b| slot(b.slot)),
            health: health(d),
            last_seen: time(d.last_seen_s),
            certificate_until: day(d.certificate_not_after_s),
        }
    }
}

pub fn rollout_phase(phase: Phase) -> Badge {
    match phase {
        Phase::Ready => Badge::new("", "ready"),
        Phase::Starting => Badge::new("busy", "starting"),
        Phase::Running => Badge::new("busy", "running"),
        Phase::Succeeded => Badge::new("good", "succeeded"),
        Phase::Failed => Badge::new("bad", "failed"),
        Phase::Aborting => Badge::new("warn", "aborting"),
        Phase::Aborted => Badge::new("warn", "aborted"),
    }
}

/// What the devices of a category do.
pub fn category_words(category: Category) -> &'static str {
    match category {
        Category::Failed => "failed",
        Category::Unconfirmed => "unconfirmed",
        Category::Moving => "in progress",
        Category::Waiting => "waiting",
        Category::Succeeded => "succeeded",
    }
}

/// The state of one device in a rollout, and the reason.
pub fn device_phase(phase: &DevicePhase) -> (Badge, String) {
    let badge = match phase {
        DevicePhase::Blocked => Badge::new("warn", "blocked"),
        DevicePhase::Offered => Badge::new("", "offered"),
        DevicePhase::Staging => Badge::new("busy", "staging"),
        DevicePhase::Staged => Badge::new("busy", "staged"),
        DevicePhase::Rebooting => Badge::new("busy", "rebooting"),
        DevicePhase::Trying => Badge::new("busy", "trying"),
        DevicePhase::Unconfirmed => Badge::new("warn", "unconfirmed"),
        DevicePhase::Proving => Badge::new("busy", "proving"),
        DevicePhase::Succeeded => Badge::new("good", "succeeded"),
        DevicePhase::AttestationFailed => Badge::new("bad", "attestation failed"),
        DevicePhase::RolledBack { .. } => Badge::new("bad", "rolled back"),
        DevicePhase::Revoked => Badge::new("bad", "revoked"),
        DevicePhase::Failed { .. } => Badge::new("bad", "failed"),
    };
    let why = match phase {
        DevicePhase::RolledBack { reason: r } => {
            let (kind, evidence) = reason(r);
            format!("{kind}: {evidence}")
        }
        DevicePhase::Failed { code } => format!("{code:?}"),
        DevicePhase::Blocked => "its attestation level is below the minimum of its fleet for updates: see its attestation".into(),
        DevicePhase::Unconfirmed => "it ran the release but did not reach the server; it tries again once the previous version has reached the server".into(),
        DevicePhase::Proving => "it reports that it runs the release; its TPM has not proved that yet".into(),
        DevicePhase::AttestationFailed => "the evidence of its TPM contradicts its report: see its attestation".into(),
        _ => String::new(),
    };
    (badge, why)
}

/// A row of a list of rollouts, with its progress bar.
pub struct RolloutRow {
    pub id: String,
    pub release: String,
    pub fleet: String,
    pub phase: Badge,
    pub created: String,
    pub summary: String,
    pub succeeded_percent: f64,
    pub failed_percent: f64,
    pub finished_percent: f64,
    pub moving_percent: f64,
    pub reached_percent: f64,
    pub unconfirmed_percent: f64,
}

impl From<&RolloutSummary> for RolloutRow {
    #[allow(clippy::cast_precision_loss)]
    fn from(r: &RolloutSummary) -> Self {
        let Counts { total, succeeded, failed, moving, unconfirmed } = r.counts;
        let percent = |n: usize| (n as f64 * 1000.0 / total.max(1) as f64).round() / 10.0;
        let mut summary = format!("{succeeded} of {total} succeeded");
        for (n, word) in [(moving, "in progress"), (unconfirmed, "unconfirmed"), (failed, "failed")]
        {
            if n > 0 {
                summary.push_str(&format!(", {n} {word}"));
            }
        }
        Self {
            id: r.id.clone(),
            release: r.release.to_string(),
            fleet: r.fleet.to_string(),
            phase: rollout_phase(r.phase),
            created: time(r.created_s),
            summary,
            succeeded_percent: percent(succeeded),
            failed_percent: percent(failed),
            finished_percent: percent(succeeded + failed),
            moving_percent: percent(moving),
            reached_percent: percent(succeeded + failed + moving),
            unconfirmed_percent: percent(unconfirmed),
        }
    }
}

/// A row of a list of builds.
pub struct BuildRow {
    pub id: String,
    pub release: String,
    pub revision: u32,
    pub phase: Badge,
    pub created: String,
    pub detail: String,
}

fn phase_words(phase: BuildPhase, words: [&str; 4]) -> Badge {
    match phase {
        BuildPhase::Queued => Badge::new("", words[0]),
        BuildPhase::Running => Badge::new("busy", words[1]),
        BuildPhase::Succeeded => Badge::new("good", words[2]),
        BuildPhase::Failed => Badge::new("bad", words[3]),
    }
}

impl From<&Build> for BuildRow {
    fn from(b: &Build) -> Self {
        let (phase, detail) = match b.signing {
            None => (phase_words(b.phase, ["queued", "building", "built", "failed"]), &b.detail),
            Some(p) => (
                phase_words(p, ["waiting for signature", "signing", "published", "signing failed"]),
                &b.signing_detail,
            ),
        };
        Self {
            id: b.id.clone(),
            release: b.release.to_string(),
            revision: b.revision,
            phase,
            created: time(b.created_s),
            detail: detail.chars().take(120).collect(),
        }
    }
}

/// A release in a list.
pub struct ReleaseRow {
    pub name: String,
    pub revoked: bool,
    pub size: String,
    pub published: String,
}

impl From<&Release> for ReleaseRow {
    fn from(r: &Release) -> Self {
        Self {
            name: r.name.to_string(),
            revoked: r.revoked_s.is_some(),
            size: bytes(r.artifacts.iter().map(|a| a.size).sum()),
            published: r.published_s.map_or_else(|| "not yet".to_owned(), time),
        }
    }
}

/// A file with its digest.
pub struct FileRow {
    pub path: String,
    pub size: String,
    pub sha256: String,
}

/// A row of a list of revisions.
pub struct RevisionRow {
    pub line: String,
    pub number: u32,
    pub description: String,
    pub digest: String,
    pub created: String,
}

impl From<&ProfileRevision> for RevisionRow {
    fn from(r: &ProfileRevision) -> Self {
        Self::from(&Head {
            line: r.line.to_string(),
            number: r.number,
            digest: r.digest.clone(),
            created_s: r.created_s,
            description: r.profile.description.clone(),
        })
    }
}

impl From<&Head> for RevisionRow {
    fn from(r: &Head) -> Self {
        Self {
            line: r.line.clone(),
            number: r.number,
            description: r.description.clone(),
            digest: r.digest.clone(),
            created: time(r.created_s),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_in_words_that_people_use() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1024), bytes(768 << 20)],
            ["0 B", "1023 B", "1.0 KiB", "768.0 MiB"]
        );
        assert_eq!(instant(0), "1970-01-01T00:00:00Z");
        assert_eq!(day(86_400), "1970-01-02");
    }
}
