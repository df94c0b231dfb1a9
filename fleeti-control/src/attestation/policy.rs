//! Appraisal policies of fleets, and their consequences: which devices are offered an update, are
//! blocked, or count as success in a rollout.

use crate::accounts::actor::Actor;
use crate::attestation::eligibility::may_keep_offer;
use crate::attestation::evidence;
use crate::changes::record::record;
use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::events::{After, Appraised, DomainEvent, FleetAppraisal, LevelChange};
use crate::precondition::Expected;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::api::Event;
use fleeti_core::wire::problem::Code;
use fleeti_store::{self as store, Tx, attestations};
use std::sync::Arc;
use std::time::Duration;

/// Number of devices per batch of appraisals.
const BATCH: u32 = 64;
/// Number of devices per transaction that get other windows.
const WINDOWS_BATCH: u32 = 1000;
/// Delay before the server tells devices their windows again after an error.
const WINDOWS_AGAIN: Duration = Duration::from_secs(5);

/// The policy of a fleet.
#[must_use]
pub fn of(cx: &Context, fleet: &FleetId) -> Policy {
    cx.attestation.policies.of(fleet)
}

/// Call this after a change of which releases devices may run, so that appraisals that have not seen
/// it are repeated.
pub(crate) fn releases_changed(cx: &Context) {
    cx.attestation.policies.touch();
}

/// Sets the policy of a fleet. First applies it to the current levels of the fleet's devices, then
/// appraises their evidence again in the background.
///
/// # Errors
/// [`Code::Invalid`] for an invalid policy; [`Code::PreconditionFailed`].
pub async fn set(
    cx: &ContextRef,
    by: &Actor,
    fleet: &FleetId,
    policy: &Policy,
    expected: &Expected,
) -> Result<(), Error> {
    policy.check().map_err(|e| Error::new(Code::Invalid, e.to_string()))?;
    let (cx, by, fleet, policy) = (Arc::clone(cx), by.clone(), fleet.clone(), policy.clone());
    let expected = expected.clone();
    // In a task of its own, because the client may disconnect.
    let changed = tokio::spawn(async move {
        let has_other_windows = change(&cx, &by, (&fleet, &policy), &expected).await?;
        if has_other_windows {
            let (cx, fleet) = (Arc::clone(&cx), fleet.clone());
            tokio::spawn(async move { tell_windows(&cx, &fleet).await });
        }
        tokio::spawn(async move { reappraise(&cx, &fleet).await });
        Ok(())
    });
    changed.await.map_err(Error::internal)?
}

/// Returns whether the windows are others than before.
async fn change(
    cx: &Context,
    by: &Actor,
    (fleet, policy): (&FleetId, &Policy),
    expected: &Expected,
) -> Result<bool, Error> {
    let mut tx = cx.db.write().await?;
    let before = cx.attestation.policies.of(fleet);
    expected.check(Some(&before))?;
    store::policies::set(&mut tx, fleet, policy).await?;
    cx.audit(
        &mut tx,
        by.act("fleet.attestation-policy", format!("{fleet} {}", serde_json::to_string(policy)?)),
    )
    .await?;
    let event = DomainEvent::DevicesAppraised(FleetAppraisal {
        fleet: fleet.clone(),
        policy: Box::new(policy.clone()),
        devices: Appraised::Fleet,
        has_new_evidence: false,
    });
    let mut after = cx.emit(&mut tx, cx.now_s(), event).await?;
    let changed = Event::Fleet { name: fleet.clone() };
    record(&mut tx, cx.now_s(), std::slice::from_ref(&changed)).await?;
    after.changes.push(changed);
    // Decisions in a transaction wait for this one. Decisions that only read use the new policy
    // from now on, and are repeated once the change is committed.
    cx.attestation.policies.set(fleet, policy);
    let committed = tx.commit().await;
    if committed.is_err() {
        cx.attestation.policies.set(fleet, &before);
    }
    cx.grants.changed();
    committed?;
    cx.dispatch(after);
    Ok(before.windows != policy.windows)
}

/// Tells the devices of a fleet its windows. One that is not connected gets them when it connects,
/// and so does every device if this server ends before it is done.
async fn tell_windows(cx: &Context, fleet: &FleetId) {
    let mut after = String::new();
    loop {
        match tell_windows_after(cx, fleet, &after).await {
            Ok(Some(last)) => after = last.to_string(),
            Ok(None) => return,
            Err(e) => {
                tracing::error!("devices of fleet {fleet} do not have its windows yet: {e}");
                tokio::time::sleep(WINDOWS_AGAIN).await;
            }
        }
    }
}

async fn tell_windows_after(
    cx: &Context,
    fleet: &FleetId,
    after: &str,
) -> Result<Option<DeviceId>, Error> {
    let mut tx = cx.db.write().await?;
    let devices = store::desired::next_of(&mut tx, fleet, after, WINDOWS_BATCH).await?;
    let desired = store::desired::renew(&mut tx, &devices).await?;
    tx.commit().await?;
    cx.dispatch(After { desired, ..After::default() });
    Ok(devices.last().cloned())
}

/// Appraises the evidence of a fleet's devices again.
async fn reappraise(cx: &Context, fleet: &FleetId) {
    let mut after = String::new();
    loop {
        let devices = match attestations::with_evidence(cx.db.pool(), fleet, &after, BATCH).await {
            Ok(devices) => devices,
            Err(e) => {
                return tracing::error!(
                    "the devices of fleet {fleet} were not appraised again: {e}"
                );
            }
        };
        let Some(last) = devices.last() else { return };
        after = last.to_string();
        evidence::reappraise_all(cx, &devices).await;
    }
}

/// Handles the reconnect of a device. Its evidence may have expired while it was away: it is then
/// blocked, and its offer withdrawn, until it attests again.
pub async fn on_reconnect(cx: &Context, device: &DeviceId) -> Result<(), Error> {
    if may_keep_offer(cx, device).await? {
        return Ok(());
    }
    let mut tx = cx.db.write().await?;
    let after = look_again(cx, &mut tx, device).await?;
    tx.commit().await?;
    cx.dispatch(after);
    Ok(())
}

/// Decides again about the updates of a device, because something changed that the gates read.
pub(crate) async fn look_again(
    cx: &Context,
    tx: &mut Tx<'_>,
    device: &DeviceId,
) -> Result<After, Error> {
    let now = cx.now_s();
    let Some((fleet, found)) = attestations::found(tx, device).await? else {
        return Ok(After::default());
    };
    let change = LevelChange {
        device: device.clone(),
        before: found.stored_level(),
        now: found.level_at(now),
    };
    let event = DomainEvent::DevicesAppraised(FleetAppraisal {
        policy: Box::new(cx.attestation.policies.of(&fleet)),
        fleet,
        devices: Appraised::Devices(vec![change]),
        has_new_evidence: false,
    });
    cx.emit(tx, now, event).await
}
