//! Rules for the network.

use super::{Sink, installs};
use crate::profile::{
    Firewall, FirewallRule, Interface, Network, Profile, UnitState, Wifi, WifiSecurity, WireGuard,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;

pub(super) fn check(profile: &Profile, sink: &mut Sink) {
    let network = &profile.network;
    for (i, interface) in network.interfaces.iter().enumerate() {
        check_interface(&format!("network.interfaces[{i}]"), interface, network, sink);
    }
    super::unique("network.interfaces", "name", network.interfaces.iter().map(|i| &i.name), sink);
    devices(network, sink);
    for (i, wifi) in network.wifi.iter().enumerate() {
        check_wifi(&format!("network.wifi[{i}]"), wifi, profile, sink);
    }
    super::unique("network.wifi", "ssid", network.wifi.iter().map(|w| &w.ssid), sink);
    for (i, tunnel) in network.wireguard.iter().enumerate() {
        check_wireguard(&format!("network.wireguard[{i}]"), tunnel, profile, sink);
    }
    names(network, sink);
    firewall(profile, &network.firewall, sink);
}

/// Rules of the packet filter that open ports without naming what listens on them.
pub(super) fn doubt(profile: &Profile, sink: &mut Sink) {
    let firewall = &profile.network.firewall;
    if !firewall.enabled && !firewall.rules.is_empty() {
        let remedy = "set network.firewall.enabled = true";
        sink.say("network.firewall.rules", "have no effect: the packet filter is off", remedy);
    }
    for (i, rule) in firewall.rules.iter().enumerate() {
        if rule.service.is_none() {
            let path = format!("network.firewall.rules[{i}].service");
            let remedy = "name the unit that listens, such as nginx.service";
            sink.say(path, "nothing is known to listen on these ports", remedy);
        }
    }
}

/// The name of a network interface in the kernel: at most 15 characters.
fn is_interface(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// An address with prefix length.
fn is_network(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, prefix)| {
        let bits = match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        prefix.bytes().all(|b| b.is_ascii_digit()) && prefix.parse::<u8>().is_ok_and(|p| p <= bits)
    })
}

fn addresses(path: &str, list: &[String], sink: &mut Sink) {
    for (i, address) in list.iter().enumerate() {
        if address.parse::<IpAddr>().is_err() {
            let remedy = "write an address such as 192.0.2.1";
            sink.say(format!("{path}[{i}]"), "is not an IP address", remedy);
        }
    }
}

fn networks(path: &str, list: &[String], sink: &mut Sink) {
    for (i, network) in list.iter().enumerate() {
        if !is_network(network) {
            let remedy = "write an address with prefix length, such as 192.0.2.10/24";
            sink.say(format!("{path}[{i}]"), "is not an address with prefix length", remedy);
        }
    }
}

fn check_interface(path: &str, interface: &Interface, network: &Network, sink: &mut Sink) {
    if !super::is_label(&interface.name) {
        sink.say(format!("{path}.name"), "is not a name", "use letters, digits and '-'");
    }
    let matches = &interface.matches;
    let word = |text: &Option<String>| {
        text.as_ref().is_none_or(|text| {
            super::is_line(text, 64)
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"*?-_.:[]!".contains(&b))
        })
    };
    if matches.name.is_none() && matches.mac.is_none() && matches.driver.is_none() {
        let remedy = "write match.name = \"en*\"";
        sink.say(format!("{path}.match"), "matches nothing", remedy);
    }
    if !word(&matches.name) || !word(&matches.driver) {
        let remedy = "write a name such as en* and a driver such as e1000e";
        sink.say(format!("{path}.match"), "is not a name or a driver", remedy);
    }
    let is_mac = |mac: &String| {
        let parts: Vec<_> = mac.split(':').collect();
        parts.len() == 6
            && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    if matches.mac.as_ref().is_some_and(|mac| !is_mac(mac)) {
        let remedy = "write it as 52:54:00:12:34:56";
        sink.say(format!("{path}.match.mac"), "is not a MAC address", remedy);
    }
    networks(&format!("{path}.addresses"), &interface.addresses, sink);
    addresses(&format!("{path}.gateways"), &interface.gateways, sink);
    addresses(&format!("{path}.dns"), &interface.dns, sink);
    if interface.mtu != 0 && !(576..=65535).contains(&interface.mtu) {
        sink.say(format!("{path}.mtu"), "is out of range", "use 576 to 65535, or 0");
    }
    for (i, vlan) in interface.vlans.iter().enumerate() {
        if !network.vlans.iter().any(|v| v.name == *vlan) {
            let remedy = "add it to network.vlans";
            sink.say(format!("{path}.vlans[{i}]"), "is not a VLAN of this profile", remedy);
        }
    }
    let is_unknown_bridge =
        |name: &String| !network.bridges.iter().any(|bridge| bridge.name == *name);
    if interface.bridge.as_ref().is_some_and(is_unknown_bridge) {
        let remedy = "add it to network.bridges";
        sink.say(format!("{path}.bridge"), "is not a bridge of this profile", remedy);
    }
    let is_unknown_bond = |name: &String| !network.bonds.iter().any(|bond| bond.name == *name);
    if interface.bond.as_ref().is_some_and(is_unknown_bond) {
        let remedy = "add it to network.bonds";
        sink.say(format!("{path}.bond"), "is not a bond of this profile", remedy);
    }
    if interface.bridge.is_some() && interface.bond.is_some() {
        let remedy = "put the bond into the bridge";
        sink.say(format!("{path}.bond"), "belongs to a bridge as well", remedy);
    }
}

