//! Kernel arguments, modules and settings of sysctl.

use crate::conffile::{Conffiles, Origin};
use crate::draft::Draft;
use crate::ini::variable;
use crate::note::Area;
use crate::snapshot::Snapshot;

pub(crate) fn adopt(snapshot: &Snapshot, conffiles: &Conffiles<'_>, draft: &mut Draft) {
    let is_changed = |path: &str| {
        let entry = snapshot.entries.get(path);
        entry.is_some_and(|entry| conffiles.origin(path, entry) != Origin::Package)
    };
    let single = snapshot.text("/etc/sysctl.conf").map(|text| ("/etc/sysctl.conf", text));
    let texts = snapshot.texts("/etc/sysctl.d", ".conf").chain(single);
    for (path, text) in texts.filter(|(path, _)| is_changed(path)) {
        draft.handle(path);
        sysctl(path, text, draft);
    }
    let single = snapshot.text("/etc/modules").map(|text| ("/etc/modules", text));
    let texts = snapshot.texts("/etc/modules-load.d", ".conf").chain(single);
    for (path, text) in texts.filter(|(path, _)| is_changed(path)) {
        draft.handle(path);
        modules(path, text, draft);
    }
    for (path, text) in snapshot.texts("/etc/modprobe.d", ".conf") {
        if is_changed(path) && blacklist(text, draft) {
            draft.handle(path);
        }
    }
    arguments(snapshot, draft);
}

fn settings(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
}

fn sysctl(path: &str, text: &str, draft: &mut Draft) {
    for line in settings(text) {
        let Some((name, value)) = line.split_once('=') else {
            draft.not_taken(Area::Kernel, path, "has a line without a value", "");
            continue;
        };
        let name = name.trim().trim_start_matches('-').trim();
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        draft.origin("kernel.sysctl", name, path);
        draft.profile.kernel.sysctl.insert(name.to_owned(), value);
    }
}

fn modules(path: &str, text: &str, draft: &mut Draft) {
    for line in settings(text) {
        let mut words = line.split_whitespace();
        let Some(module) = words.next() else { continue };
        if words.next().is_some() {
            let next = "write them to a [[files]] entry below /etc/modprobe.d";
            let why = format!("parameters of the module in {path} are not taken");
            draft.not_taken(Area::Kernel, module, &why, next);
        }
        let modules = &mut draft.profile.kernel.modules;
        if !modules.iter().any(|known| known == module) {
            modules.push(module.to_owned());
        }
    }
}

/// Takes a file that only forbids modules; `false` if it does anything else, and so stays a file.
fn blacklist(text: &str, draft: &mut Draft) -> bool {
    let mut found = Vec::new();
    for line in settings(text) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["blacklist", module] => found.push(*module),
            ["install", module, program, ..]
                if program.ends_with("/false") || program.ends_with("/true") =>
            {
                found.push(module);
            }
            _ => return false,
        }
    }
    for module in found {
        let list = &mut draft.profile.kernel.blacklist;
        if !list.iter().any(|known| known == module) {
            list.push(module.to_owned());
        }
    }
    true
}

/// Arguments that name the disk, or that the installer writes.
const OF_THE_SYSTEM: [&str; 8] =
    ["quiet", "splash", "ro", "rw", "root=", "rootflags=", "resume=", "BOOT_IMAGE="];

fn arguments(snapshot: &Snapshot, draft: &mut Draft) {
    let Some(text) = snapshot.text("/etc/default/grub") else { return };
    for name in ["GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"] {
        let value = variable(text, name).unwrap_or_default();
        for argument in value.split_whitespace() {
            let is_of_the_system = OF_THE_SYSTEM
                .iter()
                .any(|of| argument == *of || of.ends_with('=') && argument.starts_with(of));
            let arguments = &mut draft.profile.kernel.arguments;
            if !is_of_the_system && !arguments.iter().any(|known| known == argument) {
                arguments.push(argument.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Installed;

    #[test]
    fn settings_of_the_kernel_are_taken_from_changed_files_only() {
        let snapshot = Snapshot::default()
            .with("/etc/sysctl.d/10-own.conf", "# c\nnet.ipv4.ip_forward=1\n-vm.x = 1  2\nbroken\n")
            .with("/etc/sysctl.d/20-package.conf", "kernel.x = 1\n")
            .with_owner("/etc/sysctl.d/20-package.conf", "x")
            .with("/etc/modules", "br_netfilter\nloop max_loop=8\n")
            .with("/etc/modprobe.d/no.conf", "blacklist usb-storage\ninstall firewire-core /bin/false\n")
            .with("/etc/modprobe.d/options.conf", "blacklist x\noptions i915 a=1\n")
            .with("/etc/default/grub", "GRUB_CMDLINE_LINUX=\"console=ttyS0\"\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet root=/dev/sda\"\n");
        let installed = Installed::new();
        let mut draft = crate::draft::made();
        adopt(&snapshot, &Conffiles::of(&snapshot, &installed), &mut draft);
        let kernel = &draft.profile.kernel;
        let sysctl: Vec<_> = kernel.sysctl.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(sysctl, [("net.ipv4.ip_forward", "1"), ("vm.x", "1 2")]);
        assert_eq!(kernel.modules, ["br_netfilter", "loop"]);
        assert_eq!(kernel.blacklist, ["usb-storage", "firewire-core"]);
        assert_eq!(kernel.arguments, ["console=ttyS0"]);
        assert!(draft.handled.contains("/etc/modprobe.d/no.conf"));
        assert!(!draft.handled.contains("/etc/modprobe.d/options.conf"));
        assert_eq!(draft.notes.len(), 2);
    }
}
