//! One device of a rollout. An event changes one row, whatever the size of the fleet.
//!
//! Code map: `phase` (what the phases mean).

mod phase;

use super::budget::Room;
use super::{Ctx, DevicePhase, Eligibility, Proof};
use crate::id::ReleaseName;
use crate::update;
use phase::{is_blockable, is_without_offer};

/// A device of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Phase of the device.
    pub phase: DevicePhase,
    /// When the phase began, Unix seconds.
    pub since_s: u64,
    /// The wave that took it; `None` if none has, or the rollout has no waves.
    pub wave: Option<u32>,
    /// The floor that it was last offered on its way; `None` for the release of the rollout.
    pub via: Option<ReleaseName>,
    /// How often it failed and was, or will be, offered the release again.
    pub retries: u32,
    /// Its group in the budget of the rollout; `None` without a budget.
    pub group: Option<String>,
}

impl Device {
    /// A device that was offered no floor and has not failed.
    #[must_use]
    pub fn new(phase: DevicePhase, since_s: u64, wave: Option<u32>) -> Self {
        Self { phase, since_s, wave, via: None, retries: 0, group: None }
    }
}

/// A report of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// The release that it runs.
    pub running: ReleaseName,
    /// State of its update.
    pub update: update::State,
    /// Whether the device had received the offer when it sent the report. An earlier report is
    /// about another release.
    pub received_offer: bool,
    /// What the policy permits the device.
    pub eligibility: Eligibility,
}

/// What happened to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its level, or the policy of its fleet, changed.
    Appraised(Eligibility),
    /// It sent a report.
    Reported(Reported),
    /// Its wave takes it, or it is offered the release again.
    Opened {
        /// The wave.
        wave: Option<u32>,
        /// What the policy permits the device.
        eligibility: Eligibility,
    },
    /// The rollout is paused.
    Paused,
    /// A device of its group has left a place.
    Freed,
    /// The server looks for silent devices, and for those whose pause has ended.
    Checked {
        /// When the server last heard of the device, Unix seconds.
        seen_s: u64,
    },
    /// Its certificate was revoked.
    Revoked,
    /// An operator aborted the rollout.
    Aborted,
}

impl Event {
    /// The name in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Appraised(_) => "appraised",
            Self::Reported(_) => "reported",
            Self::Opened { .. } => "opened",
            Self::Paused => "paused",
            Self::Freed => "freed",
            Self::Checked { .. } => "checked",
            Self::Revoked => "revoked",
            Self::Aborted => "aborted",
        }
    }
}

/// What the server must do for the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Set the release as the desired version of the device and send it.
    Offer,
    /// Withdraw the offer.
    Withdraw,
    /// Challenge the device's TPM to prove what it runs: before an update and after it.
    Challenge,
    /// Publish a change event.
    Publish,
}

/// An event that does not apply to a device. Its row does not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// The device has finished. Reports may arrive twice or late; it stays finished.
    #[error("{event} does not apply to a device that has finished")]
    Finished {
        /// The event's name.
        event: &'static str,
    },
}

/// A device that joins a rollout. In a rollout with waves it is pending until its wave takes it.
#[must_use]
pub fn join(eligibility: &Eligibility, ctx: &Ctx<'_>) -> (Device, Vec<Effect>) {
    let pending = Device::new(DevicePhase::Pending, ctx.now_s, None);
    if ctx.plan.is_some() || !ctx.may_offer {
        return (pending, Vec::new());
    }
    opened(&pending, None, eligibility, ctx)
}

