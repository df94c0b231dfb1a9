//! Two devices under an attacker's control. Their release is signed, boots as it should, and they
//! prove so. Then the helper of one sends false evidence (`fleeti-adversary`, in the image in place
//! of the agent), also evidence that the TPM of the other device makes for it. This module checks
//! the server's result for each lie.

use crate::scenario::Scenario;
use crate::vm::{Cable, End, Parts, Vm};
use crate::world::{BOOT, FLEET, Provisioning, Record, World};
use anyhow::{Context, Result, bail, ensure};
use fleeti_build::build::BuildRecord;
use fleeti_build::cache::Cache;
use fleeti_core::attestation::Level;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::CreateCommand;
use fleeti_core::wire::device::CommandKind;
use std::collections::BTreeSet;
use std::path::Path;

/// Console line before the first lie.
pub const BEGINS: &str = "adversary begins: it has the secrets of the fleet";
/// Prefix of a console line with the SHA-256 of a quote and the name of the lie sent with it.
pub const MARK: &str = "adversary sends: ";
/// Maximum number of evidence messages until every lie was sent.
const ANSWERS_MAX: usize = 16;

/// False evidence that the helper sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// A quote signed by a key in a file.
    SoftwareKey,
    /// A quote by another device's TPM for this challenge: valid evidence of another device with
    /// the same release.
    OtherMachine,
    /// Valid evidence for an older challenge.
    OlderAnswer,
    /// A PCR value beside the quote that differs from the quoted one.
    ChangedPcr,
    /// An event log with a changed event type, and a new quote.
    RetypedEvent,
    /// Evidence that was valid before the device rebooted.
    BeforeRestart,
}

impl Lie {
    /// The lies that are sent repeatedly.
    pub const ALL: [Self; 5] = [
        Self::SoftwareKey,
        Self::OtherMachine,
        Self::OlderAnswer,
        Self::ChangedPcr,
        Self::RetypedEvent,
    ];

    /// The name on the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SoftwareKey => "a quote signed by a key in a file",
            Self::OtherMachine => "a quote of another device for this challenge",
            Self::OlderAnswer => "evidence for an older challenge",
            Self::ChangedPcr => "a PCR value that was not quoted",
            Self::RetypedEvent => "an event log with a changed event type",
            Self::BeforeRestart => "evidence from before the reboot",
        }
    }

    /// Code of the check that must fail.
    const fn code(self) -> &'static str {
        match self {
            Self::SoftwareKey | Self::OtherMachine => "quote-signature",
            Self::OlderAnswer | Self::BeforeRestart => "quote-challenge",
            Self::ChangedPcr => "pcr-digest",
            Self::RetypedEvent => "log-kind",
        }
    }
}

/// Runs the scenario. The machines are off afterwards.
///
/// # Errors
/// If a lie is accepted, or fails another check than expected.
pub fn run(
    world: &mut World,
    scenario: &mut Scenario,
    cache: &Cache,
    profile: &Path,
) -> Result<()> {
    let title = "two devices under an attacker's control: their release is signed, boots, and they prove it";
    let cable = Cable::new()?;
    let machines = scenario.step(title, |e| start(e, world, cache, &cable, profile))?;
    let Machines { accomplice, adversary } = machines;
    let device = &adversary.device;
    let mut seen = Seen { vm: &adversary.vm, line: 0 };
    scenario.step(
        "one sends false evidence, as root can: the expected check rejects each lie",
        |e| every_lie(e, world, device, &mut seen, &accomplice.device),
    )?;
    drop(accomplice);
    scenario.step(
        "it reboots, and sends evidence from before the reboot, with the attestation key of another TPM",
        |e| after_a_reboot(e, world, device, &mut seen),
    )?;
    let device = device.clone();
    drop(adversary);
    scenario.step("the audit log has the alarms of that device", |e| alarms(e, world, &device))
}

/// A device, and the virtual machine that it is.
struct Machine {
    device: DeviceId,
    vm: Vm,
}

/// The device whose evidence is misused, and the one that misuses it.
struct Machines {
    accomplice: Machine,
    adversary: Machine,
}

