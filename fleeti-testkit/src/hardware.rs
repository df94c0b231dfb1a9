//! The controllers of real machines: an image with the kernel for hardware of all kinds boots from
//! disks on NVMe, SATA and USB, finds its TPM and its network card, and proves what it runs.

use crate::scenario::Scenario;
use crate::vm::{Board, Parts};
use crate::world::{BOOT, World};
use anyhow::{Result, ensure};
use fleeti_build::cache::Cache;
use fleeti_core::attestation::Level;
use fleeti_core::profile::{
    AccessControl, Firmware, Flavour, Profile, Secret, Service, UnitState, WireGuard,
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
        profile.services.push(Service {
            name: name.into(),
            state: UnitState::Enabled,
            unit: Some(unit.into()),
            drop_ins: Vec::new(),
        });
    }
    tunnel(profile);
}

/// A tunnel, whose key is a secret of the boot.
fn tunnel(profile: &mut Profile) {
    profile.software.packages.push("wireguard-tools".into());
    profile.secrets.push(Secret {
        name: TUNNEL_KEY.0.into(),
        boot: true,
        try_minutes: 10,
        restart: vec!["tunnel.service".into()],
        server_proxy: false,
    });
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
    scenario.step("the fleet has a key of its tunnel", |e| {
        e.push(world.set_secret(TUNNEL_KEY.0, TUNNEL_KEY.1)?);
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
            e.push(vm.wait_for(TUNNEL, 0, BOOT)?.1);
            let seconds = vm.elapsed().as_secs();
            e.push(format!("proved {seconds} s after power-on, with {accelerator:?}"));
            Ok(())
        })?;
    }
    Ok(())
}
