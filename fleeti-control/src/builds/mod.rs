//! Builds.

use crate::app::{App, new_id, now_s};
use crate::error::AppError;
use crate::service::logs::{self, Excerpt};
use crate::service::{approvals, releases, revisions};
use fleeti_build::build::BuildRecord;
use fleeti_core::id::{Line, Version};
use fleeti_core::wire::api::{Build, BuildPhase, CreateBuild, Event, SignatureStatus};
use fleeti_store as store;
use std::path::{Path, PathBuf};

/// Queues a build.
///
/// # Errors
/// [`Code::Invalid`](fleeti_core::wire::problem::Code::Invalid) for a profile that breaks a rule;
/// [`Code::Full`](fleeti_core::wire::problem::Code::Full) if the disk has no room for a build.
pub async fn create(app: &App, request: &CreateBuild) -> Result<Build, AppError> {
    revisions::check(&request.profile)?;
    app.health.disk.admit(&app.config, "build")?;
    let id = new_id("build");
    let mut tx = app.db.write().await?;
    let revision = store::revisions::number(&mut tx, &request.profile, now_s()).await?;
    store::builds::insert(&mut tx, &id, revision, request, now_s()).await?;
    app.audit(&mut tx, now_s(), "admin", "build.create", &id).await?;
    tx.commit().await?;
    app.publish(Event::Build { id: id.clone() });
    app.build_queued.notify_one();
    get(app, &id).await
}

/// One build.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn get(app: &App, id: &str) -> Result<Build, AppError> {
    store::builds::get(app.db.pool(), id).await?.ok_or_else(|| AppError::not_found("build", id))
}

/// The newest builds.
pub async fn newest(app: &App, limit: u32) -> Result<Vec<Build>, AppError> {
    Ok(store::builds::newest(app.db.pool(), limit).await?)
}

/// Queues a build of a saved revision.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn create_of(
    app: &App,
    line: &Line,
    revision: u32,
    version: Version,
) -> Result<Build, AppError> {
    let profile = revisions::get(app, line, revision).await?.profile;
    create(app, &CreateBuild { profile, version }).await
}

/// A build with all details.
pub struct Details {
    /// The build.
    pub build: Build,
    /// Its record.
    pub record: Option<BuildRecord>,
    /// Whether its release is published.
    pub is_published: bool,
    /// The approvals: how many it needs, who may give them, and who did.
    pub signature: SignatureStatus,
    /// Excerpt of its log.
    pub log: Excerpt,
}

/// A build with all details.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn details(app: &App, id: &str) -> Result<Details, AppError> {
    let build = get(app, id).await?;
    let log = logs::excerpt(log_path(app, id), is_moving(build.phase)).await;
    let record = build.directory.as_ref().and_then(|d| BuildRecord::read(Path::new(d)).ok());
    let is_published = match &record {
        Some(record) => releases::is_of(app, &build.release, record).await?,
        None => false,
    };
    Ok(Details { build, record, is_published, signature: approvals::status(app, id).await?, log })
}

/// Whether another phase follows.
#[must_use]
pub fn is_moving(phase: BuildPhase) -> bool {
    matches!(phase, BuildPhase::Queued | BuildPhase::Running)
}

/// Path of a build's log.
#[must_use]
pub fn log_path(app: &App, id: &str) -> PathBuf {
    app.config.data.join("builds").join(id).join("build.log")
}
