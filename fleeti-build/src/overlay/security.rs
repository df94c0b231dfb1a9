//! The audit daemon and USBGuard.

use super::entry::{Additions, UNITS};
use fleeti_core::profile::{AccessControl, HealthCheck, Profile, Security};

/// Rules of audit.rules(7) for accounts, the clock and kernel modules. The first removes those of
/// before; `-f 1` prints failures of the audit system instead of stopping the machine.
const RULES: &str = "-D\n-b 8192\n-f 1\n\
     -w /etc/passwd -p wa -k accounts\n-w /etc/group -p wa -k accounts\n\
     -w /etc/shadow -p wa -k accounts\n-w /var/log/wtmp -p wa -k logins\n\
     -w /var/log/btmp -p wa -k logins\n\
     -a always,exit -F arch=b64 -S adjtimex,settimeofday,clock_settime -k time\n\
     -a always,exit -F arch=b64 -S init_module,finit_module,delete_module -k modules\n";
const SUDO: &str = "-a always,exit -F path=/usr/bin/sudo -F perm=x -k sudo\n";

/// On a machine without a USB controller nothing loads the bus, and without the bus the daemon ends.
const USB_BUS: &str = "[Unit]\nWants=modprobe@usbcore.service\nAfter=modprobe@usbcore.service\n";

pub(super) fn add(profile: &Profile, out: &mut Additions) {
    let Security { audit, usb_guard, .. } = &profile.security;
    if audit.enabled {
        let mut rules = RULES.to_owned();
        if profile.software.packages.iter().any(|package| package == "sudo") {
            rules.push_str(SUDO);
        }
        rules.extend(audit.rules.iter().map(|rule| format!("{rule}\n")));
        out.text("/etc/audit/audit.rules", 0o640, rules);
        // Debian's own merges /etc/audit/rules.d into this file at each boot; /etc is read-only.
        let load =
            "[Service]\nExecStart=\nExecStart=/usr/sbin/auditctl -R /etc/audit/audit.rules\n";
        out.text(&format!("{UNITS}/audit-rules.service.d/60-fleeti.conf"), 0o644, load);
    }
    if usb_guard.enabled {
        // What no rule allows is blocked: ImplicitPolicyTarget of Debian's usbguard-daemon.conf.
        let rules = usb_guard.allow.iter().map(|rule| format!("{rule}\n")).collect::<String>();
        out.text("/etc/usbguard/rules.conf", 0o600, rules);
        let path = "/usr/lib/systemd/system/usbguard.service.d/60-fleeti.conf";
        out.text(path, 0o644, USB_BUS);
    }
}

/// An image whose protection does not start is not kept.
pub(super) fn health_checks(profile: &Profile) -> impl Iterator<Item = HealthCheck> {
    let Security { audit, usb_guard, access_control, .. } = &profile.security;
    let all = [
        (audit.enabled, "the audit daemon runs", "auditd.service"),
        (usb_guard.enabled, "USB devices are guarded", "usbguard.service"),
        (
            *access_control == AccessControl::Apparmor,
            "the AppArmor profiles are loaded",
            "apparmor.service",
        ),
    ];
    all.into_iter()
        .filter(|(is_on, ..)| *is_on)
        .map(|(_, name, unit)| HealthCheck::of_unit(name, unit))
}

#[cfg(test)]
mod tests {
    use super::super::sample;

    #[test]
    fn the_audit_rules_are_those_of_fleeti_and_then_those_of_the_profile() {
        let o = sample::overlay(
            "software.packages = [\"auditd\", \"sudo\"]\n[security.audit]\nenabled = true\n\
             rules = [\"-w /etc/ssh -p wa -k ssh\"]\n",
        );
        let rules = o.text("/etc/audit/audit.rules");
        assert!(rules.starts_with("-D\n") && rules.ends_with("-w /etc/ssh -p wa -k ssh\n"));
        assert!(rules.contains("path=/usr/bin/sudo"));
        assert_eq!(o.entry("/etc/audit/audit.rules")["mode"], "0640");
        let unit = o.text("/usr/lib/systemd/system/audit-rules.service.d/60-fleeti.conf");
        assert!(unit.contains("ExecStart=\nExecStart=/usr/sbin/auditctl -R"));
        let without = sample::overlay(
            "software.packages = [\"auditd\"]\nsecurity.audit.rules = [\"-w /etc/ssh -p wa\"]\n",
        );
        assert!(without.find("/etc/audit/audit.rules").is_none());
    }

    #[test]
    fn an_image_whose_protection_does_not_start_is_not_kept() {
        let o = sample::overlay(
            "software.packages = [\"auditd\", \"apparmor\"]\nsecurity.audit.enabled = true\n\
             security.access_control = \"apparmor\"\n",
        );
        let facts = o.text("/usr/lib/fleeti/image.json");
        assert!(facts.contains("auditd.service") && facts.contains("apparmor.service"), "{facts}");
        assert!(!facts.contains("usbguard.service"), "{facts}");
    }

    #[test]
    fn without_a_rule_every_usb_device_is_blocked() {
        let enabled = "software.packages = [\"usbguard\"]\n[security.usb_guard]\nenabled = true\n";
        assert_eq!(sample::overlay(enabled).text("/etc/usbguard/rules.conf"), "");
        let unit = "/usr/lib/systemd/system/usbguard.service.d/60-fleeti.conf";
        assert!(sample::overlay(enabled).text(unit).contains("After=modprobe@usbcore.service"));
        let rule = "allow with-interface equals { 03:01:01 }";
        let o = sample::overlay(&format!("{enabled}allow = [\"{rule}\"]\n"));
        assert_eq!(o.text("/etc/usbguard/rules.conf"), format!("{rule}\n"));
        assert_eq!(o.entry("/etc/usbguard/rules.conf")["mode"], "0600");
        assert!(sample::overlay("").find("/etc/usbguard/rules.conf").is_none());
    }
}
