//! Devices of a filter: listed, described and changed together.

use super::commands::{self, CommandName, Details};
use super::shown::{labels, row};
use super::{ReasonName, Server};
use crate::CommandResult;
use crate::commands::approval;
use crate::output::{Failure, Lines, Output, rows};
use clap::Args;
use fleeti_core::filter::Filter;
use fleeti_core::id::{DeviceId, LabelKey, ViewName};
use fleeti_core::wire::approval::AskedAct;
use fleeti_core::wire::labels::{
    About, Change, ChangeDevices, ChangeLabels, DevicesChanged, devices_in_words,
};
use std::str::FromStr;

/// List devices with their version and update state.
#[derive(Args)]
pub struct List {
    /// List only devices that a filter matches, such as "site=berlin and version<2".
    #[arg(long, conflicts_with = "view")]
    filter: Option<String>,
    /// List only devices of a saved view.
    #[arg(long)]
    view: Option<ViewName>,
    #[command(flatten)]
    server: Server,
}

/// Set and remove labels of a device.
#[derive(Args)]
pub struct LabelDevice {
    /// Id of the device.
    device: DeviceId,
    /// Labels: KEY=VALUE sets one, KEY- removes one.
    #[arg(required = true, value_name = "KEY=VALUE")]
    labels: Vec<LabelChange>,
    #[command(flatten)]
    server: Server,
}

/// Set the name of a device.
#[derive(Args)]
pub struct NameDevice {
    /// Id of the device.
    device: DeviceId,
    /// The name; "" removes it.
    name: String,
    #[command(flatten)]
    server: Server,
}

/// Set the note about a device.
#[derive(Args)]
pub struct NoteDevice {
    /// Id of the device.
    device: DeviceId,
    /// The note; "" removes it.
    note: String,
    #[command(flatten)]
    server: Server,
}

/// Put new hardware in the place of a device: the new device gets its name, note and labels, and the
/// old one is revoked.
///
/// Enroll the new device into the same fleet first. It proves anew what it runs.
#[derive(Args)]
pub struct ReplaceDevice {
    /// Id of the old device.
    device: DeviceId,
    /// Id of the new device.
    #[arg(long)]
    with: DeviceId,
    #[command(flatten)]
    server: Server,
}

/// Change all devices that a filter matches: without --devices, only show how many there are.
#[derive(Args)]
pub struct ChangeAll {
    /// The filter.
    #[arg(long)]
    filter: String,
    /// Number of devices that the preview showed. The server refuses the change if the filter matches
    /// another number by now.
    #[arg(long)]
    devices: Option<u64>,
    /// For a revocation: `revoke N devices`, with the number; for a reboot, `reboot N devices`.
    #[arg(long)]
    confirm: Option<String>,
    /// Set a label (KEY=VALUE), or remove one (KEY-).
    #[arg(
        long,
        value_name = "KEY=VALUE",
        conflicts_with_all = ["revoke", "command"],
        required_unless_present_any = ["revoke", "command"]
    )]
    label: Option<LabelChange>,
    /// Revoke the devices for this reason: the server ends their sessions now and refuses them from
    /// then on.
    #[arg(long, value_enum, value_name = "REASON")]
    revoke: Option<ReasonName>,
    /// Request the approval of a second person for the revocation instead, for this reason.
    #[arg(long, value_name = "REASON", requires = "revoke")]
    ask: Option<String>,
    /// Send a command, which is not a factory reset.
    #[arg(long, value_enum, conflicts_with = "revoke")]
    command: Option<CommandName>,
    #[command(flatten)]
    details: Details,
    #[command(flatten)]
    server: Server,
}

/// `KEY=VALUE` or `KEY-`.
#[derive(Clone)]
pub struct LabelChange {
    key: LabelKey,
    value: Option<String>,
}

impl FromStr for LabelChange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) => (key, Some(value.to_owned())),
            (None, Some(key)) => (key, None),
            (None, None) => return Err("write KEY=VALUE, or KEY- to remove a label".to_owned()),
        };
        Ok(Self { key: key.parse().map_err(|e| format!("{e}"))?, value })
    }
}

pub(super) fn list(list: &List, output: &Output) -> CommandResult {
    let List { filter, view, server } = list;
    let filter = match (filter, view) {
        (Some(filter), _) => Some(filter.clone()),
        (None, Some(name)) => Some(filter_of(name, server)?),
        (None, None) => None,
    };
    let devices = match &filter {
        None => server.ask(async |c| c.devices().await)?,
        Some(filter) => {
            check(filter)?;
            server.ask(async |c| c.devices_of(filter).await)?
        }
    };
    let empty = match filter {
        None => "no devices yet; create an enrollment record with `fleeti device enrollment`",
        Some(_) => "no device matches the filter",
    };
    output.data(&devices, |d| rows(d, empty, row));
    Ok(())
}

