//! Builds.

use crate::app::{App, new_id, now_s};
use crate::db;
use crate::error::AppError;
use crate::service::logs::{self, Excerpt};
use crate::service::{approvals, releases, revisions};
use fleeti_build::build::BuildRecord;
use fleeti_core::id::{Line, Version};
use fleeti_core::wire::api::{Build, BuildPhase, CreateBuild, Event, SignatureStatus};
use std::path::{Path, PathBuf};

/// Queues a build.
///
/// # Errors
/// [`Code::Invalid`](fleeti_core::wire::problem::Code::Invalid) for a profile that breaks a rule;
/// [`Code::Full`](fleeti_core::wire::problem::Code::Full) where the disk has no room for what it
/// makes.
pub async fn create(app: &App, request: &CreateBuild) -> Result<Build, AppError> {
    revisions::check(&request.profile)?;
    app.health.disk.admit(&app.config, "build")?;
    let id = new_id("build");
    let mut tx = app.db.write().await?;
    let revision = db::revisions::number(&mut tx, &request.profile, now_s()).await?;
    db::builds::insert(&mut tx, &id, revision, request, now_s()).await?;
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
    db::builds::get(app.db.pool(), id).await?.ok_or_else(|| AppError::not_found("build", id))
}

/// The newest builds.
pub async fn newest(app: &App, limit: u32) -> Result<Vec<Build>, AppError> {
    db::builds::newest(app.db.pool(), limit).await
}

/// A build of a saved revision.
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

/// A build with everything that is known of it.
pub struct Details {
    /// The build.
    pub build: Build,
    /// What it made.
    pub record: Option<BuildRecord>,
    /// Whether it is published.
    pub is_published: bool,
    /// Whose word is needed before this server signs it, and whose is there.
    pub signature: SignatureStatus,
    /// What its log says.
    pub log: Excerpt,
}

/// A build with everything that is known of it.
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

/// Whether a phase is followed by another one.
#[must_use]
pub fn is_moving(phase: BuildPhase) -> bool {
    matches!(phase, BuildPhase::Queued | BuildPhase::Running)
}

/// Where a build's log is.
#[must_use]
pub fn log_path(app: &App, id: &str) -> PathBuf {
    app.config.data.join("builds").join(id).join("build.log")
}
