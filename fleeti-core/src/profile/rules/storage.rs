//! Rules for what persists over updates.

use super::{Sink, is_account, is_clean_path};
use crate::profile::{Profile, StateDirectory};

/// Directories of the system that a profile must not make persistent: they would be code or
/// configuration that dm-verity does not cover, or they belong to Fleeti.
const STATE_RESERVED: &[&str] = &[
    "/var/lib/fleeti",
    "/var/home",
    "/var/lib/systemd",
    "/var/lib/dpkg",
    "/var/lib/apt",
    "/var/lib/extensions",
    "/var/lib/confexts",
    "/var/lib/portables",
    "/var/lib/machines",
    "/var/tmp",
    "/var/run",
    "/var/lock",
];

pub(super) fn check(profile: &Profile, sink: &mut Sink) {
    for (i, directory) in profile.state.directories.iter().enumerate() {
        state(&format!("state.directories[{i}]"), directory, sink);
    }
    let paths = || profile.state.directories.iter().map(|d| &d.path);
    super::unique("state.directories", "path", paths(), sink);
    for (i, path) in paths().enumerate() {
        let is_below = |other: &String| {
            path.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        if paths().any(is_below) {
            let remedy = "keep the upper directory";
            sink.say(format!("state.directories[{i}].path"), "is below another one", remedy);
        }
    }
}

fn state(path: &str, directory: &StateDirectory, sink: &mut Sink) {
    let at = format!("{path}.path");
    let below = |top: &str| directory.path.starts_with(top);
    let is_reserved = |top: &&str| {
        directory.path == **top
            || directory.path.strip_prefix(*top).is_some_and(|rest| rest.starts_with('/'))
    };
    if !is_clean_path(&directory.path) || !(below("/var/") || below("/srv/") || below("/opt/")) {
        let remedy = "use an absolute path below /var, /srv or /opt without '..'";
        sink.say(at, "is not a directory that can persist", remedy);
    } else if ["/var/lib", "/var/log", "/var/cache", "/var/spool"]
        .contains(&directory.path.as_str())
        && directory.path != "/var/log"
    {
        sink.say(at, "is too wide", "name the directories of the services, such as /var/lib/app");
    } else if STATE_RESERVED.iter().any(is_reserved) {
        sink.say(at, "is reserved for the system and Fleeti", "choose another directory");
    }
    for (field, name) in [("owner", &directory.owner), ("group", &directory.group)] {
        if !is_account(name) {
            let remedy = "use a user or a group such as root";
            sink.say(format!("{path}.{field}"), "is not an account name", remedy);
        }
    }
    if !super::is_mode(&directory.mode) {
        sink.say(format!("{path}.mode"), "is not a file mode", super::MODES);
    }
}
