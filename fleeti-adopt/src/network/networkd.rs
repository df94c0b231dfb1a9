//! systemd.network(5) and systemd.netdev(5).

use super::{add, bond, bond_mode, bridge, extend, interface, vlan, wireguard};
use crate::draft::Draft;
use crate::ini::{Section, section, sections};
use crate::note::Area;
use crate::snapshot::Snapshot;
use fleeti_core::profile::Dhcp;

const FOLDER: &str = "/etc/systemd/network";

/// Settings that are taken, or that change nothing: section and name.
const KNOWN: [(&str, &str); 21] = [
    ("Match", "Name"),
    ("Match", "MACAddress"),
    ("Match", "PermanentMACAddress"),
    ("Match", "Driver"),
    ("Match", "Type"),
    ("Link", "MTUBytes"),
    ("Link", "RequiredForOnline"),
    ("Network", "Description"),
    ("Network", "DHCP"),
    ("Network", "Address"),
    ("Network", "Gateway"),
    ("Network", "DNS"),
    ("Network", "Domains"),
    ("Network", "VLAN"),
    ("Network", "Bridge"),
    ("Network", "Bond"),
    ("Network", "LinkLocalAddressing"),
    ("Network", "IPv6AcceptRA"),
    ("Address", "Address"),
    ("Route", "Gateway"),
    ("Route", "Destination"),
];

pub(super) fn adopt(snapshot: &Snapshot, draft: &mut Draft) {
    for (path, text) in snapshot.texts(FOLDER, ".netdev") {
        draft.handle(path);
        netdev(path, &sections(text), draft);
    }
    for (path, text) in snapshot.texts(FOLDER, ".network") {
        draft.handle(path);
        network(path, &sections(text), draft);
    }
}

fn netdev(path: &str, sections: &[Section], draft: &mut Draft) {
    let get = |of: &str, name: &str| section(sections, of).and_then(|section| section.last(name));
    let name = get("NetDev", "Name").unwrap_or_default();
    match get("NetDev", "Kind").unwrap_or_default() {
        "vlan" => {
            if let Some(id) = get("VLAN", "Id").and_then(|id| id.parse().ok()) {
                vlan(draft, name, id);
            }
        }
        "bridge" => bridge(draft, name, matches!(get("Bridge", "STP"), Some("yes" | "true" | "1"))),
        "bond" => match bond_mode(get("Bond", "Mode").unwrap_or("balance-rr")) {
            Some(mode) => bond(draft, name, mode),
            None => {
                draft.not_taken(Area::Network, path, "has a mode that a profile does not have", "");
            }
        },
        "wireguard" => wireguard::take(path, name, sections, draft),
        kind => {
            let why = format!("makes an interface of the kind {kind:?}, which a profile cannot");
            draft.not_taken(Area::Network, path, &why, "");
        }
    }
}

fn network(path: &str, sections: &[Section], draft: &mut Draft) {
    let all = |of: &'static str, name: &'static str| {
        sections
            .iter()
            .filter(move |section| section.name.eq_ignore_ascii_case(of))
            .flat_map(move |section| section.all(name))
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
    };
    let last = |of: &'static str, name: &'static str| all(of, name).last();
    report_rest(path, sections, draft);
    let addresses = || all("Network", "Address").chain(all("Address", "Address"));
    let name = last("Match", "Name");
    let tunnels = &mut draft.profile.network.wireguard;
    if let Some(tunnel) = tunnels.iter_mut().find(|tunnel| Some(&tunnel.name) == name.as_ref()) {
        extend(&mut tunnel.addresses, addresses());
        return;
    }
    let mut made = interface("");
    made.matches.name = None;
    made.matches.mac = last("Match", "MACAddress").or_else(|| last("Match", "PermanentMACAddress"));
    made.matches.driver = last("Match", "Driver");
    made.dhcp = match last("Network", "DHCP").as_deref() {
        Some("yes" | "true" | "1" | "on" | "both") => Dhcp::Yes,
        Some("ipv4" | "v4") => Dhcp::Ipv4,
        Some("ipv6" | "v6") => Dhcp::Ipv6,
        _ => Dhcp::No,
    };
    made.addresses = addresses().collect();
    made.gateways = default_routes(sections).chain(all("Network", "Gateway")).collect();
    made.dns = all("Network", "DNS").collect();
    made.mtu = last("Link", "MTUBytes").and_then(|mtu| mtu.parse().ok()).unwrap_or_default();
    made.vlans = all("Network", "VLAN").collect();
    made.bridge = last("Network", "Bridge");
    made.bond = last("Network", "Bond");
    let search = all("Network", "Domains").filter(|domain| !domain.starts_with('~'));
    extend(&mut draft.profile.network.dns.search, search.collect::<Vec<_>>());
    let names: Vec<_> = all("Match", "Name").collect();
    let file = path.rsplit('/').next().unwrap_or_default();
    file.trim_end_matches(".network").clone_into(&mut made.name);
    if names.is_empty() && (made.matches.mac.is_some() || made.matches.driver.is_some()) {
        add(draft, made.clone(), path);
    }
    for name in names {
        made.matches.name = Some(name);
        add(draft, made.clone(), path);
    }
}