/// Offers the release to a pending device, if it may have it.
fn opened(
    device: &Device,
    wave: Option<u32>,
    eligibility: &Eligibility,
    ctx: &Ctx<'_>,
) -> (Device, Vec<Effect>) {
    if device.phase != DevicePhase::Pending {
        return (device.clone(), Vec::new());
    }
    let (phase, effects) = match (eligibility.may_update, ctx.room) {
        (true, Room::Free) => (DevicePhase::Offered, vec![Effect::Offer, Effect::Challenge]),
        (true, Room::Full) => (DevicePhase::Queued, Vec::new()),
        (true, Room::Never) => (DevicePhase::Held, Vec::new()),
        (false, _) if eligibility.is_held => (DevicePhase::Held, Vec::new()),
        (false, _) => (DevicePhase::Blocked, vec![Effect::Challenge]),
    };
    let via = eligibility.via.clone();
    (Device { phase, since_s: ctx.now_s, wave, via, ..device.clone() }, effects)
}

/// Applies an event to a device. The header follows with [`super::header::Event::Moved`] if the
/// [category](DevicePhase::category) of the device changes.
///
/// # Errors
/// [`Rejected`] if the event does not apply. The caller keeps its row.
pub fn step(
    device: &Device,
    event: Event,
    ctx: &Ctx<'_>,
) -> Result<(Device, Vec<Effect>), Rejected> {
    if device.phase.is_finished() {
        return Err(Rejected::Finished { event: event.name() });
    }
    Ok(match event {
        Event::Appraised(eligibility) => {
            let phase = appraised(device, &eligibility, ctx);
            moved_by(device, phase, eligibility, ctx)
        }
        Event::Reported(report) => seen(device, report, ctx),
        Event::Opened { wave, eligibility } => opened(device, wave, &eligibility, ctx),
        Event::Paused if is_blockable(&device.phase) || device.phase == DevicePhase::Blocked => {
            moved(device, DevicePhase::Pending, ctx)
        }
        Event::Freed if device.phase == DevicePhase::Queued => {
            moved(device, DevicePhase::Pending, ctx)
        }
        Event::Paused | Event::Freed => (device.clone(), Vec::new()),
        Event::Checked { seen_s } => moved(device, checked(device, seen_s, ctx), ctx),
        Event::Revoked => moved(device, DevicePhase::Revoked, ctx),
        // The row still says how far the device came.
        Event::Aborted if is_without_offer(&device.phase) => (device.clone(), Vec::new()),
        Event::Aborted => (device.clone(), vec![Effect::Withdraw]),
    })
}

/// Applies a report.
fn seen(device: &Device, mut report: Reported, ctx: &Ctx<'_>) -> (Device, Vec<Effect>) {
    // A failure that it reports is one of an earlier rollout.
    report.received_offer &= device.phase != DevicePhase::Held
        && (device.phase != DevicePhase::Pending || device.wave.is_some());
    if !is_at_floor(device, &report) {
        let phase = reported(device, &report, ctx);
        return moved_by(device, phase, report.eligibility, ctx);
    }
    match device.phase {
        DevicePhase::Blocked | DevicePhase::Held | DevicePhase::Pending | DevicePhase::Queued => {
            let phase = reported(device, &report, ctx);
            moved_by(device, phase, report.eligibility, ctx)
        }
        // It goes on when there is a place for it. It runs what it was offered, so there is no offer to
        // withdraw; and until the next one, what it reports is about this one.
        DevicePhase::Offered
        | DevicePhase::Unreached
        | DevicePhase::Silent
        | DevicePhase::Retrying { .. }
        | DevicePhase::Staging
        | DevicePhase::Staged
        | DevicePhase::Rebooting
        | DevicePhase::Trying
        | DevicePhase::Unconfirmed
        | DevicePhase::Proving => {
            let phase = DevicePhase::Pending;
            (Device { phase, since_s: ctx.now_s, ..device.clone() }, vec![Effect::Publish])
        }
        DevicePhase::Succeeded
        | DevicePhase::AttestationFailed
        | DevicePhase::RolledBack { .. }
        | DevicePhase::Revoked
        | DevicePhase::Failed { .. } => (device.clone(), Vec::new()),
    }
}

