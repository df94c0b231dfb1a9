//! Revisions of profiles.

use crate::app::{App, now_s};
use crate::error::AppError;
use fleeti_core::id::Line;
use fleeti_core::profile::{self, Profile};
use fleeti_core::wire::api::{Event, ProfileRevision};
use fleeti_core::wire::problem::{Code, FieldError};
use fleeti_store as store;
use fleeti_store::revisions::Head;

/// Checks a profile by the rules for profile files, wherever it came from.
///
/// # Errors
/// [`Code::Invalid`] with all findings.
pub fn check(profile: &Profile) -> Result<(), AppError> {
    let errors: Vec<_> = profile::broken_rules(profile)
        .into_iter()
        .map(|(path, message, remedy)| FieldError { path, message, remedy })
        .collect();
    match errors.first() {
        None => Ok(()),
        Some(e) => {
            let text = format!("profile.{}: {}; {}", e.path, e.message, e.remedy);
            Err(AppError::new(Code::Invalid, text).errors(errors))
        }
    }
}

/// Saves a profile as the next revision of its line. An unchanged profile keeps its revision.
///
/// # Errors
/// [`Code::Invalid`] with all findings.
pub async fn save(app: &App, profile: &Profile) -> Result<ProfileRevision, AppError> {
    check(profile)?;
    let mut tx = app.db.write().await?;
    let number = store::revisions::number(&mut tx, profile, now_s()).await?;
    app.audit(&mut tx, now_s(), "admin", "profile.save", &format!("{} {number}", profile.name))
        .await?;
    tx.commit().await?;
    app.publish(Event::Profile { line: profile.name.clone() });
    get(app, &profile.name, number).await
}

/// The newest revision of each profile.
pub async fn newest(app: &App, limit: u32) -> Result<Vec<ProfileRevision>, AppError> {
    Ok(store::revisions::newest(app.db.pool(), limit).await?)
}

/// The newest revision of each profile, without its document.
pub async fn heads(app: &App, limit: u32) -> Result<Vec<Head>, AppError> {
    Ok(store::revisions::heads(app.db.pool(), limit).await?)
}

/// The newest revisions of a profile.
pub async fn of_line(app: &App, line: &Line, limit: u32) -> Result<Vec<ProfileRevision>, AppError> {
    Ok(store::revisions::of_line(app.db.pool(), line, limit).await?)
}

/// A revision, with other revisions of its line.
pub struct Details {
    /// The revision.
    pub revision: ProfileRevision,
    /// The newest revisions of its line.
    pub line: Vec<Head>,
    /// Suggested next version: one more than the highest first number of recent builds.
    pub next_version: u64,
}

/// A revision, with up to `limit` revisions of its line.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn details(app: &App, line: &Line, number: u32, limit: u32) -> Result<Details, AppError> {
    let revision = get(app, line, number).await?;
    let builds = store::builds::newest(app.db.pool(), limit).await?;
    let first = |v: &str| v.split('.').next().and_then(|n| n.parse::<u64>().ok());
    let highest = builds
        .iter()
        .filter(|b| b.release.line == *line)
        .filter_map(|b| first(b.release.version.as_str()))
        .max();
    let line = store::revisions::heads_of_line(app.db.pool(), line, limit).await?;
    Ok(Details { revision, line, next_version: highest.map_or(1, |n| n + 1) })
}

/// One revision.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(app: &App, line: &Line, number: u32) -> Result<ProfileRevision, AppError> {
    let found = store::revisions::get(app.db.pool(), line, number).await?;
    found.ok_or_else(|| AppError::not_found("revision", &format!("{line} {number}")))
}
