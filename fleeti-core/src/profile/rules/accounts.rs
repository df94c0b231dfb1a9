//! Rules for users, groups and sudo.

use super::{Sink, installs, is_account, is_clean_path};
use crate::profile::finding::Remedy;
use crate::profile::{Profile, SudoRule, User, nearest};
use ssh_key::{Algorithm, PublicKey};

/// Accounts of the base and of Fleeti.
const SYSTEM: [&str; 6] = ["root", "fleeti", "nobody", "daemon", "sys", "messagebus"];

/// Shells of the base, and shells that a package brings.
const SHELLS: &[(&str, &str)] = &[
    ("/bin/bash", ""),
    ("/usr/bin/bash", ""),
    ("/bin/sh", ""),
    ("/usr/bin/sh", ""),
    ("/bin/dash", ""),
    ("/usr/bin/dash", ""),
    ("/bin/false", ""),
    ("/usr/bin/false", ""),
    ("/usr/sbin/nologin", ""),
    ("/sbin/nologin", ""),
    ("/bin/zsh", "zsh"),
    ("/usr/bin/zsh", "zsh"),
    ("/usr/bin/fish", "fish"),
    ("/bin/ksh", "ksh"),
    ("/bin/mksh", "mksh"),
    ("/usr/bin/tmux", "tmux"),
    ("/bin/rbash", ""),
    ("/usr/bin/rbash", ""),
];

/// Users that Debian's base-passwd, systemd and Fleeti create.
pub(in crate::profile) const SYSTEM_USERS: &[&str] = &[
    "root",
    "daemon",
    "bin",
    "sys",
    "sync",
    "games",
    "man",
    "lp",
    "mail",
    "news",
    "uucp",
    "proxy",
    "www-data",
    "backup",
    "list",
    "irc",
    "_apt",
    "nobody",
    "systemd-network",
    "systemd-resolve",
    "systemd-timesync",
    "messagebus",
    "fleeti",
];

/// Groups that Debian's base-passwd and systemd create.
pub(in crate::profile) const SYSTEM_GROUPS: &[&str] = &[
    "root",
    "daemon",
    "bin",
    "sys",
    "adm",
    "tty",
    "disk",
    "lp",
    "mail",
    "news",
    "uucp",
    "man",
    "proxy",
    "kmem",
    "dialout",
    "fax",
    "voice",
    "cdrom",
    "floppy",
    "tape",
    "sudo",
    "audio",
    "dip",
    "www-data",
    "backup",
    "operator",
    "list",
    "irc",
    "src",
    "shadow",
    "utmp",
    "video",
    "sasl",
    "plugdev",
    "staff",
    "games",
    "users",
    "nogroup",
    "systemd-journal",
    "systemd-network",
    "systemd-resolve",
    "systemd-timesync",
    "input",
    "sgx",
    "clock",
    "kvm",
    "render",
    "messagebus",
    "crontab",
];

/// Groups that a package creates.
const PACKAGE_GROUPS: &[(&str, &str)] = &[
    ("docker", "docker.io"),
    ("libvirt", "libvirt-daemon-system"),
    ("wireshark", "wireshark-common"),
    ("netdev", "ifupdown"),
    ("bluetooth", "bluez"),
    ("lpadmin", "cups"),
    ("scanner", "libsane1"),
    ("postgres", "postgresql"),
    ("ssl-cert", "ssl-cert"),
    ("seat", "seatd"),
    ("_seatd", "seatd"),
];

pub(super) fn check(profile: &Profile, sink: &mut Sink) {
    for (i, u) in profile.users.iter().enumerate() {
        user(&format!("users[{i}]"), u, profile, sink);
    }
    super::unique("users", "name", profile.users.iter().map(|u| &u.name), sink);
    super::unique("groups", "name", profile.groups.iter().map(|g| &g.name), sink);
    super::unique("sudo", "name", profile.sudo.iter().map(|s| &s.name), sink);
    for (i, group) in profile.groups.iter().enumerate() {
        if !is_account(&group.name) {
            sink.say(format!("groups[{i}].name"), "is not a group name", NAME_REMEDY);
        } else if SYSTEM_GROUPS.contains(&group.name.as_str()) || group.name == "fleeti" {
            sink.say(format!("groups[{i}].name"), "is a group of the base", "remove the entry");
        }
    }
    let ids = |ids: Vec<Option<u32>>, list: &str, sink: &mut Sink| {
        for (i, id) in ids.iter().enumerate() {
            if id.is_some() && ids[..i].contains(id) {
                sink.say(format!("{list}[{i}].id"), "is used twice", "choose another id");
            }
        }
    };
    ids(profile.users.iter().map(|u| u.id).collect(), "users", sink);
    ids(profile.groups.iter().map(|g| g.id).collect(), "groups", sink);
    for (i, rule) in profile.sudo.iter().enumerate() {
        sudo(&format!("sudo[{i}]"), rule, profile, sink);
    }
    if !profile.sudo.is_empty() && !installs(profile, "sudo") {
        sink.say("sudo", "is of no use without sudo", "add sudo to software.packages");
    }
}

