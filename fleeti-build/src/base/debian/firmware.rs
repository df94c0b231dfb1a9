//! Firmware of real hardware: packages of Debian's component `non-free-firmware`.

use fleeti_core::profile::{Firmware, Profile};

/// The packages of the sets of firmware that a profile names.
pub(super) fn packages(profile: &Profile) -> Vec<String> {
    let sets = profile.hardware.firmware.iter();
    let names = sets.flat_map(|set| match set {
        Firmware::AmdMicrocode => ["amd64-microcode"].as_slice(),
        Firmware::IntelMicrocode => &["intel-microcode"],
        Firmware::IntelWifi => &["firmware-iwlwifi"],
        Firmware::Atheros => &["firmware-atheros"],
        Firmware::Broadcom => &["firmware-brcm80211"],
        Firmware::Realtek => &["firmware-realtek"],
        Firmware::AmdGraphics => &["firmware-amd-graphics"],
        Firmware::IntelGraphics => &["firmware-intel-graphics"],
        Firmware::IntelSound => &["firmware-intel-sound", "firmware-sof-signed"],
    });
    names.map(|name| (*name).to_owned()).collect()
}

/// Vendors whose microcode the UKI has before its initrd, where the kernel looks for it first.
pub(super) fn microcode(profile: &Profile) -> Vec<&'static str> {
    let sets = &profile.hardware.firmware;
    let of = |set, vendor| sets.contains(&set).then_some(vendor);
    let found = [of(Firmware::AmdMicrocode, "amd"), of(Firmware::IntelMicrocode, "intel")];
    found.into_iter().flatten().collect()
}
