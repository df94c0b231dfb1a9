//! The overlay: what Fleeti and a profile add to a base, as one JSON document of files, links,
//! users and directories.
//!
//! The module is pure: the same profile, release name and public keys always give the same
//! document.

use fleeti_core::id::{ReleaseName, Version};
use fleeti_core::image::ImageFacts;
use fleeti_core::profile::{Profile, Service, UnitState};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

macro_rules! embedded {
    ($name:literal) => {
        include_str!(concat!("../../../nix/overlay/", $name))
    };
}

/// Directory of Fleeti's files in the image.
const LIB: &str = "/usr/lib/fleeti";
const UNITS: &str = "/usr/lib/systemd/system";

const TEXTS: &[(&str, &str)] = &[
    ("/etc/fstab", embedded!("fstab")),
    // In Fleeti's own directory, so that systemd-repart does not make the partition before the
    // agent has decided how.
    ("/usr/lib/fleeti/repart/plain/50-data.conf", embedded!("50-data.conf")),
    ("/usr/lib/fleeti/repart/sealed/50-data.conf", embedded!("50-data-sealed.conf")),
    ("/usr/lib/systemd/system/fleeti-storage.service", embedded!("fleeti-storage.service")),
    (
        "/usr/lib/systemd/system/fleeti-recovery-key.service",
        embedded!("fleeti-recovery-key.service"),
    ),
    ("/usr/lib/systemd/system/fleeti-secrets.target", embedded!("fleeti-secrets.target")),
    ("/usr/lib/systemd/network/10-ethernet.network", embedded!("10-ethernet.network")),
    ("/usr/lib/systemd/system-preset/00-fleeti.preset", embedded!("00-fleeti.preset")),
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

/// The public keys that go into an image.
#[derive(Debug, Clone)]
pub struct Trust {
    root_pem: String,
    release_pem: String,
    audit_pub: String,
    openpgp: Vec<u8>,
    pcr_pem: String,
}

/// Why an overlay could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// A file of the trust directory is missing or cannot be read.
    #[error(
        "{path}: {source}; the trust directory is `public` of `fleeti pki init` (for an older one, `fleeti pki pcr-key` makes pcr.pem)"
    )]
    Trust {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The profile cannot be serialized.
    #[error("the profile cannot be serialized: {0}")]
    Json(#[from] serde_json::Error),
}

impl Trust {
    /// Reads the directory `public` of a PKI.
    ///
    /// # Errors
    /// [`OverlayError::Trust`] with the missing file.
    pub fn read(folder: &Path) -> Result<Self, OverlayError> {
        let path = |name: &str| folder.join(name);
        let error = |path: PathBuf| |source| OverlayError::Trust { path, source };
        let text = |name: &str| fs::read_to_string(path(name)).map_err(error(path(name)));
        Ok(Self {
            root_pem: text("root.pem")?,
            release_pem: text("release.pem")?,
            audit_pub: text("audit.pub")?,
            openpgp: fs::read(path("openpgp.gpg")).map_err(error(path("openpgp.gpg")))?,
            pcr_pem: text("pcr.pem")?,
        })
    }

    /// The public key of the PCR policy, PEM: a signature by it over PCR 11 opens what devices
    /// seal.
    #[must_use]
    pub fn pcr_pem(&self) -> &str {
        &self.pcr_pem
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Content {
    Text { content: String },
    Bytes { base64: String },
    Link { link: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Entry {
    path: String,
    mode: String,
    #[serde(flatten)]
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct OverlayUser {
    name: String,
    comment: String,
    shell: String,
    groups: Vec<String>,
    password_hash: Option<String>,
}

/// Files, users and directories that are added to a base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overlay {
    files: Vec<Entry>,
    users: Vec<OverlayUser>,
    directories: Vec<String>,
}

impl Overlay {
    /// Makes the overlay of a profile.
    ///
    /// # Errors
    /// [`OverlayError::Json`].
    pub fn new(
        profile: &Profile,
        release: &ReleaseName,
        minimum: &Version,
        trust: &Trust,
    ) -> Result<Self, OverlayError> {
        let mut overlay = Self { files: vec![], users: vec![], directories: vec![] };
        // The files of the profile first: what Fleeti writes afterwards replaces them.
        for f in &profile.files {
            overlay.text(&f.path, f.mode_bits().unwrap_or(0o644), f.content.clone());
        }
        for service in &profile.services {
            overlay.service(service);
        }
        overlay.fleeti(profile, release, minimum, trust)?;
        overlay.accounts(profile);
        for directory in
            ["/data", "/boot", "/efi", "/var", "/root", "/home", "/mnt", "/media", "/opt", "/srv"]
        {
            overlay.directories.push(directory.into());
        }
        Ok(overlay)
    }

    /// The document that the base reads.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn push(&mut self, path: &str, mode: u32, content: Content) {
        self.files.push(Entry { path: path.into(), mode: format!("{mode:04o}"), content });
    }
    fn text(&mut self, path: &str, mode: u32, content: impl Into<String>) {
        self.push(path, mode, Content::Text { content: content.into() });
    }
    fn link(&mut self, path: &str, link: &str) {
        self.push(path, 0o777, Content::Link { link: link.into() });
    }

    fn service(&mut self, service: &Service) {
        if let Some(unit) = &service.unit {
            self.text(&format!("{UNITS}/{}", service.name), 0o644, unit.clone());
        }
        for drop_in in &service.drop_ins {
            let path = format!("/etc/systemd/system/{}.d/{}.conf", service.name, drop_in.name);
            self.text(&path, 0o644, drop_in.text.clone());
        }
        if service.state == UnitState::Masked {
            self.link(&format!("/etc/systemd/system/{}", service.name), "/dev/null");
        }
    }

    fn fleeti(
        &mut self,
        profile: &Profile,
        release: &ReleaseName,
        minimum: &Version,
        trust: &Trust,
    ) -> Result<(), OverlayError> {
        let (line, version) = (&release.line, &release.version);
        for (path, text) in TEXTS {
            self.text(path, 0o644, *text);
        }
        // Earlier presets win, so those of the profile come before the defaults.
        let presets: String = profile
            .services
            .iter()
            .map(|s| match s.state {
                UnitState::Enabled => format!("enable {}\n", s.name),
                UnitState::Disabled | UnitState::Masked => format!("disable {}\n", s.name),
            })
            .collect();
        self.text("/usr/lib/systemd/system-preset/01-fleeti-profile.preset", 0o644, presets);
        for (name, text) in TRANSFERS {
            let text = text.replace("@LINE@", line.as_str()).replace("@MINIMUM@", minimum.as_str());
            self.text(&format!("{LIB}/sysupdate.d/{name}"), 0o644, text);
        }
        for unit in MASKED {
            self.link(&format!("/etc/systemd/system/{unit}"), "/dev/null");
        }
        self.text(
            "/usr/lib/os-release",
            0o644,
            format!(
                "NAME=\"Fleeti\"\nID=fleeti\nID_LIKE=debian\nPRETTY_NAME=\"Fleeti {release}\"\nVERSION_ID={version}\n\
                 IMAGE_ID={line}\nIMAGE_VERSION={version}\n"
            ),
        );
        self.text("/etc/hostname", 0o644, format!("{line}\n"));
        self.text(
            "/etc/hosts",
            0o644,
            format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {line}\n"),
        );
        self.link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
        self.link("/etc/mtab", "../proc/self/mounts");
        self.link("/etc/localtime", "/usr/share/zoneinfo/Etc/UTC");
        let facts = ImageFacts {
            minimum_version: minimum.clone(),
            hostname: profile.identity.hostname.clone(),
            health_checks: profile.health_checks.clone(),
            release_log: profile.release_log,
            server_contact: profile.server_contact,
        };
        self.text(&format!("{LIB}/image.json"), 0o644, serde_json::to_string_pretty(&facts)?);
        self.text(&format!("{LIB}/trust/root.pem"), 0o644, trust.root_pem.clone());
        self.text(&format!("{LIB}/trust/release.pem"), 0o644, trust.release_pem.clone());
        self.text(&format!("{LIB}/trust/audit.pub"), 0o644, trust.audit_pub.clone());
        // systemd before 261 reads .gpg, later versions .pgp.
        for name in ["import-pubring.gpg", "import-pubring.pgp"] {
            let base64 = fleeti_pki::base64_text(&trust.openpgp);
            self.push(&format!("/usr/lib/systemd/{name}"), 0o644, Content::Bytes { base64 });
        }
        Ok(())
    }

    fn accounts(&mut self, profile: &Profile) {
        let mut homes = String::new();
        for user in &profile.users {
            homes.push_str(&format!("d /var/home/{0} 0700 {0} {0} -\n", user.name));
            if !user.ssh_keys.is_empty() {
                let keys = user.ssh_keys.iter().map(|k| format!("{k}\n")).collect::<String>();
                self.text(&format!("/etc/ssh/authorized_keys/{}", user.name), 0o644, keys);
            }
            self.users.push(OverlayUser {
                name: user.name.clone(),
                comment: user.comment.clone(),
                shell: user.shell.clone(),
                groups: user.groups.clone(),
                password_hash: user.password_hash.clone(),
            });
        }
        self.text("/usr/lib/tmpfiles.d/fleeti.conf", 0o644, homes);
        if profile.software.packages.iter().any(|p| p == "openssh-server") {
            self.text(
                "/etc/ssh/sshd_config.d/20-fleeti.conf",
                0o644,
                embedded!("20-fleeti-sshd.conf"),
            );
            self.text(
                "/usr/lib/systemd/system/fleeti-ssh-keys.service",
                0o644,
                embedded!("fleeti-ssh-keys.service"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(profile: &str) -> serde_json::Value {
        overlay_with(profile, |_| {})
    }

    fn overlay_with(profile: &str, change: impl FnOnce(&mut Profile)) -> serde_json::Value {
        let text = format!("schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n{profile}");
        let mut profile = fleeti_core::profile::check(&text).unwrap();
        change(&mut profile);
        let trust = Trust {
            root_pem: "R".into(),
            release_pem: "S".into(),
            audit_pub: "A".into(),
            openpgp: vec![1],
            pcr_pem: "P".into(),
        };
        let minimum = "1".parse().unwrap();
        let overlay =
            Overlay::new(&profile, &"kiosk@2".parse().unwrap(), &minimum, &trust).unwrap();
        serde_json::from_str(&overlay.to_json()).unwrap()
    }

    fn content(overlay: &serde_json::Value, path: &str) -> String {
        let files = overlay["files"].as_array().unwrap();
        files.iter().rev().find(|f| f["path"] == path).unwrap()["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    #[test]
    fn the_transfers_carry_line_and_floor_and_leave_the_url_open() {
        let text = content(&overlay(""), "/usr/lib/fleeti/sysupdate.d/30-uki.transfer");
        assert!(
            text.contains("MinVersion=1\n")
                && text.contains("kiosk_@v.staged ")
                && text.contains("Path=@URL@")
        );
    }

    #[test]
    fn a_profile_cannot_overwrite_a_unit_of_fleeti() {
        // The check of the profile refuses this already. Even without it, Fleeti's files are
        // written last.
        let o = overlay_with("", |profile| {
            let path = "/usr/lib/systemd/system/fleeti-agent.service".to_owned();
            profile.files.push(fleeti_core::profile::File::new(&path, "x"));
        });
        assert!(
            content(&o, "/usr/lib/systemd/system/fleeti-agent.service").contains("User=fleeti")
        );
    }

    #[test]
    fn nothing_about_fleet_device_or_server_is_in_an_image() {
        let text = overlay("").to_string();
        assert!(!text.contains("8443") && !text.contains("8883") && !text.contains("token"));
    }
}
