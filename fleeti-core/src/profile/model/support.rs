//! What an operator can ask a device for: diagnostics, and support bundles.

use serde::{Deserialize, Serialize};

/// A diagnostic that `fleeti device command DEVICE diagnostic` can run. The server sends its name, and
/// never a command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Diagnostic {
    /// Name.
    #[schema(example = "network")]
    pub name: String,
    /// Executable and its arguments. It runs as root, and its output is the result.
    #[schema(example = json!(["/usr/bin/networkctl", "status", "--all"]))]
    pub command: Vec<String>,
    /// Seconds after which it is ended.
    #[schema(minimum = 1, maximum = 600)]
    #[serde(default = "default_timeout")]
    pub timeout_s: u32,
}

fn default_timeout() -> u32 {
    60
}

/// A key of a person or a team that support bundles can be encrypted to. Devices encrypt to no other
/// key, whatever the server says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SupportKey {
    /// Name.
    #[schema(example = "helpdesk")]
    pub name: String,
    /// The public OpenPGP key, armored, with a subkey for encryption (`gpg --export --armor`).
    pub key: String,
}
