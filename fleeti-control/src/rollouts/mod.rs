//! Rollouts: loads the header of a rollout and the rows that an event is about, steps them
//! (`core::rollout`), and stores the result. A report costs the same in every fleet.
//!
//! Code map: `request` (what may be asked for) · `select` (filters and budgets of plans) · `groups`
//! (places in groups) · `path` (floors and blocked ways) · `forecast` (what a rollout would come to) · `change`
//! (steps and stores) · `gate` (webhooks that are asked) · `chunks` (work on all devices) · `task` (does it) · `waves` (what time
//! brings) · `stop` (pauses all) · `succession` (what follows a rollout) · `way_back` (the release before) · `reactions`
//! (events of other areas).

mod change;
mod chunks;
mod forecast;
pub mod gate;
mod groups;
pub mod path;
mod reactions;
mod request;
mod select;
pub(crate) mod state;
mod stop;
mod succession;
pub(crate) mod task;
mod waves;
mod way_back;

use crate::accounts::actor::{Actor, Scope};
use crate::attestation::policy;
use crate::clock::new_id;
use crate::context::{Context, ContextRef};
use crate::cursor::{Asked, Last, Page};
use crate::error::Error;
use crate::events::After;
use crate::{boot, guard, releases};
pub use change::CHUNK;
pub(crate) use change::urgent_until_s;
use change::{Change, rejected};
use fleeti_core::foreign::Foreign;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::rollout::device::Device;
use fleeti_core::rollout::header;
use fleeti_core::rollout::plan::{Start, Wave};
use fleeti_core::rollout::waves::Waves;
use fleeti_core::rollout::{Category, DevicePhase, Phase};
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::api::{
    CreateRollout, NextWave, REASON_MAX, Rollout, RolloutDevice, RolloutQuery, RolloutSummary,
};
use fleeti_core::wire::list::RolloutsQuery;
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::Act;
use fleeti_store::rollouts::StoredRollout;
use fleeti_store::{self as store, Tx};
pub use forecast::forecast;
pub(crate) use reactions::react;
pub use state::Question;
pub use stop::pause_all;

/// Number of devices in a page without a limit.
const PAGE: u32 = 100;
/// Maximum number of devices in a page.
pub const PAGE_MAX: u32 = 1000;

/// Starts a rollout to a fleet. A large fleet joins in chunks: the rollout is then `starting` when
/// this returns.
///
/// # Errors
/// [`Code::Invalid`] for a plan that is refused; [`Code::NotFound`] for a release that is not
/// published; [`Code::SecondPerson`]; [`Code::Conflict`] for a fleet without devices, or with another
/// active rollout.
pub async fn start(
    cx: &ContextRef,
    by: &Actor,
    request: &CreateRollout,
) -> Result<RolloutSummary, Error> {
    by.authorize(Permission::Rollout, Scope::Fleet(&request.fleet))?;
    guard::start(cx, by, request).await?;
    releases::get(cx, &request.release).await?;
    let mut tx = cx.db.write().await?;
    check(cx, &mut tx, request).await?;
    let rollout = asked_for(cx, request);
    let entry = by.act("rollout.start", words(&rollout));
    store::rollouts::insert(&mut tx, &rollout).await?;
    let begun = succession::begin(cx, &mut tx, rollout).await?;
    let summary = done(cx, tx, begun, entry).await?;
    boot::sign_ahead(cx, request.fleet.clone(), request.release.clone());
    Ok(summary)
}

