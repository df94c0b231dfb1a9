//! `fleeti attest`.

use super::server::{Server, block_on, refused};
use crate::CommandResult;
use crate::output::{Failure, Output};
use clap::Subcommand;
use fleeti_client::Client;
use fleeti_core::attestation::{Claim, Level, Tier};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::Event;
use fleeti_core::wire::attestation::Attestation;
use std::time::Duration;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What devices prove with their TPMs.
#[derive(Subcommand)]
pub enum Command {
    /// Show how far a device can be trusted, on whose word, and what would raise it.
    ///
    /// Levels: L0 says so itself, or something contradicts; L1 enrolled with a token; L2 a TPM that nobody vouches for;
    /// L3 a genuine TPM whose boot is observed; L4 a release that is allowed, under the device's own Secure Boot keys;
    /// L5 and its firmware was accepted. What a level does not show: see "What a TPM proves" in SECURITY.md.
    Show {
        /// The device.
        device: DeviceId,
        /// Also what was measured into each register.
        #[arg(long)]
        registers: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Ask a device's TPM now, and wait for the answer.
    Now {
        /// The device.
        device: DeviceId,
        #[command(flatten)]
        server: Server,
    },
    /// Accept the firmware that a device has now: after its first start, or an update that was meant.
    AcceptFirmware {
        /// The device.
        device: DeviceId,
        #[command(flatten)]
        server: Server,
    },
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::Show { device, registers, server } => {
            let found = block_on(async { server.client()?.attestation(&device).await.map_err(refused) })?;
            output.data(&found, |a| described(a, registers));
        }
        Command::Now { device, server } => {
            let found = block_on(async { asked(&server.client()?, &device).await })?;
            output.data(&found, |a| described(a, false));
        }
        Command::AcceptFirmware { device, server } => {
            let found = block_on(async { server.client()?.accept_firmware(&device).await.map_err(refused) })?;
            output.data(&found, |a| format!("the firmware of {device} is accepted; {}", title(a.level)));
        }
    }
    Ok(())
}

async fn asked(client: &Client, device: &DeviceId) -> Result<Attestation, Failure> {
    let evidence = |a: &Attestation| a.result.as_ref().map(|r| r.evidence.clone());
    let before = evidence(&client.attestation(device).await.map_err(refused)?);
    let mut events = client.events().await.map_err(refused)?;
    client.challenge_device(device).await.map_err(refused)?;
    let answered = async {
        loop {
            events.wait_for(|e| matches!(e, Event::Device { id } if id == device)).await.map_err(refused)?;
            let found = client.attestation(device).await.map_err(refused)?;
            if evidence(&found) != before {
                return Ok(found);
            }
        }
    };
    let late = |_| Failure::new(format!("{device} did not answer within {} s", PATIENCE.as_secs()), Some("look at the device's console"));
    tokio::time::timeout(PATIENCE, answered).await.map_err(late)?
}

fn title(level: Level) -> String {
    format!("{} ({})", level.code(), level.title())
}

fn described(a: &Attestation, registers: bool) -> String {
    let mut lines = vec![title(a.level)];
    match (&a.result, &a.tpm) {
        (Some(result), _) => {
            let release = result.release.as_ref().map_or_else(|| "no release that is known".to_owned(), ToString::to_string);
            let at = i64::try_from(result.appraised_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
            let at = at.map_or_else(String::new, |t| format!(", {t}"));
            lines.push(format!("measured: {release}{at}"));
            if !a.is_fresh {
                lines.push(format!("it has been silent since; then it was {}", title(result.level)));
            }
            lines.extend(result.claims.iter().map(claim));
        }
        (None, Some(_)) => lines.push("its TPM has not answered yet".into()),
        (None, None) => lines.push("it has shown no TPM".into()),
    }
    if let Some(tpm) = &a.tpm {
        let maker = tpm.maker.as_deref().unwrap_or("of no maker that is believed");
        lines.push(format!("TPM: {maker}, {} (endorsement key {})", tpm.description, &tpm.ek_sha256[..16.min(tpm.ek_sha256.len())]));
    }
    if registers {
        for register in &a.registers {
            lines.push(format!("register {:>2}  {}  {}", register.register, register.value, register.title));
            lines.extend(register.events.iter().map(|e| format!("             {e}")));
        }
    }
    lines.join("\n")
}

fn claim(c: &Claim) -> String {
    let mark = match c.tier {
        Tier::Affirming => "ok     ",
        Tier::Warning => "warning",
        Tier::Contraindicated => "WRONG  ",
        Tier::None => "unknown",
    };
    let raise = c.raise.as_ref().map(|r| format!("\n           would raise it: {r}")).unwrap_or_default();
    format!("  {mark}  {}  [{}]\n           by: {}{raise}", c.finding, c.code, c.source)
}