/// Groups that nothing is known to create.
pub(super) fn doubt(profile: &Profile, sink: &mut Sink) {
    for (i, u) in profile.users.iter().enumerate() {
        for (g, group) in u.groups.iter().enumerate() {
            if !is_account(group) || is_known_group(group, profile) {
                continue;
            }
            let by = PACKAGE_GROUPS.iter().find(|(name, _)| name == group);
            let remedy = match (by, group.as_str()) {
                (Some((_, package)), _) => format!("add {package} to software.packages").into(),
                (None, "wheel") => "the group of administrators is sudo".into(),
                (None, _) => near_group(group, profile),
            };
            let path = format!("users[{i}].groups[{g}]");
            sink.say(path, "nothing in this profile is known to create this group", remedy);
        }
    }
}

fn near_group(group: &str, profile: &Profile) -> Remedy {
    let own = profile.groups.iter().map(|group| group.name.as_str());
    match nearest(group, own.chain(SYSTEM_GROUPS.iter().copied())) {
        Some(near) => Remedy::value(near),
        None => "add it to groups, or install the package that creates it".into(),
    }
}

/// Whether the rules say which package creates a group, or what to use instead.
pub(in crate::profile) fn has_advice(group: &str) -> bool {
    group == "wheel" || PACKAGE_GROUPS.iter().any(|(name, _)| *name == group)
}

/// Whether the profile or every system has a user.
pub(in crate::profile) fn is_known_user(user: &str, profile: &Profile) -> bool {
    SYSTEM_USERS.contains(&user) || profile.users.iter().any(|u| u.name == user)
}

/// Whether the profile or every system has a group.
pub(in crate::profile) fn is_own_group(group: &str, profile: &Profile) -> bool {
    SYSTEM_GROUPS.contains(&group)
        || profile.groups.iter().any(|g| g.name == group)
        || profile.users.iter().any(|u| u.name == group)
}

/// Whether the profile, one of its packages or every system has a group.
pub(in crate::profile) fn is_known_group(group: &str, profile: &Profile) -> bool {
    is_own_group(group, profile)
        || PACKAGE_GROUPS.iter().any(|(name, by)| *name == group && installs(profile, by))
}

const NAME_REMEDY: &str = "use a-z, 0-9, '_' and '-', starting with a letter";

fn user(path: &str, u: &User, profile: &Profile, sink: &mut Sink) {
    if !is_account(&u.name) {
        sink.say(format!("{path}.name"), "is not a user name", NAME_REMEDY);
    } else if SYSTEM.contains(&u.name.as_str()) {
        let remedy = "choose another name; log in as a user and use sudo";
        sink.say(format!("{path}.name"), "is a system account", remedy);
    }
    credentials(path, u, profile, sink);
    shell(path, u, profile, sink);
    if u.comment.len() > 128
        || u.comment.contains([':', '\n', '"', '\\'])
        || u.comment.chars().any(char::is_control)
    {
        sink.say(
            format!("{path}.comment"),
            "does not fit passwd(5)",
            "use up to 128 characters without ':', quotes or control characters",
        );
    }
    for (g, group) in u.groups.iter().enumerate() {
        if !is_account(group) {
            let remedy = "use an existing group such as video";
            sink.say(format!("{path}.groups[{g}]"), "is not a group name", remedy);
        }
    }
    if u.expires.as_deref().is_some_and(|date| !is_date(date)) {
        sink.say(format!("{path}.expires"), "is not a date", "write it as 2027-12-31");
    }
}