/// Interfaces that the profile makes: their names are unique, and something uses them.
fn devices(network: &Network, sink: &mut Sink) {
    let made = network
        .vlans
        .iter()
        .map(|v| ("vlans", &v.name))
        .chain(network.bridges.iter().map(|b| ("bridges", &b.name)))
        .chain(network.bonds.iter().map(|b| ("bonds", &b.name)))
        .chain(network.wireguard.iter().map(|w| ("wireguard", &w.name)));
    let mut seen: Vec<(&str, &String)> = Vec::new();
    for (list, name) in made {
        let at = seen.iter().filter(|(other, _)| *other == list).count();
        let path = format!("network.{list}[{at}].name");
        if !is_interface(name) {
            let remedy = "use at most 15 letters, digits and '-'";
            sink.say(path, "is not the name of an interface", remedy);
        } else if seen.iter().any(|(_, other)| *other == name) {
            sink.say(path, "is used twice", "choose another name");
        }
        seen.push((list, name));
    }
    for (i, vlan) in network.vlans.iter().enumerate() {
        if !network.interfaces.iter().any(|interface| interface.vlans.contains(&vlan.name)) {
            let remedy = "name it in the vlans of an interface";
            sink.say(format!("network.vlans[{i}]"), "is on no interface", remedy);
        }
    }
}

fn secret(path: String, name: Option<&String>, profile: &Profile, sink: &mut Sink) {
    let Some(name) = name else { return };
    match profile.secrets.iter().find(|secret| secret.name == *name) {
        None => {
            let remedy = "declare it in [[secrets]] with boot = true";
            sink.say(path, "is not a secret of this profile", remedy);
        }
        Some(secret) if !secret.boot => {
            let remedy = "set boot = true for the secret";
            sink.say(path, "arrives only after the network is there", remedy);
        }
        Some(_) => {}
    }
}

fn check_wifi(path: &str, wifi: &Wifi, profile: &Profile, sink: &mut Sink) {
    if !super::is_line(&wifi.ssid, 32) {
        sink.say(format!("{path}.ssid"), "is not an SSID", "use 1 to 32 bytes");
    }
    let needs = matches!(wifi.security, WifiSecurity::Wpa2 | WifiSecurity::Wpa3);
    let at = format!("{path}.passphrase_secret");
    match (needs, &wifi.passphrase_secret) {
        (true, None) => sink.say(at, "is missing", "name the secret with the passphrase"),
        (false, Some(_)) => sink.say(at, "is not used with this security", "remove it"),
        (_, name) => secret(at, name.as_ref(), profile, sink),
    }
    if !installs(profile, "iwd") && !installs(profile, "wpasupplicant") {
        let remedy = "add wpasupplicant to software.packages";
        sink.say(path, "needs a program for Wi-Fi", remedy);
    }
}

