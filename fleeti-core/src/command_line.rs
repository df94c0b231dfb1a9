//! The kernel command line of a UKI: what Fleeti sets, and what a profile may add.
//!
//! A kernel argument can replace the init, the root file system or the verification, or open a
//! shell, and every version of the kernel and of systemd adds new ones. Therefore only arguments
//! listed here are allowed. [`check_argument`] checks one argument of a profile, [`check`] the
//! finished command line before it is signed. The kernel treats `-` and `_` in a name as equal
//! (Documentation/admin-guide/kernel-parameters.rst), and so does this module.

/// Arguments that Fleeti sets, in this order, after `roothash=`.
pub const OWN: [&str; 13] = [
    "root=/dev/mapper/root",
    "rootfstype=erofs",
    "ro",
    // Panic instead of restart: only a panic leaves the last kernel messages in the firmware's
    // store (efi_pstore).
    "systemd.verity_root_options=panic-on-corruption",
    "panic=5",
    "efi_pstore.pstore_disable=0",
    // No credentials from outside: they would bring units and root keys past every PCR that is
    // checked.
    "systemd.import_credentials=no",
    "systemd.condition_needs_update=0",
    "systemd.firstboot=0",
    "console=tty0",
    "console=ttyS0",
    "loglevel=4",
    "systemd.show_status=auto",
];

/// Arguments that Fleeti may set after those of [`OWN`], one of them: kernel lockdown
/// (kernel_lockdown(7)). It only restricts what a running system can do.
pub const LOCKDOWN: [&str; 2] = ["lockdown=integrity", "lockdown=confidentiality"];

/// Longest argument of a profile, bytes.
const ARGUMENT_MAX: usize = 256;
/// Longest command line, bytes: x86 silently cuts it at 2,048 bytes (COMMAND_LINE_SIZE).
pub const LENGTH_MAX: usize = 2000;

/// Which values an argument may have.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// No value.
    None,
    /// One of the listed values.
    OneOf(&'static [&'static str]),
    /// At most ten digits.
    Number,
    /// A console of the kernel, with or without a speed.
    Console,
    /// Any text of allowed characters, also none.
    Any,
}

/// Arguments that a profile may set. None of them names an executable, a file system, a boot device
/// or a unit, or disables a protection of the kernel.
const LISTED: &[(&str, Value)] = &[
    ("quiet", Value::None),
    ("splash", Value::None),
    ("loglevel", Value::OneOf(&["0", "1", "2", "3", "4", "5", "6", "7"])),
    ("console", Value::Console),
    ("consoleblank", Value::Number),
    ("printk.time", Value::OneOf(&["0", "1"])),
    ("log_buf_len", Value::Any),
    ("logo.nologo", Value::None),
    ("vt.global_cursor_default", Value::OneOf(&["0", "1"])),
    ("vt.default_utf8", Value::OneOf(&["0", "1"])),
    ("fbcon", Value::Any),
    ("video", Value::Any),
    ("nomodeset", Value::None),
    ("plymouth.enable", Value::OneOf(&["0", "1"])),
    ("net.ifnames", Value::OneOf(&["0", "1"])),
    ("mitigations", Value::OneOf(&["auto", "auto,nosmt"])),
    ("nosmt", Value::None),
    ("nosmt", Value::OneOf(&["force"])),
    ("intel_iommu", Value::OneOf(&["on", "on,strict"])),
    ("amd_iommu", Value::OneOf(&["on", "force_isolation"])),
    ("iommu", Value::OneOf(&["force", "strict"])),
    ("iommu.strict", Value::OneOf(&["1"])),
    ("isolcpus", Value::Any),
    ("nohz", Value::OneOf(&["on", "off"])),
    ("nohz_full", Value::Any),
    ("rcu_nocbs", Value::Any),
    ("rcu_nocb_poll", Value::None),
    ("irqaffinity", Value::Any),
    ("threadirqs", Value::None),
    ("preempt", Value::OneOf(&["none", "voluntary", "full", "lazy"])),
    ("skew_tick", Value::OneOf(&["0", "1"])),
    ("idle", Value::OneOf(&["poll", "halt", "nomwait"])),
    ("clocksource", Value::Any),
    ("tsc", Value::OneOf(&["reliable", "unstable", "nowatchdog"])),
    ("hpet", Value::OneOf(&["disable", "force"])),
    ("nowatchdog", Value::None),
    ("nmi_watchdog", Value::OneOf(&["0", "1"])),
    ("watchdog_thresh", Value::Number),
    ("cpuidle.off", Value::OneOf(&["0", "1"])),
    ("cpufreq.default_governor", Value::Any),
    ("intel_idle.max_cstate", Value::Number),
    ("processor.max_cstate", Value::Number),
    ("intel_pstate", Value::OneOf(&["disable", "passive", "active", "no_hwp"])),
    ("amd_pstate", Value::OneOf(&["disable", "passive", "active", "guided"])),
    ("maxcpus", Value::Number),
    ("nr_cpus", Value::Number),
    ("hugepages", Value::Number),
    ("hugepagesz", Value::Any),
    ("default_hugepagesz", Value::Any),
    ("transparent_hugepage", Value::OneOf(&["always", "madvise", "never"])),
    ("swapaccount", Value::OneOf(&["0", "1"])),
    ("zswap.enabled", Value::OneOf(&["0", "1"])),
    ("elevator", Value::Any),
    ("acpi_backlight", Value::OneOf(&["native", "vendor", "video", "none"])),
    ("acpi_enforce_resources", Value::OneOf(&["strict", "lax", "no"])),
    (
        "pci",
        Value::OneOf(&[
            "nomsi",
            "noaer",
            "nommconf",
            "realloc",
            "realloc=on",
            "realloc=off",
            "noats",
        ]),
    ),
    ("pcie_aspm", Value::OneOf(&["off", "force"])),
    ("pcie_aspm.policy", Value::OneOf(&["default", "performance", "powersave", "powersupersave"])),
    ("pcie_port_pm", Value::OneOf(&["off", "force"])),
    ("reboot", Value::OneOf(&["acpi", "efi", "bios", "kbd", "pci", "triple", "cold", "warm"])),
    ("noapic", Value::None),
    ("nolapic_timer", Value::None),
];

