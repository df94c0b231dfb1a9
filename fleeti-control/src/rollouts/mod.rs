//! Rollouts: loads a rollout, calls `core::rollout::step`, and stores the result.

use crate::app::{App, AppRef, new_id, now_s};
use crate::error::AppError;
use crate::service::{boot, notice, policy, releases};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::rollout::{self, Effect, Eligibility, Phase, Rejected, State};
use fleeti_core::wire::api::{CreateRollout, Event, Rollout, RolloutSummary};
use fleeti_core::wire::device::{DesiredState, Report};
use fleeti_core::wire::problem::Code;
use fleeti_store::{self as store, Tx};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Effects to dispatch after the transaction is committed.
#[derive(Default)]
#[must_use]
pub struct Outcome {
    desired: Vec<(DeviceId, DesiredState)>,
    asked: Vec<DeviceId>,
    changed: Vec<String>,
}

impl Outcome {
    /// Pushes desired states to devices and publishes events.
    pub fn dispatch(self, app: &App) {
        if !self.desired.is_empty() {
            app.grants.changed();
        }
        app.hub.push_all(self.desired, self.asked);
        for id in self.changed {
            app.publish(Event::Rollout { id });
        }
    }
}

async fn apply(
    tx: &mut Tx<'_>,
    id: &str,
    effects: Vec<Effect>,
    outcome: &mut Outcome,
) -> Result<(), AppError> {
    let (mut offered, mut withdrawn): (HashMap<ReleaseName, Vec<DeviceId>>, Vec<DeviceId>) =
        Default::default();
    for effect in effects {
        match effect {
            Effect::Offer(device, release) => offered.entry(release).or_default().push(device),
            Effect::Withdraw(device) => withdrawn.push(device),
            Effect::Challenge(device) => outcome.asked.push(device),
            Effect::Publish => outcome.changed.push(id.to_owned()),
        }
    }
    for (release, devices) in offered {
        outcome.desired.extend(store::desired::set_desired(tx, &devices, Some(&release)).await?);
    }
    outcome.desired.extend(store::desired::set_desired(tx, &withdrawn, None).await?);
    Ok(())
}

fn rejected(e: Rejected) -> AppError {
    AppError::new(Code::Conflict, e.to_string())
}

/// Starts a rollout to every device of a fleet.
///
/// # Errors
/// [`Code::NotFound`] for a release that is not published; [`Code::Conflict`] for a fleet without
/// devices, or with another running rollout.
pub async fn start(app: &AppRef, request: &CreateRollout) -> Result<Rollout, AppError> {
    releases::get(app, &request.release).await?;
    let (id, now) = (new_id("rollout"), now_s());
    let mut tx = app.db.write().await?;
    if !store::releases::is_good(&mut tx, &request.release).await? {
        let refused = AppError::new(Code::Conflict, format!("{} is revoked", request.release));
        return Err(refused.hint("publish a higher version and roll that out"));
    }
    let policy = app.policies.of(&request.fleet);
    if policy.proved_releases && !store::releases::is_proved(&mut tx, &request.release).await? {
        let refused = AppError::new(
            Code::Conflict,
            format!(
                "{} has no boot proof, which fleet {} requires",
                request.release, request.fleet
            ),
        );
        return Err(refused.hint("roll it out to a fleet that does not require one, then run `fleeti release prove DIR --device DEVICE`"));
    }
    if let Some(other) = store::rollouts::active(&mut tx, &request.fleet).await?.first() {
        let text = format!(
            "rollout {} of {} is running in fleet {}",
            other.id, other.state.release, request.fleet
        );
        return Err(AppError::new(Code::Conflict, text)
            .hint("wait for it to end, or abort it with `fleeti rollout abort`"));
    }
    let devices = policy::eligible(&mut tx, &request.fleet, &policy).await?;
    let ready =
        State { release: request.release.clone(), phase: Phase::Ready, devices: BTreeMap::new() };
    let (state, effects) =
        rollout::step(&ready, rollout::Event::Start(devices)).map_err(rejected)?;
    let mut outcome = Outcome::default();
    apply(&mut tx, &id, effects, &mut outcome).await?;
    store::rollouts::store(&mut tx, &id, &request.fleet, &state, now).await?;
    app.audit(
        &mut tx,
        now,
        "admin",
        "rollout.start",
        &format!("{id} {} {}", request.release, request.fleet),
    )
    .await?;
    tx.commit().await?;
    boot::sign_ahead(app, request.fleet.clone(), request.release.clone());
    outcome.dispatch(app);
    Ok(Rollout { id, fleet: request.fleet.clone(), created_s: now, state })
}

