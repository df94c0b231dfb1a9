//! Changed items: as they are predicted from two profiles, and as two built images show them.

use super::tree::{Built, Entry};
use fleeti_core::profile::Effects;
use std::collections::{BTreeMap, BTreeSet};

/// What changed, each as a short text: `unit started ssh.service`.
pub type Items = BTreeSet<String>;

pub fn predicted(effects: &Effects) -> Items {
    let mut items = Items::new();
    for (what, names) in [
        ("package added", &effects.packages_added),
        ("package removed", &effects.packages_removed),
        ("unit started", &effects.units_started),
        ("unit stopped", &effects.units_stopped),
        ("unit changed", &effects.units_changed),
        ("user added", &effects.users_added),
        ("user removed", &effects.users_removed),
        ("user changed", &effects.users_changed),
        ("group added", &effects.groups_added),
        ("group removed", &effects.groups_removed),
        ("group changed", &effects.groups_changed),
        ("port opened", &effects.ports_opened),
        ("port closed", &effects.ports_closed),
        ("file", &effects.files),
        ("state added", &effects.state_added),
        ("state removed", &effects.state_removed),
        ("state changed", &effects.state_changed),
        ("setting", &effects.settings),
    ] {
        items.extend(names.iter().map(|name| format!("{what} {name}")));
    }
    items.extend(effects.reboot.then(|| "reboot".to_owned()));
    items.extend(effects.pcrs.iter().map(|pcr| format!("pcr {pcr}")));
    items
}

/// What a tree has of one kind: a text for each name.
type Facts = BTreeMap<String, String>;

/// Items that two images show. `is_of_package` says which files come and go with packages.
pub fn seen(before: &Built, after: &Built, is_of_package: &dyn Fn(&str) -> bool) -> Items {
    let mut items = Items::new();
    let mut differ = |what: [&str; 3], old: &Facts, new: &Facts| {
        for name in old.keys().chain(new.keys()) {
            let what = match (old.get(name), new.get(name)) {
                (None, Some(_)) => what[0],
                (Some(_), None) => what[1],
                (old, new) if old != new => what[2],
                _ => continue,
            };
            items.insert(format!("{what} {name}"));
        }
    };
    let packages = |built: &Built| -> Facts {
        built.packages.iter().map(|name| (name.clone(), String::new())).collect()
    };
    differ(["package added", "package removed", ""], &packages(before), &packages(after));
    differ(["user added", "user removed", "user changed"], &users(before), &users(after));
    differ(["group added", "group removed", "group changed"], &groups(before), &groups(after));
    differ(["state added", "state removed", "state changed"], &state(before), &state(after));
    differ(["setting"; 3], &settings(before, after), &settings(after, before));
    differ(["file"; 3], &files(before, is_of_package), &files(after, is_of_package));
    let (old, new) = (started(before), started(after));
    differ(["unit started", "unit stopped", ""], &old, &new);
    let (texts_before, texts_after) = (unit_texts(before), unit_texts(after));
    for (name, text) in &texts_before {
        let is_changed = texts_after.get(name).is_some_and(|after| after != text)
            && old.contains_key(name) == new.contains_key(name)
            && !is_masked(before, name)
            && !is_masked(after, name);
        items.extend(is_changed.then(|| format!("unit changed {name}")));
    }
    ports(before, after, &mut items);
    if before.entries != after.entries
        || before.command_line != after.command_line
        || before.packages != after.packages
    {
        items.insert("reboot".to_owned());
    }
    for (pcr, digest) in &before.measured {
        items.extend((after.measured.get(pcr) != Some(digest)).then(|| format!("pcr {pcr}")));
    }
    items
}

fn rows<'a>(built: &'a Built, table: &str) -> impl Iterator<Item = Vec<&'a str>> {
    built.text(table).lines().map(|line| line.split(':').collect())
}

/// What sudo allows, by user or %group.
fn rights(built: &Built) -> BTreeMap<String, BTreeSet<String>> {
    let mut rights: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, text) in built.each("etc/sudoers.d/60-", "") {
        let (who, what) = text.split_once(' ').unwrap();
        for who in who.split(',') {
            rights.entry(who.to_owned()).or_default().insert(what.to_owned());
        }
    }
    rights
}

