//! Reports of devices, their desired states, and what the API shows of them.
//!
//! Code map: [`search`] (filters).

pub mod search;

use crate::accounts::actor::{Actor, Scope};
use crate::again;
use crate::alerts;
use crate::attestation::{eligibility, policy};
use crate::changes::record::record;
use crate::context::Context;
use crate::enrollment::renewal;
use crate::error::Error;
use crate::events::{After, DeviceReport, DomainEvent};
use crate::history;
use crate::hub::{TURNS_MAX, TURNS_S};
use crate::releases::offers;
use fleeti_core::foreign::Foreign;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName, Version};
use fleeti_core::strict;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::alarm::AlarmKind;
use fleeti_core::wire::api::{Device, Event, Fleet};
use fleeti_core::wire::device::{
    Acknowledgement, DesiredState, Report, TEXT_MAX, Telemetry, longest_text,
};
use fleeti_core::wire::mqtt::Up;
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::Act;
use fleeti_store::mqtt_sessions::Stored;
use fleeti_store::{self as store, Tx};
use std::collections::HashMap;

/// Maximum number of devices in a page.
pub const PAGE_MAX: u32 = 500;

/// One device.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(cx: &Context, id: &str) -> Result<Device, Error> {
    let device = store::devices::get(cx.db.pool(), id)
        .await?
        .ok_or_else(|| Error::not_found("device", id))?;
    Ok(Device { online: cx.hub.is_online(&device.id), ..device })
}

/// Selects devices.
#[derive(Debug, Clone, Copy)]
pub enum Filter<'a> {
    /// All devices.
    All,
    /// Devices of a fleet.
    Fleet(&'a FleetId),
    /// Devices whose last update failed or was rolled back, or that raise an alarm.
    InTrouble,
    /// Devices that run another release than their desired one; of a fleet, or of all.
    Drifting(Option<&'a FleetId>),
}

/// A device's certificate, PEM.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn certificate(cx: &Context, id: &DeviceId) -> Result<String, Error> {
    store::certificates::newest(cx.db.pool(), id)
        .await?
        .ok_or_else(|| Error::not_found("device", id.as_str()))
}

/// A page of devices after an id.
///
/// # Errors
/// [`Code::Forbidden`] for devices of all fleets, unless the actor may see all;
/// [`Code::Invalid`] for an invalid limit or id.
pub async fn page(
    cx: &Context,
    by: &Actor,
    filter: Filter<'_>,
    after: &str,
    limit: u32,
) -> Result<Vec<Device>, Error> {
    let scope = match filter {
        Filter::Fleet(fleet) | Filter::Drifting(Some(fleet)) => Scope::Fleet(fleet),
        Filter::All | Filter::InTrouble | Filter::Drifting(None) => Scope::All,
    };
    by.authorize(Permission::View, scope)?;
    check_page(after, limit)?;
    let devices = match filter {
        Filter::All => store::devices::page(cx.db.pool(), None, after, limit).await?,
        Filter::Fleet(fleet) => {
            store::devices::page(cx.db.pool(), Some(fleet), after, limit).await?
        }
        Filter::InTrouble => store::devices::in_trouble(cx.db.pool(), after, limit).await?,
        Filter::Drifting(fleet) => {
            store::devices::drifting(cx.db.pool(), fleet, after, limit).await?
        }
    };
    Ok(devices.into_iter().map(|d| Device { online: cx.hub.is_online(&d.id), ..d }).collect())
}

pub(crate) fn check_page(after: &str, limit: u32) -> Result<(), Error> {
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Error::new(
            Code::Invalid,
            format!("limit is {limit}, must be 1 to {PAGE_MAX}"),
        ));
    }
    if !after.is_empty() && after.parse::<DeviceId>().is_err() {
        return Err(Error::new(Code::Invalid, "after is not a device id")
            .hint("use the last id of the previous page"));
    }
    Ok(())
}

/// The fleet of a device.
pub async fn fleet_of(cx: &Context, id: &DeviceId) -> Result<Option<FleetId>, Error> {
    Ok(store::devices::fleet_of(cx.db.pool(), id).await?)
}

