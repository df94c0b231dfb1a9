//! Names, notes and labels of devices, saved views, and changes to all devices of a filter.

use super::api::RevocationReason;
use super::command::{CommandKind, Impact};
use crate::id::{DeviceId, LabelKey, ViewName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest number of label keys of a server.
pub const KEYS_MAX: usize = 64;
/// Largest number of labels of a device.
pub const LABELS_MAX: usize = 32;
/// Longest value of a label, characters.
pub const VALUE_MAX: usize = 64;
/// Largest number of values that a label of the type `choice` can have.
pub const CHOICES_MAX: usize = 64;
/// Largest number in a label, and its negative the smallest: JSON readers represent it exactly.
pub const NUMBER_MAX: i64 = 1_000_000_000_000_000;
/// Longest name of a device, characters.
pub const NAME_MAX: usize = 64;
/// Longest note about a device, characters.
pub const NOTE_MAX: usize = 1000;
/// Largest number of rows of an import.
pub const IMPORT_MAX: usize = 10_000;
/// Largest number of saved views.
pub const VIEWS_MAX: usize = 100;
/// Largest number of devices that one change of labels reaches.
pub const LABELLED_MAX: u64 = 10_000;
/// Largest number of devices that one request revokes.
pub const REVOKED_MAX: u64 = 1000;
/// Largest number of devices that one request sends a command to.
pub const COMMANDED_MAX: u64 = 1000;
/// Number of device ids that the preview of a change shows.
pub const PREVIEW: usize = 20;

/// What values a label can have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum LabelType {
    /// Any text of 1 to 64 characters.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// One of these values.
    Choice {
        /// The values, at most 64.
        #[schema(min_items = 1, max_items = 64)]
        values: Vec<String>,
    },
}

/// A label key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LabelKeyInfo {
    /// The key.
    pub key: LabelKey,
    /// What values it can have.
    pub of: LabelType,
}

/// `PUT /label-keys/{key}`: declares a key, or changes what values it can have.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclareLabelKey {
    /// What values it can have.
    pub of: LabelType,
}

/// A value that does not fit its label key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("label {key}: {value:?} is not {wanted}")]
pub struct WrongValue {
    key: LabelKey,
    value: String,
    wanted: String,
}

impl WrongValue {
    /// What to write instead.
    #[must_use]
    pub fn hint(&self) -> String {
        format!("write {}", self.wanted)
    }
}

/// Whether a note can be stored: lines of text.
#[must_use]
pub fn is_note(text: &str) -> bool {
    text.chars().count() <= NOTE_MAX && !text.chars().any(|c| c.is_control() && c != '\n')
}

/// Whether a text has 1 to `max` characters, none of them a control character, and no space at its
/// ends.
#[must_use]
pub fn is_line(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.chars().count())
        && text.trim() == text
        && !text.chars().any(char::is_control)
}

impl LabelType {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Choice { .. } => "choice",
        }
    }

    /// Checks a value of this type.
    ///
    /// # Errors
    /// [`WrongValue`].
    pub fn check(&self, key: &LabelKey, value: &str) -> Result<(), WrongValue> {
        let (fits, wanted) = match self {
            Self::Text => {
                (is_line(value, VALUE_MAX), format!("a text of 1 to {VALUE_MAX} characters"))
            }
            Self::Number => {
                let number = value.parse::<i64>().ok().filter(|n| n.abs() <= NUMBER_MAX);
                (
                    number.is_some_and(|n| n.to_string() == value),
                    "a whole number such as 12".to_owned(),
                )
            }
            Self::Boolean => (["true", "false"].contains(&value), "true or false".to_owned()),
            Self::Choice { values } => {
                (values.iter().any(|v| v == value), format!("one of {}", values.join(", ")))
            }
        };
        if fits {
            return Ok(());
        }
        let value = value.chars().take(VALUE_MAX).collect();
        Err(WrongValue { key: key.clone(), value, wanted })
    }

    /// The number that a value of this type is.
    #[must_use]
    pub fn number(&self, value: &str) -> Option<i64> {
        match self {
            Self::Number => value.parse().ok(),
            Self::Text | Self::Boolean | Self::Choice { .. } => None,
        }
    }
}

