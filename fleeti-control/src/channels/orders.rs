//! What operators order for the updates of a device: holds, pins and moves.

use super::checks::check_release;
use crate::accounts::actor::{Actor, Scope};
use crate::attestation::policy;
use crate::context::Context;
use crate::devices;
use crate::error::Error;
use crate::events::After;
use crate::guard;
use crate::rollouts::checked_reason;
use fleeti_core::foreign::Foreign;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::rollout::gates::{Active, Hold, Pin};
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::api::{Device, Event};
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::updates::{SKIP_WINDOWS_S_MAX, UpdateOrder};
use fleeti_store::known::Situation;
use fleeti_store::{self as store, Tx};

/// Orders something for the updates of a device, and decides about its offer again.
///
/// # Errors
/// [`Code::Invalid`] for a reason that is empty or too long, or an end that has passed or is too
/// late; [`Code::NotFound`] for an unknown device or release; [`Code::Conflict`] for a device that
/// is revoked, or that a rollout updates when it is to be moved; [`Code::Forbidden`] for a fleet
/// that the actor may not move it to; [`Code::SecondPerson`].
pub async fn order(
    cx: &Context,
    by: &Actor,
    device: &DeviceId,
    order: &UpdateOrder,
) -> Result<(), Error> {
    if let UpdateOrder::Pin { .. }
    | UpdateOrder::Downgrade { .. }
    | UpdateOrder::Unpin {}
    | UpdateOrder::Move { .. } = order
        && let Some(fleet) = devices::fleet_of(cx, device).await?
    {
        guard::rollout(cx, by, &fleet).await?;
    }
    let mut tx = cx.db.write().await?;
    devices::in_service(&mut tx, device).await?;
    let (name, subject, mut after) = match order {
        UpdateOrder::Hold { reason, until_s } => {
            let reason = checked_reason(reason)?;
            if until_s.is_some_and(|until_s| until_s <= cx.now_s()) {
                let text = "until_s has passed";
                return Err(Error::new(Code::Invalid, text).hint("give a time in the future"));
            }
            let hold = Hold { reason: reason.to_owned(), until_s: *until_s };
            store::known::set_hold(&mut tx, device, Some(&hold)).await?;
            let until = until_s.map_or_else(String::new, |until_s| format!(" until {until_s}"));
            ("device.hold", format!("{device}{until} {}", Foreign::log(reason)), After::default())
        }
        UpdateOrder::Unhold {} => {
            store::known::set_hold(&mut tx, device, None).await?;
            ("device.unhold", device.to_string(), After::default())
        }
        UpdateOrder::Pin { release, reason } => {
            pin(cx, &mut tx, device, (release, reason, false)).await?
        }
        UpdateOrder::Downgrade { release, reason } => {
            pin(cx, &mut tx, device, (release, reason, true)).await?
        }
        UpdateOrder::Unpin {} => {
            ("device.unpin", device.to_string(), unpin(cx, &mut tx, device).await?)
        }
        UpdateOrder::SkipWindows { until_s, reason } => {
            let reason = checked_reason(reason)?;
            check_skip(*until_s, cx.now_s())?;
            let subject = format!("{device} until {until_s} {}", Foreign::log(reason));
            let after = skip_windows(&mut tx, device, Some(*until_s)).await?;
            ("device.skip-windows", subject, after)
        }
        UpdateOrder::ObserveWindows {} => {
            let after = skip_windows(&mut tx, device, None).await?;
            ("device.observe-windows", device.to_string(), after)
        }
        UpdateOrder::Move { fleet, reason } => {
            by.authorize(Permission::Rollout, Scope::Fleet(fleet))?;
            let reason = checked_reason(reason)?;
            let (from, after) = leave(cx, &mut tx, device, fleet).await?;
            let subject = format!("{device} {from} {fleet} {}", Foreign::log(reason));
            ("device.move", subject, after)
        }
    };
    cx.audit(&mut tx, by.act(name, subject)).await?;
    after.merge(policy::look_again(cx, &mut tx, device).await?);
    cx.commit(tx, Event::Device { id: device.clone() }).await?;
    cx.dispatch(after);
    Ok(())
}

fn check_skip(until_s: u64, now_s: u64) -> Result<(), Error> {
    let latest_s = now_s.saturating_add(SKIP_WINDOWS_S_MAX);
    if (now_s.saturating_add(1)..=latest_s).contains(&until_s) {
        return Ok(());
    }
    let text = format!("until_s is {until_s}, must be after {now_s} and at most {latest_s}");
    Err(Error::new(Code::Invalid, text).hint("give a time within a week from now"))
}

/// Lets a device skip its windows, or not any more. Its desired state says so.
async fn skip_windows(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    until_s: Option<u64>,
) -> Result<After, Error> {
    store::known::set_skip_windows(tx, device, until_s).await?;
    let desired = store::desired::renew(tx, std::slice::from_ref(device)).await?;
    Ok(After { desired, ..After::default() })
}

/// Pins a device to a release. Returns what the audit log says.
async fn pin(
    cx: &Context,
    tx: &mut Tx<'_>,
    device: &DeviceId,
    (release, reason, downgrade): (&ReleaseName, &str, bool),
) -> Result<(&'static str, String, After), Error> {
    let reason = checked_reason(reason)?;
    check_release(cx, tx, release).await?;
    if downgrade {
        check_downgrade(cx, tx, device, release).await?;
    }
    let pin = Pin { release: release.clone(), reason: reason.to_owned(), downgrade };
    store::known::set_pin(tx, device, Some(&pin)).await?;
    let name = if downgrade { "device.downgrade" } else { "device.pin" };
    Ok((name, format!("{device} {release} {}", Foreign::log(reason)), After::default()))
}

