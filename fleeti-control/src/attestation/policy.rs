//! Appraisal policies of fleets, and their consequences: which devices are offered an update, are
//! blocked, or count as success in a rollout.

use crate::app::{App, AppRef, now_s};
use crate::error::AppError;
use crate::service::{evidence, rollouts};
use arc_swap::ArcSwap;
use fleeti_core::attestation::Level;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::rollout::{Eligibility, Proof};
use fleeti_core::wire::api::Event;
use fleeti_core::wire::problem::Code;
use fleeti_store::attestations::{self, Found};
use fleeti_store::{self as store, Db, Tx};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of devices per batch of appraisals.
const BATCH: u32 = 64;

/// The policies of all fleets, kept equal to the database.
pub struct Policies {
    own: ArcSwap<HashMap<FleetId, Policy>>,
    usual: Policy,
    changes: AtomicU64,
}

impl Policies {
    /// Loads the policies from the database.
    pub async fn load(db: &Db) -> Result<Self, AppError> {
        Ok(Self {
            own: ArcSwap::from_pointee(attestations::policies(db.pool()).await?),
            usual: Policy::usual(),
            changes: AtomicU64::new(0),
        })
    }

    /// The policy of a fleet.
    #[must_use]
    pub fn of(&self, fleet: &FleetId) -> Policy {
        self.own.load().get(fleet).unwrap_or(&self.usual).clone()
    }

    /// Whether all fleets have the default policy.
    #[must_use]
    pub fn are_usual(&self) -> bool {
        self.own.load().is_empty()
    }

    /// Counts a change of what devices may run, so that concurrent appraisals are repeated.
    pub fn touch(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// A counter that grows with every change.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    fn set(&self, fleet: &FleetId, policy: &Policy) {
        self.own.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.insert(fleet.clone(), policy.clone());
            all
        });
        self.touch();
    }
}

/// Sets the policy of a fleet. First applies it to the current levels of the fleet's devices, then
/// appraises their evidence again in the background.
///
/// # Errors
/// [`Code::Invalid`] for an invalid policy.
pub async fn set(app: &AppRef, fleet: &FleetId, policy: &Policy) -> Result<(), AppError> {
    policy.check().map_err(|e| AppError::new(Code::Invalid, e.to_string()))?;
    let (app, fleet, policy) = (Arc::clone(app), fleet.clone(), policy.clone());
    // In a task of its own, because the client may disconnect.
    let changed = tokio::spawn(async move {
        change(&app, &fleet, &policy).await?;
        tokio::spawn(async move { reappraise(&app, &fleet).await });
        Ok(())
    });
    changed.await.map_err(AppError::internal)?
}

async fn change(app: &App, fleet: &FleetId, policy: &Policy) -> Result<(), AppError> {
    let mut tx = app.db.write().await?;
    let before = app.policies.of(fleet);
    attestations::set_policy(&mut tx, fleet, policy).await?;
    app.audit(
        &mut tx,
        now_s(),
        "admin",
        "fleet.attestation-policy",
        &format!("{fleet} {}", serde_json::to_string(policy)?),
    )
    .await?;
    let eligible = eligible(&mut tx, fleet, policy).await?;
    let outcome = rollouts::devices_appraised(
        &mut tx,
        fleet,
        eligible.into_iter().map(known_before).collect(),
    )
    .await?;
    // Decisions in a transaction wait for this one. Decisions that only read use the new policy
    // from now on, and are repeated once the change is committed.
    app.policies.set(fleet, policy);
    let committed = tx.commit().await;
    if committed.is_err() {
        app.policies.set(fleet, &before);
    }
    app.grants.changed();
    committed?;
    app.publish(Event::Fleet { name: fleet.clone() });
    outcome.dispatch(app);
    Ok(())
}

/// Appraises the evidence of a fleet's devices again.
async fn reappraise(app: &App, fleet: &FleetId) {
    let mut after = String::new();
    loop {
        let devices = match attestations::with_evidence(app.db.pool(), fleet, &after, BATCH).await {
            Ok(devices) => devices,
            Err(e) => {
                return tracing::error!(
                    "the devices of fleet {fleet} were not appraised again: {e}"
                );
            }
        };
        let Some(last) = devices.last() else { return };
        after = last.to_string();
        reappraise_all(app, &devices).await;
    }
}