/// Whether a device runs the floor that it was offered, and is done with that.
fn is_at_floor(device: &Device, report: &Reported) -> bool {
    use update::State as U;
    let is_done = match report.update {
        U::Idle | U::RolledBack { .. } | U::Failed { .. } => true,
        U::Staging { .. }
        | U::Staged { .. }
        | U::Armed { .. }
        | U::Trying { .. }
        | U::Unconfirmed { .. } => false,
    };
    is_done && device.via.as_ref() == Some(&report.running)
}

/// As [`moved`]; an offer is of what the device must run next.
fn moved_by(
    before: &Device,
    phase: DevicePhase,
    eligibility: Eligibility,
    ctx: &Ctx<'_>,
) -> (Device, Vec<Effect>) {
    let (mut after, effects) = moved(before, phase, ctx);
    if effects.contains(&Effect::Offer) {
        after.via = eligibility.via;
    }
    (after, effects)
}

fn moved(before: &Device, phase: DevicePhase, ctx: &Ctx<'_>) -> (Device, Vec<Effect>) {
    if before.phase == phase {
        return (before.clone(), Vec::new());
    }
    let mut effects = match &phase {
        DevicePhase::Offered => vec![Effect::Offer],
        DevicePhase::Blocked
        | DevicePhase::Held
        | DevicePhase::Pending
        | DevicePhase::Retrying { .. }
        | DevicePhase::Unreached
        | DevicePhase::Silent => vec![Effect::Withdraw],
        DevicePhase::Proving => vec![Effect::Challenge],
        DevicePhase::Staging
        | DevicePhase::Staged
        | DevicePhase::Rebooting
        | DevicePhase::Trying
        | DevicePhase::Unconfirmed
        | DevicePhase::Queued
        | DevicePhase::Succeeded => Vec::new(),
        // Withdraw the offer, so that a device that failed does not try again without the operator.
        DevicePhase::AttestationFailed
        | DevicePhase::RolledBack { .. }
        | DevicePhase::Revoked
        | DevicePhase::Failed { .. } => vec![Effect::Withdraw],
    };
    effects.push(Effect::Publish);
    let is_retry = matches!(phase, DevicePhase::Retrying { .. });
    let retries = before.retries + u32::from(is_retry);
    (Device { phase, since_s: ctx.now_s, retries, ..before.clone() }, effects)
}

/// A device that the server has not heard of for too long. One that has started is an error; one
/// that has not is unreached, and the rollout goes on without it.
fn checked(device: &Device, seen_s: u64, ctx: &Ctx<'_>) -> DevicePhase {
    let Some(plan) = ctx.plan else { return device.phase.clone() };
    let is_over = |from_s: u64, seconds: u64| ctx.now_s >= from_s.saturating_add(seconds);
    let heard_s = device.since_s.max(seen_s);
    match &device.phase {
        // A device that may not update, or cannot prove what it runs, can be heard of for ever.
        DevicePhase::Blocked if is_over(device.since_s, plan.unreached_s) => DevicePhase::Unreached,
        DevicePhase::Proving if is_over(device.since_s, plan.silent_s) => DevicePhase::Silent,
        DevicePhase::Offered if is_over(heard_s, plan.unreached_s) => DevicePhase::Unreached,
        DevicePhase::Staging
        | DevicePhase::Staged
        | DevicePhase::Rebooting
        | DevicePhase::Trying
        | DevicePhase::Unconfirmed
            if is_over(heard_s, plan.silent_s) =>
        {
            DevicePhase::Silent
        }
        DevicePhase::Retrying { until_s, .. } if ctx.now_s >= *until_s => DevicePhase::Pending,
        DevicePhase::Pending
        | DevicePhase::Queued
        | DevicePhase::Retrying { .. }
        | DevicePhase::Blocked
        | DevicePhase::Held
        | DevicePhase::Offered
        | DevicePhase::Unreached
        | DevicePhase::Silent
        | DevicePhase::Staging
        | DevicePhase::Staged
        | DevicePhase::Rebooting
        | DevicePhase::Trying
        | DevicePhase::Unconfirmed
        | DevicePhase::Proving
        | DevicePhase::Succeeded
        | DevicePhase::AttestationFailed
        | DevicePhase::RolledBack { .. }
        | DevicePhase::Revoked
        | DevicePhase::Failed { .. } => device.phase.clone(),
    }
}