/// Number of releases of a device that are looked at for the way back.
const GIVEN_MAX: u32 = 100;

/// The release that [`UpdateOrder::Downgrade`] would take a device back to: the highest version below
/// the one that it runs, of its line, that it was given, that is not revoked and not below a floor.
/// `None` if no such release exists, or if the device is already going back.
pub async fn way_back(cx: &Context, device: &Device) -> Result<Option<ReleaseName>, Error> {
    let Some(running) = device.boot.as_ref().map(|boot| &boot.running) else { return Ok(None) };
    let mut connection = cx.db.reader().await?;
    let given = store::desired::given(&mut connection, &device.id, GIVEN_MAX).await?;
    let is_lower =
        |release: &ReleaseName| release.line == running.line && release.version < running.version;
    let Some(lower) = given.into_iter().filter(is_lower).max_by(|a, b| a.version.cmp(&b.version))
    else {
        return Ok(None);
    };
    let paths = store::release_paths::of_line(&mut connection, &lower.line).await?;
    let is_above = paths.crossed(&running.version, &lower.version).is_none();
    Ok(Some(lower).filter(|_| is_above))
}

/// Checks that a device may go back to a release: a lower version of its line that it ran before, and
/// that is not below a floor. The device itself holds to the minimum version of what it runs, and to
/// what its other slot has.
async fn check_downgrade(
    cx: &Context,
    tx: &mut Tx<'_>,
    device: &DeviceId,
    release: &ReleaseName,
) -> Result<(), Error> {
    let conflict = |text: String| Error::new(Code::Conflict, text);
    let Situation { device: found, active, .. } = situation(cx, tx, device).await?;
    let Some(running) = found.known.running else {
        return Err(conflict(format!("{device} has not reported what it runs")));
    };
    if running.line != release.line || running.version <= release.version {
        let text = format!("{device} runs {running}: {release} is no lower version of its line");
        return Err(conflict(text).hint("pin it instead: `fleeti device pin`"));
    }
    if !store::desired::was_given(tx, device, release).await? {
        let text = format!("{device} never ran {release}");
        return Err(conflict(text).hint(
            "a device goes back to what its other slot has; reinstall it for any other release",
        ));
    }
    let paths = store::release_paths::of_line(tx, &release.line).await?;
    if let Some(floor) = paths.crossed(&running.version, &release.version) {
        let text = format!("{release} is below {}, a floor: {}", floor.release, floor.reason);
        return Err(conflict(text).hint("reinstall the device"));
    }
    let is_part =
        |active: &Active| active.row.as_ref().is_some_and(|(phase, _)| !phase.is_finished());
    if let Some(active) = active.filter(is_part) {
        let text = format!("{device} is part of rollout {}, which has not ended", active.rollout);
        return Err(conflict(text).hint("wait for it to end, or abort it"));
    }
    Ok(())
}

async fn situation(cx: &Context, tx: &mut Tx<'_>, device: &DeviceId) -> Result<Situation, Error> {
    let found = store::known::situation(tx, device, cx.now_s()).await?;
    found.ok_or_else(|| Error::not_found("device", device.as_str()))
}

/// Ends a pin, and withdraws what it offered if the device does not run it.
async fn unpin(cx: &Context, tx: &mut Tx<'_>, device: &DeviceId) -> Result<After, Error> {
    let Situation { device: found, active, .. } = situation(cx, tx, device).await?;
    let known = found.known;
    store::known::set_pin(tx, device, None).await?;
    // A rollout offers it, too: its row says so.
    let rollout = active.filter(|a| a.row.as_ref().is_some_and(|(phase, _)| phase.has_offer()));
    let is_of_rollout =
        |pinned: &ReleaseName| rollout.as_ref().is_some_and(|r| r.release == *pinned);
    let pinned = known.pin.map(|pin| pin.release).filter(|pinned| !is_of_rollout(pinned));
    match pinned.filter(|pinned| known.running.as_ref() != Some(pinned)) {
        None => Ok(After::default()),
        Some(pinned) => {
            let desired =
                store::desired::withdraw(tx, std::slice::from_ref(device), &pinned).await?;
            Ok(After { desired, ..After::default() })
        }
    }
}

/// Moves a device to a fleet. What its old fleet offered is withdrawn. Returns the old fleet.
async fn leave(
    cx: &Context,
    tx: &mut Tx<'_>,
    device: &DeviceId,
    fleet: &FleetId,
) -> Result<(FleetId, After), Error> {
    let Situation { fleet: from, device: found, active, .. } = situation(cx, tx, device).await?;
    let conflict = |text: String| Error::new(Code::Conflict, text);
    if from == *fleet {
        return Err(conflict(format!("{device} is in fleet {fleet} already")));
    }
    let is_part =
        |active: &Active| active.row.as_ref().is_some_and(|(phase, _)| !phase.is_finished());
    if let Some(active) = active.filter(is_part) {
        let text = format!("{device} is part of rollout {}, which has not ended", active.rollout);
        return Err(conflict(text).hint("wait for it to end, or abort it"));
    }
    store::known::set_fleet(tx, device, fleet).await?;
    let known = found.known;
    let offered = known.desired.filter(|desired| known.running.as_ref() != Some(desired));
    let desired = match offered {
        // The windows of its new fleet count from now on.
        None => store::desired::renew(tx, std::slice::from_ref(device)).await?,
        Some(offered) => {
            store::desired::withdraw(tx, std::slice::from_ref(device), &offered).await?
        }
    };
    Ok((from, After { desired, ..After::default() }))
}
