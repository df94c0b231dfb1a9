//! Rules for units, timers and containers.

use super::{Sink, is_account};
use crate::profile::{Container, DropIn, Profile, Service, Timer, UnitState, reserved};

pub(super) fn check(profile: &Profile, sink: &mut Sink) {
    for (i, s) in profile.services.iter().enumerate() {
        service(&format!("services[{i}]"), s, sink);
    }
    super::unique("services", "name", profile.services.iter().map(|s| &s.name), sink);
    for (i, t) in profile.timers.iter().enumerate() {
        timer(&format!("timers[{i}]"), t, profile, sink);
    }
    super::unique("timers", "service", profile.timers.iter().map(|t| &t.service), sink);
    for (i, c) in profile.containers.iter().enumerate() {
        container(&format!("containers[{i}]"), c, profile, sink);
    }
    super::unique("containers", "name", profile.containers.iter().map(|c| &c.name), sink);
    if !profile.containers.is_empty() && !super::installs(profile, "podman") {
        let remedy = "add podman to software.packages, or extend packages/container-host";
        sink.say("containers", "need Podman", remedy);
    }
}

/// Whether a text is a unit name that a profile may write, with its suffix.
pub(super) fn is_unit(name: &str) -> bool {
    let suffix = [".service", ".socket", ".timer", ".path", ".target", ".mount"]
        .iter()
        .any(|suffix| name.len() > suffix.len() && name.ends_with(suffix));
    suffix
        && name.len() <= 200
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b))
}

fn service(path: &str, s: &Service, sink: &mut Sink) {
    name(path, s, sink);
    for (i, drop_in) in s.drop_ins.iter().enumerate() {
        check_drop_in(&format!("{path}.drop_ins[{i}]"), s, drop_in, sink);
    }
    let names = s.drop_ins.iter().map(|d| &d.name);
    super::unique(&format!("{path}.drop_ins"), "name", names, sink);
    if let Some(text) = &s.unit {
        unit(&format!("{path}.unit"), text, sink);
        if s.state == UnitState::Masked {
            let remedy = "remove the text, or set state = \"disabled\"";
            sink.say(format!("{path}.state"), "masks a unit that the profile adds", remedy);
        }
    }
}

fn name(path: &str, s: &Service, sink: &mut Sink) {
    let path = format!("{path}.name");
    let is_changed = s.unit.is_some() || !s.drop_ins.is_empty();
    if !is_unit(&s.name) {
        sink.say(path, "is not a unit name", "write it with its suffix, as in kiosk.service");
    } else if let Some(owner) = reserved::unit_owner(&s.name).filter(|_| is_changed) {
        let remedy = "choose another name for the new unit";
        sink.say(path, format!("is reserved for {owner}"), remedy);
    } else if s.name.to_ascii_lowercase().starts_with("fleeti") {
        let remedy = "choose a name that does not start with fleeti-";
        sink.say(path, "is reserved for Fleeti", remedy);
    } else if let Some(owner) =
        reserved::unit_is_needed_by(&s.name).filter(|_| s.state != UnitState::Enabled)
    {
        sink.say(path, format!("is needed by {owner}"), "leave it enabled");
    }
}

fn check_drop_in(path: &str, s: &Service, drop_in: &DropIn, sink: &mut Sink) {
    if !super::is_label(&drop_in.name) {
        sink.say(format!("{path}.name"), "is not a name", "use letters, digits and '-'");
    }
    if s.unit.is_some() {
        let remedy = "write the setting into the unit's text";
        sink.say(path, "changes a unit that the profile adds", remedy);
    }
    unit(&format!("{path}.text"), &drop_in.text, sink);
}

fn unit(path: &str, text: &str, sink: &mut Sink) {
    let sections = ["[Unit]", "[Service]", "[Timer]", "[Socket]", "[Path]", "[Mount]", "[Install]"];
    if !text.lines().any(|line| sections.contains(&line.trim())) {
        sink.say(path, "has no section", "write a unit file with [Unit] and [Service]");
    }
    if let Some(setting) = wrong_identity(text) {
        let message = format!("{setting}= names no user or group that systemd accepts");
        sink.say(path, message, ACCOUNT_REMEDY);
    }
    super::files::refuse_site_values(path, text, sink);
}

pub(super) const ACCOUNT_REMEDY: &str = "use a-z, 0-9, '_' and '-', starting with a letter: for \
                                         other names systemd may run the service as root";

/// A user or a group that a unit names.
pub(in crate::profile) struct Identity {
    /// The name.
    pub(in crate::profile) name: String,
    /// Whether it is a group.
    pub(in crate::profile) is_group: bool,
}

/// Settings of a unit that name users or groups.
const IDENTITIES: [&str; 3] = ["User", "Group", "SupplementaryGroups"];

/// The text of a unit with continued lines joined: a backslash at the end of a line continues it
/// (systemd.syntax(7)).
fn joined(unit: &str) -> String {
    unit.replace("\\\n", " ")
}

