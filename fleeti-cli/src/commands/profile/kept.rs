//! Profiles that the server keeps: its library, revisions, and what differs between two of them.

use super::{Checked, document, shown_revision};
use crate::CommandResult;
use crate::commands::server::Server;
use crate::output::{Failure, Lines, Output, rows, when};
use fleeti_core::id::Line;
use fleeti_core::profile::{Effects, Revision};
use fleeti_core::wire::api::ProfileRevision;
use fleeti_core::wire::profile::{LibraryEntry, ProfileChanges};
use std::collections::BTreeSet;
use std::path::Path;

/// List the revisions of a profile on the server, newest first.
#[derive(clap::Args)]
pub struct Revisions {
    /// Name of the profile.
    profile: Line,
    #[command(flatten)]
    server: Server,
}

/// Print one revision of a profile on the server: its text, or the resolved profile if it has none.
#[derive(clap::Args)]
pub struct OneRevision {
    /// Name of the profile.
    profile: Line,
    /// Number of the revision.
    number: u32,
    #[command(flatten)]
    server: Server,
}

/// Show what differs between two revisions of a profile, and what that changes on devices.
#[derive(clap::Args)]
pub struct Changes {
    /// Name of the profile.
    profile: Line,
    /// Number of the earlier revision.
    from: u32,
    /// Number of the later revision.
    to: u32,
    #[command(flatten)]
    server: Server,
}

pub(super) fn revisions(arguments: &Revisions, output: &Output) -> CommandResult {
    let Revisions { profile, server } = arguments;
    let revisions = server.ask(async |c| c.revisions(profile).await)?;
    output.data(&revisions, |list| Lines::from(list.iter().flat_map(dated).collect::<Vec<_>>()));
    Ok(())
}

fn dated(revision: &ProfileRevision) -> Vec<String> {
    let saved = format!("  saved {}, digest {}", when(revision.created_s), revision.digest);
    let mut lines = shown_revision(revision);
    lines.insert(1, saved);
    lines
}

pub(super) fn revision(arguments: &OneRevision, output: &Output) -> CommandResult {
    let OneRevision { profile, number, server } = arguments;
    let revision = server.ask(async |c| c.revision(profile, *number).await)?;
    let text = match &revision.text {
        Some(text) => text.clone(),
        None => toml::to_string_pretty(&revision.profile).map_err(Failure::plain)?,
    };
    output.toml(&revision, &text);
    Ok(())
}

pub(super) fn changes(arguments: &Changes, output: &Output) -> CommandResult {
    let Changes { profile, from, to, server } = arguments;
    let changes = server.ask(async |c| c.profile_changes(profile, *from, *to).await)?;
    output.data(&changes, described);
    Ok(())
}

fn described(changes: &ProfileChanges) -> Lines {
    let ProfileChanges { line, from, to, changes, effects, devices } = changes;
    if changes.is_empty() {
        return format!("{line}: the revisions {from} and {to} do not differ").into();
    }
    let none = || "nothing".to_owned();
    let fields = changes.iter().map(|change| {
        let (before, after) = (change.before.clone(), change.after.clone());
        format!(
            "{}: {} -> {}",
            change.path,
            before.unwrap_or_else(none),
            after.unwrap_or_else(none)
        )
    });
    Lines::from(format!("{line}: revision {from} to {to}"))
        .and(fields.collect::<Vec<_>>())
        .and(format!("on {devices} devices:"))
        .and(effect_lines(effects))
}

/// One line for each kind of effect that is not empty.
fn effect_lines(effects: &Effects) -> Vec<String> {
    let lists: [(&str, &BTreeSet<String>); 19] = [
        ("packages added", &effects.packages_added),
        ("packages removed", &effects.packages_removed),
        ("packages not known", &effects.packages_unknown),
        ("units started", &effects.units_started),
        ("units stopped", &effects.units_stopped),
        ("units changed", &effects.units_changed),
        ("users added", &effects.users_added),
        ("users removed", &effects.users_removed),
        ("users changed", &effects.users_changed),
        ("groups added", &effects.groups_added),
        ("groups removed", &effects.groups_removed),
        ("groups changed", &effects.groups_changed),
        ("ports opened", &effects.ports_opened),
        ("ports closed", &effects.ports_closed),
        ("files", &effects.files),
        ("directories added", &effects.state_added),
        ("directories removed", &effects.state_removed),
        ("directories changed", &effects.state_changed),
        ("settings", &effects.settings),
    ];
    let line = |name: &str, items: &BTreeSet<String>| {
        format!("  {name:<20} {}", items.iter().cloned().collect::<Vec<_>>().join(", "))
    };
    let mut lines: Vec<_> = lists
        .into_iter()
        .filter(|(_, items)| !items.is_empty())
        .map(|(name, items)| line(name, items))
        .collect();
    if !effects.pcrs.is_empty() {
        let pcrs = effects.pcrs.iter().map(ToString::to_string).collect();
        lines.push(line("PCRs", &pcrs));
    }
    for (is_so, text) in [
        (
            effects.state_version,
            "  a copy of the persistent data is kept until the update is committed",
        ),
        (effects.reboot, "  the device reboots"),
        (effects.reinstall, "  devices must be installed again: sizes of the disk differ"),
    ] {
        if is_so {
            lines.push(text.to_owned());
        }
    }
    lines
}

pub(super) fn library(name: Option<&str>, server: &Server, output: &Output) -> CommandResult {
    let entries = server.ask(async |c| c.profile_library().await)?;
    let Some(name) = name else {
        output.data(&entries, |list| rows(list, "the server has no fragments", listed));
        return Ok(());
    };
    let names: Vec<_> = entries.iter().map(|entry| entry.name.clone()).collect();
    let entry = entries
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| super::shown::unknown("fragment", name, &names))?;
    output.toml(entry, &entry.text);
    Ok(())
}

fn listed(entry: &LibraryEntry) -> String {
    format!("{:<32} {:<12} {}", entry.name, entry.kind.noun(), entry.summary)
}

pub(super) fn check(file: &Path, server: &Server, output: &Output) -> CommandResult {
    let text = document::text(file)?;
    let checked = server.ask(async |c| c.check_profile_text(&text).await)?;
    let note = "note: the server has no index of packages yet, so packages were not checked";
    let note = checked.suite.is_none().then(|| note.to_owned());
    let Some(profile) = checked.profile else {
        return Err(document::wrong(file, checked.findings, note));
    };
    if let Some(note) = note {
        output.note(note);
    }
    document::warn_of(file, &checked.findings, output);
    let checked = Checked {
        revision: Revision::new(1, profile).map_err(Failure::plain)?,
        warnings: checked.findings,
        suite: checked.suite.map(|suite| suite.suite),
    };
    output.data(&checked, Checked::line);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn each_effect_has_a_line() {
        let none = serde_json::to_value(Effects::default()).unwrap();
        assert!(effect_lines(&Effects::default()).is_empty());
        for (name, value) in none.as_object().unwrap() {
            let mut one = none.clone();
            one[name] = match value {
                Value::Bool(_) => json!(true),
                _ if name == "pcrs" => json!([11]),
                _ => json!(["one"]),
            };
            let effects: Effects = serde_json::from_value(one).unwrap();
            assert_eq!(effect_lines(&effects).len(), 1, "{name}");
        }
    }
}
