//! Paths and units that a profile must not write, because they decide what is booted, verified or
//! updated, or who may log in.
//!
//! Below `/etc` a profile may write every path that is not listed here. Below `/usr` it may write
//! only where no package and no part of Fleeti has files. Paths are compared without regard to
//! case. The files of a profile are never links, and the base refuses to write through a link.

/// The owner of a path, as a message names it.
type Owner = &'static str;

const TRUST: Owner = "the chain of trust";
const ACCOUNTS: Owner = "accounts: use the section users";
const LOGIN: Owner = "logins";
const UNITS: Owner = "Fleeti's units: use the section services";
const MANAGER: Owner = "systemd and the boot";
const UPDATES: Owner = "updates";
const MOUNTS: Owner = "mounts";
const LINKER: Owner = "the dynamic linker";
const WRITTEN: Owner = "Fleeti, which writes this path";
const PACKAGES: Owner = "packages";

/// Paths and their owners. The first entry that is equal to a path or is a parent of it applies. A
/// `*` at the end of an entry also matches the rest of a name.
const OWNED: &[(&str, Owner)] = &[
    ("/etc/fleeti*", TRUST),
    ("/etc/systemd/import-pubring*", TRUST),
    ("/etc/verity.d", TRUST),
    ("/etc/keys", TRUST),
    ("/etc/ssl/certs", TRUST),
    ("/etc/credstore*", TRUST),
    ("/etc/kernel", TRUST),
    ("/etc/initramfs*", TRUST),
    ("/etc/dracut*", TRUST),
    ("/etc/passwd*", ACCOUNTS),
    ("/etc/shadow*", ACCOUNTS),
    ("/etc/group*", ACCOUNTS),
    ("/etc/gshadow*", ACCOUNTS),
    ("/etc/subuid*", ACCOUNTS),
    ("/etc/subgid*", ACCOUNTS),
    ("/etc/sysusers.d", ACCOUNTS),
    ("/etc/userdb", ACCOUNTS),
    ("/etc/nsswitch.conf", ACCOUNTS),
    ("/etc/pam.conf", LOGIN),
    ("/etc/pam.d", LOGIN),
    ("/etc/security", LOGIN),
    ("/etc/ssh/sshd_config*", LOGIN),
    ("/etc/ssh/authorized_keys*", LOGIN),
    ("/etc/ssh/ssh_host_*", LOGIN),
    ("/etc/ssh/sshrc", LOGIN),
    ("/etc/default/ssh*", LOGIN),
    ("/etc/ld.so*", LINKER),
    ("/etc/fstab*", MOUNTS),
    ("/etc/crypttab*", MOUNTS),
    ("/etc/veritytab*", MOUNTS),
    ("/etc/integritytab*", MOUNTS),
    ("/etc/repart.d", MOUNTS),
    ("/etc/repart.*", MOUNTS),
    ("/etc/sysupdate*", UPDATES),
    ("/etc/extensions*", UPDATES),
    ("/etc/confexts*", UPDATES),
    ("/etc/portables*", UPDATES),
    ("/etc/tmpfiles.d", MANAGER),
    ("/etc/systemd/system.conf*", MANAGER),
    ("/etc/systemd/system-*", MANAGER),
    ("/etc/systemd/system.*", MANAGER),
    ("/etc/systemd/user-*", MANAGER),
    ("/etc/systemd/sysupdate*", UPDATES),
    ("/etc/systemd/repart*", MOUNTS),
    ("/etc/alternatives", PACKAGES),
    ("/etc/os-release", WRITTEN),
    ("/etc/machine-id", WRITTEN),
    ("/etc/hostname", WRITTEN),
    ("/etc/hosts", WRITTEN),
    ("/etc/resolv.conf", WRITTEN),
    ("/etc/localtime", WRITTEN),
    ("/etc/mtab", WRITTEN),
    ("/usr/share/fleeti*", TRUST),
    ("/usr/share/factory", MANAGER),
    ("/usr/share/user-tmpfiles.d", MANAGER),
    ("/usr/share/dbus-1/system-services", MANAGER),
    ("/usr/share/base-passwd", ACCOUNTS),
    ("/usr/share/base-files", PACKAGES),
    ("/usr/share/libc-bin", PACKAGES),
    ("/usr/share/pam*", LOGIN),
    ("/usr/share/openssh", LOGIN),
    ("/usr/share/debianutils", LOGIN),
    ("/usr/share/keyrings", TRUST),
    ("/usr/local/bin/systemctl*", MANAGER),
    ("/usr/local/lib/systemd", UNITS),
    ("/usr/local/share/systemd", UNITS),
    ("/usr/local/lib/sysusers.d", ACCOUNTS),
    ("/usr/local/lib/tmpfiles.d", MANAGER),
    ("/usr/local/lib/repart.d", MOUNTS),
    ("/usr/local/lib/sysupdate*", UPDATES),
    ("/usr/local/lib/verity.d", TRUST),
    ("/usr/local/lib/extensions", UPDATES),
    ("/usr/local/lib/confexts", UPDATES),
    ("/usr/local/lib/portables", UPDATES),
    ("/usr/local/lib/*.so*", LINKER),
    ("/usr/local/lib/lib*", LINKER),
    ("/usr/local/lib/x86_64-linux-gnu", LINKER),
    ("/usr/local/lib/aarch64-linux-gnu", LINKER),
    ("/usr/local/etc", PACKAGES),
];

