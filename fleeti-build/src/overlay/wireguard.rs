//! Tunnels of WireGuard: files of systemd-networkd, which gets their keys as credentials
//! (systemd.exec(5), systemd.netdev(5)). No key is in an image.

use super::entry::Additions;
use super::network::FOLDER;
use super::text::line;
use fleeti_core::profile::{Peer, Profile, Secret, WireGuard};

/// The unit that reads the keys.
const NETWORKD: &str = "systemd-networkd.service";
/// Where the agent puts secrets of the boot, before the network starts.
const SECRETS: &str = "/run/fleeti-boot-secrets";
/// The credential of a device that has no key yet. It is no key, so that networkd leaves out the
/// tunnel, or the peer; without it networkd would not start.
const NO_KEY: &str = "none";

pub(super) fn add(profile: &Profile, out: &mut Additions) {
    let tunnels = &profile.network.wireguard;
    for tunnel in tunnels {
        let name = &tunnel.name;
        out.text(&format!("{FOLDER}/05-{name}.netdev"), 0o644, netdev(tunnel));
        // Before those of the profile: the addresses of a tunnel are its own.
        out.text(&format!("{FOLDER}/04-{name}.network"), 0o644, network(tunnel));
    }
    let keys: String = tunnels.iter().flat_map(credentials).collect();
    let path = format!("/usr/lib/systemd/system/{NETWORKD}.d/60-fleeti-wireguard.conf");
    out.config(&path, (!keys.is_empty()).then(|| format!("[Service]\n{keys}")));
}

/// A secret with the units that read it: networkd reads keys of tunnels when it starts.
pub(super) fn with_reader(mut secret: Secret, profile: &Profile) -> Secret {
    let tunnels = &profile.network.wireguard;
    let is_key = tunnels.iter().flat_map(keys).any(|(_, name)| *name == secret.name);
    if is_key && !secret.restart.iter().any(|unit| unit == NETWORKD) {
        secret.restart.push(NETWORKD.to_owned());
    }
    secret
}

/// The credential and the secret of each key of a tunnel.
fn keys(tunnel: &WireGuard) -> impl Iterator<Item = (String, &String)> {
    let shared = tunnel.peers.iter().enumerate().filter_map(|(i, peer)| {
        peer.preshared_key_secret.as_ref().map(|secret| (shared_key(tunnel, i), secret))
    });
    std::iter::once((private_key(tunnel), &tunnel.private_key_secret)).chain(shared)
}

/// networkd imports credentials of such names.
fn private_key(tunnel: &WireGuard) -> String {
    format!("network.wireguard.{}", tunnel.name)
}

fn shared_key(tunnel: &WireGuard, peer: usize) -> String {
    format!("network.wireguard.{}.peer-{peer}", tunnel.name)
}

fn credentials(tunnel: &WireGuard) -> impl Iterator<Item = String> {
    keys(tunnel).map(|(id, secret)| {
        format!("LoadCredential={id}:{SECRETS}/{secret}\nSetCredential={id}:{NO_KEY}\n")
    })
}

fn netdev(tunnel: &WireGuard) -> String {
    let WireGuard { name, listen_port, peers, .. } = tunnel;
    let mut text = format!(
        "[NetDev]\nName={name}\nKind=wireguard\n\n[WireGuard]\nPrivateKey=@{}\n",
        private_key(tunnel)
    );
    if *listen_port > 0 {
        text.push_str(&format!("ListenPort={listen_port}\n"));
    }
    // The allowed addresses of the peers are routed to them.
    text.push_str("RouteTable=main\n");
    peers.iter().enumerate().for_each(|(i, peer)| text.push_str(&section(tunnel, i, peer)));
    text
}

