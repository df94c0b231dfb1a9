//! Packages that a profile chooses in place of those of the base, and units of the base that depend
//! on them.

use fleeti_core::profile::Profile;
use std::collections::BTreeSet;

/// Packages that keep the time, each in place of systemd-timesyncd: Debian allows only one.
const TIME: &[&str] = &["chrony", "ntpsec", "openntpd"];
/// The package that configures networks in place of systemd-networkd.
const NETWORK: &str = "network-manager";

/// The presets of the base, which come before those of packages.
const PRESET: &str = include_str!("../nix/overlay/00-fleeti.preset");

fn has(profile: &Profile, name: &str) -> bool {
    profile.software.packages.iter().any(|package| package == name)
}

/// Whether the profile keeps the time without systemd-timesyncd.
pub(crate) fn keeps_time_itself(profile: &Profile) -> bool {
    TIME.iter().any(|name| has(profile, name))
}

/// Whether NetworkManager configures the interfaces, and not systemd-networkd. A profile that
/// describes interfaces keeps systemd-networkd for them.
pub(crate) fn has_network_manager(profile: &Profile) -> bool {
    has(profile, NETWORK) && profile.network.interfaces.is_empty()
}

/// Adds the units of the base that depend on packages, and takes out those of packages that the base
/// does not start.
pub(crate) fn units(profile: &Profile, enabled: &mut BTreeSet<String>) {
    let disabled = |unit: &str| {
        let patterns = PRESET.lines().filter_map(|line| line.strip_prefix("disable "));
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => unit.starts_with(start),
            None => unit == pattern,
        };
        patterns.into_iter().any(fits)
    };
    enabled.retain(|unit| !disabled(unit));
    for (unit, is_started) in [
        ("systemd-networkd.service", !has_network_manager(profile)),
        ("systemd-resolved.service", true),
        ("systemd-timesyncd.service", !keeps_time_itself(profile)),
        ("fleeti-ssh-keys.service", has(profile, "openssh-server")),
    ] {
        if is_started {
            enabled.insert(unit.to_owned());
        } else {
            enabled.remove(unit);
        }
    }
}