fn filter_of(name: &ViewName, server: &Server) -> Result<String, Failure> {
    let views = server.ask(async |c| c.views().await)?;
    let view = views.into_iter().find(|view| view.name == *name);
    let missing =
        || Failure::new(format!("there is no view {name}"), Some("see `fleeti view list`"));
    Ok(view.ok_or_else(missing)?.filter)
}

/// Shows at which column a filter is wrong. The server knows the label keys, and checks again.
fn check(filter: &str) -> Result<(), Failure> {
    match filter.parse::<Filter>() {
        Ok(_) => Ok(()),
        Err(e) => {
            let pointed = Lines::from(vec![filter.to_owned(), e.pointer()]);
            Err(Failure::new(&e, Some(e.hint.clone())).with_details(pointed))
        }
    }
}

pub(super) fn label(request: LabelDevice, output: &Output) -> CommandResult {
    let LabelDevice { device, labels: given, server } = request;
    let mut changes = ChangeLabels::default();
    for LabelChange { key, value } in given {
        match value {
            Some(value) => drop(changes.set.insert(key, value)),
            None => changes.remove.push(key),
        }
    }
    let device = server.ask(async |c| c.change_labels(&device, &changes).await)?;
    output.data(&device, |d| format!("{}: {}", d.id, labels(d)));
    Ok(())
}

pub(super) fn name(request: NameDevice, output: &Output) -> CommandResult {
    let NameDevice { device, name, server } = request;
    let about = About { name: Some(name), note: None };
    let device = server.ask(async |c| c.describe_device(&device, &about).await)?;
    output.data(&device, |d| match &d.name {
        Some(name) => format!("{} has the name {name}", d.id),
        None => format!("{} has no name", d.id),
    });
    Ok(())
}

pub(super) fn note(request: NoteDevice, output: &Output) -> CommandResult {
    let NoteDevice { device, note, server } = request;
    let about = About { name: None, note: Some(note) };
    let device = server.ask(async |c| c.describe_device(&device, &about).await)?;
    output.data(&device, |d| match &d.note {
        Some(_) => format!("the note about {} is stored", d.id),
        None => format!("{} has no note", d.id),
    });
    Ok(())
}

pub(super) fn replace(request: &ReplaceDevice, output: &Output) -> CommandResult {
    let ReplaceDevice { device: old, with, server } = request;
    let new = server.ask(async |c| c.replace_device(old, with).await)?;
    output.data(&new, |new| format!("{} takes the place of {old}, which is revoked", new.id));
    Ok(())
}

pub(super) fn change_all(request: ChangeAll, output: &Output) -> CommandResult {
    let ChangeAll { filter, devices, confirm, label, revoke, ask, command, details, server } =
        request;
    check(&filter)?;
    let change = match (label, revoke, command) {
        (Some(LabelChange { key, value: Some(value) }), _, _) => Change::Label { key, value },
        (Some(LabelChange { key, value: None }), _, _) => Change::Unlabel { key },
        (None, Some(reason), _) => Change::Revoke { reason: reason.into() },
        (None, None, Some(name)) => {
            let (kind, valid_s) = commands::for_many(name, &details)?;
            Change::Command { kind, valid_s }
        }
        (None, None, None) => {
            return Err(Failure::plain("a change needs --label, --revoke or --command"));
        }
    };
    let request = ChangeDevices { filter, change, expected: devices, confirm };
    if let Some(reason) = ask {
        return approval::request(AskedAct::RevokeDevices { request }, reason, &server, output);
    }
    let changed = server.ask(async |c| c.change_devices(&request).await)?;
    output.data(&changed, |changed| summary(changed, &request.change));
    Ok(())
}

fn summary(changed: &DevicesChanged, change: &Change) -> Lines {
    let DevicesChanged { devices, first, done } = changed;
    if *done {
        return Lines::from(format!("changed {}", devices_in_words(*devices)));
    }
    let mut lines =
        vec![format!("the filter matches {}; nothing is changed", devices_in_words(*devices))];
    lines.extend(first.iter().map(|id| format!("  {id}")));
    let more = devices.saturating_sub(first.len() as u64);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    let phrase = change.phrase(*devices);
    let confirm = phrase.map_or_else(String::new, |phrase| format!(" --confirm \"{phrase}\""));
    lines.push(format!("to change them, add --devices {devices}{confirm}"));
    Lines::from(lines)
}
