//! The programs of two releases against each other: one organisation, whose server is updated while
//! devices of both releases are connected.

use super::place::{Place, Programs, until};
use crate::target;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;

/// Fleets, by the release of their agents and of the server at which they enroll.
const OLD: &str = "old";
const NEW: &str = "new";
const LATE: &str = "late";

/// Runs both directions.
pub fn run(previous: &Programs, current: &Programs) -> Result<()> {
    let place = Place::new(&target().join("compat/run"))?;
    found(&place, previous)?;

    let server = place.serve(previous, "server-before")?;
    let (_old, _new) = (place.device(previous, OLD)?, place.device(current, NEW)?);
    let before = Run { place: &place, client: previous };
    let (old, new) = (before.online(OLD)?, before.online(NEW)?);
    step("an agent of this release enrolled at a server of the previous one");
    before.roll_out("3", NEW)?;
    before.commands(&new)?;
    step("it took an update, ran commands and renewed its certificate there");
    server.stop()?;

    let server = place.serve(current, "server-after")?;
    let after = Run { place: &place, client: current };
    ensure!(
        after.online(OLD)? == old && after.online(NEW)? == new,
        "the devices online after the update are not those of before it"
    );
    step("the server was updated with its data, and the devices of both releases are online again");
    after.roll_out("4", OLD)?;
    after.commands(&old)?;
    after.commands(&new)?;
    step(
        "an agent of the previous release took an update, ran commands and renewed its certificate",
    );
    let _late = place.device(previous, LATE)?;
    after.online(LATE)?;
    step("another one enrolled at the server of this release");
    clients(&place, previous)?;
    step("the command line of the previous release reads what it lists");
    let key = place.path("data/pki/public/audit.pub").display().to_string();
    after.fleeti(&["audit", "verify", "--key", &key])?;
    step("the audit log, begun by one release and continued by the other, is unchanged");
    server.stop()
}

/// Says that something was seen.
fn step(text: &str) {
    println!("    {text}");
}

/// Keys, a server's data and signed releases, all of the previous release: its own simulation makes
/// them, with one device that updates.
fn found(place: &Place, previous: &Programs) -> Result<()> {
    let mut command = previous.command("fake_fleet");
    command.args(["--devices", "1", "--stay", "--make"]).arg(place.path("made"));
    let mut simulation = place.start("found", &mut command)?;
    simulation.prints(" runs kiosk@2")?;
    // Killed, so that it does not delete its folder.
    drop(simulation);
    for entry in fs::read_dir(place.path("found.tmp"))? {
        let server = entry?.path().join("server");
        if server.exists() {
            fs::rename(server, place.path("data"))?;
        }
    }
    ensure!(place.path("data/admin.token").exists(), "the simulation left no server");
    step("the previous release made an organisation with its keys, releases and a device");
    Ok(())
}

/// What clients of the previous release list at a server of this one.
fn clients(place: &Place, previous: &Programs) -> Result<()> {
    for words in [
        ["device", "list"],
        ["release", "list"],
        ["rollout", "list"],
        ["profile", "list"],
        ["build", "list"],
        ["audit", "list"],
        ["alert", "list"],
        ["user", "list"],
    ] {
        place.fleeti(previous, &words)?;
    }
    Ok(())
}

/// A running server, and the command line that is used with it.
struct Run<'a> {
    place: &'a Place,
    client: &'a Programs,
}

impl Run<'_> {
    fn fleeti(&self, words: &[&str]) -> Result<Value> {
        self.place.fleeti(self.client, words)
    }

    /// The id of the one device of a fleet, once it is online and has reported.
    fn online(&self, fleet: &str) -> Result<String> {
        until(&format!("the device of fleet {fleet} is online"), || {
            let devices = self.fleeti(&["device", "list"])?;
            let mut all = devices.as_array().context("a list of devices")?.iter();
            let is_there =
                |d: &&Value| d["fleet"] == fleet && d["online"] == true && !d["boot"].is_null();
            Ok(all.find(is_there).and_then(|d| d["id"].as_str()).map(str::to_owned))
        })
    }

    /// Publishes a version that the previous release signed, and rolls it out until it succeeded.
    fn roll_out(&self, version: &str, fleet: &str) -> Result<()> {
        let made = self.place.path("made").join(version).display().to_string();
        let release = format!("kiosk@{version}");
        self.fleeti(&["release", "publish", &made])?;
        let started =
            self.fleeti(&["rollout", "start", "--release", &release, "--fleet", fleet])?;
        let id = started["id"].as_str().context("the id of a rollout")?;
        let phase = until(&format!("{release} is rolled out to fleet {fleet}"), || {
            let rollout = self.fleeti(&["rollout", "show", id])?;
            let phase = rollout["phase"].as_str().unwrap_or_default().to_owned();
            Ok((phase != "running").then_some(phase))
        })?;
        ensure!(phase == "succeeded", "the rollout of {release} to fleet {fleet} is {phase}");
        Ok(())
    }

    /// Commands that a device answers, the last of which renews its certificate over a new key.
    fn commands(&self, device: &str) -> Result<()> {
        let certificate = || self.fleeti(&["api", "get", &format!("devices/{device}/certificate")]);
        let before = certificate()?;
        for kind in ["report", "rotate-key"] {
            let sent = self.fleeti(&["device", "command", device, kind])?;
            let id = sent["id"].as_str().context("the id of a command")?;
            let status = until(&format!("device {device} answers {kind}"), || {
                let found = self.fleeti(&["api", "get", &format!("commands/{id}")])?;
                let status = found["status"].as_str().unwrap_or_default().to_owned();
                Ok((!["pending", "running"].contains(&status.as_str())).then_some(status))
            })?;
            ensure!(status == "done", "device {device} ended {kind} as {status}");
        }
        ensure!(certificate()? != before, "device {device} has its old certificate");
        Ok(())
    }
}
