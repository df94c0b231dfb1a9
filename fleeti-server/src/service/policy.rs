//! What fleets ask of their devices, and what follows of it: who is told of an update, who counts
//! as success, who is held.

use crate::app::{App, AppRef, now_s};
use crate::db::attestations::{self, Found};
use crate::db::{self, Db, Tx};
use crate::error::AppError;
use crate::service::{evidence, rollouts};
use arc_swap::ArcSwap;
use fleeti_core::attestation::Level;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::rollout::{Proof, Standing};
use fleeti_core::wire::api::Event;
use fleeti_core::wire::problem::Code;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Devices that are looked at anew before others get their turn.
const BATCH: u32 = 64;

/// Every fleet's policy; changed together with the database.
pub struct Policies {
    own: ArcSwap<HashMap<FleetId, Policy>>,
    usual: Policy,
    changes: AtomicU64,
}

impl Policies {
    /// As they are kept.
    pub async fn load(db: &Db) -> Result<Self, AppError> {
        Ok(Self {
            own: ArcSwap::from_pointee(attestations::policies(db.pool()).await?),
            usual: Policy::usual(),
            changes: AtomicU64::new(0),
        })
    }

    /// What a fleet asks.
    #[must_use]
    pub fn of(&self, fleet: &FleetId) -> Policy {
        self.own.load().get(fleet).unwrap_or(&self.usual).clone()
    }

    /// Whether no fleet asks for more than is usual.
    #[must_use]
    pub fn are_usual(&self) -> bool {
        self.own.load().is_empty()
    }

    /// What devices may run has changed: whoever looks at evidence meanwhile looks again.
    pub fn touch(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// Grows with every change.
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

/// Changes what a fleet asks. What its devices have proved is looked at anew: first what follows of
/// the levels that they have, then, beside everything else, the levels themselves.
///
/// # Errors
/// [`Code::Invalid`] for a policy that is none.
pub async fn set(app: &AppRef, fleet: &FleetId, policy: &Policy) -> Result<(), AppError> {
    policy.check().map_err(|e| AppError::new(Code::Invalid, e.to_string()))?;
    let (app, fleet, policy) = (Arc::clone(app), fleet.clone(), policy.clone());
    // In a task of its own: whoever asked for it may go away in the middle.
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
    let standings = standings(&mut tx, fleet, policy).await?;
    let outcome = rollouts::devices_appraised(
        &mut tx,
        fleet,
        standings.into_iter().map(known_before).collect(),
    )
    .await?;
    // Whoever decides by it in a transaction waits for this one. Whoever only reads decides by the
    // new one from now on, and looks again once it is settled.
    app.policies.set(fleet, policy);
    let committed = tx.commit().await;
    if committed.is_err() {
        app.policies.set(fleet, &before);
    }
    app.grants.changed();
    committed?;
    app.publish(Event::Fleet { name: fleet.clone() });
    outcome.hand_out(app);
    Ok(())
}

/// Looks anew at what the devices of a fleet have sent.
async fn reappraise(app: &App, fleet: &FleetId) {
    let mut after = String::new();
    loop {
        let devices = match attestations::with_evidence(app.db.pool(), fleet, &after, BATCH).await {
            Ok(devices) => devices,
            Err(e) => return tracing::error!("fleet {fleet} was not looked at anew: {e}"),
        };
        let Some(last) = devices.last() else { return };
        after = last.to_string();
        reappraise_all(app, &devices).await;
    }
}

/// Looks anew at what devices have sent; one that cannot be looked at keeps no other from it.
pub async fn reappraise_all(app: &App, devices: &[DeviceId]) {
    for device in devices {
        if let Err(e) = evidence::reappraise(app, device).await {
            tracing::error!(%device, "a device was not looked at anew: {e}");
        }
    }
}

/// Whether a device has just said something, or what it said before is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// New evidence.
    Evidence,
    /// None.
    None,
}

/// A rollout that waits for a proof waits for a new one: what was known before proves nothing, and
/// contradicts nothing.
fn known_before((device, standing): (DeviceId, Standing)) -> (DeviceId, Standing) {
    let proof = match standing.proof {
        Proof::NotAsked => Proof::NotAsked,
        Proof::Of(_) | Proof::Missing | Proof::Contradicted => Proof::Missing,
    };
    (device, Standing { proof, ..standing })
}

/// How far a device is trusted, by what its fleet asks.
fn standing(policy: &Policy, found: &Found, now_s: u64) -> Standing {
    let level = found.level_at(now_s);
    let proof = match &found.release {
        _ if level == Level::SelfReported => Proof::Contradicted,
        _ if !policy.may_succeed(level) => Proof::Missing,
        _ if !policy.asks_for_proof() => Proof::NotAsked,
        Some(release) => Proof::Of(release.clone()),
        None => Proof::Missing,
    };
    Standing { may_update: policy.may_update(found.level_for_update(now_s)), proof }
}

/// How far the devices of a fleet are trusted.
pub async fn standings(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    policy: &Policy,
) -> Result<Vec<(DeviceId, Standing)>, AppError> {
    let (found, now) = (attestations::found_in_fleet(tx, fleet).await?, now_s());
    Ok(found.into_iter().map(|(device, found)| (device, standing(policy, &found, now))).collect())
}

/// How far a device is trusted.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn standing_of(
    tx: &mut Tx<'_>,
    app: &App,
    device: &DeviceId,
) -> Result<Standing, AppError> {
    let (fleet, found) = attestations::found(tx, device)
        .await?
        .ok_or_else(|| AppError::not_found("device", device.as_str()))?;
    Ok(standing(&app.policies.of(&fleet), &found, now_s()))
}

/// Whether a device may be told of an update now.
pub async fn may_update(app: &App, device: &DeviceId) -> Result<bool, AppError> {
    let mut connection = app.db.pool().acquire().await?;
    let Some((fleet, found)) = attestations::found(&mut connection, device).await? else {
        return Ok(false);
    };
    Ok(app.policies.of(&fleet).may_update(found.level_for_update(now_s())))
}

/// A device comes back: what it had proved may have become old, and what was granted for it is
/// taken back until it proves itself again.
pub async fn came_back(app: &App, device: &DeviceId) -> Result<(), AppError> {
    // Silence takes no device below what is usually asked.
    if app.policies.are_usual() || may_update(app, device).await? {
        return Ok(());
    }
    let mut tx = app.db.write().await?;
    let Some((fleet, found)) = attestations::found(&mut tx, device).await? else { return Ok(()) };
    let standing = standing(&app.policies.of(&fleet), &found, now_s());
    let outcome = rollouts::devices_appraised(
        &mut tx,
        &fleet,
        vec![known_before((device.clone(), standing))],
    )
    .await?;
    tx.commit().await?;
    outcome.hand_out(app);
    Ok(())
}

/// What follows for a fleet of what is kept of some of its devices, in this transaction.
pub async fn appraised(
    tx: &mut Tx<'_>,
    app: &App,
    fleet: &FleetId,
    devices: &[&DeviceId],
    news: News,
) -> Result<rollouts::Outcome, AppError> {
    if !db::rollouts::is_one_active(tx, fleet).await? {
        return Ok(rollouts::Outcome::default());
    }
    let (policy, now) = (app.policies.of(fleet), now_s());
    let found = attestations::found_of(tx, devices).await?;
    let standings = found.into_iter().map(|(device, found)| {
        let standing = (device, standing(&policy, &found, now));
        if news == News::Evidence { standing } else { known_before(standing) }
    });
    let standings = standings.collect();
    rollouts::devices_appraised(tx, fleet, standings).await
}
