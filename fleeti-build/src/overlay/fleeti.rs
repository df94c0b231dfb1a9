//! What Fleeti itself adds to every image.

use super::entry::{Additions, Content};
use super::error::OverlayError;
use super::trust::Trust;
use super::{firewall, security, state, wifi, wireguard};
use crate::choices;
use fleeti_core::id::{ReleaseName, Version};
use fleeti_core::image::ImageFacts;
use fleeti_core::profile::{DEFAULT_LOCALE, Profile, Secret, SupportKey};
use fleeti_pki::recipient::Recipient;

macro_rules! embedded {
    ($name:literal) => {
        include_str!(concat!("../../nix/overlay/", $name))
    };
}

/// Directory of Fleeti's files in the image.
const LIB: &str = "/usr/lib/fleeti";

const TEXTS: &[(&str, &str)] = &[
    // In Fleeti's own directory, so that systemd-repart does not make the partition before the
    // agent has decided how.
    ("/usr/lib/fleeti/repart/plain/50-data.conf", embedded!("50-data.conf")),
    ("/usr/lib/fleeti/repart/sealed/50-data.conf", embedded!("50-data-sealed.conf")),
    ("/usr/lib/systemd/system/fleeti-storage.service", embedded!("fleeti-storage.service")),
    (
        "/usr/lib/systemd/system/fleeti-recovery-key.service",
        embedded!("fleeti-recovery-key.service"),
    ),
    (
        "/usr/lib/systemd/system/fleeti-boot-secrets.service",
        embedded!("fleeti-boot-secrets.service"),
    ),
    ("/usr/lib/systemd/system/fleeti-secrets.target", embedded!("fleeti-secrets.target")),
    ("/usr/lib/systemd/system/fleeti-data.service", embedded!("fleeti-data.service")),
    ("/usr/lib/systemd/system/fleeti-var.service", embedded!("fleeti-var.service")),
    ("/usr/lib/systemd/system/var-lib-fleeti.mount", embedded!("var-lib-fleeti.mount")),
    ("/usr/lib/systemd/system/var-home.mount", embedded!("var-home.mount")),
    ("/usr/lib/systemd/system/fleeti-helper.service", embedded!("fleeti-helper.service")),
    ("/usr/lib/systemd/system/fleeti-agent.service", embedded!("fleeti-agent.service")),
    ("/usr/lib/systemd/system/fleeti-health.service", embedded!("fleeti-health.service")),
    ("/usr/lib/systemd/system/fleeti-blessed.service", embedded!("fleeti-blessed.service")),
    ("/usr/lib/systemd/system/fleeti-deadline.service", embedded!("fleeti-deadline.service")),
    ("/usr/lib/systemd/system/fleeti-deadline.timer", embedded!("fleeti-deadline.timer")),
    ("/etc/systemd/system/emergency.service", embedded!("emergency.service")),
    ("/etc/systemd/system/rescue.service", embedded!("rescue.service")),
    ("/usr/lib/systemd/system.conf.d/fleeti.conf", embedded!("fleeti-manager.conf")),
    ("/usr/lib/sysusers.d/fleeti.conf", "u fleeti 990 \"Fleeti agent\" / /usr/sbin/nologin\n"),
];

const TRANSFERS: &[(&str, &str)] = &[
    ("10-verity.transfer", embedded!("10-verity.transfer")),
    ("20-root.transfer", embedded!("20-root.transfer")),
    ("30-uki.transfer", embedded!("30-uki.transfer")),
];

/// Masked units: the build does their work, or they would run code that verity does not cover.
const MASKED: &[&str] = &[
    "systemd-sysext.service",
    "systemd-confext.service",
    "systemd-portabled.service",
    "ldconfig.service",
    "modprobe@drm.service",
    "systemd-boot-update.service",
    "systemd-boot-random-seed.service",
    "systemd-firstboot.service",
    "systemd-hibernate-clear.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-machine-id-commit.service",
    "systemd-networkd-persistent-storage.service",
    "systemd-sysusers.service",
    "systemd-update-done.service",
    "systemd-update-utmp.service",
    "serial-getty@ttyS0.service",
    "systemd-pstore.service",
    // It would write its keys to the read-only root; fleeti-ssh-keys.service makes them on the data
    // partition.
    "sshd-keygen.service",
];

/// Whether no image starts this unit.
pub(crate) fn is_masked(unit: &str) -> bool {
    MASKED.contains(&unit)
}

/// The release that an image is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image<'a> {
    pub(super) profile: &'a Profile,
    pub(super) release: &'a ReleaseName,
    pub(super) minimum: &'a Version,
    pub(super) trust: &'a Trust,
}

pub(super) fn add(image: Image, out: &mut Additions) -> Result<(), OverlayError> {
    for (path, text) in TEXTS {
        out.text(path, 0o644, *text);
    }
    networks(image.profile, out);
    let var_mib = image.profile.storage.var_mib.to_string();
    out.text("/etc/fstab", 0o644, embedded!("fstab").replace("@VAR_MIB@", &var_mib));
    // Earlier presets win, so those of the profile come before the defaults.
    let presets: String = out.presets.iter().map(|line| format!("{line}\n")).collect();
    out.text("/usr/lib/systemd/system-preset/01-fleeti-profile.preset", 0o644, presets);
    let (line, minimum) = (image.release.line.as_str(), image.minimum.as_str());
    for (name, text) in TRANSFERS {
        let text = text.replace("@LINE@", line).replace("@MINIMUM@", minimum);
        out.text(&format!("{LIB}/sysupdate.d/{name}"), 0o644, text);
    }
    for unit in MASKED {
        out.link(&format!("/etc/systemd/system/{unit}"), "/dev/null");
    }
    names(image, out);
    facts(image, out)?;
    keys(image.trust, out);
    for directory in
        ["/data", "/boot", "/efi", "/var", "/root", "/home", "/mnt", "/media", "/opt", "/srv"]
    {
        out.directories.push(directory.into());
    }
    Ok(())
}

