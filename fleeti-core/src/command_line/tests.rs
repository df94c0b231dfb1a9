use super::*;

const RESERVED: &[&str] = &[
    "init=/bin/sh",
    "init",
    "rdinit=/bin/sh",
    "initrd=/x",
    "noinitrd",
    "initcall_blacklist=x",
    "root=/dev/sda1",
    "rootwait",
    "rootfstype=ext4",
    "rootflags=x",
    "roothash=00",
    "usrhash=00",
    "mount.usr=/dev/sda",
    "ro",
    "rw",
    "rd.break",
    "rd.systemd.debug_shell",
    "rd.emergency=reboot",
    "systemd.unit=rescue.target",
    "systemd.wants=x.service",
    "systemd.mask=fleeti-agent.service",
    "systemd.debug-shell=1",
    "systemd.debug_shell",
    "systemd.set_credential=x:y",
    "systemd.set-credential-binary=x:y",
    "systemd.import_credentials=yes",
    "systemd.import-credentials=yes",
    "systemd.setenv=LD_PRELOAD=/x",
    "systemd.run=/bin/sh",
    "systemd.verity=no",
    "systemd.volatile=yes",
    "systemd.extra-unit.x=y",
    "systemd.mount-extra=a:b",
    "systemd.swap-extra=a",
    "systemd.gpt_auto=yes",
    "systemd.log_level=debug",
    "luks.name=x",
    "dm-mod.create=x",
    "dm_verity.require_signatures=0",
    "dm-verity.error_behavior=0",
    "module.sig_enforce=0",
    "module.sig-enforce=0",
    "modprobe.blacklist=dm_verity",
    "module_blacklist=tpm",
    "lockdown=none",
    "efi=nosoftreserve",
    "efi_no_storage_paranoia",
    "ima_appraise=off",
    "evm=fix",
    "lsm=",
    "security=none",
    "apparmor=0",
    "selinux=0",
    "audit=0",
    "bootconfig",
    "sysctl.kernel.core_pattern=x",
    "sysctl.kernel.modprobe=/tmp/x",
    "kgdboc=ttyS0",
    "kgdbwait",
    "panic=0",
    "panic_on_oops=0",
    "1",
    "s",
    "S",
    "single",
    "emergency",
    "rescue",
    "fsck.mode=skip",
    "udev.children_max=1",
    "tpm_tis.force=1",
    "tpm.suspend_pcr=1",
    "resume=/dev/sda",
    "--",
    "--init=/bin/sh",
    "ROOT=/dev/sda",
];

#[test]
fn what_decides_what_boots_is_refused_in_every_spelling() {
    for argument in RESERVED {
        assert_eq!(check_argument(argument), Err(ArgumentError::Reserved), "{argument}");
    }
}

#[test]
fn what_is_not_listed_is_refused_whatever_it_is() {
    for argument in [
        "debug",
        "nokaslr",
        "nosmep",
        "nopti",
        "pti=off",
        "iomem=relaxed",
        "netconsole=x",
        "sysrq_always_enabled",
        "earlyprintk=ttyS0",
        "ip=dhcp",
        "crashkernel=1G",
        "kexec_load_disabled=0",
        "slub_debug=F",
        "random.trust_cpu=1",
        "hash_pointers=never",
        "mem=1G",
        "memmap=1",
        "acpi=off",
        "acpi_rsdp=0x1",
        "ghes.disable=1",
        "vconsole.keymap=x",
        "locale.LANG=x",
        "unknown",
        "unknown.x=1",
        "i915",
        "i915.=1",
        "i915.a.b=1",
        "x=",
        "nfsroot=x",
        "cryptomgr.notests",
        "user_debug=1",
        "trace_event=x",
        "ftrace=function",
        "kprobe_event=x",
        "test_suspend=mem",
    ] {
        assert!(
            matches!(
                check_argument(argument),
                Err(ArgumentError::Unlisted | ArgumentError::Reserved)
            ),
            "{argument}"
        );
    }
    for argument in [
        "mitigations=off",
        "iommu=off",
        "intel_iommu=off",
        "nosmt=no",
        "console=ttyS0,x",
        "console=null",
        "console=",
        "console",
        "loglevel=15",
        "quiet=1",
        "pci=x",
    ] {
        assert_eq!(check_argument(argument), Err(ArgumentError::Value), "{argument}");
    }
}

