//! The fields of a profile that the Debian base honours.

use crate::base::Ignored;
use fleeti_core::profile::{BaseName, Profile, WifiSecurity};

/// Entries as those of [`fleeti_core::profile::fields`].
pub(super) const HONOURED: &[&str] = &[
    "schema",
    "name",
    "description",
    "architecture",
    "base",
    "identity.hostname",
    "identity.locale",
    "identity.time_zone",
    "users[].name",
    "users[].comment",
    "users[].id",
    "users[].groups",
    "users[].ssh_keys",
    "users[].password_hash",
    "users[].shell",
    "users[].expires",
    "groups[].name",
    "groups[].id",
    "sudo[].name",
    "sudo[].users",
    "sudo[].groups",
    "sudo[].commands",
    "sudo[].run_as",
    "sudo[].no_password",
    "software.packages",
    "software.suites",
    "software.backports",
    "software.snapshot_age_days_max",
    "software.components",
    "software.repositories[].name",
    "software.repositories[].url",
    "software.repositories[].suite",
    "software.repositories[].components",
    "software.repositories[].packages",
    "software.repositories[].key",
    "software.own[].name",
    "software.own[].sha256",
    "software.own[].from",
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
    "network.wifi[].ssid",
    "network.wifi[].security",
    "network.wifi[].passphrase_secret",
    "network.wifi[].hidden",
    "network.wireguard[].name",
    "network.wireguard[].private_key_secret",
    "network.wireguard[].listen_port",
    "network.wireguard[].addresses",
    "network.wireguard[].peers[].public_key",
    "network.wireguard[].peers[].endpoint",
    "network.wireguard[].peers[].allowed_ips",
    "network.wireguard[].peers[].keepalive_s",
    "network.wireguard[].peers[].preshared_key_secret",
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
    // For the reader of the profile; the port is what the packet filter knows.
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
    "hardware.firmware",
    "hardware.initrd_drivers",
    "security.ssh.password_login",
    "security.ssh.allow_groups",
    "security.ssh.forwarding",
    "security.ssh.idle_timeout_s",
    "security.ssh.attempts_max",
    "security.lockdown",
    // Debian's kernel has AppArmor on, and the package enforces its profiles and those of others.
    "security.access_control",
    "security.audit.enabled",
    "security.audit.rules",
    "security.usb_guard.enabled",
    "security.usb_guard.allow",
    "security.no_compiler",
    "security.setuid",
    "security.no_core_dumps",
    "security.hardened_sysctl",
    "storage.esp_mib",
    "storage.root_mib",
    "storage.var_mib",
    "state.directories[].path",
    "state.directories[].owner",
    "state.directories[].group",
    "state.directories[].mode",
    "state.directories[].on_reset",
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
    "diagnostics[].name",
    "diagnostics[].command",
    "diagnostics[].timeout_s",
    "support_keys[].name",
    "support_keys[].key",
    "release_log.optional",
    "release_log.age_days_max",
    "server_contact.optional",
    "server_contact.deadline_s",
    // It is for another base.
    "extension.nixos",
];

/// Values of honoured fields that this base does not honour.
pub(super) fn refused(profile: &Profile) -> Vec<Ignored> {
    let network = &profile.network;
    let field = |path: String, why| Ignored { base: BaseName::Debian, path, why };
    let certificates = network.wifi.iter().enumerate().filter_map(|(i, wifi)| {
        let is_refused = wifi.security == WifiSecurity::EapTls;
        is_refused.then(|| field(format!("network.wifi[{i}].security"), None))
    });
    let has_networks = !network.wifi.is_empty();
    let programs = [
        ("network.wifi", has_networks && has(profile, "network-manager"), NETWORK_MANAGER),
        ("network.wifi", has_networks && !has(profile, "wpasupplicant"), IWD),
        (
            "network.wireguard",
            !network.wireguard.is_empty() && has(profile, "network-manager"),
            NETWORK_MANAGER,
        ),
    ];
    let programs = programs.into_iter().filter(|(_, is_refused, _)| *is_refused);
    certificates.chain(programs.map(|(path, _, why)| field(path.to_owned(), Some(why)))).collect()
}

const NETWORK_MANAGER: &str =
    "the package network-manager configures the network, and does not read it here";
const IWD: &str = "it uses wpa_supplicant, of the package wpasupplicant, for Wi-Fi";

fn has(profile: &Profile, package: &str) -> bool {
    profile.software.packages.iter().any(|name| name == package)
}

#[cfg(test)]
mod tests {
    use super::HONOURED;
    use crate::base::debian::Debian;
    use crate::base::{Base, HonourError};
    use fleeti_core::profile::{check, fields};

    const GOOD: &str = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";

