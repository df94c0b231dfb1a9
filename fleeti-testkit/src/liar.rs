//! Two machines that somebody took over: their release is signed and starts as it should, and they
//! proved so; then the helper of one lies (`fleeti-liar`, which is in the image as the agent), also
//! with what the other's TPM answers for it. What the server makes of each lie is looked at here.

use crate::story::Story;
use crate::vm::{Cable, Parts, Vm};
use crate::world::{BOOT, FLEET, Record, World};
use anyhow::{Context, Result, bail, ensure};
use fleeti_build::build::BuildRecord;
use fleeti_build::cache::Cache;
use fleeti_core::attestation::Level;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::CreateCommand;
use fleeti_core::wire::device::Order;
use std::collections::BTreeSet;
use std::path::Path;

/// What the console says before the lies begin.
pub const BEGINS: &str = "liar begins: it has the secrets of the fleet";
/// How a line on the console begins that has the SHA-256 of a quote and names the lie that was told
/// with it.
pub const MARK: &str = "liar tells: ";
/// Answers that are looked at until every lie was told.
const ANSWERS_MAX: usize = 16;

/// What the helper tells instead of the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// The TPM's statement, signed by a key in a file.
    SoftwareKey,
    /// What another machine's TPM answers to this very question: another device's good evidence, of
    /// the same release.
    OtherMachine,
    /// What was a good answer to an older question.
    OlderAnswer,
    /// A register beside the quote that holds something else.
    ChangedRegister,
    /// A log that says of an event that it was of another kind, quoted anew.
    RetypedEvent,
    /// What was a good answer before the machine started anew.
    BeforeRestart,
}

impl Lie {
    /// What is told again and again.
    pub const ALL: [Self; 5] = [
        Self::SoftwareKey,
        Self::OtherMachine,
        Self::OlderAnswer,
        Self::ChangedRegister,
        Self::RetypedEvent,
    ];

    /// As on the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SoftwareKey => "a statement signed by a key in a file",
            Self::OtherMachine => "the answer of another machine to this question",
            Self::OlderAnswer => "the answer to an older question",
            Self::ChangedRegister => "a register that was not quoted so",
            Self::RetypedEvent => "a log with an event of another kind",
            Self::BeforeRestart => "an answer from before the machine started anew",
        }
    }

    /// The code of the check that it must fail.
    const fn code(self) -> &'static str {
        match self {
            Self::SoftwareKey | Self::OtherMachine => "quote-signature",
            Self::OlderAnswer | Self::BeforeRestart => "quote-challenge",
            Self::ChangedRegister => "registers-digest",
            Self::RetypedEvent => "log-kind",
        }
    }
}

/// The machines are off afterwards.
///
/// # Errors
/// When a lie is believed, or found out by another check than its own.
pub fn tell(world: &mut World, story: &mut Story, cache: &Cache, profile: &Path) -> Result<()> {
    let title = "two machines that somebody has taken over: their release is signed, starts, and proves what it is";
    let cable = Cable::new()?;
    let ((other, other_vm), (device, vm)) = story.step(title, |e| {
        let build = world.build_here(profile, "1", "fleeti-liar")?;
        let release = world.release(&build, "1")?;
        let name = BuildRecord::read(&build)?.release.to_string();
        let mut machines = Vec::new();
        let both = [
            ("accomplice", cable.first(), Record::InSmbios),
            ("liar", cable.second(), Record::OnEsp),
        ];
        for (folder, end, record) in both {
            let device = world.provision_by(FLEET, folder, &build, &release, record)?;
            machines
                .push((device, world.start_with(cache, folder, Some(end), Parts::default())?.0));
        }
        // The liar has what only a device gets that has proved enough.
        for ((device, vm), line) in machines.iter().zip(["fleeti: device ", BEGINS]) {
            e.push(vm.wait_for(line, 0, BOOT * 2)?.1);
            e.extend(world.check_attestation(device, &name, Level::VerifiedBoot)?);
        }
        let liar = machines.pop().context("no machine")?;
        Ok((machines.pop().context("only one machine")?, liar))
    })?;
    let mut seen = Seen { vm: &vm, line: 0 };
    story.step(
        "then one lies, as root can: each lie is found out by the check that is there for it",
        |e| {
            let mut told = BTreeSet::new();
            for _ in 0..ANSWERS_MAX {
                world.runtime.block_on(world.client()?.challenge_device(&device))?;
                let lie = seen.next(world, &device)?;
                if told.insert(lie) {
                    e.push(format!("{}: {}", lie.name(), lie.code()));
                }
                if told.len() == Lie::ALL.len() {
                    ensure!(
                        world.level(&other)?.0 == Level::VerifiedBoot,
                        "{other}, whose evidence was misused, has lost its level"
                    );
                    return Ok(());
                }
            }
            bail!("only {told:?} were told in {ANSWERS_MAX} answers")
        },
    )?;
    drop(other_vm);
    story.step(
        "it starts anew, with an answer from before and the attestation key of another TPM",
        |e| {
            let (from, order) = (vm.lines(), CreateCommand { order: Order::Reboot, valid_s: 600 });
            world.runtime.block_on(world.client()?.create_command(&device, &order))?;
            let (line, _) = vm.wait_for("fleeti: boot image=", from, BOOT)?;
            seen.line = line;
            let lie = seen.next(world, &device)?;
            ensure!(lie == Lie::BeforeRestart, "it told {lie:?}");
            e.push(format!("{}: {}", lie.name(), lie.code()));
            e.push(vm.wait_for("fleeti: the server refuses this TPM", line, BOOT)?.1);
            Ok(())
        },
    )?;
    drop(vm);
    story.step("who reads the audit log finds what that machine tried", |e| {
        // A server that starts has entered what it knew of when it ended.
        world.restart_server_later(0)?;
        let entries = world.runtime.block_on(world.client()?.audit_entries(0))?;
        for alarm in ["device.contradicted", "device.tpm-refused"] {
            let entry = entries
                .iter()
                .find(|entry| entry.contains(device.as_str()) && entry.contains(alarm));
            e.push(
                entry
                    .with_context(|| format!("{alarm} of {device} is not in the audit log"))?
                    .clone(),
            );
        }
        Ok(())
    })
}

/// How far somebody has looked.
struct Seen<'a> {
    vm: &'a Vm,
    line: usize,
}

impl Seen<'_> {
    /// The next lie that is told, once the server has found it out.
    fn next(&mut self, world: &World, device: &DeviceId) -> Result<Lie> {
        let (line, said) = self.vm.wait_for(MARK, self.line, BOOT)?;
        self.line = line + 1;
        let lie =
            Lie::ALL.into_iter().chain([Lie::BeforeRestart]).find(|lie| said.contains(lie.name()));
        let lie = lie.with_context(|| format!("no lie: {said}"))?;
        let evidence =
            said.split_once(MARK).and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default();
        world.found_out(device, evidence, lie.code()).with_context(|| said.clone())?;
        Ok(lie)
    }
}