/// Appraises the evidence of devices again. A failure for one device does not affect the others.
pub async fn reappraise_all(app: &App, devices: &[DeviceId]) {
    for device in devices {
        if let Err(e) = evidence::reappraise(app, device).await {
            tracing::error!(%device, "a device was not appraised again: {e}");
        }
    }
}

/// Whether an appraisal is based on new evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// New evidence.
    Evidence,
    /// No new evidence.
    None,
}

/// The eligibility without its proof: a rollout that waits for proof needs new evidence, so old
/// evidence neither proves nor contradicts anything.
fn known_before((device, eligibility): (DeviceId, Eligibility)) -> (DeviceId, Eligibility) {
    let proof = match eligibility.proof {
        Proof::NotAsked => Proof::NotAsked,
        Proof::Of(_) | Proof::Missing | Proof::AttestationFailed => Proof::Missing,
    };
    (device, Eligibility { proof, ..eligibility })
}

/// The eligibility of a device under its fleet's policy.
fn eligibility(policy: &Policy, found: &Found, now_s: u64) -> Eligibility {
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

/// The eligibility of a fleet's devices.
pub async fn eligible(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    policy: &Policy,
) -> Result<Vec<(DeviceId, Eligibility)>, AppError> {
    let (found, now) = (attestations::found_in_fleet(tx, fleet).await?, now_s());
    Ok(found
        .into_iter()
        .map(|(device, found)| (device, eligibility(policy, &found, now)))
        .collect())
}

/// The eligibility of a device.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn eligibility_of(
    tx: &mut Tx<'_>,
    app: &App,
    device: &DeviceId,
) -> Result<Eligibility, AppError> {
    let (fleet, found) = attestations::found(tx, device)
        .await?
        .ok_or_else(|| AppError::not_found("device", device.as_str()))?;
    Ok(eligibility(&app.policies.of(&fleet), &found, now_s()))
}

/// Whether a device may be offered an update now.
pub async fn may_update(app: &App, device: &DeviceId) -> Result<bool, AppError> {
    let mut connection = app.db.reader().await?;
    let Some((fleet, found)) = attestations::found(&mut connection, device).await? else {
        return Ok(false);
    };
    Ok(app.policies.of(&fleet).may_update(found.level_for_update(now_s())))
}

/// Handles the reconnect of a device. Its evidence may have expired while it was away: it is then
/// blocked, and its offer withdrawn, until it attests again.
pub async fn on_reconnect(app: &App, device: &DeviceId) -> Result<(), AppError> {
    // Expired evidence never takes a device below the default minimum level.
    if app.policies.are_usual() || may_update(app, device).await? {
        return Ok(());
    }
    let mut tx = app.db.write().await?;
    let Some((fleet, found)) = attestations::found(&mut tx, device).await? else { return Ok(()) };
    let eligibility = eligibility(&app.policies.of(&fleet), &found, now_s());
    let outcome = rollouts::devices_appraised(
        &mut tx,
        &fleet,
        vec![known_before((device.clone(), eligibility))],
    )
    .await?;
    tx.commit().await?;
    outcome.dispatch(app);
    Ok(())
}

/// Applies the stored results of some devices to their fleet's rollouts, in this transaction.
pub async fn appraised(
    tx: &mut Tx<'_>,
    app: &App,
    fleet: &FleetId,
    devices: &[&DeviceId],
    news: News,
) -> Result<rollouts::Outcome, AppError> {
    if !store::rollouts::is_one_active(tx, fleet).await? {
        return Ok(rollouts::Outcome::default());
    }
    let (policy, now) = (app.policies.of(fleet), now_s());
    let found = attestations::found_of(tx, devices).await?;
    let eligible = found.into_iter().map(|(device, found)| {
        let eligibility = (device, eligibility(&policy, &found, now));
        if news == News::Evidence { eligibility } else { known_before(eligibility) }
    });
    let eligible = eligible.collect();
    rollouts::devices_appraised(tx, fleet, eligible).await
}
