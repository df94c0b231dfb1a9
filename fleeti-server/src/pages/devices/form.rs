//! What the forms of devices send.

use super::commands;
use crate::error::AppError;
use fleeti_core::id::{LabelKey, ViewName};
use fleeti_core::wire::api::RevocationReason;
use fleeti_core::wire::labels::{Change, ChangeDevices, ChangeLabels};
use fleeti_core::wire::problem::Code;
use serde::Deserialize;

/// The forms that change all devices of a filter: one sets a label, one revokes, and
/// two send a command.
#[derive(Deserialize)]
pub struct ChangeForm {
    filter: String,
    expected: u64,
    key: Option<LabelKey>,
    #[serde(default)]
    value: String,
    reason: Option<RevocationReason>,
    command: Option<String>,
    confirm: Option<String>,
    /// Why, if a second person must approve.
    #[serde(default)]
    pub ask: String,
}

impl TryFrom<ChangeForm> for ChangeDevices {
    type Error = AppError;
    fn try_from(form: ChangeForm) -> Result<Self, AppError> {
        let ChangeForm { filter, expected, key, value, reason, command, confirm, ask: _ } = form;
        let change = match (key, reason, command) {
            (Some(key), _, _) if value.is_empty() => Change::Unlabel { key },
            (Some(key), _, _) => Change::Label { key, value },
            (None, Some(reason), _) => Change::Revoke { reason },
            (None, None, Some(kind)) => {
                let (kind, valid_s) = commands::for_many(&kind)?;
                Change::Command { kind, valid_s }
            }
            (None, None, None) => {
                return Err(AppError::new(Code::Invalid, "the form has no change"));
            }
        };
        Ok(Self { filter, change, expected: Some(expected), confirm })
    }
}

/// The form that saves a view.
#[derive(Deserialize)]
pub struct ViewForm {
    pub name: ViewName,
    pub filter: String,
}

/// The form that sets a label of a device. An empty value removes it.
#[derive(Deserialize)]
pub struct LabelForm {
    key: LabelKey,
    #[serde(default)]
    value: String,
}

impl From<LabelForm> for ChangeLabels {
    fn from(LabelForm { key, value }: LabelForm) -> Self {
        let mut change = Self::default();
        if value.is_empty() {
            change.remove.push(key);
        } else {
            change.set.insert(key, value);
        }
        change
    }
}