/// `POST /devices/{device}/about`: changes its name and note. What is absent stays; an empty text
/// removes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub name: Option<String>,
    /// The note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    pub note: Option<String>,
}

/// `POST /devices/{device}/labels`: sets and removes labels.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeLabels {
    /// Labels to set.
    #[serde(default)]
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub set: BTreeMap<LabelKey, String>,
    /// Keys of labels to remove.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub remove: Vec<LabelKey>,
}

/// `POST /label-imports`: names, notes and labels of many devices. All rows are stored or none.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportLabels {
    /// The rows, at most 10,000.
    #[schema(min_items = 1, max_items = 10_000)]
    pub rows: Vec<ImportRow>,
    /// Check the rows and store nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// A row of an import.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRow {
    /// The line of the row in its file, for errors.
    pub line: u32,
    /// The id of the device, or its name if no other device has it.
    pub device: String,
    /// The name; absent to keep it, empty to remove it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The note; absent to keep it, empty to remove it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Labels; an empty value removes one.
    #[serde(default)]
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub labels: BTreeMap<LabelKey, String>,
}

/// The result of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Imported {
    /// Number of devices in the rows.
    pub devices: u64,
    /// Number of them that change.
    pub changed: u64,
    /// Whether the changes are stored.
    pub stored: bool,
}

/// A saved view: a filter with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct View {
    /// Its name.
    pub name: ViewName,
    /// Its filter.
    pub filter: String,
    /// The account that saved it.
    pub saved_by: String,
}

/// `PUT /views/{view}`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaveView {
    /// The filter.
    #[schema(min_length = 1, max_length = 1000)]
    pub filter: String,
}

/// `POST /device-changes`: changes all devices that a filter matches.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeDevices {
    /// The filter. It cannot be empty.
    #[schema(min_length = 1, max_length = 1000)]
    pub filter: String,
    /// The change.
    pub change: Change,
    /// The number of devices of the preview. The server refuses the change if the filter matches
    /// another number now. Absent for a preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
    /// For a revocation and a command that interrupts: `revoke 12 devices` or `reboot 12 devices`,
    /// with the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

/// A change of many devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = DeviceChange)]
pub enum Change {
    /// Set a label.
    Label {
        /// Its key.
        key: LabelKey,
        /// Its value.
        value: String,
    },
    /// Remove a label.
    Unlabel {
        /// Its key.
        key: LabelKey,
    },
    /// Revoke the certificates and disconnect the devices at once.
    Revoke {
        /// The reason.
        reason: RevocationReason,
    },
    /// Send a command, which is not a factory reset.
    Command {
        /// What the devices should do.
        kind: CommandKind,
        /// Seconds until the command expires.
        valid_s: u32,
    },
}

impl Change {
    /// What must be typed to change this many devices; `None` if nothing must.
    #[must_use]
    pub fn phrase(&self, devices: u64) -> Option<String> {
        match self {
            Self::Label { .. } | Self::Unlabel { .. } => None,
            Self::Revoke { .. } => Some(revocation_phrase(devices)),
            Self::Command { kind, .. } => match kind.impact() {
                Impact::None => None,
                Impact::Interrupts | Impact::Deletes => {
                    let name = kind.as_str().replace('_', "-");
                    Some(format!("{name} {}", devices_in_words(devices)))
                }
            },
        }
    }
}

/// The preview or the result of a change of many devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DevicesChanged {
    /// Number of devices that the filter matches.
    pub devices: u64,
    /// The first of them, at most 20.
    pub first: Vec<DeviceId>,
    /// Whether they are changed.
    pub done: bool,
}

/// A number of devices in words: `1 device`, `2 devices`.
#[must_use]
pub fn devices_in_words(devices: u64) -> String {
    format!("{devices} device{}", if devices == 1 { "" } else { "s" })
}

/// What must be typed to revoke this many devices.
#[must_use]
pub fn revocation_phrase(devices: u64) -> String {
    format!("revoke {}", devices_in_words(devices))
}

/// `POST /devices/{device}/replace`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    /// The new device, which is enrolled in the same fleet.
    pub with: DeviceId,
}