/// Who configures the interfaces.
fn networks(profile: &Profile, out: &mut Additions) {
    let mut preset = embedded!("00-fleeti.preset").to_owned();
    if choices::has_network_manager(profile) {
        preset =
            preset.replace("enable systemd-networkd.service", "disable systemd-networkd.service");
    } else {
        let path = "/usr/lib/systemd/network/10-ethernet.network";
        out.text(path, 0o644, embedded!("10-ethernet.network"));
    }
    out.text("/usr/lib/systemd/system-preset/00-fleeti.preset", 0o644, preset);
}

/// What the image and the device are called, and what time it is there.
fn names(image: Image, out: &mut Additions) {
    let release = image.release;
    let (line, version) = (&release.line, &release.version);
    out.text(
        "/usr/lib/os-release",
        0o644,
        format!(
            "NAME=\"Fleeti\"\nID=fleeti\nID_LIKE=debian\nPRETTY_NAME=\"Fleeti {release}\"\nVERSION_ID={version}\n\
             IMAGE_ID={line}\nIMAGE_VERSION={version}\n"
        ),
    );
    out.text("/etc/hostname", 0o644, format!("{line}\n"));
    out.text(
        "/etc/hosts",
        0o644,
        format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {line}\n"),
    );
    out.link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
    out.link("/etc/mtab", "../proc/self/mounts");
    let identity = &image.profile.identity;
    if identity.locale != DEFAULT_LOCALE {
        for path in ["/etc/locale.conf", "/etc/default/locale"] {
            out.text(path, 0o644, format!("LANG={}\n", identity.locale));
        }
    }
    let zone = &identity.time_zone;
    out.link("/etc/localtime", &format!("/usr/share/zoneinfo/{zone}"));
}

/// What the agent reads about its image.
fn facts(image: Image, out: &mut Additions) -> Result<(), OverlayError> {
    let profile = image.profile;
    let facts = ImageFacts {
        minimum_version: image.minimum.clone(),
        hostname: profile.identity.hostname.clone(),
        time_zone: profile.identity.time_zone.clone(),
        health_checks: profile
            .health_checks
            .iter()
            .cloned()
            .chain(firewall::health_check(profile))
            .chain(security::health_checks(profile))
            .collect(),
        release_log: profile.release_log,
        server_contact: profile.server_contact,
        boot_secrets: boot_secrets(profile),
        diagnostics: profile.diagnostics.clone(),
        support_keys: support_keys(profile)?,
        wiped: state::wiped(profile),
    };
    out.text(&format!("{LIB}/image.json"), 0o644, serde_json::to_string_pretty(&facts)?);
    Ok(())
}

fn boot_secrets(profile: &Profile) -> Vec<Secret> {
    let of_the_boot = profile.secrets.iter().filter(|secret| secret.boot).cloned();
    let read_by_networkd = of_the_boot.map(|secret| wireguard::with_reader(secret, profile));
    read_by_networkd.map(|secret| wifi::with_reader(secret, profile)).collect()
}

/// The support keys. A key that nothing can be encrypted to is found here, not on a device.
fn support_keys(profile: &Profile) -> Result<Vec<SupportKey>, OverlayError> {
    for key in &profile.support_keys {
        Recipient::from_armored(&key.key)
            .map_err(|e| OverlayError::SupportKey { name: key.name.clone(), why: e.to_string() })?;
    }
    Ok(profile.support_keys.clone())
}

fn keys(trust: &Trust, out: &mut Additions) {
    out.text(&format!("{LIB}/trust/root.pem"), 0o644, trust.root_pem.clone());
    out.text(&format!("{LIB}/trust/release.pem"), 0o644, trust.release_pem.clone());
    out.text(&format!("{LIB}/trust/audit.pub"), 0o644, trust.audit_pub.clone());
    // systemd before 261 reads .gpg, later versions .pgp.
    for name in ["import-pubring.gpg", "import-pubring.pgp"] {
        let base64 = fleeti_pki::base64_text(&trust.openpgp);
        out.push(&format!("/usr/lib/systemd/{name}"), 0o644, Content::Bytes { base64 });
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;

    const PRESET: &str = "/usr/lib/systemd/system-preset/00-fleeti.preset";
    const ETHERNET: &str = "/usr/lib/systemd/network/10-ethernet.network";

    #[test]
    fn network_manager_configures_the_interfaces_unless_the_profile_describes_them() {
        let plain = sample::overlay("");
        assert!(plain.text(PRESET).contains("enable systemd-networkd.service\n"));
        assert!(plain.find(ETHERNET).is_some());
        let chosen = sample::overlay("software.packages = [\"network-manager\"]\n");
        assert!(chosen.text(PRESET).contains("disable systemd-networkd.service\n"));
        assert!(chosen.find(ETHERNET).is_none());
        let both = sample::overlay(
            "software.packages = [\"network-manager\"]\n[[network.interfaces]]\nname = \"lan\"\n\
             match = { name = \"enp1s0\" }\n",
        );
        assert!(both.text(PRESET).contains("enable systemd-networkd.service\n"));
    }
}
