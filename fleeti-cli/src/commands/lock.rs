//! `fleeti build lock`.

use super::profile::Packages;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output};
use fleeti_build::build::{self, BuildError, LockWanted, Resolved};
use fleeti_build::cache::Cache;
use fleeti_build::refresh::{Changes, add_security, changes};
use fleeti_core::profile::Revision;
use std::path::PathBuf;

/// The arguments of `fleeti build lock`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The profile, a TOML file.
    profile: PathBuf,
    /// With --refresh: refresh these packages, with what they need, and keep all others.
    #[arg(value_name = "PACKAGE", requires = "refresh")]
    only: Vec<String>,
    /// Output file of the lock; the cache by default.
    #[arg(long)]
    lock: Option<PathBuf>,
    /// Resolve again even if there is a lock, and show what changes.
    #[arg(long)]
    refresh: bool,
    /// Show what would change, and write nothing.
    #[arg(long, requires = "refresh")]
    dry_run: bool,
    /// Accept packages and lists that are older than those of the lock.
    #[arg(long, requires = "refresh")]
    allow_downgrade: bool,
    /// Directory of a build whose numbers of users and groups the lock keeps.
    #[arg(long, value_name = "DIR", requires = "lock")]
    keep_ids: Option<PathBuf>,
    #[command(flatten)]
    packages: Packages,
}

fn failure(e: BuildError) -> Failure {
    let hint = e.hint();
    Failure::with_log(e, hint)
}

pub fn run(arguments: &Arguments, cache: &Cache, output: &Output) -> CommandResult {
    let profile = super::profile::read_checked(&arguments.profile, &arguments.packages, output)?;
    let software = profile.software.clone();
    let revision = Revision::new(1, profile).map_err(Failure::plain)?;
    let is_missing = arguments.lock.as_ref().is_some_and(|path| !path.exists());
    let wanted = LockWanted {
        path: arguments.lock.as_deref(),
        refresh: arguments.refresh || is_missing,
        only: &arguments.only,
        allow_downgrade: arguments.allow_downgrade,
    };
    // A lock in a file that is for another profile is refreshed only if that is asked for.
    if !wanted.refresh && arguments.lock.is_some() {
        build::lock_into(cache, &revision, wanted.path, false).map_err(failure)?;
    }
    let note = &mut |line: &str| output.note(Lines::from(format!("note: {line}")));
    let mut resolved = build::refreshed(cache, &revision, &wanted, note).map_err(failure)?;
    if let Some(directory) = &arguments.keep_ids {
        build::keep_ids(&mut resolved.lock, directory).map_err(failure)?;
    }
    let Some(earlier) = resolved.earlier.as_ref().filter(|_| arguments.refresh) else {
        return write(resolved, arguments.dry_run, output);
    };
    let mut found = changes(earlier, &resolved.lock);
    if let Err(e) = add_security(&mut found, &resolved.lock, cache, &software) {
        note(&format!("changelogs were not read: {e}"));
    }
    if !arguments.dry_run {
        build::written(resolved).map_err(failure)?;
    }
    output.data(&found, |found| text(found, arguments.dry_run));
    Ok(())
}

fn write(resolved: Resolved, is_dry: bool, output: &Output) -> CommandResult {
    let lock = if is_dry { resolved.lock } else { build::written(resolved).map_err(failure)? };
    output.data(&lock, |l| {
        let sets: Vec<_> = l.sets.iter().map(|(name, p)| format!("{name} {}", p.len())).collect();
        format!("lock {}: {}", l.digest(), sets.join(", "))
    });
    Ok(())
}

/// What changes, for people.
fn text(found: &Changes, is_dry: bool) -> Lines {
    let what = if is_dry { "lock not written" } else { "lock" };
    Lines::from(format!("{what} {}", found.digest)).and(found.lines())
}
