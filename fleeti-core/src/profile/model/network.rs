//! Network: interfaces, Wi-Fi, WireGuard, names, time, proxy, firewall.

use super::is_default;
use serde::{Deserialize, Serialize};

/// The network. Without interfaces, every wired one uses DHCP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Interfaces and their addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// VLANs (IEEE 802.1Q).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<Vlan>,
    /// Bridges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bridges: Vec<Bridge>,
    /// Bonds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bonds: Vec<Bond>,
    /// Wi-Fi networks, in order of preference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wifi: Vec<Wifi>,
    /// WireGuard tunnels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wireguard: Vec<WireGuard>,
    /// Name resolution.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub dns: Dns,
    /// Time synchronisation.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub time: Time,
    /// HTTP proxy of the system's services.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub proxy: Proxy,
    /// Packet filter.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        deserialize_with = "crate::strict::object"
    )]
    pub firewall: Firewall,
}

/// An interface, or several that match, and their addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Name of this entry, unique in the profile.
    #[schema(example = "lan")]
    pub name: String,
    /// Which interfaces. All that is given must match.
    #[serde(rename = "match", deserialize_with = "crate::strict::object")]
    pub matches: Match,
    /// Which addresses come from DHCP.
    #[serde(default)]
    pub dhcp: Dhcp,
    /// Static addresses with prefix length.
    #[schema(example = json!(["192.0.2.10/24", "2001:db8::10/64"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Default gateways.
    #[schema(example = json!(["192.0.2.1"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<String>,
    /// DNS servers of this interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Maximum transmission unit, bytes; 0 for the interface's own.
    #[schema(maximum = 65535)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub mtu: u32,
    /// Names of VLANs on this interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<String>,
    /// Name of the bridge that the interface belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Name of the bond that the interface belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond: Option<String>,
    /// Authenticate by IEEE 802.1X (EAP-TLS) with the device's certificate.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dot1x: bool,
}

/// Which interfaces an entry is for (systemd.network(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Name of the interface, with `*` as a wildcard.
    #[schema(example = "en*")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// MAC address.
    #[schema(example = "52:54:00:12:34:56")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Driver.
    #[schema(example = "e1000e")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

/// Which addresses come from DHCP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dhcp {
    /// IPv4 and IPv6.
    #[default]
    Yes,
    /// None.
    No,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

/// A VLAN (IEEE 802.1Q).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Vlan {
    /// Name of its interface, at most 15 characters.
    #[schema(example = "voice")]
    pub name: String,
    /// VLAN id.
    #[schema(minimum = 1, maximum = 4094)]
    pub id: u32,
}

/// A bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    /// Name of its interface, at most 15 characters.
    #[schema(example = "br0")]
    pub name: String,
    /// Use the spanning tree protocol.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spanning_tree: bool,
}

/// A bond of several interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Bond {
    /// Name of its interface, at most 15 characters.
    #[schema(example = "bond0")]
    pub name: String,
    /// How the interfaces are used.
    #[serde(default)]
    pub mode: BondMode,
}

/// How the interfaces of a bond are used (systemd.netdev(5)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BondMode {
    /// One is used, the others stand by.
    #[default]
    ActiveBackup,
    /// Link aggregation (IEEE 802.3ad).
    #[serde(rename = "802.3ad")]
    Lacp,
    /// In turn.
    BalanceRr,
}

/// A Wi-Fi network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wifi {
    /// Name of the network (SSID).
    #[schema(example = "office")]
    pub ssid: String,
    /// How the device authenticates.
    pub security: WifiSecurity,
    /// Name of the secret with the passphrase, for WPA2 and WPA3.
    #[schema(example = "wifi-office")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_secret: Option<String>,
    /// The network does not announce its name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hidden: bool,
}

/// How a device authenticates to a Wi-Fi network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WifiSecurity {
    /// No authentication, no encryption.
    Open,
    /// WPA2 with a passphrase.
    Wpa2,
    /// WPA3 (SAE) with a passphrase.
    Wpa3,
    /// EAP-TLS with the device's certificate (WPA3-Enterprise).
    EapTls,
}

/// A WireGuard tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WireGuard {
    /// Name of its interface, at most 15 characters.
    #[schema(example = "wg0")]
    pub name: String,
    /// Name of the secret with the private key.
    #[schema(example = "wg-key")]
    pub private_key_secret: String,
    /// UDP port to listen on; 0 for any.
    #[schema(maximum = 65535)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub listen_port: u32,
    /// Addresses with prefix length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Peers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
}

/// A peer of a WireGuard tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Public key, Base64.
    pub public_key: String,
    /// `HOST:PORT`, for a peer that the device connects to.
    #[schema(example = "vpn.example.com:51820")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Addresses that are routed to the peer.
    #[schema(example = json!(["10.8.0.0/16"]))]
    pub allowed_ips: Vec<String>,
    /// Seconds between keepalive messages; 0 for none.
    #[schema(maximum = 65535)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub keepalive_s: u32,
    /// Name of the secret with the preshared key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preshared_key_secret: Option<String>,
}

/// Name resolution (systemd-resolved).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// DNS servers, for every interface.
    #[schema(example = json!(["192.0.2.53"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// Search domains.
    #[schema(example = json!(["example.com"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// DNS over TLS.
    #[serde(default)]
    pub over_tls: OverTls,
    /// Refuse answers without a valid DNSSEC signature.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dnssec: bool,
}

/// DNS over TLS (resolved.conf(5)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverTls {
    /// Never.
    #[default]
    No,
    /// If the server supports it.
    Opportunistic,
    /// Always.
    Yes,
}

/// Time synchronisation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// NTP servers. Empty for those of DHCP and of the base.
    #[schema(example = json!(["ntp.example.com"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
}

/// HTTP proxy of the system's services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// Proxy for `http` and `https`.
    #[schema(example = "http://proxy.example.com:3128")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Hosts, domains and networks that are reached without the proxy.
    #[schema(example = json!(["localhost", ".example.com"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

/// Packet filter (nftables).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Firewall {
    /// Drop every incoming connection that no rule allows. Answers, ICMP and DHCP always pass.
    #[serde(default, skip_serializing_if = "is_default")]
    pub enabled: bool,
    /// Rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<FirewallRule>,
}

/// A rule of the packet filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FirewallRule {
    /// Name, unique in the profile.
    #[schema(example = "web")]
    pub name: String,
    /// Incoming to the device, or forwarded by it.
    #[serde(default)]
    pub direction: Direction,
    /// The unit that listens on the ports, for example `nginx.service`.
    #[schema(example = "nginx.service")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Ports or ranges of ports.
    #[schema(example = json!(["80", "443", "8000-8080"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Networks that may connect. Empty for every network.
    #[schema(example = json!(["192.0.2.0/24"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// Interface on which the connection arrives. Without one, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// The direction of a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To the device.
    #[default]
    Incoming,
    /// Through the device.
    Forward,
}

/// Transport protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}
