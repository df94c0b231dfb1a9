//! interfaces(5).

use super::{bridge, extend, get, vlan};
use crate::draft::Draft;
use crate::note::Area;
use crate::snapshot::Snapshot;
use fleeti_core::profile::Dhcp;
use std::net::Ipv4Addr;

/// A stanza `iface NAME FAMILY METHOD`, with its options.
#[derive(Debug, Default)]
struct Stanza {
    name: String,
    family: String,
    method: String,
    options: Vec<(String, String)>,
}

impl Stanza {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let options = self.options.iter().filter(move |(key, _)| key == name);
        options.flat_map(|(_, value)| value.split_whitespace())
    }
}

pub(super) fn adopt(snapshot: &Snapshot, draft: &mut Draft) {
    let main = "/etc/network/interfaces";
    let single = snapshot.text(main).map(|text| (main, text));
    let files: Vec<_> =
        single.into_iter().chain(snapshot.texts("/etc/network/interfaces.d", "")).collect();
    for (path, text) in files {
        draft.handle(path);
        for stanza in stanzas(text) {
            if stanza.method != "loopback" {
                take(path, &stanza, draft);
            }
        }
    }
}

fn stanzas(text: &str) -> Vec<Stanza> {
    let text = text.replace("\\\n", " ");
    let mut found: Vec<Stanza> = Vec::new();
    let mut is_open = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        let mut next = || words.next().unwrap_or_default().to_owned();
        match first {
            "iface" => {
                let (name, family, method) = (next(), next(), next());
                found.push(Stanza { name, family, method, options: Vec::new() });
                is_open = true;
            }
            "auto" | "mapping" | "source" | "source-directory" | "no-auto-down" | "no-scripts"
            | "template" | "rename" => is_open = false,
            _ if first.starts_with("allow-") => is_open = false,
            _ => {
                if let (true, Some(stanza)) = (is_open, found.last_mut()) {
                    let value = line[first.len()..].trim().to_owned();
                    stanza.options.push((first.replace('_', "-"), value));
                }
            }
        }
    }
    found
}

/// Options that are taken, or that change nothing.
const KNOWN: [&str; 14] = [
    "address",
    "netmask",
    "gateway",
    "dns-nameservers",
    "dns-search",
    "mtu",
    "broadcast",
    "network",
    "bridge-ports",
    "bridge-stp",
    "bridge-fd",
    "vlan-raw-device",
    "metric",
    "accept-ra",
];

fn take(path: &str, stanza: &Stanza, draft: &mut Draft) {
    let name = &stanza.name;
    let is_v6 = stanza.family == "inet6";
    let dhcp = match stanza.method.as_str() {
        "dhcp" if is_v6 => Dhcp::Ipv6,
        "dhcp" => Dhcp::Ipv4,
        "auto" => Dhcp::Ipv6,
        "static" | "manual" => Dhcp::No,
        method => {
            let why = format!("{name} has the method {method:?}, which a profile does not have");
            return draft.not_taken(Area::Network, path, &why, "");
        }
    };
    let unknown: Vec<_> = stanza
        .options
        .iter()
        .map(|(option, _)| option.as_str())
        .filter(|option| !KNOWN.contains(option))
        .collect();
    if !unknown.is_empty() {
        let why = format!("options of {name} are not taken: {}", unknown.join(", "));
        let next = "write a unit for commands such as up and pre-up";
        draft.not_taken(Area::Network, path, &why, next);
    }
    let netmask = stanza.values("netmask").next().and_then(prefix);
    let addresses: Vec<_> = stanza
        .values("address")
        .map(|address| match (address.contains('/'), netmask) {
            (false, Some(prefix)) => format!("{address}/{prefix}"),
            (false, None) => format!("{address}/{}", if is_v6 { 128 } else { 32 }),
            (true, _) => address.to_owned(),
        })
        .collect();
    extend(
        &mut draft.profile.network.dns.search,
        stanza.values("dns-search").map(str::to_owned).collect::<Vec<_>>(),
    );
    let interface = get(draft, name, path);
    interface.dhcp = both(interface.dhcp, dhcp);
    extend(&mut interface.addresses, addresses);
    extend(&mut interface.gateways, stanza.values("gateway").map(str::to_owned));
    extend(&mut interface.dns, stanza.values("dns-nameservers").map(str::to_owned));
    if let Some(mtu) = stanza.values("mtu").next().and_then(|mtu| mtu.parse().ok()) {
        interface.mtu = mtu;
    }
    layers(path, stanza, draft);
}

