//! What a change of a profile does to a device, from the profiles and what is known of packages.

mod accounts;
mod image;
mod keys;
mod ports;
mod settings;
mod units;

pub use image::{Image, Installed};

use super::{OnReset, Profile, StateDirectory};
use keys::{Keys, keys};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a device notices when it changes from one profile to another. Names are ordered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Effects {
    /// Packages that are installed, with what they depend on if the packages of the suite are known.
    pub packages_added: BTreeSet<String>,
    /// Packages that are no longer installed. Without an index of the suite, some may stay because
    /// others depend on them.
    pub packages_removed: BTreeSet<String>,
    /// Of these packages it is not known which units, users and groups come or go with them: no
    /// build installed them yet.
    pub packages_unknown: BTreeSet<String>,
    /// Units that start at boot and did not before.
    pub units_started: BTreeSet<String>,
    /// Units that no longer start at boot.
    pub units_stopped: BTreeSet<String>,
    /// Units that have other settings than before.
    pub units_changed: BTreeSet<String>,
    /// Users that are added.
    pub users_added: BTreeSet<String>,
    /// Users that are removed. Their home directories stay on the data partition.
    pub users_removed: BTreeSet<String>,
    /// Users with other numbers, groups, keys, rights or passwords.
    pub users_changed: BTreeSet<String>,
    /// Groups that are added.
    pub groups_added: BTreeSet<String>,
    /// Groups that are removed.
    pub groups_removed: BTreeSet<String>,
    /// Groups with other numbers or rights.
    pub groups_changed: BTreeSet<String>,
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
    /// Directories that persist with another owner or mode.
    pub state_changed: BTreeSet<String>,
    /// Settings of the system that differ, by their paths, such as `kernel.sysctl["vm.swappiness"]`.
    pub settings: BTreeSet<String>,
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
pub fn effects(before: &Image, after: &Image) -> Effects {
    let (old, new) = (&before.installed, &after.installed);
    let packages_added: BTreeSet<_> = new.packages.difference(&old.packages).cloned().collect();
    let packages_removed: BTreeSet<_> = old.packages.difference(&new.packages).cloned().collect();
    let is_unknown = |name: &&String| old.unknown.contains(*name) || new.unknown.contains(*name);
    let packages_unknown =
        packages_added.union(&packages_removed).filter(is_unknown).cloned().collect();
    let units = units::differ(before, after);
    let users = keys(&accounts::users(before), &accounts::users(after));
    let groups = accounts::groups(before, after);
    let groups = keys(&groups.0, &groups.1);
    let (ports_opened, ports_closed) = ports::differ(before, after);
    let files = keys(&files(before.profile), &files(after.profile));
    let state = keys(&directories(before.profile), &directories(after.profile));
    let reboot = !packages_added.is_empty()
        || !packages_removed.is_empty()
        || content(before) != content(after);
    Effects {
        packages_added,
        packages_removed,
        packages_unknown,
        units_started: units.added,
        units_stopped: units.removed,
        units_changed: units.changed,
        users_added: users.added,
        users_removed: users.removed,
        users_changed: users.changed,
        groups_added: groups.added,
        groups_removed: groups.removed,
        groups_changed: groups.changed,
        ports_opened,
        ports_closed,
        files: any(files),
        state_added: state.added,
        state_removed: state.removed,
        state_changed: state.changed,
        settings: settings::differ(before, after),
        state_version: before.profile.state.version != after.profile.state.version,
        reinstall: sizes(before.profile) != sizes(after.profile),
        reboot,
        pcrs: pcrs(before.profile, after.profile, reboot),
    }
}

/// PCRs with other values after an update.
fn pcrs(before: &Profile, after: &Profile, reboot: bool) -> BTreeSet<u8> {
    let mut pcrs = BTreeSet::new();
    if reboot {
        // The root hash is in the UKI's command line: the UKI is another EFI binary (PCR 4) with
        // other sections (PCR 11).
        pcrs.extend([4, 11]);
    }
    if before.kernel.flavour != after.kernel.flavour
        || before.hardware.initrd_drivers != after.hardware.initrd_drivers
        || before.software.suites != after.software.suites
        || before.software.backports != after.software.backports
    {
        // The kernel measures the initrd, which has its modules.
        pcrs.insert(9);
    }
    pcrs
}

fn any(keys: Keys) -> BTreeSet<String> {
    keys.added.into_iter().chain(keys.removed).chain(keys.changed).collect()
}

fn sizes(profile: &Profile) -> (u32, u32) {
    (profile.storage.esp_mib, profile.storage.root_mib)
}

fn files(profile: &Profile) -> BTreeMap<String, super::File> {
    profile.files.iter().map(|file| (file.path.clone(), file.clone())).collect()
}

/// Where a device keeps when timers were last due, if one of them is to catch up.
const TIMER_STAMPS: &str = "/var/lib/systemd/timers";

/// Directories that persist, with owner, group, mode and what a factory reset does with them.
fn directories(profile: &Profile) -> BTreeMap<String, (String, String, String, OnReset)> {
    let of_profile = profile.state.directories.iter().map(|directory| {
        let StateDirectory { path, owner, group, mode, on_reset, .. } = directory.clone();
        (path, (owner, group, mode, on_reset))
    });
    let is_persistent = profile.timers.iter().any(|timer| timer.persistent);
    let stamps = || {
        let (root, mode) = ("root".to_owned(), "0755".to_owned());
        (TIMER_STAMPS.to_owned(), (root.clone(), root, mode, OnReset::Keep))
    };
    of_profile.chain(is_persistent.then(stamps)).collect()
}

/// A profile without what does not reach the image.
fn content(image: &Image) -> Profile {
    let mut profile = image.profile.clone();
    profile.description = String::new();
    // The packages that are installed are compared: the base has some of them anyway.
    profile.software.packages.clear();
    // The secrets of a fleet and their declaration are not in the image.
    profile.secrets.retain(|secret| secret.boot);
    for site in &mut profile.site {
        site.description = String::new();
    }
    for user in &mut profile.users {
        user.groups.sort();
    }
    profile.network.interfaces =
        profile.network.interfaces.iter().map(settings::effective).collect();
    // It is for a base that builds nothing yet.
    profile.extension.nixos = String::new();
    // A build refuses compilers and adds nothing.
    profile.security.no_compiler = false;
    if !settings::has_ssh(image) {
        profile.security.ssh = super::Ssh::default();
    }
    if profile.network.proxy.url.is_none() {
        profile.network.proxy.except.clear();
    }
    let firewall = &mut profile.network.firewall;
    firewall.rules.retain(|_| firewall.enabled);
    for rule in &mut firewall.rules {
        rule.service = None;
    }
    profile
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{check, diff};

    const GOOD: &str = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";

    fn profile(more: &str) -> Profile {
        check(&format!("{GOOD}{more}")).unwrap()
    }

    fn effects(before: &Profile, after: &Profile) -> Effects {
        super::effects(&before.into(), &after.into())
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn names(set: &BTreeSet<String>) -> Vec<&str> {
        set.iter().map(String::as_str).collect()
    }

    #[test]
    fn nothing_changes_for_a_device_if_only_the_description_changes() {
        for text in [
            "description = \"new\"\n",
            "security.ssh.forwarding = false\n",
            "security.no_compiler = true\n",
            "network.proxy.except = [\"example.com\"]\n",
        ] {
            assert_eq!(effects(&profile(""), &profile(text)), Effects::default(), "{text}");
        }
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

    #[test]
    fn a_user_before_others_shifts_their_numbers() {
        let users = |names: &[&str]| {
            let users: String =
                names.iter().map(|name| format!("[[users]]\nname = \"{name}\"\n")).collect();
            profile(&format!(
                "{users}[[groups]]\nname = \"g\"\n[[groups]]\nname = \"f\"\nid = 7000\n"
            ))
        };
        let found = effects(&users(&["a", "b"]), &users(&["b"]));
        assert_eq!(names(&found.users_removed), ["a"]);
        assert_eq!(names(&found.users_changed), ["b"]);
        assert_eq!(names(&found.groups_changed), ["g"], "f names its number");
        let found = effects(&users(&["a"]), &users(&["a", "b"]));
        assert!(found.users_changed.is_empty());
    }

    #[test]
    fn a_right_is_that_of_its_user_or_group_and_not_of_others_of_its_rule() {
        let rule = |name: &str, who: &str| {
            profile(&format!(
                "software.packages = [\"sudo\"]\n[[users]]\nname = \"a\"\n[[users]]\nname = \"b\"\n\
                 [[groups]]\nname = \"g\"\n[[sudo]]\nname = \"{name}\"\n{who}\ncommands = [\"ALL\"]\n"
            ))
        };
        let found = effects(&rule("s", "users = [\"a\"]"), &rule("t", "users = [\"a\", \"b\"]"));
        assert_eq!(names(&found.users_changed), ["b"]);
        let found = effects(&rule("s", "users = [\"a\"]"), &rule("s", "groups = [\"g\"]"));
        assert_eq!(names(&found.users_changed), ["a"]);
        assert_eq!(names(&found.groups_changed), ["g"]);
        let found = effects(&rule("s", "users = [\"a\"]"), &rule("s", "groups = [\"adm\"]"));
        assert_eq!(names(&found.groups_changed), ["adm"]);
        assert!(found.groups_added.is_empty(), "every system has it");
    }

    #[test]
    fn ports_differ_by_what_can_be_reached_and_not_by_how_it_is_written() {
        let ports = |ports: &str| {
            profile(&format!(
                "network.firewall.enabled = true\n[[network.firewall.rules]]\nname = \"a\"\n\
                 service = \"x.service\"\nports = [{ports}]\n[[services]]\nname = \"x.service\"\n"
            ))
        };
        let found = effects(&ports("\"80\", \"81\""), &ports("\"80-81\""));
        assert_eq!(found, Effects { reboot: true, pcrs: [4, 11].into(), ..Effects::default() });
        let found = effects(&ports("\"80-90\""), &ports("\"85\", \"95\""));
        assert_eq!(names(&found.ports_opened), ["95/tcp"]);
        assert_eq!(names(&found.ports_closed), ["80-84/tcp", "86-90/tcp"]);
        assert_eq!(names(&found.units_changed), ["nftables.service"]);
    }

    #[test]
    fn a_unit_starts_only_if_it_says_what_wants_it() {
        let unit = |text: &str| {
            profile(&format!("[[services]]\nname = \"a.service\"\nunit = \"{text}\"\n"))
        };
        let plain = "[Service]\\nExecStart=/bin/true\\n";
        let wanted = format!("{plain}[Install]\\nWantedBy = multi-user.target\\n");
        assert!(effects(&profile(""), &unit(plain)).units_started.is_empty());
        let found = effects(&unit(plain), &unit(&wanted));
        assert_eq!(names(&found.units_started), ["a.service"]);
        assert!(found.units_changed.is_empty());
        let found = effects(&unit(plain), &unit("[Service]\\nExecStart=/bin/false\\n"));
        assert_eq!(names(&found.units_changed), ["a.service"], "something else may start it");
    }

    #[test]
    fn what_packages_bring_comes_and_goes_with_them_unless_the_profile_says_otherwise() {
        let docker = Installed {
            packages: set(&["docker.io", "containerd"]),
            unknown: set(&["containerd"]),
            enabled: set(&["docker.service"]),
            users: set(&["dockremap"]),
            groups: set(&["docker"]),
        };
        let (before, after) = (profile(""), profile("software.packages = [\"docker.io\"]\n"));
        let image =
            |profile, installed: &Installed| Image { profile, installed: installed.clone() };
        let nothing = Installed::default();
        let found = super::effects(&image(&before, &nothing), &image(&after, &docker));
        assert_eq!(found.packages_added, docker.packages);
        assert_eq!(found.packages_unknown, docker.unknown);
        assert_eq!(found.units_started, docker.enabled);
        assert_eq!(
            (found.users_added, found.groups_added),
            (docker.users.clone(), docker.groups.clone())
        );
        let off = profile(
            "software.packages = [\"docker.io\"]\n[[services]]\nname = \"docker.service\"\n\
             state = \"disabled\"\n",
        );
        let found = super::effects(&image(&before, &nothing), &image(&off, &docker));
        assert!(found.units_started.is_empty());
        let found = super::effects(&image(&after, &docker), &image(&off, &docker));
        assert_eq!(found.units_stopped, docker.enabled);
        let dropped = profile(
            "software.packages = [\"docker.io\"]\n[[services]]\nname = \"docker.service\"\n\
             drop_ins = [{name = \"m\", text = \"[Service]\"}]\n",
        );
        let found = super::effects(&image(&after, &docker), &image(&dropped, &docker));
        assert_eq!(found.units_changed, docker.enabled);
    }

    #[test]
    fn settings_are_named_by_their_paths() {
        let found = effects(
            &profile("kernel.sysctl = {\"vm.swappiness\" = \"1\"}\nkernel.modules = [\"a\"]\n"),
            &profile(
                "kernel.modules = [\"a\", \"b\"]\nidentity.time_zone = \"Europe/Berlin\"\n\
                 [[network.interfaces]]\nname = \"lan\"\nmatch = { name = \"en*\" }\n",
            ),
        );
        assert_eq!(
            names(&found.settings),
            [
                "identity.time_zone",
                "kernel.modules[b]",
                "kernel.sysctl[\"vm.swappiness\"]",
                "network.interfaces[lan]"
            ]
        );
    }

    #[test]
    fn a_timer_that_catches_up_keeps_its_stamps() {
        let timer = |more: &str| {
            profile(&format!(
                "[[services]]\nname = \"a.service\"\nstate = \"disabled\"\nunit = \"[Service]\"\n\
                 [[timers]]\nservice = \"a.service\"\non_calendar = \"daily\"\n{more}"
            ))
        };
        let found = effects(&timer(""), &timer("persistent = true\n"));
        assert_eq!(names(&found.state_added), ["/var/lib/systemd/timers"]);
        assert_eq!(names(&found.units_changed), ["a.timer"]);
    }
}
