//! Interfaces of ifupdown, systemd-networkd, netplan, NetworkManager and wg-quick, names, packet
//! filters.

mod firewall;
mod ifupdown;
mod keyfile;
mod names;
mod netplan;
mod networkd;
mod wireguard;

use crate::conffile::Conffiles;
use crate::draft::Draft;
use crate::name::{label, unused};
use crate::packages::Installed;
use crate::snapshot::Snapshot;
use fleeti_core::profile::{Bond, BondMode, Bridge, Dhcp, Interface, Match, Secret, Vlan};

pub(crate) fn adopt(
    snapshot: &Snapshot,
    conffiles: &Conffiles<'_>,
    installed: &Installed,
    draft: &mut Draft,
) {
    ifupdown::adopt(snapshot, draft);
    networkd::adopt(snapshot, draft);
    netplan::adopt(snapshot, draft);
    keyfile::adopt(snapshot, installed, draft);
    wireguard::adopt(snapshot, draft);
    names::adopt(snapshot, draft);
    firewall::adopt(snapshot, conffiles, draft);
    let network = &mut draft.profile.network;
    // A VLAN that nothing carries is an error; its parent was not understood.
    network.vlans.retain(|vlan| {
        network.interfaces.iter().any(|interface| interface.vlans.contains(&vlan.name))
    });
}

/// An interface that a pattern matches, without addresses.
fn interface(pattern: &str) -> Interface {
    Interface {
        name: pattern.to_owned(),
        matches: Match { name: Some(pattern.to_owned()), mac: None, driver: None },
        dhcp: Dhcp::No,
        addresses: Vec::new(),
        gateways: Vec::new(),
        dns: Vec::new(),
        mtu: 0,
        vlans: Vec::new(),
        bridge: None,
        bond: None,
        dot1x: false,
    }
}

/// Returns the interface that this pattern matches, and adds it if it is missing.
fn get<'a>(draft: &'a mut Draft, pattern: &str, from: &str) -> &'a mut Interface {
    let position = draft
        .profile
        .network
        .interfaces
        .iter()
        .position(|known| known.matches.name.as_deref() == Some(pattern));
    let at = position.unwrap_or_else(|| add(draft, interface(pattern), from));
    &mut draft.profile.network.interfaces[at]
}

/// Adds an interface under a name that none has yet, and returns its position.
fn add(draft: &mut Draft, mut interface: Interface, from: &str) -> usize {
    let known = &draft.profile.network.interfaces;
    let wanted = label(&interface.name, "interface");
    interface.name = unused(&wanted, |name| known.iter().any(|other| other.name == name));
    draft.origin("network.interfaces", &interface.name, from);
    draft.profile.network.interfaces.push(interface);
    draft.profile.network.interfaces.len() - 1
}

fn vlan(draft: &mut Draft, name: &str, id: u32) {
    let vlans = &mut draft.profile.network.vlans;
    if !vlans.iter().any(|vlan| vlan.name == name) {
        vlans.push(Vlan { name: name.to_owned(), id });
    }
}

fn bridge(draft: &mut Draft, name: &str, spanning_tree: bool) {
    let bridges = &mut draft.profile.network.bridges;
    if !bridges.iter().any(|bridge| bridge.name == name) {
        bridges.push(Bridge { name: name.to_owned(), spanning_tree });
    }
}

fn bond(draft: &mut Draft, name: &str, mode: BondMode) {
    let bonds = &mut draft.profile.network.bonds;
    if !bonds.iter().any(|bond| bond.name == name) {
        bonds.push(Bond { name: name.to_owned(), mode });
    }
}

/// The mode of a bond, by its kernel name or number; `None` if profiles do not support the mode.
fn bond_mode(text: &str) -> Option<BondMode> {
    match text {
        "active-backup" | "1" => Some(BondMode::ActiveBackup),
        "802.3ad" | "4" => Some(BondMode::Lacp),
        "balance-rr" | "0" => Some(BondMode::BalanceRr),
        _ => None,
    }
}

/// A secret that the device needs to reach the server.
fn boot_secret(draft: &mut Draft, name: &str) {
    let secrets = &mut draft.profile.secrets;
    if !secrets.iter().any(|secret| secret.name == name) {
        secrets.push(Secret {
            name: name.to_owned(),
            boot: true,
            try_minutes: 10,
            restart: vec![],
            server_proxy: false,
        });
    }
}

/// Adds texts that a list does not have yet.
fn extend(list: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for text in more {
        if !list.contains(&text) {
            list.push(text);
        }
    }
}