#[test]
fn no_argument_is_two_or_means_anything_to_a_shell() {
    for c in "\"'$`\\ \t\n\r\0\u{7f}!&|<>(){}[]#~^?é\u{a0}\u{202e}".chars() {
        for argument in [format!("quiet{c}"), format!("video={c}x"), format!("{c}")] {
            assert_eq!(check_argument(&argument), Err(ArgumentError::Form), "{argument:?}");
        }
    }
    assert_eq!(check_argument(""), Err(ArgumentError::Form));
    assert_eq!(check_argument(&format!("video={}", "x".repeat(256))), Err(ArgumentError::Form));
}

#[test]
fn ordinary_arguments_pass() {
    for argument in [
        "quiet",
        "loglevel=3",
        "console=ttyS1,115200n8",
        "console=tty1",
        "video=HDMI-A-1:1920x1080@60",
        "i915.enable_psr=0",
        "usbcore.autosuspend=-1",
        "isolcpus=managed_irq,domain,2-3",
        "nvme_core.default_ps_max_latency_us=0",
        "mitigations=auto,nosmt",
        "vt.global-cursor-default=0",
        "iTCO_wdt.nowayout=1",
    ] {
        assert_eq!(check_argument(argument), Ok(()), "{argument}");
    }
}

#[test]
fn a_finished_command_line_has_every_word_in_its_place() {
    let good = of("ab", ["quiet", "loglevel=3"]);
    assert_eq!(check(&good, "ab"), Ok(()));
    assert!(matches!(check(&good, "cd"), Err(CommandLineError::RootHash { .. })));
    for (i, word) in good.split(' ').enumerate() {
        let without: Vec<_> =
            good.split(' ').enumerate().filter(|(at, _)| *at != i).map(|(_, word)| word).collect();
        let is_own = i <= OWN.len();
        assert_eq!(check(&without.join(" "), "ab").is_err(), is_own, "without {word}");
    }
    for more in [
        "roothash=cd",
        "init=/bin/sh",
        "rdinit=/bin/sh",
        "systemd.import_credentials=yes",
        "",
        "quiet\ninit=/bin/sh",
        "\"a b\"",
        "--",
    ] {
        assert!(
            matches!(
                check(&format!("{good} {more}"), "ab"),
                Err(CommandLineError::Argument { .. })
            ),
            "{more:?}"
        );
    }
    assert!(matches!(check(&of("ab", vec!["quiet"; 400]), "ab"), Err(CommandLineError::Length(_))));
}

#[test]
fn lockdown_is_set_by_the_base_once_and_never_by_an_argument() {
    for word in LOCKDOWN {
        assert_eq!(check(&of("ab", [word, "quiet"]), "ab"), Ok(()));
        assert_eq!(check_argument(word), Err(ArgumentError::Reserved));
        for more in ["lockdown=none", "lockdown=integrity", "lockdown=confidentiality"] {
            let twice = of("ab", [word, more]);
            assert!(
                matches!(check(&twice, "ab"), Err(CommandLineError::Argument { .. })),
                "{twice}"
            );
        }
        let late = of("ab", ["quiet", word]);
        assert!(matches!(check(&late, "ab"), Err(CommandLineError::Argument { .. })), "{late}");
    }
    assert!(check(&of("ab", ["lockdown=none"]), "ab").is_err());
    let first = of("ab", []).replacen(" ro ", " lockdown=integrity ro ", 1);
    assert!(matches!(check(&first, "ab"), Err(CommandLineError::Own { .. })));
}