/// Names and values of the settings of a unit whose continued lines are joined.
fn settings(joined: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = joined.lines().filter_map(|line| line.trim().split_once('='));
    lines.map(|(name, value)| (name.trim_end(), value.trim()))
}

/// Users and groups that a unit names and that must exist.
pub(in crate::profile) fn identities(unit: &str) -> Vec<Identity> {
    let text = joined(unit);
    let is_dynamic = |(name, value): (&str, &str)| {
        name == "DynamicUser" && ["yes", "true", "1", "on"].contains(&value)
    };
    // systemd makes the user and the group of such a unit when it starts.
    if settings(&text).any(is_dynamic) {
        return Vec::new();
    }
    let named = settings(&text).filter(|(name, _)| IDENTITIES.contains(name));
    let each = named.flat_map(|(setting, value)| {
        let names = value.split_whitespace().filter(|name| is_account(name));
        names.map(move |name| Identity { name: name.to_owned(), is_group: setting != "User" })
    });
    each.collect()
}

/// The first setting of a unit that names an identity which systemd would not accept.
pub(super) fn wrong_identity(unit: &str) -> Option<&'static str> {
    let text = joined(unit);
    for (name, value) in settings(&text) {
        let Some(setting) = IDENTITIES.into_iter().find(|s| *s == name) else { continue };
        let is_number = |v: &str| {
            v.len() <= 9
                && v.bytes().all(|b| b.is_ascii_digit())
                && (v == "0" || !v.starts_with('0'))
        };
        let is_known =
            |v: &str| is_account(v) || is_number(v) || ["%i", "%I", "%j", "%J", "%u"].contains(&v);
        let is_one = setting == "SupplementaryGroups" || !value.contains(char::is_whitespace);
        let is_right = value.is_empty() || is_one && value.split_whitespace().all(is_known);
        if !is_right {
            return Some(setting);
        }
    }
    None
}

fn timer(path: &str, t: &Timer, profile: &Profile, sink: &mut Sink) {
    if !is_unit(&t.service) || !t.service.ends_with(".service") {
        let remedy = "write it with its suffix, as in report.service";
        sink.say(format!("{path}.service"), "is not the name of a service", remedy);
    }
    let is_calendar = super::is_line(&t.on_calendar, 128)
        && t.on_calendar.bytes().all(|b| b.is_ascii_alphanumeric() || b" *-:.,/~+_".contains(&b));
    if !is_calendar {
        let remedy = "write it as in systemd.time(7), such as daily or Mon..Fri 06:30";
        sink.say(format!("{path}.on_calendar"), "is not a calendar time", remedy);
    }
    let timer = t.service.replace(".service", ".timer");
    if profile.services.iter().any(|s| s.name == timer && s.unit.is_some()) {
        let remedy = "keep the unit or the timer";
        sink.say(format!("{path}.service"), format!("has the unit {timer} as well"), remedy);
    }
}

fn container(path: &str, c: &Container, profile: &Profile, sink: &mut Sink) {
    if !super::is_label(&c.name) || c.name.to_ascii_lowercase().starts_with("fleeti") {
        sink.say(format!("{path}.name"), "is not a name", "use letters, digits and '-'");
    } else if profile.services.iter().any(|s| s.name == format!("{}.service", c.name)) {
        let remedy = "rename the container";
        sink.say(format!("{path}.name"), "is also a unit of the profile", remedy);
    }
    let is_pinned = c.image.rsplit_once("@sha256:").is_some_and(|(name, digest)| {
        !name.is_empty() && digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit())
    });
    if !is_pinned || !super::is_line(&c.image, 512) || c.image.contains(char::is_whitespace) {
        let remedy = "write registry/name@sha256:DIGEST, so that every device runs the same image";
        sink.say(format!("{path}.image"), "is not an image with its digest", remedy);
    }
    for (i, port) in c.ports.iter().enumerate() {
        let parts: Vec<_> = port.rsplitn(3, ':').collect();
        let is_number = |text: &&str| text.parse::<u16>().is_ok_and(|port| port > 0);
        let is_address =
            |text: &&str| text.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        let is_port = parts.len() >= 2
            && parts[..2].iter().all(is_number)
            && parts.get(2).is_none_or(is_address);
        if !is_port {
            let remedy = "write HOST:CONTAINER, such as 8080:80";
            sink.say(format!("{path}.ports[{i}]"), "is not a published port", remedy);
        }
    }
    for (i, volume) in c.volumes.iter().enumerate() {
        let parts: Vec<_> = volume.split(':').collect();
        let is_volume = matches!(parts.as_slice(), [from, to] | [from, to, "ro" | "rw"]
            if super::is_clean_path(from) && super::is_clean_path(to));
        if !is_volume {
            let remedy = "write PATH:PATH or PATH:PATH:ro";
            sink.say(format!("{path}.volumes[{i}]"), "is not a volume", remedy);
        }
    }
    for (name, value) in &c.environment {
        let is_name = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name || value.chars().any(char::is_control) {
            let path = format!("{path}.environment.{name}");
            sink.say(path, "is not an environment variable", "use A-Z, 0-9 and '_'");
        }
    }
}
