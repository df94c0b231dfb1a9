//! Revisions of profiles.
//!
//! Code map: `editing` (what the editor of a profile needs) · `fixes` (security fixes that wait) · `shelf` (the profiles that a
//! document extends) · `state` (what is kept in memory).

mod editing;
mod fixes;
mod shelf;
pub(crate) mod state;

pub use editing::{Preview, draft, preview};
pub use fixes::{Fixes, of_release as fixes_of_release, of_release_now as fixes_of_release_now};
pub use shelf::{as_toml, line_of};

use crate::accounts::actor::Actor;
use crate::context::Context;
use crate::error::Error;
use crate::precondition::{self, Expected};
use crate::suites::{self, OpenIndex};
use fleeti_build::base::{self, HonourError, Ignored, NotBuilt};
pub use fleeti_build::suite::SUITE;
use fleeti_core::id::{Line, ReleaseName, Version};
use fleeti_core::profile::{self, Builtin, Finding, Kind, Profile, Resolved, Severity};
use fleeti_core::wire::api::{Event, ProfileRevision};
use fleeti_core::wire::problem::{Code, FieldError};
use fleeti_core::wire::profile::{CheckedProfile, LibraryEntry, MadeOf, ProfileChanges};
use fleeti_core::wire::suite::IndexedSuite;
use fleeti_store::revisions::Head;
use fleeti_store::{self as store, Connection};
use shelf::{LIBRARY_MAX, PROFILE, Shelf};
use std::collections::HashMap;

/// Maximum number of builds, and of releases, that the next version is looked for in.
const VERSIONS_MAX: u32 = 1000;

/// Checks a profile by the rules for profile files, wherever it came from.
///
/// # Errors
/// [`Code::Invalid`] with all findings.
pub fn check(profile: &Profile) -> Result<(), Error> {
    refuse(profile::broken_rules(profile))
}

/// Names of the support keys of the profile that a release was built from; none if this server did not
/// build it.
pub async fn support_keys(cx: &Context, release: &ReleaseName) -> Result<Vec<String>, Error> {
    let pool = cx.db.pool();
    let Some(number) = store::builds::revision_of(pool, release).await? else { return Ok(vec![]) };
    let found = store::revisions::get(pool, &release.line, number).await?;
    let keys = found.map(|revision| revision.profile.support_keys).unwrap_or_default();
    Ok(keys.into_iter().map(|key| key.name).collect())
}

/// Checks that images of the base are built, and that it honours every field that a profile sets, as
/// a build does: nobody waits for a worker that only refuses.
///
/// # Errors
/// [`Code::Invalid`] with the base, or with every other field.
pub fn check_base(profile: &Profile) -> Result<(), Error> {
    let base = base::of(profile.base);
    match base.check(profile) {
        Ok(()) => {}
        Err(HonourError::Fields(fields)) => {
            return refuse(fields.iter().map(Ignored::to_error).collect());
        }
        Err(e) => return Err(Error::internal(e)),
    }
    let is_built = base.maker().is_some();
    refuse(if is_built { Vec::new() } else { vec![NotBuilt { base: profile.base }.to_error()] })
}

/// Refuses other sizes of the disk than those of the line's first release that was built here: an
/// update writes into the slots that the disks of devices have.
///
/// # Errors
/// [`Code::Invalid`] with every size that differs.
pub async fn check_sizes(cx: &Context, profile: &Profile) -> Result<(), Error> {
    let Some((release, revision)) =
        store::builds::first_released(cx.db.pool(), &profile.name).await?
    else {
        return Ok(());
    };
    let Some(first) = store::revisions::get(cx.db.pool(), &profile.name, revision).await? else {
        return Ok(());
    };
    let (had, has) = (&first.profile.storage, &profile.storage);
    let sizes = [
        ("storage.esp_mib", had.esp_mib, has.esp_mib),
        ("storage.root_mib", had.root_mib, has.root_mib),
    ];
    let changed = sizes.iter().filter(|(_, had, has)| had != has);
    refuse(
        changed
            .map(|(path, had, _)| FieldError {
                path: (*path).to_owned(),
                message: format!("the disks of devices with {release} have {had} MiB"),
                remedy: format!(
                    "write {had}, or start another line, which devices are reinstalled for"
                ),
                suggestion: None,
            })
            .collect(),
    )
}

fn refuse(errors: Vec<FieldError>) -> Result<(), Error> {
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
/// [`Code::Invalid`] with all findings; [`Code::PreconditionFailed`] if the newest revision is not the
/// expected one.
pub async fn save(
    cx: &Context,
    by: &Actor,
    profile: &Profile,
    expected: &Expected,
) -> Result<ProfileRevision, Error> {
    check(profile)?;
    let checked = profile.clone();
    let found = suites::with(cx, move |index| suites::found(index, &checked)).await?;
    refuse(found.errors)?;
    save_checked(cx, by, profile, (None, expected)).await
}

/// A document as its author wrote it.
#[derive(Clone, Copy)]
struct Written<'a> {
    text: &'a str,
    made_of: &'a [MadeOf],
}

