//! Netplan (netplan(5)): YAML. Values of any shape, which are only looked at by name.

use super::{add, bond, bond_mode, boot_secret, bridge, extend, get, interface, vlan};
use crate::draft::Draft;
use crate::name::label;
use crate::note::Area;
use crate::snapshot::Snapshot;
use fleeti_core::profile::{Dhcp, Wifi, WifiSecurity};
use serde_json::Value;

/// Keys that are taken, or that change nothing on a device.
const KNOWN: [&str; 22] = [
    "match",
    "set-name",
    "dhcp4",
    "dhcp6",
    "addresses",
    "gateway4",
    "gateway6",
    "routes",
    "nameservers",
    "mtu",
    "optional",
    "critical",
    "accept-ra",
    "link-local",
    "id",
    "link",
    "interfaces",
    "parameters",
    "access-points",
    "renderer",
    "macaddress",
    "dhcp-identifier",
];

pub(super) fn adopt(snapshot: &Snapshot, draft: &mut Draft) {
    for (path, rest, entry) in snapshot.below("/etc/netplan") {
        draft.handle(path);
        // netplan reads no other file.
        if rest.strip_suffix(".yaml").is_none_or(|name| name.contains('/')) {
            continue;
        }
        let Some(text) = entry.text() else {
            draft.not_readable(Area::Network, path);
            continue;
        };
        let Ok(whole) = serde_saphyr::from_str::<Value>(text) else {
            draft.not_taken(Area::Network, path, "is not YAML that is understood", "");
            continue;
        };
        for (kind, devices) in whole.get("network").and_then(Value::as_object).into_iter().flatten()
        {
            for (name, device) in devices.as_object().into_iter().flatten() {
                take(path, kind, (name, device), draft);
            }
        }
    }
}

fn take(path: &str, kind: &str, (name, device): (&str, &Value), draft: &mut Draft) {
    match kind {
        "ethernets" => {}
        "vlans" => {
            let id = device.get("id").and_then(Value::as_u64).and_then(|id| id.try_into().ok());
            if let (Some(id), Some(link)) = (id, device.get("link").and_then(Value::as_str)) {
                vlan(draft, name, id);
                extend(&mut get(draft, link, path).vlans, [name.to_owned()]);
            }
        }
        "bridges" => {
            let stp = device.pointer("/parameters/stp").and_then(Value::as_bool);
            bridge(draft, name, stp.unwrap_or(true));
            for port in texts(device.get("interfaces")) {
                get(draft, &port, path).bridge = Some(name.to_owned());
            }
        }
        "bonds" => {
            let mode = device.pointer("/parameters/mode").and_then(Value::as_str);
            let Some(mode) = bond_mode(mode.unwrap_or("balance-rr")) else {
                let why = format!("{name} has a mode that a profile does not have");
                return draft.not_taken(Area::Network, path, &why, "");
            };
            bond(draft, name, mode);
            for port in texts(device.get("interfaces")) {
                get(draft, &port, path).bond = Some(name.to_owned());
            }
        }
        "wifis" => wifi(path, device, draft),
        kind => {
            let why = format!("{name} is of the kind {kind:?}, which is not taken");
            return draft.not_taken(Area::Network, path, &why, "");
        }
    }
    addresses(path, (name, device), draft);
}

fn addresses(path: &str, (name, device): (&str, &Value), draft: &mut Draft) {
    let keys = device.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    let rest: Vec<_> = keys.filter(|key| !KNOWN.contains(key)).collect();
    if !rest.is_empty() {
        let why = format!("settings of {name} are not taken: {}", rest.join(", "));
        draft.not_taken(Area::Network, path, &why, "");
    }
    let text = |pointer: &str| device.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let is_on = |key: &str| {
        device.get(key).is_some_and(|on| {
            on.as_bool() == Some(true) || matches!(on.as_str(), Some("yes" | "on" | "true"))
        })
    };
    let mut made = interface(name);
    made.matches.mac = text("/match/macaddress");
    made.matches.driver = text("/match/driver");
    if let Some(matched) = text("/match/name") {
        made.matches.name = Some(matched);
    } else if made.matches.mac.is_some() || made.matches.driver.is_some() {
        // Without `match.name` the key is only a name for the entry.
        made.matches.name = None;
    }
    made.dhcp = match (is_on("dhcp4"), is_on("dhcp6")) {
        (true, true) => Dhcp::Yes,
        (true, false) => Dhcp::Ipv4,
        (false, true) => Dhcp::Ipv6,
        (false, false) => Dhcp::No,
    };
    made.addresses = texts(device.get("addresses"));
    made.gateways = text("/gateway4").into_iter().chain(text("/gateway6")).collect();
    for route in device.get("routes").and_then(Value::as_array).into_iter().flatten() {
        let to = route.get("to").and_then(Value::as_str).unwrap_or_default();
        let via = route.get("via").and_then(Value::as_str);
        match via.filter(|_| ["default", "0.0.0.0/0", "::/0"].contains(&to)) {
            Some(via) => made.gateways.push(via.to_owned()),
            None => {
                let why = format!("a route of {name} to a network is not taken");
                draft.not_taken(Area::Network, path, &why, "");
            }
        }
    }
    made.dns = texts(device.pointer("/nameservers/addresses"));
    extend(&mut draft.profile.network.dns.search, texts(device.pointer("/nameservers/search")));
    let mtu = device.get("mtu").and_then(Value::as_u64);
    made.mtu = mtu.and_then(|mtu| mtu.try_into().ok()).unwrap_or_default();
    // An entry that a bridge, a bond or a VLAN has made already.
    let known = &mut draft.profile.network.interfaces;
    match known.iter_mut().find(|known| known.matches.name.as_deref() == Some(name)) {
        Some(known) => {
            let layers = (known.vlans.clone(), known.bridge.clone(), known.bond.clone());
            made.name.clone_from(&known.name);
            *known = made;
            (known.vlans, known.bridge, known.bond) = layers;
        }
        None => {
            add(draft, made, path);
        }
    }
}

