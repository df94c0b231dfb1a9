//! Packages of dpkg, and where they come from.

use crate::draft::{Draft, count};
use crate::note::Area;
use crate::snapshot::Snapshot;
use deb822_fast::Deb822;
use fleeti_core::profile::Firmware;
use std::collections::{BTreeMap, BTreeSet};

/// An installed package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Package {
    /// Somebody asked for it: it is not only a dependency.
    pub(crate) is_manual: bool,
    /// It belongs to a minimal Debian: essential, or of priority required or important.
    pub(crate) is_base: bool,
    /// It is of another architecture than the system.
    pub(crate) is_foreign: bool,
    pub(crate) is_held: bool,
    /// Digests (MD5) of its files of configuration, by path.
    pub(crate) conffiles: BTreeMap<String, String>,
}

/// The installed packages, by name.
pub(crate) type Installed = BTreeMap<String, Package>;

/// Reads `/var/lib/dpkg/status` and `/var/lib/apt/extended_states`.
pub(crate) fn installed(status: &str, extended: &str) -> Result<Installed, String> {
    let status: Deb822 = status.parse().map_err(|e: deb822_fast::Error| e.to_string())?;
    let extended: Deb822 = extended.parse().map_err(|e: deb822_fast::Error| e.to_string())?;
    let automatic: BTreeSet<_> = extended
        .iter()
        .filter(|p| p.get("Auto-Installed") == Some("1"))
        .filter_map(|p| p.get("Package"))
        .collect();
    let needed = if extended.is_empty() { needed(&status) } else { BTreeSet::new() };
    let native = status
        .iter()
        .find(|p| p.get("Package") == Some("dpkg"))
        .and_then(|p| p.get("Architecture"))
        .unwrap_or("amd64");
    let mut found = Installed::new();
    for paragraph in status.iter() {
        let (Some(name), Some(state)) = (paragraph.get("Package"), paragraph.get("Status")) else {
            continue;
        };
        if !state.ends_with(" installed") {
            continue;
        }
        let priority = paragraph.get("Priority").unwrap_or_default();
        let architecture = paragraph.get("Architecture").unwrap_or_default();
        let is_foreign = architecture != native && architecture != "all";
        if is_foreign && found.contains_key(name) {
            continue;
        }
        let is_flagged =
            ["Essential", "Protected"].iter().any(|flag| paragraph.get(flag) == Some("yes"));
        let package = Package {
            is_manual: !automatic.contains(name) && !needed.contains(name),
            is_base: is_flagged || ["required", "important"].contains(&priority),
            is_foreign,
            is_held: state.starts_with("hold "),
            conffiles: conffiles(paragraph.get("Conffiles").unwrap_or_default()),
        };
        found.insert(name.to_owned(), package);
    }
    Ok(found)
}

/// Packages that another installed one depends on. A system that was not installed by apt alone has
/// no record of dependencies.
fn needed(status: &Deb822) -> BTreeSet<&str> {
    let lists = status.iter().flat_map(|paragraph| {
        ["Pre-Depends", "Depends", "Recommends"].into_iter().filter_map(|name| paragraph.get(name))
    });
    let names = lists.flat_map(|list| list.split([',', '|'])).filter_map(|name| {
        let name = name.split_whitespace().next()?;
        name.split([':', '(']).next()
    });
    names.collect()
}

/// Lines of `PATH DIGEST`, and `obsolete` for files that the package does not have any more.
fn conffiles(field: &str) -> BTreeMap<String, String> {
    let lines = field.lines().map(str::trim).filter(|line| !line.is_empty());
    let pairs = lines.filter_map(|line| {
        let mut words = line.rsplit(' ');
        let last = words.next()?;
        if matches!(last, "obsolete" | "remove-on-upgrade") {
            return None;
        }
        let path = line.strip_suffix(last)?.trim_end();
        Some((path.to_owned(), last.to_owned()))
    });
    pairs.collect()
}