/// The fleets that the actor may see.
pub async fn fleets_for(cx: &Context, by: &Actor) -> Result<Vec<Fleet>, Error> {
    let mut all = fleets(cx).await?;
    all.retain(|fleet| by.may(Permission::View, Scope::Fleet(&fleet.name)));
    Ok(all)
}

/// All fleets that have, or had, a device.
pub async fn fleets(cx: &Context) -> Result<Vec<Fleet>, Error> {
    Ok(store::devices::fleets(cx.db.pool()).await?)
}

/// Numbers of devices by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Devices with an open session.
    pub online: usize,
    /// Devices with an update in progress.
    pub moving: u64,
    /// Devices whose last update failed or was rolled back, or that raise an alarm.
    pub in_trouble: u64,
}

/// Counts devices by state.
pub async fn counts(cx: &Context) -> Result<Counts, Error> {
    let mut counts = Counts { online: cx.hub.online(), moving: 0, in_trouble: 0 };
    for (kind, n) in store::devices::by_update(cx.db.pool()).await? {
        match kind.as_str() {
            "idle" => {}
            "rolled_back" | "failed" | "alarm" => counts.in_trouble += store::from_seconds(n),
            _ => counts.moving += store::from_seconds(n),
        }
    }
    Ok(counts)
}

/// Stores a message of a device. When this returns, the message is durable and may be acknowledged.
///
/// # Errors
/// [`Code::Invalid`] for a payload that does not match its topic.
pub async fn received(
    cx: &Context,
    device: &DeviceId,
    kind: Up,
    payload: &[u8],
) -> Result<(), Error> {
    let taken = take(cx, device, kind, payload).await;
    cx.figures.message(kind, &taken);
    taken
}

async fn take(cx: &Context, device: &DeviceId, kind: Up, payload: &[u8]) -> Result<(), Error> {
    if cx.access.is_revoked(device) {
        return Err(Error::new(Code::Forbidden, format!("{device} is revoked")));
    }
    let longest = longest_text(payload);
    if longest > TEXT_MAX {
        return Err(Error::new(
            Code::Invalid,
            format!("{kind:?}: a text has {longest} bytes, at most {TEXT_MAX} are allowed"),
        ));
    }
    // A message has a number or an id, so it counts once however often it is stored.
    again::on_conflict(|| store_message(cx, device, kind, payload)).await
}

async fn store_message(
    cx: &Context,
    device: &DeviceId,
    kind: Up,
    payload: &[u8],
) -> Result<(), Error> {
    let invalid = |e: serde_json::Error| Error::new(Code::Invalid, format!("{kind:?}: {e}"));
    match kind {
        Up::Evidence => Err(Error::new(
            Code::Invalid,
            "evidence is accepted only for a challenge of the session",
        )),
        Up::Report => match strict::from_slice(payload).map_err(invalid) {
            Ok(report) => reported(cx, device, &report).await,
            Err(e) => refuse_report(cx, device, e).await,
        },
        Up::Telemetry => {
            let telemetry: Telemetry = strict::from_slice(payload).map_err(invalid)?;
            telemetered(cx, device, &telemetry).await
        }
        Up::Acknowledgement => {
            let answer: Acknowledgement = strict::from_slice(payload).map_err(invalid)?;
            let mut tx = cx.db.write().await?;
            if !store::commands::acknowledge(&mut tx, device, &answer, cx.now_s()).await? {
                return Ok(tx.commit().await?);
            }
            // Notify clients that wait for the result now, not at the next telemetry.
            cx.commit(tx, Event::Device { id: device.clone() }).await
        }
    }
}

async fn telemetered(cx: &Context, device: &DeviceId, telemetry: &Telemetry) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    let now_s = cx.now_s();
    let stored = store::reports::telemetry(&mut tx, device, telemetry, now_s).await?;
    let Some((fleet, is_due)) = stored else { return Ok(()) };
    // The end of a hold or of a penalty is noticed here: time alone is no event.
    let after = if is_due {
        store::known::end_due(&mut tx, device, now_s).await?;
        policy::look_again(cx, &mut tx, device).await?
    } else {
        After::default()
    };
    history::telemetry(cx, &mut tx, device, telemetry).await?;
    let has_changed = alerts::telemetry(cx, &mut tx, (&fleet, device), telemetry).await?;
    if has_changed {
        record(&mut tx, now_s, &[Event::Alerts]).await?;
    }
    tx.commit().await?;
    if is_due {
        cx.dispatch(after);
    }
    cx.publish_unstored(Event::Device { id: device.clone() });
    if has_changed {
        cx.publish(Event::Alerts);
    }
    Ok(())
}

