//! Directories with data. Their content is not copied.

use crate::accounts::Owners;
use crate::draft::{Draft, count};
use crate::note::Area;
use crate::snapshot::{DataDirectory, Snapshot};
use fleeti_core::profile::{OnReset, StateDirectory};

/// Directories below which every directory may have data of its own.
pub(crate) const PARENTS: [&str; 5] = ["/var/lib", "/var/opt", "/srv", "/opt", "/usr/local"];
/// Directories that may have data themselves.
pub(crate) const SINGLE: [&str; 2] = ["/var/www", "/var/mail"];

/// Directories below `/var/lib` with what a system makes by itself again.
const TRANSIENT: &[&str] = &[
    "AccountsService",
    "NetworkManager",
    "PackageKit",
    "alsa",
    "app-info",
    "apt",
    "apt-listchanges",
    "apt-xapian-index",
    "apparmor",
    "aspell",
    "bluetooth",
    "ca-certificates-java",
    "cloud",
    "colord",
    "command-not-found",
    "dbus",
    "debconf",
    "dhcp",
    "dhcpcd",
    "dictionaries-common",
    "doc-base",
    "dpkg",
    "emacsen-common",
    "fontconfig",
    "fwupd",
    "gems",
    "geoclue",
    "ghostscript",
    "grub",
    "initramfs-tools",
    "initscripts",
    "insserv",
    "ispell",
    "logrotate",
    "man-db",
    "mime-support",
    "misc",
    "mlocate",
    "nfs",
    "ntp",
    "os-prober",
    "pam",
    "plocate",
    "polkit-1",
    "private",
    "python",
    "python3",
    "saned",
    "sgml-base",
    "shells.state",
    "shim-signed",
    "sudo",
    "swcatalog",
    "systemd",
    "texmf",
    "tpm",
    "tpm2-tss",
    "ucf",
    "udisks2",
    "unattended-upgrades",
    "update-notifier",
    "update-rc.d",
    "upower",
    "urandom",
    "usb_modeswitch",
    "usbutils",
    "vim",
    "wtmpdb",
    "xfonts",
    "xkb",
    "xml-core",
];

/// Whether a system makes what is in a directory by itself again.
pub(crate) fn is_transient(path: &str) -> bool {
    path.strip_prefix("/var/lib/").is_some_and(|name| TRANSIENT.contains(&name))
}

pub(crate) fn adopt(snapshot: &Snapshot, draft: &mut Draft) {
    let owners = Owners::of(snapshot);
    for directory in &snapshot.data {
        let is_program = ["/opt/", "/usr/local/"].iter().any(|top| directory.path.starts_with(top));
        if is_transient(&directory.path) {
            continue;
        }
        if is_program { program(directory, draft) } else { data(directory, &owners, draft) }
    }
}

fn size(directory: &DataDirectory) -> String {
    let at_least = if directory.is_cut { "at least " } else { "" };
    let files = usize::try_from(directory.files).unwrap_or(usize::MAX);
    let files = count(files, "file", "files");
    format!("{at_least}{files}, {}", fleeti_core::size::bytes(directory.bytes))
}

fn program(directory: &DataDirectory, draft: &mut Draft) {
    let why = format!("{} that no package brought are not copied", size(directory));
    let next = "make a package of your own (software.own), or write small texts to [[files]]";
    draft.not_taken(Area::Files, &directory.path, &why, next);
}

fn data(directory: &DataDirectory, owners: &Owners, draft: &mut Draft) {
    let path = &directory.path;
    draft.profile.state.directories.push(StateDirectory {
        path: path.clone(),
        owner: owners.user(directory.uid),
        group: owners.group(directory.gid),
        mode: format!("{:04o}", directory.mode & 0o777),
        quota_mib: 0,
        backup: false,
        on_reset: OnReset::Wipe,
    });
    let size = size(directory);
    draft.origin("state.directories", path, format!("here it has {size}, which are not copied"));
    let why = format!("{size}: the directory persists on devices, its data is not copied");
    draft.taken(Area::State, path, &why, "copy the data yourself, for example from a backup");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_becomes_a_state_directory_with_its_owner_and_programs_do_not() {
        let directory = |path: &str, uid: u32| DataDirectory {
            path: path.to_owned(),
            mode: 0o2750,
            uid,
            gid: uid,
            files: 3,
            bytes: 4097,
            is_cut: false,
        };
        let mut snapshot = Snapshot::default()
            .with("/etc/passwd", "postgres:x:112:112::/:/bin/sh\nroot:x:0:0::/root:/bin/sh\n")
            .with("/etc/group", "postgres:x:112:\nroot:x:0:\n");
        snapshot.data = vec![
            directory("/var/lib/postgresql", 112),
            directory("/var/lib/dpkg", 0),
            directory("/opt/app", 0),
        ];
        let mut draft = crate::draft::made();
        adopt(&snapshot, &mut draft);
        let [directory] = draft.profile.state.directories.as_slice() else { panic!() };
        assert_eq!(directory.path, "/var/lib/postgresql");
        assert_eq!((directory.owner.as_str(), directory.mode.as_str()), ("postgres", "0750"));
        assert_eq!(draft.notes.len(), 2);
        assert!(draft.notes[0].why.starts_with("3 files, 4.0 KiB"), "{:?}", draft.notes);
        assert_eq!(draft.notes[1].subject, "/opt/app");
    }
}
