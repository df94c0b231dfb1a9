//! Security settings, each a switch of its own. Baselines set them together.

use super::is_default;
use serde::{Deserialize, Serialize};

/// Security settings. The baselines `baseline/standard` and `baseline/strict` set them together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// The SSH server.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub ssh: Ssh,
    /// Passwords of users.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub passwords: Passwords,
    /// Kernel lockdown (kernel_lockdown(7)).
    #[serde(default)]
    pub lockdown: Lockdown,
    /// Mandatory access control.
    #[serde(default)]
    pub access_control: AccessControl,
    /// The Linux audit daemon.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub audit: Audit,
    /// USB devices that may be attached.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub usb_guard: UsbGuard,
    /// Refuse an image that contains a compiler.
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_compiler: bool,
    /// Further programs that run with the rights of their owner or group (setuid, setgid). An image
    /// with one that neither this list nor Fleeti's list of Debian's own names is refused.
    #[schema(example = json!(["/usr/bin/scanner-helper"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub setuid: Vec<String>,
    /// Do not store core dumps.
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_core_dumps: bool,
    /// Restrict kernel pointers, dmesg, ptrace and unprivileged BPF by sysctl.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hardened_sysctl: bool,
}

/// The SSH server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// Allow logins with a password.
    #[serde(default, skip_serializing_if = "is_default")]
    pub password_login: bool,
    /// Only members of these groups may log in. Empty for every user.
    #[schema(example = json!(["ops"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_groups: Vec<String>,
    /// Allow forwarding of TCP ports and agents.
    #[schema(default = true)]
    #[serde(default = "super::yes")]
    pub forwarding: bool,
    /// Seconds after which an idle session ends; 0 for never.
    #[schema(maximum = 86400)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub idle_timeout_s: u32,
    /// Maximum number of attempts in one connection.
    #[schema(minimum = 1, maximum = 20)]
    #[serde(default = "default_attempts")]
    pub attempts_max: u32,
}

fn default_attempts() -> u32 {
    6
}

impl Default for Ssh {
    fn default() -> Self {
        Self {
            password_login: false,
            allow_groups: Vec::new(),
            forwarding: true,
            idle_timeout_s: 0,
            attempts_max: default_attempts(),
        }
    }
}

/// Rules for passwords that users set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Passwords {
    /// Minimum length; 0 for the base's own rule.
    #[schema(maximum = 128)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub length_min: u32,
    /// Days after which a password must be changed; 0 for never.
    #[schema(maximum = 3650)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub age_days_max: u32,
    /// Failed attempts after which an account is locked for 15 minutes; 0 for never.
    #[schema(maximum = 100)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub lock_after: u32,
}

/// Kernel lockdown (kernel_lockdown(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lockdown {
    /// What the kernel does by itself under Secure Boot.
    #[default]
    Automatic,
    /// User space cannot change the running kernel.
    Integrity,
    /// User space cannot read secrets of the kernel either.
    Confidentiality,
}

impl Lockdown {
    /// The kernel argument; `None` for what the kernel does by itself.
    #[must_use]
    pub const fn argument(self) -> Option<&'static str> {
        match self {
            Self::Automatic => None,
            Self::Integrity => Some("lockdown=integrity"),
            Self::Confidentiality => Some("lockdown=confidentiality"),
        }
    }
}

/// Mandatory access control.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessControl {
    /// The default of the base.
    #[default]
    Base,
    /// AppArmor, with the profiles of the installed packages enforced.
    Apparmor,
}

/// The Linux audit daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Run the audit daemon with rules for logins, sudo, time, accounts and modules.
    #[serde(default, skip_serializing_if = "is_default")]
    pub enabled: bool,
    /// Rules of your own, in the form of audit.rules(7).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
}

/// USB devices that may be attached (usbguard(1)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UsbGuard {
    /// Refuse every USB device that no rule allows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub enabled: bool,
    /// Rules in the form of usbguard-rules.conf(5).
    #[schema(example = json!(["allow with-interface equals { 03:01:01 }"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
}
