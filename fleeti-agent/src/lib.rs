//! The device side of Fleeti: an unprivileged daemon that talks to the network and a root helper
//! with fixed verbs. Both decide nothing that `fleeti_core::update` does not decide.
//!
//! Code map: [`daemon`] (the loop) · [`identity`], [`device_key`] and [`enrollment`] (who the
//! device is) · [`reach`] (directly or through a proxy) · [`channel`] (one connection, and what is
//! bound to it) · [`session`] (MQTT) · [`outbox`] (what must not be lost) · [`driver`] (events into
//! `step`, effects out) · [`staging`], [`proxy`] (what systemd-sysupdate downloads from) ·
//! [`anchors`] (whom the device trusts) · [`server_trust`] (which servers it believes) · [`search`]
//! (how it finds back) · [`clock`] (what time it is) · [`kept`] (files that may be broken) ·
//! [`privileged`] (the helper, which is root) · [`boot`] (what runs, and what failed boots left
//! behind) · [`heard`] (what holds for every device) · [`secure_boot`] (what the firmware would
//! start) · [`storage`], [`luks`] and [`next_key`] (the data partition) · [`program`] (its command
//! line) · [`health`] (checks before a boot is kept) · [`telemetry`] · [`vault`] (secrets and the
//! recovery key).
//!
//! ```
//! use fleeti_agent::outbox::Outbox;
//! let dir = tempfile::tempdir().unwrap();
//! let outbox = Outbox::open(dir.path()).unwrap();
//! outbox.push("report", b"{}", true).unwrap();
//! assert_eq!(outbox.first().unwrap().unwrap().payload, b"{}");
//! ```

pub mod anchors;
pub mod attestation;
pub mod backoff;
pub mod boot;
pub mod channel;
pub mod clock;
pub mod daemon;
pub mod device_key;
pub mod driver;
pub mod enrollment;
pub mod health;
pub mod heard;
pub mod http;
pub mod identity;
pub mod image;
pub mod kept;
pub mod luks;
pub mod next_key;
pub mod outbox;
pub mod privileged;
pub mod program;
pub mod proxy;
pub mod reach;
pub mod release_log;
pub mod search;
pub mod secure_boot;
pub mod server_trust;
pub mod session;
pub mod staging;
pub mod storage;
pub mod telemetry;
pub mod tpm;
pub mod vault;

use clock::Clock;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where things lie on a device; another root in tests.
#[derive(Debug, Clone)]
pub struct Paths {
    /// `/var/lib/fleeti/agent`: the daemon's, mode 0700.
    pub state: PathBuf,
    /// `/var/lib/fleeti/helper`: root's.
    pub helper_state: PathBuf,
    /// `/run/fleeti`: the helper's socket and definitions.
    pub run: PathBuf,
    /// `/usr/lib/fleeti`: what the image brings.
    pub lib: PathBuf,
    /// `/boot`: the ESP.
    pub esp: PathBuf,
    /// `/sys/firmware/efi/efivars`: the firmware's variables.
    pub efivars: PathBuf,
    /// How the TPM is reached (a TCTI); `None` where there is none to be asked.
    pub tpm: Option<String>,
    /// What firmware measured.
    pub firmware_log: PathBuf,
    /// What user space measured.
    pub phases_log: PathBuf,
    /// `/run/fleeti-secrets`: secrets of the fleet, for services that ask for them by path. Not
    /// where systemd looks for credentials by itself: some of its own services take from there what
    /// would open a shell.
    pub secrets: PathBuf,
    /// `/usr/lib/os-release`.
    pub os_release: PathBuf,
    /// The unmodified systemd-sysupdate.
    pub sysupdate: PathBuf,
    /// Where systemd-sysupdate looks for OpenPGP keys. The first one that is there is the image's.
    pub keyrings: Vec<PathBuf>,
    /// unshare(1): what starts systemd-sysupdate where it is to see another keyring there.
    pub unshare: PathBuf,
    /// What time it is; the daemon's.
    pub clock: Clock,
    /// Whether the helper sets the system's clock where that cannot be right.
    pub may_set_clock: bool,
}

impl Paths {
    /// The paths of a device.
    #[must_use]
    pub fn device() -> Self {
        Self {
            state: "/var/lib/fleeti/agent".into(),
            helper_state: "/var/lib/fleeti/helper".into(),
            run: "/run/fleeti".into(),
            lib: "/usr/lib/fleeti".into(),
            esp: "/boot".into(),
            efivars: "/sys/firmware/efi/efivars".into(),
            tpm: Some("device:/dev/tpmrm0".into()),
            firmware_log: "/sys/kernel/security/tpm0/binary_bios_measurements".into(),
            phases_log: "/run/log/systemd/tpm2-measure.log".into(),
            secrets: "/run/fleeti-secrets".into(),
            os_release: "/usr/lib/os-release".into(),
            sysupdate: "/usr/lib/systemd/systemd-sysupdate".into(),
            // In the order in which systemd looks; which suffix it takes is a matter of its
            // version.
            keyrings: ["/etc/systemd", "/usr/lib/systemd"]
                .iter()
                .flat_map(|folder| {
                    ["gpg", "pgp"].map(|suffix| format!("{folder}/import-pubring.{suffix}").into())
                })
                .collect(),
            unshare: "/usr/bin/unshare".into(),
            clock: Clock::system("/var/lib/fleeti/agent/time-floor".into()),
            may_set_clock: true,
        }
    }
    /// The same in a folder, for a device that is none.
    #[must_use]
    pub fn below(folder: &Path) -> Self {
        Self {
            state: folder.join("agent"),
            helper_state: folder.join("helper"),
            run: folder.join("run"),
            lib: folder.join("lib"),
            esp: folder.join("esp"),
            efivars: folder.join("efivars"),
            tpm: None,
            firmware_log: folder.join("firmware.log"),
            phases_log: folder.join("phases.log"),
            secrets: folder.join("secrets"),
            os_release: folder.join("os-release"),
            sysupdate: folder.join("systemd-sysupdate"),
            keyrings: vec![folder.join("keyring.gpg")],
            unshare: "/usr/bin/unshare".into(),
            clock: Clock::system(folder.join("agent/time-floor")),
            may_set_clock: false,
        }
    }
    /// The helper's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run.join("helper.sock")
    }
}

/// Writes a file, mode 0600, so that a power cut leaves the old content or the new one.
///
/// # Errors
/// I/O.
pub fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    std::fs::File::open(folder)?.sync_all()
}
