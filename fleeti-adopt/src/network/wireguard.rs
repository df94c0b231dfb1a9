//! wg-quick(8), and the netdevs of systemd-networkd for WireGuard. Keys are never taken.

use super::boot_secret;
use crate::draft::Draft;
use crate::ini::{Section, section, sections};
use crate::name::label;
use crate::note::Area;
use crate::snapshot::Snapshot;
use fleeti_core::profile::{Peer, WireGuard};

pub(super) fn adopt(snapshot: &Snapshot, draft: &mut Draft) {
    for (path, rest, entry) in snapshot.below("/etc/wireguard") {
        draft.handle(path);
        let name = rest.strip_suffix(".conf").filter(|name| !name.contains('/'));
        match (name, entry.text()) {
            (Some(name), Some(text)) => {
                let sections = sections(text);
                take(path, name, &sections, draft);
            }
            (Some(_), None) => {
                draft.not_readable(Area::Network, path);
            }
            (None, _) => {
                let why = "may be a key of WireGuard";
                draft.not_taken(Area::Secrets, path, why, "store it with `fleeti secret set`");
            }
        }
    }
}

/// Takes a tunnel. A netdev of systemd-networkd names its sections differently.
pub(super) fn take(path: &str, name: &str, sections: &[Section], draft: &mut Draft) {
    let own = section(sections, "Interface").or_else(|| section(sections, "WireGuard"));
    let Some(interface) = own else { return };
    let secret = format!("{}-key", label(name, "wg"));
    boot_secret(draft, &secret);
    let next = format!("store it with `fleeti secret set FLEET {secret}`");
    draft.not_taken(Area::Secrets, path, "has a private key, which is not copied", &next);
    let list = |section: &Section, name: &str| -> Vec<String> {
        let values = section.all(name).flat_map(|value| value.split(','));
        values.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()).collect()
    };
    let number = |section: &Section, name: &str| {
        section.last(name).and_then(|value| value.parse().ok()).unwrap_or_default()
    };
    let mut peers = Vec::new();
    let is_peer = |section: &&Section| {
        ["Peer", "WireGuardPeer"].iter().any(|name| section.name.eq_ignore_ascii_case(name))
    };
    for section in sections.iter().filter(is_peer) {
        let has_shared = section
            .settings
            .iter()
            .any(|(name, _)| name.to_ascii_lowercase().starts_with("presharedkey"));
        let shared = format!("{}-psk-{}", label(name, "wg"), peers.len() + 1);
        if has_shared {
            boot_secret(draft, &shared);
        }
        peers.push(Peer {
            public_key: section.last("PublicKey").unwrap_or_default().to_owned(),
            endpoint: section.last("Endpoint").map(str::to_owned),
            allowed_ips: list(section, "AllowedIPs"),
            keepalive_s: number(section, "PersistentKeepalive"),
            preshared_key_secret: has_shared.then_some(shared),
        });
    }
    let known = ["Address", "ListenPort", "PrivateKey", "PrivateKeyFile"];
    let rest: Vec<_> = interface
        .settings
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !known.iter().any(|known| known.eq_ignore_ascii_case(name)))
        .collect();
    if !rest.is_empty() {
        let why = format!("settings are not taken: {}", rest.join(", "));
        draft.not_taken(Area::Network, path, &why, "");
    }
    draft.origin("network.wireguard", name, path);
    draft.profile.network.wireguard.push(WireGuard {
        name: name.to_owned(),
        private_key_secret: secret,
        listen_port: number(interface, "ListenPort"),
        addresses: list(interface, "Address"),
        peers,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_taken_with_secrets_instead_of_keys() {
        let text = "[Interface]\nPrivateKey = cHJpdmF0ZQ==\nAddress = 10.8.0.2/24, fd00::2/64\nListenPort=51820\n\
                    PostUp = x\n[Peer]\nPublicKey = cHVibGlj\nPresharedKey = c2hhcmVk\nAllowedIPs = 10.8.0.0/16\n\
                    Endpoint = vpn.example.com:51820\nPersistentKeepalive = 25\n";
        let snapshot = Snapshot::default()
            .with_file("/etc/wireguard/wg0.conf", text.as_bytes(), 0o600)
            .with_file("/etc/wireguard/private.key", b"cHJpdmF0ZQ==", 0o600);
        let mut draft = crate::draft::made();
        adopt(&snapshot, &mut draft);
        let [tunnel] = draft.profile.network.wireguard.as_slice() else { panic!() };
        assert_eq!(tunnel.addresses, ["10.8.0.2/24", "fd00::2/64"]);
        assert_eq!((tunnel.listen_port, tunnel.peers[0].keepalive_s), (51820, 25));
        let secrets: Vec<_> = draft.profile.secrets.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(secrets, ["wg0-key", "wg0-psk-1"]);
        let all = format!("{:?}{:?}", draft.profile, draft.notes);
        assert!(!all.contains("cHJpdmF0ZQ") && !all.contains("c2hhcmVk"), "{all}");
        assert_eq!(draft.notes.len(), 3);
    }
}