/// Beginnings of the names of packages that Fleeti replaces, and what does their work.
const REPLACED: &[(&str, &str)] = &[
    ("linux-image", "the base has its own kernel (kernel.flavour)"),
    ("linux-headers", "the base has its own kernel (kernel.flavour)"),
    ("grub", "systemd-boot starts the device"),
    ("shim-", "systemd-boot starts the device"),
    ("efibootmgr", "systemd-boot starts the device"),
    ("os-prober", "systemd-boot starts the device"),
    ("mokutil", "systemd-boot starts the device"),
    ("initramfs-tools", "the build makes the initrd"),
    ("dracut", "the build makes the initrd"),
    ("busybox", "the build makes the initrd"),
    ("cryptsetup-initramfs", "the build makes the initrd"),
    ("unattended-upgrades", "images are updated as a whole"),
    ("needrestart", "images are updated as a whole"),
    ("apt-listchanges", "images are updated as a whole"),
    ("cloud-init", "devices enroll with Fleeti"),
    ("cloud-guest-utils", "Fleeti partitions the disk"),
    ("cloud-initramfs", "Fleeti partitions the disk"),
    ("installation-report", "it is of the installer"),
    ("tasksel", "it is of the installer"),
    ("discover", "it is of the installer"),
    ("popularity-contest", "images are updated as a whole"),
    ("netplan", "Fleeti configures systemd-networkd"),
    ("ifupdown", "Fleeti configures systemd-networkd"),
    ("network-manager", "Fleeti configures systemd-networkd"),
    ("resolvconf", "systemd-resolved resolves names"),
    ("ufw", "network.firewall is the packet filter"),
];

/// Whether Fleeti does the work of a package in another way.
pub(crate) fn is_replaced(package: &str) -> bool {
    REPLACED.iter().any(|(beginning, _)| package.starts_with(beginning))
}

/// Packages with firmware, and their sets.
const FIRMWARE: &[(&str, Firmware)] = &[
    ("amd64-microcode", Firmware::AmdMicrocode),
    ("intel-microcode", Firmware::IntelMicrocode),
    ("firmware-iwlwifi", Firmware::IntelWifi),
    ("firmware-atheros", Firmware::Atheros),
    ("firmware-brcm80211", Firmware::Broadcom),
    ("firmware-realtek", Firmware::Realtek),
    ("firmware-amd-graphics", Firmware::AmdGraphics),
    ("firmware-intel-graphics", Firmware::IntelGraphics),
    ("firmware-intel-sound", Firmware::IntelSound),
    ("firmware-sof-signed", Firmware::IntelSound),
];

pub(crate) fn adopt(snapshot: &Snapshot, installed: &Installed, draft: &mut Draft) {
    let mut base = Vec::new();
    for (name, package) in installed.iter().filter(|(_, package)| package.is_manual) {
        let firmware = FIRMWARE.iter().find(|(of, _)| of == name).map(|(_, set)| *set);
        let replaced = REPLACED.iter().find(|(beginning, _)| name.starts_with(beginning));
        if let Some(set) = firmware {
            if !draft.profile.hardware.firmware.contains(&set) {
                draft.profile.hardware.firmware.push(set);
            }
        } else if let Some((_, why)) = replaced {
            draft.replaced(Area::Software, name, why);
        } else if package.is_base {
            base.push(name.as_str());
        } else {
            take(name, package, snapshot, draft);
        }
    }
    if !base.is_empty() {
        let why = format!(
            "belong to a minimal Debian; the base of Fleeti has its own selection: {}",
            base.join(", ")
        );
        let next = "add those that your services or users need to software.packages";
        let subject = count(base.len(), "package", "packages");
        draft.not_taken(Area::Software, &subject, &why, next);
    }
    if snapshot.archive.is_none() && !draft.profile.software.packages.is_empty() {
        let why = "there are no readable lists of apt, so packages from local .deb files are not \
                   told from those of the archive";
        draft.taken(Area::Software, "software.packages", why, "check packages of your own");
    }
}