/// Starts a rollout in place of one that is active in its fleet. That one is aborted; the new one
/// begins when its last offer is withdrawn, and is `ready` until then.
///
/// # Errors
/// As [`start`]; [`Code::NotFound`]; [`Code::Conflict`] for a rollout that has ended or is of another
/// fleet.
pub async fn supersede(
    cx: &ContextRef,
    by: &Actor,
    id: &str,
    request: &CreateRollout,
) -> Result<RolloutSummary, Error> {
    by.authorize(Permission::Rollout, Scope::Fleet(&request.fleet))?;
    guard::start(cx, by, request).await?;
    releases::get(cx, &request.release).await?;
    let mut tx = cx.db.write().await?;
    let before = load(&mut tx, id).await?;
    if before.header.phase.is_terminal() || before.header.phase == Phase::Ready {
        let text =
            format!("rollout {id} is {}: there is nothing to supersede", before.header.phase);
        return Err(Error::new(Code::Conflict, text).hint("use `fleeti rollout start`"));
    }
    if before.fleet != request.fleet {
        let text = format!("rollout {id} is of fleet {}, not of {}", before.fleet, request.fleet);
        return Err(Error::new(Code::Conflict, text));
    }
    request::check(cx, &mut tx, request).await?;
    let rollout = asked_for(cx, request);
    let entry = by.act("rollout.supersede", format!("{id} {}", words(&rollout)));
    let begun = succession::follow(cx, &mut tx, before, rollout).await?;
    let summary = done(cx, tx, begun, entry).await?;
    boot::sign_ahead(cx, request.fleet.clone(), request.release.clone());
    Ok(summary)
}

/// Takes the devices of a rollout back to the release that most of them ran before, by another
/// rollout. An active one is aborted first. A device switches to its other slot; no image is
/// downloaded.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Invalid`] for a reason that is empty or too long; [`Code::Conflict`]
/// for a rollout without an older release to go back to, or whose fleet has another active one.
pub async fn roll_back(
    cx: &Context,
    by: &Actor,
    id: &str,
    request: &NextWave,
) -> Result<RolloutSummary, Error> {
    let reason = checked_reason(&request.reason)?;
    if request.over_gate {
        return Err(Error::new(Code::Invalid, "over_gate: a way back has no gate"));
    }
    let conflict = |text: String| Error::new(Code::Conflict, text);
    let mut tx = cx.db.write().await?;
    let mut before = load(&mut tx, id).await?;
    if let Some(next) = &before.next {
        let next = load(&mut tx, next).await?;
        // One that never began took nobody back.
        if next.header.phase != Phase::Aborted || next.header.counts.total > 0 {
            return Err(conflict(format!("rollout {} follows {id} already", next.id)));
        }
    }
    request::check_pin(&mut tx, &before.fleet).await?;
    let active = store::rollouts::active_in(&mut tx, &before.fleet).await?;
    if let Some(other) = active.filter(|other| other.id != id) {
        return Err(conflict(format!("rollout {} is active in fleet {}", other.id, other.fleet))
            .hint("abort it with `fleeti rollout abort`"));
    }
    let Some(back) = way_back::of(&mut tx, &before, cx.now_s()).await? else {
        let text = format!("no device of rollout {id} ran an older release that is not revoked");
        return Err(
            conflict(text).hint("abort it: devices that have not started keep what they run")
        );
    };
    let subject = format!("{id} {} {} {}", back.id, back.release, Foreign::log(reason));
    if before.header.phase.is_terminal() {
        before.next = Some(back.id.clone());
        store::rollouts::set(&mut tx, &before).await?;
    }
    let begun = succession::follow(cx, &mut tx, before, back).await?;
    done(cx, tx, begun, by.act("rollout.roll-back", &subject)).await
}

async fn load(tx: &mut Tx<'_>, id: &str) -> Result<StoredRollout, Error> {
    store::rollouts::load(tx, id).await?.ok_or_else(|| Error::not_found("rollout", id))
}

/// What is asked for, ready to begin.
fn asked_for(cx: &Context, request: &CreateRollout) -> StoredRollout {
    let CreateRollout { release, fleet, plan, urgent } = request.clone();
    let urgent = urgent.map(|urgent| urgent.reason.trim().to_owned());
    let ready = StoredRollout::ready(new_id("rollout"), fleet, release, cx.now_s());
    StoredRollout { plan, urgent, ..ready }
}

/// Records the act and makes it durable.
async fn done(
    cx: &Context,
    mut tx: Tx<'_>,
    (summary, after): (RolloutSummary, After),
    entry: Act,
) -> Result<RolloutSummary, Error> {
    cx.audit(&mut tx, entry).await?;
    tx.commit().await?;
    cx.dispatch(after);
    Ok(summary)
}

/// Checks that a rollout may start.
async fn check(cx: &Context, tx: &mut Tx<'_>, request: &CreateRollout) -> Result<(), Error> {
    request::check(cx, tx, request).await?;
    if let Some(other) = store::rollouts::active_in(tx, &request.fleet).await? {
        let StoredRollout { id, release, header, fleet, .. } = other;
        let text = format!("rollout {id} of {release} is {} in fleet {fleet}", header.phase);
        return Err(Error::new(Code::Conflict, text)
            .hint("wait for it to end, or abort it with `fleeti rollout abort`"));
    }
    Ok(())
}

