//! Work on all devices of a rollout, in chunks: devices join, are compared with a new policy, are
//! offered the release when their wave opens, or lose their offer because the rollout was paused or
//! aborted or the release was revoked. Each chunk is a
//! transaction of its own, so that other writes wait for one chunk at most, and the row of the
//! rollout says how far the work is: after a crash it goes on at the next start.

use super::change::{CHUNK, Change, rejected};
use super::{select, waves};
use crate::attestation::eligibility::{self, Terms};
use crate::error::Error;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::DeviceId;
use fleeti_core::rollout::device::{Device, Event};
use fleeti_core::rollout::header;
use fleeti_core::rollout::{Limits, Phase};
use fleeti_store::{self as store, Tx};
use std::collections::HashMap;

/// Does the next chunk of a rollout, if it has work. Returns the number of devices in it.
pub(super) async fn work(
    tx: &mut Tx<'_>,
    change: &mut Change,
    policy: &Policy,
) -> Result<usize, Error> {
    let is_policy_new = change.rollout.appraised.is_some();
    match change.rollout.header.phase {
        Phase::Aborting => {
            each_unfinished(tx, change, Event::Aborted, header::Event::Withdrawn).await
        }
        Phase::Pausing => each_unfinished(tx, change, Event::Paused, header::Event::Paused).await,
        // Before more devices join a rollout that starts.
        Phase::Starting | Phase::Running | Phase::Paused if is_policy_new => {
            appraise(tx, change, policy).await
        }
        Phase::Starting => add_devices(tx, change, policy).await,
        Phase::Running if change.rollout.withdrawn.is_none() => {
            waves::work(tx, change, policy).await
        }
        Phase::Ready
        | Phase::Running
        | Phase::Paused
        | Phase::Succeeded
        | Phase::Failed
        | Phase::Aborted => withdraw_release(tx, change).await,
    }
}

/// Does as much work of a rollout as fits into a transaction with room for `room` more devices.
/// Returns the room that is left.
pub(super) async fn work_within(
    tx: &mut Tx<'_>,
    change: &mut Change,
    policy: &Policy,
    mut room: usize,
) -> Result<usize, Error> {
    while room > 0 && change.rollout.has_work() {
        // A chunk without devices costs something, too.
        room = room.saturating_sub(work(tx, change, policy).await?.max(1));
    }
    Ok(room)
}

async fn add_devices(
    tx: &mut Tx<'_>,
    change: &mut Change,
    policy: &Policy,
) -> Result<usize, Error> {
    let rollout = &change.rollout;
    // Devices may enroll meanwhile.
    let left = Limits::default().devices_max.saturating_sub(rollout.header.counts.total);
    let limit = CHUNK.min(u32::try_from(left).unwrap_or(CHUNK));
    let terms = Terms::of(tx, policy, rollout, change.now_s).await?;
    let page = (rollout.reached.as_str(), limit);
    let mut devices = eligibility::after(tx, &rollout.fleet, &terms, page).await?;
    let selected = select::waves(tx, rollout, change.now_s).await?;
    let (count, is_last) = (devices.len(), devices.len() < CHUNK as usize);
    let last = devices.last().map(|(last, _)| last.to_string());
    if let Some(of) = &rollout.back_of {
        let ids: Vec<_> = devices.iter().map(|(id, _)| id).collect();
        let back = store::rollout_devices::ran_before(tx, of, &rollout.release, &ids).await?;
        devices.retain(|(id, _)| back.contains(id.as_str()));
    }
    if let Some(last) = last {
        change.rollout.reached = last;
    }
    for (device, eligibility) in devices {
        let selected = selected.get(&device).copied();
        change.join(device, &eligibility, selected).map_err(rejected)?;
    }
    if is_last {
        change.header(header::Event::Started).map_err(rejected)?;
    }
    Ok(count)
}

/// Applies an event to a chunk of the devices that have not finished, and `done` to the rollout
/// after the last one.
async fn each_unfinished(
    tx: &mut Tx<'_>,
    change: &mut Change,
    event: Event,
    done: header::Event,
) -> Result<usize, Error> {
    let rollout = &change.rollout;
    let rows = store::rollout_devices::after(tx, &rollout.id, &rollout.reached, CHUNK).await?;
    let (count, is_last) = (rows.len(), rows.len() < CHUNK as usize);
    if let Some((last, _)) = rows.last() {
        change.rollout.reached = last.to_string();
    }
    change.read_groups(tx, rows.iter().map(|(_, device)| device)).await?;
    for (id, device) in rows.into_iter().filter(|(_, device)| !device.phase.is_finished()) {
        change.device(&id, &device, event.clone());
    }
    if is_last {
        change.header(done).map_err(rejected)?;
    }
    Ok(count)
}

/// Withdraws a revoked release from the devices of a rollout that still have it. Those that have
/// finished have it, too.
async fn withdraw_release(tx: &mut Tx<'_>, change: &mut Change) -> Result<usize, Error> {
    let rollout = &change.rollout;
    let Some(reached) = rollout.withdrawn.clone() else { return Ok(0) };
    let rows = store::rollout_devices::after(tx, &rollout.id, &reached, CHUNK).await?;
    change.rollout.withdrawn = next_page(&rows);
    let count = rows.len();
    rows.into_iter().for_each(|(id, _)| change.withdraw_release(id));
    Ok(count)
}

/// The last device of a chunk; `None` if no other chunk follows.
fn next_page(rows: &[(DeviceId, Device)]) -> Option<String> {
    rows.last().filter(|_| rows.len() == CHUNK as usize).map(|(last, _)| last.to_string())
}

async fn appraise(tx: &mut Tx<'_>, change: &mut Change, policy: &Policy) -> Result<usize, Error> {
    let rollout = &change.rollout;
    let reached = rollout.appraised.clone().unwrap_or_default();
    let rows = store::rollout_devices::after(tx, &rollout.id, &reached, CHUNK).await?;
    change.rollout.appraised = next_page(&rows);
    let count = rows.len();
    compare(tx, change, policy, rows, false).await?;
    Ok(count)
}

/// Compares devices with the policy of their fleet. A rollout that waits for a proof needs new
/// evidence.
pub(super) async fn compare(
    tx: &mut Tx<'_>,
    change: &mut Change,
    policy: &Policy,
    rows: Vec<(DeviceId, Device)>,
    has_new_evidence: bool,
) -> Result<(), Error> {
    let mut rows: HashMap<_, _> =
        rows.into_iter().filter(|(_, device)| !device.phase.is_finished()).collect();
    if rows.is_empty() {
        return Ok(());
    }
    change.read_groups(tx, rows.values()).await?;
    let terms = Terms::of(tx, policy, &change.rollout, change.now_s).await?;
    for (id, found) in eligibility::of(tx, &terms, rows.keys()).await? {
        let eligibility = if has_new_evidence { found } else { eligibility::known_before(found) };
        if let Some(device) = rows.remove(&id) {
            change.device(&id, &device, Event::Appraised(eligibility));
        }
    }
    Ok(())
}
