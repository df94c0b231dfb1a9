//! The gate of update windows. It never withdraws an offer: the device acts on it later.

use super::facts::Facts;
use super::stop::Stop;
use crate::update::State;
use crate::windows::{Job, Local, Opening, Wait, WaitReason};

/// The job that the device would begin next; `None` if it is busy, or runs the release.
fn next_job(facts: &Facts<'_>) -> Option<Job> {
    let (known, target, next) = (facts.known, facts.target?, facts.next()?);
    if known.running.as_ref() == Some(next) {
        return None;
    }
    let is_its = known.update.target() == Some(&next.version);
    match &known.update {
        State::Staged { .. } if is_its => Some(Job::Install),
        State::Armed { .. } => Some(Job::Reboot),
        State::Trying { .. } => None,
        // The server does not know whether the download is in progress.
        State::Staging { .. } => known.waits.map(|wait| wait.job),
        State::Idle
        | State::Staged { .. }
        | State::Unconfirmed { .. }
        | State::RolledBack { .. }
        | State::Failed { .. } => {
            // A device that goes back has the release in its other slot.
            (!target.source.is_back()).then_some(Job::Download)
        }
    }
}

/// Whether the device begins each job at once, whatever its windows say.
fn skips_windows(facts: &Facts<'_>) -> bool {
    let (known, is_ahead) = (facts.known, |until_s: u64| facts.now_s < until_s);
    let is_urgent = if known.desired.as_ref() == facts.next() {
        // What its desired state says.
        known.urgent_until_s.is_some_and(is_ahead)
    } else {
        facts.part.as_ref().is_some_and(|part| part.is_urgent)
    };
    is_urgent || known.skip_windows_until_s.is_some_and(is_ahead)
}

/// The gate of the windows.
pub(super) fn window(facts: &Facts<'_>) -> Option<Stop> {
    let (known, job) = (facts.known, next_job(facts)?);
    if skips_windows(facts) {
        return None;
    }
    let waits = |wait: Wait| {
        let stop = Stop::waits(wait.words(), wait.change());
        Some(Stop { until_s: wait.until_s, ..stop })
    };
    // The device alone knows its users and its clock.
    let of_device = known.waits.filter(|wait| wait.reason != WaitReason::Window);
    if let Some(wait) = of_device.filter(|wait| wait.job == job) {
        return waits(wait);
    }
    let zone = known.time_zone.as_deref().unwrap_or("Etc/UTC");
    match facts.policy.windows.opening(job, Local { now_s: facts.now_s, zone }) {
        Opening::Open { .. } => None,
        Opening::Closed { opens_s: until_s } => {
            waits(Wait { job, reason: WaitReason::Window, until_s })
        }
    }
}
