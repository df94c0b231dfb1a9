//! Accounts: people and programs that use the API and the pages, their roles, and what the roles
//! permit.
//!
//! A role is granted for all fleets or for one. Profiles, builds, releases and the server itself
//! belong to no fleet: only a role for all fleets permits changes there, and every role lets its
//! holder see profiles, builds and releases.

use super::attestation::Secret;
use crate::id::{AccountName, FleetId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Maximum number of accounts.
pub const ACCOUNTS_MAX: usize = 1000;
/// Maximum number of roles of an account.
pub const GRANTS_MAX: usize = 64;
/// Maximum number of API tokens of an account.
pub const TOKENS_MAX: usize = 50;
/// Maximum validity of an API token, seconds.
pub const TOKEN_S_MAX: u32 = 366 * 86_400;
/// Allowed length of a password, bytes.
pub const PASSWORD: std::ops::RangeInclusive<usize> = 12..=256;
/// Maximum length of the label of an API token or passkey, bytes.
pub const LABEL_MAX: usize = 64;
/// Maximum number of passkeys of an account.
pub const PASSKEYS_MAX: usize = 10;

/// What an account may do: a named set of permissions.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees everything but secrets.
    Viewer,
    /// Runs devices: enrolls, commands, updates and revokes them, and sets secrets of fleets.
    Operator,
    /// Saves profiles and queues builds.
    Builder,
    /// Signs, publishes and revokes releases.
    Approver,
    /// Everything.
    Admin,
}

/// What a request needs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// See devices, fleets, rollouts, profiles, builds and releases.
    View,
    /// Read the audit log.
    Audit,
    /// Send commands to devices and request evidence.
    Operate,
    /// Enroll and provision devices.
    Enroll,
    /// Revoke devices, and release a hold.
    Revoke,
    /// Start and abort rollouts.
    Rollout,
    /// Set and remove secrets of fleets.
    Secrets,
    /// Display recovery keys of devices.
    Recovery,
    /// Change what devices must prove: appraisal policies, accepted firmware, Secure Boot keys,
    /// readmission.
    Policy,
    /// Save profiles and queue builds.
    Build,
    /// Sign, publish and revoke releases.
    Release,
    /// Change trust bundle, transitions, TPM manufacturers and build workers.
    Server,
    /// Manage accounts.
    Accounts,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 5] =
        [Self::Viewer, Self::Operator, Self::Builder, Self::Approver, Self::Admin];

    /// Its permissions.
    #[must_use]
    pub const fn permissions(self) -> &'static [Permission] {
        use Permission::{Audit, Build, Enroll, Operate, Release, Revoke, Rollout, Secrets, View};
        match self {
            Self::Viewer => &[View, Audit],
            Self::Operator => &[View, Audit, Operate, Enroll, Revoke, Rollout, Secrets],
            Self::Builder => &[View, Audit, Build],
            Self::Approver => &[View, Audit, Release],
            Self::Admin => &Permission::ALL,
        }
    }

    /// Whether the role can be granted for one fleet. Builders and approvers change what belongs to
    /// no fleet.
    #[must_use]
    pub const fn is_of_a_fleet(self) -> bool {
        matches!(self, Self::Viewer | Self::Operator | Self::Admin)
    }

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Builder => "builder",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

impl Permission {
    /// All permissions.
    pub const ALL: [Self; 13] = [
        Self::View,
        Self::Audit,
        Self::Operate,
        Self::Enroll,
        Self::Revoke,
        Self::Rollout,
        Self::Secrets,
        Self::Recovery,
        Self::Policy,
        Self::Build,
        Self::Release,
        Self::Server,
        Self::Accounts,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Audit => "audit",
            Self::Operate => "operate",
            Self::Enroll => "enroll",
            Self::Revoke => "revoke",
            Self::Rollout => "rollout",
            Self::Secrets => "secrets",
            Self::Recovery => "recovery",
            Self::Policy => "policy",
            Self::Build => "build",
            Self::Release => "release",
            Self::Server => "server",
            Self::Accounts => "accounts",
        }
    }

    /// Whether a role for one fleet gives the permission for that fleet. All others need a role for
    /// all fleets.
    #[must_use]
    pub const fn is_of_a_fleet(self) -> bool {
        !matches!(self, Self::Audit | Self::Build | Self::Release | Self::Server | Self::Accounts)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no role or permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of {1}")]
pub struct Unknown(String, String);

impl FromStr for Role {
    type Err = Unknown;
    fn from_str(text: &str) -> Result<Self, Unknown> {
        let names = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| Unknown(text.to_owned(), names()))
    }
}

impl FromStr for Permission {
    type Err = Unknown;
    fn from_str(text: &str) -> Result<Self, Unknown> {
        let names = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|permission| permission.as_str() == text);
        found.ok_or_else(|| Unknown(text.to_owned(), names()))
    }
}

/// A role that an account has.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// The fleet that it is for; all fleets if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetId>,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fleet {
            Some(fleet) => write!(f, "{} of {fleet}", self.role),
            None => write!(f, "{} of all fleets", self.role),
        }
    }
}

