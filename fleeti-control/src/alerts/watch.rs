//! What time brings: devices that are due, the server itself, silences that end, and messages.
//!
//! `devices.watch_s` is when a device must be looked at next, so a tick reads the devices that are
//! due by one index, however large the fleet is. Reports and telemetry do not write it: a device
//! that is due and was seen meanwhile is put off.

use super::about::About;
use super::reactions::by_device;
use super::{fixes, judge};
use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::events::{After, DomainEvent};
use crate::health;
use fleeti_core::alert::{Kind, Observation};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::alerts::{AlertMessage, NAMED_MAX};
use fleeti_core::wire::api::Event;
use fleeti_store::alert_rules::{Watch, Watched};
use fleeti_store::alerts::{AlertRow, Counted, Group};
use fleeti_store::{self as store, Tx};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(10);
/// Maximum number of devices in a transaction.
const CHUNK: u32 = 200;
/// Maximum number of chunks of one look; the rest waits for the next one.
const CHUNKS_MAX: usize = 50;
/// A device is looked at at least this often, seconds: rules of time are not the only reason.
const AGAIN_S_MAX: u64 = 7 * 86_400;
/// A device with an open alert of time is looked at again after this time, seconds.
const OPEN_AGAIN_S: u64 = 6 * 3600;
/// Resolved alerts are kept for this time, seconds.
const KEPT_S: u64 = 90 * 86_400;

/// Looks until the task is aborted.
pub(crate) async fn run(cx: ContextRef) {
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = clock.tick() => {}
            () = cx.alerts.woken() => {}
        }
        if let Err(e) = look(&cx).await {
            tracing::error!("alerts wait: {}", e.for_log());
        }
    }
}

/// Looks at what is due now.
///
/// # Errors
/// When the database does not answer.
pub async fn look(cx: &Context) -> Result<(), Error> {
    sweep(cx).await?;
    for _ in 0..CHUNKS_MAX {
        if devices(cx).await? < CHUNK as usize {
            break;
        }
    }
    server(cx).await?;
    flapping(cx).await?;
    silences(cx).await?;
    messages(cx).await?;
    prune(cx).await?;
    // Reads files of builds and the index. Nothing waits for it.
    fixes::look(cx).await
}

