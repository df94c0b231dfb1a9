//! Rules for a structurally correct profile: what it may not contain, and why.

use super::paths;
use super::{File, HealthCheck, Profile, SCHEMA, Service, User};
use crate::command_line;
use crate::id::Architecture;
use ssh_key::{Algorithm, PublicKey};
use std::collections::HashSet;

/// Path, message, remedy.
type Broken = (String, String, String);

/// Longest time that a device may go without a new checkpoint of the audit log, days.
const AGE_DAYS_MAX: u32 = 365;
/// Time in which a boot on trial must reach the server, seconds. The timeout of the health checks'
/// unit is slightly longer.
const DEADLINE_S: std::ops::RangeInclusive<u32> = 60..=800;

/// Longest kernel arguments of a profile in total, bytes. Together with those that Fleeti sets,
/// they stay below the kernel's limit.
const ARGUMENTS_MAX: usize = 1024;
const MODES: &str = "write permission bits only, such as 0644 or 0755";

pub(super) fn broken(profile: &Profile) -> Vec<Broken> {
    let mut out = Vec::new();
    let mut say = |path: String, message: &str, remedy: &str| {
        out.push((path, message.to_owned(), remedy.to_owned()))
    };
    machine(profile, &mut say);
    packages(profile, &mut say);
    kernel_arguments(profile, &mut say);
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
    files(profile, &mut say);
    limits(profile, &mut say);
    for (i, h) in profile.health_checks.iter().enumerate() {
        health_check(&format!("health_checks[{i}]"), h, &mut say);
    }
    out
}

