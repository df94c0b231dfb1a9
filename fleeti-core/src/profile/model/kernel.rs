//! Kernel, firmware and drivers.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The kernel and its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Which kernel of the base.
    #[serde(default)]
    pub flavour: Flavour,
    /// Kernel arguments, appended to those that Fleeti sets.
    #[schema(example = json!(["quiet"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Modules to load at boot.
    #[schema(example = json!(["br_netfilter"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// Modules that are never loaded.
    #[schema(example = json!(["firewire-core"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blacklist: Vec<String>,
    /// Settings of sysctl(8), by name.
    #[schema(example = json!({"net.ipv4.ip_forward": "1"}))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
}

/// Which kernel of the base.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Flavour {
    /// Small, for virtual machines.
    #[default]
    Cloud,
    /// For hardware of all kinds.
    Generic,
}

/// Firmware and drivers for real hardware.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// Sets of firmware.
    #[schema(example = json!(["intel-wifi", "intel-microcode"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<Firmware>,
    /// Sets of drivers in the initrd, besides those for common disks.
    #[schema(example = json!(["usb-storage"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initrd_drivers: Vec<Drivers>,
}

/// A set of firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = FirmwareSet)]
pub enum Firmware {
    /// Microcode of AMD processors.
    AmdMicrocode,
    /// Microcode of Intel processors.
    IntelMicrocode,
    /// Wi-Fi adapters of Intel.
    IntelWifi,
    /// Wi-Fi and network adapters of Qualcomm Atheros.
    Atheros,
    /// Wi-Fi and network adapters of Broadcom.
    Broadcom,
    /// Wi-Fi and network adapters of Realtek.
    Realtek,
    /// Graphics of AMD.
    AmdGraphics,
    /// Graphics of Intel.
    IntelGraphics,
    /// Sound on recent Intel machines.
    IntelSound,
}

/// A set of drivers in the initrd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = InitrdDrivers)]
pub enum Drivers {
    /// Disks on USB.
    UsbStorage,
    /// SD cards and eMMC.
    Mmc,
    /// Hardware RAID controllers.
    Raid,
}
