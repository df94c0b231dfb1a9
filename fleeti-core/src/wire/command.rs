//! Commands to devices: what they ask for, and what devices answer.
//!
//! Agents can be older than servers: an agent passes unknown fields, and does not answer a kind that
//! it does not know. All times are Unix seconds.

use crate::id::DeviceId;
use serde::{Deserialize, Serialize};

/// Longest id of a command, bytes.
pub const ID_MAX: usize = 64;
/// Longest name of a unit, bytes (systemd's `UNIT_NAME_MAX`).
pub const UNIT_MAX: usize = 255;
/// Longest name of a diagnostic or of a support key, bytes.
pub const NAME_MAX: usize = 64;
/// Longest detail of an answer, characters.
pub const DETAIL_MAX: usize = 500;
/// Maximum validity of a command, seconds: 30 days.
pub const VALID_S_MAX: u32 = 30 * 86_400;

/// A one-time request to a device. Idempotent by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Chosen by the server.
    pub id: String,
    /// What the device should do.
    pub kind: CommandKind,
    /// After this time the device does not run the command.
    pub deadline_s: u64,
}

/// On the topic of commands: the device should not run a command, or stop it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    /// The command's id.
    pub cancel: String,
}

/// What a command asks a device to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CommandKind {
    /// Send a report now.
    Report,
    /// Reboot.
    Reboot,
    /// Clear the alarm that the device raised: an operator has handled it.
    ClearAlarm,
    /// Make a new recovery key at the next boot and remove the current one, because a person has
    /// seen it.
    NewRecoveryKey,
    /// Try values of secrets of the boot again that did not reach the server.
    TrySecrets,
    /// Prove what runs: done when the evidence for a new challenge is sent.
    Attest,
    /// Replace the device key and its certificate now, before their renewal is due.
    RotateKey,
    /// Collect the log of the current boot. Of lines that repeat, the first one is kept.
    Logs {
        /// The unit; absent for all units.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
    },
    /// Run a diagnostic that the image declares, and collect what it prints.
    Diagnostic {
        /// Its name in the profile.
        name: String,
    },
    /// Collect a support bundle, encrypted on the device.
    SupportBundle {
        /// Name of the support key in the profile. The server cannot name another key than those of
        /// the image.
        key: String,
    },
    /// Empty the persistent directories of the profile, unless they are kept, and reboot.
    FactoryReset {
        /// The device that is meant. Another device refuses.
        device: DeviceId,
    },
}

/// How much a command disturbs a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Impact {
    /// It reads, or changes nothing that a user notices.
    None,
    /// It interrupts what the device does.
    Interrupts,
    /// It deletes data.
    Deletes,
}

/// Why a command has no valid form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongCommand {
    /// Not a name of a unit.
    #[error("the unit is not a name such as nginx.service")]
    Unit,
    /// Not a name of a diagnostic.
    #[error("the diagnostic is not a name of 1 to {NAME_MAX} of a-z, 0-9 and -")]
    Diagnostic,
    /// Not a name of a support key.
    #[error("the support key is not a name of 1 to {NAME_MAX} of a-z, 0-9 and -")]
    Key,
}

/// Whether a text can be the id of a command: it is also a part of a path.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=ID_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Whether a text can name a diagnostic or a support key.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
}

/// Whether a text is a name of a unit with its suffix. It cannot be read as an option, and has no
/// pattern.
#[must_use]
pub fn is_unit(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    let has_suffix = text.rsplit_once('.').is_some_and(|(name, kind)| {
        let kinds =
            ["service", "socket", "target", "timer", "mount", "scope", "slice", "path", "device"];
        !name.is_empty() && kinds.contains(&kind)
    });
    text.len() <= UNIT_MAX && text.bytes().all(is_word) && !text.starts_with('-') && has_suffix
}