fn users(built: &Built) -> Facts {
    let rights = rights(built);
    rows(built, "etc/passwd")
        .map(|row| {
            let name = row[0];
            let shadow = rows(built, "etc/shadow").find(|row| row[0] == name).unwrap();
            let groups: BTreeSet<_> = rows(built, "etc/group")
                .filter(|row| row[3].split(',').any(|member| member == name))
                .map(|row| row[0])
                .collect();
            let keys: BTreeSet<_> =
                built.text(&format!("etc/ssh/authorized_keys/{name}")).lines().collect();
            let facts = format!("{row:?} {shadow:?} {groups:?} {keys:?} {:?}", rights.get(name));
            (name.to_owned(), facts)
        })
        .collect()
}

/// Groups, but for those of persons, which come with them.
fn groups(built: &Built) -> Facts {
    let rights = rights(built);
    let is_of_person = |name: &str, number: &str| {
        number.parse::<u32>().unwrap() >= 1000
            && rows(built, "etc/passwd").any(|row| (row[0], row[2]) == (name, number))
    };
    rows(built, "etc/group")
        .filter(|row| !is_of_person(row[0], row[2]))
        .map(|row| {
            (row[0].to_owned(), format!("{} {:?}", row[2], rights.get(&format!("%{}", row[0]))))
        })
        .collect()
}

/// Whether a unit is one by which Fleeti makes persistent directories.
fn is_of_state(text: &str) -> bool {
    text.contains("Requires=fleeti-state.service\n")
}

fn state(built: &Built) -> Facts {
    let service = built.text("usr/lib/systemd/system/fleeti-state.service");
    built
        .each("usr/lib/systemd/system/", ".mount")
        .into_iter()
        .filter(|(_, text)| is_of_state(text))
        .map(|(_, text)| {
            let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let folder = format!("\"{}\"", value("What="));
            let made = service.lines().find(|line| line.ends_with(&folder)).unwrap();
            (value("Where=").replace("%%", "%"), made.to_owned())
        })
        .collect()
}

const UNITS: [&str; 2] = ["etc/systemd/system/", "usr/lib/systemd/system/"];

fn is_masked(built: &Built, unit: &str) -> bool {
    built.text(&format!("etc/systemd/system/{unit}")) == "/dev/null"
}

/// Units that something wants at boot.
fn started(built: &Built) -> Facts {
    let mut started = Facts::new();
    for (path, entry) in &built.entries {
        let Some(rest) = UNITS.iter().find_map(|folder| path.strip_prefix(folder)) else {
            continue;
        };
        let Some((by, unit)) = rest.split_once('/') else { continue };
        let is_wanted = [".wants", ".requires", ".upholds"].iter().any(|kind| by.ends_with(kind));
        let is_of_state = is_of_state(built.text(&format!("usr/lib/systemd/system/{unit}")));
        if entry.kind == 'l' && is_wanted && !is_of_state && !is_masked(built, unit) {
            started.insert(unit.to_owned(), String::new());
        }
    }
    for (name, _) in built.each("etc/containers/systemd/", ".container") {
        let unit = format!("{name}.service");
        if !is_masked(built, &unit) {
            started.insert(unit, String::new());
        }
    }
    started
}

/// Everything that says what a unit does, by its name.
fn unit_texts(built: &Built) -> Facts {
    let mut texts = Facts::new();
    for folder in UNITS {
        for (name, text) in built.each(folder, "") {
            if !name.starts_with("fleeti-") && !is_of_state(text) {
                texts.entry(name.to_owned()).or_default().push_str(text);
            }
        }
    }
    for (name, text) in built.each("etc/containers/systemd/", ".container") {
        texts.entry(format!("{name}.service")).or_default().push_str(text);
    }
    for (path, entry) in &built.entries {
        let Some(rest) = path.strip_prefix(UNITS[0]) else { continue };
        if let Some((unit, drop_in)) = rest.split_once(".d/") {
            // A drop-in of a unit that does not exist changes nothing.
            if let Some(text) = texts.get_mut(unit) {
                text.push_str(&format!("{drop_in}: {}", entry.text));
            }
        }
    }
    if let Some(text) = texts.get_mut("nftables.service") {
        text.push_str(built.text("etc/nftables.conf"));
    }
    texts
}

