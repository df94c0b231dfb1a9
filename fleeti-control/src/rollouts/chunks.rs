//! Work on all devices of a rollout, in chunks: devices join, are compared with a new policy, or
//! lose their offer. Each chunk is a transaction of its own, so that other writes wait for one chunk
//! at most, and the row of the rollout says how far the work is: after a crash it goes on at the
//! next start.

use super::change::Change;
use crate::attestation::eligibility;
use crate::clock::now_s;
use crate::context::{Context, ContextRef};
use crate::error::Error;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::DeviceId;
use fleeti_core::rollout::device::{Device, Event};
use fleeti_core::rollout::header::{self, Rejected};
use fleeti_core::rollout::{Limits, Phase};
use fleeti_core::wire::problem::Code;
use fleeti_store::{self as store, Tx};
use std::collections::HashMap;
use std::time::Duration;

/// Devices in a chunk.
pub(super) const CHUNK: u32 = 2000;
/// Delay after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Works until the task is aborted; first on what a server that was killed has left.
pub(crate) async fn run(cx: ContextRef) {
    loop {
        match one(&cx).await {
            Ok(true) => {}
            Ok(false) => cx.rollouts.waiting.notified().await,
            Err(e) => {
                tracing::error!("a rollout waits: {e}");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Does one chunk. Returns `false` if no rollout has work.
async fn one(cx: &Context) -> Result<bool, Error> {
    let mut tx = cx.db.write().await?;
    let Some(rollout) = store::rollouts::next_with_work(&mut tx).await? else { return Ok(false) };
    let policy = cx.attestation.policies.of(&rollout.fleet);
    let mut change = Change::of(rollout, now_s());
    work(&mut tx, &mut change, &policy).await?;
    let after = change.store(cx, &mut tx).await?;
    tx.commit().await?;
    cx.dispatch(after);
    Ok(true)
}

/// Does the next chunk of a rollout, if it has work.
pub(super) async fn work(
    tx: &mut Tx<'_>,
    change: &mut Change,
    policy: &Policy,
) -> Result<(), Error> {
    match change.rollout.header.phase {
        Phase::Starting => add_devices(tx, change, policy).await,
        Phase::Aborting => withdraw_offers(tx, change).await,
        Phase::Running if change.rollout.appraised.is_some() => appraise(tx, change, policy).await,
        Phase::Ready | Phase::Running | Phase::Succeeded | Phase::Failed | Phase::Aborted => Ok(()),
    }
}

pub(super) fn rejected(e: Rejected) -> Error {
    Error::new(Code::Conflict, e.to_string())
}

async fn add_devices(tx: &mut Tx<'_>, change: &mut Change, policy: &Policy) -> Result<(), Error> {
    let rollout = &change.rollout;
    // Devices may enroll meanwhile.
    let left = Limits::default().devices_max.saturating_sub(rollout.header.counts.total);
    let limit = CHUNK.min(u32::try_from(left).unwrap_or(CHUNK));
    let page = (rollout.reached.as_str(), limit);
    let devices = eligibility::after(tx, &rollout.fleet, policy, page).await?;
    let is_last = devices.len() < CHUNK as usize;
    if let Some((last, _)) = devices.last() {
        change.rollout.reached = last.to_string();
    }
    for (device, eligibility) in devices {
        change.join(device, &eligibility).map_err(rejected)?;
    }
    if is_last {
        change.header(header::Event::Started).map_err(rejected)?;
    }
    Ok(())
}

async fn withdraw_offers(tx: &mut Tx<'_>, change: &mut Change) -> Result<(), Error> {
    let rollout = &change.rollout;
    let rows = store::rollout_devices::after(tx, &rollout.id, &rollout.reached, CHUNK).await?;
    let is_last = rows.len() < CHUNK as usize;
    if let Some((last, _)) = rows.last() {
        change.rollout.reached = last.to_string();
    }
    for (id, device) in rows.into_iter().filter(|(_, device)| !device.phase.is_finished()) {
        change.device(&id, &device, Event::Aborted);
    }
    if is_last {
        change.header(header::Event::Withdrawn).map_err(rejected)?;
    }
    Ok(())
}

async fn appraise(tx: &mut Tx<'_>, change: &mut Change, policy: &Policy) -> Result<(), Error> {
    let rollout = &change.rollout;
    let reached = rollout.appraised.clone().unwrap_or_default();
    let rows = store::rollout_devices::after(tx, &rollout.id, &reached, CHUNK).await?;
    let is_last = rows.len() < CHUNK as usize;
    let last = rows.last().map(|(last, _)| last.to_string());
    change.rollout.appraised = last.filter(|_| !is_last);
    compare(tx, change, policy, rows, false).await
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
    for found in eligibility::of(tx, policy, rows.keys()).await? {
        let (id, eligibility) =
            if has_new_evidence { found } else { eligibility::known_before(found) };
        if let Some(device) = rows.remove(&id) {
            change.device(&id, &device, Event::Appraised(eligibility));
        }
    }
    Ok(())
}
