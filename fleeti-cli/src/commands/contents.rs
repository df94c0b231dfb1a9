//! `fleeti build contents` and `fleeti build diff`: what is in images.

use crate::CommandResult;
use crate::output::{Failure, Lines, Output, rows};
use fleeti_build::contents::{
    self, AccountChange, Contents, Difference, Entry, FileChange, PackageChange, Share, State,
    UnitChange, UnitState,
};
use fleeti_core::size::bytes;
use serde::Serialize;
use std::path::Path;

/// Files that the text of a difference lists; JSON has all of them.
const FILES_SHOWN: usize = 40;

/// What `fleeti build contents` says.
#[derive(Serialize)]
struct Summary {
    packages: Vec<Share>,
    setuid: Vec<Entry>,
}

/// Prints the share of each package, and the programs that run with other rights.
pub fn summary(build: &Path, output: &Output) -> CommandResult {
    let contents = Contents::read(build).map_err(failure)?;
    let summary =
        Summary { packages: contents.by_package(), setuid: contents.setuid().cloned().collect() };
    output.data(&summary, |s| {
        let total: u64 = s.packages.iter().map(|share| share.bytes).sum();
        rows(&s.packages, "the image is empty", |share| {
            format!("{:>10}  {:>6} files  {}", bytes(share.bytes), share.files, share.package)
        })
        .and(format!("{:>10}  in all, not compressed", bytes(total)))
        .and("")
        .and("programs with the rights of their owner or group (setuid, setgid):")
        .and(rows(&s.setuid, "  none", |entry| {
            let package = entry.package.as_deref().unwrap_or(contents::NO_PACKAGE);
            format!("  {:04o}  {}  {package}", entry.mode, entry.path)
        }))
    });
    Ok(())
}

/// Prints what differs between two builds.
pub fn diff(before: &Path, after: &Path, output: &Output) -> CommandResult {
    let found = contents::compare(before, after).map_err(failure)?;
    output.data(&found, describe);
    Ok(())
}

fn failure(e: fleeti_build::build::BuildError) -> Failure {
    let hint = "name the output directory of `fleeti build run` (--out)";
    Failure::with_log(e, Some(hint))
}

fn describe(d: &Difference) -> Lines {
    if d.is_empty() {
        return "the root file systems are equal".into();
    }
    let sections = [
        section("packages", d.packages.iter().map(package)),
        section("units", d.units.iter().map(unit)),
        section("users", d.users.iter().map(account)),
        section("groups", d.groups.iter().map(account)),
        section("files", d.files.iter().take(FILES_SHOWN).map(file)),
    ];
    let mut lines = sections.into_iter().fold(Lines::default(), Lines::and);
    if let Some(more) = d.files.len().checked_sub(FILES_SHOWN).filter(|more| *more > 0) {
        lines = lines.and(format!("  and {more} more; --output json has all of them"));
    }
    lines.and(format!("size: {} -> {}", bytes(d.size_before), bytes(d.size_after)))
}

fn section(title: &str, lines: impl Iterator<Item = String>) -> Lines {
    let lines: Vec<_> = lines.map(|line| format!("  {line}")).collect();
    if lines.is_empty() { Lines::default() } else { Lines::from(format!("{title}:")).and(lines) }
}

fn package(p: &PackageChange) -> String {
    let size = if p.bytes < 0 {
        format!("-{}", bytes(p.bytes.unsigned_abs()))
    } else {
        format!("+{}", bytes(p.bytes.unsigned_abs()))
    };
    match (&p.before, &p.after) {
        (Some(before), Some(after)) => format!("~ {} {before} -> {after} ({size})", p.name),
        (None, Some(after)) => format!("+ {} {after} ({size})", p.name),
        (Some(before), None) => format!("- {} {before} ({size})", p.name),
        (None, None) => p.name.clone(),
    }
}

fn unit(u: &UnitChange) -> String {
    let word = |state| match state {
        UnitState::Absent => "absent",
        UnitState::Disabled => "disabled",
        UnitState::Enabled => "enabled",
        UnitState::Masked => "masked",
    };
    let text = if u.text_changed && u.before != UnitState::Absent && u.after != UnitState::Absent {
        ", text changed"
    } else {
        ""
    };
    if u.before == u.after {
        format!("~ {} {}{text}", u.name, word(u.after))
    } else {
        format!("~ {} {} -> {}{text}", u.name, word(u.before), word(u.after))
    }
}

fn account(a: &AccountChange) -> String {
    match (a.before, a.after) {
        (Some(before), Some(after)) => format!("~ {} {before} -> {after}", a.name),
        (None, Some(after)) => format!("+ {} {after}", a.name),
        (Some(before), None) => format!("- {} {before}", a.name),
        (None, None) => a.name.clone(),
    }
}

fn file(f: &FileChange) -> String {
    let sign = match f.state {
        State::Added => '+',
        State::Removed => '-',
        State::Changed => '~',
    };
    let what = if f.what.is_empty() { String::new() } else { format!(" ({})", f.what.join(", ")) };
    let setuid = if f.setuid { " [setuid]" } else { "" };
    format!("{sign} {}{what}{setuid}", f.path)
}
