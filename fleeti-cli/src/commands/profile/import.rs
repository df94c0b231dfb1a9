//! `fleeti profile import`: a profile of a system that exists.

use super::document;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output};
use clap::Args;
use fleeti_adopt::{Adopted, Area, Note, Options, Outcome};
use fleeti_build::base::Base as _;
use fleeti_build::base::debian::Debian;
use fleeti_core::id::Line;
use fleeti_core::profile::{self, Profile};
use serde::Serialize;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Write a profile of a running Debian system, and list what was not taken.
///
/// The command reads files only: it runs no command and changes nothing. It takes packages that
/// somebody asked for, users and groups with their SSH keys, rules of sudo, units and drop-ins,
/// interfaces and packet filters, settings of the kernel, changed and own files of configuration,
/// and directories with data. The profile passes `fleeti profile check`: what breaks a rule is left
/// out and listed.
///
/// Not in the profile are data, private keys, passphrases, and files that not every user may read.
/// Read the list: it says for each of them why, and what to do. The profile still describes one
/// machine, so the file is readable for its owner only (mode 0600).
///
/// Exit code: 0 if the profile was written, also if there is much that was not taken; 1 otherwise.
#[derive(Args)]
#[command(after_help = "Examples:
  sudo fleeti profile import --adopt                      # this system, to HOSTNAME.toml
  fleeti profile import web --adopt --root /mnt           # a mounted disk, to web.toml
  sudo fleeti profile import web --adopt --include /etc/postgresql
                                                          # with files of mode 0640
  sudo fleeti profile import web --adopt -o json | jq .not_taken")]
pub struct Import {
    /// Name of the profile, and image line of its builds: 1 to 16 characters of a-z, 0-9 and '-'
    /// [default: the host name].
    name: Option<Line>,
    /// Describe the system whose root directory is --root.
    #[arg(long, required = true)]
    adopt: bool,
    /// Root directory of the system. Links do not lead out of it.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// File to write, with mode 0600, or `-` for stdout [default: NAME.toml].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace a file that exists.
    #[arg(long)]
    force: bool,
    /// Take the hashes of passwords. Everyone who has the profile or an image can attack them.
    #[arg(long)]
    password_hashes: bool,
    /// Take this file, or what is below this directory, although not every user may read it, or
    /// although it looks as if it had a secret. Private keys are never taken.
    #[arg(long, value_name = "PATH")]
    include: Vec<String>,
}

/// What was taken and what was not.
#[derive(Serialize)]
struct Imported<'a> {
    name: &'a Line,
    /// `None` for stdout.
    file: Option<&'a Path>,
    taken: Vec<&'a Note>,
    not_taken: Vec<&'a Note>,
    replaced: Vec<&'a Note>,
    /// Paths of fields that the base does not honour yet.
    not_built: Vec<String>,
    text: &'a str,
}

pub fn run(import: &Import, output: &Output) -> CommandResult {
    let root = import.root.display();
    let snapshot =
        fleeti_adopt::collect(&import.root).map_err(|e| Failure::plain(format!("{root}: {e}")))?;
    let name = import.name.clone().or_else(|| fleeti_adopt::name_of(&snapshot));
    let name = name.ok_or_else(|| {
        let hint = "name the profile: fleeti profile import web --adopt";
        Failure::new("the host name is missing or is not a valid profile name", Some(hint))
    })?;
    let options = Options {
        password_hashes: import.password_hashes,
        include: import.include.clone(),
        suite: fleeti_build::lock::SUITE.to_owned(),
    };
    let adopted = fleeti_adopt::adopt(&snapshot, &name, &options).map_err(|e| {
        let hint = "name the root of a Debian system with --root";
        Failure::new(format!("{root}: {e}"), Some(hint))
    })?;
    let file = import.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.toml")));
    let is_stdout = file == Path::new("-");
    let of = |outcome| adopted.notes.iter().filter(move |note| note.outcome == outcome).collect();
    let imported = Imported {
        name: &name,
        file: (!is_stdout).then_some(&file),
        taken: of(Outcome::Taken),
        not_taken: of(Outcome::NotTaken),
        replaced: of(Outcome::Replaced),
        not_built: profile::beyond(&adopted.profile, Debian.honoured()).map_err(Failure::plain)?,
        text: &adopted.text,
    };
    if is_stdout {
        output.toml(&imported, &adopted.text);
        output.note(report(&imported));
    } else {
        write(import, &file, &adopted.text)?;
        output.data(&imported, |imported| {
            let summary = summary(&adopted, &file);
            Lines::from(summary).and(report(imported)).and(next(&file))
        });
    }
    // The profile is valid by construction, and the check is what counts.
    let resolved = document::resolve_text(&file, &adopted.text, None)?;
    document::warn(&file, &resolved, output);
    Ok(())
}

fn write(import: &Import, file: &Path, text: &str) -> CommandResult {
    // Not only with hashes: what --include takes may be readable for a group only, and no search
    // for secrets is complete.
    let mode = fleeti_files::PRIVATE;
    let written = if import.force {
        fleeti_files::write_durably(file, text.as_bytes(), mode)
    } else {
        fleeti_files::create_durably(file, text.as_bytes(), mode)
    };
    written.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => Failure::new(
            format!("{} exists already", file.display()),
            Some("name another file with --out, or replace it with --force"),
        ),
        _ => Failure::plain(format!("{}: {e}", file.display())),
    })
}

fn summary(adopted: &Adopted, file: &Path) -> String {
    let Profile { users, services, files, state, software, .. } = &adopted.profile;
    let counts = [
        (software.packages.len(), "package", "packages"),
        (users.len(), "user", "users"),
        (services.len(), "unit", "units"),
        (files.len(), "file", "files"),
        (state.directories.len(), "directory with data", "directories with data"),
    ];
    let counts = counts.map(|(n, one, many)| format!("{n} {}", if n == 1 { one } else { many }));
    format!("wrote {}: {}", file.display(), counts.join(", "))
}

/// The notes for people, those first that need work.
fn report(imported: &Imported<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for (title, notes) in [
        ("not taken", &imported.not_taken),
        ("taken, with something to know", &imported.taken),
        ("done by Fleeti in another way", &imported.replaced),
    ] {
        if notes.is_empty() {
            continue;
        }
        lines.extend([String::new(), format!("{title} ({})", notes.len())]);
        let mut area: Option<Area> = None;
        for note in notes {
            if area != Some(note.area) {
                lines.push(format!("  {}", note.area.heading()));
                area = Some(note.area);
            }
            lines.push(format!("    {}: {}", note.subject, note.why));
            if !note.next.is_empty() {
                lines.push(format!("      next: {}", note.next));
            }
        }
    }
    if !imported.not_built.is_empty() {
        let title = "in the profile, but not built yet by the base debian";
        lines.extend([String::new(), format!("{title} ({})", imported.not_built.len())]);
        lines.extend(imported.not_built.iter().map(|path| format!("    {path}")));
    }
    lines
}

fn next(file: &Path) -> Vec<String> {
    let file = file.display();
    vec![String::new(), format!("next: read {file}, then `fleeti profile check {file}`")]
}
