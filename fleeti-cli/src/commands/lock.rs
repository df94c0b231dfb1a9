//! `fleeti build lock`.

use super::profile::Packages;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output};
use fleeti_build::build::{self, BuildError, LockWanted, Resolved};
use fleeti_build::cache::Cache;
use fleeti_build::refresh::{Changes, Listed, Moved, add_security, changes};
use fleeti_core::profile::Revision;
use fleeti_core::size::bytes;
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
    let mut lines = vec![format!("{what} {}", found.digest)];
    if found.is_empty() {
        lines.push("  no package changes".to_owned());
    }
    for (title, list) in [("up", &found.up), ("down", &found.down)] {
        lines.extend(list.iter().flat_map(|moved| moved_lines(title, moved)));
    }
    for (title, list) in [("new", &found.new), ("gone", &found.gone)] {
        lines.extend(list.iter().map(|listed| listed_line(title, listed)));
    }
    let (before, after) = (found.size_before, found.size_after);
    let sign = if after < before { "-" } else { "+" };
    let by = bytes(after.abs_diff(before));
    lines.push(format!("  size of the packages: {} ({sign}{by})", bytes(after)));
    Lines::from(lines)
}

fn of(in_image: bool) -> &'static str {
    if in_image { "" } else { ", of the build only" }
}

fn moved_lines(title: &str, moved: &Moved) -> Vec<String> {
    let Moved { name, before, after, origin, in_image, security } = moved;
    let head = format!("  {title:<5}{name} {before} -> {after} ({origin}{})", of(*in_image));
    let entries = security.iter().map(|entry| {
        let cves =
            if entry.cves.is_empty() { "no CVE named".to_owned() } else { entry.cves.join(", ") };
        format!("         security {}, urgency {}: {cves}", entry.version, entry.urgency)
    });
    std::iter::once(head).chain(entries).collect()
}

fn listed_line(title: &str, listed: &Listed) -> String {
    let Listed { name, version, origin, in_image } = listed;
    format!("  {title:<5}{name} {version} ({origin}{})", of(*in_image))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_build::refresh::Entry;

    #[test]
    fn changes_are_told_by_name_version_origin_and_security_entry() {
        let moved = |name: &str, before: &str, after: &str| Moved {
            name: name.into(),
            before: before.into(),
            after: after.into(),
            origin: "debian trixie-security main".into(),
            in_image: true,
            security: Vec::new(),
        };
        let mut up = moved("openssl", "3.5.6-1", "3.5.7-1");
        let cves = vec!["CVE-2026-1234".to_owned()];
        up.security = vec![Entry { version: "3.5.7-1".into(), urgency: "high".into(), cves }];
        let listed = Listed {
            name: "zz".into(),
            version: "1".into(),
            origin: "vendor stable main".into(),
            in_image: false,
        };
        let found = Changes {
            digest: "d".into(),
            up: vec![up],
            down: vec![moved("bb", "2", "1")],
            new: vec![listed.clone()],
            gone: vec![listed],
            size_before: 4096,
            size_after: 1024,
        };
        let expected = Lines::from(vec![
            "lock d".to_owned(),
            "  up   openssl 3.5.6-1 -> 3.5.7-1 (debian trixie-security main)".to_owned(),
            "         security 3.5.7-1, urgency high: CVE-2026-1234".to_owned(),
            "  down bb 2 -> 1 (debian trixie-security main)".to_owned(),
            "  new  zz 1 (vendor stable main, of the build only)".to_owned(),
            "  gone zz 1 (vendor stable main, of the build only)".to_owned(),
            "  size of the packages: 1.0 KiB (-3.0 KiB)".to_owned(),
        ]);
        assert_eq!(text(&found, false), expected);
    }
}
