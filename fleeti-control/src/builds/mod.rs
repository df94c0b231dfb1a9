//! Builds.

pub mod approvals;
pub mod details;
pub mod jobs;
pub mod local_worker;
pub mod logs;
pub mod workers;

use crate::clock::{new_id, now_s};
use crate::context::Context;
use crate::error::Error;
use crate::profiles;
use fleeti_core::id::{Line, Version};
use fleeti_core::wire::api::{Build, BuildPhase, CreateBuild, Event};
use fleeti_store as store;
use std::path::PathBuf;

/// Queues a build.
///
/// # Errors
/// [`Code::Invalid`](fleeti_core::wire::problem::Code::Invalid) for a profile that breaks a rule;
/// [`Code::Full`](fleeti_core::wire::problem::Code::Full) if the disk has no room for a build.
pub async fn create(cx: &Context, request: &CreateBuild) -> Result<Build, Error> {
    profiles::check(&request.profile)?;
    cx.health.disk.admit(&cx.settings, "build")?;
    let id = new_id("build");
    let mut tx = cx.db.write().await?;
    let revision = store::revisions::number(&mut tx, &request.profile, now_s()).await?;
    store::builds::insert(&mut tx, &id, revision, request, now_s()).await?;
    cx.audit(&mut tx, now_s(), "admin", "build.create", &id).await?;
    tx.commit().await?;
    cx.publish(Event::Build { id: id.clone() });
    cx.build_queued.notify_one();
    get(cx, &id).await
}

/// One build.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn get(cx: &Context, id: &str) -> Result<Build, Error> {
    store::builds::get(cx.db.pool(), id).await?.ok_or_else(|| Error::not_found("build", id))
}

/// The newest builds.
pub async fn newest(cx: &Context, limit: u32) -> Result<Vec<Build>, Error> {
    Ok(store::builds::newest(cx.db.pool(), limit).await?)
}

/// Queues a build of a saved revision.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn create_of(
    cx: &Context,
    line: &Line,
    revision: u32,
    version: Version,
) -> Result<Build, Error> {
    let profile = profiles::get(cx, line, revision).await?.profile;
    create(cx, &CreateBuild { profile, version }).await
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