/// Aborts a rollout. Devices that have not started the update keep what they run.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for a rollout that has ended.
pub async fn abort(app: &App, id: &str) -> Result<Rollout, AppError> {
    let mut tx = app.db.write().await?;
    let before = store::rollouts::get_in(&mut tx, id)
        .await?
        .ok_or_else(|| AppError::not_found("rollout", id))?;
    let (state, effects) = rollout::step(&before.state, rollout::Event::Abort).map_err(rejected)?;
    let mut outcome = Outcome::default();
    apply(&mut tx, id, effects, &mut outcome).await?;
    store::rollouts::store(&mut tx, id, &before.fleet, &state, before.created_s).await?;
    app.audit(&mut tx, now_s(), "admin", "rollout.abort", id).await?;
    tx.commit().await?;
    outcome.dispatch(app);
    Ok(Rollout { state, ..before })
}

/// Revokes a release: its rollouts end, and it is no longer the desired version of any device.
/// Devices that run it keep it until a newer release is rolled out to them. Idempotent.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn revoke_release(app: &AppRef, name: &ReleaseName) -> Result<(), AppError> {
    let digest = releases::get(app, name).await?.manifest_sha256;
    let mut tx = app.db.write().await?;
    if !store::releases::revoke(&mut tx, name, now_s()).await? {
        drop(tx);
        app.policies.touch();
        notice::tell(app).await;
        return Ok(());
    }
    let mut outcome = Outcome::default();
    for rollout in
        store::rollouts::all_active(&mut tx).await?.into_iter().filter(|r| r.state.release == *name)
    {
        let (state, effects) =
            rollout::step(&rollout.state, rollout::Event::Abort).map_err(rejected)?;
        apply(&mut tx, &rollout.id, effects, &mut outcome).await?;
        store::rollouts::store(&mut tx, &rollout.id, &rollout.fleet, &state, rollout.created_s)
            .await?;
    }
    let left = store::desired::with_desired(&mut tx, name).await?;
    outcome.desired.extend(store::desired::set_desired(&mut tx, &left, None).await?);
    app.audit(&mut tx, now_s(), "admin", "release.revoke", &format!("{name} {digest}")).await?;
    tx.commit().await?;
    // Before the first await: the caller may be dropped while this function waits.
    app.policies.touch();
    outcome.dispatch(app);
    app.publish(Event::Release { name: name.clone() });
    // A device that learns of the revocation installs the release from no server any more.
    notice::tell(app).await;
    let (app, devices) =
        (Arc::clone(app), store::attestations::on_release(app.db.pool(), name).await?);
    tokio::spawn(async move { policy::reappraise_all(&app, &devices).await });
    Ok(())
}

/// Passes the report of a device to the rollouts of its fleet. `heard` is true if the device had
/// received its last offer when it reported.
pub async fn device_reported(
    app: &App,
    tx: &mut Tx<'_>,
    (fleet, device): (&FleetId, &DeviceId),
    report: &Report,
    heard: bool,
) -> Result<Outcome, AppError> {
    let active = store::rollouts::active(tx, fleet).await?;
    if active.is_empty() {
        return Ok(Outcome::default());
    }
    let event = rollout::Event::Reported {
        device: device.clone(),
        running: report.boot.running.clone(),
        update: report.update.clone(),
        heard,
        eligibility: policy::eligibility_of(tx, app, device).await?,
    };
    step_all(tx, active, &event).await
}

/// Passes the current attestation of devices to the rollouts of their fleet.
pub async fn devices_appraised(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    eligible: Vec<(DeviceId, Eligibility)>,
) -> Result<Outcome, AppError> {
    step_active(tx, fleet, &rollout::Event::Appraised(eligible)).await
}

/// Passes to the rollouts of a fleet that a device was revoked.
pub async fn device_revoked(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    device: &DeviceId,
) -> Result<Outcome, AppError> {
    step_active(tx, fleet, &rollout::Event::Revoked(device.clone())).await
}

async fn step_active(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    event: &rollout::Event,
) -> Result<Outcome, AppError> {
    let active = store::rollouts::active(tx, fleet).await?;
    step_all(tx, active, event).await
}

async fn step_all(
    tx: &mut Tx<'_>,
    active: Vec<Rollout>,
    event: &rollout::Event,
) -> Result<Outcome, AppError> {
    let mut outcome = Outcome::default();
    for rollout in active {
        match rollout::step(&rollout.state, event.clone()) {
            Ok((state, effects)) if state != rollout.state => {
                apply(tx, &rollout.id, effects, &mut outcome).await?;
                store::rollouts::store(tx, &rollout.id, &rollout.fleet, &state, rollout.created_s)
                    .await?;
            }
            Ok(_) => {}
            Err(e) => tracing::debug!("{e}"),
        }
    }
    Ok(outcome)
}

/// The newest rollouts, without their devices.
pub async fn summaries(app: &App, limit: u32) -> Result<Vec<RolloutSummary>, AppError> {
    Ok(store::rollouts::summaries(app.db.pool(), limit).await?)
}

/// One rollout.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(app: &App, id: &str) -> Result<Rollout, AppError> {
    store::rollouts::get(app.db.pool(), id).await?.ok_or_else(|| AppError::not_found("rollout", id))
}
