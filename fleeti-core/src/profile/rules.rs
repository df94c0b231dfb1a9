//! What a well-formed profile may not say, and why.

use super::{File, HealthCheck, Profile, SCHEMA, Service, User};
use crate::id::Architecture;
use std::collections::HashSet;

/// Path, message, remedy.
type Broken = (String, String, String);

/// Longest time that a device may go without a fresh statement of the audit log, days.
const AGE_DAYS_MAX: u32 = 365;
/// Seconds that a boot on trial may have until the server is reached; the health checks' unit has a little more.
const DEADLINE_S: std::ops::RangeInclusive<u32> = 60..=800;

/// Kernel arguments that a profile may not set: they decide what is booted and verified, who gets a
/// shell, or where configuration from outside comes in. Fleeti sets them itself.
const KERNEL_ARGUMENTS_RESERVED: &[&str] = &[
    "root",
    "roothash",
    "usrhash",
    "rootfstype",
    "rootflags",
    "rd.",
    "ro",
    "rw",
    "init",
    "initrd",
    "mount.usr",
    "panic",
    "single",
    "emergency",
    "rescue",
    "1",
    "s",
    "S",
    "lockdown",
    "efi",
    "ima_appraise",
    "module.sig_enforce",
    "systemd.verity",
    "systemd.import_credentials",
    "systemd.set_credential",
    "systemd.set_credential_binary",
    "systemd.unit",
    "systemd.wants",
    "systemd.mask",
    "systemd.run",
    "systemd.debug_shell",
    "systemd.debug-shell",
    "systemd.volatile",
    "systemd.image_policy",
    "systemd.gpt_auto",
    "systemd.machine_id",
    "systemd.setenv",
    "systemd.extra-unit",
    "systemd.sysext",
    "systemd.confext",
    "systemd.mount-extra",
    "systemd.swap-extra",
];
const MODES: &str = "write permission bits only, such as 0644 or 0755";

pub(super) fn broken(profile: &Profile) -> Vec<Broken> {
    let mut out = Vec::new();
    let mut say = |path: String, message: &str, remedy: &str| out.push((path, message.to_owned(), remedy.to_owned()));
    if profile.schema != SCHEMA {
        say("schema".into(), &format!("schema {} is not known here", profile.schema), "write schema = 1");
    }
    if profile.architecture == Architecture::Aarch64 {
        say(
            "architecture".into(),
            "no base builds aarch64 yet: its boot stub, kernel package and emulated boot proof are missing",
            "write \"x86_64\", or build on a later Fleeti",
        );
    }
    let hostname = profile.hostname.replace("{id}", "x");
    let label = |s: &str| !s.is_empty() && s.len() <= 63 && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !label(&hostname) || hostname.starts_with('-') || hostname.ends_with('-') {
        say("hostname".into(), "is not a host name (RFC 1123 label)", "use letters, digits, '-' and {id}");
    }
    for (i, name) in profile.packages.iter().enumerate() {
        if !is_package(name) {
            say(format!("packages[{i}]"), "is not a package name", "use a name as the base knows it, such as jq");
        }
    }
    for i in duplicates(profile.packages.iter()) {
        say(format!("packages[{i}]"), "is listed twice", "remove one");
    }
    for (i, argument) in profile.kernel_arguments.iter().enumerate() {
        kernel_argument(&format!("kernel_arguments[{i}]"), argument, &mut say);
    }
    for (i, u) in profile.users.iter().enumerate() {
        user(&format!("users[{i}]"), u, profile, &mut say);
    }
    for i in duplicates(profile.users.iter().map(|u| &u.name)) {
        say(format!("users[{i}].name"), "is defined twice", "merge the two users");
    }
    for (i, s) in profile.services.iter().enumerate() {
        service(&format!("services[{i}]"), s, &mut say);
    }
    for i in duplicates(profile.services.iter().map(|s| &s.name)) {
        say(format!("services[{i}].name"), "is listed twice", "merge the two services");
    }
    for (i, f) in profile.files.iter().enumerate() {
        file(&format!("files[{i}]"), f, &mut say);
    }
    for i in duplicates(profile.files.iter().map(|f| &f.path)) {
        say(format!("files[{i}].path"), "is written twice", "keep one content for a path");
    }
    if !DEADLINE_S.contains(&profile.server_contact.deadline_s) {
        let message = format!("{} seconds cannot be", profile.server_contact.deadline_s);
        say("server_contact.deadline_s".to_owned(), &message, &format!("use {} to {}", DEADLINE_S.start(), DEADLINE_S.end()));
    }
    if !(1..=AGE_DAYS_MAX).contains(&profile.release_log.age_days_max) {
        let message = format!("{} days cannot be", profile.release_log.age_days_max);
        say("release_log.age_days_max".to_owned(), &message, &format!("use 1 to {AGE_DAYS_MAX}"));
    }
    for (i, h) in profile.health_checks.iter().enumerate() {
        health_check(&format!("health_checks[{i}]"), h, &mut say);
    }
    out
}

