//! What reports, telemetry, connections and events of other areas mean for alerts.

use super::about::About;
use super::judge::{self, Judged};
use crate::context::Context;
use crate::error::Error;
use crate::events::{Appraised, Caused, DeviceReport, DomainEvent, FleetAppraisal};
use crate::reaction::Reacting;
use fleeti_core::alert::{Kind, Observation};
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::update::State;
use fleeti_core::wire::api::Event;
use fleeti_core::wire::device::Telemetry;
use fleeti_store::{self as store, Tx};
use std::collections::HashMap;

/// Reacts to events of other areas.
pub(crate) fn react<'a>(
    cx: &'a Context,
    tx: &'a mut Tx<'_>,
    event: &'a DomainEvent,
) -> Reacting<'a> {
    Box::pin(async move {
        let judged = match event {
            DomainEvent::DeviceReported(report) => reported(cx, tx, report).await?,
            DomainEvent::DevicesAppraised(appraisal) => appraised(cx, tx, appraisal).await?,
            DomainEvent::DeviceRevoked { device, .. } => revoked(cx, tx, device).await?,
            DomainEvent::ReleaseRevoked { .. }
            | DomainEvent::RolloutFinished { .. }
            | DomainEvent::AlertsTold { .. } => Judged::default(),
        };
        let mut caused = Caused::default();
        if judged.has_changed {
            caused.after.changes.push(Event::Alerts);
        }
        Ok(caused)
    })
}

/// How an update failed, in words.
fn failure(update: &State) -> Option<String> {
    match update {
        State::RolledBack { target, .. } => Some(format!("version {target} was rolled back")),
        State::Failed { target, code } => {
            Some(format!("version {target} could not be installed: {code:?}"))
        }
        State::Idle
        | State::Staging { .. }
        | State::Staged { .. }
        | State::Armed { .. }
        | State::Trying { .. }
        | State::Unconfirmed { .. } => None,
    }
}

/// A report: one read of the alerts about the device, and writes only where one of them changes.
async fn reported(cx: &Context, tx: &mut Tx<'_>, sent: &DeviceReport) -> Result<Judged, Error> {
    let DeviceReport { fleet, device, report, drift_since_s, alarm, .. } = sent;
    let (now_s, failed) = (cx.now_s(), failure(&report.update));
    let active = store::alerts::active(tx, device).await?;
    let observations = [
        Observation::LastSeen { seen_s: now_s, now_s },
        Observation::Drift { since_s: *drift_since_s, now_s },
        Observation::Update(failed.as_deref()),
        Observation::Alarm(alarm.as_deref()),
    ];
    let about = About::device_of(fleet, device);
    let judged = judge::observe(cx, tx, about, &observations, active).await?;
    // From now on its time counts again.
    if judged.ended.contains(&Kind::Offline) || *drift_since_s == Some(now_s) {
        store::alert_rules::watch_now(tx, device).await?;
    }
    Ok(judged)
}

async fn appraised(
    cx: &Context,
    tx: &mut Tx<'_>,
    appraisal: &FleetAppraisal,
) -> Result<Judged, Error> {
    let Appraised::Devices(changes) = &appraisal.devices else { return Ok(Judged::default()) };
    let devices: Vec<_> = changes.iter().map(|change| &change.device).collect();
    let mut active = by_device(store::alerts::active_of(tx, &devices).await?);
    let mut all = Judged::default();
    for change in changes {
        let rows = active.remove(&change.device).unwrap_or_default();
        let about = About::device_of(&appraisal.fleet, &change.device);
        let level = Observation::Level { before: change.before, now: change.now };
        let judged = judge::observe(cx, tx, about, &[level], rows).await?;
        all.has_changed |= judged.has_changed;
    }
    Ok(all)
}

/// Ends the alerts about a revoked device: nothing is expected of it.
async fn revoked(cx: &Context, tx: &mut Tx<'_>, device: &DeviceId) -> Result<Judged, Error> {
    let active = store::alerts::active(tx, device).await?;
    for row in &active {
        judge::end(cx, tx, row, "the device was revoked").await?;
    }
    Ok(Judged { has_changed: !active.is_empty(), ..Judged::default() })
}

/// Alerts by the device that they are about.
pub(super) fn by_device(
    rows: Vec<store::alerts::AlertRow>,
) -> HashMap<DeviceId, Vec<store::alerts::AlertRow>> {
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows {
        if let Some(device) = row.alert.device.clone() {
            all.entry(device).or_default().push(row);
        }
    }
    all
}

/// Judges telemetry of a device, in its transaction. Returns whether an alert changed.
pub async fn telemetry(
    cx: &Context,
    tx: &mut Tx<'_>,
    device: (&FleetId, &DeviceId),
    telemetry: &Telemetry,
) -> Result<bool, Error> {
    let now_s = cx.now_s();
    let percent = telemetry.data_used_kib.saturating_mul(100).checked_div(telemetry.data_total_kib);
    let seen = Observation::LastSeen { seen_s: now_s, now_s };
    let observations: Vec<_> =
        percent.map(Observation::Disk).into_iter().chain(std::iter::once(seen)).collect();
    let active = store::alerts::active(tx, device.1).await?;
    let about = About::device_of(device.0, device.1);
    let judged = judge::observe(cx, tx, about, &observations, active).await?;
    if judged.ended.contains(&Kind::Offline) {
        store::alert_rules::watch_now(tx, device.1).await?;
    }
    Ok(judged.has_changed)
}

/// Judges an alarm that the server raises about a device, in its transaction. Returns whether an
/// alert changed.
///
/// # Errors
/// When the database does not answer.
pub async fn alarmed(
    cx: &Context,
    tx: &mut Tx<'_>,
    device: &DeviceId,
    words: &str,
) -> Result<bool, Error> {
    let Some(fleet) = store::devices::fleet_of(cx.db.pool(), device).await? else {
        return Ok(false);
    };
    let active = store::alerts::active(tx, device).await?;
    let about = About::device_of(&fleet, device);
    let seen = [Observation::Alarm(Some(words))];
    Ok(judge::observe(cx, tx, about, &seen, active).await?.has_changed)
}

/// Counts a connection of a device, and judges it once it has connected often.
///
/// # Errors
/// When the database does not answer.
pub async fn connected(cx: &Context, device: &DeviceId) -> Result<(), Error> {
    let count = cx.alerts.connected(device, cx.now_s());
    if cx.alerts.lowest(Kind::Flapping).is_none_or(|lowest| count < lowest) {
        return Ok(());
    }
    let Some(fleet) = store::devices::fleet_of(cx.db.pool(), device).await? else { return Ok(()) };
    let mut tx = cx.db.write().await?;
    let active = store::alerts::active(&mut tx, device).await?;
    let about = About::device_of(&fleet, device);
    let seen = [Observation::Connections(count)];
    let judged = judge::observe(cx, &mut tx, about, &seen, active).await?;
    if judged.has_changed {
        cx.commit(tx, Event::Alerts).await?;
    }
    Ok(())
}
