//! Packages that a profile chooses in place of those of the base.

use fleeti_core::profile::Profile;

/// Packages that keep the time, each in place of systemd-timesyncd: Debian allows only one.
const TIME: &[&str] = &["chrony", "ntpsec", "openntpd"];
/// The package that configures networks in place of systemd-networkd.
const NETWORK: &str = "network-manager";

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