/// Who an account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    /// A person, who signs in with a password or a passkey.
    Person,
    /// A program, which has API tokens only.
    Service,
}

impl AccountKind {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Service => "service",
        }
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Account {
    /// Its name, which the audit log shows. It is never given to another account.
    pub name: AccountName,
    /// Who it is for.
    pub kind: AccountKind,
    /// Its roles.
    pub grants: Vec<Grant>,
    /// When it was added, Unix seconds.
    pub created_s: u64,
    /// When it was disabled, Unix seconds.
    pub disabled_s: Option<u64>,
    /// Whether it has a password.
    pub has_password: bool,
}

/// `POST /api/v1/accounts`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAccount {
    /// Its name.
    pub name: AccountName,
    /// Who it is for.
    pub kind: AccountKind,
    /// Its roles.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub grants: Vec<Grant>,
}

/// The response to [`CreateAccount`].
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedAccount {
    /// The account.
    pub account: Account,
    /// The one-time link of a person. Only this response contains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<PasswordLink>,
}

/// A one-time link with which a person sets the password.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PasswordLink {
    /// The path on the server, such as `/join/…`.
    #[schema(value_type = String)]
    pub path: Secret,
    /// When it ends, Unix seconds.
    pub expires_s: u64,
}

/// An account with everything that accepts its holder.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AccountDetails {
    /// The account.
    pub account: Account,
    /// Its login sessions.
    pub sessions: Vec<LoginSession>,
    /// Its API tokens.
    pub tokens: Vec<ApiToken>,
    /// Its passkeys.
    pub passkeys: Vec<Passkey>,
    /// Number of enrollment tokens that it created and that no device has used.
    pub open_enrollments: u64,
    /// What else may accept the person, which the server cannot end.
    pub elsewhere: Vec<String>,
}

/// Who sends a request, and what that account and credential permit.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Me {
    /// The name of the account.
    pub name: AccountName,
    /// The credential, as the audit log shows it.
    pub credential: String,
    /// The roles of the account.
    pub grants: Vec<Grant>,
    /// The permissions that an API token is limited to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<Permission>>,
}

/// A login session in a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LoginSession {
    /// Its id, which the audit log shows.
    pub id: String,
    /// When it began, Unix seconds.
    pub created_s: u64,
    /// When it was last used, Unix seconds, to the minute.
    pub used_s: u64,
    /// When it ends, Unix seconds.
    pub expires_s: u64,
}

/// A passkey (Web Authentication) with which a person signs in to the pages, without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Passkey {
    /// Its id, which the audit log shows.
    pub id: String,
    /// Its account.
    pub account: AccountName,
    /// Its name, which the person chose.
    pub label: String,
    /// Whether the authenticator may copy it to others of the person.
    pub is_synced: bool,
    /// When it was added, Unix seconds.
    pub created_s: u64,
    /// When it was last used, Unix seconds.
    pub used_s: Option<u64>,
}

/// `POST /api/v1/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What it is for.
    #[schema(min_length = 1, max_length = 64)]
    pub label: String,
    /// Its validity in seconds.
    #[schema(minimum = 60, maximum = 31_622_400)]
    pub valid_s: u32,
    /// The permissions that it is limited to; all those of its account if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<Permission>>,
    /// The service account that it is for; the own account if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountName>,
}

/// The response to [`CreateToken`]. The server shows the token only here.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedToken {
    /// What the server keeps of it.
    pub about: ApiToken,
    /// The token.
    #[schema(value_type = String)]
    pub token: Secret,
}

/// An API token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApiToken {
    /// Its id, which the audit log shows.
    pub id: String,
    /// Its account.
    pub account: AccountName,
    /// What it is for.
    pub label: String,
    /// The permissions that it is limited to; all those of its account if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<Permission>>,
    /// When it was created, Unix seconds.
    pub created_s: u64,
    /// When it ends, Unix seconds.
    pub expires_s: u64,
    /// When it was last used, Unix seconds, to the minute.
    pub used_s: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_role_or_permission_is_its_name_on_the_wire() {
        for role in Role::ALL {
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        for permission in Permission::ALL {
            assert_eq!(serde_json::to_value(permission).unwrap(), permission.as_str());
            assert_eq!(permission.as_str().parse(), Ok(permission));
        }
        assert!("root".parse::<Role>().unwrap_err().to_string().contains("viewer, operator"));
    }

    #[test]
    fn only_administrators_manage_accounts_and_the_server_and_see_recovery_keys() {
        for permission in
            [Permission::Accounts, Permission::Server, Permission::Recovery, Permission::Policy]
        {
            let holders: Vec<_> =
                Role::ALL.into_iter().filter(|r| r.permissions().contains(&permission)).collect();
            assert_eq!(holders, [Role::Admin], "{permission}");
        }
        assert!(Role::ALL.iter().all(|role| role.permissions().contains(&Permission::View)));
    }
}
