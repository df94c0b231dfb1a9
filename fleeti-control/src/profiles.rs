//! Revisions of profiles.

use crate::context::Context;
use crate::error::Error;
use crate::suites::{self, OpenIndex};
use fleeti_build::base::debian::Debian;
use fleeti_build::base::{Base, HonourError, Ignored};
use fleeti_core::id::Line;
use fleeti_core::profile::{
    self, Builtin, Finding, Fragment, Kind, Library, Profile, Resolved, Severity,
};
use fleeti_core::wire::api::{Event, ProfileRevision};
use fleeti_core::wire::problem::{Code, FieldError};
use fleeti_core::wire::profile::{CheckedProfile, LibraryEntry, ProfileChanges};
use fleeti_core::wire::suite::IndexedSuite;
use fleeti_store as store;
use fleeti_store::revisions::Head;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Checks a profile by the rules for profile files, wherever it came from.
///
/// # Errors
/// [`Code::Invalid`] with all findings.
pub fn check(profile: &Profile) -> Result<(), Error> {
    refuse(profile::broken_rules(profile))
}

/// Checks that the base honours every field that a profile sets, as a build does: nobody waits for
/// a worker that only refuses.
///
/// # Errors
/// [`Code::Invalid`] with every other field.
pub fn check_base(profile: &Profile) -> Result<(), Error> {
    match Debian.check(profile) {
        Ok(()) => Ok(()),
        Err(HonourError::Fields(fields)) => refuse(fields.into_iter().map(ignored).collect()),
        Err(e) => Err(Error::internal(e)),
    }
}

fn ignored(field: Ignored) -> FieldError {
    let message = field.message();
    let remedy = "remove it, or build on a later Fleeti".to_owned();
    FieldError { path: field.path, message, remedy }
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
/// [`Code::Invalid`] with all findings.
pub async fn save(cx: &Context, profile: &Profile) -> Result<ProfileRevision, Error> {
    check(profile)?;
    let checked = profile.clone();
    let found = suites::with(cx, move |index| index.map(|index| index.check(&checked))).await?;
    refuse(found.unwrap_or_default().errors)?;
    save_checked(cx, profile, None).await
}

async fn save_checked(
    cx: &Context,
    profile: &Profile,
    text: Option<&str>,
) -> Result<ProfileRevision, Error> {
    let now_s = cx.now_s();
    let mut tx = cx.db.write().await?;
    let number = store::revisions::number(&mut tx, profile, text, now_s).await?;
    cx.audit(&mut tx, now_s, "admin", "profile.save", &format!("{} {number}", profile.name))
        .await?;
    tx.commit().await?;
    cx.publish(Event::Profile { line: profile.name.clone() });
    get(cx, &profile.name, number).await
}

/// Prefix of the names of fragments that are profiles of this server: `profile/NAME`, the newest
/// revision, or `profile/NAME@NUMBER`.
const PROFILE: &str = "profile/";

/// The fragments that are shipped, and profiles of this server that were read so far.
struct Shelf {
    read: BTreeMap<String, Option<String>>,
    /// Names that a document asked for and that were not read yet.
    wanted: RefCell<BTreeSet<String>>,
    names: Vec<String>,
}

impl Library for Shelf {
    fn find(&self, name: &str) -> Option<Fragment> {
        if !name.starts_with(PROFILE) {
            return Builtin.find(name);
        }
        match self.read.get(name) {
            Some(text) => {
                let text = Cow::Owned(text.clone()?);
                Some(Fragment { name: Cow::Owned(name.to_owned()), kind: Kind::Profile, text })
            }
            None => {
                self.wanted.borrow_mut().insert(name.to_owned());
                None
            }
        }
    }
    fn names(&self) -> Vec<String> {
        Builtin.names().into_iter().chain(self.names.iter().cloned()).collect()
    }
}

/// A document that was resolved and checked.
struct Checked {
    resolved: Result<Resolved, Vec<Finding>>,
    /// The suite whose packages it was checked against.
    suite: Option<IndexedSuite>,
}

/// Resolves a document, which may extend fragments that are shipped and profiles of this server, and
/// checks it against the packages of the suite.
async fn resolve(cx: &Context, text: &str) -> Result<Checked, Error> {
    let shelf = shelf(cx, text).await?;
    let text = text.to_owned();
    suites::with(cx, move |index| {
        let packages = |profile: &Profile| index.map(|i| i.check(profile)).unwrap_or_default();
        Checked {
            resolved: profile::resolve_with(&text, &shelf, &packages),
            suite: index.map(OpenIndex::suite),
        }
    })
    .await
}

/// The profiles of this server that a document extends.
async fn shelf(cx: &Context, text: &str) -> Result<Shelf, Error> {
    let mut shelf = Shelf { read: BTreeMap::new(), wanted: RefCell::default(), names: Vec::new() };
    // Each round reads at least one profile more, and a document extends a limited number of them.
    loop {
        let resolved = profile::resolve(text, &shelf);
        let wanted = shelf.wanted.take();
        if wanted.is_empty() {
            // Only a wrong name needs the names that exist.
            if resolved.is_ok() || !shelf.names.is_empty() {
                return Ok(shelf);
            }
            let heads = store::revisions::heads(cx.db.pool(), LIBRARY_MAX).await?;
            shelf.names = heads.iter().map(|head| format!("{PROFILE}{}", head.line)).collect();
            if shelf.names.is_empty() {
                return Ok(shelf);
            }
            continue;
        }
        for name in wanted {
            let text = fragment(cx, &name).await?;
            shelf.read.insert(name, text);
        }
    }
}

/// Largest number of profiles that are proposed for `extends`.
const LIBRARY_MAX: u32 = 200;

/// The text of a profile as a fragment; `None` if there is no such profile.
async fn fragment(cx: &Context, name: &str) -> Result<Option<String>, Error> {
    let Some(rest) = name.strip_prefix(PROFILE) else { return Ok(None) };
    let (line, number) = match rest.split_once('@') {
        Some((line, number)) => (line, number.parse::<u32>().ok()),
        None => (rest, None),
    };
    let Ok(line) = line.parse::<Line>() else { return Ok(None) };
    let revision = match number {
        Some(number) => store::revisions::get(cx.db.pool(), &line, number).await?,
        None if rest.contains('@') => None,
        None => store::revisions::of_line(cx.db.pool(), &line, 1).await?.pop(),
    };
    let written = |r: ProfileRevision| r.text.map_or_else(|| as_toml(&r.profile), Ok);
    revision.map(written).transpose()
}

/// A profile as a document.
///
/// # Errors
/// [`Code::Internal`] if it cannot be written as TOML.
pub fn as_toml(profile: &Profile) -> Result<String, Error> {
    toml::to_string_pretty(profile).map_err(Error::internal)
}

/// Checks a document, and saves nothing.
pub async fn check_text(cx: &Context, text: &str) -> Result<CheckedProfile, Error> {
    let Checked { resolved, suite } = resolve(cx, text).await?;
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
/// [`Code::Invalid`] with all errors.
pub async fn save_text(cx: &Context, text: &str) -> Result<ProfileRevision, Error> {
    let resolved = resolve(cx, text).await?.resolved.map_err(refused)?;
    save_checked(cx, &resolved.profile, Some(text)).await
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
        .map(|Finding { path, message, remedy, .. }| FieldError { path, message, remedy })
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
    let effects = profile::effects(&before.profile, &after.profile);
    let devices = store::devices::of_line(cx.db.pool(), line).await?;
    Ok(ProfileChanges { line: line.clone(), from, to, changes, effects, devices })
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
