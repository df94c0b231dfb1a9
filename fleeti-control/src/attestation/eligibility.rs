//! What the gates, and the appraisal policy of its fleet, permit a device: to be offered an update,
//! and to count as success in a rollout.

use crate::context::Context;
use crate::error::Error;
use fleeti_core::attestation::Level;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::rollout::gates::{self, Facts, Paths, ReleaseFacts, Source, Target};
use fleeti_core::rollout::{Eligibility, Proof};
use fleeti_store::known::{self, KnownDevice};
use fleeti_store::rollouts::StoredRollout;
use fleeti_store::{self as store, Connection, Tx, attestations};

/// The eligibility without its proof: a rollout that waits for proof needs new evidence, so old
/// evidence neither proves nor contradicts anything.
pub(crate) fn known_before(eligibility: Eligibility) -> Eligibility {
    let proof = match eligibility.proof {
        Proof::NotAsked => Proof::NotAsked,
        Proof::Of(_) | Proof::Missing | Proof::AttestationFailed => Proof::Missing,
    };
    Eligibility { proof, ..eligibility }
}

/// What devices are compared with, where a rollout decides whether to offer them its release.
#[derive(Debug, Clone)]
pub(crate) struct Terms<'a> {
    policy: &'a Policy,
    target: Target,
    release: ReleaseFacts,
    paths: Paths,
    now_s: u64,
}

impl<'a> Terms<'a> {
    /// The terms of a rollout. A rollout of a release that is revoked ends, so it counts as good.
    pub(crate) async fn of(
        tx: &mut Tx<'_>,
        policy: &'a Policy,
        rollout: &StoredRollout,
        now_s: u64,
    ) -> Result<Self, Error> {
        let release = &rollout.release;
        let source = if rollout.back_of.is_some() { Source::WayBack } else { Source::Rollout };
        let is_proved = is_proved(tx, policy, release).await?;
        let release_facts = ReleaseFacts { is_good: true, is_proved };
        let target = Target { release: release.clone(), source };
        let paths = store::release_paths::of_line(tx, &release.line).await?;
        Ok(Self { policy, target, release: release_facts, paths, now_s })
    }

    /// The eligibility of a device under its fleet's policy.
    fn eligibility(&self, device: &KnownDevice) -> Eligibility {
        let Self { policy, target, release, paths, now_s } = self;
        let KnownDevice { known, found } = device;
        let level = found.level_at(*now_s);
        let proof = match &found.release {
            _ if level == Level::SelfReported => Proof::AttestationFailed,
            _ if !policy.may_succeed(level) => Proof::Missing,
            _ if !policy.asks_for_proof() => Proof::NotAsked,
            Some(release) => Proof::Of(release.clone()),
            None => Proof::Missing,
        };
        let facts = Facts {
            now_s: *now_s,
            is_online: None,
            known,
            target: Some(target),
            release: *release,
            policy,
            paths,
            part: None,
        };
        gates::eligibility(&facts, proof)
    }
}

/// Whether a release has the boot proof that a policy requires. Without the requirement, nothing
/// is looked up.
pub(crate) async fn is_proved(
    connection: &mut Connection,
    policy: &Policy,
    release: &ReleaseName,
) -> Result<bool, Error> {
    Ok(policy.proved_releases && store::releases::is_proved(connection, release).await?)
}

/// The eligibility of the next devices of a fleet after an id, by id.
pub(crate) async fn after(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    terms: &Terms<'_>,
    (after, limit): (&str, u32),
) -> Result<Vec<(DeviceId, Eligibility)>, Error> {
    let found = known::after(tx, fleet, (after, limit), terms.now_s).await?;
    Ok(found.into_iter().map(|(id, device)| (id, terms.eligibility(&device))).collect())
}

/// The eligibility of a device for a rollout.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn eligibility_of(
    tx: &mut Tx<'_>,
    cx: &Context,
    device: &DeviceId,
    rollout: &StoredRollout,
) -> Result<Eligibility, Error> {
    let now_s = cx.now_s();
    let (fleet, found) = known::get(tx, device, now_s)
        .await?
        .ok_or_else(|| Error::not_found("device", device.as_str()))?;
    let policy = cx.attestation.policies.of(&fleet);
    Ok(Terms::of(tx, &policy, rollout, now_s).await?.eligibility(&found))
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
    terms: &Terms<'_>,
    devices: impl Iterator<Item = &DeviceId>,
) -> Result<Vec<(DeviceId, Eligibility)>, Error> {
    let devices: Vec<_> = devices.collect();
    let found = known::of(tx, &devices, terms.now_s).await?;
    Ok(found.into_iter().map(|(id, device)| (id, terms.eligibility(&device))).collect())
}
