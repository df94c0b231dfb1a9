//! Rules for files, secrets and site values.

use super::{Sink, is_account, is_clean_path};
use crate::id::SecretName;
use crate::profile::{File, Profile, Secret, SiteType, SiteValue, reserved};
use std::net::IpAddr;

pub(super) fn check(profile: &Profile, sink: &mut Sink) {
    for (i, f) in profile.files.iter().enumerate() {
        file(&format!("files[{i}]"), f, profile, sink);
    }
    super::unique("files", "path", profile.files.iter().map(|f| &f.path), sink);
    for (i, f) in profile.files.iter().enumerate() {
        let is_below = |other: &File| {
            f.path.strip_prefix(&other.path).is_some_and(|rest| rest.starts_with('/'))
        };
        if profile.files.iter().any(is_below) {
            let remedy = "choose another path: a path is either a file or a directory";
            sink.say(format!("files[{i}].path"), "is below another file", remedy);
        }
    }
    for (i, one) in profile.secrets.iter().enumerate() {
        secret(&format!("secrets[{i}]"), one, sink);
    }
    if let Some(i) = profile.secrets.iter().position(|s| s.server_proxy)
        && let Some(more) = profile.secrets.iter().skip(i + 1).position(|s| s.server_proxy)
    {
        let path = format!("secrets[{}].server_proxy", i + 1 + more);
        sink.say(path, "is set for two secrets", "keep it for one");
    }
    super::unique("secrets", "name", profile.secrets.iter().map(|s| &s.name), sink);
    super::unique("site", "name", profile.site.iter().map(|s| &s.name), sink);
    for (i, site) in profile.site.iter().enumerate() {
        site_value(&format!("site[{i}]"), site, sink);
    }
}

fn secret(path: &str, secret: &Secret, sink: &mut Sink) {
    if !super::is_label(&secret.name) {
        let remedy = "use letters, digits and '-'";
        sink.say(format!("{path}.name"), "is not the name of a secret", remedy);
    } else if secret.boot && secret.name.parse::<SecretName>().is_err() {
        let remedy = "use small letters, as in wifi-office: a fleet has no secret of another name";
        sink.say(format!("{path}.name"), "is not the name of a secret of a fleet", remedy);
    }
    if !(1..=1440).contains(&secret.try_minutes) {
        sink.say(format!("{path}.try_minutes"), "is out of range", "use 1 to 1440");
    }
    if !secret.boot {
        let remedy = "set boot = true for the secret";
        if secret.server_proxy {
            sink.say(format!("{path}.server_proxy"), "is for secrets of the boot", remedy);
        }
        if !secret.restart.is_empty() {
            sink.say(format!("{path}.restart"), "is for secrets of the boot", remedy);
        }
    }
    for (i, unit) in secret.restart.iter().enumerate() {
        let path = format!("{path}.restart[{i}]");
        if !super::services::is_unit(unit) {
            sink.say(path, "is not a unit name", "write it with its suffix, as in wifi.service");
        } else if let Some(owner) = restart_owner(unit) {
            let remedy = "name the unit that reads the secret";
            sink.say(path, format!("is reserved for {owner}"), remedy);
        }
    }
}

/// Who owns a unit that a change of a secret must not restart. systemd-networkd may be: it reads
/// keys of tunnels.
fn restart_owner(unit: &str) -> Option<&'static str> {
    let is_of_network = unit == "systemd-networkd.service";
    reserved::unit_owner(unit).filter(|_| !is_of_network)
}

fn file(path: &str, f: &File, profile: &Profile, sink: &mut Sink) {
    let below = |dir: &str| f.path.starts_with(dir);
    if !is_clean_path(&f.path) || !(below("/etc/") || below("/usr/") || below("/opt/")) {
        sink.say(
            format!("{path}.path"),
            "is not a path in the image",
            "use an absolute path below /etc, /usr or /opt without '..'",
        );
    } else if let Some(owner) = reserved::owner(&f.path) {
        sink.say(
            format!("{path}.path"),
            format!("is reserved for {owner}"),
            "remove the entry or choose another path",
        );
    }
    if let Some(setting) =
        super::services::wrong_identity(&f.content).filter(|_| f.path.contains("/systemd/"))
    {
        let message = format!("{setting}= names no user or group that systemd accepts");
        sink.say(format!("{path}.content"), message, super::services::ACCOUNT_REMEDY);
    }
    if f.mode_bits().is_none() {
        sink.say(format!("{path}.mode"), "is not a file mode", super::MODES);
    }
    for (field, name) in [("owner", &f.owner), ("group", &f.group)] {
        if !is_account(name) {
            let remedy = "use a user or a group such as root";
            sink.say(format!("{path}.{field}"), "is not an account name", remedy);
        }
    }
    if f.site_values {
        expanded(path, f, profile, sink);
    }
}

/// Directories of files that run or that decide who may log in: values of a site must not get
/// there.
const NOT_EXPANDED: [&str; 7] = [
    "/systemd/",
    "/etc/sudoers",
    "/etc/ssh/",
    "/etc/cron",
    "/etc/udev/",
    "/etc/profile",
    "/etc/containers/",
];

fn expanded(path: &str, f: &File, profile: &Profile, sink: &mut Sink) {
    let is_refused = NOT_EXPANDED.iter().any(|part| f.path.contains(part))
        || !f.path.starts_with("/etc/")
        || f.mode_bits().is_some_and(|mode| mode & 0o111 != 0);
    if is_refused {
        let remedy = "use site values only in files of configuration below /etc that nothing runs";
        sink.say(format!("{path}.site_values"), "is not possible for this file", remedy);
    }
    for name in used(&f.content) {
        if !profile.site.iter().any(|site| site.name == name) {
            let message = format!("uses {{site.{name}}}, which is not declared");
            sink.say(format!("{path}.content"), message, "declare it in [[site]]");
        }
    }
}

/// The names of the site values that a text uses.
fn used(text: &str) -> impl Iterator<Item = &str> {
    text.split("{site.").skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

/// Reports a site value where none may be.
pub(super) fn refuse_site_values(path: &str, text: &str, sink: &mut Sink) {
    if let Some(name) = used(text).next() {
        let message = format!("uses {{site.{name}}}");
        let remedy = "use site values only in files with site_values = true";
        sink.say(path, message, remedy);
    }
}

fn site_value(path: &str, site: &SiteValue, sink: &mut Sink) {
    let is_name = (1..=32).contains(&site.name.len())
        && site.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !is_name {
        sink.say(format!("{path}.name"), "is not a name", "use a-z, 0-9 and '_'");
    }
    if let Some(default) = &site.default
        && let Err(message) = site_type(site.kind, default)
    {
        sink.say(format!("{path}.default"), message, "write a value of the declared kind");
    }
}

fn site_type(kind: SiteType, value: &str) -> Result<(), &'static str> {
    let is_url = || {
        let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
    };
    let (is_right, message) = match kind {
        SiteType::Text => (super::is_line(value, 256), "is not one line of text"),
        SiteType::Address => (value.parse::<IpAddr>().is_ok(), "is not an IP address"),
        SiteType::Hostname => (super::is_host(value), "is not a host name"),
        SiteType::Url => (super::is_line(value, 256) && is_url(), "is not an http or https URL"),
        SiteType::Integer => (value.parse::<i64>().is_ok(), "is not a whole number"),
    };
    if is_right { Ok(()) } else { Err(message) }
}
