//! What the Debian packages are, and what they are made of.

use crate::{root, target};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A package. Paths are relative to the repository, and absolute on the machine.
pub struct Package {
    pub name: &'static str,
    pub synopsis: &'static str,
    /// Paragraphs of the long description.
    pub description: &'static str,
    /// Other packages, beside the libraries that the executables need. `@` is this version.
    pub depends: &'static [&'static str],
    pub suggests: &'static [&'static str],
    /// Executables, in /usr/bin.
    pub programs: &'static [&'static str],
    /// Other files: from, to, mode.
    pub files: &'static [(&'static str, &'static str, u32)],
    /// The service `NAME.service`, if it has one.
    pub service: Option<Service>,
}

/// A service: its unit, its user (`sysusers.d`), its folders (`tmpfiles.d`).
pub struct Service {
    /// Folder of the repository with `NAME.service`, `NAME.sysusers` and `NAME.tmpfiles`.
    pub folder: &'static str,
    /// Configuration in /etc/fleeti, which is kept when the package is upgraded.
    pub configuration: &'static str,
    /// What a purge deletes.
    pub data: &'static str,
}

pub const PACKAGES: &[Package] = &[
    Package {
        name: "fleeti",
        synopsis: "manage fleets of Linux devices: command line",
        description: "The command `fleeti`: profiles, keys, builds, releases, devices, rollouts, proofs.",
        depends: &["ca-certificates"],
        suggests: &["nix-bin"],
        programs: &["fleeti"],
        files: &[],
        service: None,
    },
    Package {
        name: "fleeti-signer",
        synopsis: "manage fleets of Linux devices: signing service",
        description: "Holds the keys of a Fleeti server in a process without a network, and writes the audit log.",
        depends: &["systemd"],
        suggests: &["fleeti"],
        programs: &["fleeti-signer"],
        files: &[("packaging/fleeti-install-keys", "/usr/sbin/fleeti-install-keys", 0o755)],
        service: Some(Service {
            folder: "fleeti-signer",
            configuration: "signer.conf",
            data: "/var/lib/fleeti-signer /etc/fleeti/passphrase.cred",
        }),
    },
    Package {
        name: "fleeti-server",
        synopsis: "manage fleets of Linux devices: server",
        description: "API, pages, device port and MQTT of Fleeti. Its keys are held by fleeti-signer.",
        depends: &["systemd", "fleeti-signer (= @)"],
        suggests: &["fleeti", "fleeti-worker", "postgresql"],
        programs: &["fleeti-server"],
        files: &[(
            "docs/guides/run-a-server.md",
            "/usr/share/doc/fleeti-server/run-a-server.md",
            0o644,
        )],
        service: Some(Service {
            folder: "fleeti-server",
            configuration: "server.conf",
            data: "/var/lib/fleeti",
        }),
    },
    Package {
        name: "fleeti-agent",
        synopsis: "manage fleets of Linux devices: agent in images",
        description: "The program that a build worker puts into images of devices.",
        depends: &[],
        suggests: &[],
        programs: &["fleeti-agent"],
        files: &[],
        service: None,
    },
    Package {
        name: "fleeti-worker",
        synopsis: "manage fleets of Linux devices: build worker",
        description: "Builds images for a Fleeti server, on its machine or on another one. Its user owns the Nix store.",
        depends: &[
            "systemd",
            "ca-certificates",
            "nix-bin",
            "fleeti-server (= @)",
            "fleeti-agent (= @)",
        ],
        suggests: &[],
        programs: &[],
        files: &[],
        service: Some(Service {
            folder: "fleeti-server",
            configuration: "worker.conf",
            data: "/var/lib/fleeti-worker /var/cache/fleeti-worker /etc/fleeti/worker.token",
        }),
    },
];

/// What to make.
pub struct Order {
    /// Folder of compiled executables.
    pub programs: PathBuf,
    /// Version of the packages.
    pub version: String,
    /// Level of compression.
    pub level: u8,
    /// Folder for the packages; what is in it is deleted.
    pub out: PathBuf,
}

/// Packages of this profile's executables, in `target/packages`.
pub fn order(profile: &str) -> Result<Order> {
    Ok(Order {
        programs: target().join(profile),
        version: version()?,
        level: if profile == "release" { 19 } else { 1 },
        out: target().join("packages"),
    })
}

/// The version of the workspace.
fn version() -> Result<String> {
    let manifest: toml::Table = toml::from_str(&fs::read_to_string(root().join("Cargo.toml"))?)?;
    let version = manifest["workspace"]["package"]["version"].as_str();
    Ok(version.context("Cargo.toml has no version")?.to_owned())
}

/// The time of every file: `SOURCE_DATE_EPOCH`, or that of the commit.
pub fn epoch() -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            stdout(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root()))?
        }
    };
    text.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}"))
}

/// The output of a command that must succeed.
pub fn stdout(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| name.clone())?;
    if !output.status.success() {
        bail!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A text of `packaging/`.
pub fn text(name: &str) -> Result<String> {
    let path = root().join("packaging").join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// A file of the repository.
pub fn source(path: &str) -> PathBuf {
    root().join(Path::new(path))
}
