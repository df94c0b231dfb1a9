//! Phases of rollouts and of their devices, in words.

use crate::pages::display::{Badge, instant, reason};
use fleeti_core::rollout::{Category, DevicePhase, Phase};

/// The phase of a rollout.
pub fn rollout_phase(phase: Phase) -> Badge {
    match phase {
        Phase::Ready => Badge::new("", "ready"),
        Phase::Starting => Badge::new("busy", "starting"),
        Phase::Running => Badge::new("busy", "running"),
        Phase::Pausing => Badge::new("warn", "pausing"),
        Phase::Paused => Badge::new("warn", "paused"),
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
        Category::Pending => "pending",
        Category::Queued => "queued",
        Category::Unreached => "unreached",
        Category::Succeeded => "succeeded",
    }
}

/// The state of one device in a rollout, and the reason.
pub fn device_phase(phase: &DevicePhase) -> (Badge, String) {
    let badge = match phase {
        DevicePhase::Blocked => Badge::new("warn", "blocked"),
        DevicePhase::Held => Badge::new("warn", "held"),
        DevicePhase::Offered => Badge::new("", "offered"),
        DevicePhase::Pending => Badge::new("", "pending"),
        DevicePhase::Queued => Badge::new("", "queued"),
        DevicePhase::Retrying { .. } => Badge::new("warn", "retrying"),
        DevicePhase::Unreached => Badge::new("warn", "unreached"),
        DevicePhase::Silent => Badge::new("bad", "silent"),
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
        DevicePhase::Pending => "it waits for its wave, for a place, or for the rollout to be resumed".into(),
        DevicePhase::Queued => "enough devices of its group update: it waits until another one finishes".into(),
        DevicePhase::Retrying { code, until_s } => {
            format!("it failed ({code:?}), and is tried again from {}", instant(*until_s))
        }
        DevicePhase::Held => "a gate holds it back, and the rollout goes on without it: see why on its page".into(),
        DevicePhase::Unreached => "it did not start, and the rollout goes on without it; it gets it when it returns".into(),
        DevicePhase::Silent => "it started, and is not heard of: an error until it returns".into(),
        DevicePhase::Unconfirmed => "it ran the release but did not reach the server; it tries again once the previous version has reached the server".into(),
        DevicePhase::Proving => "it reports that it runs the release; its TPM has not proved that yet".into(),
        DevicePhase::AttestationFailed => "the evidence of its TPM contradicts its report: see its attestation".into(),
        _ => String::new(),
    };
    (badge, why)
}
