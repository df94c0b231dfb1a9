//! What time brings: waves begin, pending devices are offered the release, silent ones are found. Each
//! call does one chunk.

use super::change::{CHUNK, Change, rejected};
use crate::attestation::eligibility::{self, Terms};
use crate::error::Error;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::DeviceId;
use fleeti_core::rollout::Phase;
use fleeti_core::rollout::device::{Device, Event};
use fleeti_core::rollout::header::{self, ToOpen};
use fleeti_store::rollout_devices::{Deadlines, Pending};
use fleeti_store::{self as store, Tx};
use std::collections::HashMap;

/// Goes on with a running rollout. Returns the number of devices in the chunk.
pub(super) async fn work(
    tx: &mut Tx<'_>,
    change: &mut Change,
    policy: &Policy,
) -> Result<usize, Error> {
    let checked = check(tx, change).await?;
    if change.rollout.header.phase != Phase::Running {
        return Ok(checked);
    }
    change.header(header::Event::Tick).map_err(rejected)?;
    Ok(checked + open(tx, change, policy).await?)
}

/// Looks for devices that are not heard of any more.
async fn check(tx: &mut Tx<'_>, change: &mut Change) -> Result<usize, Error> {
    let (rollout, now_s) = (&change.rollout, change.now_s);
    let Some(plan) = &rollout.plan else { return Ok(0) };
    if !header::is_check_due(&rollout.header, now_s) {
        return Ok(0);
    }
    let deadlines = Deadlines {
        silent_before_s: now_s.saturating_sub(plan.silent_s),
        unreached_before_s: now_s.saturating_sub(plan.unreached_s),
    };
    let found = store::rollout_devices::unheard(tx, &rollout.id, deadlines, CHUNK).await?;
    let count = found.len();
    change.read_groups(tx, found.iter().map(|(_, device, _)| device)).await?;
    for (id, device, seen_s) in found {
        change.device(&id, &device, Event::Checked { seen_s });
    }
    let retried = retry(tx, change).await?;
    // A full chunk may have left others.
    if count.max(retried) < CHUNK as usize && change.rollout.header.phase == Phase::Running {
        change.header(header::Event::Checked).map_err(rejected)?;
    }
    Ok(count + retried)
}

/// Ends the pauses of devices that failed.
async fn retry(tx: &mut Tx<'_>, change: &mut Change) -> Result<usize, Error> {
    if change.rollout.header.counts.queued == 0 {
        return Ok(0);
    }
    let (id, now_s) = (change.rollout.id.clone(), change.now_s);
    let rows = store::rollout_devices::paused_until(tx, &id, now_s, CHUNK).await?;
    change.read_groups(tx, rows.iter().map(|(_, device)| device)).await?;
    for (id, device) in &rows {
        change.device(id, device, Event::Checked { seen_s: now_s });
    }
    Ok(rows.len())
}

/// Offers the release to pending devices, as many as there are places for.
async fn open(tx: &mut Tx<'_>, change: &mut Change, policy: &Policy) -> Result<usize, Error> {
    let ToOpen { returned, new } = change.to_open();
    let (returned, new) = (limit(returned), limit(new));
    let id = change.rollout.id.clone();
    if change.rollout.plan.is_none() {
        let rows = store::rollout_devices::pending(tx, &id, Pending::Unlisted, returned).await?;
        return offer(tx, change, policy, rows).await;
    }
    let rows = store::rollout_devices::pending(tx, &id, Pending::Returned, returned).await?;
    if !rows.is_empty() {
        return offer(tx, change, policy, rows).await;
    }
    if new == 0 {
        return Ok(0);
    }
    let (wave, is_list) = current(change);
    let mut rows = store::rollout_devices::pending(tx, &id, Pending::Listed(wave), new).await?;
    if !is_list {
        let left = new - limit(rows.len());
        rows.extend(store::rollout_devices::pending(tx, &id, Pending::Unlisted, left).await?);
    }
    let is_last = rows.len() < new as usize;
    let count = offer(tx, change, policy, rows).await?;
    if is_last && change.rollout.header.phase == Phase::Running {
        change.header(header::Event::Exhausted).map_err(rejected)?;
    }
    Ok(count)
}

fn limit(devices: usize) -> u32 {
    u32::try_from(devices).unwrap_or(CHUNK).min(CHUNK)
}

/// Number of the current wave, and whether it has only the devices that it names.
fn current(change: &Change) -> (u32, bool) {
    let wave = change.rollout.header.waves.as_ref().map_or(0, |waves| waves.current);
    let plan = change.rollout.plan.as_ref();
    let found = plan.and_then(|plan| plan.waves.get(wave as usize));
    (wave, found.is_some_and(|found| found.size.until(0).is_none()))
}

async fn offer(
    tx: &mut Tx<'_>,
    change: &mut Change,
    policy: &Policy,
    rows: Vec<(DeviceId, Device)>,
) -> Result<usize, Error> {
    let count = rows.len();
    change.read_groups(tx, rows.iter().map(|(_, device)| device)).await?;
    let new = change.rollout.plan.is_some().then(|| current(change).0);
    let terms = Terms::of(tx, policy, &change.rollout, change.now_s).await?;
    let found = eligibility::of(tx, &terms, rows.iter().map(|(id, _)| id)).await?;
    let mut found: HashMap<_, _> = found.into_iter().collect();
    for (id, device) in rows {
        if let Some(eligibility) = found.remove(&id) {
            let wave = device.wave.or(new);
            change.device(&id, &device, Event::Opened { wave, eligibility });
        }
    }
    Ok(count)
}
