//! Who the device is: host name, language, time zone, keyboard.

use serde::{Deserialize, Serialize};

/// The locale that glibc brings compiled, and that services have without a setting.
pub const DEFAULT_LOCALE: &str = "C.UTF-8";

/// Host name, language, time zone and keyboard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Host name. `{id}` is replaced by the device id. An RFC 1123 label otherwise.
    #[schema(example = "kiosk-{id}")]
    #[serde(default = "default_hostname")]
    pub hostname: String,
    /// Locale of the system, as in `LANG`.
    #[schema(example = "de_DE.UTF-8")]
    #[serde(default = "default_locale")]
    pub locale: String,
    /// Time zone, by its name in the time zone database.
    #[schema(example = "Europe/Berlin")]
    #[serde(default = "default_time_zone")]
    pub time_zone: String,
    /// Keyboard layout of the console and of graphical sessions.
    #[schema(example = "de")]
    #[serde(default = "default_keyboard")]
    pub keyboard: String,
}

fn default_hostname() -> String {
    "{id}".to_owned()
}
fn default_locale() -> String {
    DEFAULT_LOCALE.to_owned()
}
fn default_time_zone() -> String {
    "Etc/UTC".to_owned()
}
fn default_keyboard() -> String {
    "us".to_owned()
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            hostname: default_hostname(),
            locale: default_locale(),
            time_zone: default_time_zone(),
            keyboard: default_keyboard(),
        }
    }
}