/// Ports that can be reached, by the way to them; `None` without a packet filter.
fn open(built: &Built) -> Option<BTreeSet<(u16, String)>> {
    let rules = built.text("etc/nftables.conf");
    // The file of the package itself accepts everything.
    if !started(built).contains_key("nftables.service") || !rules.contains("policy drop") {
        return None;
    }
    let mut open = BTreeSet::new();
    let mut through = "";
    for line in rules.lines().map(str::trim) {
        through = match line {
            "chain input {" => "",
            "chain forward {" => " through the device",
            _ => through,
        };
        let Some((matches, rest)) = line.split_once(" dport { ") else { continue };
        let words: Vec<_> = matches.split(' ').collect();
        let after = |name: &str, said: &str| {
            let at = words.iter().position(|word| *word == name);
            at.map(|at| format!(" {said} {}", words[at + 1].trim_matches('"'))).unwrap_or_default()
        };
        let way = format!(
            "/{}{}{}{through}",
            words.last().unwrap(),
            after("saddr", "from"),
            after("iifname", "on")
        );
        for element in rest.split_once(" }").unwrap().0.split(", ") {
            let (low, high) = element.split_once('-').unwrap_or((element, element));
            let ports = low.parse::<u16>().unwrap()..=high.parse::<u16>().unwrap();
            open.extend(ports.map(|port| (port, way.clone())));
        }
    }
    Some(open)
}

fn ports(before: &Built, after: &Built, items: &mut Items) {
    let (old, new) = (open(before), open(after));
    for (what, here, there) in [("port opened", &new, &old), ("port closed", &old, &new)] {
        let Some(here) = here else {
            items.extend(there.as_ref().map(|_| format!("{what} every port: no packet filter")));
            continue;
        };
        let mut by_way: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
        for (port, way) in
            here.iter().filter(|open| !there.as_ref().is_some_and(|t| t.contains(*open)))
        {
            by_way.entry(way).or_default().insert(*port);
        }
        for (way, ports) in by_way {
            let is_in = |port: u32| u16::try_from(port).is_ok_and(|port| ports.contains(&port));
            for &first in ports.iter().filter(|port| !is_in(u32::from(**port).wrapping_sub(1))) {
                let last = (u32::from(first)..).find(|port| !is_in(port + 1)).unwrap();
                let range = if u32::from(first) == last {
                    first.to_string()
                } else {
                    format!("{first}-{last}")
                };
                items.insert(format!("{what} {range}{way}"));
            }
        }
    }
}

/// Settings of an image, by their paths in a profile. `other` is the image that it is compared with.
fn settings(built: &Built, other: &Built) -> Facts {
    let mut found = Facts::new();
    let image: serde_json::Value =
        serde_json::from_str(built.text("usr/lib/fleeti/image.json")).unwrap();
    for (field, path) in [
        ("hostname", "identity.hostname"),
        ("release_log", "release_log"),
        ("server_contact", "server_contact"),
    ] {
        found.insert(path.to_owned(), image[field].to_string());
    }
    for check in image["health_checks"].as_array().unwrap() {
        found.insert(
            format!("health_checks[{}]", check["name"].as_str().unwrap()),
            check.to_string(),
        );
    }
    for field in ["diagnostics", "support_keys"] {
        for entry in image[field].as_array().into_iter().flatten() {
            let name = entry["name"].as_str().unwrap();
            found.insert(format!("{field}[{name}]"), entry.to_string());
        }
    }
    let words = |is_lockdown: bool| -> Vec<&str> {
        let words = built.command_line.split(' ');
        words
            .filter(|word| {
                word.starts_with("lockdown=") == is_lockdown && !word.starts_with("roothash=")
            })
            .collect()
    };
    found.insert("security.lockdown".to_owned(), words(true).join(" "));
    found.insert("kernel.arguments".to_owned(), words(false).join(" "));
    for line in built.text("usr/lib/modules-load.d/60-fleeti-profile.conf").lines() {
        found.insert(format!("kernel.modules[{line}]"), String::new());
    }
    for line in built.text("usr/lib/modprobe.d/60-fleeti-profile.conf").lines() {
        if let Some(module) = line.strip_prefix("blacklist ") {
            found.insert(format!("kernel.blacklist[{module}]"), String::new());
        }
    }
    for line in built.text("usr/lib/sysctl.d/60-fleeti-profile.conf").lines() {
        let (name, value) = line.split_once(" = ").unwrap();
        found.insert(format!("kernel.sysctl[\"{name}\"]"), value.to_owned());
    }
    for (path, files) in OF_FILES {
        for file in *files {
            if let Some(entry) = built.entries.get(*file) {
                found.entry((*path).to_owned()).or_default().push_str(&entry.text);
            }
        }
    }
    // A server that comes or goes brings its settings.
    if !built.entries.contains_key(SSHD) || !other.entries.contains_key(SSHD) {
        found.remove("security.ssh");
    }
    for (name, text) in built.each("usr/lib/systemd/network/05-", ".network") {
        // After the number that orders them.
        found.insert(format!("network.interfaces[{}]", &name[4..]), text.to_owned());
    }
    for (name, text) in built.each("usr/lib/systemd/network/05-", ".netdev") {
        let kind = text.lines().find_map(|line| line.strip_prefix("Kind=")).unwrap();
        found.insert(format!("network.{kind}s[{name}]"), text.to_owned());
    }
    found
}

