//! The controllers of real machines: an image with the kernel for hardware of all kinds boots from
//! disks on NVMe, SATA and USB, finds its TPM and its network card, and proves what it runs.

use crate::scenario::Scenario;
use crate::vm::{Board, Parts};
use crate::world::{BOOT, World};
use anyhow::{Result, ensure};
use fleeti_build::cache::Cache;
use fleeti_core::attestation::Level;
use fleeti_core::profile::{
    AccessControl, File, Firmware, Flavour, Profile, Secret, Service, UnitState, Wifi,
    WifiSecurity, WireGuard,
};
use fleeti_core::wire::boot::Verity;

/// The boards, with the names of their folders.
const BOARDS: [(&str, &str, Board); 3] = [
    ("nvme", "NVMe, e1000e, TPM with CRB", Board::Nvme),
    ("sata", "SATA, e1000e, TPM with TIS", Board::Sata),
    ("usb", "USB, virtio-net, TPM with CRB", Board::Usb),
];
/// Size of a root slot, MiB: not the default, so that a disk with other slots boots as well.
const ROOT_MIB: u32 = 1024;

/// What the unit `equipped.service` prints: three active units, a word in German, and that the
/// kernel has rules of audit and profiles of AppArmor.
const EQUIPPED: &str = "equipped: active active active Montag audited confined";
const EQUIPPED_UNIT: &str = "[Unit]\nDescription=Says what runs\n\
     After=apparmor.service auditd.service usbguard.service\n[Service]\nType=oneshot\n\
     ExecStart=/usr/bin/sh -c 'echo equipped: $(systemctl is-active apparmor auditd usbguard) \
     $(date -d 2026-11-30 +%%A) $(auditctl -l | grep -q modules && echo audited) \
     $(grep -q enforce /sys/kernel/security/apparmor/profiles && echo confined) >/dev/console'\n\
     [Install]\nWantedBy=multi-user.target\n";

/// The secret with the private key of a tunnel (RFC 7748, section 6.1).
const TUNNEL_KEY: (&str, &str) = ("tunnel-key", "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=");
/// What the unit `tunnel.service` prints: the public key of that one, and the address.
const TUNNEL: &str = "tunnel: hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo= 10.9.0.2/24";
/// The device has no key before it has proved what it runs, so nothing waits for this unit.
const TUNNEL_UNIT: &str = "[Unit]\nDescription=Says which tunnel there is\n[Service]\n\
     ExecStart=/usr/bin/sh -c 'for i in $(seq 300); do wg show wg0 public-key && break; sleep 1; done; \
     echo tunnel: $(wg show wg0 public-key) $(ip -4 -br address show wg0 | tr -s \" \" | cut -d \" \" -f 3) \
     >/dev/console'\n[Install]\nWantedBy=multi-user.target\n";

/// The secret with the passphrase of a Wi-Fi network.
const PASSPHRASE: (&str, &str) = ("wifi-test", "correct horse battery");
const SSID: &str = "fleeti-test";
/// The access point (hostapd.conf(5)), WPA3 only.
const ACCESS_POINT: &str = "interface=wlan0\ndriver=nl80211\nhw_mode=g\nchannel=1\nwpa=2\n\
     wpa_key_mgmt=SAE\nrsn_pairwise=CCMP\nieee80211w=2\n";
const ACCESS_POINT_UNIT: &str = "[Unit]\nDescription=An access point on a simulated radio\n\
     After=sys-subsystem-net-devices-wlan0.device\n\
     Wants=sys-subsystem-net-devices-wlan0.device\n[Service]\n\
     ExecStart=/usr/bin/sh -c 'ip netns add ap && iw phy phy0 set netns name ap && \
     exec ip netns exec ap hostapd /etc/access-point.conf'\n[Install]\nWantedBy=multi-user.target\n";
/// What the unit `associated.service` prints.
const ASSOCIATED: &str = "wifi: SSID: fleeti-test";
const ASSOCIATED_UNIT: &str = "[Unit]\nDescription=Says which Wi-Fi network is used\n[Service]\n\
     ExecStart=/usr/bin/sh -c 'for i in $(seq 300); do iw dev wlan1 link | grep SSID && break; sleep 1; \
     done; echo wifi: $(iw dev wlan1 link | grep -o \"SSID: .*\") >/dev/console'\n\
     [Install]\nWantedBy=multi-user.target\n";

