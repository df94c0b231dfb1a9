//! Modules and settings of the kernel, and the security settings that are made of them.

use super::entry::Additions;
use fleeti_core::profile::{Kernel, Profile};

/// `security.hardened_sysctl`: what unprivileged programs learn about the kernel and each other.
const HARDENED: &str = "kernel.kptr_restrict = 2\nkernel.dmesg_restrict = 1\n\
                        kernel.yama.ptrace_scope = 1\nkernel.unprivileged_bpf_disabled = 1\n\
                        net.core.bpf_jit_harden = 2\n";
/// `security.no_core_dumps`: neither the kernel nor systemd-coredump stores one.
const NO_CORE_DUMPS: &[(&str, &str)] = &[
    (
        "/usr/lib/sysctl.d/56-fleeti-no-core-dumps.conf",
        "kernel.core_pattern = |/bin/false\nfs.suid_dumpable = 0\n",
    ),
    (
        "/usr/lib/systemd/system.conf.d/60-fleeti-no-core-dumps.conf",
        "[Manager]\nDefaultLimitCORE=0\n",
    ),
    (
        "/usr/lib/systemd/coredump.conf.d/60-fleeti-no-core-dumps.conf",
        "[Coredump]\nStorage=none\nProcessSizeMax=0\n",
    ),
    ("/etc/security/limits.d/60-fleeti-no-core-dumps.conf", "* hard core 0\nroot hard core 0\n"),
];

pub(super) fn add(profile: &Profile, out: &mut Additions) {
    let kernel = &profile.kernel;
    if !kernel.modules.is_empty() {
        let lines: String = kernel.modules.iter().map(|m| format!("{m}\n")).collect();
        out.text("/usr/lib/modules-load.d/60-fleeti-profile.conf", 0o644, lines);
    }
    if !kernel.blacklist.is_empty() {
        out.text("/usr/lib/modprobe.d/60-fleeti-profile.conf", 0o644, modprobe(kernel));
    }
    if profile.security.hardened_sysctl {
        out.text("/usr/lib/sysctl.d/55-fleeti-hardened.conf", 0o644, HARDENED);
    }
    if profile.security.no_core_dumps {
        for (path, text) in NO_CORE_DUMPS {
            out.text(path, 0o644, *text);
        }
    }
    if !kernel.sysctl.is_empty() {
        // After those above: what the profile says itself counts.
        let lines: String =
            kernel.sysctl.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        out.text("/usr/lib/sysctl.d/60-fleeti-profile.conf", 0o644, lines);
    }
}

/// `blacklist` is only about names that hardware asks for; `install` is about the others as well
/// (modprobe.d(5)).
fn modprobe(kernel: &Kernel) -> String {
    kernel.blacklist.iter().map(|m| format!("blacklist {m}\ninstall {m} /bin/false\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample;

    #[test]
    fn modules_and_settings_are_those_of_the_profile() {
        let o = sample::overlay(
            "kernel.modules = [\"br_netfilter\"]\nkernel.blacklist = [\"firewire-core\"]\n\
             kernel.sysctl = { \"net.ipv4.ip_forward\" = \"1\", \"vm.swappiness\" = \"10\" }\n",
        );
        let text = o.text("/usr/lib/modules-load.d/60-fleeti-profile.conf");
        assert_eq!(text, "br_netfilter\n");
        let text = o.text("/usr/lib/modprobe.d/60-fleeti-profile.conf");
        assert_eq!(text, "blacklist firewire-core\ninstall firewire-core /bin/false\n");
        let text = o.text("/usr/lib/sysctl.d/60-fleeti-profile.conf");
        assert_eq!(text, "net.ipv4.ip_forward = 1\nvm.swappiness = 10\n");
    }

    #[test]
    fn security_settings_are_written_when_they_are_on() {
        let o = sample::overlay("[security]\nhardened_sysctl = true\nno_core_dumps = true\n");
        let text = o.text("/usr/lib/sysctl.d/55-fleeti-hardened.conf");
        assert!(text.contains("kernel.unprivileged_bpf_disabled = 1\n"), "{text}");
        let text = o.text("/usr/lib/sysctl.d/56-fleeti-no-core-dumps.conf");
        assert_eq!(text, "kernel.core_pattern = |/bin/false\nfs.suid_dumpable = 0\n");
        let text = o.text("/etc/security/limits.d/60-fleeti-no-core-dumps.conf");
        assert!(text.starts_with("* hard core 0\n"), "{text}");
        let plain = sample::overlay("");
        assert!(plain.find("/usr/lib/sysctl.d/55-fleeti-hardened.conf").is_none());
        assert!(plain.find("/usr/lib/sysctl.d/56-fleeti-no-core-dumps.conf").is_none());
    }
}
