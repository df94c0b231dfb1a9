//! The device side of Fleeti: an unprivileged daemon that talks to the network, and a root helper
//! with fixed verbs. `fleeti_core::update` makes every decision about updates.
//!
//! Code map: [`daemon`] (the loop) · [`identity`], [`device_key`] and [`enrollment`] (id, key and
//! certificate of the device) · [`reach`] (direct connections or a proxy) · [`channel`] (one
//! connection, and what is bound to it) · [`session`] (MQTT) · [`outbox`] (messages that must not
//! be lost) · [`driver`] (turns input into events for `step`, and applies effects) · [`staging`],
//! [`proxy`] (downloads of systemd-sysupdate), [`pace`] (their rate) · [`inhibitors`] (programs
//! that block shutdowns) · [`anchors`], [`transitions`] and [`trust_bundle`] (trust anchors) ·
//! [`server_trust`] (which servers the device trusts) · [`search`] (finds the server again) ·
//! [`clock`] (the time) · [`kept`] (state files that may be damaged) · [`privileged`] (the root
//! helper) · [`boot`] (what runs, and what failed boots left behind) · [`image`] (what the image
//! states about itself) · [`console`] (lines on the console) · [`announcements`] and
//! [`release_log`] (what the server announces, and the audit log) · [`secure_boot`] (what the
//! firmware would start) · [`tpm`] and [`attestation`] (evidence) · [`storage`], [`luks`] and
//! [`next_key`] (the data partition) · [`program`] (the command line) · [`health`] and [`checks`]
//! (health checks) · [`commands`] (commands of the server) · [`telemetry`] · [`vault`] (secrets and the recovery key), [`boot_secrets`]
//! (those without which the server is not reached) · [`backoff`] (delays between attempts: of the
//! MQTT session, downloads and all else) · [`http`] (requests to the server).
//!
//! ```
//! use fleeti_agent::outbox::Outbox;
//! use fleeti_core::wire::mqtt::Up;
//! let dir = tempfile::tempdir().unwrap();
//! let outbox = Outbox::open(dir.path()).unwrap();
//! outbox.push(Up::Report, b"{}").unwrap();
//! assert_eq!(outbox.first().unwrap().unwrap().payload, b"{}");
//! ```
//!
//! **Features**: none. **Errors**: Errors that decide something have types in their modules; the
//! others end in the log. **Stability**: Rust items may change with each release before 1.0.

pub mod anchors;
pub mod announcements;
pub mod attestation;
pub mod backoff;
pub mod boot;
pub mod boot_secrets;
pub mod channel;
pub mod checks;
pub mod clock;
pub mod commands;
pub mod console;
pub mod daemon;
pub mod device_key;
pub mod driver;
pub mod enrollment;
pub mod health;
pub mod http;
pub mod identity;
pub mod image;
pub mod inhibitors;
pub mod kept;
pub mod luks;
pub mod next_key;
pub mod outbox;
pub mod pace;
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
pub mod transitions;
pub mod trust_bundle;
pub mod vault;

use clock::Clock;
use std::path::{Path, PathBuf};

/// File locations on a device; tests use another root.
#[derive(Debug, Clone)]
pub struct Paths {
    /// `/var/lib/fleeti/agent`: the daemon's, mode 0700.
    pub state: PathBuf,
    /// `/var/lib/fleeti/helper`: the helper's.
    pub helper_state: PathBuf,
    /// `/run/fleeti`: the helper's socket and definitions.
    pub run: PathBuf,
    /// `/usr/lib/fleeti`: files of the image.
    pub lib: PathBuf,
    /// `/boot`: the ESP.
    pub esp: PathBuf,
    /// `/sys/firmware/efi/efivars`: the firmware variables.
    pub efivars: PathBuf,
    /// The TCTI of the TPM; `None` without a TPM.
    pub tpm: Option<String>,
    /// The firmware log.
    pub firmware_log: PathBuf,
    /// The log of user space.
    pub phases_log: PathBuf,
    /// `/run/fleeti-secrets`: secrets of the fleet, for services that load them by path. Not a
    /// folder that systemd searches for credentials: some of its services load credentials from
    /// there that would open a shell.
    pub secrets: PathBuf,
    /// `/run/fleeti-boot-secrets`: secrets that the device needs to reach its server.
    pub boot_secrets: PathBuf,
    /// `/usr/lib/os-release`.
    pub os_release: PathBuf,
    /// The unmodified systemd-sysupdate.
    pub sysupdate: PathBuf,
    /// Where systemd-sysupdate looks for OpenPGP keys. The first existing file is the image's.
    pub keyrings: Vec<PathBuf>,
    /// journalctl(1).
    pub journalctl: PathBuf,
    /// `/data`: the data partition.
    pub data: PathBuf,
    /// unshare(1): starts systemd-sysupdate where it must see another keyring there.
    pub unshare: PathBuf,
    /// `/run/systemd/inhibit`: the locks of programs that block shutdowns.
    pub inhibitors: PathBuf,
    /// The daemon's clock.
    pub clock: Clock,
    /// Whether the helper sets the system clock if it is wrong.
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
            boot_secrets: "/run/fleeti-boot-secrets".into(),
            os_release: "/usr/lib/os-release".into(),
            sysupdate: "/usr/lib/systemd/systemd-sysupdate".into(),
            // In systemd's search order; the suffix depends on its version.
            keyrings: ["/etc/systemd", "/usr/lib/systemd"]
                .iter()
                .flat_map(|folder| {
                    ["gpg", "pgp"].map(|suffix| format!("{folder}/import-pubring.{suffix}").into())
                })
                .collect(),
            journalctl: "/usr/bin/journalctl".into(),
            data: "/data".into(),
            unshare: "/usr/bin/unshare".into(),
            inhibitors: "/run/systemd/inhibit".into(),
            clock: Clock::system("/var/lib/fleeti/agent/time-floor".into()),
            may_set_clock: true,
        }
    }
    /// The same paths below a folder, for tests and simulated devices.
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
            boot_secrets: folder.join("boot-secrets"),
            os_release: folder.join("os-release"),
            sysupdate: folder.join("systemd-sysupdate"),
            keyrings: vec![folder.join("keyring.gpg")],
            journalctl: "/usr/bin/journalctl".into(),
            data: folder.join("data"),
            unshare: "/usr/bin/unshare".into(),
            inhibitors: folder.join("inhibit"),
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
    fleeti_files::write_durably(path, bytes, fleeti_files::PRIVATE)
}