    /// The paths that the base refuses of a profile.
    fn refused(text: &str) -> Vec<String> {
        let profile = check(&format!("{GOOD}{text}")).unwrap();
        match Debian.check(&profile) {
            Ok(()) => vec![],
            Err(HonourError::Fields(fields)) => fields.into_iter().map(|f| f.path).collect(),
            Err(e) => panic!("{e}"),
        }
    }

    /// One profile for each section that has fields which the base does not honour, with their
    /// paths.
    const REFUSED: &[(&str, &[&str])] = &[
        ("identity.locale = \"de_DE.UTF-8\"\nidentity.keyboard = \"de\"\n", &["identity.keyboard"]),
        (
            "[[network.interfaces]]\nname = \"lan\"\nmatch = { name = \"en*\" }\ndot1x = true\n",
            &["network.interfaces[0].dot1x"],
        ),
        (
            "[[files]]\npath = \"/etc/app.conf\"\ncontent = \"{site.proxy}\"\nsite_values = true\n\
             [[site]]\nname = \"proxy\"\nkind = \"url\"\ndefault = \"http://proxy.example.com\"\n\
             description = \"The proxy\"\n",
            &[
                "files[0].site_values",
                "site[0].name",
                "site[0].kind",
                "site[0].default",
                "site[0].description",
            ],
        ),
        (
            "software.packages = [\"libpam-pwquality\"]\n[security.passwords]\nlength_min = 14\n\
             age_days_max = 365\nlock_after = 5\n",
            &[
                "security.passwords.length_min",
                "security.passwords.age_days_max",
                "security.passwords.lock_after",
            ],
        ),
        (
            "state.version = 2\n[[state.directories]]\npath = \"/var/lib/web\"\nquota_mib = 10\n\
             backup = true\n",
            &["state.version", "state.directories[0].quota_mib", "state.directories[0].backup"],
        ),
        (
            "floors = { update = \"token\", success = \"observed_boot\", \
             secrets = \"verified_boot\" }\n",
            &["floors.update", "floors.success", "floors.secrets"],
        ),
        ("extension.debian = \"touch /etc/a\"\n", &["extension.debian"]),
    ];

    #[test]
    fn every_entry_is_a_field_of_profiles() {
        let fields = fields();
        for entry in HONOURED {
            assert!(fields.iter().any(|field| field == entry), "{entry}");
        }
    }

    #[test]
    fn a_field_that_is_not_honoured_is_refused_by_its_path() {
        for (text, paths) in REFUSED {
            let mut found = refused(text);
            let mut expected: Vec<_> = paths.iter().map(|p| (*p).to_owned()).collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn every_field_is_honoured_or_seen_to_be_refused() {
        let seen: Vec<String> = REFUSED
            .iter()
            .flat_map(|(_, paths)| paths.iter())
            .map(|path| path.replace("[0]", "[]").replace("[1]", "[]"))
            .collect();
        for field in fields() {
            let is_honoured = HONOURED.contains(&field.as_str());
            assert!(is_honoured != seen.contains(&field), "{field}");
        }
    }

    #[test]
    fn what_is_honoured_is_not_refused() {
        let text = "identity.time_zone = \"Europe/Berlin\"\nextension.nixos = \"{ }\"\n\
                    security.lockdown = \"integrity\"\n[[secrets]]\nname = \"greeting\"\n\
                    [[secrets]]\nname = \"wifi\"\nboot = true\ntry_minutes = 5\n\
                    restart = [\"wifi.service\"]\nserver_proxy = true\n\
                    [[state.directories]]\npath = \"/var/lib/web\"\nmode = \"0750\"\n";
        assert_eq!(refused(text), Vec::<String>::new());
    }

    #[test]
    fn what_the_base_reads_nowhere_is_refused() {
        const WIFI: &str = "[[network.wifi]]\nssid = \"office\"\nsecurity = \"eap_tls\"\n";
        const TUNNEL: &str = "[[network.wireguard]]\nname = \"wg0\"\n\
            private_key_secret = \"key\"\n[[secrets]]\nname = \"key\"\nboot = true\n";
        for (packages, text, paths) in [
            ("\"wpasupplicant\"", WIFI, &["network.wifi[0].security"][..]),
            ("\"iwd\"", WIFI, &["network.wifi[0].security", "network.wifi"]),
            ("\"network-manager\"", TUNNEL, &["network.wireguard"]),
            ("", TUNNEL, &[]),
        ] {
            let text = format!("software.packages = [{packages}]\n{text}");
            assert_eq!(refused(&text), paths, "{text}");
        }
    }

    #[test]
    fn the_error_names_each_path() {
        let profile = check(&format!("{GOOD}identity.keyboard = \"de\"\nstate.version = 2\n"));
        let error = Debian.check(&profile.unwrap()).unwrap_err();
        let mut lines: Vec<_> = error.to_string().lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "identity.keyboard: the base debian does not honour this field yet",
                "state.version: the base debian does not honour this field yet"
            ]
        );
    }
}
