//! Builds with refreshed packages at times that an administrator sets.
//!
//! A schedule is due once each time that its window opens. A window that passed while the server did
//! not run, or while the last build had not ended, is left out, and said: the next one follows.

use super::{admit, get as build, queue};
use crate::accounts::actor::Actor;
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
        .hint("set one with `fleeti profile refresh LINE WINDOW`")
}

/// Sets the schedule of a line, in place of an earlier one.
///
/// # Errors
/// [`Code::NotFound`] if no profile of the line is saved; [`Code::Invalid`] for a window that does not
/// open.
pub async fn set(
    cx: &Context,
    by: &Actor,
    line: &Line,
    request: &SetRefreshSchedule,
) -> Result<RefreshSchedule, Error> {
    let window = &request.window;
    let next_s = window.begins_after(cx.now_s()).ok_or_else(|| never(&window.to_string()))?;
    let mut tx = cx.db.write().await?;
    if store::revisions::newest_in(&mut tx, line).await?.is_none() {
        return Err(Error::not_found("profile", line.as_str()));
    }
    let (window, set_by) = (window.clone(), by.account().to_owned());
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

/// Queues some builds that are due. Returns the number of schedules that were.
///
/// # Errors
/// When the database does not answer.
pub async fn look(cx: &Context) -> Result<usize, Error> {
    let due = store::refresh_schedules::due(cx.db.pool(), cx.now_s(), CHUNK).await?;
    for schedule in &due {
        match request(cx, schedule).await {
            Ok(request) => begin(cx, schedule, &request).await?,
            // There may be room before the window ends.
            Err(e) if e.code() == Code::Full => {}
            Err(e) => leave_out(cx, schedule, &e).await?,
        }
    }
    Ok(due.len())
}

/// The build that is due.
async fn request(cx: &Context, due: &RefreshSchedule) -> Result<CreateBuild, Error> {
    if !due.window.is_open(cx.now_s()) {
        let text = "no build could begin while the window was open";
        return Err(Error::new(Code::Unavailable, text));
    }
    if let Some(id) = due.last.as_ref().and_then(|last| last.build.as_deref())
        && matches!(build(cx, id).await?.phase, BuildPhase::Queued | BuildPhase::Running)
    {
        return Err(Error::new(Code::Conflict, format!("{id} has not ended")));
    }
    let newest = profiles::of_line(cx, &due.line, 1).await?.into_iter().next();
    let newest = newest.ok_or_else(|| Error::not_found("profile", due.line.as_str()))?;
    let version = profiles::next_version(cx, &due.line).await?.to_string();
    let request = CreateBuild {
        profile: newest.profile,
        version: version.parse().map_err(Error::internal)?,
        refresh_lock: true,
        refresh_packages: Vec::new(),
    };
    admit(cx, &request).await?;
    Ok(request)
}

async fn begin(cx: &Context, due: &RefreshSchedule, request: &CreateBuild) -> Result<(), Error> {
    let by = Actor::server();
    let mut tx = cx.db.write().await?;
    let id = queue(cx, &mut tx, &by, request).await?;
    let last = LastRefresh { at_s: cx.now_s(), build: Some(id.clone()), problem: None };
    if !store::refresh_schedules::keep(&mut tx, due, next_s(cx, due), &last).await? {
        // It was changed meanwhile: nothing of this transaction stays.
        return Ok(());
    }
    let subject = format!("{} {id}, set by {}", due.line, due.set_by);
    cx.audit(&mut tx, by.act("refresh-schedule.begin", subject)).await?;
    cx.commit(tx, Event::Build { id }).await?;
    cx.build_queued.notify_one();
    Ok(())
}

/// Notes why no build begins, unless the database does not answer, after which it is due again.
async fn leave_out(cx: &Context, due: &RefreshSchedule, why: &Error) -> Result<(), Error> {
    let problem = why.detail();
    tracing::warn!(line = %due.line, "no build with refreshed packages: {}", why.for_log());
    let build = due.last.as_ref().and_then(|last| last.build.clone());
    let last = LastRefresh { at_s: cx.now_s(), build, problem: Some(problem.to_owned()) };
    let mut tx = cx.db.write().await?;
    if store::refresh_schedules::keep(&mut tx, due, next_s(cx, due), &last).await? {
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