fn machine(profile: &Profile, say: &mut impl FnMut(String, &str, &str)) {
    if profile.schema != SCHEMA {
        say(
            "schema".into(),
            &format!("schema {} is not supported", profile.schema),
            "write schema = 1",
        );
    }
    if profile.architecture == Architecture::Aarch64 {
        say(
            "architecture".into(),
            "no base builds aarch64 yet: its boot stub, kernel package and emulated boot proof are missing",
            "write \"x86_64\", or build on a later Fleeti",
        );
    }
    let hostname = profile.hostname.replace("{id}", "x");
    let label = |s: &str| {
        !s.is_empty() && s.len() <= 63 && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !label(&hostname) || hostname.starts_with('-') || hostname.ends_with('-') {
        say(
            "hostname".into(),
            "is not a host name (RFC 1123 label)",
            "use letters, digits, '-' and {id}",
        );
    }
}

fn packages(profile: &Profile, say: &mut impl FnMut(String, &str, &str)) {
    for (i, name) in profile.packages.iter().enumerate() {
        if !is_package(name) {
            say(
                format!("packages[{i}]"),
                "is not a package name",
                "use the name of a package of the base, such as jq",
            );
        }
    }
    for i in duplicates(profile.packages.iter()) {
        say(format!("packages[{i}]"), "is listed twice", "remove one");
    }
}

fn kernel_arguments(profile: &Profile, say: &mut impl FnMut(String, &str, &str)) {
    for (i, argument) in profile.kernel_arguments.iter().enumerate() {
        if let Err(e) = command_line::check_argument(argument) {
            say(format!("kernel_arguments[{i}]"), &e.to_string(), e.remedy());
        }
    }
    let arguments: usize = profile.kernel_arguments.iter().map(|a| a.len() + 1).sum();
    if arguments > ARGUMENTS_MAX {
        say(
            "kernel_arguments".into(),
            &format!("{arguments} bytes, expected at most {ARGUMENTS_MAX}"),
            "shorten or remove arguments",
        );
    }
}

fn files(profile: &Profile, say: &mut impl FnMut(String, &str, &str)) {
    for (i, f) in profile.files.iter().enumerate() {
        file(&format!("files[{i}]"), f, say);
    }
    for i in duplicates(profile.files.iter().map(|f| &f.path)) {
        say(format!("files[{i}].path"), "is listed twice", "keep one entry");
    }
    for (i, f) in profile.files.iter().enumerate() {
        let is_below = |other: &File| {
            f.path.strip_prefix(&other.path).is_some_and(|rest| rest.starts_with('/'))
        };
        if profile.files.iter().any(is_below) {
            say(
                format!("files[{i}].path"),
                "is below another file",
                "choose another path: a path is either a file or a directory",
            );
        }
    }
}

fn limits(profile: &Profile, say: &mut impl FnMut(String, &str, &str)) {
    if !DEADLINE_S.contains(&profile.server_contact.deadline_s) {
        let message = format!("{} seconds is out of range", profile.server_contact.deadline_s);
        say(
            "server_contact.deadline_s".to_owned(),
            &message,
            &format!("use {} to {}", DEADLINE_S.start(), DEADLINE_S.end()),
        );
    }
    if !(1..=AGE_DAYS_MAX).contains(&profile.release_log.age_days_max) {
        let message = format!("{} days is out of range", profile.release_log.age_days_max);
        say("release_log.age_days_max".to_owned(), &message, &format!("use 1 to {AGE_DAYS_MAX}"));
    }
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
        // apt reads a `-` at the end as a request to remove the package.
        && !name.ends_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
}

/// Whether systemd accepts a name as a user or a group (systemd.exec(5), "User/Group Identity").
/// For other names, some versions of systemd ignore `User=` and run the service as root.
fn is_account(name: &str) -> bool {
    (1..=31).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}

fn user(path: &str, u: &User, profile: &Profile, say: &mut impl FnMut(String, &str, &str)) {
    if !is_account(&u.name) {
        say(
            format!("{path}.name"),
            "is not a user name",
            "use a-z, 0-9, '_' and '-', starting with a letter",
        );
    } else if ["root", "fleeti", "nobody", "daemon", "sys", "messagebus"].contains(&u.name.as_str())
    {
        say(
            format!("{path}.name"),
            "is a system account",
            "choose another name; log in as a user and use sudo",
        );
    }
    if let Some(hash) = &u.password_hash {
        let known = ["$y$", "$gy$", "$7$", "$6$", "$2b$"].iter().any(|p| hash.starts_with(p));
        if !known || hash.len() > 256 || !hash.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
            // INVARIANT: the message does not repeat the value, which may be a plaintext password.
            say(
                format!("{path}.password_hash"),
                "is not a crypt(5) hash",
                "make one with mkpasswd --method=yescrypt",
            );
        }
    }
    for (k, key) in u.ssh_keys.iter().enumerate() {
        if !is_ssh_key(key) {
            say(
                format!("{path}.ssh_keys[{k}]"),
                "is not an OpenSSH public key",
                "paste one line of a .pub file",
            );
        }
    }
    if !u.ssh_keys.is_empty() && !profile.packages.iter().any(|p| p == "openssh-server") {
        say(
            format!("{path}.ssh_keys"),
            "are of no use without an SSH server",
            "add openssh-server to packages",
        );
    }
    if !is_clean_path(&u.shell) || u.shell.contains(':') {
        say(format!("{path}.shell"), "is not an absolute path", "write /bin/bash");
    }
    if u.comment.len() > 128
        || u.comment.contains([':', '\n', '"', '\\'])
        || u.comment.chars().any(char::is_control)
    {
        say(
            format!("{path}.comment"),
            "does not fit passwd(5)",
            "use up to 128 characters without ':', quotes or control characters",
        );
    }
    for (g, group) in u.groups.iter().enumerate() {
        if !is_account(group) {
            say(
                format!("{path}.groups[{g}]"),
                "is not a group name",
                "use an existing group such as video",
            );
        }
    }
}

fn is_ssh_key(key: &str) -> bool {
    // DSA, and types that the library does not know, are refused.
    let is_known = |key: PublicKey| {
        matches!(
            key.algorithm(),
            Algorithm::Ed25519
                | Algorithm::Ecdsa { .. }
                | Algorithm::Rsa { .. }
                | Algorithm::SkEd25519
                | Algorithm::SkEcdsaSha2NistP256
        )
    };
    key.len() <= 4096
        && !key.chars().any(char::is_control)
        && PublicKey::from_openssh(key).is_ok_and(is_known)
}

