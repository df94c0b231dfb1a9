//! Rules for security settings.

use super::{Sink, installs, is_account, is_clean_path};
use crate::profile::{AccessControl, Profile};

pub(super) fn check(profile: &Profile, sink: &mut Sink) {
    let security = &profile.security;
    for (i, group) in security.ssh.allow_groups.iter().enumerate() {
        if !is_account(group) {
            let remedy = "use an existing group such as sudo";
            sink.say(format!("security.ssh.allow_groups[{i}]"), "is not a group name", remedy);
        }
    }
    for (i, path) in security.setuid.iter().enumerate() {
        if !is_clean_path(path) {
            let remedy = "use the absolute path of a program, without '..'";
            sink.say(format!("security.setuid[{i}]"), "is not a path in the image", remedy);
        }
    }
    let needs = [
        (security.audit.enabled, "security.audit.enabled", "auditd"),
        (security.usb_guard.enabled, "security.usb_guard.enabled", "usbguard"),
        (security.access_control == AccessControl::Apparmor, "security.access_control", "apparmor"),
        (security.passwords.length_min > 0, "security.passwords.length_min", "libpam-pwquality"),
    ];
    for (is_on, path, package) in needs {
        if is_on && !installs(profile, package) {
            let remedy = format!("add {package} to software.packages");
            sink.say(path, format!("needs the package {package}"), remedy);
        }
    }
    for (list, rules) in
        [("audit.rules", &security.audit.rules), ("usb_guard.allow", &security.usb_guard.allow)]
    {
        for (i, rule) in rules.iter().enumerate() {
            if !super::is_line(rule, 512) {
                let path = format!("security.{list}[{i}]");
                sink.say(path, "is not one line of text", "write each rule as an entry");
            }
        }
    }
}
