//! Users, groups and sudo rules.

use super::is_default;
use serde::{Deserialize, Serialize};

/// A local user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Login name.
    #[schema(example = "ops")]
    pub name: String,
    /// Full name.
    #[schema(example = "Operators")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Numeric user id, 1000 to 59999. Without one the build assigns the next free id.
    #[schema(minimum = 1000, maximum = 59999)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Supplementary groups.
    #[schema(example = json!(["video", "audio"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// OpenSSH public keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
    /// Password hash in the form of crypt(5) (yescrypt, SHA-512). Without one the password is
    /// locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// Login shell.
    #[schema(example = "/bin/bash")]
    #[serde(default = "default_shell")]
    pub shell: String,
    /// Date after which the account cannot log in, as YYYY-MM-DD.
    #[schema(example = "2027-12-31")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

fn default_shell() -> String {
    "/bin/bash".to_owned()
}

/// A local group that no package creates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Name.
    #[schema(example = "sensors")]
    pub name: String,
    /// Numeric group id, 1000 to 59999. Without one the build assigns the next free id.
    #[schema(minimum = 1000, maximum = 59999)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
}

/// What a user or a group may do with sudo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SudoRule {
    /// Name of the rule, unique in the profile.
    #[schema(example = "restart-web")]
    pub name: String,
    /// Users.
    #[schema(example = json!(["ops"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Commands with absolute paths and their arguments, or `ALL`.
    #[schema(example = json!(["/usr/bin/systemctl restart nginx.service"]))]
    pub commands: Vec<String>,
    /// The account that runs the commands.
    #[schema(example = "root")]
    #[serde(default = "root")]
    pub run_as: String,
    /// Do not ask for the password. A user without a password cannot use sudo otherwise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_password: bool,
}

fn root() -> String {
    "root".to_owned()
}
