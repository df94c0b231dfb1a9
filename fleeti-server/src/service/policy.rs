//! What fleets ask of their devices, and what follows of it: who is told of an update, who counts as success, who is held.

use crate::app::{App, AppRef, now_s};
use crate::db::attestations::{self, Found};
use crate::db::{Db, Tx};
use crate::error::AppError;
use crate::service::{attestation, rollouts};
use arc_swap::ArcSwap;
use fleeti_core::attestation::Level;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::rollout::{Proof, Standing};
use fleeti_core::wire::api::Event;
use fleeti_core::wire::problem::Code;
use std::collections::HashMap;
use std::sync::Arc;

/// Devices that are looked at anew before others get their turn.
const BATCH: u32 = 64;

/// Every fleet's policy; changed together with the database.
pub struct Policies {
    own: ArcSwap<HashMap<FleetId, Policy>>,
    usual: Policy,
}

impl Policies {
    /// As they are kept.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn load(db: &Db) -> Result<Self, AppError> {
        Ok(Self { own: ArcSwap::from_pointee(attestations::policies(db.pool()).await?), usual: Policy::usual() })
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

    fn set(&self, fleet: &FleetId, policy: &Policy) {
        self.own.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.insert(fleet.clone(), policy.clone());
            all
        });
    }
}

/// Changes what a fleet asks. What its devices have proved is looked at anew: first what follows of the levels that they have,
/// then, beside everything else, the levels themselves.
///
/// # Errors
/// [`Code::Invalid`] for a policy that is none.
pub async fn set(app: &AppRef, fleet: &FleetId, policy: &Policy) -> Result<(), AppError> {
    policy.check().map_err(|e| AppError::new(Code::Invalid, e.to_string()))?;
    let mut tx = app.db.write().await?;
    let before = app.policies.of(fleet);
    attestations::set_policy(&mut tx, fleet, policy).await?;
    app.audit(&mut tx, now_s(), "admin", "fleet.attestation-policy", &format!("{fleet} {}", serde_json::to_string(policy)?)).await?;
    let standings = standings(&mut tx, fleet, policy).await?;
    let outcome = rollouts::devices_appraised(&mut tx, fleet, standings).await?;
    // Whoever reads it between the commit and this holds more than is asked, never less: it is set first, and taken back where
    // the commit fails.
    app.policies.set(fleet, policy);
    if let Err(e) = tx.commit().await {
        app.policies.set(fleet, &before);
        return Err(e.into());
    }
    app.grants.changed();
    app.publish(Event::Fleet { name: fleet.clone() });
    outcome.hand_out(app);
    let (app, fleet) = (Arc::clone(app), fleet.clone());
    tokio::spawn(async move {
        if let Err(e) = reappraise(&app, &fleet).await {
            tracing::error!("fleet {fleet} was not looked at anew: {e}");
        }
    });
    Ok(())
}

/// Looks anew at what the devices of a fleet have sent.
///
/// # Errors
/// When the database does not answer.
pub async fn reappraise(app: &App, fleet: &FleetId) -> Result<(), AppError> {
    let mut after = String::new();
    loop {
        let devices = attestations::with_evidence(app.db.pool(), fleet, &after, BATCH).await?;
        let Some(last) = devices.last() else { return Ok(()) };
        after = last.to_string();
        for device in &devices {
            attestation::reappraise(app, device).await?;
        }
    }
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
    Standing { may_update: policy.may_update(level), proof }
}

/// How far the devices of a fleet are trusted.
///
/// # Errors
/// When the database does not answer.
pub async fn standings(tx: &mut Tx<'_>, fleet: &FleetId, policy: &Policy) -> Result<Vec<(DeviceId, Standing)>, AppError> {
    let (found, now) = (attestations::found_in_fleet(tx, fleet).await?, now_s());
    Ok(found.into_iter().map(|(device, found)| (device, standing(policy, &found, now))).collect())
}

/// How far a device is trusted.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn standing_of(tx: &mut Tx<'_>, app: &App, device: &DeviceId) -> Result<Standing, AppError> {
    let (fleet, found) = attestations::found(tx, device).await?.ok_or_else(|| AppError::not_found("device", device.as_str()))?;
    Ok(standing(&app.policies.of(&fleet), &found, now_s()))
}

/// Whether a device may be told of an update now.
///
/// # Errors
/// When the database does not answer.
pub async fn may_update(app: &App, device: &DeviceId) -> Result<bool, AppError> {
    let mut connection = app.db.pool().acquire().await?;
    let Some((fleet, found)) = attestations::found(&mut connection, device).await? else { return Ok(false) };
    Ok(app.policies.of(&fleet).may_update(found.level_at(now_s())))
}

/// A device comes back: what it had proved may have become old, and what was granted for it is taken back until it proves
/// itself again.
///
/// # Errors
/// When the database does not answer.
pub async fn came_back(app: &App, device: &DeviceId) -> Result<(), AppError> {
    // Silence takes no device below what is usually asked.
    if app.policies.are_usual() || may_update(app, device).await? {
        return Ok(());
    }
    let mut tx = app.db.write().await?;
    let Some((fleet, found)) = attestations::found(&mut tx, device).await? else { return Ok(()) };
    let standing = standing(&app.policies.of(&fleet), &found, now_s());
    let outcome = rollouts::devices_appraised(&mut tx, &fleet, vec![(device.clone(), standing)]).await?;
    tx.commit().await?;
    outcome.hand_out(app);
    Ok(())
}

/// What follows of a result that is kept in this transaction.
///
/// # Errors
/// When the database does not answer.
pub async fn appraised(tx: &mut Tx<'_>, app: &App, device: &DeviceId) -> Result<rollouts::Outcome, AppError> {
    let Some((fleet, found)) = attestations::found(tx, device).await? else { return Ok(rollouts::Outcome::default()) };
    let standing = standing(&app.policies.of(&fleet), &found, now_s());
    rollouts::devices_appraised(tx, &fleet, vec![(device.clone(), standing)]).await
}
