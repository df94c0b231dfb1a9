//! Interfaces, name resolution and time: files of systemd-networkd, -resolved and -timesyncd.

use super::entry::Additions;
use super::text::line;
use fleeti_core::profile::{Bond, BondMode, Bridge, Dhcp, Dns, Interface, OverTls, Profile, Vlan};

/// Files of networkd. The first one that matches an interface is for it, so these are read before
/// Fleeti's own, which uses DHCP on every wired interface.
pub(super) const FOLDER: &str = "/usr/lib/systemd/network";

pub(super) fn add(profile: &Profile, out: &mut Additions) {
    let network = &profile.network;
    for (i, interface) in network.interfaces.iter().enumerate() {
        let path = format!("{FOLDER}/05-{i:03}-{}.network", interface.name);
        out.text(&path, 0o644, network_file(interface));
    }
    let made = network
        .vlans
        .iter()
        .map(|v| (&v.name, vlan(v)))
        .chain(network.bridges.iter().map(|b| (&b.name, bridge(b))))
        .chain(network.bonds.iter().map(|b| (&b.name, bond(b))));
    for (name, text) in made {
        out.text(&format!("{FOLDER}/05-{name}.netdev"), 0o644, text);
        // An interface that no entry of the profile matches, as a wired one: with DHCP.
        let text = format!("[Match]\nName={name}\n\n[Network]\nDHCP=yes\n");
        out.text(&format!("{FOLDER}/06-{name}.network"), 0o644, text);
    }
    out.config("/etc/systemd/resolved.conf.d/60-fleeti.conf", resolved(&network.dns));
    let servers = &network.time.servers;
    let time = (!servers.is_empty()).then(|| format!("[Time]\nNTP={}\n", servers.join(" ")));
    out.config("/etc/systemd/timesyncd.conf.d/60-fleeti.conf", time);
}

/// The text of a file as in systemd.network(5).
fn network_file(interface: &Interface) -> String {
    let matches = &interface.matches;
    let mut text = "[Match]\n".to_owned();
    let mut set = |name: &str, value: &str| text.push_str(&format!("{name}={}\n", line(value)));
    if let Some(name) = &matches.name {
        set("Name", name);
    }
    if let Some(mac) = &matches.mac {
        set("MACAddress", mac);
        if matches.name.is_none() {
            // VLANs, bridges and bonds take over the address of an interface below them.
            set("Kind", "!*");
        }
    }
    if let Some(driver) = &matches.driver {
        set("Driver", driver);
    }
    if interface.mtu > 0 {
        text.push_str(&format!("\n[Link]\nMTUBytes={}\n", interface.mtu));
    }
    text.push_str("\n[Network]\n");
    let mut set = |name: &str, value: &str| text.push_str(&format!("{name}={}\n", line(value)));
    if interface.bridge.is_some() || interface.bond.is_some() {
        // The addresses are those of the bridge or the bond.
        set("DHCP", "no");
        set("LinkLocalAddressing", "no");
        set("IPv6AcceptRA", "no");
    } else {
        set("DHCP", dhcp(interface.dhcp));
    }
    let lists = [
        ("Address", &interface.addresses),
        ("Gateway", &interface.gateways),
        ("DNS", &interface.dns),
        ("VLAN", &interface.vlans),
    ];
    for (name, values) in lists {
        values.iter().for_each(|value| set(name, value));
    }
    for (name, value) in [("Bridge", &interface.bridge), ("Bond", &interface.bond)] {
        value.iter().for_each(|value| set(name, value));
    }
    text
}

fn dhcp(dhcp: Dhcp) -> &'static str {
    match dhcp {
        Dhcp::Yes => "yes",
        Dhcp::No => "no",
        Dhcp::Ipv4 => "ipv4",
        Dhcp::Ipv6 => "ipv6",
    }
}

/// The beginning of a file as in systemd.netdev(5).
fn netdev(name: &str, kind: &str) -> String {
    format!("[NetDev]\nName={name}\nKind={kind}\n\n")
}

fn vlan(vlan: &Vlan) -> String {
    format!("{}[VLAN]\nId={}\n", netdev(&vlan.name, "vlan"), vlan.id)
}

fn bridge(bridge: &Bridge) -> String {
    let spanning_tree = if bridge.spanning_tree { "yes" } else { "no" };
    format!("{}[Bridge]\nSTP={spanning_tree}\n", netdev(&bridge.name, "bridge"))
}

fn bond(bond: &Bond) -> String {
    let mode = match bond.mode {
        BondMode::ActiveBackup => "active-backup",
        BondMode::Lacp => "802.3ad",
        BondMode::BalanceRr => "balance-rr",
    };
    // Without monitoring the kernel does not notice a link that went down.
    format!("{}[Bond]\nMode={mode}\nMIIMonitorSec=100ms\n", netdev(&bond.name, "bond"))
}

