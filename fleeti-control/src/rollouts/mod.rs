//! Rollouts: loads a rollout, calls `core::rollout::step`, and stores the result.

use crate::attestation::eligibility;
use crate::clock::{new_id, now_s};
use crate::context::{Context, ContextRef, Reacting};
use crate::error::Error;
use crate::events::{After, Appraised, DomainEvent};
use crate::{boot, releases};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::rollout::{self, Effect, Phase, Rejected, State};
use fleeti_core::wire::api::{CreateRollout, Event, Rollout, RolloutSummary};
use fleeti_core::wire::device::Report;
use fleeti_core::wire::problem::Code;
use fleeti_store::{self as store, Tx};
use std::collections::{BTreeMap, HashMap};

async fn apply(
    tx: &mut Tx<'_>,
    id: &str,
    effects: Vec<Effect>,
    after: &mut After,
) -> Result<(), Error> {
    let (mut offered, mut withdrawn): (HashMap<ReleaseName, Vec<DeviceId>>, Vec<DeviceId>) =
        Default::default();
    for effect in effects {
        match effect {
            Effect::Offer(device, release) => offered.entry(release).or_default().push(device),
            Effect::Withdraw(device) => withdrawn.push(device),
            Effect::Challenge(device) => after.challenges.push(device),
            Effect::Publish => after.changes.push(Event::Rollout { id: id.to_owned() }),
        }
    }
    for (release, devices) in offered {
        after.desired.extend(store::desired::set_desired(tx, &devices, Some(&release)).await?);
    }
    after.desired.extend(store::desired::set_desired(tx, &withdrawn, None).await?);
    Ok(())
}

fn rejected(e: Rejected) -> Error {
    Error::new(Code::Conflict, e.to_string())
}

/// Starts a rollout to every device of a fleet.
///
/// # Errors
/// [`Code::NotFound`] for a release that is not published; [`Code::Conflict`] for a fleet without
/// devices, or with another running rollout.
pub async fn start(cx: &ContextRef, request: &CreateRollout) -> Result<Rollout, Error> {
    releases::get(cx, &request.release).await?;
    let (id, now) = (new_id("rollout"), now_s());
    let mut tx = cx.db.write().await?;
    if !store::releases::is_good(&mut tx, &request.release).await? {
        let refused = Error::new(Code::Conflict, format!("{} is revoked", request.release));
        return Err(refused.hint("publish a higher version and roll that out"));
    }
    let policy = cx.attestation.policies.of(&request.fleet);
    if policy.proved_releases && !store::releases::is_proved(&mut tx, &request.release).await? {
        let refused = Error::new(
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
        return Err(Error::new(Code::Conflict, text)
            .hint("wait for it to end, or abort it with `fleeti rollout abort`"));
    }
    let devices = eligibility::eligible(&mut tx, &request.fleet, &policy).await?;
    let ready =
        State { release: request.release.clone(), phase: Phase::Ready, devices: BTreeMap::new() };
    let (state, effects) =
        rollout::step(&ready, rollout::Event::Start(devices)).map_err(rejected)?;
    let mut after = After::default();
    apply(&mut tx, &id, effects, &mut after).await?;
    store::rollouts::store(&mut tx, &id, &request.fleet, &state, now).await?;
    cx.audit(
        &mut tx,
        now,
        "admin",
        "rollout.start",
        &format!("{id} {} {}", request.release, request.fleet),
    )
    .await?;
    tx.commit().await?;
    boot::sign_ahead(cx, request.fleet.clone(), request.release.clone());
    cx.dispatch(after);
    Ok(Rollout { id, fleet: request.fleet.clone(), created_s: now, state })
}

/// Aborts a rollout. Devices that have not started the update keep what they run.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for a rollout that has ended.
pub async fn abort(cx: &Context, id: &str) -> Result<Rollout, Error> {
    let mut tx = cx.db.write().await?;
    let before = store::rollouts::get_in(&mut tx, id)
        .await?
        .ok_or_else(|| Error::not_found("rollout", id))?;
    let (state, effects) = rollout::step(&before.state, rollout::Event::Abort).map_err(rejected)?;
    let mut after = After::default();
    apply(&mut tx, id, effects, &mut after).await?;
    store::rollouts::store(&mut tx, id, &before.fleet, &state, before.created_s).await?;
    cx.audit(&mut tx, now_s(), "admin", "rollout.abort", id).await?;
    tx.commit().await?;
    cx.dispatch(after);
    Ok(Rollout { state, ..before })
}

/// Reacts to events of other areas.
pub(crate) fn react<'a>(
    cx: &'a Context,
    tx: &'a mut Tx<'_>,
    event: &'a DomainEvent,
) -> Reacting<'a> {
    Box::pin(async move {
        match event {
            DomainEvent::DeviceReported { fleet, device, report, received_offer } => {
                reported(cx, tx, (fleet, device), (report, *received_offer)).await
            }
            DomainEvent::DevicesAppraised { fleet, policy, devices, has_new_evidence } => {
                if !store::rollouts::is_one_active(tx, fleet).await? {
                    return Ok(After::default());
                }
                let eligible = match devices {
                    Appraised::Fleet => eligibility::eligible(tx, fleet, policy).await?,
                    Appraised::Devices(devices) => {
                        eligibility::of(tx, policy, devices.iter().map(|(device, ..)| device))
                            .await?
                    }
                };
                let eligible = if *has_new_evidence {
                    eligible
                } else {
                    eligible.into_iter().map(eligibility::known_before).collect()
                };
                step_active(tx, fleet, &rollout::Event::Appraised(eligible)).await
            }
            DomainEvent::DeviceRevoked { fleet, device } => {
                step_active(tx, fleet, &rollout::Event::Revoked(device.clone())).await
            }
            DomainEvent::ReleaseRevoked { release } => release_revoked(tx, release).await,
            DomainEvent::RolloutFinished { .. } => Ok(After::default()),
        }
    })
}

