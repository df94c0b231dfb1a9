//! A secret without which a device does not reach its server, in a virtual machine: the password of
//! its HTTP proxy changes before, while and after the network changes, with power cuts, and while
//! the device is off.

use crate::network::{Network, USER};
use crate::scenario::Scenario;
use crate::vm::HOST;
use crate::world::{BOOT, FLEET, Provisioning, Record, SOON, World};
use anyhow::{Context, Result, ensure};
use fleeti_core::attestation::Level;
use fleeti_core::id::DeviceId;
use fleeti_core::profile::{Profile, Secret};
use fleeti_core::wire::boot::{BootSecret, BootSecretPhase};
use std::time::Duration;

const NAME: &str = "proxy";
const TRY_MINUTES: u32 = 3;
/// A trial, a wait for the server with the old value, and a boot.
const RETURNS: Duration = Duration::from_secs(20 * 60);

/// Runs the whole scenario. The machine is off afterwards.
///
/// # Errors
/// If the device is lost, or uses another value than the network accepts.
pub fn run(world: &mut World, scenario: &mut Scenario, profile: &Profile) -> Result<()> {
    let network = world.runtime.block_on(Network::start())?;
    let secret = Secret {
        name: NAME.to_owned(),
        boot: true,
        try_minutes: TRY_MINUTES,
        restart: vec![],
        server_proxy: true,
    };
    let profile = Profile { secrets: vec![secret], ..profile.clone() };
    let device =
        scenario.step("a device enrolls through a proxy that asks for no password", |e| {
            let build = world.build(profile.clone(), "1")?;
            let release = world.release(&build, "1")?;
            let proxy = format!("http://{HOST}:{}", network.address.port());
            let device = world.provision_behind(
                &Provisioning {
                    fleet: FLEET,
                    name: "device",
                    build: &build,
                    release: &release,
                    record: Record::OnEsp,
                },
                Some(&proxy),
            )?;
            world.power_on_again()?;
            e.push(world.console("fleeti: device ", BOOT)?);
            let name = format!("{}@1", profile.name);
            e.extend(world.check_attestation(&device, &name, Level::VerifiedBoot)?);
            Ok(device)
        })?;
    let mut trials = Trials { world, network, device, version: 0 };
    changes(&mut trials, scenario)?;
    power_cuts(&mut trials, scenario)?;
    trials.world.power_off();
    Ok(())
}

fn changes(trials: &mut Trials<'_>, scenario: &mut Scenario) -> Result<()> {
    scenario.step("it gets the password before the proxy asks for it", |e| {
        trials.set("one")?;
        trials.network.accepts("one");
        trials.network.cut();
        e.push(trials.uses(1)?);
        Ok(())
    })?;
    scenario.step("a wrong password returns to the old one, and the device says so", |e| {
        trials.set("wrong")?;
        e.push(trials.returned(2, 1)?);
        Ok(())
    })?;
    scenario.step("the password came before the network changed, and the device was off", |e| {
        trials.set("three")?;
        e.push(trials.returned(3, 1)?);
        trials.world.power_off();
        trials.network.accepts("three");
        trials.network.cut();
        trials.world.power_on_again()?;
        e.push(trials.uses(3)?);
        Ok(())
    })?;
    scenario.step("the password comes after the network changed, over the open session", |e| {
        trials.network.accepts("four");
        trials.set("four")?;
        e.push(trials.uses(4)?);
        Ok(())
    })
}

fn power_cuts(trials: &mut Trials<'_>, scenario: &mut Scenario) -> Result<()> {
    scenario.step("the power is cut in the trial of the right password", |e| {
        trials.cut_in_trial("five")?;
        trials.network.accepts("five");
        trials.world.power_on_again()?;
        e.push(trials.uses(5)?);
        Ok(())
    })?;
    scenario.step("the power is cut in the trial of a wrong password", |e| {
        trials.cut_in_trial("wrong again")?;
        trials.world.power_on_again()?;
        e.push(trials.returned(6, 5)?);
        Ok(())
    })
}

struct Trials<'a> {
    world: &'a mut World,
    network: Network,
    device: DeviceId,
    version: u64,
}

impl Trials<'_> {
    /// Sets the next version on the server.
    fn set(&mut self, password: &str) -> Result<()> {
        self.world.set_secret(NAME, &format!("{USER}:{password}"))?;
        self.version += 1;
        Ok(())
    }

    fn secret(&self, wanted: impl Fn(&BootSecret) -> bool) -> Result<BootSecret> {
        let found = |d: &fleeti_core::wire::api::Device| {
            d.boot.as_ref().and_then(|b| b.secrets.first().cloned()).filter(|s| wanted(s))
        };
        let device =
            self.world.device_with(RETURNS, &self.device, |d| d.online && found(d).is_some())?;
        found(&device).context("no secret is reported")
    }

    /// The device is connected with this version.
    fn uses(&self, version: u64) -> Result<String> {
        let is_used = |s: &BootSecret| {
            s.phase == BootSecretPhase::Settled && s.used == Some(version) && s.until_s.is_none()
        };
        let said = self.secret(is_used)?.describe(|s| s.to_string());
        // The session is of this boot, and not only not ended yet.
        self.world.command(&self.device)?;
        Ok(said)
    }

    /// The device returned to a version, and says so.
    fn returned(&self, from: u64, to: u64) -> Result<String> {
        let alarm = self.world.device_with(RETURNS, &self.device, |d| {
            d.online && d.alarm.as_ref().is_some_and(|a| a.contains(&format!("version {from} ")))
        })?;
        let alarm = alarm.alarm.unwrap_or_default();
        ensure!(alarm.starts_with("secret_refused: "), "the alarm is {alarm}");
        self.uses(to)?;
        Ok(alarm)
    }

    /// Sets the next version, and cuts the power in its trial.
    fn cut_in_trial(&mut self, password: &str) -> Result<()> {
        let from = self.world.console_lines()?;
        self.set(password)?;
        let said = format!("fleeti: the secret {NAME}: version {} is used", self.version);
        self.world.said_since(from, &said, SOON)?;
        self.world.power_off();
        self.network.cut();
        Ok(())
    }
}
