//! Builds.

pub mod approvals;
pub mod change;
pub mod details;
pub mod jobs;
pub mod local_worker;
pub mod logs;
pub mod schedule;
pub mod workers;

use crate::accounts::actor::Actor;
use crate::clock::new_id;
use crate::context::Context;
use crate::cursor::{Asked, Last, Page};
use crate::error::Error;
use crate::{health, profiles};
use change::{Change, NotApplied};
use fleeti_core::build::Ctx;
use fleeti_core::build::Event::RemoveFiles;
use fleeti_core::id::{Line, Version};
use fleeti_core::wire::api::{Build, BuildPhase, CreateBuild, Event, REFRESH_MAX};
use fleeti_core::wire::list::ListQuery;
use fleeti_core::wire::problem::Code;
use fleeti_store::builds::Texts;
use fleeti_store::{self as store, Tx};
use std::io::ErrorKind;
use std::path::PathBuf;

/// Queues a build.
///
/// # Errors
/// [`Code::Invalid`] for a profile that breaks a rule
/// or has a field that the base does not honour, or other sizes of the disk than the line's first
/// release;
/// [`Code::Full`] if the disk has no room for a build.
pub async fn create(cx: &Context, by: &Actor, request: &CreateBuild) -> Result<Build, Error> {
    admit(cx, request).await?;
    let mut tx = cx.db.write().await?;
    let id = new_id("build");
    queue(cx, &mut tx, by, (&id, request)).await?;
    cx.commit(tx, Event::Build { id: id.clone() }).await?;
    cx.build_queued.notify_one();
    get(cx, &id).await
}

/// Checks what is asked of a build, and that the disk has room for one.
async fn admit(cx: &Context, request: &CreateBuild) -> Result<(), Error> {
    profiles::check(&request.profile)?;
    profiles::check_base(&request.profile)?;
    check_refresh(request)?;
    health::admit(cx, "build")?;
    profiles::check_sizes(cx, &request.profile).await
}

/// Queues an admitted build under an id, with its entries in the audit log.
async fn queue(
    cx: &Context,
    tx: &mut Tx<'_>,
    by: &Actor,
    (id, request): (&str, &CreateBuild),
) -> Result<(), Error> {
    let now_s = cx.now_s();
    let revision = store::revisions::number(tx, &request.profile, None, now_s).await?;
    store::builds::insert(tx, id, revision, request, now_s).await?;
    cx.audit(tx, by.act("build.create", id)).await?;
    if request.refresh_lock {
        let line = request.profile.name.to_string();
        cx.audit(tx, by.act("lock.refresh", line)).await?;
    }
    if !request.refresh_packages.is_empty() {
        let subject = format!("{} {}", request.profile.name, request.refresh_packages.join(" "));
        cx.audit(tx, by.act("lock.refresh", subject)).await?;
    }
    Ok(())
}

/// Checks which packages a build refreshes.
fn check_refresh(request: &CreateBuild) -> Result<(), Error> {
    let invalid = |text: String| Err(Error::new(Code::Invalid, text));
    let packages = &request.refresh_packages;
    if packages.len() > REFRESH_MAX {
        let count = packages.len();
        return invalid(format!("refresh_packages: {count} packages, at most {REFRESH_MAX}"));
    }
    if request.refresh_lock && !packages.is_empty() {
        return invalid("refresh_lock refreshes all packages: leave refresh_packages out".into());
    }
    match request.packages_to_refresh() {
        Err(e) => invalid(format!("refresh_packages: {e}")),
        Ok(_) => Ok(()),
    }
}

/// One build.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(cx: &Context, id: &str) -> Result<Build, Error> {
    store::builds::get(cx.db.pool(), id).await?.ok_or_else(|| Error::not_found("build", id))
}

/// The newest builds.
pub async fn newest(cx: &Context, limit: u32) -> Result<Vec<Build>, Error> {
    Ok(store::builds::newest(cx.db.pool(), limit).await?)
}

/// A page of builds, newest first.
///
/// # Errors
/// [`Code::Malformed`] for a cursor that is not one.
pub async fn page(cx: &Context, query: &ListQuery) -> Result<Page<Build>, Error> {
    let ListQuery { cursor, limit } = query;
    let asked = Asked { list: ("builds", ""), cursor: cursor.as_deref(), limit: *limit };
    let after = asked.after(cx)?;
    let rows = store::builds::page(cx.db.pool(), after.as_ref(), asked.rows()?).await?;
    asked.page(cx, rows, |build| Last { at_s: build.created_s, id: build.id.clone() })
}

/// A build of a saved revision.
#[derive(Debug, Clone)]
pub struct BuildOf {
    /// The line.
    pub line: Line,
    /// Number of the revision.
    pub revision: u32,
    /// Version of the image.
    pub version: Version,
    /// Whether its packages are resolved again.
    pub refresh_lock: bool,
}

/// Queues a build of a saved revision.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn create_of(cx: &Context, by: &Actor, build: BuildOf) -> Result<Build, Error> {
    let BuildOf { line, revision, version, refresh_lock } = build;
    let profile = profiles::get(cx, &line, revision).await?.profile;
    let refresh_packages = Vec::new();
    create(cx, by, &CreateBuild { profile, version, refresh_lock, refresh_packages }).await
}

/// Removes the files of a build that has ended, to make room. Returns `false` if the signing service
/// needs them.
///
/// # Errors
/// When the folder cannot be removed.
pub(crate) async fn remove_files(cx: &Context, id: &str) -> Result<bool, Error> {
    let ctx = Ctx { now_s: cx.now_s(), lease_s: 0 };
    let change = Change { event: RemoveFiles, texts: Texts::default(), ctx };
    let mut tx = cx.db.write().await?;
    // The state says so first: nothing may begin to sign files that are being deleted. A server that
    // is killed in between deletes them at the next clean-up.
    let applied = match change.apply_to(&mut tx, id).await {
        Ok(applied) => applied,
        Err(NotApplied::NotFound | NotApplied::Rejected(_)) => return Ok(false),
        Err(NotApplied::Failed(e)) => return Err(e),
    };
    tx.commit().await?;
    match tokio::fs::remove_dir_all(cx.settings.data.join("builds").join(id)).await {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e.into()),
        Ok(()) | Err(_) => {}
    }
    store::builds::files_deleted(cx.db.writer(), id).await?;
    applied.follow(cx);
    Ok(true)
}

/// Whether another phase follows.
#[must_use]
pub fn is_moving(phase: BuildPhase) -> bool {
    matches!(phase, BuildPhase::Queued | BuildPhase::Running)
}

/// Path of a build's log.
#[must_use]
pub fn log_path(cx: &Context, id: &str) -> PathBuf {
    cx.settings.data.join("builds").join(id).join("build.log")
}
