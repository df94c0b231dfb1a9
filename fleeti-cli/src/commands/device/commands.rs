//! Commands to devices: sent, listed, cancelled, and their results.

use super::{Server, keys};
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, rows, when};
use clap::{Args, ValueEnum};
use fleeti_core::id::DeviceId;
use fleeti_core::size::bytes;
use fleeti_core::wire::api::{CommandStatus, CreateCommand};
use fleeti_core::wire::command::CommandKind;
use std::path::PathBuf;

/// Send a command to a device: now, or on reconnect.
///
/// The device runs it once, and not after its deadline. `fleeti device commands` shows its progress,
/// `fleeti device result` its result.
#[derive(Args)]
pub struct SendCommand {
    /// Id of the device.
    device: DeviceId,
    #[command(flatten)]
    what: What,
    /// For a factory reset: the id of the device, once more.
    #[arg(long, value_name = "DEVICE", required_if_eq("kind", "factory-reset"))]
    confirm: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// A command, and what it names.
#[derive(Args)]
pub struct What {
    /// The command.
    #[arg(value_enum)]
    kind: CommandName,
    #[command(flatten)]
    details: Details,
}

/// What a command names, and its deadline.
#[derive(Args, Clone)]
pub struct Details {
    /// For `logs`: only this unit.
    #[arg(long)]
    unit: Option<String>,
    /// For `diagnostic`: its name in the profile.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// For `support-bundle`: name of the support key in the profile.
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
    /// Minutes until the command expires.
    #[arg(long, default_value_t = 60)]
    minutes: u32,
}

/// The command to send.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CommandName {
    /// Send a report.
    Report,
    /// Reboot.
    Reboot,
    /// Acknowledge the alarm of the device.
    ClearAlarm,
    /// Make a new recovery key at the next boot, and remove the current one.
    NewRecoveryKey,
    /// Try new values of boot secrets again that did not reach the server.
    TrySecrets,
    /// Prove what runs.
    Attest,
    /// Replace the device key and its certificate.
    RotateKey,
    /// Collect the log of the current boot.
    Logs,
    /// Run a diagnostic that the profile declares (`--name`).
    Diagnostic,
    /// Collect a support bundle, encrypted to a support key of the profile (`--to`).
    SupportBundle,
    /// Empty the persistent directories of the profile, unless they are kept, and reboot.
    FactoryReset,
}

/// List the newest commands of a device.
#[derive(Args)]
pub struct ListCommands {
    /// Id of the device.
    device: DeviceId,
    #[command(flatten)]
    server: Server,
}

/// Cancel a command: the device stops it, or does not begin it.
#[derive(Args)]
pub struct CancelCommand {
    /// Id of the command.
    command: String,
    #[command(flatten)]
    server: Server,
}

/// Show what became of a command: its status, progress and size of its result.
#[derive(Args)]
pub struct StatusOf {
    /// Id of the command.
    command: String,
    #[command(flatten)]
    server: Server,
}

/// Save the result of a command: text, or a support bundle for `gpg --decrypt`.
#[derive(Args)]
pub struct ResultOf {
    /// Id of the command.
    command: String,
    /// Output file (mode 0600).
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    server: Server,
}

impl CommandName {
    /// The command, for a device that a factory reset names.
    fn kind(self, details: &Details, device: Option<&DeviceId>) -> Result<CommandKind, Failure> {
        let needed = |value: &Option<String>, option: &str| {
            value.clone().ok_or_else(|| Failure::plain(format!("this command needs {option}")))
        };
        Ok(match self {
            Self::Report => CommandKind::Report,
            Self::Reboot => CommandKind::Reboot,
            Self::ClearAlarm => CommandKind::ClearAlarm,
            Self::NewRecoveryKey => CommandKind::NewRecoveryKey,
            Self::TrySecrets => CommandKind::TrySecrets,
            Self::Attest => CommandKind::Attest,
            Self::RotateKey => CommandKind::RotateKey,
            Self::Logs => CommandKind::Logs { unit: details.unit.clone() },
            Self::Diagnostic => CommandKind::Diagnostic { name: needed(&details.name, "--name")? },
            Self::SupportBundle => CommandKind::SupportBundle { key: needed(&details.to, "--to")? },
            Self::FactoryReset => {
                let one = || Failure::plain("a factory reset is sent to one device");
                CommandKind::FactoryReset { device: device.cloned().ok_or_else(one)? }
            }
        })
    }
}

/// A command for many devices, with its validity in seconds.
pub(super) fn for_many(
    name: CommandName,
    details: &Details,
) -> Result<(CommandKind, u32), Failure> {
    Ok((name.kind(details, None)?, details.minutes.saturating_mul(60)))
}

pub(super) fn send(request: SendCommand, output: &Output) -> CommandResult {
    let SendCommand { device, what: What { kind, details }, confirm, server } = request;
    let kind = kind.kind(&details, Some(&device))?;
    let request = CreateCommand { kind, valid_s: details.minutes.saturating_mul(60), confirm };
    let status = server.ask(async |c| c.create_command(&device, &request).await)?;
    output.data(&status, |s| format!("{} {}", s.id, s.status));
    Ok(())
}

pub(super) fn list(request: &ListCommands, output: &Output) -> CommandResult {
    let ListCommands { device, server } = request;
    let commands = server.ask(async |c| c.commands(device).await)?;
    output.data(&commands, |all| rows(all, "no command was sent to this device", row));
    Ok(())
}

fn row(command: &CommandStatus) -> String {
    let CommandStatus { id, kind, status, detail, result_bytes, changed_s, .. } = command;
    let detail = detail.as_ref().map_or_else(String::new, |text| format!("  {text}"));
    let result = result_bytes.map_or_else(String::new, |n| format!("  result {}", bytes(n)));
    format!("{id}  {:<24} {status:<10} {}{result}{detail}", kind.describe(), when(*changed_s))
}

pub(super) fn cancel(request: &CancelCommand, output: &Output) -> CommandResult {
    let CancelCommand { command, server } = request;
    let status = server.ask(async |c| c.cancel_command(command).await)?;
    output.data(&status, |s| {
        Lines::from(format!("{} {}", s.id, s.status))
            .and("the device answers when it has stopped the command, or already ended it")
    });
    Ok(())
}

pub(super) fn status(request: &StatusOf, output: &Output) -> CommandResult {
    let StatusOf { command, server } = request;
    let status = server.ask(async |c| c.command(command).await)?;
    output.data(&status, |s| {
        let until =
            format!("  sent {} by {}, until {}", when(s.created_s), s.sent_by, when(s.deadline_s));
        Lines::from(row(s)).and(until)
    });
    Ok(())
}

pub(super) fn result(request: &ResultOf, output: &Output) -> CommandResult {
    let ResultOf { command, out, server } = request;
    let result = server.ask(async |c| c.command_result(command).await)?;
    keys::write(out, &result, true)?;
    let data = serde_json::json!({"result": out, "bytes": result.len()});
    output.data(&data, |_| format!("wrote {} ({})", out.display(), bytes(result.len() as u64)));
    Ok(())
}
