//! What a change of a profile does: items that differ, and effects on devices.

use askama::Template;
use fleeti_control::profiles::Preview;
use fleeti_core::profile::{Change, Effects};
use fleeti_core::wire::profile::ProfileChanges;
use std::collections::BTreeSet;

/// Largest number of names in a row, and of rows of the difference, that are shown.
const SHOWN_MAX: usize = 200;

/// An effect: its name, and names of what it concerns.
pub struct Effect {
    pub name: &'static str,
    pub items: Vec<String>,
}

/// What a change of a profile does.
#[derive(Template)]
#[template(path = "_changes.html")]
pub struct Changes {
    /// What it is compared with.
    pub heading: String,
    /// It is the first revision.
    pub is_first: bool,
    pub effects: Vec<Effect>,
    pub reboot: bool,
    pub reinstall: bool,
    pub pcrs: String,
    pub devices: String,
    pub changes: Vec<Change>,
    /// Number of differences that are not shown.
    pub hidden: usize,
}

impl Changes {
    /// What saving does.
    pub fn of_preview(preview: &Preview) -> Self {
        match preview.against {
            Some(number) => {
                let heading = format!("Compared with revision {number}");
                Self::of(heading, &preview.changes, &preview.effects, preview.devices)
            }
            None => Self {
                is_first: true,
                ..Self::of("First revision".to_owned(), &[], &preview.effects, 0)
            },
        }
    }

    /// What differs between two revisions.
    pub fn of_revisions(changes: &ProfileChanges) -> Self {
        let heading = format!("Revision {} compared with revision {}", changes.to, changes.from);
        Self::of(heading, &changes.changes, &changes.effects, changes.devices)
    }

    fn of(heading: String, changes: &[Change], effects: &Effects, devices: u64) -> Self {
        let pcrs: Vec<_> = effects.pcrs.iter().map(ToString::to_string).collect();
        Self {
            heading,
            is_first: false,
            effects: rows(effects),
            reboot: effects.reboot,
            reinstall: effects.reinstall,
            pcrs: pcrs.join(", "),
            devices: match devices {
                0 => "No device runs this profile".to_owned(),
                1 => "1 device".to_owned(),
                n => format!("{n} devices"),
            },
            changes: changes.iter().take(SHOWN_MAX).cloned().collect(),
            hidden: changes.len().saturating_sub(SHOWN_MAX),
        }
    }
}

fn rows(effects: &Effects) -> Vec<Effect> {
    let rows: [(&'static str, &BTreeSet<String>); 19] = [
        ("Packages added", &effects.packages_added),
        ("Packages removed", &effects.packages_removed),
        ("Packages whose units and users are not known yet", &effects.packages_unknown),
        ("Units started", &effects.units_started),
        ("Units changed", &effects.units_changed),
        ("Units no longer started", &effects.units_stopped),
        ("Users added", &effects.users_added),
        ("Users changed", &effects.users_changed),
        ("Users removed", &effects.users_removed),
        ("Groups added", &effects.groups_added),
        ("Groups changed", &effects.groups_changed),
        ("Groups removed", &effects.groups_removed),
        ("Ports opened", &effects.ports_opened),
        ("Ports closed", &effects.ports_closed),
        ("Files", &effects.files),
        ("Directories that persist", &effects.state_added),
        ("Directories with another owner or mode", &effects.state_changed),
        ("Directories that no longer persist", &effects.state_removed),
        ("Settings", &effects.settings),
    ];
    let row = |(name, items): &(&'static str, &BTreeSet<String>)| Effect {
        name,
        items: items.iter().take(SHOWN_MAX).cloned().collect(),
    };
    let mut shown: Vec<_> = rows.iter().filter(|(_, items)| !items.is_empty()).map(row).collect();
    if effects.state_version {
        let items = vec!["the device keeps a copy until the update is committed".to_owned()];
        shown.push(Effect { name: "Version of persistent data", items });
    }
    shown
}
