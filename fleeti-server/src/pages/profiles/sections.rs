//! The sections of the editor: which fields are together, which are shown first, and their words.

use fleeti_core::profile::{IndexedKind, pattern};

/// A section of the editor.
pub struct Section {
    /// Name in addresses.
    pub id: &'static str,
    /// Title.
    pub title: &'static str,
    /// Fields of the profile, in the order of the editor.
    pub fields: &'static [&'static str],
}

const fn section(
    id: &'static str,
    title: &'static str,
    fields: &'static [&'static str],
) -> Section {
    Section { id, title, fields }
}

/// The sections, in the order of the editor. Each field of a profile but `schema` is in one.
pub const SECTIONS: &[Section] = &[
    section("general", "General", &["name", "description", "architecture", "base"]),
    section("users", "Users and groups", &["users", "groups", "sudo"]),
    section("software", "Software", &["software"]),
    section("services", "Services", &["services", "timers", "containers"]),
    section("network", "Network and firewall", &["network"]),
    section("health", "Health checks", &["health_checks"]),
    section("support", "Diagnostics and support", &["diagnostics", "support_keys"]),
    section("files", "Files, secrets and site values", &["files", "secrets", "site"]),
    section("identity", "Host name and language", &["identity"]),
    section("security", "Security", &["security"]),
    section("kernel", "Kernel and hardware", &["kernel", "hardware"]),
    section("storage", "Storage and persistent data", &["storage", "state"]),
    section("updates", "Updates and trust", &["floors", "release_log", "server_contact"]),
    section("extension", "Raw fragments", &["extension"]),
];

/// Fields that are shown before the others, besides those that are required or have a value. `[]`
/// is an entry of a list.
const COMMON: &[&str] = &[
    "description",
    "users",
    "users[].comment",
    "users[].groups",
    "users[].ssh_keys",
    "sudo[].users",
    "sudo[].no_password",
    "software.packages",
    "services",
    "services[].state",
    "services[].unit",
    "timers[].persistent",
    "containers",
    "containers[].ports",
    "containers[].volumes",
    "network.interfaces",
    "network.interfaces[].dhcp",
    "network.interfaces[].addresses",
    "network.interfaces[].gateways",
    "network.interfaces[].match.name",
    "network.wifi",
    "network.wifi[].passphrase_secret",
    "network.firewall",
    "network.firewall.enabled",
    "network.firewall.rules",
    "network.firewall.rules[].service",
    "network.firewall.rules[].ports",
    "network.firewall.rules[].protocol",
    "health_checks",
    "health_checks[].http",
    "health_checks[].tcp",
    "health_checks[].unit",
    "files",
    "files[].mode",
    "secrets",
    "secrets[].boot",
    "site",
    "site[].kind",
    "site[].default",
    "identity.hostname",
    "identity.time_zone",
    "identity.locale",
    "security.ssh",
    "security.ssh.password_login",
    "security.ssh.allow_groups",
    "kernel",
    "kernel.flavour",
    "kernel.arguments",
    "hardware",
    "hardware.firmware",
    "state",
    "state.directories",
    "state.directories[].owner",
    "state.directories[].mode",
    "floors",
    "floors.update",
    "server_contact",
    "server_contact.optional",
];

/// Fields that name something of the suite, which is searched while they are typed.
const NAMING: &[(&str, IndexedKind)] = &[
    ("software.packages", IndexedKind::Package),
    ("services[].name", IndexedKind::Unit),
    ("timers[].service", IndexedKind::Unit),
    ("health_checks[].unit", IndexedKind::Unit),
    ("network.firewall.rules[].service", IndexedKind::Unit),
    ("users[].shell", IndexedKind::Program),
    ("users[].groups", IndexedKind::Group),
    ("sudo[].users", IndexedKind::User),
    ("sudo[].groups", IndexedKind::Group),
    ("security.ssh.allow_groups", IndexedKind::Group),
    ("files[].owner", IndexedKind::User),
    ("files[].group", IndexedKind::Group),
    ("state.directories[].owner", IndexedKind::User),
    ("state.directories[].group", IndexedKind::Group),
];

