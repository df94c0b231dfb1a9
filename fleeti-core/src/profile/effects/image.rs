//! An image that is compared with another one.

use super::super::{Profile, Service, UnitState};
use std::collections::BTreeSet;

/// What is installed in an image, as far as installations of the same packages showed it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// Packages, with those that they depend on.
    pub packages: BTreeSet<String>,
    /// Packages of which it is not known what they bring.
    pub unknown: BTreeSet<String>,
    /// Units that start at boot, unless the profile says otherwise.
    pub enabled: BTreeSet<String>,
    /// Users of packages.
    pub users: BTreeSet<String>,
    /// Groups of packages.
    pub groups: BTreeSet<String>,
}

/// A profile, and what is installed in its image.
#[derive(Debug, Clone)]
pub struct Image<'a> {
    /// The profile.
    pub profile: &'a Profile,
    /// What is installed.
    pub installed: Installed,
}

impl<'a> From<&'a Profile> for Image<'a> {
    /// An image of which only the packages are known that its profile names.
    fn from(profile: &'a Profile) -> Self {
        let own = profile.software.own.iter().map(|own| own.name.clone());
        let packages: BTreeSet<_> = profile.software.packages.iter().cloned().chain(own).collect();
        let unknown = packages.clone();
        Self { profile, installed: Installed { packages, unknown, ..Installed::default() } }
    }
}

/// The unit that loads the rules of the packet filter.
pub(super) const FIREWALL: &str = "nftables.service";

impl Image<'_> {
    /// Whether the device filters packets: what the profile says of the unit itself comes first.
    pub(super) fn filters(&self) -> bool {
        let is_off =
            |service: &Service| service.name == FIREWALL && service.state != UnitState::Enabled;
        self.profile.network.firewall.enabled && !self.profile.services.iter().any(is_off)
    }

    pub(super) fn has(&self, package: &str) -> bool {
        self.installed.packages.contains(package)
    }
}