impl CommandKind {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Reboot => "reboot",
            Self::ClearAlarm => "clear_alarm",
            Self::NewRecoveryKey => "new_recovery_key",
            Self::TrySecrets => "try_secrets",
            Self::Attest => "attest",
            Self::RotateKey => "rotate_key",
            Self::Logs { .. } => "logs",
            Self::Diagnostic { .. } => "diagnostic",
            Self::SupportBundle { .. } => "support_bundle",
            Self::FactoryReset { .. } => "factory_reset",
        }
    }

    /// The command in words, with what it names.
    #[must_use]
    pub fn describe(&self) -> String {
        let name = self.as_str().replace('_', "-");
        match self {
            Self::Logs { unit: Some(unit) } => format!("{name} of {unit}"),
            Self::Diagnostic { name: which } => format!("{name} {which}"),
            Self::SupportBundle { key } => format!("{name} for {key}"),
            Self::FactoryReset { device } => format!("{name} of {device}"),
            Self::Logs { unit: None }
            | Self::Report
            | Self::Reboot
            | Self::ClearAlarm
            | Self::NewRecoveryKey
            | Self::TrySecrets
            | Self::Attest
            | Self::RotateKey => name,
        }
    }

    /// How much it disturbs a device.
    #[must_use]
    pub const fn impact(&self) -> Impact {
        match self {
            Self::Report
            | Self::ClearAlarm
            | Self::NewRecoveryKey
            | Self::TrySecrets
            | Self::Attest
            | Self::RotateKey
            | Self::Logs { .. }
            | Self::Diagnostic { .. }
            | Self::SupportBundle { .. } => Impact::None,
            Self::Reboot => Impact::Interrupts,
            Self::FactoryReset { .. } => Impact::Deletes,
        }
    }

    /// Largest result, bytes; 0 if it has none.
    #[must_use]
    pub const fn result_max(&self) -> usize {
        match self {
            Self::Report
            | Self::Reboot
            | Self::ClearAlarm
            | Self::NewRecoveryKey
            | Self::TrySecrets
            | Self::Attest
            | Self::RotateKey
            | Self::FactoryReset { .. } => 0,
            Self::Logs { .. } => 256 << 10,
            Self::Diagnostic { .. } => 64 << 10,
            Self::SupportBundle { .. } => RESULT_MAX,
        }
    }

    /// Whether a device says that it began, because the command takes a while.
    #[must_use]
    pub const fn takes_a_while(&self) -> bool {
        match self {
            Self::Report | Self::ClearAlarm | Self::NewRecoveryKey | Self::TrySecrets => false,
            Self::Reboot
            | Self::Attest
            | Self::RotateKey
            | Self::Logs { .. }
            | Self::Diagnostic { .. }
            | Self::SupportBundle { .. }
            | Self::FactoryReset { .. } => true,
        }
    }

    /// Checks the names in it.
    ///
    /// # Errors
    /// [`WrongCommand`].
    pub fn check(&self) -> Result<(), WrongCommand> {
        let (is_right, wrong) = match self {
            Self::Logs { unit: Some(unit) } => (is_unit(unit), WrongCommand::Unit),
            Self::Diagnostic { name } => (is_name(name), WrongCommand::Diagnostic),
            Self::SupportBundle { key } => (is_name(key), WrongCommand::Key),
            Self::Logs { unit: None }
            | Self::Report
            | Self::Reboot
            | Self::ClearAlarm
            | Self::NewRecoveryKey
            | Self::TrySecrets
            | Self::Attest
            | Self::RotateKey
            | Self::FactoryReset { .. } => return Ok(()),
        };
        if is_right { Ok(()) } else { Err(wrong) }
    }
}

/// Largest result of any command, bytes.
pub const RESULT_MAX: usize = 512 << 10;

/// A device's response to a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The command's id.
    pub command: String,
    /// Result of the command.
    pub outcome: Outcome,
    /// Progress, or the result or the reason in words; at most [`DETAIL_MAX`] characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The device began, or goes on.
    Begun,
    /// Done, or about to be done if the command ends the session.
    Done,
    /// The device could not do it.
    Failed,
    /// The command was cancelled before its end.
    Cancelled,
    /// The command arrived after its deadline.
    Expired,
}

