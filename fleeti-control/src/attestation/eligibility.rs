//! What the appraisal policy of its fleet permits a device: to be offered an update, and to count as
//! success in a rollout.

use crate::context::Context;
use crate::error::Error;
use fleeti_core::attestation::Level;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::rollout::{Eligibility, Proof};
use fleeti_store::Tx;
use fleeti_store::attestations::{self, Found};

/// The eligibility without its proof: a rollout that waits for proof needs new evidence, so old
/// evidence neither proves nor contradicts anything.
pub(crate) fn known_before(
    (device, eligibility): (DeviceId, Eligibility),
) -> (DeviceId, Eligibility) {
    let proof = match eligibility.proof {
        Proof::NotAsked => Proof::NotAsked,
        Proof::Of(_) | Proof::Missing | Proof::AttestationFailed => Proof::Missing,
    };
    (device, Eligibility { proof, ..eligibility })
}

/// The eligibility of a device under its fleet's policy.
pub(crate) fn eligibility(policy: &Policy, found: &Found, now_s: u64) -> Eligibility {
    let level = found.level_at(now_s);
    let proof = match &found.release {
        _ if level == Level::SelfReported => Proof::AttestationFailed,
        _ if !policy.may_succeed(level) => Proof::Missing,
        _ if !policy.asks_for_proof() => Proof::NotAsked,
        Some(release) => Proof::Of(release.clone()),
        None => Proof::Missing,
    };
    Eligibility { may_update: policy.may_update(found.level_for_update(now_s)), proof }
}

/// The eligibility of the next devices of a fleet after an id, by id.
pub async fn after(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    policy: &Policy,
    (after, limit): (&str, u32),
) -> Result<Vec<(DeviceId, Eligibility)>, Error> {
    let (found, now) = (attestations::found_after(tx, fleet, after, limit).await?, now_s());
    Ok(found
        .into_iter()
        .map(|(device, found)| (device, eligibility(policy, &found, now)))
        .collect())
}

/// The eligibility of a device.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn eligibility_of(
    tx: &mut Tx<'_>,
    cx: &Context,
    device: &DeviceId,
) -> Result<Eligibility, Error> {
    let (fleet, found) = attestations::found(tx, device)
        .await?
        .ok_or_else(|| Error::not_found("device", device.as_str()))?;
    Ok(eligibility(&cx.attestation.policies.of(&fleet), &found, now_s()))
}

/// Whether a device may be offered an update now.
pub async fn may_update(cx: &Context, device: &DeviceId) -> Result<bool, Error> {
    let mut connection = cx.db.reader().await?;
    let Some((fleet, found)) = attestations::found(&mut connection, device).await? else {
        return Ok(false);
    };
    Ok(cx.attestation.policies.of(&fleet).may_update(found.level_for_update(now_s())))
}

/// The eligibility of some devices of a fleet.
pub async fn of(
    tx: &mut Tx<'_>,
    policy: &Policy,
    devices: impl Iterator<Item = &DeviceId>,
) -> Result<Vec<(DeviceId, Eligibility)>, Error> {
    let (devices, now): (Vec<_>, _) = (devices.collect(), now_s());
    let found = attestations::found_of(tx, &devices).await?;
    Ok(found
        .into_iter()
        .map(|(device, found)| {
            let eligibility = eligibility(policy, &found, now);
            (device, eligibility)
        })
        .collect())
}
