//! Builds.

use crate::app::{App, new_id, now_s};
use crate::db::{self, audit};
use crate::error::AppError;
use fleeti_core::wire::api::{Build, CreateBuild, Event};
use fleeti_core::wire::problem::Code;

/// Queues a build.
///
/// # Errors
/// [`Code::Invalid`] for a profile that breaks a rule.
pub async fn create(app: &App, request: &CreateBuild) -> Result<Build, AppError> {
    // The same rules as for a file, whatever way the profile came.
    let broken = fleeti_core::profile::broken_rules(&request.profile);
    if let Some((path, message, remedy)) = broken.first() {
        return Err(AppError::new(Code::Invalid, format!("profile.{path}: {message}; {remedy}")));
    }
    let id = new_id("build");
    let mut tx = app.db.write().await?;
    let revision = db::revisions::number(&mut tx, &request.profile, now_s()).await?;
    db::builds::insert(&mut tx, &id, revision, request, now_s()).await?;
    audit(&mut tx, now_s(), "admin", "build.create", &id).await?;
    tx.commit().await?;
    app.publish(Event::Build { id: id.clone() });
    app.build_queued.notify_one();
    get(app, &id).await
}

/// One build.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(app: &App, id: &str) -> Result<Build, AppError> {
    db::builds::get(app.db.pool(), id).await?.ok_or_else(|| AppError::not_found("build", id))
}