async fn sweep(cx: &Context) -> Result<(), Error> {
    while store::alert_rules::is_sweeping(&mut cx.db.reader().await?).await? {
        let mut tx = cx.db.write().await?;
        store::alert_rules::sweep(&mut tx, 10 * CHUNK).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Looks at the next devices that are due. Returns their number.
async fn devices(cx: &Context) -> Result<usize, Error> {
    let now_s = cx.now_s();
    let due = store::alert_rules::watched(&mut cx.db.reader().await?, now_s, CHUNK).await?;
    if due.is_empty() {
        return Ok(0);
    }
    let mut tx = cx.db.write().await?;
    let ids: Vec<_> = due.iter().map(|watched| &watched.device).collect();
    let mut active = by_device(store::alerts::active_of(&mut tx, &ids).await?);
    let (mut watches, mut has_changed) = (Vec::with_capacity(due.len()), false);
    for watched in &due {
        let rows = active.remove(&watched.device).unwrap_or_default();
        let (watch, changed) = device(cx, &mut tx, watched, rows).await?;
        watches.push(watch);
        has_changed |= changed;
    }
    store::alert_rules::set_watches(&mut tx, &watches).await?;
    if has_changed {
        cx.commit(tx, Event::Alerts).await?;
    } else {
        tx.commit().await?;
    }
    Ok(due.len())
}

/// Looks at one device. Returns when to look again, and whether an alert changed.
async fn device(
    cx: &Context,
    tx: &mut Tx<'_>,
    watched: &Watched,
    active: Vec<AlertRow>,
) -> Result<(Watch, bool), Error> {
    let now_s = cx.now_s();
    let is_online = cx.hub.is_online(&watched.device);
    let seen_s = if is_online { now_s } else { watched.last_seen_s.max(cx.alerts.started_s) };
    let drifts = watched.desired.is_some() && watched.desired != watched.running;
    let drift_since_s = drifts.then(|| watched.drift_since_s.unwrap_or(now_s));
    let has_open = !active.is_empty();
    let observations = [
        Observation::LastSeen { seen_s, now_s },
        Observation::Drift { since_s: drift_since_s, now_s },
        Observation::Certificate { ends_s: watched.certificate_not_after_s, now_s },
    ];
    let about = About::device_of(&watched.fleet, &watched.device);
    let judged = judge::observe(cx, tx, about, &observations, active).await?;
    let latest_s = now_s + if has_open || judged.has_changed { OPEN_AGAIN_S } else { AGAIN_S_MAX };
    let watch_s = judged.again_s.map_or(latest_s, |again_s| again_s.clamp(now_s + 1, latest_s));
    let watch = Watch { device: watched.device.clone(), watch_s, drift_since_s };
    Ok((watch, judged.has_changed))
}

/// Judges the server itself.
async fn server(cx: &Context) -> Result<(), Error> {
    let observations = [
        Observation::Crl(cx.access.crl_ends_s().saturating_sub(cx.now_s())),
        Observation::WaitingActs(health::waiting_acts(cx)),
    ];
    let mut tx = cx.db.write().await?;
    let active = store::alerts::active_of_fleet(&mut tx, None).await?;
    let judged = judge::observe(cx, &mut tx, About::SERVER, &observations, active).await?;
    if judged.has_changed {
        cx.commit(tx, Event::Alerts).await?;
    }
    Ok(())
}

/// Ends alerts about devices that do not connect so often any more.
async fn flapping(cx: &Context) -> Result<(), Error> {
    for rule in cx.alerts.rules().iter().filter(|rule| rule.kind == Kind::Flapping) {
        let rows =
            store::alerts::active_of_rule(&mut cx.db.reader().await?, &rule.id, CHUNK).await?;
        for row in rows {
            let Some(device) = &row.alert.device else { continue };
            if cx.alerts.connections(device, cx.now_s()) >= rule.threshold {
                continue;
            }
            let mut tx = cx.db.write().await?;
            judge::end(cx, &mut tx, &row, "").await?;
            cx.commit(tx, Event::Alerts).await?;
        }
    }
    Ok(())
}

/// Tells of alerts whose silence has ended and that still hold.
async fn silences(cx: &Context) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    let ended = store::alerts::silence_ended(&mut tx, cx.now_s(), CHUNK).await?;
    if ended.is_empty() {
        return Ok(());
    }
    for AlertRow { mut alert, .. } in ended {
        alert.silenced_until_s = None;
        store::alerts::update(&mut tx, &alert).await?;
        judge::tell(cx, &mut tx, &alert, Counted { raised: 1, resolved: 0 }).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Sends the messages that are due, as domain events.
async fn messages(cx: &Context) -> Result<(), Error> {
    let groups = store::alerts::due_groups(&mut cx.db.reader().await?, cx.now_s(), CHUNK).await?;
    for group in groups {
        let (mut tx, mut after) = (cx.db.write().await?, After::default());
        let Counted { raised, resolved } = group.counted;
        for (are_resolved, count) in [(false, raised), (true, resolved)] {
            if count == 0 {
                continue;
            }
            let found = message(&mut tx, &group, are_resolved, count).await?;
            let Some(message) = found.map(Box::new) else { continue };
            let event = DomainEvent::AlertsTold { are_resolved, message };
            after.merge(cx.emit(&mut tx, cx.now_s(), event).await?);
        }
        store::alerts::group_sent(&mut tx, &group, cx.now_s()).await?;
        tx.commit().await?;
        cx.dispatch(after);
    }
    Ok(())
}

/// The message about a group; `None` if none of its alerts is left.
async fn message(
    tx: &mut Tx<'_>,
    group: &Group,
    are_resolved: bool,
    count: u32,
) -> Result<Option<AlertMessage>, Error> {
    let limit = NAMED_MAX.min(count);
    let mut rows = store::alerts::newest_of_group(tx, group, are_resolved, limit).await?;
    if rows.is_empty() {
        // They have ended meanwhile, or begun again.
        rows = store::alerts::newest_of_group(tx, group, !are_resolved, limit).await?;
    }
    let Some(newest) = rows.first().map(|row| row.alert.clone()) else { return Ok(None) };
    let since_s = rows.iter().map(|row| row.alert.since_s).min();
    let devices: Vec<DeviceId> = rows.into_iter().filter_map(|row| row.alert.device).collect();
    Ok(Some(AlertMessage {
        rule: newest.rule,
        kind: newest.kind,
        severity: newest.severity,
        fleet: newest.fleet,
        count: count.into(),
        devices,
        detail: newest.detail,
        since_s,
    }))
}

async fn prune(cx: &Context) -> Result<(), Error> {
    let before_s = cx.now_s().saturating_sub(KEPT_S);
    let mut tx = cx.db.write().await?;
    if store::alerts::prune(&mut tx, before_s, CHUNK).await? > 0 {
        tx.commit().await?;
    }
    Ok(())
}
