//! Builds with refreshed packages at times that an administrator sets.
//!
//! A schedule is due once each time that its window opens. A window that passed while the server did
//! not run, or while the last build had not ended, is left out, and said: the next one follows.

use super::{admit, get as build, queue};
use crate::accounts::actor::Actor;
use crate::changes::record::record;
use crate::clock::new_id;
use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::profiles;
use fleeti_core::id::Line;
use fleeti_core::wire::api::{BuildPhase, CreateBuild, Event};
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::refresh::{LastRefresh, RefreshSchedule, SetRefreshSchedule};
use fleeti_store as store;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(30);
/// Maximum number of schedules in a look.
const CHUNK: u32 = 16;

/// The schedule of a line.
///
/// # Errors
/// [`Code::NotFound`] if it has none.
pub async fn get(cx: &Context, line: &Line) -> Result<RefreshSchedule, Error> {
    find(cx, line).await?.ok_or_else(|| none(line))
}

/// The schedule of a line; `None` if it has none.
pub async fn find(cx: &Context, line: &Line) -> Result<Option<RefreshSchedule>, Error> {
    Ok(store::refresh_schedules::get(&mut cx.db.reader().await?, line).await?)
}

fn none(line: &Line) -> Error {
    Error::not_found("refresh schedule", line.as_str())
        .hint("set one with `fleeti profile refresh-schedule LINE WINDOW`")
}

/// Sets the schedule of a line, in place of an earlier one.
///
/// # Errors
/// [`Code::NotFound`] if no profile of the line is saved; [`Code::Invalid`] for a window that does not
/// open, or that says how long a job takes.
pub async fn set(
    cx: &Context,
    by: &Actor,
    line: &Line,
    request: &SetRefreshSchedule,
) -> Result<RefreshSchedule, Error> {
    let (window, set_by) = (request.window.clone(), by.account().to_owned());
    if window.has_fits() {
        let text = "the window ends with `fits`, which counts for updates of devices only";
        return Err(Error::new(Code::Invalid, text).hint("leave `fits` out"));
    }
    let next_s = window.begins_after(cx.now_s()).ok_or_else(|| never(&window.to_string()))?;
    let mut tx = cx.db.write().await?;
    if store::revisions::newest_in(&mut tx, line).await?.is_none() {
        return Err(Error::not_found("profile", line.as_str()));
    }
    // What is due stays due.
    let earlier = store::refresh_schedules::get(&mut tx, line).await?;
    let next_s = earlier.filter(|e| e.window == window).map_or(next_s, |e| e.next_s);
    let schedule = RefreshSchedule { line: line.clone(), window, next_s, set_by, last: None };
    store::refresh_schedules::set(&mut tx, &schedule).await?;
    let subject = format!("{line} {}", schedule.window);
    cx.audit(&mut tx, by.act("refresh-schedule.set", subject)).await?;
    cx.commit(tx, Event::Profile { line: line.clone() }).await?;
    get(cx, line).await
}

fn never(window: &str) -> Error {
    Error::new(Code::Invalid, format!("the window {window} does not open within two weeks"))
}

/// Removes the schedule of a line.
///
/// # Errors
/// [`Code::NotFound`] if it has none.
pub async fn remove(cx: &Context, by: &Actor, line: &Line) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    if !store::refresh_schedules::remove(&mut tx, line).await? {
        return Err(none(line));
    }
    cx.audit(&mut tx, by.act("refresh-schedule.remove", line.as_str())).await?;
    cx.commit(tx, Event::Profile { line: line.clone() }).await
}

/// Looks until the task is aborted.
pub(crate) async fn run(cx: ContextRef) {
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        if let Err(e) = look(&cx).await {
            tracing::warn!("builds that are due wait: {}", e.for_log());
        }
    }
}

/// Queues some builds that are due. What fails of one schedule does not keep the others waiting.
///
/// # Errors
/// When the database does not answer.
pub async fn look(cx: &Context) -> Result<(), Error> {
    for line in store::refresh_schedules::due(cx.db.pool(), cx.now_s(), CHUNK).await? {
        if let Err(e) = look_at(cx, &line).await {
            // It stays due.
            tracing::warn!(%line, "no build with refreshed packages yet: {}", e.for_log());
        }
    }
    Ok(())
}