/// Ends the rollouts of a revoked release, and removes it as the desired version of every device.
async fn release_revoked(tx: &mut Tx<'_>, name: &ReleaseName) -> Result<After, Error> {
    let mut after = After::default();
    let all = store::rollouts::all_active(tx).await?;
    for rollout in all.into_iter().filter(|r| r.state.release == *name) {
        let (state, effects) =
            rollout::step(&rollout.state, rollout::Event::Abort).map_err(rejected)?;
        apply(tx, &rollout.id, effects, &mut after).await?;
        store::rollouts::store(tx, &rollout.id, &rollout.fleet, &state, rollout.created_s).await?;
    }
    let left = store::desired::with_desired(tx, name).await?;
    after.desired.extend(store::desired::set_desired(tx, &left, None).await?);
    Ok(after)
}

/// Passes the report of a device to the rollouts of its fleet.
async fn reported(
    cx: &Context,
    tx: &mut Tx<'_>,
    (fleet, device): (&FleetId, &DeviceId),
    (report, received_offer): (&Report, bool),
) -> Result<After, Error> {
    let active = store::rollouts::active(tx, fleet).await?;
    if active.is_empty() {
        return Ok(After::default());
    }
    let event = rollout::Event::Reported {
        device: device.clone(),
        running: report.boot.running.clone(),
        update: report.update.clone(),
        heard: received_offer,
        eligibility: eligibility::eligibility_of(tx, cx, device).await?,
    };
    step_all(tx, active, &event).await
}

async fn step_active(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    event: &rollout::Event,
) -> Result<After, Error> {
    let active = store::rollouts::active(tx, fleet).await?;
    step_all(tx, active, event).await
}

async fn step_all(
    tx: &mut Tx<'_>,
    active: Vec<Rollout>,
    event: &rollout::Event,
) -> Result<After, Error> {
    let mut after = After::default();
    for rollout in active {
        match rollout::step(&rollout.state, event.clone()) {
            Ok((state, effects)) if state != rollout.state => {
                apply(tx, &rollout.id, effects, &mut after).await?;
                store::rollouts::store(tx, &rollout.id, &rollout.fleet, &state, rollout.created_s)
                    .await?;
            }
            Ok(_) => {}
            Err(e) => tracing::debug!("{e}"),
        }
    }
    Ok(after)
}

/// The newest rollouts, without their devices.
pub async fn summaries(cx: &Context, limit: u32) -> Result<Vec<RolloutSummary>, Error> {
    Ok(store::rollouts::summaries(cx.db.pool(), limit).await?)
}

/// One rollout.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(cx: &Context, id: &str) -> Result<Rollout, Error> {
    store::rollouts::get(cx.db.pool(), id).await?.ok_or_else(|| Error::not_found("rollout", id))
}
