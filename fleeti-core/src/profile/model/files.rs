//! Files, secrets and site values.

use super::is_default;
use serde::{Deserialize, Serialize};

/// A file in the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Absolute path below `/etc`, `/usr` or `/opt`.
    #[schema(example = "/etc/motd")]
    pub path: String,
    /// Content, UTF-8.
    #[schema(format = "multiline")]
    pub content: String,
    /// File mode, octal, for example `0644`.
    #[schema(example = "0644")]
    #[serde(default = "default_mode")]
    pub mode: String,
    /// Owner.
    #[serde(default = "root", skip_serializing_if = "is_root")]
    pub owner: String,
    /// Group.
    #[serde(default = "root", skip_serializing_if = "is_root")]
    pub group: String,
    /// Replace `{site.NAME}` in the content by the device's site values. The device writes the file
    /// when it gets the values; dm-verity and the TPM do not measure them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub site_values: bool,
}

fn default_mode() -> String {
    "0644".to_owned()
}

fn root() -> String {
    "root".to_owned()
}

fn is_root(name: &str) -> bool {
    name == "root"
}

impl File {
    /// A file with this content, owned by root, mode 0644.
    #[must_use]
    pub fn new(path: &str, content: &str) -> Self {
        Self {
            path: path.to_owned(),
            content: content.to_owned(),
            mode: default_mode(),
            owner: root(),
            group: root(),
            site_values: false,
        }
    }
    /// The mode as a number; `None` if the text is not octal or sets other than permission bits.
    #[must_use]
    pub fn mode_bits(&self) -> Option<u32> {
        u32::from_str_radix(&self.mode, 8).ok().filter(|m| *m <= 0o777)
    }
}

/// A secret of the fleet that this profile uses. Its value is not in the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Name of the secret in the fleet.
    #[schema(example = "wifi-office")]
    pub name: String,
    /// The device needs the secret to reach the server. It stays on the encrypted data partition,
    /// and a new value is tried beside the old one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub boot: bool,
    /// Minutes in which the device must reach the server with a new value. Afterwards it returns to
    /// the old one.
    #[schema(minimum = 1, maximum = 1440)]
    #[serde(default = "default_try_minutes", skip_serializing_if = "is_default_try_minutes")]
    pub try_minutes: u32,
    /// Units that are restarted when the value changes. They read it as
    /// `/run/fleeti-boot-secrets/NAME`.
    #[schema(example = json!(["wpa_supplicant@wlan0.service"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart: Vec<String>,
    /// The value is `USER:PASSWORD` for the HTTP proxy through which the device reaches the server.
    #[serde(default, skip_serializing_if = "is_default")]
    pub server_proxy: bool,
}

fn default_try_minutes() -> u32 {
    10
}

fn is_default_try_minutes(minutes: &u32) -> bool {
    *minutes == default_try_minutes()
}

/// A value that differs from site to site. The server takes it from the labels of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteValue {
    /// Name; a file uses it as `{site.NAME}`, and the device's label has the name `site.NAME`.
    #[schema(example = "proxy")]
    pub name: String,
    /// Type of the value.
    #[serde(default)]
    pub kind: SiteType,
    /// Value for a device without the label. Without one the device must have the label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What the value is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// The type of a site value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SiteType {
    /// One line of printable text.
    #[default]
    Text,
    /// An IPv4 or IPv6 address.
    Address,
    /// A host name (RFC 1123).
    Hostname,
    /// A URL with `http` or `https`.
    Url,
    /// A whole number.
    Integer,
}
