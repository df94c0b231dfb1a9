//! The commands of a device: what the page shows of them, and what its form sends.

use crate::error::AppError;
use crate::pages::display::{Badge, time};
use fleeti_core::command::State;
use fleeti_core::id::DeviceId;
use fleeti_core::size::bytes;
use fleeti_core::wire::api::{CommandStatus, CreateCommand};
use fleeti_core::wire::command::CommandKind;
use fleeti_core::wire::problem::Code;
use serde::Deserialize;

/// How long a command of the form is valid, seconds: a day.
const VALID_S: u32 = 86_400;

/// A row of the list of commands.
pub struct CommandRow {
    pub id: String,
    pub what: String,
    pub state: Badge,
    pub detail: String,
    pub changed: String,
    pub sent_by: String,
    pub can_cancel: bool,
    /// Size of the result that can be downloaded.
    pub result: Option<String>,
}

/// The tone of a command in this state.
pub(super) fn tone(state: Option<State>) -> &'static str {
    match state {
        Some(State::Pending | State::Running | State::Cancelling) => "busy",
        Some(State::Done) => "good",
        Some(State::Failed) => "bad",
        Some(State::Expired) => "warn",
        Some(State::Cancelled) | None => "",
    }
}

impl From<CommandStatus> for CommandRow {
    fn from(command: CommandStatus) -> Self {
        let state = State::named(&command.status);
        Self {
            what: command.kind.describe(),
            state: Badge::new(tone(state), command.status),
            detail: command.detail.unwrap_or_default(),
            changed: time(command.changed_s),
            sent_by: command.sent_by,
            can_cancel: matches!(state, Some(State::Pending | State::Running)),
            result: command.result_bytes.map(bytes),
            id: command.id,
        }
    }
}

/// The form that sends a command. Fields of other commands are empty.
#[derive(Deserialize)]
pub struct CommandForm {
    kind: String,
    #[serde(default)]
    unit: String,
    #[serde(default)]
    name: String,
    confirm: Option<String>,
}

impl CommandForm {
    /// The command, for this device.
    pub fn command(self, device: &DeviceId) -> Result<CreateCommand, AppError> {
        let Self { kind, unit, name, confirm } = self;
        let kind = kind_of(&kind, (unit, name), device)?;
        Ok(CreateCommand { kind, valid_s: VALID_S, confirm })
    }
}

/// The command of a form that has no fields of its own, for many devices.
pub fn for_many(kind: &str) -> Result<(CommandKind, u32), AppError> {
    let kind = match kind {
        "report" => CommandKind::Report,
        "reboot" => CommandKind::Reboot,
        "attest" => CommandKind::Attest,
        "rotate_key" => CommandKind::RotateKey,
        "logs" => CommandKind::Logs { unit: None },
        other => return Err(unknown(other)),
    };
    Ok((kind, VALID_S))
}

fn kind_of(
    kind: &str,
    (unit, name): (String, String),
    device: &DeviceId,
) -> Result<CommandKind, AppError> {
    Ok(match kind {
        "clear_alarm" => CommandKind::ClearAlarm,
        "try_secrets" => CommandKind::TrySecrets,
        "logs" => CommandKind::Logs { unit: Some(unit).filter(|unit| !unit.is_empty()) },
        "diagnostic" => CommandKind::Diagnostic { name },
        "support_bundle" => CommandKind::SupportBundle { key: name },
        "factory_reset" => CommandKind::FactoryReset { device: device.clone() },
        other => for_many(other)?.0,
    })
}

fn unknown(kind: &str) -> AppError {
    let kind: String = kind.chars().take(40).collect();
    AppError::new(Code::Invalid, format!("the form has no command {kind:?}"))
}