fn section(tunnel: &WireGuard, i: usize, peer: &Peer) -> String {
    let Peer { public_key, endpoint, allowed_ips, keepalive_s, preshared_key_secret } = peer;
    let mut text = format!("\n[WireGuardPeer]\nPublicKey={public_key}\n");
    if !allowed_ips.is_empty() {
        text.push_str(&format!("AllowedIPs={}\n", allowed_ips.join(",")));
    }
    if let Some(endpoint) = endpoint {
        text.push_str(&format!("Endpoint={}\n", line(endpoint)));
    }
    if *keepalive_s > 0 {
        text.push_str(&format!("PersistentKeepalive={keepalive_s}\n"));
    }
    if preshared_key_secret.is_some() {
        text.push_str(&format!("PresharedKey=@{}\n", shared_key(tunnel, i)));
    }
    text
}

fn network(tunnel: &WireGuard) -> String {
    let mut text = format!("[Match]\nName={}\n\n[Network]\n", tunnel.name);
    tunnel.addresses.iter().for_each(|address| text.push_str(&format!("Address={address}\n")));
    text
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::FOLDER;

    const TUNNEL: &str = "[[secrets]]\nname = \"key\"\nboot = true\n[[secrets]]\nname = \"psk\"\n\
        boot = true\nrestart = [\"app.service\"]\n[[secrets]]\nname = \"other\"\nboot = true\n\
        [[network.wireguard]]\nname = \"wg0\"\nprivate_key_secret = \"key\"\n\
        listen_port = 51820\naddresses = [\"10.8.0.2/24\"]\n[[network.wireguard.peers]]\n\
        public_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\"\n\
        endpoint = \"vpn.example.com:51820\"\nallowed_ips = [\"10.8.0.0/16\", \"10.9.0.0/16\"]\n\
        keepalive_s = 25\npreshared_key_secret = \"psk\"\n";

    #[test]
    fn a_tunnel_has_its_peers_addresses_and_routes() {
        let o = sample::overlay(TUNNEL);
        assert_eq!(
            o.text(&format!("{FOLDER}/05-wg0.netdev")),
            "[NetDev]\nName=wg0\nKind=wireguard\n\n[WireGuard]\n\
             PrivateKey=@network.wireguard.wg0\nListenPort=51820\nRouteTable=main\n\n\
             [WireGuardPeer]\nPublicKey=xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n\
             AllowedIPs=10.8.0.0/16,10.9.0.0/16\nEndpoint=vpn.example.com:51820\n\
             PersistentKeepalive=25\nPresharedKey=@network.wireguard.wg0.peer-0\n"
        );
        assert_eq!(
            o.text(&format!("{FOLDER}/04-wg0.network")),
            "[Match]\nName=wg0\n\n[Network]\nAddress=10.8.0.2/24\n"
        );
    }

    #[test]
    fn networkd_starts_without_a_key_and_gets_the_one_that_the_device_has() {
        let o = sample::overlay(TUNNEL);
        assert_eq!(
            o.text("/usr/lib/systemd/system/systemd-networkd.service.d/60-fleeti-wireguard.conf"),
            "[Service]\n\
             LoadCredential=network.wireguard.wg0:/run/fleeti-boot-secrets/key\n\
             SetCredential=network.wireguard.wg0:none\n\
             LoadCredential=network.wireguard.wg0.peer-0:/run/fleeti-boot-secrets/psk\n\
             SetCredential=network.wireguard.wg0.peer-0:none\n"
        );
        let facts = o.text("/usr/lib/fleeti/image.json");
        let facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
        let restart = |i: usize| facts["boot_secrets"][i]["restart"].to_string();
        assert_eq!(restart(0), "[\"systemd-networkd.service\"]");
        assert_eq!(restart(1), "[\"app.service\",\"systemd-networkd.service\"]");
        assert_eq!(restart(2), "null", "networkd does not read it");
    }

    #[test]
    fn a_profile_without_tunnels_changes_nothing_of_networkd() {
        let o = sample::overlay("[[secrets]]\nname = \"key\"\nboot = true\n");
        assert!(!o.json.to_string().contains("wireguard"));
    }
}
