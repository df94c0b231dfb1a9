//! What events of other areas mean for rollouts.

use super::change::Change;
use super::chunks;
use crate::attestation::eligibility;
use crate::clock::now_s;
use crate::context::{Context, Reacting};
use crate::error::Error;
use crate::events::{After, Appraised, DomainEvent};
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::rollout::device::{Event, Reported};
use fleeti_core::rollout::header;
use fleeti_core::wire::device::Report;
use fleeti_store::{self as store, Tx};

/// Reacts to events of other areas.
pub(crate) fn react<'a>(
    cx: &'a Context,
    tx: &'a mut Tx<'_>,
    event: &'a DomainEvent,
) -> Reacting<'a> {
    Box::pin(async move {
        match event {
            DomainEvent::DeviceReported { fleet, device, report, received_offer } => {
                reported(cx, tx, (fleet, device), (report, *received_offer)).await
            }
            DomainEvent::DevicesAppraised { fleet, policy, devices, has_new_evidence } => {
                match devices {
                    Appraised::Fleet => policy_changed(cx, tx, fleet, policy).await,
                    Appraised::Devices(devices) => {
                        let devices = devices.iter().map(|(device, ..)| device).collect();
                        appraised(cx, tx, (fleet, policy), devices, *has_new_evidence).await
                    }
                }
            }
            DomainEvent::DeviceRevoked { fleet, device } => {
                one(cx, tx, fleet, device, Event::Revoked).await
            }
            DomainEvent::ReleaseRevoked { release } => release_revoked(cx, tx, release).await,
            DomainEvent::RolloutFinished { .. } => Ok(After::default()),
        }
    })
}

/// Passes an event to the active rollout that a device is part of.
async fn one(
    cx: &Context,
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    device: &DeviceId,
    event: Event,
) -> Result<After, Error> {
    let Some((rollout, row)) = store::rollouts::active_with(tx, fleet, device).await? else {
        return Ok(After::default());
    };
    let mut change = Change::of(rollout, now_s());
    change.device(device, &row, event);
    change.store(cx, tx).await
}

async fn reported(
    cx: &Context,
    tx: &mut Tx<'_>,
    (fleet, device): (&FleetId, &DeviceId),
    (report, received_offer): (&Report, bool),
) -> Result<After, Error> {
    let found = store::rollouts::active_with(tx, fleet, device).await?;
    let Some((rollout, row)) = found.filter(|(_, row)| !row.phase.is_finished()) else {
        return Ok(After::default());
    };
    let event = Event::Reported(Reported {
        running: report.boot.running.clone(),
        update: report.update.clone(),
        heard: received_offer,
        eligibility: eligibility::eligibility_of(tx, cx, device).await?,
    });
    let mut change = Change::of(rollout, cx.now_s());
    change.device(device, &row, event);
    change.store(cx, tx).await
}

/// Compares devices with the policy of their fleet.
async fn appraised(
    cx: &Context,
    tx: &mut Tx<'_>,
    (fleet, policy): (&FleetId, &Policy),
    devices: Vec<&DeviceId>,
    has_new_evidence: bool,
) -> Result<After, Error> {
    let Some(rollout) = store::rollouts::active_in(tx, fleet).await? else {
        return Ok(After::default());
    };
    let rows = store::rollout_devices::of(tx, &rollout.id, &devices).await?;
    let mut change = Change::of(rollout, cx.now_s());
    chunks::compare(tx, &mut change, policy, rows, has_new_evidence).await?;
    change.store(cx, tx).await
}

/// Compares all devices with another policy, in chunks.
async fn policy_changed(
    cx: &Context,
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    policy: &Policy,
) -> Result<After, Error> {
    let Some(rollout) = store::rollouts::active_in(tx, fleet).await? else {
        return Ok(After::default());
    };
    let mut change = Change::of(rollout, now_s());
    change.rollout.appraised = Some(String::new());
    chunks::work(tx, &mut change, policy).await?;
    change.store(cx, tx).await
}

/// Ends the rollouts of a revoked release, and removes it as the desired version of every device.
async fn release_revoked(
    cx: &Context,
    tx: &mut Tx<'_>,
    release: &ReleaseName,
) -> Result<After, Error> {
    let mut after = After::default();
    for rollout in store::rollouts::active_of(tx, release).await? {
        let mut change = Change::of(rollout, now_s());
        // A rollout that is aborting goes on.
        if let Err(e) = change.header(header::Event::Abort) {
            tracing::debug!("{e}");
            continue;
        }
        let policy = cx.attestation.policies.of(&change.rollout.fleet);
        chunks::work(tx, &mut change, &policy).await?;
        after.merge(change.store(cx, tx).await?);
    }
    let left = store::desired::with_desired(tx, release).await?;
    after.desired.extend(store::desired::set_desired(tx, &left, None).await?);
    Ok(after)
}
