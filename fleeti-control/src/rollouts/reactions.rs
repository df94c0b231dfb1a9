//! What events of other areas mean for rollouts.

use super::change::Change;
use super::chunks;
use crate::attestation::{eligibility, policy};
use crate::context::Context;
use crate::error::Error;
use crate::events::{Appraised, Caused, DeviceReport, DomainEvent, FleetAppraisal};
use crate::reaction::Reacting;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::rollout::device::{Event, Reported};
use fleeti_core::rollout::header;
use fleeti_store::{self as store, Tx};

/// Reacts to events of other areas.
pub(crate) fn react<'a>(
    cx: &'a Context,
    tx: &'a mut Tx<'_>,
    event: &'a DomainEvent,
) -> Reacting<'a> {
    Box::pin(async move {
        match event {
            DomainEvent::DeviceReported(report) => reported(cx, tx, report).await,
            DomainEvent::DevicesAppraised(appraisal) => match &appraisal.devices {
                Appraised::Fleet => {
                    policy_changed(cx, tx, &appraisal.fleet, &appraisal.policy).await
                }
                Appraised::Devices(changes) => {
                    let devices = changes.iter().map(|change| &change.device).collect();
                    appraised(cx, tx, appraisal, devices).await
                }
            },
            DomainEvent::DeviceRevoked { fleet, device } => {
                device_revoked(cx, tx, fleet, device).await
            }
            DomainEvent::ReleaseRevoked { release } => release_revoked(cx, tx, release).await,
            DomainEvent::RolloutFinished { .. } | DomainEvent::AlertsTold { .. } => {
                Ok(Caused::default())
            }
        }
    })
}

async fn device_revoked(
    cx: &Context,
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    device: &DeviceId,
) -> Result<Caused, Error> {
    let Some((rollout, row)) = store::rollouts::active_with(tx, fleet, device).await? else {
        return Ok(Caused::default());
    };
    let mut change = Change::of(rollout, cx.now_s());
    change.read_groups(tx, std::iter::once(&row)).await?;
    change.device(device, &row, Event::Revoked);
    change.store(cx, tx).await
}

async fn reported(cx: &Context, tx: &mut Tx<'_>, sent: &DeviceReport) -> Result<Caused, Error> {
    let DeviceReport { fleet, device, report, received_offer, .. } = sent;
    let found = store::rollouts::active_with(tx, fleet, device).await?;
    let Some((rollout, row)) = found.filter(|(_, row)| !row.phase.is_finished()) else {
        return Ok(Caused::default());
    };
    let event = Event::Reported(Reported {
        running: report.boot.running.clone(),
        update: report.update.clone(),
        received_offer: *received_offer,
        eligibility: eligibility::eligibility_of(tx, cx, device, &rollout).await?,
    });
    let mut change = Change::of(rollout, cx.now_s());
    change.read_groups(tx, std::iter::once(&row)).await?;
    change.device(device, &row, event);
    change.store(cx, tx).await
}

/// Compares devices with the policy of their fleet.
async fn appraised(
    cx: &Context,
    tx: &mut Tx<'_>,
    appraisal: &FleetAppraisal,
    devices: Vec<&DeviceId>,
) -> Result<Caused, Error> {
    let FleetAppraisal { fleet, policy, has_new_evidence, .. } = appraisal;
    let Some(rollout) = store::rollouts::active_in(tx, fleet).await? else {
        return Ok(Caused::default());
    };
    let rows = store::rollout_devices::of(tx, &rollout.id, &devices).await?;
    let mut change = Change::of(rollout, cx.now_s());
    chunks::compare(tx, &mut change, policy, rows, *has_new_evidence).await?;
    change.store(cx, tx).await
}

/// Compares all devices with another policy, in chunks.
async fn policy_changed(
    cx: &Context,
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    policy: &Policy,
) -> Result<Caused, Error> {
    let Some(rollout) = store::rollouts::active_in(tx, fleet).await? else {
        return Ok(Caused::default());
    };
    let mut change = Change::of(rollout, cx.now_s());
    change.rollout.appraised = Some(String::new());
    chunks::work(tx, &mut change, policy).await?;
    change.store(cx, tx).await
}

/// Ends the rollouts of a revoked release, and withdraws it from every device that has it, in chunks:
/// this transaction has the first one.
async fn release_revoked(
    cx: &Context,
    tx: &mut Tx<'_>,
    release: &ReleaseName,
) -> Result<Caused, Error> {
    let (mut caused, mut room) = (Caused::default(), super::CHUNK as usize);
    store::rollouts::withdraw_release(tx, release).await?;
    // It may be a floor of other rollouts: their devices are compared again.
    store::release_paths::changed(tx, &release.line).await?;
    cx.rollouts.has_work();
    for rollout in store::rollouts::active_of(tx, release).await? {
        let policy = policy::of(cx, &rollout.fleet);
        let mut change = Change::of(rollout, cx.now_s());
        // A rollout that is aborting goes on.
        if let Err(e) = change.header(header::Event::Abort) {
            tracing::debug!("{e}");
        }
        room = chunks::work_within(tx, &mut change, &policy, room).await?;
        caused.merge(change.store(cx, tx).await?);
    }
    while room > 0
        && let Some(rollout) = store::rollouts::next_to_withdraw(tx, release).await?
    {
        let policy = policy::of(cx, &rollout.fleet);
        let mut change = Change::of(rollout, cx.now_s());
        room = chunks::work_within(tx, &mut change, &policy, room).await?;
        caused.merge(change.store(cx, tx).await?);
    }
    cx.rollouts.has_work();
    Ok(caused)
}
