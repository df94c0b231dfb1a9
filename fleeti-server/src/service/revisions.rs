//! Revisions of profiles.

use crate::app::{App, now_s};
use crate::db::{self, audit};
use crate::error::AppError;
use fleeti_core::id::Line;
use fleeti_core::profile::{self, Profile};
use fleeti_core::wire::api::{Event, ProfileRevision};
use fleeti_core::wire::problem::{Code, FieldError};

/// That a profile breaks no rule, whatever way it came: the same rules as for a file.
///
/// # Errors
/// [`Code::Invalid`] with every rule that it breaks.
pub fn check(profile: &Profile) -> Result<(), AppError> {
    let errors: Vec<_> =
        profile::broken_rules(profile).into_iter().map(|(path, message, remedy)| FieldError { path, message, remedy }).collect();
    match errors.first() {
        None => Ok(()),
        Some(e) => {
            let text = format!("profile.{}: {}; {}", e.path, e.message, e.remedy);
            Err(AppError::new(Code::Invalid, text).errors(errors))
        }
    }
}

/// Saves a profile as the next revision of its line; the same document is the same revision.
///
/// # Errors
/// [`Code::Invalid`] with every rule that it breaks.
pub async fn save(app: &App, profile: &Profile) -> Result<ProfileRevision, AppError> {
    check(profile)?;
    let mut tx = app.db.write().await?;
    let number = db::revisions::number(&mut tx, profile, now_s()).await?;
    audit(&mut tx, now_s(), "admin", "profile.save", &format!("{} {number}", profile.name)).await?;
    tx.commit().await?;
    app.publish(Event::Profile { line: profile.name.clone() });
    get(app, &profile.name, number).await
}

/// One revision.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(app: &App, line: &Line, number: u32) -> Result<ProfileRevision, AppError> {
    let found = db::revisions::get(app.db.pool(), line, number).await?;
    found.ok_or_else(|| AppError::not_found("revision", &format!("{line} {number}")))
}