/// A rollout and its waves, for the audit log.
fn words(rollout: &StoredRollout) -> String {
    let StoredRollout { id, release, fleet, plan, urgent, .. } = rollout;
    let waves = plan.iter().flat_map(|plan| &plan.waves);
    let size = |wave: &Wave| format!(" wave {}", Foreign::log(&wave.size.to_string()));
    let waves: String = waves.map(size).collect();
    let budget = plan.as_ref().and_then(|plan| plan.budget.as_ref());
    let budget = budget.map_or_else(String::new, |budget| format!(" budget {budget}"));
    let urgent =
        urgent.as_ref().map_or_else(String::new, |why| format!(" urgent: {}", Foreign::log(why)));
    let gate = plan.as_ref().and_then(|plan| plan.gate.as_ref());
    let gate = gate.map_or_else(String::new, |gate| format!(" gate {gate}"));
    format!("{id} {release} {fleet}{waves}{budget}{gate}{urgent}")
}

/// A reason for the audit log.
pub(crate) fn checked_reason(reason: &str) -> Result<&str, Error> {
    let reason = reason.trim();
    let length = reason.chars().count();
    if !(1..=REASON_MAX).contains(&length) {
        let text = format!("reason has {length} characters, must have 1 to {REASON_MAX}");
        return Err(Error::new(Code::Invalid, text));
    }
    Ok(reason)
}

/// Pauses a rollout: it offers the release to no other device, and withdraws its offers from those
/// that have not rebooted into it. In a large fleet it is `pausing` when this returns.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for a rollout that is not running.
pub async fn pause(cx: &Context, by: &Actor, id: &str) -> Result<RolloutSummary, Error> {
    act(cx, id, header::Event::Pause, by.act("rollout.pause", id)).await
}

/// Resumes a rollout that is paused, and accepts its errors so far.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for a rollout that is not paused.
pub async fn resume(cx: &Context, by: &Actor, id: &str) -> Result<RolloutSummary, Error> {
    act(cx, id, header::Event::Resume, by.act("rollout.resume", id)).await
}

/// Begins the next wave of a rollout, whatever it waits for. A webhook gate is asked first, unless the
/// request passes over it.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Invalid`] for a reason that is empty or too long;
/// [`Code::Conflict`] for a rollout without waves, whose current wave has devices that update, or whose
/// webhook gate has not allowed the wave; [`Code::SecondPerson`] for a wave that waits for the approval
/// of one, and to pass over the gate where a start of the rollout needs one.
pub async fn next(
    cx: &Context,
    by: &Actor,
    id: &str,
    request: &NextWave,
) -> Result<RolloutSummary, Error> {
    begin_wave(cx, by, (id, None), request).await
}

/// As [`next`], and only this wave, from 0: what was approved.
pub(crate) async fn begin_wave(
    cx: &Context,
    by: &Actor,
    (id, only): (&str, Option<u32>),
    request: &NextWave,
) -> Result<RolloutSummary, Error> {
    let (reason, over_gate) = (Foreign::log(checked_reason(&request.reason)?), request.over_gate);
    if over_gate {
        // The second person approved a rollout that has a gate.
        let rollout = found(cx, id).await?;
        guard::begin(cx, by, (&rollout.fleet, rollout.urgent.is_some())).await?;
    }
    let mut tx = cx.db.write().await?;
    let rollout = load(&mut tx, id).await?;
    let over = if over_gate { over_words(&rollout) } else { String::new() };
    let subject = format!("{id} {reason}{over}");
    let wave = rollout.header.waves.as_ref().map_or(0, Waves::next);
    if only.is_some_and(|only| only != wave) {
        let text = format!("rollout {id} has gone on since the request");
        return Err(Error::new(Code::Conflict, text).hint("request the wave that is next"));
    }
    let plan = rollout.plan.as_ref();
    let start = plan.and_then(|plan| plan.waves.get(wave as usize)).map(|wave| wave.start);
    if start == Some(Start::ByApproval) {
        guard::wave(by, wave)?;
    }
    let entry = by.act("rollout.next", &subject);
    acted(cx, tx, rollout, (header::Event::Next { over_gate }, entry)).await
}