async fn look_at(cx: &Context, line: &Line) -> Result<(), Error> {
    let due = get(cx, line).await?;
    if !due.window.is_open(cx.now_s()) {
        return leave_out(cx, &due, &missed(&due)).await;
    }
    match request(cx, &due).await {
        Ok(request) => begin(cx, &due, request).await,
        // There may be room before the window ends.
        Err(e) if e.code() == Code::Full => keep_problem(cx, &due, due.next_s, e.detail()).await,
        Err(e) if matches!(e.code(), Code::NotFound | Code::Invalid | Code::Conflict) => {
            leave_out(cx, &due, e.detail()).await
        }
        Err(e) => Err(e),
    }
}

/// Why no build began, once the window has ended.
fn missed(due: &RefreshSchedule) -> String {
    let last = due.last.as_ref().filter(|last| last.at_s >= due.next_s);
    match last.and_then(|last| last.problem.as_deref()) {
        Some(problem) => problem.to_owned(),
        None => "no build could begin while the window was open".to_owned(),
    }
}

/// The build that is due. Its version is not final.
async fn request(cx: &Context, due: &RefreshSchedule) -> Result<CreateBuild, Error> {
    if let Some(id) = due.last.as_ref().and_then(|last| last.build.as_deref())
        && matches!(build(cx, id).await?.phase, BuildPhase::Queued | BuildPhase::Running)
    {
        return Err(Error::new(Code::Conflict, format!("{id} has not ended")));
    }
    let newest = profiles::of_line(cx, &due.line, 1).await?.into_iter().next();
    let newest = newest.ok_or_else(|| Error::not_found("profile", due.line.as_str()))?;
    let request = CreateBuild {
        profile: newest.profile,
        version: profiles::next_version(&mut cx.db.reader().await?, &due.line).await?,
        refresh_lock: true,
        refresh_packages: Vec::new(),
    };
    admit(cx, &request).await?;
    Ok(request)
}

async fn begin(cx: &Context, due: &RefreshSchedule, request: CreateBuild) -> Result<(), Error> {
    let (by, id, now_s) = (Actor::server(), new_id("build"), cx.now_s());
    let mut tx = cx.db.write().await?;
    let last = LastRefresh { at_s: now_s, build: Some(id.clone()), problem: None };
    if !store::refresh_schedules::keep(&mut tx, due, next_s(cx, due), &last).await? {
        // It was set again or removed meanwhile.
        return Ok(());
    }
    // Somebody may have queued a build of that version meanwhile.
    let version = profiles::next_version(&mut tx, &due.line).await?;
    queue(cx, &mut tx, &by, (&id, &CreateBuild { version, ..request })).await?;
    let subject = format!("{} {id}, set by {}", due.line, due.set_by);
    cx.audit(&mut tx, by.act("refresh-schedule.begin", subject)).await?;
    let changed = [Event::Build { id }, Event::Profile { line: due.line.clone() }];
    record(&mut tx, now_s, &changed).await?;
    tx.commit().await?;
    changed.into_iter().for_each(|change| cx.publish(change));
    cx.build_queued.notify_one();
    Ok(())
}

/// Notes why no build begins this time.
async fn leave_out(cx: &Context, due: &RefreshSchedule, problem: &str) -> Result<(), Error> {
    tracing::warn!(line = %due.line, "no build with refreshed packages: {problem}");
    keep_problem(cx, due, next_s(cx, due), problem).await
}

async fn keep_problem(
    cx: &Context,
    due: &RefreshSchedule,
    next_s: u64,
    problem: &str,
) -> Result<(), Error> {
    let build = due.last.as_ref().and_then(|last| last.build.clone());
    let last = LastRefresh { at_s: cx.now_s(), build, problem: Some(problem.to_owned()) };
    let known = due.last.as_ref().filter(|last| last.at_s >= due.next_s);
    if next_s == due.next_s && known.is_some_and(|known| known.problem == last.problem) {
        return Ok(());
    }
    let mut tx = cx.db.write().await?;
    if store::refresh_schedules::keep(&mut tx, due, next_s, &last).await? {
        cx.commit(tx, Event::Profile { line: due.line.clone() }).await?;
    }
    Ok(())
}

/// When a schedule is due again. A window that was set once opens again within two weeks; one of a
/// clock beyond the calendar does not, and is looked at a day later.
fn next_s(cx: &Context, due: &RefreshSchedule) -> u64 {
    let now_s = cx.now_s();
    due.window.begins_after(now_s).unwrap_or(now_s.saturating_add(86_400))
}