const SSHD: &str = "etc/ssh/sshd_config.d/30-fleeti-profile.conf";
/// Settings that are files of their own.
const OF_FILES: &[(&str, &[&str])] = &[
    ("identity.time_zone", &["etc/localtime"]),
    ("storage.var_mib", &["etc/fstab"]),
    ("security.hardened_sysctl", &["usr/lib/sysctl.d/55-fleeti-hardened.conf"]),
    (
        "security.no_core_dumps",
        &[
            "usr/lib/sysctl.d/56-fleeti-no-core-dumps.conf",
            "usr/lib/systemd/system.conf.d/60-fleeti-no-core-dumps.conf",
            "usr/lib/systemd/coredump.conf.d/60-fleeti-no-core-dumps.conf",
            "etc/security/limits.d/60-fleeti-no-core-dumps.conf",
        ],
    ),
    ("security.ssh", &[SSHD]),
    ("network.dns", &["etc/systemd/resolved.conf.d/60-fleeti.conf"]),
    ("network.time", &["etc/systemd/timesyncd.conf.d/60-fleeti.conf"]),
    (
        "network.proxy",
        &[
            "usr/lib/systemd/system.conf.d/60-fleeti-proxy.conf",
            "etc/environment",
            "usr/lib/systemd/system/fleeti-agent.service.d/10-proxy.conf",
            "usr/lib/systemd/system/fleeti-helper.service.d/10-proxy.conf",
            "usr/lib/systemd/system/fleeti-health.service.d/10-proxy.conf",
        ],
    ),
];
/// Files that other items are read from, and those that follow from them.
const READ: &[&str] = &[
    "etc/passwd",
    "etc/shadow",
    "etc/group",
    "etc/gshadow",
    "etc/ssh/authorized_keys/",
    "etc/sudoers.d/60-",
    "etc/systemd/system/",
    "usr/lib/systemd/system/",
    "etc/containers/systemd/",
    "etc/nftables.conf",
    "usr/lib/fleeti/image.json",
    "usr/lib/modules-load.d/60-fleeti-profile.conf",
    "usr/lib/modprobe.d/60-fleeti-profile.conf",
    "usr/lib/sysctl.d/60-fleeti-profile.conf",
    "usr/lib/systemd/network/05-",
    "usr/lib/systemd/network/06-",
    "usr/lib/systemd/system-preset/",
    "usr/lib/tmpfiles.d/fleeti.conf",
    "etc/ssh/sshd_config.d/20-fleeti.conf",
];

/// All other files.
fn files(built: &Built, is_of_package: &dyn Fn(&str) -> bool) -> Facts {
    let is_read = |path: &str| {
        READ.iter().any(|start| path.starts_with(start))
            || OF_FILES.iter().any(|(_, files)| files.contains(&path))
            || is_of_package(path)
    };
    let shown = |(path, entry): (&String, &Entry)| (format!("/{path}"), format!("{entry:?}"));
    built
        .entries
        .iter()
        .filter(|(path, entry)| entry.kind != 'd' && !is_read(path))
        .map(shown)
        .collect()
}