/// The gate that an operator passes over, and what it said, for the audit log.
fn over_words(rollout: &StoredRollout) -> String {
    let Some(gate) = rollout.plan.as_ref().and_then(|plan| plan.gate.as_ref()) else {
        return String::new();
    };
    let asked = rollout.header.waves.as_ref().and_then(|waves| waves.waits_for_gate());
    let said = asked.map_or_else(|| "it was not asked".to_owned(), |asked| asked.words());
    // Last, where the text of another party is cut first.
    format!(" over gate {gate} ({said})")
}

/// Number of the wave of a rollout, from 0, that begins if an operator goes on now, and its fleet.
pub(crate) async fn next_wave(cx: &Context, id: &str) -> Result<(u32, FleetId), Error> {
    let rollout = found(cx, id).await?;
    Ok((rollout.header.waves.as_ref().map_or(0, Waves::next), rollout.fleet))
}

async fn found(cx: &Context, id: &str) -> Result<StoredRollout, Error> {
    let found = store::rollouts::get(cx.db.pool(), id).await?;
    found.ok_or_else(|| Error::not_found("rollout", id))
}

/// Aborts a rollout. Devices that have not started the update keep what they run. The offers of a
/// large fleet are withdrawn in chunks: the rollout is then `aborting` when this returns.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for a rollout that has ended.
pub async fn abort(cx: &Context, by: &Actor, id: &str) -> Result<RolloutSummary, Error> {
    act(cx, id, header::Event::Abort, by.act("rollout.abort", id)).await
}

/// What an operator does with a rollout. The first chunk is in the same transaction.
async fn act(
    cx: &Context,
    id: &str,
    event: header::Event,
    entry: Act,
) -> Result<RolloutSummary, Error> {
    let mut tx = cx.db.write().await?;
    let rollout = load(&mut tx, id).await?;
    acted(cx, tx, rollout, (event, entry)).await
}

async fn acted(
    cx: &Context,
    mut tx: Tx<'_>,
    rollout: StoredRollout,
    (event, entry): (header::Event, Act),
) -> Result<RolloutSummary, Error> {
    let mut change = Change::of(rollout, cx.now_s());
    change.header(event).map_err(rejected)?;
    let policy = policy::of(cx, &change.rollout.fleet);
    chunks::work(&mut tx, &mut change, &policy).await?;
    let summary = RolloutSummary::from(&change.rollout);
    let caused = change.store(cx, &mut tx).await?;
    let after = cx.emit_all(&mut tx, cx.now_s(), caused).await?;
    done(cx, tx, (summary, after), entry).await
}

/// The newest rollouts that the actor may see, without their devices.
pub async fn summaries(cx: &Context, by: &Actor, limit: u32) -> Result<Vec<RolloutSummary>, Error> {
    let fleets = by.fleets(Permission::View);
    Ok(store::rollouts::summaries(cx.db.pool(), fleets.as_deref(), limit).await?)
}

/// A page of rollouts that the actor may see, newest first, without their devices.
///
/// # Errors
/// [`Code::Forbidden`] for a fleet that the actor may not see; [`Code::Malformed`] for a cursor that is
/// not one.
pub async fn page(
    cx: &Context,
    by: &Actor,
    query: &RolloutsQuery,
) -> Result<Page<RolloutSummary>, Error> {
    let RolloutsQuery { fleet, cursor, limit } = query;
    let filter = fleet.as_ref().map_or("", FleetId::as_str);
    let asked = Asked { list: ("rollouts", filter), cursor: cursor.as_deref(), limit: *limit };
    let after = asked.after(cx)?;
    let fleets = match fleet {
        Some(fleet) => {
            by.authorize(Permission::View, Scope::Fleet(fleet))?;
            Some(vec![fleet])
        }
        None => by.fleets(Permission::View),
    };
    let limit = asked.rows()?;
    let rows =
        store::rollouts::page(cx.db.pool(), fleets.as_deref(), after.as_ref(), limit).await?;
    asked.page(cx, rows, |rollout| Last { at_s: rollout.created_s, id: rollout.id.clone() })
}

