//! The fields of a profile that the NixOS base honours, and why it cannot honour others.

use crate::base::Ignored;
use fleeti_core::profile::{BaseName, Profile};

/// Entries as those of [`fleeti_core::profile::fields`]. The options of `nix/nixos/profile.nix` are
/// the same.
pub(super) const HONOURED: &[&str] = &[
    "schema",
    "name",
    "description",
    "architecture",
    "base",
    "identity.hostname",
    "identity.locale",
    "identity.time_zone",
    "identity.keyboard",
    "users[].name",
    "users[].comment",
    "users[].id",
    "users[].groups",
    "users[].ssh_keys",
    "users[].shell",
    "groups[].name",
    "groups[].id",
    "sudo[].name",
    "sudo[].users",
    "sudo[].groups",
    "sudo[].commands",
    "sudo[].run_as",
    "sudo[].no_password",
    "software.packages",
    "services[].name",
    "services[].state",
    "services[].unit",
    "services[].drop_ins[].name",
    "services[].drop_ins[].text",
    "timers[].service",
    "timers[].on_calendar",
    "timers[].persistent",
    "timers[].random_delay_s",
    "containers[].name",
    "containers[].image",
    "containers[].command",
    "containers[].ports",
    "containers[].volumes",
    "containers[].environment.*",
    "containers[].read_only",
    "network.interfaces[].name",
    "network.interfaces[].match.name",
    "network.interfaces[].match.mac",
    "network.interfaces[].match.driver",
    "network.interfaces[].dhcp",
    "network.interfaces[].addresses",
    "network.interfaces[].gateways",
    "network.interfaces[].dns",
    "network.interfaces[].mtu",
    "network.interfaces[].vlans",
    "network.interfaces[].bridge",
    "network.interfaces[].bond",
    "network.vlans[].name",
    "network.vlans[].id",
    "network.bridges[].name",
    "network.bridges[].spanning_tree",
    "network.bonds[].name",
    "network.bonds[].mode",
    "network.dns.servers",
    "network.dns.search",
    "network.dns.over_tls",
    "network.dns.dnssec",
    "network.time.servers",
    "network.proxy.url",
    "network.proxy.except",
    "network.firewall.enabled",
    "network.firewall.rules[].name",
    "network.firewall.rules[].direction",
    "network.firewall.rules[].service",
    "network.firewall.rules[].protocol",
    "network.firewall.rules[].ports",
    "network.firewall.rules[].from",
    "network.firewall.rules[].interface",
    "files[].path",
    "files[].content",
    "files[].mode",
    "files[].owner",
    "files[].group",
    "secrets[].name",
    "secrets[].boot",
    "secrets[].try_minutes",
    "secrets[].restart",
    "secrets[].server_proxy",
    "kernel.flavour",
    "kernel.arguments",
    "kernel.modules",
    "kernel.blacklist",
    "kernel.sysctl.*",
    "hardware.initrd_drivers",
    "security.ssh.allow_groups",
    "security.ssh.forwarding",
    "security.ssh.idle_timeout_s",
    "security.ssh.attempts_max",
    "security.lockdown",
    "security.no_compiler",
    "security.no_core_dumps",
    "security.hardened_sysctl",
    "storage.esp_mib",
    "storage.root_mib",
    "storage.var_mib",
    "state.directories[].path",
    "state.directories[].owner",
    "state.directories[].group",
    "state.directories[].mode",
    "health_checks[].name",
    "health_checks[].command",
    "health_checks[].unit",
    "health_checks[].http",
    "health_checks[].tcp",
    "health_checks[].file",
    "health_checks[].disk",
    "health_checks[].memory_free_mib",
    "health_checks[].timeout_s",
    "health_checks[].weight",
    "release_log.optional",
    "release_log.age_days_max",
    "server_contact.optional",
    "server_contact.deadline_s",
    // It is for another base.
    "extension.debian",
    "extension.nixos",
];

const STORE: &str = "every user of a device could read it in the store";
const ARCHIVE: &str = "it is about the archive of Debian";

