//! What devices should run: the channel of a fleet, which rollouts move, and pins; what operators
//! order for a device, and why a device is, or is not, offered a release.
//!
//! A fleet converges: each report, appraisal and reconnect of a device compares it with what it
//! should run, by the gates (`core::rollout::gates`). A device that a rollout updates gets its offer
//! from that (`rollouts`), by the same gates.
//!
//! Code map: `converge` (decides and offers) · `orders` (holds, pins, moves) · `checks` (what acts need).

mod checks;
mod converge;
mod orders;

use crate::accounts::actor::Actor;
use crate::context::Context;
use crate::error::Error;
use crate::guard;
use crate::rollouts::checked_reason;
use checks::check_release;
use converge::Looked;
pub use converge::on_reconnect;
pub(crate) use converge::{note_failure, react};
use fleeti_core::foreign::Foreign;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::rollout::gates::{self, GateState, Pin};
use fleeti_core::wire::api::Event;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::updates::{Channel, PinFleet, Why};
use fleeti_store as store;
pub use orders::{order, way_back};

/// Why a device is, or is not, offered a release.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn why(cx: &Context, device: &DeviceId) -> Result<Why, Error> {
    let mut connection = cx.db.reader().await?;
    let looked = Looked::at(cx, &mut connection, device).await?;
    let Some(mut looked) = looked else { return Err(Error::not_found("device", device.as_str())) };
    if let Some(part) = &mut looked.part {
        let active = store::rollouts::active_in(&mut connection, &looked.fleet).await?;
        part.gate = active.and_then(|active| active.header.waves?.gate_wait());
    }
    let facts = looked.facts(Some(cx.hub.is_online(device)));
    let (gates, via) = (gates::list(&facts), facts.floor().map(|floor| floor.release.clone()));
    let first = [GateState::Closed, GateState::Waits]
        .into_iter()
        .find_map(|state| gates.iter().find(|check| check.state == state))
        .map(|check| check.gate);
    let Looked { fleet, known, target, part, .. } = looked;
    Ok(Why {
        device: device.clone(),
        fleet,
        running: known.running,
        desired: known.desired,
        target,
        via,
        rollout: part.map(|part| part.rollout),
        first,
        gates,
        hold: known.hold,
        pin: known.pin,
        penalty: known.penalty,
        skip_windows_until_s: known.skip_windows_until_s.filter(|until_s| *until_s > cx.now_s()),
    })
}

/// What the devices of a fleet should run.
pub async fn channel(cx: &Context, fleet: &FleetId) -> Result<Channel, Error> {
    Ok(store::channels::get(cx.db.pool(), fleet).await?)
}

/// Pins a fleet to a release, or ends that. Its devices are offered the release when they next report
/// or reconnect: without waves, so this is for a fleet that must leave a release, or stay on one.
///
/// # Errors
/// [`Code::Invalid`] for a reason that is empty or too long; [`Code::SecondPerson`];
/// [`Code::NotFound`] for a release that is not published; [`Code::Conflict`] for one that is revoked, or while a rollout is active.
pub async fn pin_fleet(
    cx: &Context,
    by: &Actor,
    fleet: &FleetId,
    request: &PinFleet,
) -> Result<Channel, Error> {
    let reason = checked_reason(&request.reason)?;
    guard::rollout(cx, by, fleet).await?;
    let mut tx = cx.db.write().await?;
    let (pin, act) = match &request.release {
        None => (None, format!("{fleet} {}", Foreign::log(reason))),
        Some(release) => {
            check_release(cx, &mut tx, release).await?;
            let pin = Pin { release: release.clone(), reason: reason.to_owned(), downgrade: false };
            (Some(pin), format!("{fleet} {release} {}", Foreign::log(reason)))
        }
    };
    if let Some(active) = store::rollouts::active_in(&mut tx, fleet).await? {
        let text = format!("rollout {} of fleet {fleet} is {}", active.id, active.header.phase);
        let refused = Error::new(Code::Conflict, text);
        return Err(refused.hint("wait for it to end, or abort it with `fleeti rollout abort`"));
    }
    store::channels::set_pin(&mut tx, fleet, pin.as_ref(), cx.now_s()).await?;
    let name = if pin.is_some() { "fleet.pin" } else { "fleet.unpin" };
    cx.audit(&mut tx, by.act(name, act)).await?;
    cx.commit(tx, Event::Fleet { name: fleet.clone() }).await?;
    channel(cx, fleet).await
}
