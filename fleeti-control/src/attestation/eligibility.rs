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
pub(crate) fn known_before(eligibility: Eligibility) -> Eligibility {
    let proof = match eligibility.proof {
        Proof::NotAsked => Proof::NotAsked,
        Proof::Of(_) | Proof::Missing | Proof::AttestationFailed => Proof::Missing,
    };
    Eligibility { proof, ..eligibility }
}

/// What the levels of devices are compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// The policy of their fleet.
    pub(crate) policy: &'a Policy,
    /// Unix seconds: levels decay.
    pub(crate) now_s: u64,
}

/// The eligibility of a device under its fleet's policy.
pub(crate) fn eligibility(terms: Terms<'_>, found: &Found) -> Eligibility {
    let Terms { policy, now_s } = terms;
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
pub(crate) async fn after(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    terms: Terms<'_>,
    after: &str,
    limit: u32,
) -> Result<Vec<(DeviceId, Eligibility)>, Error> {
    let found = attestations::found_after(tx, fleet, after, limit).await?;
    Ok(found.into_iter().map(|(device, found)| (device, eligibility(terms, &found))).collect())
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
    let policy = cx.attestation.policies.of(&fleet);
    Ok(eligibility(Terms { policy: &policy, now_s: cx.now_s() }, &found))
}

/// Whether a device may be offered an update now.
async fn may_update(cx: &Context, device: &DeviceId) -> Result<bool, Error> {
    let mut connection = cx.db.reader().await?;
    let Some((fleet, found)) = attestations::found(&mut connection, device).await? else {
        return Ok(false);
    };
    Ok(cx.attestation.policies.of(&fleet).may_update(found.level_for_update(cx.now_s())))
}

/// Whether a device may still have an update that it was offered. Expired evidence never takes a
/// device below the default minimum level, so with default policies no level is looked up.
pub async fn may_keep_offer(cx: &Context, device: &DeviceId) -> Result<bool, Error> {
    Ok(cx.attestation.policies.are_usual() || may_update(cx, device).await?)
}

/// The eligibility of some devices of a fleet.
pub(crate) async fn of(
    tx: &mut Tx<'_>,
    terms: Terms<'_>,
    devices: impl Iterator<Item = &DeviceId>,
) -> Result<Vec<(DeviceId, Eligibility)>, Error> {
    let devices: Vec<_> = devices.collect();
    let found = attestations::found_of(tx, &devices).await?;
    Ok(found.into_iter().map(|(device, found)| (device, eligibility(terms, &found))).collect())
}