async fn reported(cx: &Context, device: &DeviceId, report: &Report) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    let taken = match store::reports::report(&mut tx, device, report, cx.now_s()).await? {
        store::reports::Taken::New(taken) => taken,
        store::reports::Taken::Again => return Ok(()),
        store::reports::Taken::Jumped(last) => {
            drop(tx);
            let text = format!(
                "report number {} is too far ahead: the last one was {last}",
                report.sequence
            );
            return refuse_report(cx, device, Error::new(Code::Invalid, text)).await;
        }
    };
    let event = DomainEvent::DeviceReported(DeviceReport {
        fleet: taken.fleet,
        device: device.clone(),
        report: Box::new(report.clone()),
        received_offer: report.generation >= taken.generation,
        drift_since_s: taken.drift_since_s,
        alarm: taken.alarm,
    });
    let after = cx.emit(&mut tx, cx.now_s(), event).await?;
    tx.commit().await?;
    cx.publish(Event::Device { id: device.clone() });
    cx.dispatch(after);
    Ok(())
}

/// Refuses a report: the device gets a reason code, and the server shows an alarm until it accepts
/// a report, because until then the shown state of the device is stale.
async fn refuse_report(cx: &Context, device: &DeviceId, refused: Error) -> Result<(), Error> {
    let words = format!("the server refuses its reports: {}", Foreign::log(&refused.to_string()));
    let reason = AlarmKind::ReportsRefused.text(words);
    let mut tx = cx.db.write().await?;
    if store::reports::refuse_report(&mut tx, device, &reason).await? {
        let has_changed = alerts::alarmed(cx, &mut tx, device, &reason).await?;
        commit(cx, tx, device, has_changed).await?;
    }
    Err(refused)
}

/// The state from the database for a device that may begin a session.
pub struct Admitted {
    /// The stored state of its last session.
    pub session: Stored,
    /// Its desired state.
    pub desired: Box<DesiredState>,
    /// [`crate::hub::Hub::changes`] before that was read.
    pub changes: u64,
}

/// Authorises a device with this key: it is known, not revoked, and enrolled or renewed with this
/// key. Returns the stored state of its MQTT session, or `None` if it is not authorised. Only this
/// function decides, for both ports.
pub async fn admit(
    cx: &Context,
    device: &DeviceId,
    key_sha256: &str,
) -> Result<Option<Admitted>, Error> {
    let changes = cx.hub.changes();
    let Some(found) =
        store::admission::admission(cx.db.pool(), device).await?.filter(|a| a.revoked_s.is_none())
    else {
        return Ok(None);
    };
    let is_next = found.next_key_sha256.as_deref() == Some(key_sha256);
    if !is_next && found.key_sha256 != key_sha256 {
        return Ok(None);
    }
    if is_next {
        // First use of the new key: from now on the old key is refused everywhere.
        let replaced = match renewal::use_key(cx, device, key_sha256).await {
            Ok(replaced) => replaced,
            Err(e) if e.code() == Code::Forbidden => return Ok(None),
            Err(e) => return Err(e),
        };
        cx.grants.changed();
        if let Some(replaced) = replaced {
            cx.access.replace_key(replaced);
            cx.hub.kick(device);
        }
    }
    let session = found.session();
    let desired = Box::new(offers::permitted(cx, found.desired()?));
    Ok(Some(Admitted { session, desired, changes }))
}

/// The release that a device with this key may fetch.
///
/// # Errors
/// [`Code::Forbidden`] for a device that is revoked, or uses another key.
pub async fn offered(
    cx: &Context,
    device: &DeviceId,
    key_sha256: &str,
) -> Result<Option<ReleaseName>, Error> {
    let Some(Admitted { desired, .. }) = admit(cx, device, key_sha256).await? else {
        return Err(Error::new(Code::Forbidden, "this device is revoked, or its key was replaced")
            .and_close());
    };
    let release = desired.release;
    // The release may have been offered when the device had a higher level: check the level again.
    let may_have = release.is_none() || eligibility::may_keep_offer(cx, device).await?;
    Ok(release.filter(|_| may_have))
}