/// Whether a route leads to every network.
fn is_default(route: &Section) -> bool {
    matches!(route.last("Destination"), None | Some("0.0.0.0/0" | "::/0"))
}

/// Gateways of default routes.
fn default_routes(sections: &[Section]) -> impl Iterator<Item = String> {
    sections
        .iter()
        .filter(|section| section.name.eq_ignore_ascii_case("Route") && is_default(section))
        .filter_map(|route| route.last("Gateway").map(str::to_owned))
}

/// Names the settings that are not taken.
fn report_rest(path: &str, sections: &[Section], draft: &mut Draft) {
    let mut rest = Vec::new();
    for section in sections {
        if section.name.eq_ignore_ascii_case("Route") && !is_default(section) {
            rest.push("a route to a network".to_owned());
            continue;
        }
        for (name, _) in &section.settings {
            let is_known = KNOWN.iter().any(|(of, known)| {
                of.eq_ignore_ascii_case(&section.name) && known.eq_ignore_ascii_case(name)
            });
            if !is_known {
                rest.push(format!("[{}] {name}", section.name));
            }
        }
    }
    if !rest.is_empty() {
        let why = format!("settings are not taken: {}", rest.join(", "));
        draft.not_taken(Area::Network, path, &why, "write a [[files]] entry if you need them");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::profile::BondMode;

    #[test]
    fn networks_and_devices_are_taken_and_the_rest_is_named() {
        let at = |name: &str| format!("{FOLDER}/{name}");
        let snapshot = Snapshot::default()
            .with(&at("10-v.netdev"), "[NetDev]\nName=voice\nKind=vlan\n[VLAN]\nId=20\n")
            .with(&at("10-b.netdev"), "[NetDev]\nName=bond0\nKind=bond\n[Bond]\nMode=802.3ad\n")
            .with(&at("10-t.netdev"), "[NetDev]\nName=t\nKind=tun\n")
            .with(
                &at("20-lan.network"),
                "[Match]\nName=en* eth*\n[Network]\nAddress=192.0.2.10/24\nDNS=192.0.2.53\nVLAN=voice\n\
                 Domains=example.com ~x\nMulticastDNS=yes\n[Route]\nGateway=192.0.2.1\n\
                 [Route]\nGateway=192.0.2.2\nDestination=10.0.0.0/8\n[Link]\nMTUBytes=9000\n",
            )
            .with(&at("30-m.network"), "[Match]\nMACAddress=52:54:00:12:34:56\n[Network]\nDHCP=ipv4\nBond=bond0\n");
        let mut draft = crate::draft::made();
        adopt(&snapshot, &mut draft);
        let network = &draft.profile.network;
        assert_eq!(network.bonds[0].mode, BondMode::Lacp);
        let names: Vec<_> = network.interfaces.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(names, ["20-lan", "20-lan-2", "30-m"]);
        let lan = &network.interfaces[1];
        assert_eq!(lan.matches.name.as_deref(), Some("eth*"));
        assert_eq!((lan.gateways.as_slice(), lan.mtu), (&["192.0.2.1".to_owned()][..], 9000));
        assert_eq!(network.dns.search, ["example.com"]);
        assert_eq!(network.interfaces[2].dhcp, Dhcp::Ipv4);
        let whys: Vec<_> = draft.notes.iter().map(|note| note.why.as_str()).collect();
        assert_eq!(whys.len(), 2, "{whys:?}");
        assert!(whys[1].ends_with("[Network] MulticastDNS, a route to a network"), "{whys:?}");
    }
}
