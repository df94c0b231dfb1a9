//! Connections of NetworkManager (nm-settings-keyfile(5)). Passphrases are never taken.

use super::{add, boot_secret, extend, interface};
use crate::draft::Draft;
use crate::ini::{Section, section, sections};
use crate::name::label;
use crate::note::Area;
use crate::packages::Installed;
use crate::snapshot::{Kind, Snapshot};
use fleeti_core::profile::{Dhcp, Wifi, WifiSecurity};

const FOLDER: &str = "/etc/NetworkManager/system-connections";

pub(super) fn adopt(snapshot: &Snapshot, installed: &Installed, draft: &mut Draft) {
    for (path, _, entry) in snapshot.below(FOLDER) {
        draft.handle(path);
        match (&entry.kind, entry.text()) {
            (Kind::File(_), Some(text)) => connection(path, &sections(text), draft),
            (Kind::File(_), None) => {
                draft.not_readable(Area::Network, path);
            }
            _ => {}
        }
    }
    let supplicant = "/etc/wpa_supplicant/wpa_supplicant.conf";
    if snapshot.entries.contains_key(supplicant) {
        draft.handle(supplicant);
        let why = "has networks and passphrases of Wi-Fi";
        let next = "write them to network.wifi, with a secret for each passphrase";
        draft.not_taken(Area::Secrets, supplicant, why, next);
    }
    let program = ["iwd", "wpasupplicant"].into_iter().find(|p| installed.contains_key(*p));
    if !draft.profile.network.wifi.is_empty() {
        draft.install(program.unwrap_or("wpasupplicant"));
    }
}

fn connection(path: &str, sections: &[Section], draft: &mut Draft) {
    let get = |of: &str, name: &str| section(sections, of).and_then(|section| section.last(name));
    match get("connection", "type").unwrap_or_default() {
        "wifi" | "802-11-wireless" => wifi(path, sections, draft),
        "ethernet" | "802-3-ethernet" => ethernet(path, sections, draft),
        kind => {
            let why = format!("is a connection of the type {kind:?}, which is not taken");
            draft.not_taken(Area::Network, path, &why, "");
        }
    }
}

fn wifi(path: &str, sections: &[Section], draft: &mut Draft) {
    let get = |of: &str, name: &str| section(sections, of).and_then(|section| section.last(name));
    let ssid = get("wifi", "ssid").or_else(|| get("802-11-wireless", "ssid")).unwrap_or_default();
    let security = match get("wifi-security", "key-mgmt") {
        None => WifiSecurity::Open,
        Some("wpa-psk") => WifiSecurity::Wpa2,
        Some("sae") => WifiSecurity::Wpa3,
        Some("wpa-eap" | "wpa-eap-suite-b-192") => {
            let why = "a device authenticates with its own certificate (EAP-TLS)";
            draft.taken(Area::Network, path, why, "let the network trust the device CA");
            WifiSecurity::EapTls
        }
        Some(_) => {
            let why = "has a kind of security that a profile does not have";
            return draft.not_taken(Area::Network, path, why, "");
        }
    };
    let secret = matches!(security, WifiSecurity::Wpa2 | WifiSecurity::Wpa3)
        .then(|| format!("wifi-{}", label(ssid, "network")));
    if let Some(secret) = &secret {
        boot_secret(draft, secret);
        let next = format!("store it with `fleeti secret set FLEET {secret}`");
        draft.not_taken(Area::Secrets, path, "has a passphrase, which is not copied", &next);
    }
    draft.origin("network.wifi", ssid, path);
    draft.profile.network.wifi.push(Wifi {
        ssid: ssid.to_owned(),
        security,
        passphrase_secret: secret,
        hidden: get("wifi", "hidden") == Some("true"),
    });
}

fn ethernet(path: &str, sections: &[Section], draft: &mut Draft) {
    let get = |of: &str, name: &str| section(sections, of).and_then(|section| section.last(name));
    let mut made = interface(get("connection", "id").unwrap_or("ethernet"));
    made.matches.name = get("connection", "interface-name").map(str::to_owned);
    made.matches.mac = get("ethernet", "mac-address").map(str::to_owned);
    if made.matches.name.is_none() && made.matches.mac.is_none() {
        made.matches.name = Some("en*".to_owned());
    }
    let is_auto = |of: &str| matches!(get(of, "method"), Some("auto" | "dhcp"));
    made.dhcp = match (is_auto("ipv4"), is_auto("ipv6")) {
        (true, true) => Dhcp::Yes,
        (true, false) => Dhcp::Ipv4,
        (false, true) => Dhcp::Ipv6,
        (false, false) => Dhcp::No,
    };
    for family in ["ipv4", "ipv6"] {
        let Some(section) = section(sections, family) else { continue };
        for (name, value) in &section.settings {
            let mut parts = value.split(',').map(str::trim);
            if name.starts_with("address") && name != "address-data" {
                made.addresses.extend(parts.next().map(str::to_owned));
                made.gateways.extend(parts.next().map(str::to_owned));
            } else if name == "gateway" {
                made.gateways.push(value.clone());
            } else if name.starts_with("route") && name != "route-metric" {
                let why = "has routes, which are not taken";
                draft.not_taken(Area::Network, path, why, "");
            }
        }
        let list = |name: &str| -> Vec<String> {
            let values = section.last(name).unwrap_or_default().split(';');
            values.map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned).collect()
        };
        extend(&mut made.dns, list("dns"));
        extend(&mut draft.profile.network.dns.search, list("dns-search"));
    }
    if section(sections, "802-1x").is_some() {
        made.dot1x = true;
        let why = "a device authenticates with its own certificate (IEEE 802.1X, EAP-TLS)";
        draft.taken(Area::Network, path, why, "let the network trust the device CA");
    }
    add(draft, made, path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_taken_without_their_passphrases() {
        let wifi = "[connection]\nid=office\ntype=wifi\n[wifi]\nssid=Office\n[wifi-security]\nkey-mgmt=sae\npsk=hunter22\n";
        let wired = "[connection]\nid=LAN 1\ntype=ethernet\ninterface-name=ens3\n[ipv4]\nmethod=manual\n\
                     address1=192.0.2.10/24,192.0.2.1\ndns=192.0.2.53;192.0.2.54;\n[ipv6]\nmethod=auto\n";
        let at = |name: &str| format!("{FOLDER}/{name}");
        let snapshot = Snapshot::default()
            .with_file(&at("office.nmconnection"), wifi.as_bytes(), 0o600)
            .with_file(&at("lan.nmconnection"), wired.as_bytes(), 0o600)
            .with(
                &at("vpn.nmconnection"),
                "[connection]\ntype=vpn\n[vpn-secrets]\npassword=hunter22\n",
            );
        let mut draft = crate::draft::made();
        adopt(&snapshot, &Installed::new(), &mut draft);
        let network = &draft.profile.network;
        let lan = &network.interfaces[0];
        assert_eq!((lan.name.as_str(), lan.dhcp), ("LAN-1", Dhcp::Ipv6));
        assert_eq!(lan.addresses, ["192.0.2.10/24"]);
        assert_eq!((lan.gateways.len(), lan.dns.len()), (1, 2));
        assert_eq!(network.wifi[0].security, WifiSecurity::Wpa3);
        assert_eq!(draft.profile.secrets[0].name, "wifi-Office");
        assert!(draft.installs("wpasupplicant"));
        assert_eq!(draft.notes.len(), 2);
        assert!(!format!("{:?}{:?}", draft.profile, draft.notes).contains("hunter22"));
    }
}