fn service(path: &str, s: &Service, say: &mut impl FnMut(String, &str, &str)) {
    let suffix = [".service", ".socket", ".timer", ".path", ".target", ".mount"]
        .iter()
        .any(|x| s.name.ends_with(x));
    let clean = s.name.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b))
        && s.name.len() <= 200;
    if !suffix || !clean {
        say(
            format!("{path}.name"),
            "is not a unit name",
            "write it with its suffix, as in kiosk.service",
        );
    } else if let Some(owner) = paths::unit_owner(&s.name).filter(|_| s.unit.is_some()) {
        say(
            format!("{path}.name"),
            &format!("is reserved for {owner}"),
            "choose another name for the new unit",
        );
    } else if s.name.to_ascii_lowercase().starts_with("fleeti") {
        say(
            format!("{path}.name"),
            "is reserved for Fleeti",
            "choose a name that does not start with fleeti-",
        );
    } else if let Some(owner) = paths::unit_is_needed_by(&s.name).filter(|_| !s.enabled) {
        say(format!("{path}.name"), &format!("is needed by {owner}"), "leave it enabled");
    }
    let Some(unit) = &s.unit else { return };
    if !unit
        .lines()
        .any(|l| l.trim() == "[Unit]" || l.trim() == "[Service]" || l.trim() == "[Timer]")
    {
        say(
            format!("{path}.unit"),
            "has no section",
            "write a unit file with [Unit] and [Service]",
        );
    }
    if let Some(line) = wrong_identity(unit) {
        say(
            format!("{path}.unit"),
            &format!("{line}= names no user or group that systemd accepts"),
            ACCOUNT_REMEDY,
        );
    }
}

const ACCOUNT_REMEDY: &str = "use a-z, 0-9, '_' and '-', starting with a letter: for other names systemd may run the service as root";

/// The first setting of a unit that names an identity which systemd would not accept.
fn wrong_identity(unit: &str) -> Option<&'static str> {
    // A backslash at the end of a line continues it (systemd.syntax(7)).
    let text = unit.replace("\\\n", " ");
    let settings = text.lines().filter_map(|line| line.trim().split_once('='));
    for (name, value) in settings.map(|(name, value)| (name.trim_end(), value.trim())) {
        let Some(setting) =
            ["User", "Group", "SupplementaryGroups"].into_iter().find(|s| *s == name)
        else {
            continue;
        };
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

fn is_clean_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() <= 1024
        && path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..")
        && path.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'\\')
}

fn file(path: &str, f: &File, say: &mut impl FnMut(String, &str, &str)) {
    let below = |dir: &str| f.path.starts_with(dir);
    if !is_clean_path(&f.path) || !(below("/etc/") || below("/usr/") || below("/opt/")) {
        say(
            format!("{path}.path"),
            "is not a path in the image",
            "use an absolute path below /etc, /usr or /opt without '..'",
        );
    } else if let Some(owner) = paths::owner(&f.path) {
        say(
            format!("{path}.path"),
            &format!("is reserved for {owner}"),
            "remove the entry or choose another path",
        );
    }
    if let Some(setting) = wrong_identity(&f.content).filter(|_| f.path.contains("/systemd/")) {
        say(
            format!("{path}.content"),
            &format!("{setting}= names no user or group that systemd accepts"),
            ACCOUNT_REMEDY,
        );
    }
    if f.mode_bits().is_none() {
        say(format!("{path}.mode"), "is not a file mode", MODES);
    }
}