/// The settings of resolved.conf(5), if the profile has any.
fn resolved(dns: &Dns) -> Option<String> {
    if *dns == Dns::default() {
        return None;
    }
    let mut text = "[Resolve]\n".to_owned();
    for (name, values) in [("DNS", &dns.servers), ("Domains", &dns.search)] {
        if !values.is_empty() {
            text.push_str(&format!("{name}={}\n", values.join(" ")));
        }
    }
    let over_tls = match dns.over_tls {
        OverTls::No => "no",
        OverTls::Opportunistic => "opportunistic",
        OverTls::Yes => "yes",
    };
    text.push_str(&format!("DNSOverTLS={over_tls}\n"));
    if dns.dnssec {
        text.push_str("DNSSEC=yes\n");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::FOLDER;

    const NETWORK: &str = "[[network.interfaces]]\nname = \"lan\"\n\
        match = { name = \"en*\", driver = \"e1000e\" }\ndhcp = \"no\"\n\
        addresses = [\"192.0.2.10/24\", \"2001:db8::10/64\"]\ngateways = [\"192.0.2.1\"]\n\
        dns = [\"192.0.2.53\"]\nmtu = 9000\nvlans = [\"voice\"]\n\
        [[network.interfaces]]\nname = \"left\"\nmatch = { mac = \"52:54:00:12:34:56\" }\n\
        bond = \"bond0\"\n\
        [[network.interfaces]]\nname = \"port\"\nmatch = { name = \"bond0\" }\nbridge = \"br0\"\n\
        [[network.interfaces]]\nname = \"four\"\nmatch = { name = \"wlan0\" }\ndhcp = \"ipv4\"\n\
        [[network.vlans]]\nname = \"voice\"\nid = 100\n\
        [[network.bridges]]\nname = \"br0\"\nspanning_tree = true\n\
        [[network.bonds]]\nname = \"bond0\"\nmode = \"802.3ad\"\n";

    #[test]
    fn an_interface_has_the_addresses_of_the_profile() {
        let o = sample::overlay(NETWORK);
        assert_eq!(
            o.text(&format!("{FOLDER}/05-000-lan.network")),
            "[Match]\nName=en*\nDriver=e1000e\n\n[Link]\nMTUBytes=9000\n\n[Network]\nDHCP=no\n\
             Address=192.0.2.10/24\nAddress=2001:db8::10/64\nGateway=192.0.2.1\nDNS=192.0.2.53\n\
             VLAN=voice\n"
        );
        assert_eq!(
            o.text(&format!("{FOLDER}/05-003-four.network")),
            "[Match]\nName=wlan0\n\n[Network]\nDHCP=ipv4\n"
        );
    }

    #[test]
    fn an_interface_of_a_bond_or_a_bridge_has_no_addresses_of_its_own() {
        let o = sample::overlay(NETWORK);
        assert_eq!(
            o.text(&format!("{FOLDER}/05-001-left.network")),
            "[Match]\nMACAddress=52:54:00:12:34:56\nKind=!*\n\n[Network]\nDHCP=no\n\
             LinkLocalAddressing=no\nIPv6AcceptRA=no\nBond=bond0\n"
        );
        assert_eq!(
            o.text(&format!("{FOLDER}/05-002-port.network")),
            "[Match]\nName=bond0\n\n[Network]\nDHCP=no\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n\
             Bridge=br0\n"
        );
    }

    #[test]
    fn vlans_bridges_and_bonds_are_made() {
        let o = sample::overlay(NETWORK);
        let netdev = |name: &str| o.text(&format!("{FOLDER}/05-{name}.netdev"));
        assert_eq!(netdev("voice"), "[NetDev]\nName=voice\nKind=vlan\n\n[VLAN]\nId=100\n");
        assert_eq!(netdev("br0"), "[NetDev]\nName=br0\nKind=bridge\n\n[Bridge]\nSTP=yes\n");
        assert_eq!(
            netdev("bond0"),
            "[NetDev]\nName=bond0\nKind=bond\n\n[Bond]\nMode=802.3ad\nMIIMonitorSec=100ms\n"
        );
        assert!(o.text(&format!("{FOLDER}/06-voice.network")).contains("DHCP=yes"));
    }

    #[test]
    fn every_wired_interface_without_an_entry_uses_dhcp() {
        for profile in ["", NETWORK] {
            let o = sample::overlay(profile);
            let text = o.text(&format!("{FOLDER}/10-ethernet.network"));
            assert_eq!(text, "[Match]\nType=ether\n\n[Network]\nDHCP=yes\n");
        }
    }

    #[test]
    fn names_and_time_come_from_the_servers_of_the_profile() {
        let o = sample::overlay(
            "[network.dns]\nservers = [\"192.0.2.53\"]\nsearch = [\"example.com\"]\n\
             over_tls = \"opportunistic\"\ndnssec = true\n\
             [network.time]\nservers = [\"ntp.example.com\"]\n",
        );
        assert_eq!(
            o.text("/etc/systemd/resolved.conf.d/60-fleeti.conf"),
            "[Resolve]\nDNS=192.0.2.53\nDomains=example.com\nDNSOverTLS=opportunistic\nDNSSEC=yes\n"
        );
        let time = o.text("/etc/systemd/timesyncd.conf.d/60-fleeti.conf");
        assert_eq!(time, "[Time]\nNTP=ntp.example.com\n");
        let plain = sample::overlay("");
        assert!(plain.find("/etc/systemd/resolved.conf.d/60-fleeti.conf").is_none());
        assert!(plain.find("/etc/systemd/timesyncd.conf.d/60-fleeti.conf").is_none());
    }
}