/// Bridges and VLANs.
fn layers(path: &str, stanza: &Stanza, draft: &mut Draft) {
    let name = &stanza.name;
    let mut is_bridge = false;
    for port in stanza.values("bridge-ports") {
        is_bridge = true;
        if port != "none" {
            get(draft, port, path).bridge = Some(name.clone());
        }
    }
    if is_bridge {
        bridge(draft, name, stanza.values("bridge-stp").next() == Some("on"));
    }
    let by_name = name.rsplit_once('.').and_then(|(raw, id)| Some((raw, id.parse().ok()?)));
    let raw = stanza.values("vlan-raw-device").next();
    let id = name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok();
    if let Some((raw, id)) = by_name.or_else(|| Some((raw?, id?))) {
        vlan(draft, name, id);
        extend(&mut get(draft, raw, path).vlans, [name.clone()]);
    }
}

fn both(a: Dhcp, b: Dhcp) -> Dhcp {
    match (a, b) {
        (Dhcp::No, other) | (other, Dhcp::No) => other,
        (Dhcp::Ipv4, Dhcp::Ipv4) => Dhcp::Ipv4,
        (Dhcp::Ipv6, Dhcp::Ipv6) => Dhcp::Ipv6,
        _ => Dhcp::Yes,
    }
}

/// A prefix length, from 255.255.255.0 or 24.
fn prefix(netmask: &str) -> Option<u32> {
    netmask
        .parse::<Ipv4Addr>()
        .map(|mask| u32::from(mask).leading_ones())
        .ok()
        .or_else(|| netmask.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_become_interfaces_bridges_and_vlans() {
        let text = "\
auto lo
iface lo inet loopback
# c
allow-hotplug ens3
iface ens3 inet static
    address 192.0.2.10
    netmask 255.255.255.0
    gateway 192.0.2.1
    dns-nameservers 192.0.2.53 192.0.2.54
    up ip route add 10.0.0.0/8 via 192.0.2.2
iface ens3 inet6 auto
iface br0 inet dhcp
    bridge_ports ens4
    bridge_stp on
iface ens3.20 inet manual
iface ppp0 inet ppp
";
        let snapshot = Snapshot::default().with("/etc/network/interfaces", text).with(
            "/etc/network/interfaces.d/x",
            "iface ens5 inet static\naddress 198.51.100.7/24\n",
        );
        let mut draft = crate::draft::made();
        adopt(&snapshot, &mut draft);
        let network = &draft.profile.network;
        let names: Vec<_> = network.interfaces.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(names, ["ens3", "br0", "ens4", "ens3-20", "ens5"]);
        let first = &network.interfaces[0];
        assert_eq!(
            (first.dhcp, first.addresses.as_slice()),
            (Dhcp::Ipv6, &["192.0.2.10/24".to_owned()][..])
        );
        assert_eq!(first.gateways, ["192.0.2.1"]);
        assert_eq!(first.dns, ["192.0.2.53", "192.0.2.54"]);
        assert_eq!(first.vlans, ["ens3.20"]);
        assert_eq!(network.interfaces[1].dhcp, Dhcp::Ipv4);
        assert_eq!(network.interfaces[2].bridge.as_deref(), Some("br0"));
        assert!(network.bridges[0].spanning_tree);
        assert_eq!((network.vlans[0].name.as_str(), network.vlans[0].id), ("ens3.20", 20));
        assert_eq!(draft.notes.len(), 2);
        assert!(draft.notes[0].why.ends_with("not taken: up"), "{:?}", draft.notes);
    }
}
