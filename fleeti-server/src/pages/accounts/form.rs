//! Reads the forms of accounts: an empty field stands for a missing value.

use crate::error::AppError;
use fleeti_control::accounts::passkeys::NewPasskey;
use fleeti_core::id::{AccountName, FleetId};
use fleeti_core::wire::accounts::{AccountKind, CreateAccount, CreateToken, Grant, Role};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::problem::Code;
use serde::Deserialize;

fn invalid(e: impl std::fmt::Display) -> AppError {
    AppError::new(Code::Invalid, e.to_string())
}

fn fleet(text: &str) -> Result<Option<FleetId>, AppError> {
    let text = text.trim();
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(invalid) }
}

/// A new account.
#[derive(Deserialize)]
pub struct AccountForm {
    name: AccountName,
    kind: AccountKind,
    #[serde(default)]
    role: String,
    #[serde(default)]
    fleet: String,
}

impl TryFrom<AccountForm> for CreateAccount {
    type Error = AppError;
    fn try_from(form: AccountForm) -> Result<Self, AppError> {
        let grants = match form.role.as_str() {
            "" => vec![],
            role => {
                vec![Grant { role: role.parse().map_err(invalid)?, fleet: fleet(&form.fleet)? }]
            }
        };
        Ok(Self { name: form.name, kind: form.kind, grants })
    }
}

/// A role of an account.
#[derive(Deserialize)]
pub struct GrantForm {
    role: Role,
    #[serde(default)]
    fleet: String,
}

impl TryFrom<GrantForm> for Grant {
    type Error = AppError;
    fn try_from(form: GrantForm) -> Result<Self, AppError> {
        Ok(Self { role: form.role, fleet: fleet(&form.fleet)? })
    }
}

/// A new API token of the own account.
#[derive(Deserialize)]
pub struct TokenForm {
    label: String,
    days: u32,
    /// One permission; empty for all those of the account.
    #[serde(default)]
    permission: String,
}

impl TryFrom<TokenForm> for CreateToken {
    type Error = AppError;
    fn try_from(form: TokenForm) -> Result<Self, AppError> {
        let permissions = match form.permission.as_str() {
            "" => None,
            permission => Some(vec![permission.parse().map_err(invalid)?]),
        };
        let valid_s = form.days.saturating_mul(86_400);
        Ok(Self { label: form.label, valid_s, permissions, account: None })
    }
}

/// A new passkey: its name, and the answer of browser and authenticator, base64url.
#[derive(Deserialize)]
pub struct PasskeyForm {
    label: String,
    client_data: String,
    attestation: String,
}

impl PasskeyForm {
    pub fn parts(&self) -> NewPasskey<'_> {
        NewPasskey {
            label: &self.label,
            client_data: &self.client_data,
            attestation: &self.attestation,
        }
    }
}

/// The current and the new password.
#[derive(Deserialize)]
pub struct PasswordForm {
    pub current: Secret,
    pub new: Secret,
}