/// Drivers whose parameters a profile may set: none of them verifies, decrypts or starts anything.
const DRIVERS: &[&str] = &[
    "ahci",
    "amdgpu",
    "ath9k",
    "ath10k_core",
    "ath11k",
    "atkbd",
    "bluetooth",
    "btusb",
    "cfg80211",
    "drm",
    "drm_kms_helper",
    "e1000e",
    "hid",
    "i2c_i801",
    "i8042",
    "i915",
    "igb",
    "igc",
    "itco_wdt",
    "iwlmvm",
    "iwlwifi",
    "ixgbe",
    "libata",
    "mac80211",
    "mmc_core",
    "mt76",
    "nouveau",
    "nvme",
    "nvme_core",
    "psmouse",
    "r8169",
    "radeon",
    "rtw88_core",
    "sdhci",
    "sdhci_pci",
    "snd_hda_intel",
    "softdog",
    "uas",
    "usb_storage",
    "usbcore",
    "usbhid",
    "uvcvideo",
    "virtio_net",
    "xe",
    "xhci_hcd",
];

/// Prefixes of argument names that are refused with [`ArgumentError::Reserved`]: Fleeti sets what
/// they control.
const RESERVED: &[&str] = &[
    "root",
    "usr",
    "mount.",
    "ro",
    "rw",
    "init",
    "rdinit",
    "noinitrd",
    "rd",
    "rd.",
    "systemd",
    "luks",
    "dm_",
    "verity",
    "fsck",
    "fstab",
    "panic",
    "single",
    "emergency",
    "rescue",
    "1",
    "2",
    "3",
    "4",
    "5",
    "s",
    "b",
    "lockdown",
    "efi",
    "ima",
    "evm",
    "lsm",
    "security",
    "apparmor",
    "selinux",
    "audit",
    "module",
    "modprobe",
    "sysctl",
    "bootconfig",
    "console_msg",
    "kgdb",
    "udev",
    "tpm",
    "resume",
];

/// Why an argument of a profile is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// More than one word, or a character with a meaning for a shell or for the kernel's parser.
    #[error("is not one kernel argument")]
    Form,
    /// Reserved for Fleeti.
    #[error("is reserved: it decides what is booted or verified")]
    Reserved,
    /// Not in the list of allowed arguments.
    #[error("is not on the list of kernel arguments that a profile may set")]
    Unlisted,
    /// In the list, but not with this value.
    #[error("has a value that a profile may not set")]
    Value,
}

impl ArgumentError {
    /// How to fix it.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Form => "write one argument per entry, with letters, digits and _.,:;=+/@%*-",
            Self::Reserved => "remove it: Fleeti sets what the boot needs",
            Self::Unlisted => "remove it: only arguments known to be harmless are accepted",
            Self::Value => "remove it, or choose a value that disables no protection",
        }
    }
}

/// Why a finished command line is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandLineError {
    /// The command line is too long: the kernel would cut it.
    #[error("the command line has {0} bytes, expected at most {LENGTH_MAX}")]
    Length(usize),
    /// The command line does not begin with the expected root hash.
    #[error("the command line does not name the root hash {wanted}, once and first: {found:?}")]
    RootHash {
        /// The expected root hash.
        wanted: String,
        /// The first word of the command line.
        found: String,
    },
    /// An argument of Fleeti is missing or misplaced.
    #[error("the command line has {found:?} where it needs {wanted:?}")]
    Own {
        /// The expected word of [`OWN`].
        wanted: &'static str,
        /// The word found; empty at the end of the command line.
        found: String,
    },
    /// An argument that a profile may not set.
    #[error("the command line's {argument:?} {reason}")]
    Argument {
        /// The argument.
        argument: String,
        /// Why it is refused.
        reason: ArgumentError,
    },
}

