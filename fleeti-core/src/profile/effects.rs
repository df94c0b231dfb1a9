//! What a change of a profile does to a device, from the profiles alone.

use super::{
    Container, Direction, Firewall, FirewallRule, Profile, Protocol, Service, Timer, UnitState,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a device notices when it changes from one profile to another. Names are ordered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Effects {
    /// Packages that are installed. What they depend on comes in addition.
    pub packages_added: BTreeSet<String>,
    /// Packages that are no longer asked for. They stay if others depend on them.
    pub packages_removed: BTreeSet<String>,
    /// Units that start at boot and did not before.
    pub units_started: BTreeSet<String>,
    /// Units that no longer start at boot.
    pub units_stopped: BTreeSet<String>,
    /// Units that start with other settings than before.
    pub units_changed: BTreeSet<String>,
    /// Users that are added.
    pub users_added: BTreeSet<String>,
    /// Users that are removed. Their home directories stay on the data partition.
    pub users_removed: BTreeSet<String>,
    /// Users with other groups, keys, rights or passwords.
    pub users_changed: BTreeSet<String>,
    /// Ports that can be reached and could not before, such as `443/tcp`.
    pub ports_opened: BTreeSet<String>,
    /// Ports that can no longer be reached.
    pub ports_closed: BTreeSet<String>,
    /// Files of the profile that are added, changed or removed.
    pub files: BTreeSet<String>,
    /// Directories that persist from now on.
    pub state_added: BTreeSet<String>,
    /// Directories that no longer persist. Their content stays on the data partition, unused.
    pub state_removed: BTreeSet<String>,
    /// The persistent data has another version: the device keeps a copy until the update is
    /// committed.
    pub state_version: bool,
    /// Sizes of the disk differ: devices of this image line cannot be updated, they have to be
    /// installed again.
    pub reinstall: bool,
    /// The image differs, so the device reboots.
    pub reboot: bool,
    /// PCRs with other values after the update.
    pub pcrs: BTreeSet<u8>,
}

/// What changes on a device.
#[must_use]
pub fn effects(before: &Profile, after: &Profile) -> Effects {
    let mut effects = Effects::default();
    packages(before, after, &mut effects);
    units(before, after, &mut effects);
    accounts(before, after, &mut effects);
    ports(before, after, &mut effects);
    let files = |p: &Profile| -> BTreeMap<_, _> {
        p.files.iter().map(|f| (f.path.clone(), f.clone())).collect()
    };
    let Keys { added, removed, changed } = keys(&files(before), &files(after));
    effects.files = added.into_iter().chain(removed).chain(changed).collect();
    let directories = |p: &Profile| -> BTreeSet<_> {
        p.state.directories.iter().map(|d| d.path.clone()).collect()
    };
    let (old, new) = (directories(before), directories(after));
    effects.state_added = new.difference(&old).cloned().collect();
    effects.state_removed = old.difference(&new).cloned().collect();
    effects.state_version = before.state.version != after.state.version;
    effects.reinstall = before.storage.esp_mib != after.storage.esp_mib
        || before.storage.root_mib != after.storage.root_mib;
    effects.reboot = image(before) != image(after);
    if effects.reboot {
        // The root hash is in the UKI's command line: the UKI is another EFI binary (PCR 4) with
        // other sections (PCR 11).
        effects.pcrs.extend([4, 11]);
    }
    if before.kernel.flavour != after.kernel.flavour
        || before.hardware.initrd_drivers != after.hardware.initrd_drivers
        || before.software.suites != after.software.suites
    {
        // The kernel measures the initrd, which has its modules.
        effects.pcrs.insert(9);
    }
    effects
}

/// A profile without what does not reach the image.
fn image(profile: &Profile) -> Profile {
    let mut image = profile.clone();
    image.description = String::new();
    // The secrets of a fleet and their declaration are not in the image.
    image.secrets.retain(|secret| secret.boot);
    for site in &mut image.site {
        site.description = String::new();
    }
    image
}

fn packages(before: &Profile, after: &Profile, effects: &mut Effects) {
    let names = |p: &Profile| -> BTreeSet<String> {
        let own = p.software.own.iter().map(|own| own.name.clone());
        p.software.packages.iter().cloned().chain(own).collect()
    };
    let (old, new) = (names(before), names(after));
    effects.packages_added = new.difference(&old).cloned().collect();
    effects.packages_removed = old.difference(&new).cloned().collect();
}

/// Keys of two maps.
struct Keys {
    added: BTreeSet<String>,
    removed: BTreeSet<String>,
    changed: BTreeSet<String>,
}

fn keys<T: PartialEq>(before: &BTreeMap<String, T>, after: &BTreeMap<String, T>) -> Keys {
    let changed = |(key, old): (&String, &T)| {
        after.get(key).is_some_and(|new| new != old).then(|| key.clone())
    };
    Keys {
        added: after.keys().filter(|key| !before.contains_key(*key)).cloned().collect(),
        removed: before.keys().filter(|key| !after.contains_key(*key)).cloned().collect(),
        changed: before.iter().filter_map(changed).collect(),
    }
}

/// What a profile says of a unit that starts at boot.
#[derive(PartialEq)]
enum Started<'a> {
    Service(&'a Service),
    Timer(&'a Timer),
    Container(&'a Container),
    Firewall(&'a Firewall),
}

/// The units that start at boot, with everything in the profile that changes them.
fn started(profile: &Profile) -> BTreeMap<String, Started<'_>> {
    let is_started = |service: &&Service| service.state == UnitState::Enabled;
    let services = profile.services.iter().filter(is_started);
    let services = services.map(|service| (service.name.clone(), Started::Service(service)));
    let timers = profile
        .timers
        .iter()
        .map(|timer| (timer.service.replace(".service", ".timer"), Started::Timer(timer)));
    let containers = profile
        .containers
        .iter()
        .map(|container| (format!("{}.service", container.name), Started::Container(container)));
    let firewall = &profile.network.firewall;
    let firewall =
        firewall.enabled.then(|| ("nftables.service".to_owned(), Started::Firewall(firewall)));
    services.chain(timers).chain(containers).chain(firewall).collect()
}

fn units(before: &Profile, after: &Profile, effects: &mut Effects) {
    let units = keys(&started(before), &started(after));
    effects.units_started = units.added;
    effects.units_stopped = units.removed;
    effects.units_changed = units.changed;
}

fn accounts(before: &Profile, after: &Profile, effects: &mut Effects) {
    let users = |p: &Profile| -> BTreeMap<_, _> {
        let rights = |name: &String| -> Vec<_> {
            p.sudo.iter().filter(|rule| rule.users.contains(name)).cloned().collect()
        };
        p.users.iter().map(|u| (u.name.clone(), (u.clone(), rights(&u.name)))).collect()
    };
    let users = keys(&users(before), &users(after));
    effects.users_added = users.added;
    effects.users_removed = users.removed;
    effects.users_changed = users.changed;
}

/// The ports that rules open. Without a packet filter a profile does not say what can be reached.
fn open(profile: &Profile) -> BTreeSet<String> {
    let of_rule = |rule: &FirewallRule| {
        let protocol = match rule.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        let from = if rule.from.is_empty() {
            String::new()
        } else {
            format!(" from {}", rule.from.join(", "))
        };
        let through = match rule.direction {
            Direction::Incoming => "",
            Direction::Forward => " through the device",
        };
        let port = |ports: &String| format!("{ports}/{protocol}{from}{through}");
        rule.ports.iter().map(port).collect::<Vec<_>>()
    };
    let firewall = &profile.network.firewall;
    if firewall.enabled {
        firewall.rules.iter().flat_map(of_rule).collect()
    } else {
        BTreeSet::from(["every port: no packet filter".to_owned()])
    }
}

fn ports(before: &Profile, after: &Profile, effects: &mut Effects) {
    let (old, new) = (open(before), open(after));
    effects.ports_opened = new.difference(&old).cloned().collect();
    effects.ports_closed = old.difference(&new).cloned().collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{check, diff};

    const GOOD: &str = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";

    fn profile(more: &str) -> Profile {
        check(&format!("{GOOD}{more}")).unwrap()
    }

    fn names(set: &BTreeSet<String>) -> Vec<&str> {
        set.iter().map(String::as_str).collect()
    }

    #[test]
    fn nothing_changes_for_a_device_if_only_the_description_changes() {
        let found = effects(&profile(""), &profile("description = \"new\"\n"));
        assert_eq!(found, Effects::default());
    }

    #[test]
    fn a_web_server_on_a_plain_profile_says_what_it_brings() {
        let found = effects(&profile(""), &profile("extends = [\"template/web-server\"]\n"));
        assert!(found.packages_added.contains("nginx"));
        assert_eq!(
            names(&found.units_started),
            ["nftables.service", "nginx.service", "ssh.service"]
        );
        assert_eq!(names(&found.users_added), ["ops"]);
        assert_eq!(names(&found.ports_opened), ["22/tcp", "443/tcp", "80/tcp"]);
        assert_eq!(names(&found.ports_closed), ["every port: no packet filter"]);
        assert_eq!(names(&found.state_added), ["/var/www"]);
        assert_eq!((found.reboot, found.pcrs), (true, BTreeSet::from([4, 11])));
    }

    #[test]
    fn a_port_of_the_device_is_told_from_one_behind_it() {
        let rule = "network.firewall.enabled = true\n[[network.firewall.rules]]\nname = \"a\"\n\
                    ports = [\"22\"]\n";
        let forward = format!("{rule}direction = \"forward\"\n");
        let found = effects(&profile(rule), &profile(&forward));
        assert_eq!(names(&found.ports_opened), ["22/tcp through the device"]);
        assert_eq!(names(&found.ports_closed), ["22/tcp"]);
    }

    #[test]
    fn what_is_changed_is_told_from_what_is_added() {
        let before = "software.packages = [\"sudo\"]\n[[users]]\nname = \"a\"\n\
                      [[services]]\nname = \"x.service\"\n[[services]]\nname = \"y.service\"\n";
        let after = "software.packages = [\"sudo\"]\nkernel.flavour = \"generic\"\n\
                     storage.root_mib = 2048\n[[users]]\nname = \"a\"\n\
                     [[sudo]]\nname = \"s\"\nusers = [\"a\"]\ncommands = [\"ALL\"]\n\
                     [[services]]\nname = \"x.service\"\nstate = \"masked\"\n[[services]]\n\
                     name = \"y.service\"\ndrop_ins = [{name = \"m\", text = \"[Service]\"}]\n";
        let found = effects(&profile(before), &profile(after));
        assert_eq!(names(&found.users_changed), ["a"], "it gets rights");
        assert_eq!(names(&found.units_stopped), ["x.service"]);
        assert_eq!(names(&found.units_changed), ["y.service"]);
        assert!(found.reinstall);
        assert_eq!(found.pcrs, BTreeSet::from([4, 9, 11]));
    }

    #[test]
    fn a_profile_that_differs_for_a_device_differs_in_the_model() {
        let everything = check(include_str!("rules/everything.toml")).unwrap();
        let plain = profile("");
        assert!(effects(&plain, &everything).reboot);
        assert!(diff(&plain, &everything).unwrap().len() > 60);
        assert_eq!(effects(&everything, &everything), Effects::default());
    }
}