/// Applies a new level: offers the release to a blocked device that may have it now, finishes a
/// device that waits for proof, and blocks a device that has not yet installed anything and may no
/// longer update.
fn appraised(device: &Device, eligibility: &Eligibility, ctx: &Ctx<'_>) -> DevicePhase {
    match (&device.phase, &eligibility.proof) {
        // A device that was blocked for long is unreached.
        (DevicePhase::Blocked | DevicePhase::Held | DevicePhase::Unreached, _)
            if eligibility.may_update =>
        {
            offered_or_pending(device, ctx)
        }
        (DevicePhase::Retrying { .. }, _) if eligibility.may_update => DevicePhase::Pending,
        (before, _) if is_closed(before, eligibility) => closed(eligibility),
        (before, _) if is_other_way(device, before, eligibility) => DevicePhase::Pending,
        (DevicePhase::Proving, Proof::NotAsked) => DevicePhase::Succeeded,
        (DevicePhase::Proving, Proof::Of(release)) if release == ctx.release => {
            DevicePhase::Succeeded
        }
        (DevicePhase::Proving, Proof::AttestationFailed) => DevicePhase::AttestationFailed,
        (before, Proof::NotAsked | Proof::Of(_) | Proof::Missing | Proof::AttestationFailed) => {
            before.clone()
        }
    }
}

/// Whether a device that has not started was offered another release than the one that it must run
/// next: an operator declared a floor meanwhile, or ended one.
fn is_other_way(device: &Device, phase: &DevicePhase, eligibility: &Eligibility) -> bool {
    is_blockable(phase) && eligibility.may_update && eligibility.via != device.via
}

/// Whether a device has to wait for a gate.
fn is_closed(phase: &DevicePhase, eligibility: &Eligibility) -> bool {
    let may_wait = match phase {
        DevicePhase::Blocked | DevicePhase::Held => true,
        phase => is_blockable(phase),
    };
    may_wait && !eligibility.may_update
}

/// The phase of a device that waits for a gate.
fn closed(eligibility: &Eligibility) -> DevicePhase {
    if eligibility.is_held { DevicePhase::Held } else { DevicePhase::Blocked }
}

/// A device that may be offered the release: now, or when there is a place. A silent device has the
/// place of its group still.
fn offered_or_pending(device: &Device, ctx: &Ctx<'_>) -> DevicePhase {
    let room = if device.phase.uses_place() { Room::Free } else { ctx.room };
    match (room, ctx.may_offer) {
        (Room::Never, _) => DevicePhase::Held,
        // Its wave took it: others wait for a place before it.
        (Room::Full, _) if device.wave.is_some() => DevicePhase::Queued,
        (Room::Full, _) | (Room::Free, false) => DevicePhase::Pending,
        (Room::Free, true) => DevicePhase::Offered,
    }
}