fn credentials(path: &str, u: &User, profile: &Profile, sink: &mut Sink) {
    if let Some(hash) = &u.password_hash {
        let known = ["$y$", "$gy$", "$7$", "$6$", "$2b$"].iter().any(|p| hash.starts_with(p));
        if !known || hash.len() > 256 || !hash.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
            // INVARIANT: the message does not repeat the value, which may be a plaintext password.
            sink.say(
                format!("{path}.password_hash"),
                "is not a crypt(5) hash",
                "make one with mkpasswd --method=yescrypt",
            );
        }
    }
    for (k, key) in u.ssh_keys.iter().enumerate() {
        if !is_ssh_key(key) {
            sink.say(
                format!("{path}.ssh_keys[{k}]"),
                "is not an OpenSSH public key",
                "paste one line of a .pub file",
            );
        }
    }
    if !u.ssh_keys.is_empty() && !installs(profile, "openssh-server") {
        sink.say(
            format!("{path}.ssh_keys"),
            "are of no use without an SSH server",
            "add openssh-server to software.packages, or extend services/ssh",
        );
    }
}

fn shell(path: &str, u: &User, profile: &Profile, sink: &mut Sink) {
    let path = format!("{path}.shell");
    if !is_clean_path(&u.shell) || u.shell.contains(':') {
        sink.say(path, "is not an absolute path", "write /bin/bash");
        return;
    }
    // A shell that this table does not know may be a file of the profile or of a package.
    let package = SHELLS.iter().find(|(shell, _)| *shell == u.shell).map(|(_, package)| *package);
    if let Some(package) = package.filter(|p| !p.is_empty() && !installs(profile, p)) {
        let remedy = format!("add {package} to software.packages, or write /bin/bash");
        sink.say(path, format!("is in the package {package}, which is not installed"), remedy);
    }
}

/// `YYYY-MM-DD`, and the day exists.
fn is_date(date: &str) -> bool {
    let parts: Vec<_> = date.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return false };
    let number = |text: &str, digits: usize| {
        (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse::<u32>().ok())
            .flatten()
    };
    let (Some(year), Some(month), Some(day)) = (number(year, 4), number(month, 2), number(day, 2))
    else {
        return false;
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    year >= 1970 && (1..=days).contains(&day)
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

fn sudo(path: &str, rule: &SudoRule, profile: &Profile, sink: &mut Sink) {
    if !super::is_label(&rule.name) {
        sink.say(format!("{path}.name"), "is not a name", "use letters, digits and '-'");
    }
    if rule.users.is_empty() && rule.groups.is_empty() {
        sink.say(format!("{path}.users"), "names nobody", "name a user or a group");
    }
    for (i, name) in rule.users.iter().enumerate() {
        if !profile.users.iter().any(|u| u.name == *name) {
            let remedy = "name a user of this profile";
            sink.say(format!("{path}.users[{i}]"), "is not a user of this profile", remedy);
        }
    }
    for (i, name) in rule.groups.iter().enumerate() {
        if !is_account(name) {
            sink.say(format!("{path}.groups[{i}]"), "is not a group name", NAME_REMEDY);
        }
    }
    if !is_account(&rule.run_as) {
        sink.say(format!("{path}.run_as"), "is not a user name", NAME_REMEDY);
    }
    if rule.commands.is_empty() {
        sink.say(format!("{path}.commands"), "is empty", "list commands, or write [\"ALL\"]");
    }
    for (i, command) in rule.commands.iter().enumerate() {
        let program = command.split_ascii_whitespace().next().unwrap_or_default();
        let is_clean = command == "ALL" || is_clean_path(program);
        // sudoers(5): these characters separate, negate or continue.
        let is_plain =
            super::is_line(command, 512) && !command.contains([',', ':', '=', '\\', '!', '"', '#']);
        if !is_clean || !is_plain {
            sink.say(
                format!("{path}.commands[{i}]"),
                "is not a command that sudo can match",
                "write an absolute path and arguments without , : = \\ ! \" and #",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{is_date, is_ssh_key};

    #[test]
    fn an_ssh_key_is_read_to_its_end() {
        let keys = include_str!("../ssh-keys.pub");
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
        assert!(!is_ssh_key(include_str!("../ssh-dss.pub").trim()), "DSA");
    }

    #[test]
    fn a_date_is_a_day_that_exists() {
        for (date, exists) in [
            ("2027-12-31", true),
            ("2028-02-29", true),
            ("2027-02-29", false),
            ("2027-13-01", false),
            ("2027-1-1", false),
            ("+027-01-01", false),
            ("2027-04-31", false),
            ("", false),
        ] {
            assert_eq!(is_date(date), exists, "{date}");
        }
    }
}
