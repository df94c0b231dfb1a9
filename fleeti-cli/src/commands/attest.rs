//! `fleeti attest`.

use super::request::{block_on, refused};
use super::server::Server;
use super::windows::{self, WindowChanges, WindowOptions};
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, when};
use clap::Subcommand;
use fleeti_client::{Client, Tagged};
use fleeti_core::attestation::policy::{Firmware, Policy};
use fleeti_core::attestation::{Aspect, Claim, Level, NoLevel, Tier};
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::api::Event;
use fleeti_core::wire::attestation::{AskedFleet, Attestation};
use std::time::Duration;

/// How long the command waits for evidence.
const PATIENCE: Duration = Duration::from_secs(60);

/// Attestation of devices.
#[derive(Subcommand)]
pub enum Command {
    /// Show the attestation level of a device, the evidence behind it, and what would raise it.
    ///
    /// Levels: L0, the device only claims its state, or attestation failed; L1, it enrolled with a
    /// token; L2, it has a TPM without a trusted manufacturer; L3, it has a genuine TPM and its
    /// boot is observed; L4, it runs an allowed release under its own Secure Boot keys; L5, its
    /// firmware was accepted as well. For what a level does not prove, see
    /// docs/reference/attestation-levels.md.
    Show {
        /// Id of the device.
        device: DeviceId,
        /// Also list the events that were measured into each PCR.
        #[arg(long)]
        pcrs: bool,
        /// Print an EAT Attestation Result (draft-ietf-rats-ear-04, JSON) instead.
        #[arg(long, conflicts_with = "pcrs")]
        ear: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Challenge a device's TPM now, and wait for its evidence.
    Now {
        /// Id of the device.
        device: DeviceId,
        #[command(flatten)]
        server: Server,
    },
    /// Challenge every connected device of a fleet. Results appear on the device pages within
    /// seconds.
    Fleet {
        /// Name of the fleet.
        fleet: FleetId,
        #[command(flatten)]
        server: Server,
    },
    /// Show or change the appraisal policy of a fleet, and when its devices update.
    ///
    /// Levels are those of `fleeti attest show`; `none` excludes every device. Options that are not
    /// given stay unchanged. A change takes effect at once, also for running rollouts: a device
    /// below the minimum level is blocked until it proves a higher one.
    Policy {
        /// Name of the fleet.
        fleet: FleetId,
        /// Minimum level to receive updates, as in `L4`.
        #[arg(long, value_parser = level)]
        update: Option<Asked>,
        /// Minimum level to count as succeeded in a rollout. From L2 on, the TPM must prove which
        /// release runs.
        #[arg(long, value_parser = level)]
        success: Option<Asked>,
        /// Minimum level to receive secrets.
        #[arg(long, value_parser = level)]
        secrets: Option<Asked>,
        /// Allowed firmware: `pinned` (for each device, the firmware that an operator accepted for
        /// it), or the values of PCR 0 and PCR 2 as `PCR0:PCR2`. Repeat it for each kind of
        /// firmware.
        #[arg(long)]
        firmware: Vec<String>,
        /// SHA-256 (Authenticode) of an EFI binary that allowed firmware may start by itself before
        /// it selects a boot entry; `fleeti attest show` prints it. Repeat it for each EFI binary.
        /// `none` removes all.
        #[arg(long = "firmware-binary", value_name = "SHA256")]
        firmware_binaries: Vec<String>,
        /// Roll out only releases that have a boot proof (`fleeti release prove`).
        #[arg(long)]
        proved_releases: Option<bool>,
        #[command(flatten)]
        windows: Box<WindowOptions>,
        #[command(flatten)]
        server: Server,
    },
    /// TPM manufacturers that the server trusts: list, add or remove them.
    #[command(subcommand)]
    Manufacturers(super::manufacturers::Command),
    /// Accept the firmware that a device has now: after its first start, or after an intended
    /// update.
    AcceptFirmware {
        /// Id of the device.
        device: DeviceId,
        #[command(flatten)]
        server: Server,
    },
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::Show { device, ear: true, server, .. } => {
            let found = block_on(async { server.client()?.ear(&device).await.map_err(refused) })?;
            output.document(&found);
        }
        Command::Manufacturers(command) => return super::manufacturers::run(command, output),
        Command::Fleet { fleet, server } => {
            let asked = block_on(async {
                server.client()?.challenge_fleet(&fleet).await.map_err(refused)
            })?;
            output
                .data(&AskedFleet { asked }, |_| format!("challenged {asked} devices of {fleet}"));
        }
        Command::Policy {
            fleet,
            update,
            success,
            secrets,
            firmware,
            firmware_binaries: binaries,
            proved_releases,
            windows,
            server,
        } => {
            let changes = Changes {
                update,
                success,
                secrets,
                firmware: firmware_of(firmware)?,
                binaries,
                proved_releases,
                windows: windows.read()?,
            };
            let policy = block_on(async { changed(&server.client()?, &fleet, changes).await })?;
            output.data(&policy, |p| policy_words(&fleet, p));
        }
        Command::Show { device, pcrs, server, .. } => {
            let found =
                block_on(async { server.client()?.attestation(&device).await.map_err(refused) })?;
            output.data(&found, |a| described(a, pcrs));
        }
        Command::Now { device, server } => {
            let found = block_on(async { asked(&server.client()?, &device).await })?;
            output.data(&found, |a| described(a, false));
        }
        Command::AcceptFirmware { device, server } => {
            let found = block_on(async {
                server.client()?.accept_firmware(&device).await.map_err(refused)
            })?;
            output.data(&found, |a| accepted_words(&device, a));
        }
    }
    Ok(())
}