/// The rollout of a fleet that has begun and not ended.
pub async fn active_in(cx: &Context, fleet: &FleetId) -> Result<Option<RolloutSummary>, Error> {
    let found = store::rollouts::active_in(&mut cx.db.reader().await?, fleet).await?;
    Ok(found.as_ref().map(RolloutSummary::from))
}

/// The fleet of a rollout.
pub async fn fleet_of(cx: &Context, id: &str) -> Result<Option<FleetId>, Error> {
    let found = store::rollouts::get(cx.db.pool(), id).await?;
    Ok(found.map(|rollout| rollout.fleet))
}

/// One rollout, with a page of its devices, ordered by id.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Invalid`] for an invalid limit.
pub async fn get(cx: &Context, id: &str, query: &RolloutQuery) -> Result<Rollout, Error> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        let text = format!("limit is {limit}, must be 1 to {PAGE_MAX}");
        return Err(Error::new(Code::Invalid, text));
    }
    let summary = summary(cx, id).await?;
    let after = query.after.as_ref().map_or("", DeviceId::as_str);
    let rows = store::rollout_devices::page(cx.db.pool(), id, query.category, after, limit).await?;
    let next = rows.last().filter(|_| rows.len() == limit as usize).map(|(last, _)| last.clone());
    with_devices(cx, summary, (rows, next)).await
}

/// As [`get`], but without a filter the devices that need attention most, whatever their id.
///
/// # Errors
/// As [`get`].
pub async fn shown(cx: &Context, id: &str, query: &RolloutQuery) -> Result<Shown, Error> {
    let troubles = store::rollout_devices::troubles(cx.db.pool(), id).await?;
    Ok(Shown { rollout: attention(cx, id, query).await?, troubles, now_s: cx.now_s() })
}

/// What the page of a rollout shows.
#[derive(Debug)]
pub struct Shown {
    /// The rollout, with a page of its devices.
    pub rollout: Rollout,
    /// Devices that do not run its release, counted by phase, most first.
    pub troubles: Vec<(DevicePhase, usize)>,
    /// Now, Unix seconds.
    pub now_s: u64,
}

async fn attention(cx: &Context, id: &str, query: &RolloutQuery) -> Result<Rollout, Error> {
    if query.category.is_some() || query.after.is_some() {
        return get(cx, id, query).await;
    }
    let limit = query.limit.unwrap_or(PAGE);
    let summary = summary(cx, id).await?;
    let mut rows = Vec::new();
    for category in Category::ALL {
        let left = limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(limit));
        if left > 0 && summary.counts.of(category) > 0 {
            let pool = cx.db.pool();
            rows.extend(store::rollout_devices::page(pool, id, Some(category), "", left).await?);
        }
    }
    with_devices(cx, summary, (rows, None)).await
}

async fn summary(cx: &Context, id: &str) -> Result<RolloutSummary, Error> {
    let found = store::rollouts::get(cx.db.pool(), id).await?;
    Ok(RolloutSummary::from(&found.ok_or_else(|| Error::not_found("rollout", id))?))
}

/// Adds a page of devices and, to an urgent rollout, how far it is.
async fn with_devices(
    cx: &Context,
    summary: RolloutSummary,
    (rows, next): (Vec<(DeviceId, Device)>, Option<DeviceId>),
) -> Result<Rollout, Error> {
    let RolloutSummary { id, release, urgent, .. } = &summary;
    let urgent_counts = match urgent {
        Some(_) => Some(store::rollout_devices::urgent_counts(cx.db.pool(), id, release).await?),
        None => None,
    };
    let RolloutSummary { id, fleet, created_s, release, phase, counts, .. } = summary;
    let RolloutSummary { plan, waves, follows, back_of, urgent, .. } = summary;
    let devices = rows
        .into_iter()
        .map(|(device, Device { phase, since_s, wave, via, retries, group })| RolloutDevice {
            device,
            phase,
            since_s,
            wave,
            via,
            retries: (retries > 0).then_some(retries),
            group,
        })
        .collect();
    Ok(Rollout {
        id,
        fleet,
        created_s,
        release,
        phase,
        counts,
        plan,
        waves,
        follows,
        back_of,
        urgent,
        urgent_counts,
        devices,
        next,
    })
}