/// Cuts a text to a detail: one line of at most [`DETAIL_MAX`] characters.
#[must_use]
pub fn detail(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DETAIL_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_options_paths_or_patterns() {
        for good in ["nginx.service", "getty@tty1.service", "a-b.timer", "dev-x\\x2d.mount"] {
            assert!(is_unit(good), "{good}");
        }
        for bad in
            ["", "nginx", "-b.service", "*.service", "a/b.service", ".service", "a b.service"]
        {
            assert!(!is_unit(bad), "{bad}");
        }
        assert!(!is_unit(&format!("{}.service", "a".repeat(UNIT_MAX))));
        assert!(is_id("cmd-01JABC_x") && !is_id("") && !is_id("../x") && !is_id("a/b"));
        assert!(!is_id(&"a".repeat(ID_MAX + 1)));
        assert!(is_name("network-2") && !is_name("") && !is_name("-x") && !is_name("a b"));
        assert!(!is_name(&"a".repeat(NAME_MAX + 1)) && !is_name("Ab") && !is_name("a/b"));
    }

    #[test]
    fn a_kind_without_fields_takes_none_and_an_older_agent_does_not_know_a_cancellation() {
        let read = |text: &str| crate::strict::from_request::<CommandKind>(text.as_bytes());
        assert!(read(r#"{"type":"logs"}"#).is_ok());
        assert!(read(r#"{"type":"logs","unit":"a.service"}"#).is_ok());
        assert!(read(r#"{"type":"logs","command":"/bin/sh"}"#).is_err());
        assert!(read(r#"{"type":"cancel"}"#).is_err());
        let cancellation = serde_json::to_vec(&Cancellation { cancel: "c".into() }).unwrap();
        assert!(serde_json::from_slice::<Command>(&cancellation).is_err());
        let command = Command { id: "c".into(), kind: CommandKind::Reboot, deadline_s: 1 };
        let command = serde_json::to_vec(&command).unwrap();
        assert!(serde_json::from_slice::<Cancellation>(&command).is_err());
    }

    /// A changed line is a changed protocol: agents in the field use the old one.
    #[test]
    fn the_payloads_of_commands_are_the_protocol() {
        let device = "dev-a".parse().unwrap();
        let (name, key) = ("network".to_owned(), "helpdesk".to_owned());
        for (kind, text) in [
            (CommandKind::Report, r#"{"type":"report"}"#),
            (CommandKind::Reboot, r#"{"type":"reboot"}"#),
            (CommandKind::ClearAlarm, r#"{"type":"clear_alarm"}"#),
            (CommandKind::NewRecoveryKey, r#"{"type":"new_recovery_key"}"#),
            (CommandKind::TrySecrets, r#"{"type":"try_secrets"}"#),
            (CommandKind::Attest, r#"{"type":"attest"}"#),
            (CommandKind::RotateKey, r#"{"type":"rotate_key"}"#),
            (CommandKind::Logs { unit: None }, r#"{"type":"logs"}"#),
            (CommandKind::Diagnostic { name }, r#"{"type":"diagnostic","name":"network"}"#),
            (CommandKind::SupportBundle { key }, r#"{"type":"support_bundle","key":"helpdesk"}"#),
            (CommandKind::FactoryReset { device }, r#"{"type":"factory_reset","device":"dev-a"}"#),
        ] {
            assert_eq!(serde_json::to_string(&kind).unwrap(), text);
            assert!(text.contains(&format!("\"{}\"", kind.as_str())), "{text}");
        }
        let cancellation = Cancellation { cancel: "c".into() };
        assert_eq!(serde_json::to_string(&cancellation).unwrap(), r#"{"cancel":"c"}"#);
        let outcome = Outcome::Cancelled;
        let answer = Acknowledgement { command: "c".into(), outcome, detail: Some("d".into()) };
        let text = r#"{"command":"c","outcome":"cancelled","detail":"d"}"#;
        assert_eq!(serde_json::to_string(&answer).unwrap(), text);
    }

    #[test]
    fn a_detail_is_one_short_line() {
        assert_eq!(detail("a\nb\u{1b}[31m"), "a b [31m");
        assert_eq!(detail(&"ä".repeat(2000)).chars().count(), DETAIL_MAX);
    }
}
