//! Domain events: how one area tells the others what happened, without knowing them.
//!
//! An event is emitted in the transaction in which it happens (`Context::emit`). Its records go to
//! the outbox (`fleeti_store::domain_events`), from which other programs can be told later, and
//! every area that `reactions.rs` lists for its kind reacts in the same transaction. So either all
//! of it is durable, or nothing. An area that reacts does not emit: it returns the events that it
//! causes ([`Caused`]).

use crate::error::Error;
use crate::rollouts::state::Question;
use fleeti_core::attestation::Level;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::rollout::Phase;
use fleeti_core::wire::alerts::AlertMessage;
use fleeti_core::wire::api::Event;
use fleeti_core::wire::device::{DesiredState, Report};
use serde_json::json;

/// What happened.
#[derive(Debug, Clone)]
pub enum DomainEvent {
    /// A device sent a new report.
    DeviceReported(DeviceReport),
    /// The level of devices, or the policy of their fleet, may have changed.
    DevicesAppraised(FleetAppraisal),
    /// A device was revoked.
    DeviceRevoked {
        /// Its fleet.
        fleet: FleetId,
        /// The device.
        device: DeviceId,
    },
    /// A release was revoked.
    ReleaseRevoked {
        /// The release.
        release: ReleaseName,
    },
    /// A rollout ended.
    RolloutFinished {
        /// Its id.
        rollout: String,
        /// Its fleet.
        fleet: FleetId,
        /// Its release.
        release: ReleaseName,
        /// How it ended.
        phase: Phase,
    },
    /// People are told of alerts.
    AlertsTold {
        /// Whether they have ended.
        are_resolved: bool,
        /// Which alerts.
        message: Box<AlertMessage>,
    },
}

/// The kinds of [`DomainEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`DomainEvent::DeviceReported`].
    DeviceReported,
    /// [`DomainEvent::DevicesAppraised`].
    DevicesAppraised,
    /// [`DomainEvent::DeviceRevoked`].
    DeviceRevoked,
    /// [`DomainEvent::ReleaseRevoked`].
    ReleaseRevoked,
    /// [`DomainEvent::RolloutFinished`].
    RolloutFinished,
    /// [`DomainEvent::AlertsTold`].
    AlertsTold,
}

impl Kind {
    /// Number of kinds.
    pub const COUNT: usize = Self::AlertsTold as usize + 1;
}

/// A new report of a device.
#[derive(Debug, Clone)]
pub struct DeviceReport {
    /// Its fleet.
    pub fleet: FleetId,
    /// The device.
    pub device: DeviceId,
    /// The report.
    pub report: Box<Report>,
    /// Whether the device had received its last offer when it reported.
    pub received_offer: bool,
    /// Since when it runs another release than its desired one.
    pub drift_since_s: Option<u64>,
    /// Its alarm: of the report, or of the server about it.
    pub alarm: Option<String>,
}

/// Devices of a fleet whose levels, or whose policy, may have changed.
#[derive(Debug, Clone)]
pub struct FleetAppraisal {
    /// Their fleet.
    pub fleet: FleetId,
    /// The policy that counts.
    pub policy: Box<Policy>,
    /// Which devices.
    pub devices: Appraised,
    /// Whether the devices sent new evidence.
    pub has_new_evidence: bool,
}

/// The attestation level of a device before and after an appraisal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelChange {
    /// The device.
    pub device: DeviceId,
    /// Its level before.
    pub before: Level,
    /// Its level now.
    pub now: Level,
}

/// Which devices were appraised.
#[derive(Debug, Clone)]
pub enum Appraised {
    /// These, with their levels.
    Devices(Vec<LevelChange>),
    /// All devices of the fleet, by another policy.
    Fleet,
}

impl DomainEvent {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::DeviceReported(_) => Kind::DeviceReported,
            Self::DevicesAppraised(_) => Kind::DevicesAppraised,
            Self::DeviceRevoked { .. } => Kind::DeviceRevoked,
            Self::ReleaseRevoked { .. } => Kind::ReleaseRevoked,
            Self::RolloutFinished { .. } => Kind::RolloutFinished,
            Self::AlertsTold { .. } => Kind::AlertsTold,
        }
    }

    /// The records for the outbox: kind, and body as JSON. A device whose level did not change makes
    /// no record.
    pub(crate) fn records(&self) -> Result<Vec<(&'static str, String)>, Error> {
        let record = |kind, body: serde_json::Value| vec![(kind, body.to_string())];
        Ok(match self {
            Self::DeviceReported(DeviceReport { fleet, device, report, .. }) => record(
                "device.reported",
                json!({
                    "fleet": fleet,
                    "device": device,
                    "running": report.boot.running,
                    "update": serde_json::to_value(&report.update)?,
                }),
            ),
            Self::DevicesAppraised(FleetAppraisal {
                fleet,
                devices: Appraised::Devices(devices),
                ..
            }) => devices
                .iter()
                .filter(|change| change.before != change.now)
                .map(|LevelChange { device, before, now }| {
                    let (before, now) = (before.code(), now.code());
                    let body =
                        json!({"fleet": fleet, "device": device, "before": before, "level": now});
                    ("device.appraised", body.to_string())
                })
                .collect(),
            Self::DevicesAppraised(FleetAppraisal { devices: Appraised::Fleet, .. }) => vec![],
            Self::DeviceRevoked { fleet, device } => {
                record("device.revoked", json!({"fleet": fleet, "device": device}))
            }
            Self::ReleaseRevoked { release } => {
                record("release.revoked", json!({"release": release}))
            }
            Self::RolloutFinished { rollout, fleet, release, phase } => record(
                "rollout.finished",
                json!({"rollout": rollout, "fleet": fleet, "release": release, "phase": phase}),
            ),
            Self::AlertsTold { are_resolved, message } => record(
                if *are_resolved { "alerts.resolved" } else { "alerts.raised" },
                serde_json::to_value(message)?,
            ),
        })
    }
}

/// What must follow the commit of a transaction.
#[derive(Debug, Default)]
#[must_use]
pub struct After {
    /// Desired states to push.
    pub desired: Vec<(DeviceId, DesiredState)>,
    /// Devices that must send evidence.
    pub challenges: Vec<DeviceId>,
    /// Changes for clients that watch.
    pub changes: Vec<Event>,
    /// Questions to webhook gates of rollouts.
    pub questions: Vec<Question>,
}

impl After {
    /// Adds what must follow another event of the same transaction.
    pub fn merge(&mut self, other: Self) {
        self.desired.extend(other.desired);
        self.challenges.extend(other.challenges);
        self.changes.extend(other.changes);
        self.questions.extend(other.questions);
    }
}

/// What a change of an area causes.
#[derive(Debug, Default)]
#[must_use]
pub struct Caused {
    /// What must follow the commit.
    pub after: After,
    /// Events for `Context::emit_all`, in the same transaction.
    pub events: Vec<DomainEvent>,
}

impl Caused {
    /// Adds what another change of the same transaction causes.
    pub fn merge(&mut self, other: Self) {
        self.after.merge(other.after);
        self.events.extend(other.events);
    }
}
