//! Settings of the system, by their paths in a profile.

use super::super::{Dhcp, HealthCheck, Interface, Profile, path};
use super::image::Image;
use super::keys::keys;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// Settings that differ.
pub(super) fn differ(before: &Image, after: &Image) -> BTreeSet<String> {
    let (old, new) = (of(before), of(after));
    let differ = keys(&old, &new);
    let mut paths: BTreeSet<_> =
        differ.added.into_iter().chain(differ.removed).chain(differ.changed).collect();
    // A server that comes or goes is a package.
    if has_ssh(before) != has_ssh(after) {
        paths.remove(SSH);
    }
    paths
}

const SSH: &str = "security.ssh";

pub(super) fn has_ssh(image: &Image) -> bool {
    image.has("openssh-server")
}

/// Values by path.
#[derive(Default)]
struct Settings(BTreeMap<String, String>);

impl Settings {
    fn set(&mut self, path: impl Into<String>, value: impl Debug) {
        self.0.insert(path.into(), format!("{value:?}"));
    }

    /// Each entry of a list, by its name.
    fn each<'a, T: Debug + 'a>(
        &mut self,
        list: &str,
        entries: impl IntoIterator<Item = &'a T>,
        name: impl Fn(&T) -> &str,
    ) {
        for entry in entries {
            self.set(format!("{list}[{}]", name(entry)), entry);
        }
    }
}

fn of(image: &Image) -> BTreeMap<String, String> {
    let profile = image.profile;
    let mut settings = Settings::default();
    let identity = &profile.identity;
    settings.set("identity.hostname", &identity.hostname);
    settings.set("identity.locale", &identity.locale);
    settings.set("identity.time_zone", &identity.time_zone);
    settings.set("identity.keyboard", &identity.keyboard);
    settings.set("storage.var_mib", profile.storage.var_mib);
    settings.set("floors", profile.floors);
    settings.set("release_log", profile.release_log);
    settings.set("server_contact", profile.server_contact);
    settings.set("extension.debian", &profile.extension.debian);
    let boot_secrets = profile.secrets.iter().filter(|secret| secret.boot);
    settings.each("secrets", boot_secrets, |secret| &secret.name);
    kernel(profile, &mut settings);
    network(profile, &mut settings);
    security(image, &mut settings);
    let filter = HealthCheck::of_packet_filter();
    let checks = profile.health_checks.iter();
    let checks = checks.chain(profile.network.firewall.enabled.then_some(&filter));
    settings.each("health_checks", checks, |check| &check.name);
    settings.each("diagnostics", &profile.diagnostics, |diagnostic| &diagnostic.name);
    settings.each("support_keys", &profile.support_keys, |key| &key.name);
    settings.0
}

fn kernel(profile: &Profile, settings: &mut Settings) {
    let kernel = &profile.kernel;
    settings.set("kernel.flavour", kernel.flavour);
    settings.set("kernel.arguments", &kernel.arguments);
    settings.each("kernel.modules", &kernel.modules, |name| name);
    settings.each("kernel.blacklist", &kernel.blacklist, |name| name);
    for (name, value) in &kernel.sysctl {
        settings.set(path::field("kernel.sysctl", name), value);
    }
    settings.set("hardware.firmware", &profile.hardware.firmware);
    settings.set("hardware.initrd_drivers", &profile.hardware.initrd_drivers);
}

/// An interface as it is configured: one of a bridge or a bond has no addresses of its own.
pub(super) fn effective(interface: &Interface) -> Interface {
    let mut interface = interface.clone();
    if interface.bridge.is_some() || interface.bond.is_some() {
        interface.dhcp = Dhcp::No;
    }
    interface
}

fn network(profile: &Profile, settings: &mut Settings) {
    let network = &profile.network;
    let interfaces: Vec<_> = network.interfaces.iter().map(effective).collect();
    settings.each("network.interfaces", &interfaces, |interface| &interface.name);
    settings.each("network.vlans", &network.vlans, |vlan| &vlan.name);
    settings.each("network.bridges", &network.bridges, |bridge| &bridge.name);
    settings.each("network.bonds", &network.bonds, |bond| &bond.name);
    settings.each("network.wifi", &network.wifi, |wifi| &wifi.ssid);
    settings.each("network.wireguard", &network.wireguard, |tunnel| &tunnel.name);
    settings.set("network.dns", &network.dns);
    settings.set("network.time", &network.time);
    // Exceptions have no effect without a proxy.
    let proxy = network.proxy.url.as_ref().map(|url| (url, &network.proxy.except));
    settings.set("network.proxy", proxy);
}

fn security(image: &Image, settings: &mut Settings) {
    let security = &image.profile.security;
    if has_ssh(image) {
        settings.set(SSH, &security.ssh);
    }
    settings.set("security.passwords", &security.passwords);
    settings.set("security.lockdown", security.lockdown);
    settings.set("security.access_control", security.access_control);
    settings.set("security.audit", &security.audit);
    settings.set("security.usb_guard", &security.usb_guard);
    settings.set("security.no_core_dumps", security.no_core_dumps);
    settings.set("security.hardened_sysctl", security.hardened_sysctl);
}
