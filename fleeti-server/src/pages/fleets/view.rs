//! What the page of a fleet shows.

use crate::pages::devices::view::DeviceRow;
use crate::pages::display::time;
use crate::pages::fixes::FixesRow;
use crate::pages::overview::charts::charts;
use crate::pages::page::Page;
use crate::pages::rollouts::view::RolloutRow;
use crate::pages::svg::Chart;
use askama::Template;
use fleeti_control::details::FleetDetails;
use fleeti_control::precondition;
use fleeti_core::attestation::Level;
use fleeti_core::attestation::policy::{Firmware, Policy};
use fleeti_core::windows::{Job, Windows};
use fleeti_core::wire::vault::FleetSecret;

/// One minimum level of the policy.
struct MinimumLevel {
    name: &'static str,
    label: &'static str,
    help: &'static str,
    /// Code of the level; empty for no device.
    chosen: &'static str,
}

/// The windows of a job, one per line.
struct JobWindows {
    name: &'static str,
    label: &'static str,
    lines: Vec<String>,
}

/// A secret: its name and version, and when it was set.
struct SecretRow {
    name: String,
    version: u64,
    set: String,
}

impl From<&FleetSecret> for SecretRow {
    fn from(secret: &FleetSecret) -> Self {
        let (name, version) = (secret.name.to_string(), secret.version);
        Self { name, version, set: time(secret.changed_s) }
    }
}

/// The page of a fleet.
#[derive(Template)]
#[template(path = "fleet.html", blocks = ["main"])]
pub struct FleetPage {
    page: Page,
    fleet: String,
    devices_total: u64,
    revoked: u64,
    charts: Vec<Chart>,
    rollout: Option<RolloutRow>,
    devices: Vec<DeviceRow>,
    channel: Option<String>,
    pin: Option<(String, String)>,
    minimums: [MinimumLevel; 3],
    levels: Vec<(&'static str, &'static str)>,
    pinned: bool,
    proved_releases: bool,
    known: Vec<String>,
    windows: [JobWindows; 3],
    user_delay_min: String,
    download_kib_s: String,
    /// The tag of the policy.
    etag: String,
    secrets: Vec<SecretRow>,
    fixes: Option<FixesRow>,
}

impl FleetPage {
    pub fn of(page: Page, details: &FleetDetails) -> Self {
        let FleetDetails { fleet, numbers, devices, rollout, channel, policy, secrets, fixes } =
            details;
        Self {
            page,
            fleet: fleet.to_string(),
            devices_total: numbers.devices,
            revoked: numbers.revoked,
            charts: charts(numbers, Some(fleet.as_str()), true),
            rollout: rollout.as_ref().map(RolloutRow::from),
            devices: devices.iter().map(DeviceRow::from).collect(),
            channel: channel.release.as_ref().map(ToString::to_string),
            pin: channel.pin.as_ref().map(|p| (p.release.to_string(), p.reason.clone())),
            minimums: minimums(policy),
            levels: Level::ALL.into_iter().map(|l| (l.code(), l.title())).collect(),
            pinned: policy.firmware == Firmware::Pinned,
            proved_releases: policy.proved_releases,
            known: known(&policy.firmware),
            windows: windows(&policy.windows),
            user_delay_min: text(policy.windows.user_delay_min),
            download_kib_s: text(policy.windows.download_kib_s),
            etag: precondition::tag(policy).unwrap_or_default(),
            secrets: secrets.iter().map(SecretRow::from).collect(),
            fixes: fixes.as_ref().and_then(FixesRow::of),
        }
    }
}

fn minimums(policy: &Policy) -> [MinimumLevel; 3] {
    let code = |level: Option<Level>| level.map_or("", Level::code);
    [
        MinimumLevel {
            name: "update",
            label: "Minimum level to receive updates",
            help: "Devices below this level are blocked; the server offers them the update once they reach it.",
            chosen: code(policy.update),
        },
        MinimumLevel {
            name: "success",
            label: "Minimum level to count as success in a rollout",
            help: "From L2 on, the report of a device is not enough: its TPM must prove that it runs the release.",
            chosen: code(policy.success),
        },
        MinimumLevel {
            name: "secrets",
            label: "Minimum level to receive secrets",
            help: "A device gets the secrets below at each boot, once its TPM has proved this level.",
            chosen: code(policy.secrets),
        },
    ]
}

fn windows(windows: &Windows) -> [JobWindows; 3] {
    let of = |job: Job, label| {
        let lines = windows.of(job).iter().map(ToString::to_string).collect();
        JobWindows { name: job.as_str(), label, lines }
    };
    [
        of(Job::Download, "Windows in which a download may begin"),
        of(Job::Install, "Windows in which a release may be made bootable"),
        of(Job::Reboot, "Windows in which a device may reboot for an update"),
    ]
}

/// A number; empty for none.
fn text(number: Option<u32>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}

/// The accepted firmware, as the form has it: one per line.
fn known(firmware: &Firmware) -> Vec<String> {
    match firmware {
        Firmware::Pinned => Vec::new(),
        Firmware::Known { pcrs, binaries } => {
            pcrs.iter().map(|pair| pair.join(" ")).chain(binaries.iter().cloned()).collect()
        }
    }
}