/// Levels expire without an event, so a report can be the first sign that a device is now blocked.
fn reported(device: &Device, report: &Reported, ctx: &Ctx<'_>) -> DevicePhase {
    use update::State as U;
    let eligibility = &report.eligibility;
    // What failed is an error of the rollout, although the device is held for it from now on.
    let is_error = matches!(report.update, U::Failed { .. } | U::RolledBack { .. })
        && eligibility.is_held
        && !is_without_offer(&device.phase);
    let waits = |phase: &DevicePhase| !is_error && is_closed(phase, eligibility);
    let phase = if waits(&device.phase) { closed(eligibility) } else { device.phase.clone() };
    let before = Device { phase, ..device.clone() };
    let after = match phase_by_report(&before, report, ctx) {
        // It is back.
        DevicePhase::Unreached | DevicePhase::Silent | DevicePhase::Held
            if eligibility.may_update =>
        {
            offered_or_pending(device, ctx)
        }
        DevicePhase::Retrying { .. } if eligibility.may_update => DevicePhase::Pending,
        after if is_other_way(device, &after, eligibility) => DevicePhase::Pending,
        after => after,
    };
    if waits(&after) { closed(eligibility) } else { after }
}

/// What the report of a device says of the release, or of the floor that it was offered.
fn phase_by_report(device: &Device, report: &Reported, ctx: &Ctx<'_>) -> DevicePhase {
    use update::State as U;
    let Reported { running, update, received_offer, eligibility } = report;
    let before = &device.phase;
    let offered = device.via.as_ref().unwrap_or(ctx.release);
    let runs_it = running == ctx.release;
    let is_ours = update.target().is_some_and(|target| *target == offered.version)
        && running.line == offered.line;
    match update {
        // The running release counts, even if an older attempt at something else failed. A proof
        // from before this report does not count, and neither does a failed attestation: the TPM is
        // challenged again.
        U::Idle | U::RolledBack { .. } | U::Failed { .. } if runs_it => match eligibility.proof {
            Proof::NotAsked => DevicePhase::Succeeded,
            Proof::Of(_) | Proof::Missing | Proof::AttestationFailed => DevicePhase::Proving,
        },
        U::Trying { .. } if runs_it || running == offered => DevicePhase::Trying,
        // The device continues until it learns that it is blocked. A download that fails for this
        // reason is not a failure of the device.
        U::Staging { .. } | U::Staged { .. } | U::Unconfirmed { .. } | U::Failed { .. }
            if *before == DevicePhase::Blocked || is_without_offer(before) =>
        {
            before.clone()
        }
        U::Staging { .. } if is_ours => DevicePhase::Staging,
        U::Staged { .. } if is_ours => DevicePhase::Staged,
        U::Armed { .. } if is_ours => DevicePhase::Rebooting,
        // Neither a success nor a failure: an outage is not the fault of the release.
        U::Unconfirmed { .. } if is_ours => DevicePhase::Unconfirmed,
        U::RolledBack { reason, .. } if is_ours && *received_offer => {
            DevicePhase::RolledBack { reason: reason.clone() }
        }
        // A device of another image line refuses the version that it was offered.
        U::Failed { code, target } if *received_offer && *target == offered.version => {
            failed(device, *code, eligibility, ctx)
        }
        U::Idle
        | U::Trying { .. }
        | U::Staging { .. }
        | U::Staged { .. }
        | U::Armed { .. }
        | U::Unconfirmed { .. }
        | U::RolledBack { .. }
        | U::Failed { .. } => before.clone(),
    }
}

/// A device failed to install what it was offered. The penalty of the version says when it may be
/// offered again: a version has one pause on a device, for rollouts and channels alike. A version that
/// ran and was rolled back is never tried again: it was seen to be bad there.
fn failed(
    device: &Device,
    code: update::FailureCode,
    eligibility: &Eligibility,
    ctx: &Ctx<'_>,
) -> DevicePhase {
    if code == update::FailureCode::Revoked && device.via.is_some() {
        // Not what is rolled out failed, but the floor on the way to it: it goes on by another one.
        return DevicePhase::Held;
    }
    let retries_max = ctx.plan.map_or(0, |plan| plan.retries);
    match eligibility.again_s {
        Some(until_s) if code.is_retryable() && device.retries < retries_max => {
            DevicePhase::Retrying { code, until_s }
        }
        Some(_) | None => DevicePhase::Failed { code },
    }
}

#[cfg(test)]
mod tests;