/// Stores the state of MQTT sessions that outlasts their connections.
pub async fn keep_sessions(
    cx: &Context,
    sessions: &HashMap<DeviceId, Stored>,
) -> Result<(), Error> {
    if sessions.is_empty() {
        return Ok(());
    }
    let mut tx = cx.db.write().await?;
    store::mqtt_sessions::set(&mut tx, sessions).await?;
    Ok(tx.commit().await?)
}

/// The desired state of a device, as sent by MQTT and by GET.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn desired(cx: &Context, device: &DeviceId) -> Result<DesiredState, Error> {
    let found = store::desired::desired(cx.db.pool(), device)
        .await?
        .ok_or_else(|| Error::not_found("device", device.as_str()))?;
    Ok(offers::permitted(cx, found))
}

/// Checks that a device is known and not revoked: the server stores nothing for a revoked device.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for a revoked device.
pub(crate) async fn in_service(tx: &mut Tx<'_>, device: &DeviceId) -> Result<(), Error> {
    match store::devices::existing(tx, &[device]).await?.get(device.as_str()) {
        None => Err(Error::not_found("device", device.as_str())),
        Some((_, true)) => Err(Error::new(Code::Conflict, format!("{device} is revoked"))
            .hint("release the hold, or enroll the device again, first")),
        Some((_, false)) => Ok(()),
    }
}

const CLONED: &str = "device.taken-over";

/// Records that a session of a device was taken over by another one, `turns` times recently. From
/// [`TURNS_MAX`] on, two clients use its certificate, and one of them is not the device.
pub async fn taken_over(cx: &Context, device: &DeviceId, turns: u32) -> Result<(), Error> {
    if turns < TURNS_MAX || !cx.alarms.is_new(CLONED, device.as_str()) {
        return Ok(());
    }
    let minutes = TURNS_S / 60;
    let text = AlarmKind::CertificateShared.text(format!(
        "two clients take turns with this device's certificate: {turns} sessions were taken over within {minutes} minutes; unless the \
         network is bad, revoke the device and enroll it again"
    ));
    tracing::warn!("{device}: {text}");
    let mut tx = cx.db.write().await?;
    store::devices::set_clone_alarm(&mut tx, device, &text).await?;
    let act = format!("{device} {turns} sessions in {minutes} minutes");
    cx.audit(&mut tx, Act::new("server", CLONED, &act)).await?;
    let has_changed = alerts::alarmed(cx, &mut tx, device, &text).await?;
    commit(cx, tx, device, has_changed).await
}

/// Commits a change of a device, and perhaps of an alert about it.
async fn commit(
    cx: &Context,
    mut tx: Tx<'_>,
    device: &DeviceId,
    has_changed_alerts: bool,
) -> Result<(), Error> {
    if has_changed_alerts {
        record(&mut tx, cx.now_s(), &[Event::Alerts]).await?;
    }
    cx.commit(tx, Event::Device { id: device.clone() }).await?;
    if has_changed_alerts {
        cx.publish(Event::Alerts);
    }
    Ok(())
}

/// Allows a device to try a version again after a rollback.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for a device that is revoked.
pub async fn forgive(
    cx: &Context,
    by: &Actor,
    device: &DeviceId,
    version: &Version,
) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    in_service(&mut tx, device).await?;
    let Some(desired) = store::desired::forgive(&mut tx, device, version).await? else {
        return Err(Error::not_found("device", device.as_str()));
    };
    cx.audit(&mut tx, by.act("device.forgive", format!("{device} {version}"))).await?;
    let mut after = After { desired: vec![(device.clone(), desired)], ..After::default() };
    // The penalty is over: the device may be offered the version at once.
    after.merge(policy::look_again(cx, &mut tx, device).await?);
    tx.commit().await?;
    cx.dispatch(after);
    Ok(())
}
