//! Wi-Fi: wpa_supplicant on each adapter, with the networks of the profile. The image has no
//! passphrase: the device makes the configuration from the secrets of its boot.

use super::entry::Additions;
use super::network::FOLDER;
use fleeti_core::profile::{Profile, Secret, Wifi, WifiSecurity};

/// The unit of each adapter, as a pattern.
const UNITS: &str = "fleeti-wifi@*.service";

pub(super) fn add(profile: &Profile, out: &mut Additions) {
    let networks = &profile.network.wifi;
    if networks.is_empty() {
        return;
    }
    for (path, text) in [
        ("/usr/lib/fleeti/wifi.sh", include_str!("../../nix/overlay/wifi.sh")),
        (
            "/usr/lib/systemd/system/fleeti-wifi@.service",
            include_str!("../../nix/overlay/fleeti-wifi@.service"),
        ),
        (
            "/usr/lib/udev/rules.d/70-fleeti-wifi.rules",
            include_str!("../../nix/overlay/70-fleeti-wifi.rules"),
        ),
        (&format!("{FOLDER}/07-wifi.network"), include_str!("../../nix/overlay/07-wifi.network")),
    ] {
        out.text(path, 0o644, text);
    }
    let preferred = networks.iter().rev().enumerate().rev();
    let table: String = preferred.map(|(priority, wifi)| row(priority, wifi)).collect();
    out.text("/usr/lib/fleeti/wifi-networks", 0o644, table);
}

/// A secret with the units that read it.
pub(super) fn with_reader(mut secret: Secret, profile: &Profile) -> Secret {
    let mut networks = profile.network.wifi.iter();
    if networks.any(|wifi| wifi.passphrase_secret.as_ref() == Some(&secret.name)) {
        secret.restart.push(UNITS.to_owned());
    }
    secret
}

/// A network as `wifi.sh` reads it. The one with the highest priority is preferred.
fn row(priority: usize, wifi: &Wifi) -> String {
    let Wifi { ssid, security, passphrase_secret, hidden } = wifi;
    let security = match security {
        WifiSecurity::Open => "open",
        WifiSecurity::Wpa2 => "wpa2",
        WifiSecurity::Wpa3 => "wpa3",
        WifiSecurity::EapTls => "eap-tls",
    };
    let secret = passphrase_secret.as_deref().unwrap_or("-");
    format!("{} {priority} {} {security} {secret}\n", hex::encode(ssid), u8::from(*hidden))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    const WIFI: &str = "software.packages = [\"wpasupplicant\"]\n\
        [[secrets]]\nname = \"office\"\nboot = true\n[[secrets]]\nname = \"other\"\nboot = true\n\
        [[network.wifi]]\nssid = \"Büro 1\"\nsecurity = \"wpa3\"\npassphrase_secret = \"office\"\n\
        hidden = true\n\
        [[network.wifi]]\nssid = \"old\"\nsecurity = \"wpa2\"\npassphrase_secret = \"office\"\n\
        [[network.wifi]]\nssid = \"guests\"\nsecurity = \"open\"\n";

    /// What the script makes of the networks with these secrets, and what it says.
    fn made(networks: &str, secrets: &[(&str, &[u8])]) -> (String, String) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("networks"), networks).unwrap();
        for (name, value) in secrets {
            fs::write(dir.path().join(name), value).unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nix/overlay/wifi.sh");
        let output = Command::new("sh")
            .args([&script, &dir.path().join("networks"), dir.path()])
            .output()
            .unwrap();
        assert!(output.status.success());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }

    #[test]
    fn each_adapter_uses_the_networks_of_the_profile_in_their_order() {
        let o = sample::overlay(WIFI);
        let table = o.text("/usr/lib/fleeti/wifi-networks");
        assert_eq!(
            table,
            "42c3bc726f2031 2 1 wpa3 office\n6f6c64 1 0 wpa2 office\n677565737473 0 0 open -\n"
        );
        let rule = o.text("/usr/lib/udev/rules.d/70-fleeti-wifi.rules");
        assert!(rule.contains("fleeti-wifi@$name.service"));
        let facts = o.text("/usr/lib/fleeti/image.json");
        let facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
        assert_eq!(facts["boot_secrets"][0]["restart"][0], "fleeti-wifi@*.service");
        assert!(facts["boot_secrets"][1].get("restart").is_none());
        let (text, said) = made(&table, &[("office", b"correct \"horse\" b@ttery\n")]);
        assert_eq!(
            text,
            "sae_pwe=2\n\
             network={\n\tssid=42c3bc726f2031\n\tpriority=2\n\tscan_ssid=1\n\tproto=RSN\n\
             \tkey_mgmt=SAE\n\tieee80211w=2\n\tsae_password=\"correct \"horse\" b@ttery\"\n}\n\
             network={\n\tssid=6f6c64\n\tpriority=1\n\tscan_ssid=0\n\tproto=RSN\n\
             \tkey_mgmt=WPA-PSK WPA-PSK-SHA256\n\tieee80211w=1\n\
             \tpsk=\"correct \"horse\" b@ttery\"\n}\n\
             network={\n\tssid=677565737473\n\tpriority=0\n\tscan_ssid=0\n\tkey_mgmt=NONE\n}\n"
        );
        assert_eq!(said, "");
    }

    #[test]
    fn a_passphrase_cannot_add_settings_and_a_missing_one_leaves_the_others() {
        let networks = "6f6c64 1 0 wpa2 office\n677565737473 0 0 open -\n";
        let long = [b'x'; 64];
        for wrong in [
            &b"correct horse\"\n\tkey_mgmt=NONE\n"[..],
            b"correct\rhorse\n",
            b"seven77\n",
            b"",
            b"one line\nanother\n",
            b"one line\nanother",
            &long,
        ] {
            let (text, said) = made(networks, &[("office", wrong)]);
            assert!(!text.contains("6f6c64") && text.contains("677565737473"), "{text}");
            assert!(said.contains("the network 6f6c64 is left out"), "{said}");
            assert!(!said.contains("horse"), "{said}");
        }
        let (text, said) = made(networks, &[]);
        assert!(!text.contains("6f6c64") && said.contains("missing"), "{text} {said}");
        // Without a line feed, and in any encoding.
        let (text, _) = made(networks, &[("office", "pässword".as_bytes())]);
        assert!(text.contains("psk=\"pässword\""), "{text}");
    }

    #[test]
    fn a_profile_without_networks_has_nothing_of_wifi() {
        let o = sample::overlay("");
        assert!(o.find("/usr/lib/fleeti/wifi.sh").is_none());
    }
}
