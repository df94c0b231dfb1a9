//! Kernel modules of the initrd. A build stops if its kernel does not have one of them.

use fleeti_core::profile::{Drivers, Flavour, Profile};

/// For what every image needs, and for disks of virtual machines and common controllers.
const ALWAYS: &[&str] = &[
    // Before dm_verity, which otherwise uses the generic code.
    "sha256_ssse3",
    "virtio_blk",
    "virtio_scsi",
    "sd_mod",
    "ahci",
    "nvme",
    "dm_mod",
    "dm_verity",
    "erofs",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    "nls_utf8",
    "efivarfs",
    // Stores the log of a panic.
    "efi_pstore",
    "overlay",
    "autofs4",
    "qemu_fw_cfg",
    "virtio_rng",
    "loop",
];
/// Common disks of real machines, which the kernel for clouds has no drivers for.
const GENERIC: &[&str] = &["xhci_pci", "ehci_pci", "usb_storage", "uas", "vmd", "ata_piix"];

/// The modules that the initrd of a profile has.
pub(super) fn modules(profile: &Profile) -> Vec<&'static str> {
    let mut modules = ALWAYS.to_vec();
    if profile.kernel.flavour == Flavour::Generic {
        modules.extend(GENERIC);
    }
    for set in &profile.hardware.initrd_drivers {
        modules.extend(match set {
            Drivers::UsbStorage => ["xhci_pci", "ehci_pci", "usb_storage", "uas"].as_slice(),
            Drivers::Mmc => &["mmc_block", "sdhci_acpi", "sdhci_pci"],
            Drivers::Raid => &["megaraid_sas", "mpt3sas", "aacraid", "smartpqi", "hpsa"],
        });
    }
    let mut seen = std::collections::HashSet::new();
    modules.retain(|module| seen.insert(*module));
    modules
}
