//! Who may request and decide an act: both need what the act itself needs, when it is requested and
//! again when it is performed.

use crate::accounts::actor::{Actor, Scope};
use crate::accounts::independence;
use crate::context::Context;
use crate::error::Error;
use crate::rollouts;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::approval::{Approval, GuardedAct};
use fleeti_core::wire::updates::UpdateOrder;
use fleeti_store::pending_acts::PendingAct;
use fleeti_store::{self as store, Connection};
use std::collections::BTreeSet;

/// Whether an actor sees an act: its own, or one of fleets that it sees all of.
pub(super) fn sees(by: &Actor, approval: &Approval) -> bool {
    let is_seen = |fleet: &FleetId| by.may(Permission::View, Scope::Fleet(fleet));
    by.account() == approval.requester.as_str()
        || by.may(Permission::View, Scope::All)
        || approval.fleets.as_ref().is_some_and(|all| !all.is_empty() && all.iter().all(is_seen))
}

/// The permission for an act, and its fleets; no fleets for the whole server.
pub(super) async fn needed(
    cx: &Context,
    act: &GuardedAct,
) -> Result<(Permission, Option<Vec<FleetId>>), Error> {
    let found = match act {
        GuardedAct::RevokeDevices { devices, .. } => {
            (Permission::Revoke, Some(fleets_of(cx, devices).await?))
        }
        GuardedAct::StartRollout { request } | GuardedAct::SupersedeRollout { request, .. } => {
            (Permission::Rollout, Some(vec![request.fleet.clone()]))
        }
        GuardedAct::NextWave { rollout, .. } => {
            let (_, fleet) = rollouts::next_wave(cx, rollout).await?;
            (Permission::Rollout, Some(vec![fleet]))
        }
        GuardedAct::PinFleet { fleet, .. } => (Permission::Rollout, Some(vec![fleet.clone()])),
        GuardedAct::OrderUpdates { device, request } => {
            let mut fleets = fleets_of(cx, std::slice::from_ref(device)).await?;
            if let UpdateOrder::Move { fleet, .. } = request {
                fleets.push(fleet.clone());
            }
            (Permission::Rollout, Some(fleets))
        }
        GuardedAct::ShowRecoveryKey { device, .. } => {
            (Permission::Recovery, Some(fleets_of(cx, std::slice::from_ref(device)).await?))
        }
        GuardedAct::SetReleasePath { .. } => (Permission::Release, None),
        GuardedAct::SetPolicy { .. } => (Permission::Accounts, None),
    };
    Ok(found)
}

/// The fleets that devices are in now.
async fn fleets_of(cx: &Context, all: &[DeviceId]) -> Result<Vec<FleetId>, Error> {
    let known = store::devices::fleets_of(cx.db.pool(), all).await?;
    let fleet = |id: &DeviceId| {
        known.get(id.as_str()).ok_or_else(|| Error::not_found("device", id.as_str()))
    };
    let fleets = all.iter().map(fleet).collect::<Result<BTreeSet<_>, _>>()?;
    Ok(fleets.into_iter().cloned().collect())
}

/// Checks that an actor may do what an act does.
pub(super) async fn authorize(cx: &Context, by: &Actor, act: &GuardedAct) -> Result<(), Error> {
    let (permission, fleets) = needed(cx, act).await?;
    match fleets {
        None => by.authorize(permission, Scope::All),
        Some(fleets) => fleets.iter().try_for_each(|of| by.authorize(permission, Scope::Fleet(of))),
    }
}

/// Why an actor cannot be the second person for an act.
pub(super) async fn objection(
    cx: &Context,
    connection: &mut Connection,
    row: &PendingAct,
    by: &Actor,
) -> Result<Option<String>, Error> {
    let requested = (&row.approval.requester, row.approval.requested_s);
    independence::objection(cx, connection, requested, by).await
}