fn start(
    e: &mut Vec<String>,
    world: &World,
    cache: &Cache,
    cable: &Cable,
    profile: &Path,
) -> Result<Machines> {
    let build = world.build_here(profile, "1", "fleeti-adversary")?;
    let release = world.release(&build, "1")?;
    let name = BuildRecord::read(&build)?.release.to_string();
    let machine = |folder: &str, end: End<'_>, record: Record| -> Result<Machine> {
        let device = world.provision_by(&Provisioning {
            fleet: FLEET,
            name: folder,
            build: &build,
            release: &release,
            record,
        })?;
        let vm = world.start_with(cache, folder, Some(end), Parts::default())?.0;
        Ok(Machine { device, vm })
    };
    let accomplice = machine("accomplice", cable.first(), Record::InSmbios)?;
    let adversary = machine("adversary", cable.second(), Record::OnEsp)?;
    // The adversary has a secret, which only a device with enough proof gets.
    for (machine, line) in [(&accomplice, "fleeti: device "), (&adversary, BEGINS)] {
        e.push(machine.vm.wait_for(line, 0, BOOT * 2)?.1);
        e.extend(world.check_attestation(&machine.device, &name, Level::VerifiedBoot)?);
    }
    Ok(Machines { accomplice, adversary })
}

/// Challenges the device until it has sent each lie.
fn every_lie(
    e: &mut Vec<String>,
    world: &World,
    device: &DeviceId,
    seen: &mut Seen<'_>,
    accomplice: &DeviceId,
) -> Result<()> {
    let mut sent = BTreeSet::new();
    for _ in 0..ANSWERS_MAX {
        world.runtime.block_on(world.client()?.challenge_device(device))?;
        let lie = seen.next(world, device)?;
        if sent.insert(lie) {
            e.push(format!("{}: {}", lie.name(), lie.code()));
        }
        if sent.len() == Lie::ALL.len() {
            ensure!(
                world.level(accomplice)?.0 == Level::VerifiedBoot,
                "{accomplice}, whose evidence was misused, has lost its level"
            );
            return Ok(());
        }
    }
    bail!("only {sent:?} were sent in {ANSWERS_MAX} messages")
}

fn after_a_reboot(
    e: &mut Vec<String>,
    world: &World,
    device: &DeviceId,
    seen: &mut Seen<'_>,
) -> Result<()> {
    let from = seen.vm.lines();
    let command = CreateCommand { kind: CommandKind::Reboot, valid_s: 600, confirm: None };
    world.runtime.block_on(world.client()?.create_command(device, &command))?;
    let (line, _) = seen.vm.wait_for("fleeti: boot image=", from, BOOT)?;
    seen.line = line;
    let lie = seen.next(world, device)?;
    ensure!(lie == Lie::BeforeRestart, "it sent {lie:?}");
    e.push(format!("{}: {}", lie.name(), lie.code()));
    e.push(seen.vm.wait_for("fleeti: the server refuses this TPM", line, BOOT)?.1);
    Ok(())
}

fn alarms(e: &mut Vec<String>, world: &mut World, device: &DeviceId) -> Result<()> {
    // A server that starts writes what it knew when it ended to the log.
    world.restart_server_later(0)?;
    let entries = world.runtime.block_on(world.client()?.audit_entries(0))?;
    for alarm in ["device.attestation-failed", "device.tpm-refused"] {
        let entry =
            entries.iter().find(|entry| entry.contains(device.as_str()) && entry.contains(alarm));
        let missing = || format!("{alarm} of {device} is not in the audit log");
        e.push(entry.with_context(missing)?.clone());
    }
    Ok(())
}

/// The last console line that was checked.
struct Seen<'a> {
    vm: &'a Vm,
    line: usize,
}

impl Seen<'_> {
    /// The next lie, after the server has rejected it.
    fn next(&mut self, world: &World, device: &DeviceId) -> Result<Lie> {
        let (line, said) = self.vm.wait_for(MARK, self.line, BOOT)?;
        self.line = line + 1;
        let lie =
            Lie::ALL.into_iter().chain([Lie::BeforeRestart]).find(|lie| said.contains(lie.name()));
        let lie = lie.with_context(|| format!("unknown lie: {said}"))?;
        let evidence =
            said.split_once(MARK).and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default();
        world.found_out(device, evidence, lie.code()).with_context(|| said.clone())?;
        Ok(lie)
    }
}