fn check_wireguard(path: &str, tunnel: &WireGuard, profile: &Profile, sink: &mut Sink) {
    let at = format!("{path}.private_key_secret");
    secret(at, Some(&tunnel.private_key_secret), profile, sink);
    networks(&format!("{path}.addresses"), &tunnel.addresses, sink);
    for (i, peer) in tunnel.peers.iter().enumerate() {
        let path = format!("{path}.peers[{i}]");
        if !STANDARD.decode(&peer.public_key).is_ok_and(|key| key.len() == 32) {
            let remedy = "paste the output of `wg pubkey`";
            sink.say(format!("{path}.public_key"), "is not a public key of WireGuard", remedy);
        }
        networks(&format!("{path}.allowed_ips"), &peer.allowed_ips, sink);
        for (i, network) in peer.allowed_ips.iter().enumerate() {
            if network.ends_with("/0") {
                let message = "routes everything, also the packets of the tunnel itself";
                let remedy = "name the networks behind the peer";
                sink.say(format!("{path}.allowed_ips[{i}]"), message, remedy);
            }
        }
        if peer.endpoint.as_ref().is_some_and(|endpoint| !is_endpoint(endpoint)) {
            let remedy = "write it as vpn.example.com:51820";
            sink.say(format!("{path}.endpoint"), "is not HOST:PORT", remedy);
        }
        let at = format!("{path}.preshared_key_secret");
        secret(at, peer.preshared_key_secret.as_ref(), profile, sink);
    }
}

fn is_endpoint(endpoint: &str) -> bool {
    endpoint.parse::<std::net::SocketAddr>().is_ok()
        || endpoint.rsplit_once(':').is_some_and(|(host, port)| {
            super::is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
}

fn names(network: &Network, sink: &mut Sink) {
    addresses("network.dns.servers", &network.dns.servers, sink);
    for (list, hosts) in
        [("dns.search", &network.dns.search), ("time.servers", &network.time.servers)]
    {
        for (i, host) in hosts.iter().enumerate() {
            if !super::is_host(host) && host.parse::<IpAddr>().is_err() {
                let path = format!("network.{list}[{i}]");
                sink.say(path, "is not a host name", "write a name such as example.com");
            }
        }
    }
    let proxy = &network.proxy;
    if let Some(url) = &proxy.url {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let is_plain = rest.is_some_and(|rest| {
            super::is_line(rest, 256) && !rest.contains(|c: char| c.is_whitespace() || c == '"')
        });
        if !is_plain {
            let remedy = "write it as http://proxy.example.com:3128";
            sink.say("network.proxy.url", "is not an http or https address", remedy);
        } else if url.contains('@') {
            // INVARIANT: the message does not repeat the value, which has a password.
            let remedy = "use a proxy without a password; an image is not secret";
            sink.say("network.proxy.url", "contains a password", remedy);
        }
    }
    for (i, host) in proxy.except.iter().enumerate() {
        let is_plain = super::is_line(host, 256)
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:/*".contains(&b));
        if !is_plain {
            let path = format!("network.proxy.except[{i}]");
            sink.say(path, "is not a host, a domain or a network", "write .example.com");
        }
    }
}

fn firewall(profile: &Profile, firewall: &Firewall, sink: &mut Sink) {
    for (i, rule) in firewall.rules.iter().enumerate() {
        check_rule(&format!("network.firewall.rules[{i}]"), rule, profile, sink);
    }
    let names = firewall.rules.iter().map(|r| &r.name);
    super::unique("network.firewall.rules", "name", names, sink);
}

fn check_rule(path: &str, rule: &FirewallRule, profile: &Profile, sink: &mut Sink) {
    if !super::is_label(&rule.name) {
        sink.say(format!("{path}.name"), "is not a name", "use letters, digits and '-'");
    }
    if rule.ports.is_empty() {
        sink.say(format!("{path}.ports"), "is empty", "write ports such as [\"80\", \"443\"]");
    }
    for (i, ports) in rule.ports.iter().enumerate() {
        let (low, high) = ports.split_once('-').unwrap_or((ports, ports));
        let number = |text: &str| {
            text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten()
        };
        let is_range = matches!((number(low), number(high)), (Some(l), Some(h)) if 0 < l && l <= h);
        if !is_range {
            let remedy = "write 80 or 8000-8080";
            sink.say(format!("{path}.ports[{i}]"), "is not a port or a range of ports", remedy);
        }
    }
    networks(&format!("{path}.from"), &rule.from, sink);
    if rule.interface.as_ref().is_some_and(|name| !is_interface(name.trim_end_matches('*'))) {
        let remedy = "write a name such as br0 or en*";
        sink.say(format!("{path}.interface"), "is not the name of an interface", remedy);
    }
    if let Some(unit) = &rule.service {
        let is_masked =
            profile.services.iter().any(|s| s.name == *unit && s.state == UnitState::Masked);
        if !super::services::is_unit(unit) {
            let remedy = "write it with its suffix, as in nginx.service";
            sink.say(format!("{path}.service"), "is not a unit name", remedy);
        } else if is_masked {
            let remedy = "remove the rule, or enable the service";
            sink.say(format!("{path}.service"), "is masked by this profile", remedy);
        }
    }
}