/// Directories below `/usr` that a profile may write to, unless [`OWNED`] has the path.
const OPEN_BELOW_USR: &[&str] = &[
    "/usr/share/",
    "/usr/local/",
    "/usr/lib/firmware/",
    "/usr/lib/sysctl.d/",
    "/usr/lib/modules-load.d/",
    "/usr/lib/udev/rules.d/",
    "/usr/lib/systemd/network/",
    "/usr/lib/systemd/user/",
];

/// Directories of system units. [`unit_owner`] decides for each unit.
const UNIT_FOLDERS: [&str; 2] = ["/etc/systemd/system/", "/usr/lib/systemd/system/"];

/// The owner of a path; `None` if a profile may write it.
pub(super) fn owner(path: &str) -> Option<Owner> {
    let path = path.to_ascii_lowercase();
    if let Some(rest) = UNIT_FOLDERS.iter().find_map(|folder| path.strip_prefix(folder)) {
        return unit_file_owner(rest);
    }
    let is_of = |entry: &str| match entry.strip_suffix('*') {
        Some(beginning) => path.starts_with(beginning),
        None => {
            path.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    let owned = OWNED.iter().find(|(entry, _)| is_of(entry)).map(|(_, owner)| *owner);
    let is_open =
        !path.starts_with("/usr/") || OPEN_BELOW_USR.iter().any(|folder| path.starts_with(folder));
    owned.or((!is_open).then_some(PACKAGES))
}

/// The owner of `NAME` or `NAME.d/FILE.conf` in a directory of units. Only presets make directories
/// such as `NAME.wants`, and one such as `service.d` or `fleeti-.service.d` applies to many units.
fn unit_file_owner(rest: &str) -> Option<Owner> {
    let mut parts = rest.split('/');
    let (first, second, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let unit = match second {
        None => first,
        Some(_) if more.is_some() => return Some(MANAGER),
        Some(_) => match first.strip_suffix(".d") {
            Some(unit)
                if unit.contains('.')
                    && !unit.split('.').next().unwrap_or_default().ends_with('-') =>
            {
                unit
            }
            _ => return Some(MANAGER),
        },
    };
    unit_owner(unit)
}

/// Units of systemd that a profile may disable but not write.
const MAY_BE_OFF: &[&str] = &[
    "systemd-timesyncd",
    "systemd-resolved",
    "systemd-networkd",
    "systemd-networkd-wait-online",
    "systemd-oomd",
    "systemd-coredump",
    "systemd-rfkill",
    "systemd-backlight@",
    "systemd-ask-password-wall",
    "systemd-ask-password-console",
    "systemd-binfmt",
    "systemd-homed",
    "systemd-userdbd",
    "systemd-logind",
    "systemd-hostnamed",
    "systemd-localed",
    "systemd-timedated",
    "systemd-machined",
    "systemd-importd",
    "systemd-nsresourced",
    "systemd-mountfsd",
];

/// Prefixes of the names of units that belong to Fleeti or to the boot.
const OWNED_UNITS: &[(&str, Owner)] = &[
    ("fleeti", UNITS),
    ("var.mount", MOUNTS),
    ("var-", MOUNTS),
    ("data.mount", MOUNTS),
    ("boot", MANAGER),
    ("efi.", MOUNTS),
    ("-.", MOUNTS),
    ("sysroot", MOUNTS),
    ("usr.mount", MOUNTS),
    ("etc.mount", MOUNTS),
    ("usr-", MOUNTS),
    ("etc-", MOUNTS),
    ("run-", MOUNTS),
    ("tmp.mount", MOUNTS),
    ("dev-", MOUNTS),
    ("sys-", MOUNTS),
    ("proc", MOUNTS),
    ("emergency", MANAGER),
    ("rescue", MANAGER),
    ("debug-shell", MANAGER),
    ("initrd", MANAGER),
    ("dbus.", MANAGER),
    ("dbus-", MANAGER),
    ("modprobe@", MANAGER),
    ("ldconfig", MANAGER),
    ("kmod", MANAGER),
    ("user@", MANAGER),
    ("user-runtime-dir@", MANAGER),
    ("serial-getty@", LOGIN),
    ("console-getty", LOGIN),
    ("container-getty@", LOGIN),
    ("ssh.", LOGIN),
    ("ssh@", LOGIN),
    ("sshd", LOGIN),
    ("systemd-", MANAGER),
];

/// Targets of the boot (systemd.special(7)). A profile may add other targets.
const TARGETS: &[&str] = &[
    "basic",
    "blockdev@",
    "boot-complete",
    "bluetooth",
    "cryptsetup",
    "cryptsetup-pre",
    "ctrl-alt-del",
    "default",
    "exit",
    "factory-reset",
    "final",
    "first-boot-complete",
    "getty",
    "getty-pre",
    "graphical",
    "halt",
    "hibernate",
    "hybrid-sleep",
    "integritysetup",
    "integritysetup-pre",
    "kexec",
    "local-fs",
    "local-fs-pre",
    "machines",
    "multi-user",
    "network",
    "network-online",
    "network-pre",
    "nss-lookup",
    "nss-user-lookup",
    "paths",
    "poweroff",
    "printer",
    "reboot",
    "remote-cryptsetup",
    "remote-fs",
    "remote-fs-pre",
    "remote-integritysetup",
    "remote-veritysetup",
    "rpcbind",
    "runlevel0",
    "runlevel1",
    "runlevel2",
    "runlevel3",
    "runlevel4",
    "runlevel5",
    "runlevel6",
    "shutdown",
    "sigpwr",
    "sleep",
    "slices",
    "smartcard",
    "sockets",
    "soft-reboot",
    "sound",
    "ssh-access",
    "storage-target-mode",
    "suspend",
    "suspend-then-hibernate",
    "swap",
    "sysinit",
    "system-update",
    "system-update-pre",
    "time-set",
    "time-sync",
    "timers",
    "tpm2",
    "umount",
    "usb-gadget",
    "veritysetup",
    "veritysetup-pre",
];

/// The owner of a unit whose text a profile must not write; `None` for other units.
pub(super) fn unit_owner(unit: &str) -> Option<Owner> {
    let unit = unit.to_ascii_lowercase();
    if unit.strip_suffix(".target").is_some_and(|name| TARGETS.contains(&name)) {
        return Some(MANAGER);
    }
    OWNED_UNITS.iter().find(|(beginning, _)| unit.starts_with(beginning)).map(|(_, owner)| *owner)
}

/// The owner of a unit that a profile must not disable; `None` for other units.
pub(super) fn unit_is_needed_by(unit: &str) -> Option<Owner> {
    let name = unit.rsplit_once('.').map_or(unit, |(name, _)| name);
    let may_be_off =
        MAY_BE_OFF.iter().any(|off| name == *off || off.ends_with('@') && name.starts_with(off));
    let of_a_package = [
        "ssh.",
        "ssh@",
        "sshd",
        "serial-getty@",
        "console-getty",
        "container-getty@",
        "debug-shell",
    ]
    .iter()
    .any(|p| unit.starts_with(p));
    if may_be_off || of_a_package { None } else { unit_owner(unit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNED: &[&str] = &[
        "/etc/systemd/system/fleeti-agent.service",
        "/etc/systemd/system/Fleeti-agent.service",
        "/etc/systemd/system/fleeti-agent.service.d/00-x.conf",
        "/etc/systemd/system/fleeti-.service.d/x.conf",
        "/etc/systemd/system/service.d/x.conf",
        "/etc/systemd/system/a-.service.d/x.conf",
        "/etc/systemd/system/multi-user.target.wants/x.service",
        "/etc/systemd/system/multi-user.target.d/x.conf",
        "/etc/systemd/system/default.target",
        "/etc/systemd/system/emergency.service",
        "/etc/systemd/system/systemd-sysext.service",
        "/etc/systemd/system/systemd-bless-boot.service.d/x.conf",
        "/etc/systemd/system/var-lib-fleeti.mount",
        "/etc/systemd/system/boot-complete.target.requires/x",
        "/etc/systemd/system/dbus.service",
        "/etc/systemd/system/kiosk.service.d/a/b.conf",
        "/etc/systemd/system/ssh.service.d/x.conf",
        "/etc/systemd/system/debug-shell.service",
        "/usr/lib/systemd/system/fleeti-health.service",
        "/usr/lib/systemd/system/systemd-veritysetup@.service",
        "/usr/local/lib/systemd/system/x.service",
        "/etc/systemd/system.conf",
        "/etc/systemd/system.conf.d/x.conf",
        "/etc/systemd/system.control/x",
        "/etc/systemd/system.attached/x",
        "/etc/systemd/system-generators/x",
        "/etc/systemd/system-environment-generators/x",
        "/etc/systemd/system-preset/00-x.preset",
        "/etc/systemd/user-generators/x",
        "/usr/lib/systemd/system-generators/x",
        "/usr/lib/systemd/system-preset/00-x.preset",
        "/usr/lib/systemd/systemd",
        "/usr/lib/systemd/system-shutdown/x",
        "/etc/ssh/sshd_config",
        "/etc/ssh/sshd_config.d/00-x.conf",
        "/etc/SSH/sshd_config.d/00-x.conf",
        "/etc/ssh/authorized_keys/root",
        "/etc/default/ssh",
        "/etc/sysusers.d/x.conf",
        "/usr/lib/sysusers.d/x.conf",
        "/usr/local/lib/sysusers.d/x.conf",
        "/etc/tmpfiles.d/x.conf",
        "/usr/lib/tmpfiles.d/x.conf",
        "/etc/sysupdate.d/x",
        "/etc/sysupdate.x.d/y",
        "/usr/lib/sysupdate.d/x",
        "/usr/lib/sysupdate.x.d/y",
        "/usr/lib/fleeti/trust/root.pem",
        "/usr/lib/fleeti",
        "/etc/systemd/import-pubring.gpg",
        "/usr/lib/systemd/import-pubring.pgp",
        "/etc/pam.d/login",
        "/usr/lib/pam.d/login",
        "/etc/security/pam_env.conf",
        "/etc/pam.conf",
        "/etc/ld.so.preload",
        "/etc/ld.so.conf.d/x.conf",
        "/usr/local/lib/libc.so.6",
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
        "/usr/bin/systemctl",
        "/usr/sbin/sshd",
        "/usr/lib/repart.d/x",
        "/etc/repart.d/x",
        "/etc/fstab",
        "/etc/crypttab",
        "/etc/veritytab",
        "/etc/verity.d/x.crt",
        "/usr/lib/verity.d/x.crt",
        "/etc/extensions/x",
        "/etc/confexts/x",
        "/usr/lib/extensions/x",
        "/etc/portables/x",
        "/etc/kernel/cmdline",
        "/usr/lib/kernel/install.d/x",
        "/usr/lib/modules/x",
        "/etc/passwd",
        "/etc/passwd-",
        "/etc/shadow",
        "/etc/group",
        "/etc/gshadow",
        "/etc/nsswitch.conf",
        "/etc/os-release",
        "/etc/machine-id",
        "/etc/hosts",
        "/usr/lib/os-release",
        "/usr/lib/boot/x",
        "/usr/libexec/x",
        "/usr/include/x",
        "/usr/share/openssh/sshd_config",
        "/usr/share/base-passwd/passwd.master",
        "/usr/share/dbus-1/system-services/x.service",
        "/usr/lib/udev/hwdb.bin",
        "/usr/lib/modprobe.d/x.conf",
        "/usr/lib/ssl/x",
        "/usr/local/bin/systemctl",
    ];

    #[test]
    fn what_is_fleetis_is_owned_in_every_place_and_spelling() {
        for path in OWNED {
            assert!(owner(path).is_some(), "{path}");
        }
    }

    #[test]
    fn what_is_a_profiles_own_is_free() {
        for path in [
            "/etc/motd",
            "/etc/nftables.conf",
            "/etc/kiosk/config.toml",
            "/etc/systemd/system/kiosk.service",
            "/etc/systemd/system/kiosk.service.d/10-x.conf",
            "/etc/systemd/network/20-lan.network",
            "/etc/systemd/journald.conf.d/x.conf",
            "/etc/systemd/timesyncd.conf.d/x.conf",
            "/etc/sysctl.d/10-x.conf",
            "/etc/udev/rules.d/70-touch.rules",
            "/etc/sudoers.d/ops",
            "/etc/ssh/ssh_config.d/x.conf",
            "/etc/modprobe.d/i915.conf",
            "/opt/kiosk/run",
            "/usr/share/kiosk/index.html",
            "/usr/local/bin/kiosk",
            "/usr/lib/firmware/x.bin",
            "/usr/lib/systemd/system/kiosk.service",
            "/etc/systemd/system/getty@tty1.service.d/autologin.conf",
            "/etc/NetworkManager/system-connections/x",
            "/usr/share/ca-certificates/own.crt",
            "/etc/systemd/system/kiosk.target",
        ] {
            assert_eq!(owner(path), None, "{path}");
        }
    }

    #[test]
    fn units_of_the_boot_can_neither_be_written_nor_turned_off() {
        for unit in [
            "fleeti-agent.service",
            "systemd-bless-boot.service",
            "boot-complete.target",
            "sysinit.target",
            "var-lib-fleeti.mount",
            "systemd-veritysetup@root.service",
        ] {
            assert!(unit_owner(unit).is_some() && unit_is_needed_by(unit).is_some(), "{unit}");
        }
        for unit in [
            "systemd-timesyncd.service",
            "systemd-resolved.service",
            "ssh.service",
            "nftables.service",
            "getty@tty1.service",
        ] {
            assert_eq!(unit_is_needed_by(unit), None, "{unit}");
        }
    }
}
