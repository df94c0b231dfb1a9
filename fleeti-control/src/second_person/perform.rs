//! Performs an approved act: the operation that the act names, with what the act has.

use super::rights;
use crate::accounts::access;
use crate::accounts::actor::Actor;
use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::precondition::Expected;
use crate::trust::revocation;
use crate::{channels, guard, rollouts, secrets};
use fleeti_core::id::{AccountName, DeviceId};
use fleeti_core::wire::approval::GuardedAct;
use fleeti_core::wire::labels::devices_in_words;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::vault::ShowRecoveryKey;
use fleeti_store::pending_acts::PendingAct;

/// An account as its earlier credential and its roles permit now, if that may still do an act.
///
/// # Errors
/// [`Code::Forbidden`] for an account or credential that has ended, or that has lost a right.
pub(super) async fn still(
    cx: &Context,
    account: &AccountName,
    via: &str,
    act: &GuardedAct,
) -> Result<Actor, Error> {
    let found = access::again(cx, account, via).await?;
    let actor = found.ok_or_else(|| {
        Error::new(Code::Forbidden, format!("{account} ({via}) does not count any more"))
    })?;
    rights::authorize(cx, &actor, act).await?;
    Ok(actor)
}

/// Who performs an act: its requester, with the account that approved it.
pub(super) async fn performer(
    cx: &Context,
    row: &PendingAct,
    act: &GuardedAct,
) -> Result<Actor, Error> {
    let of = &row.approval;
    let requester = still(cx, &of.requester, &of.via, act).await?;
    let (Some(second), Some(via)) = (&of.decided_by, &row.decided_via) else {
        return Err(Error::new(Code::Conflict, format!("{} is not approved", of.id)));
    };
    let second = still(cx, second, via, act).await?;
    Ok(requester.with_second(&second, &of.id))
}

/// Performs an act. Returns what became of it.
pub(super) async fn perform(
    cx: &ContextRef,
    by: &Actor,
    act: &GuardedAct,
) -> Result<String, Error> {
    match act {
        GuardedAct::RevokeDevices { devices, reason, .. } => {
            revocation::revoke_all(cx, by, devices.clone(), *reason).await?;
            Ok(format!("revoked {}", devices_in_words(devices.len() as u64)))
        }
        GuardedAct::StartRollout { request } => {
            Ok(format!("started {}", rollouts::start(cx, by, request).await?.id))
        }
        GuardedAct::SupersedeRollout { rollout, request } => {
            Ok(format!("started {}", rollouts::supersede(cx, by, rollout, request).await?.id))
        }
        GuardedAct::NextWave { rollout, wave, request } => {
            rollouts::begin_wave(cx, by, (rollout, Some(*wave)), request).await?;
            Ok("done".to_owned())
        }
        GuardedAct::PinFleet { fleet, request } => {
            channels::pin_fleet(cx, by, fleet, request).await?;
            Ok("done".to_owned())
        }
        GuardedAct::OrderUpdates { device, request } => {
            channels::order(cx, by, device, request).await?;
            Ok("done".to_owned())
        }
        GuardedAct::SetReleasePath { release, path } => {
            rollouts::path::set(cx, by, release, path, &Expected::Anything).await?;
            Ok("done".to_owned())
        }
        GuardedAct::SetPolicy { policy } => {
            guard::set_policy(cx, by, policy, &Expected::Anything).await?;
            Ok("done".to_owned())
        }
        GuardedAct::ShowRecoveryKey { .. } => {
            Err(Error::new(Code::Conflict, "the requester collects the key"))
        }
    }
}

/// The device of an approved act that shows a key, and what was asked for it.
///
/// # Errors
/// [`Code::Conflict`] for another act, and after the device made another key.
pub(super) async fn key<'a>(
    cx: &Context,
    act: &'a GuardedAct,
) -> Result<(&'a DeviceId, &'a ShowRecoveryKey), Error> {
    let GuardedAct::ShowRecoveryKey { device, request, kept_s } = act else {
        return Err(Error::new(Code::Conflict, "this act shows no key"));
    };
    if secrets::recovery_key_status(cx, device).await?.kept_s != *kept_s {
        let text = format!("{device} has made another key since the request");
        return Err(Error::new(Code::Conflict, text).hint("request it again"));
    }
    Ok((device, request))
}