/// The accepted firmware: PCR 0 and PCR 2, and the firmware claim with the paths and digests of EFI
/// binaries.
fn accepted_words(device: &DeviceId, a: &Attestation) -> Lines {
    let pcrs = a.pcrs.iter().filter(|r| [0, 2].contains(&r.pcr));
    let pcrs = pcrs.map(|r| format!("  PCR {}  {}", r.pcr, r.value)).collect::<Vec<_>>();
    let claims = a.result.iter().flat_map(|r| &r.claims).filter(|c| c.aspect == Aspect::Firmware);
    Lines::from(format!("the firmware of {device} is accepted; {}", title(a.level)))
        .and(pcrs)
        .and(claims.flat_map(claim).collect::<Vec<_>>())
}

/// A level, or `none` for no device.
#[derive(Debug, Clone, Copy)]
pub struct Asked(Option<Level>);

fn level(text: &str) -> Result<Asked, String> {
    if text == "none" {
        return Ok(Asked(None));
    }
    text.parse().map(|level| Asked(Some(level))).map_err(|e: NoLevel| format!("{e}, or none"))
}

/// The requested changes; `None` leaves a setting unchanged.
struct Changes {
    update: Option<Asked>,
    success: Option<Asked>,
    secrets: Option<Asked>,
    firmware: Option<Firmware>,
    binaries: Vec<String>,
    proved_releases: Option<bool>,
    windows: WindowChanges,
}

fn firmware_of(words: Vec<String>) -> Result<Option<Firmware>, Failure> {
    if words.is_empty() || words == ["pinned"] {
        return Ok((!words.is_empty()).then_some(Firmware::Pinned));
    }
    let pair = |word: String| {
        let wrong = || {
            Failure::new(
                format!("--firmware {word:?} is neither `pinned` nor PCR0:PCR2"),
                Some("see `fleeti attest policy --help`"),
            )
        };
        word.split_once(':')
            .map(|(first, second)| [first.to_owned(), second.to_owned()])
            .ok_or_else(wrong)
    };
    Ok(Some(Firmware::Known {
        pcrs: words.into_iter().map(pair).collect::<Result<_, _>>()?,
        binaries: Vec::new(),
    }))
}

async fn changed(client: &Client, fleet: &FleetId, changes: Changes) -> Result<Policy, Failure> {
    let Tagged { value: before, tag } =
        client.tagged_attestation_policy(fleet).await.map_err(refused)?;
    let mut policy = before.clone();
    for (part, change) in [
        (&mut policy.update, changes.update),
        (&mut policy.success, changes.success),
        (&mut policy.secrets, changes.secrets),
    ] {
        *part = change.map_or(*part, |Asked(level)| level);
    }
    // Keep the allowed EFI binaries unless the command names others.
    let named_before = match &policy.firmware {
        Firmware::Known { binaries, .. } => binaries.clone(),
        Firmware::Pinned => Vec::new(),
    };
    policy.firmware = changes.firmware.unwrap_or(policy.firmware);
    match &mut policy.firmware {
        Firmware::Known { binaries, .. } if changes.binaries.is_empty() => *binaries = named_before,
        Firmware::Known { binaries, .. } => {
            *binaries = changes.binaries.into_iter().filter(|word| word != "none").collect()
        }
        Firmware::Pinned if changes.binaries.is_empty() => {}
        Firmware::Pinned => {
            let hint = "name firmware with --firmware PCR0:PCR2 as well, or accept a device's firmware with `fleeti attest accept-firmware`";
            return Err(Failure::new(
                "--firmware-binary needs a policy with --firmware PCR0:PCR2".to_owned(),
                Some(hint),
            ));
        }
    }
    policy.proved_releases = changes.proved_releases.unwrap_or(policy.proved_releases);
    changes.windows.apply(&mut policy.windows);
    if policy == before {
        return Ok(before);
    }
    let client = client.expecting(tag.as_ref());
    client.set_attestation_policy(fleet, &policy).await.map_err(refused)
}