/// What real machines have besides: firmware, microcode, and what protects them.
fn equip(profile: &mut Profile) {
    profile.software.components.push("non-free-firmware".into());
    profile.software.packages.extend(["apparmor", "auditd", "usbguard"].map(String::from));
    profile.hardware.firmware = vec![
        Firmware::IntelMicrocode,
        Firmware::AmdMicrocode,
        Firmware::Realtek,
        Firmware::IntelSound,
    ];
    profile.identity.locale = "de_DE.UTF-8".into();
    profile.security.access_control = AccessControl::Apparmor;
    profile.security.audit.enabled = true;
    profile.security.usb_guard.enabled = true;
    // Disks, hubs and keyboards: one of the boards starts from USB.
    let allowed = "allow with-interface one-of { 08:*:* 09:*:* 03:*:* }";
    profile.security.usb_guard.allow = vec![allowed.into()];
    for (name, unit) in [("equipped.service", EQUIPPED_UNIT), ("tunnel.service", TUNNEL_UNIT)] {
        profile.services.push(service(name, unit));
    }
    tunnel(profile);
    wifi(profile);
}

/// Two simulated radios: an access point in a network namespace of its own, and an adapter.
fn wifi(profile: &mut Profile) {
    profile.software.packages.extend(["wpasupplicant", "hostapd", "iw"].map(String::from));
    profile.kernel.modules.push("mac80211_hwsim".into());
    profile.secrets.push(boot_secret(PASSPHRASE.0));
    profile.network.wifi.push(Wifi {
        ssid: SSID.into(),
        security: WifiSecurity::Wpa3,
        passphrase_secret: Some(PASSPHRASE.0.into()),
        hidden: false,
    });
    let ap = format!("{ACCESS_POINT}ssid={SSID}\nsae_password={}\n", PASSPHRASE.1);
    profile.files.push(File::new("/etc/access-point.conf", &ap));
    profile.services.push(service("access-point.service", ACCESS_POINT_UNIT));
    profile.services.push(service("associated.service", ASSOCIATED_UNIT));
    let state = UnitState::Masked;
    let name = "hostapd.service".into();
    profile.services.push(Service { name, state, unit: None, drop_ins: Vec::new() });
}

fn service(name: &str, unit: &str) -> Service {
    let state = UnitState::Enabled;
    Service { name: name.into(), state, unit: Some(unit.into()), drop_ins: Vec::new() }
}

fn boot_secret(name: &str) -> Secret {
    let (try_minutes, restart) = (10, Vec::new());
    Secret { name: name.into(), boot: true, try_minutes, restart, server_proxy: false }
}

/// A tunnel, whose key is a secret of the boot.
fn tunnel(profile: &mut Profile) {
    profile.software.packages.push("wireguard-tools".into());
    profile.secrets.push(boot_secret(TUNNEL_KEY.0));
    profile.network.wireguard.push(WireGuard {
        name: "wg0".into(),
        private_key_secret: TUNNEL_KEY.0.into(),
        listen_port: 51820,
        addresses: vec!["10.9.0.2/24".into()],
        peers: Vec::new(),
    });
}

/// Runs the scenario.
///
/// # Errors
/// If a step fails.
pub fn run(
    world: &mut World,
    scenario: &mut Scenario,
    cache: &Cache,
    profile: &Profile,
) -> Result<()> {
    let mut profile = profile.clone();
    profile.kernel.flavour = Flavour::Generic;
    profile.storage.root_mib = ROOT_MIB;
    equip(&mut profile);
    let name = format!("{}@1", profile.name);
    let (build, release) = scenario.step(
        &format!("build, sign and publish {name} with the kernel for hardware of all kinds"),
        |e| {
            let build = world.build(profile.clone(), "1")?;
            e.push(format!("build.json in {}", build.display()));
            let release = world.release(&build, "1")?;
            Ok((build, release))
        },
    )?;
    scenario.step("the fleet has a key of its tunnel and a passphrase of its Wi-Fi", |e| {
        for (name, value) in [TUNNEL_KEY, PASSPHRASE] {
            e.push(world.set_secret(name, value)?);
        }
        Ok(())
    })?;
    for (folder, parts, board) in BOARDS {
        let title = format!("a machine with {parts} boots {name} and proves it");
        scenario.step(&title, |e| {
            let id = world.provision(folder, &build, &release)?;
            let parts = Parts { board, ..Parts::default() };
            let (vm, accelerator) = world.start_with(cache, folder, None, parts)?;
            e.push(vm.wait_for(EQUIPPED, 0, BOOT)?.1);
            let device = world.device_with(BOOT, &id, |d| d.online && d.boot.is_some())?;
            let boot = device.boot.as_ref();
            ensure!(
                boot.is_some_and(|b| b.verity == Verity::Verified && b.secure_boot),
                "the boot is not verified: {boot:?}"
            );
            ensure!(
                boot.and_then(|b| b.sealed_data) == Some(true),
                "the data partition is not sealed to the TPM"
            );
            e.extend(world.check_attestation(&id, &name, Level::VerifiedBoot)?);
            for said in [TUNNEL, ASSOCIATED] {
                e.push(vm.wait_for(said, 0, BOOT)?.1);
            }
            let seconds = vm.elapsed().as_secs();
            e.push(format!("proved {seconds} s after power-on, with {accelerator:?}"));
            Ok(())
        })?;
    }
    Ok(())
}