/// What a field names.
pub fn named(path: &str) -> Option<IndexedKind> {
    let pattern = pattern(path);
    NAMING.iter().find(|(field, _)| *field == pattern).map(|(_, kind)| *kind)
}

/// Whether a field is shown before the others.
pub fn is_common(path: &str) -> bool {
    COMMON.contains(&pattern(path).as_str())
}

/// The label of a field: `ssh_keys` becomes `SSH keys`.
pub fn label(name: &str) -> String {
    let whole = match name {
        "http" => "Web address that must answer",
        "tcp" => "Address and port that must accept connections",
        "unit" => "Unit",
        "matches" | "match" => "Which interfaces",
        "wireguard" => "WireGuard tunnels",
        "wifi" => "Wi-Fi networks",
        "dot1x" => "802.1X",
        "own" => "Own packages",
        "sudo" => "Sudo rules",
        "site" => "Site values",
        "id" => "Numeric id",
        "comment" => "Full name",
        "from" => "From networks",
        "floors" => "Minimum trust",
        "state" => "Persistent data",
        _ => "",
    };
    if !whole.is_empty() {
        return whole.to_owned();
    }
    let word = |(i, word): (usize, &str)| match word {
        "ssh" | "dns" | "mac" | "url" | "mtu" | "usb" | "ip" | "esp" => word.to_uppercase(),
        "dnssec" => "DNSSEC".to_owned(),
        "vlans" => "VLANs".to_owned(),
        "ips" => "IPs".to_owned(),
        "tls" => "TLS".to_owned(),
        "nixos" => "NixOS".to_owned(),
        "sha256" => "SHA-256".to_owned(),
        "s" if i > 0 => "(seconds)".to_owned(),
        "mib" if i > 0 => "(MiB)".to_owned(),
        "max" if i > 0 => "maximum".to_owned(),
        "min" if i > 0 => "minimum".to_owned(),
        _ if i == 0 => {
            word.get(..1).map_or_else(String::new, |first| first.to_uppercase() + &word[1..])
        }
        _ => word.to_owned(),
    };
    name.split('_').enumerate().map(word).collect::<Vec<_>>().join(" ")
}

/// What one entry of a list is called.
pub fn singular(name: &str) -> String {
    match name {
        "sudo" => "sudo rule".to_owned(),
        "site" => "site value".to_owned(),
        "own" => "own package".to_owned(),
        "wifi" => "Wi-Fi network".to_owned(),
        "wireguard" => "WireGuard tunnel".to_owned(),
        "vlans" => "VLAN".to_owned(),
        "directories" => "directory".to_owned(),
        "repositories" => "repository".to_owned(),
        "rules" => "firewall rule".to_owned(),
        other => other.trim_end_matches('s').replace('_', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::profile;
    use std::collections::BTreeSet;

    #[test]
    fn each_field_of_a_profile_is_in_one_section() {
        let fields = profile::fields();
        let top = |path: &String| path.split(['.', '[']).next().unwrap_or_default().to_owned();
        let all: BTreeSet<_> = fields.iter().map(top).filter(|name| name != "schema").collect();
        let sections = SECTIONS.iter().flat_map(|section| section.fields);
        assert_eq!(sections.clone().count(), all.len());
        assert_eq!(sections.map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), all);
    }

    #[test]
    fn a_field_that_is_shown_first_exists() {
        let fields = profile::fields();
        for common in COMMON.iter().chain(NAMING.iter().map(|(field, _)| field)) {
            let is_here = |field: &String| {
                field
                    .strip_prefix(common)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            assert!(fields.iter().any(is_here), "{common}");
        }
    }

    #[test]
    fn names_become_words() {
        assert_eq!(label("ssh_keys"), "SSH keys");
        assert_eq!(label("timeout_s"), "Timeout (seconds)");
        assert_eq!(singular("directories"), "directory");
    }
}