/// What names a revision, for [`crate::precondition::tag`]. The tag of the newest revision is that of
/// its profile. What the server adds to a revision later (newer ones of what it was made of) is not
/// in it.
#[must_use]
pub fn version(line: &Line, number: u32) -> (&str, u32) {
    (line.as_str(), number)
}

/// The tag of a profile: that of its newest revision; empty for a new one.
pub async fn tag(cx: &Context, line: &Line) -> Result<String, Error> {
    let newest = store::revisions::newest_number(cx.db.pool(), line.as_str()).await?;
    newest.map_or(Ok(String::new()), |number| precondition::tag(&version(line, number)))
}

async fn save_checked(
    cx: &Context,
    by: &Actor,
    profile: &Profile,
    (written, expected): (Option<Written<'_>>, &Expected),
) -> Result<ProfileRevision, Error> {
    let now_s = cx.now_s();
    let mut tx = cx.db.write().await?;
    let newest = store::revisions::newest_in(&mut tx, &profile.name).await?;
    expected.check(newest.map(|number| version(&profile.name, number)).as_ref())?;
    let text = written.map(|written| written.text);
    let number = store::revisions::number(&mut tx, profile, text, now_s).await?;
    if let Some(Written { made_of, .. }) = written {
        store::revisions::keep_made_of(&mut tx, &profile.name, number, made_of).await?;
    }
    cx.audit(&mut tx, by.act("profile.save", format!("{} {number}", profile.name))).await?;
    cx.commit(tx, Event::Profile { line: profile.name.clone() }).await?;
    get(cx, &profile.name, number).await
}

/// A document that was resolved and checked.
struct Checked {
    resolved: Result<Resolved, Vec<Finding>>,
    /// The exact fragments that it extends; empty if there are errors.
    made_of: Vec<MadeOf>,
    /// The suite whose packages it was checked against.
    suite: Option<IndexedSuite>,
}

/// Resolves a document, which may extend fragments that are shipped and profiles of this server, and
/// checks it against the packages of the suite.
async fn resolve(cx: &Context, text: &str) -> Result<Checked, Error> {
    let shelf = Shelf::load(cx, text).await?;
    let text = text.to_owned();
    suites::with(cx, move |index| {
        let packages = |profile: &Profile| suites::found(index, profile);
        let resolved = profile::resolve_with(&text, &shelf, &packages);
        let made_of = resolved.as_ref().map(|resolved| shelf.made_of(&resolved.extends));
        let made_of = made_of.unwrap_or_default();
        Checked { resolved, made_of, suite: index.map(OpenIndex::suite) }
    })
    .await
}

/// The document of a revision: as its author wrote it, or else the profile as TOML.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn document(cx: &Context, line: &Line, number: u32) -> Result<String, Error> {
    let revision = get(cx, line, number).await?;
    revision.text.map_or_else(|| as_toml(&revision.profile), Ok)
}

/// Checks a document, and saves nothing.
pub async fn check_text(cx: &Context, text: &str) -> Result<CheckedProfile, Error> {
    let Checked { resolved, suite, .. } = resolve(cx, text).await?;
    Ok(match resolved {
        Ok(Resolved { profile, warnings, extends, .. }) => {
            CheckedProfile { findings: warnings, profile: Some(profile), extends, suite }
        }
        Err(findings) => CheckedProfile { findings, profile: None, extends: Vec::new(), suite },
    })
}

/// Saves a document as the next revision of its line. An unchanged document keeps its revision.
///
/// # Errors
/// [`Code::Invalid`] with all errors; [`Code::PreconditionFailed`] if the newest revision is not the
/// expected one.
pub async fn save_text(
    cx: &Context,
    by: &Actor,
    text: &str,
    expected: &Expected,
) -> Result<ProfileRevision, Error> {
    let Checked { resolved, made_of, .. } = resolve(cx, text).await?;
    let profile = resolved.map_err(refused)?.profile;
    let written = Written { text, made_of: &made_of };
    save_checked(cx, by, &profile, (Some(written), expected)).await
}

/// The error for a document with errors.
fn refused(findings: Vec<Finding>) -> Error {
    let errors: Vec<_> = findings.into_iter().filter(|f| f.severity == Severity::Error).collect();
    let text = errors.first().map_or_else(String::new, |f| {
        let path = if f.path.is_empty() { "document" } else { &f.path };
        format!("line {}: {path}: {}; {}", f.line, f.message, f.remedy)
    });
    let errors = errors
        .into_iter()
        .map(|Finding { path, message, remedy, suggestion, .. }| FieldError {
            path,
            message,
            remedy,
            suggestion,
        })
        .collect();
    Error::new(Code::Invalid, text).errors(errors)
}