/// Checks one argument of a profile.
///
/// # Errors
/// [`ArgumentError`].
///
/// ```
/// use fleeti_core::command_line::{ArgumentError, check_argument};
/// assert_eq!(check_argument("quiet"), Ok(()));
/// assert_eq!(check_argument("rdinit=/bin/sh"), Err(ArgumentError::Reserved));
/// assert_eq!(check_argument("$(id)"), Err(ArgumentError::Form));
/// assert_eq!(check_argument("kptr.new=1"), Err(ArgumentError::Unlisted));
/// ```
pub fn check_argument(argument: &str) -> Result<(), ArgumentError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.,:;=+/@%*-".contains(&b);
    if !(1..=ARGUMENT_MAX).contains(&argument.len()) || !argument.bytes().all(plain) {
        return Err(ArgumentError::Form);
    }
    let (name, value) =
        argument.split_once('=').map_or((argument, None), |(name, value)| (name, Some(value)));
    let name = name.replace('-', "_");
    let mut listed = LISTED.iter().filter(|(listed, _)| *listed == name).peekable();
    if listed.peek().is_some() {
        return if listed.any(|(_, wanted)| wanted.holds(value)) {
            Ok(())
        } else {
            Err(ArgumentError::Value)
        };
    }
    if let Some((driver, parameter)) = name.split_once('.')
        && DRIVERS.contains(&driver.to_ascii_lowercase().as_str())
        && !parameter.is_empty()
        && parameter.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    {
        return Ok(());
    }
    let name = name.to_ascii_lowercase();
    let is_reserved = |r: &&str| if r.len() < 3 { name == **r } else { name.starts_with(*r) };
    if RESERVED.iter().any(is_reserved) || name.starts_with("__") {
        Err(ArgumentError::Reserved)
    } else {
        Err(ArgumentError::Unlisted)
    }
}

impl Value {
    fn holds(self, value: Option<&str>) -> bool {
        match (self, value) {
            (Self::None, None) | (Self::Any, _) => true,
            (Self::OneOf(values), Some(value)) => values.contains(&value),
            (Self::Number, Some(value)) => {
                (1..=10).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit())
            }
            (Self::Console, Some(value)) => is_console(value),
            (Self::None, Some(_)) | (Self::OneOf(_) | Self::Number | Self::Console, None) => false,
        }
    }
}

/// A value such as `tty0` or `ttyS1,115200n8`.
fn is_console(value: &str) -> bool {
    let (name, options) = value.split_once(',').unwrap_or((value, ""));
    let number =
        ["ttyAMA", "ttyUSB", "ttyS", "tty", "hvc"].iter().find_map(|kind| name.strip_prefix(kind));
    let is_number =
        |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    number.is_some_and(is_number)
        && options.len() <= 12
        && options.bytes().all(|b| b.is_ascii_digit() || b"noer".contains(&b))
}

/// Builds the whole command line of an image: the arguments of a profile, after one of [`LOCKDOWN`]
/// if the image has it.
#[must_use]
pub fn of<'a>(root_hash: &str, arguments: impl IntoIterator<Item = &'a str>) -> String {
    let words = OWN.into_iter().chain(arguments).collect::<Vec<_>>();
    format!("roothash={root_hash} {}", words.join(" "))
}

/// Checks a finished command line: it must be exactly what [`of`] makes of this root hash, of one
/// argument of [`LOCKDOWN`] or none, and of arguments that a profile may set. No argument of Fleeti
/// may be missing, and no word may be added.
///
/// # Errors
/// [`CommandLineError`] with the first wrong word.
pub fn check(text: &str, root_hash: &str) -> Result<(), CommandLineError> {
    if text.len() > LENGTH_MAX {
        return Err(CommandLineError::Length(text.len()));
    }
    let mut words = text.split(' ').peekable();
    let first = words.next().unwrap_or_default();
    if first.strip_prefix("roothash=") != Some(root_hash) {
        return Err(CommandLineError::RootHash {
            wanted: root_hash.to_owned(),
            found: first.to_owned(),
        });
    }
    for wanted in OWN {
        let found = words.next().unwrap_or_default();
        if found != wanted {
            return Err(CommandLineError::Own { wanted, found: found.to_owned() });
        }
    }
    words.next_if(|word| LOCKDOWN.contains(word));
    for argument in words {
        check_argument(argument).map_err(|reason| CommandLineError::Argument {
            argument: argument.to_owned(),
            reason,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