fn policy_words(fleet: &FleetId, policy: &Policy) -> Lines {
    let from = |level: Option<Level>| {
        level.map_or_else(|| "no device".to_owned(), |l| format!("from {}", title(l)))
    };
    let (firmware, known) = match &policy.firmware {
        Firmware::Pinned => ("for each device, the one that an operator accepted", vec![]),
        Firmware::Known { pcrs, .. } if pcrs.is_empty() => ("none", vec![]),
        Firmware::Known { pcrs, binaries } => {
            let pcrs = pcrs.iter().map(|r| format!("    {}:{}", r[0], r[1]));
            (
                "",
                pcrs.chain(binaries.iter().map(|p| format!("    EFI binary {p}")))
                    .collect::<Vec<_>>(),
            )
        }
    };
    let releases = if policy.proved_releases { "with a boot proof" } else { "any" };
    Lines::from(format!("fleet {fleet}"))
        .and(format!("  update    {}", from(policy.update)))
        .and(format!("  success   {}", from(policy.success)))
        .and(format!("  secrets   {}", from(policy.secrets)))
        .and(format!("  firmware  {firmware}"))
        .and(known)
        .and(format!("  releases  {releases}"))
        .and(windows::words(&policy.windows))
}

async fn asked(client: &Client, device: &DeviceId) -> Result<Attestation, Failure> {
    let evidence = |a: &Attestation| a.result.as_ref().map(|r| r.evidence.clone());
    let before = evidence(&client.attestation(device).await.map_err(refused)?);
    let mut events = client.events().await.map_err(refused)?;
    client.challenge_device(device).await.map_err(refused)?;
    let answered = async {
        loop {
            events
                .wait_for(|e| matches!(e, Event::Device { id } if id == device))
                .await
                .map_err(refused)?;
            let found = client.attestation(device).await.map_err(refused)?;
            if evidence(&found) != before {
                return Ok(found);
            }
        }
    };
    let late = |_| {
        Failure::new(
            format!("{device} sent no evidence within {} s", PATIENCE.as_secs()),
            Some("check the device's console"),
        )
    };
    tokio::time::timeout(PATIENCE, answered).await.map_err(late)?
}

fn title(level: Level) -> String {
    format!("{} ({})", level.code(), level.title())
}

fn described(a: &Attestation, pcrs: bool) -> Lines {
    let mut lines = vec![title(a.level)];
    match (&a.result, &a.tpm) {
        (Some(result), _) => {
            let release = result
                .release
                .as_ref()
                .map_or_else(|| "no known release".to_owned(), ToString::to_string);
            lines.push(format!("measured: {release}, {}", when(result.appraised_s)));
            if !a.is_fresh {
                lines
                    .push(format!("no evidence since then; its level was {}", title(result.level)));
            }
            lines.extend(result.claims.iter().flat_map(claim));
        }
        (None, Some(_)) => lines.push("its TPM has sent no evidence yet".into()),
        (None, None) => lines.push("it has not presented a TPM".into()),
    }
    if let Some(tpm) = &a.tpm {
        let manufacturer = tpm.manufacturer.as_deref().unwrap_or("of no trusted manufacturer");
        lines.push(format!(
            "TPM: {manufacturer}, {} (endorsement key {})",
            tpm.description,
            tpm.ek_sha256.get(..16).unwrap_or(&tpm.ek_sha256)
        ));
    }
    if pcrs {
        for pcr in &a.pcrs {
            lines.push(format!("PCR {:>2}  {}  {}", pcr.pcr, pcr.value, pcr.title));
            lines.extend(pcr.events.iter().map(|e| format!("             {e}")));
        }
    }
    lines.into()
}

fn claim(c: &Claim) -> Vec<String> {
    let mark = match c.tier {
        Tier::Affirming => "ok     ",
        Tier::Warning => "warning",
        Tier::Contraindicated => "WRONG  ",
        Tier::None => "unknown",
    };
    let raise = c.raise.as_ref().map(|r| format!("           would raise it: {r}"));
    [format!("  {mark}  {}  [{}]", c.finding, c.code), format!("           by: {}", c.source)]
        .into_iter()
        .chain(raise)
        .collect()
}