fn duplicates<'a>(items: impl Iterator<Item = &'a String>) -> Vec<usize> {
    let mut seen = HashSet::new();
    items.enumerate().filter(|(_, s)| !seen.insert(s.as_str())).map(|(i, _)| i).collect()
}

/// Debian Policy 5.6.1; a subset of what Nix attribute names allow.
fn is_package(name: &str) -> bool {
    name.len() >= 2
        && name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
}

fn kernel_argument(path: &str, argument: &str, say: &mut impl FnMut(String, &str, &str)) {
    if argument.is_empty() || argument.len() > 256 || argument.bytes().any(|b| !(0x21..0x7f).contains(&b) || b == b'"') {
        say(path.into(), "is not one kernel argument", "write one argument for each entry, printable, without spaces or quotes");
        return;
    }
    let key = argument.split('=').next().unwrap_or(argument).replace('-', "_");
    let reserved = |r: &&str| {
        let r = r.replace('-', "_");
        key == r || (r.ends_with('.') && key.starts_with(&r)) || (r.starts_with("systemd.") && key.starts_with(&r))
    };
    if KERNEL_ARGUMENTS_RESERVED.iter().any(reserved) {
        say(path.into(), "is reserved: it decides what is booted or verified", "remove it; Fleeti sets what the boot needs");
    }
}

fn user(path: &str, u: &User, profile: &Profile, say: &mut impl FnMut(String, &str, &str)) {
    let valid = !u.name.is_empty()
        && u.name.len() <= 31
        && u.name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && u.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
    if !valid {
        say(format!("{path}.name"), "is not a user name", "use a-z, 0-9, '_' and '-', starting with a letter");
    } else if ["root", "fleeti", "nobody", "daemon", "sys", "messagebus"].contains(&u.name.as_str()) {
        say(format!("{path}.name"), "is a system account", "choose another name; log in as a user and use sudo");
    }
    if let Some(hash) = &u.password_hash {
        let known = ["$y$", "$gy$", "$7$", "$6$", "$2b$"].iter().any(|p| hash.starts_with(p));
        if !known || hash.len() > 256 || !hash.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
            // INVARIANT: the value is not repeated: it may be a password in the clear.
            say(format!("{path}.password_hash"), "is not a crypt(5) hash", "make one with mkpasswd --method=yescrypt");
        }
    }
    for (k, key) in u.ssh_keys.iter().enumerate() {
        if !is_ssh_key(key) {
            say(format!("{path}.ssh_keys[{k}]"), "is not an OpenSSH public key", "paste one line of a .pub file");
        }
    }
    if !u.ssh_keys.is_empty() && !profile.packages.iter().any(|p| p == "openssh-server") {
        say(format!("{path}.ssh_keys"), "have no server to use them", "add openssh-server to packages");
    }
    if !is_clean_path(&u.shell) {
        say(format!("{path}.shell"), "is not an absolute path", "write /bin/bash");
    }
    if u.comment.len() > 128 || u.comment.contains([':', '\n', '"', '\\']) || u.comment.chars().any(char::is_control) {
        say(format!("{path}.comment"), "does not fit passwd(5)", "use up to 128 characters without ':', quotes or control characters");
    }
    for (g, group) in u.groups.iter().enumerate() {
        if !is_package(group) && group.len() != 1 || group.contains(['+', '.']) {
            say(format!("{path}.groups[{g}]"), "is not a group name", "use an existing group such as video");
        }
    }
}