/// The fragments that profiles can extend: those that are shipped, and the profiles of this server.
pub async fn library(cx: &Context) -> Result<Vec<LibraryEntry>, Error> {
    let shipped = Builtin::all().into_iter().map(|fragment| LibraryEntry {
        kind: fragment.kind,
        summary: fragment.summary().to_owned(),
        name: fragment.name.into_owned(),
        text: fragment.text.into_owned(),
    });
    let mut entries: Vec<_> = shipped.collect();
    for revision in store::revisions::newest(cx.db.pool(), LIBRARY_MAX).await? {
        entries.push(LibraryEntry {
            name: format!("{PROFILE}{}", revision.line),
            kind: Kind::Profile,
            summary: revision.profile.description.clone(),
            text: revision.text.map_or_else(|| as_toml(&revision.profile), Ok)?,
        });
    }
    Ok(entries)
}

/// What differs between two revisions of a profile.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn changes(
    cx: &Context,
    line: &Line,
    from: u32,
    to: u32,
) -> Result<ProfileChanges, Error> {
    let (before, after) = (get(cx, line, from).await?, get(cx, line, to).await?);
    let changes = profile::diff(&before.profile, &after.profile).map_err(Error::internal)?;
    let effects = suites::effects_of(cx, before.profile, after.profile).await?;
    let devices = store::devices::of_line(cx.db.pool(), line).await?;
    Ok(ProfileChanges { line: line.clone(), from, to, changes, effects, devices })
}

/// The newest revision of each profile.
pub async fn newest(cx: &Context, limit: u32) -> Result<Vec<ProfileRevision>, Error> {
    with_newer(cx, store::revisions::newest(cx.db.pool(), limit).await?).await
}

/// The newest revision of each profile, without its document.
pub async fn heads(cx: &Context, limit: u32) -> Result<Vec<Head>, Error> {
    Ok(store::revisions::heads(cx.db.pool(), limit).await?)
}

/// The newest revisions of a profile.
pub async fn of_line(cx: &Context, line: &Line, limit: u32) -> Result<Vec<ProfileRevision>, Error> {
    with_newer(cx, store::revisions::of_line(cx.db.pool(), line, limit).await?).await
}

/// A revision, with other revisions of its line.
pub struct Details {
    /// The revision.
    pub revision: ProfileRevision,
    /// The newest revisions of its line.
    pub line: Vec<Head>,
    /// Suggested next version; `None` if no version is higher.
    pub next_version: Option<Version>,
    /// Fixes that the newest build of the line lacks; `None` if there is no build or no index.
    pub fixes: Option<Fixes>,
}

/// A revision, with up to `limit` revisions of its line.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn details(cx: &Context, line: &Line, number: u32, limit: u32) -> Result<Details, Error> {
    let revision = get(cx, line, number).await?;
    let newest = store::builds::newest_with_files(cx.db.pool(), line).await?;
    let fixes = match newest {
        Some(build) => fixes::of(cx, build).await?,
        None => None,
    };
    let next_version = match next_version(&mut cx.db.reader().await?, line).await {
        Ok(version) => Some(version),
        Err(e) if e.code() == Code::Conflict => None,
        Err(e) => return Err(e),
    };
    let line = store::revisions::heads_of_line(cx.db.pool(), line, limit).await?;
    Ok(Details { revision, line, next_version, fixes })
}

/// The version of the next build of a line: the highest of its newest builds and releases, its last
/// number one higher.
///
/// # Errors
/// [`Code::Conflict`] if there is no higher version.
pub(crate) async fn next_version(
    connection: &mut Connection,
    line: &Line,
) -> Result<Version, Error> {
    let versions = store::builds::versions(connection, line, VERSIONS_MAX).await?;
    let highest = versions.iter().max().map_or("0", Version::as_str);
    let (first, last) = highest.rsplit_once('.').map_or(("", highest), |(first, last)| {
        (highest.get(..=first.len()).unwrap_or_default(), last)
    });
    let next = last.parse::<u64>().ok().and_then(|n| n.checked_add(1));
    let next = next.and_then(|n| format!("{first}{n}").parse().ok());
    next.ok_or_else(|| {
        let text = format!("no version of {line} is higher than {highest} and as long");
        Error::new(Code::Conflict, text).hint("choose the next version, and build it")
    })
}

/// One revision.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(cx: &Context, line: &Line, number: u32) -> Result<ProfileRevision, Error> {
    let found = store::revisions::get(cx.db.pool(), line, number).await?;
    let found = with_newer(cx, found.into_iter().collect()).await?.pop();
    found.ok_or_else(|| Error::not_found("revision", &format!("{line} {number}")))
}

/// Says which of the profiles that revisions were made of have newer revisions now.
async fn with_newer(
    cx: &Context,
    mut revisions: Vec<ProfileRevision>,
) -> Result<Vec<ProfileRevision>, Error> {
    let mut newest: HashMap<String, Option<u32>> = HashMap::new();
    for made_of in revisions.iter_mut().flat_map(|revision| &mut revision.made_of) {
        let (Some(line), Some(number)) = (shelf::line_of(&made_of.name), made_of.revision) else {
            continue;
        };
        let known = match newest.get(line) {
            Some(known) => *known,
            None => {
                let found = store::revisions::newest_number(cx.db.pool(), line).await?;
                newest.insert(line.to_owned(), found);
                found
            }
        };
        made_of.newer = known.filter(|newest| *newest > number);
    }
    Ok(revisions)
}