fn take(name: &str, package: &Package, snapshot: &Snapshot, draft: &mut Draft) {
    if package.is_foreign {
        let why = "is of another architecture";
        return draft.not_taken(Area::Software, name, why, "use a package of x86_64");
    }
    if snapshot.archive.as_ref().is_some_and(|archive| !archive.contains(name)) {
        let why = "is in no list of apt: it was installed from a .deb file, or its repository is \
                   gone";
        let next = "add it to software.own with the SHA-256 digest of the .deb file";
        return draft.not_taken(Area::Software, name, why, next);
    }
    if package.is_held {
        let next = "an image has the version of the suite; check that the version fits";
        draft.taken(Area::Software, name, "was held at a version", next);
    }
    draft.install(name);
}

/// The names of the packages in a list of apt.
pub(crate) fn names_in_list(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter_map(|line| line.strip_prefix("Package: ")).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "\
Package: dpkg
Status: install ok installed
Essential: yes
Priority: required
Architecture: amd64

Package: nginx
Status: install ok installed
Priority: optional
Architecture: all
Conffiles:
 /etc/nginx/nginx.conf d41d8cd98f00b204e9800998ecf8427e
 /etc/nginx/a file d41d8cd98f00b204e9800998ecf8427f
 /etc/nginx/old d41d8cd98f00b204e9800998ecf8427e obsolete

Package: libx
Status: install ok installed
Priority: optional
Architecture: amd64

Package: gone
Status: deinstall ok config-files
Priority: optional
Architecture: amd64

Package: wine32
Status: hold ok installed
Priority: optional
Architecture: i386

Package: own-tool
Status: install ok installed
Priority: optional
Architecture: amd64

Package: linux-image-amd64
Status: install ok installed
Priority: optional
Architecture: amd64

Package: cron
Status: install ok installed
Priority: important
Architecture: amd64
";
    const EXTENDED: &str = "Package: libx\nArchitecture: amd64\nAuto-Installed: 1\n\n\
                            Package: nginx\nArchitecture: amd64\nAuto-Installed: 0\n";

    #[test]
    fn what_somebody_asked_for_is_told_from_dependencies_and_from_the_base() {
        let installed = installed(STATUS, EXTENDED).unwrap();
        assert!(installed["nginx"].is_manual && !installed["libx"].is_manual);
        assert!(installed["dpkg"].is_base && installed["cron"].is_base);
        assert!(!installed.contains_key("gone"));
        let conffiles = &installed["nginx"].conffiles;
        assert_eq!(conffiles.len(), 2);
        assert!(conffiles.contains_key("/etc/nginx/a file"));

        let archive = ["nginx", "wine32"].map(str::to_owned).into();
        let snapshot = Snapshot { archive: Some(archive), ..Snapshot::default() };
        let mut draft = crate::draft::made();
        adopt(&snapshot, &installed, &mut draft);
        assert_eq!(draft.profile.software.packages, ["nginx"]);
        let subjects: Vec<_> = draft.notes.iter().map(|note| note.subject.as_str()).collect();
        assert_eq!(subjects, ["linux-image-amd64", "own-tool", "wine32", "2 packages"]);
    }

    #[test]
    fn without_a_record_of_dependencies_a_package_that_another_one_needs_is_left_out() {
        let status = "Package: web\nStatus: install ok installed\nDepends: libx (>= 1), a:any | b\n\n\
                      Package: libx\nStatus: install ok installed\n\n\
                      Package: a\nStatus: install ok installed\n";
        let installed = installed(status, "").unwrap();
        let manual: Vec<_> =
            installed.iter().filter(|(_, p)| p.is_manual).map(|(name, _)| name.as_str()).collect();
        assert_eq!(manual, ["web"]);
    }

    #[test]
    fn a_database_that_is_not_one_is_refused() {
        assert!(installed("\u{0}\u{1}no field", "").is_err());
        assert_eq!(installed("", "").unwrap(), Installed::new());
    }
}
