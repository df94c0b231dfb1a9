//! Revisions of profiles.

use crate::clock::now_s;
use crate::context::Context;
use crate::error::Error;
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
pub fn check(profile: &Profile) -> Result<(), Error> {
    let errors: Vec<_> = profile::broken_rules(profile)
        .into_iter()
        .map(|(path, message, remedy)| FieldError { path, message, remedy })
        .collect();
    match errors.first() {
        None => Ok(()),
        Some(e) => {
            let text = format!("profile.{}: {}; {}", e.path, e.message, e.remedy);
            Err(Error::new(Code::Invalid, text).errors(errors))
        }
    }
}

/// Saves a profile as the next revision of its line. An unchanged profile keeps its revision.
///
/// # Errors
/// [`Code::Invalid`] with all findings.
pub async fn save(cx: &Context, profile: &Profile) -> Result<ProfileRevision, Error> {
    check(profile)?;
    let mut tx = cx.db.write().await?;
    let number = store::revisions::number(&mut tx, profile, now_s()).await?;
    cx.audit(&mut tx, now_s(), "admin", "profile.save", &format!("{} {number}", profile.name))
        .await?;
    tx.commit().await?;
    cx.publish(Event::Profile { line: profile.name.clone() });
    get(cx, &profile.name, number).await
}

/// The newest revision of each profile.
pub async fn newest(cx: &Context, limit: u32) -> Result<Vec<ProfileRevision>, Error> {
    Ok(store::revisions::newest(cx.db.pool(), limit).await?)
}

/// The newest revision of each profile, without its document.
pub async fn heads(cx: &Context, limit: u32) -> Result<Vec<Head>, Error> {
    Ok(store::revisions::heads(cx.db.pool(), limit).await?)
}

/// The newest revisions of a profile.
pub async fn of_line(cx: &Context, line: &Line, limit: u32) -> Result<Vec<ProfileRevision>, Error> {
    Ok(store::revisions::of_line(cx.db.pool(), line, limit).await?)
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
pub async fn details(cx: &Context, line: &Line, number: u32, limit: u32) -> Result<Details, Error> {
    let revision = get(cx, line, number).await?;
    let builds = store::builds::newest(cx.db.pool(), limit).await?;
    let first = |v: &str| v.split('.').next().and_then(|n| n.parse::<u64>().ok());
    let highest = builds
        .iter()
        .filter(|b| b.release.line == *line)
        .filter_map(|b| first(b.release.version.as_str()))
        .max();
    let line = store::revisions::heads_of_line(cx.db.pool(), line, limit).await?;
    Ok(Details { revision, line, next_version: highest.map_or(1, |n| n + 1) })
}

/// One revision.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(cx: &Context, line: &Line, number: u32) -> Result<ProfileRevision, Error> {
    let found = store::revisions::get(cx.db.pool(), line, number).await?;
    found.ok_or_else(|| Error::not_found("revision", &format!("{line} {number}")))
}