fn health_check(path: &str, h: &HealthCheck, say: &mut impl FnMut(String, &str, &str)) {
    if h.name.is_empty() || h.name.len() > 64 || h.name.chars().any(char::is_control) {
        say(format!("{path}.name"), "is not a valid name", "use 1 to 64 printable characters");
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

#[cfg(test)]
mod tests {
    use super::is_ssh_key;
    use crate::profile::check;

    fn paths(more: &str) -> Vec<String> {
        let text = format!("schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n{more}");
        check(&text).err().into_iter().flatten().map(|finding| finding.path).collect()
    }

    fn service(name: &str, lines: &str) -> String {
        format!("[[services]]\nname = \"{name}\"\nunit = '''\n[Service]\n{lines}\n'''\n")
    }

    #[test]
    fn a_user_that_systemd_would_take_for_root_is_refused_by_its_field() {
        for name in ["0day", "pötter", "a b", "A", "", "-a", "a.b", "a:b", &"a".repeat(32)] {
            assert_eq!(
                paths(&format!("[[users]]\nname = \"{name}\"\n")),
                ["users[0].name"],
                "{name:?}"
            );
        }
        for wrong in [
            "User=0day",
            "User = 0day",
            "User=pötter",
            "User=a b",
            "User=\\\n0day",
            "Group=0day",
            "Group=00",
            "SupplementaryGroups=video 0x",
        ] {
            assert_eq!(paths(&service("x.service", wrong)), ["services[0].unit"], "{wrong}");
            let file = format!(
                "[[files]]\npath = \"/etc/systemd/system/x.service\"\ncontent = '''\n[Service]\n{wrong}\n'''\n"
            );
            assert_eq!(paths(&file), ["files[0].content"], "{wrong}");
        }
        for right in [
            "User=kiosk",
            "User=",
            "User=%i",
            "Group=0",
            "User=1000",
            "SupplementaryGroups=video audio",
            "UserX=0day",
        ] {
            assert!(paths(&service("x.service", right)).is_empty(), "{right}");
        }
        assert_eq!(
            paths("[[users]]\nname = \"ops\"\ngroups = [\"video\", \"0day\", \"v\"]\n"),
            ["users[0].groups[1]"]
        );
    }

    #[test]
    fn an_ssh_key_is_read_to_its_end() {
        let keys = include_str!("ssh-keys.pub");
        for key in keys.lines() {
            assert!(is_ssh_key(key), "{key}");
            let (kind, rest) = key.split_once(' ').unwrap();
            let (blob, comment) = rest.split_once(' ').unwrap();
            assert!(is_ssh_key(&format!("{kind} {blob}")), "without a comment");
            // Pasted without its end, or with something after it.
            let part = &blob[..blob.len() - 8];
            for wrong in [
                format!("{kind} {part} {comment}"),
                format!("{kind} {blob}AAAA {comment}"),
                format!("ssh-dss {blob} {comment}"),
                format!("{kind}  {comment}"),
                format!("{key}\ncommand=x"),
                format!("from=\"*\" {key}"),
                blob.to_owned(),
            ] {
                assert!(!is_ssh_key(&wrong), "{wrong}");
            }
        }
        assert!(!is_ssh_key(include_str!("ssh-dss.pub").trim()), "DSA");
    }

    #[test]
    fn a_file_or_a_unit_that_is_not_the_profiles_is_refused_with_its_owner() {
        for path in [
            "/etc/ssh/sshd_config.d/00-x.conf",
            "/etc/systemd/system/fleeti-agent.service",
            "/etc/ld.so.preload",
            "/usr/bin/login",
        ] {
            assert_eq!(
                paths(&format!("[[files]]\npath = \"{path}\"\ncontent = \"\"\n")),
                ["files[0].path"],
                "{path}"
            );
        }
        for name in [
            "emergency.service",
            "systemd-sysext.service",
            "var-lib-fleeti.mount",
            "fleeti-agent.service",
        ] {
            assert_eq!(paths(&service(name, "")), ["services[0].name"], "{name}");
        }
        for name in [
            "fleeti-agent.service",
            "boot-complete.target",
            "systemd-bless-boot.service",
            "dbus.service",
        ] {
            assert_eq!(
                paths(&format!("[[services]]\nname = \"{name}\"\nenabled = false\n")),
                ["services[0].name"],
                "{name}"
            );
        }
        assert!(
            paths("[[services]]\nname = \"systemd-timesyncd.service\"\nenabled = false\n")
                .is_empty()
        );
        let both = "[[files]]\npath = \"/etc/a\"\ncontent = \"\"\n[[files]]\npath = \"/etc/a/b\"\ncontent = \"\"\n";
        assert_eq!(paths(both), ["files[1].path"]);
    }

    #[test]
    fn kernel_arguments_together_are_not_longer_than_the_kernel_takes() {
        let many = vec!["\"video=xxxxxxxxxxxxxxxxxxxxxxxx\""; 40].join(", ");
        assert_eq!(paths(&format!("kernel_arguments = [{many}]\n")), ["kernel_arguments"]);
    }
}