fn wifi(path: &str, device: &Value, draft: &mut Draft) {
    let points = device.get("access-points").and_then(Value::as_object);
    for (ssid, point) in points.into_iter().flatten() {
        let is_secret = point.get("password").is_some() || point.get("auth").is_some();
        let secret = format!("wifi-{}", label(ssid, "network"));
        if is_secret {
            boot_secret(draft, &secret);
            let next = format!("store it with `fleeti secret set FLEET {secret}`");
            draft.not_taken(Area::Secrets, path, "has a passphrase of Wi-Fi", &next);
        }
        draft.origin("network.wifi", ssid, path);
        draft.profile.network.wifi.push(Wifi {
            ssid: ssid.clone(),
            security: if is_secret { WifiSecurity::Wpa2 } else { WifiSecurity::Open },
            passphrase_secret: is_secret.then_some(secret),
            hidden: point.get("hidden").and_then(Value::as_bool).unwrap_or_default(),
        });
    }
}

/// Texts of a list. A mapping in it, such as an address with a label, counts by its first key.
fn texts(list: Option<&Value>) -> Vec<String> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    let text = |item: &Value| match item {
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) => fields.keys().next().cloned(),
        _ => None,
    };
    items.filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_netplan_are_taken_and_passphrases_are_not() {
        let text = "\
network:
  version: 2
  ethernets:
    ens3:
      dhcp4: true
      match: {macaddress: '52:54:00:12:34:56'}
      set-name: ens3
    ens4:
      addresses: [192.0.2.10/24, '2001:db8::1/64']
      routes:
        - {to: default, via: 192.0.2.1}
        - {to: 10.0.0.0/8, via: 192.0.2.2}
      nameservers: {addresses: [192.0.2.53], search: [example.com]}
      wakeonlan: true
  bridges:
    br0: {interfaces: [ens4], dhcp4: no}
  vlans:
    v20: {id: 20, link: ens4}
  wifis:
    wlan0:
      dhcp4: true
      access-points:
        'My Net': {password: hunter22}
";
        let snapshot = Snapshot::default()
            .with_file("/etc/netplan/50.yaml", text.as_bytes(), 0o600)
            .with("/etc/netplan/broken.yaml", "a: [1\n");
        let mut draft = crate::draft::made();
        adopt(&snapshot, &mut draft);
        let network = &draft.profile.network;
        let of = |name: &str| network.interfaces.iter().find(|i| i.name == name).unwrap();
        assert_eq!(of("ens3").matches.mac.as_deref(), Some("52:54:00:12:34:56"));
        assert_eq!((of("ens3").matches.name.as_ref(), of("ens3").dhcp), (None, Dhcp::Ipv4));
        let ens4 = of("ens4");
        assert_eq!(ens4.addresses, ["192.0.2.10/24", "2001:db8::1/64"]);
        assert_eq!((ens4.gateways.len(), ens4.bridge.as_deref()), (1, Some("br0")));
        assert_eq!(ens4.vlans, ["v20"]);
        assert_eq!(of("br0").dhcp, Dhcp::No);
        assert_eq!(network.wifi[0].passphrase_secret.as_deref(), Some("wifi-My-Net"));
        assert!(!format!("{:?}{:?}", draft.profile, draft.notes).contains("hunter22"));
        assert_eq!(draft.notes.len(), 4, "{:?}", draft.notes);
    }

    #[test]
    fn a_document_that_repeats_itself_is_refused_soon() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..20 {
            let last = format!("*a{}", i - 1);
            let list = vec![last; 9].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{list}]\n"));
        }
        let snapshot = Snapshot::default().with("/etc/netplan/bomb.yaml", &bomb);
        let mut draft = crate::draft::made();
        adopt(&snapshot, &mut draft);
        assert_eq!(draft.notes.len(), 1);
        assert!(draft.notes[0].why.contains("not YAML"), "{:?}", draft.notes);
    }
}