/// Fields that this base cannot honour, with the reason.
pub(super) const IMPOSSIBLE: &[(&str, &str)] = &[
    ("users[].password_hash", STORE),
    ("users[].expires", "systemd-sysusers, which makes its accounts, knows no end of an account"),
    ("security.ssh.password_login", "no account has a password"),
    ("security.setuid", "security.wrappers makes its setuid programs: use extension.nixos"),
    ("software.suites", ARCHIVE),
    ("software.backports", ARCHIVE),
    ("software.snapshot_age_days_max", ARCHIVE),
    ("software.components", ARCHIVE),
    ("software.repositories[].name", ARCHIVE),
    ("software.repositories[].url", ARCHIVE),
    ("software.repositories[].suite", ARCHIVE),
    ("software.repositories[].components", ARCHIVE),
    ("software.repositories[].packages", ARCHIVE),
    ("software.repositories[].key", ARCHIVE),
    ("software.own[].name", ARCHIVE),
    ("software.own[].sha256", ARCHIVE),
    ("software.own[].from", ARCHIVE),
];

/// Names of Debian's packages that have another name, or are a module, in NixOS. A package set knows
/// every name; an evaluation without one does not.
const DEBIAN_ONLY: &[(&str, &str)] = &[
    ("docker.io", "docker is a module: virtualisation.docker in extension.nixos"),
    ("network-manager", "it is a module: networking.networkmanager in extension.nixos"),
    ("systemd-timesyncd", "it is a part of systemd"),
    ("unattended-upgrades", "images are updated as a whole"),
];

/// Values of honoured fields that this base cannot honour.
pub(super) fn refused(profile: &Profile) -> Vec<Ignored> {
    let base = BaseName::Nixos;
    let files =
        profile.files.iter().enumerate().filter(|(_, file)| !file.path.starts_with("/etc/"));
    let files = files.map(|(i, _)| Ignored {
        base,
        path: format!("files[{i}].path"),
        why: Some("files of a profile are below /etc, and packages bring the others"),
    });
    let packages = profile.software.packages.iter().enumerate().filter_map(|(i, name)| {
        let (_, why) = DEBIAN_ONLY.iter().find(|(known, _)| known == name)?;
        Some(Ignored { base, path: format!("software.packages[{i}]"), why: Some(why) })
    });
    files.chain(packages).collect()
}

#[cfg(test)]
mod tests {
    use super::{HONOURED, IMPOSSIBLE};
    use crate::base::nixos::Nixos;
    use crate::base::{Base, HonourError};
    use fleeti_core::profile::{check, fields};

    const GOOD: &str =
        "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\nbase = \"nixos\"\n";

    fn refused(text: &str) -> Vec<String> {
        let profile = check(&format!("{GOOD}{text}")).unwrap();
        match Nixos.check(&profile) {
            Ok(()) => vec![],
            Err(HonourError::Fields(fields)) => fields.iter().map(ToString::to_string).collect(),
            Err(e) => panic!("{e}"),
        }
    }

    #[test]
    fn every_entry_is_a_field_of_profiles_and_no_field_is_honoured_and_impossible() {
        let fields = fields();
        for entry in HONOURED.iter().chain(IMPOSSIBLE.iter().map(|(field, _)| field)) {
            assert!(fields.iter().any(|field| field == entry), "{entry}");
        }
        assert!(!IMPOSSIBLE.iter().any(|(field, _)| HONOURED.contains(field)));
    }

    #[test]
    fn what_the_base_cannot_honour_is_refused_by_name_with_the_reason() {
        for (text, line) in [
            (
                "[[users]]\nname = \"ops\"\nexpires = \"2027-12-31\"\n",
                "users[0].expires: the base nixos cannot honour this: systemd-sysusers, which makes \
                 its accounts, knows no end of an account",
            ),
            (
                "software.backports = [\"cockpit\"]\n",
                "software.backports: the base nixos cannot honour this: it is about the archive of \
                 Debian",
            ),
            (
                "[[files]]\npath = \"/usr/share/app/a\"\ncontent = \"a\"\n",
                "files[0].path: the base nixos cannot honour this: files of a profile are below /etc, \
                 and packages bring the others",
            ),
            (
                "software.packages = [\"network-manager\"]\n",
                "software.packages[0]: the base nixos cannot honour this: it is a module: \
                 networking.networkmanager in extension.nixos",
            ),
            ("state.version = 2\n", "state.version: the base nixos does not honour this field yet"),
        ] {
            assert_eq!(refused(text), [line], "{text}");
        }
    }

    #[test]
    fn what_is_honoured_is_not_refused() {
        let text = "identity.locale = \"de_DE.UTF-8\"\nidentity.keyboard = \"de\"\n\
                    extension.nixos = \"{ }\"\nextension.debian = \"true\"\n\
                    software.packages = [\"jq\", \"python3Packages.pip\"]\n\
                    [[files]]\npath = \"/etc/app.conf\"\ncontent = \"a\"\n";
        assert_eq!(refused(text), Vec::<String>::new());
    }
}