fn is_ssh_key(key: &str) -> bool {
    use base64::Engine;
    let mut words = key.split(' ');
    let (Some(kind), Some(blob)) = (words.next(), words.next()) else { return false };
    let known = [
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "ssh-rsa",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    ];
    let decoded = base64::engine::general_purpose::STANDARD.decode(blob).unwrap_or_default();
    // RFC 4253 6.6: the blob begins with the length and the name of its kind.
    known.contains(&kind)
        && decoded.get(4..4 + kind.len()) == Some(kind.as_bytes())
        && !key.chars().any(char::is_control)
        && key.len() <= 4096
}

fn service(path: &str, s: &Service, say: &mut impl FnMut(String, &str, &str)) {
    let suffix = [".service", ".socket", ".timer", ".path", ".target", ".mount"].iter().any(|x| s.name.ends_with(x));
    let clean = s.name.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b)) && s.name.len() <= 200;
    if !suffix || !clean {
        say(format!("{path}.name"), "is not a unit name", "write it with its suffix, as in kiosk.service");
    } else if s.name.starts_with("fleeti-") {
        say(format!("{path}.name"), "belongs to Fleeti", "choose a name that does not start with fleeti-");
    }
    if let Some(unit) = &s.unit
        && !unit.lines().any(|l| l.trim() == "[Unit]" || l.trim() == "[Service]" || l.trim() == "[Timer]")
    {
        say(format!("{path}.unit"), "has no section", "write a unit file with [Unit] and [Service]");
    }
}

fn is_clean_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() <= 1024
        && path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..")
        && !path.chars().any(char::is_control)
}

fn file(path: &str, f: &File, say: &mut impl FnMut(String, &str, &str)) {
    let below = |dir: &str| f.path.starts_with(dir);
    if !is_clean_path(&f.path) || !(below("/etc/") || below("/usr/") || below("/opt/")) {
        say(format!("{path}.path"), "is not a path in the image", "use an absolute path below /etc, /usr or /opt without '..'");
    } else if [
        "/usr/lib/fleeti/",
        "/usr/lib/sysupdate.d/",
        "/usr/lib/systemd/import-pubring",
        "/etc/systemd/import-pubring",
        "/etc/sysupdate.d/",
        "/usr/lib/repart.d/",
        "/etc/passwd",
        "/etc/shadow",
        "/etc/group",
        "/etc/fstab",
    ]
    .iter()
    .any(|p| below(p))
    {
        say(
            format!("{path}.path"),
            "belongs to the chain of trust",
            "use users for accounts; updates and trust are not a profile's to change",
        );
    }
    if f.mode_bits().is_none() {
        say(format!("{path}.mode"), "is not a file mode", MODES);
    }
}

fn health_check(path: &str, h: &HealthCheck, say: &mut impl FnMut(String, &str, &str)) {
    if h.name.is_empty() || h.name.len() > 64 || h.name.chars().any(char::is_control) {
        say(format!("{path}.name"), "is not a name", "use 1 to 64 printable characters");
    }
    if h.command.first().is_none_or(|c| !is_clean_path(c)) {
        say(
            format!("{path}.command"),
            "does not start with an absolute path",
            "write [\"/usr/bin/systemctl\", \"is-active\", \"x.service\"]",
        );
    }
    if !(1..=600).contains(&h.timeout_s) {
        say(format!("{path}.timeout_s"), "is out of range", "use 1 to 600 seconds");
    }
}
