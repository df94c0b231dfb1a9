//! What a build of one's own needs, without Nix: a cache with one package, a lock, and the outputs
//! that Nix would make.

use anyhow::{Result, ensure};
use fleeti_build::base::Maker;
use fleeti_build::base::debian::Debian;
use fleeti_build::cache::Cache;
use fleeti_build::lock::Lock;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::profile::{Profile, Revision};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The steps of a build, in the order in which they are evaluated.
pub const STEPS: [&str; 5] = ["tree", "root", "initrd", "uki", "disk"];

/// Path of the derivation of a step. It does not exist.
#[must_use]
pub fn derivation(step: &str) -> PathBuf {
    PathBuf::from(format!("/nix/store/{}-{step}.drv", "0".repeat(32)))
}

/// What a build needs.
pub struct OwnBuild {
    /// The cache.
    pub cache: Cache,
    /// The lock file.
    pub lock: PathBuf,
    /// The folder with the output of each step.
    pub outputs: PathBuf,
}

impl OwnBuild {
    /// Makes the files for builds of a profile.
    ///
    /// # Errors
    /// I/O.
    pub fn new(dir: &Path, profile: &Profile) -> Result<Self> {
        let (cache, lock) = (Cache::at(dir.join("cache")), dir.join("lock.json"));
        let outputs = dir.join("outputs");
        write_outputs(&outputs)?;
        write_lock(&dir.join("package"), profile, &cache, &lock)?;
        Ok(Self { cache, lock, outputs })
    }

    /// Writes programs with the names of Nix's, whose steps have these outputs. Returns their
    /// folder, for `PATH`.
    ///
    /// # Errors
    /// I/O.
    pub fn programs(&self, dir: &Path) -> Result<PathBuf> {
        let folder = dir.join("bin");
        fs::create_dir_all(&folder)?;
        let root = "while [ $# -gt 0 ]; do\n  case \"$1\" in\n  --add-root) root=$2 ;;\n";
        let instantiate = format!(
            "#!/bin/sh\n{root}  esac\n  shift\ndone\n\
             for step in {}; do\n  \
             ln -sfn /nix/store/{}-$step.drv \"$root-$step\"\n  echo \"$root-$step\"\ndone\n",
            STEPS.join(" "),
            "0".repeat(32)
        );
        let store = format!(
            "#!/bin/sh\n{root}  --version) echo 'nix-store (Nix) 2.26.3' ;;\n  --check) exit 0 ;;\n  \
             *.drv) steps=\"$steps $(basename \"$1\" .drv | cut -c34-)\" ;;\n  esac\n  shift\ndone\n\
             for step in $steps; do\n  ln -sfn '{}'/$step \"$root-$step\"\n  echo \"$root-$step\"\ndone\n",
            self.outputs.display()
        );
        for (name, text) in [("nix-instantiate", instantiate), ("nix-store", store)] {
            let path = folder.join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(folder)
    }
}

fn write_outputs(outputs: &Path) -> Result<()> {
    for step in STEPS {
        fs::create_dir_all(outputs.join(step))?;
    }
    let line = |n: u8| format!("11:sha256={}\n", n.to_string().repeat(64));
    let pcr11: String = (0..4).map(line).collect();
    for (path, content) in [
        ("root/root.erofs", "a root file system"),
        ("root/root.verity", "its verity tree"),
        ("root/roothash", "its root hash\n"),
        ("root/ids.json", "{}\n"),
        ("root/scripts.json", "[]\n"),
        ("root/contents.json", "{\"users\":{},\"groups\":{},\"files\":[]}\n"),
        ("root/brought.json", "{}\n"),
        ("uki/uki.efi", "a UKI"),
        ("uki/systemd-boot.efi", "a boot loader"),
        ("uki/pcr11.txt", pcr11.as_str()),
        ("uki/systemd-version", "systemd 257 (257.13)\n"),
        ("disk/disk.raw", "a disk"),
    ] {
        fs::write(outputs.join(path), content)?;
    }
    Ok(())
}

/// A lock with one package, which has the busybox that every build unpacks.
fn write_lock(work: &Path, profile: &Profile, cache: &Cache, path: &Path) -> Result<()> {
    let files = work.join("busybox-static");
    fs::create_dir_all(files.join("DEBIAN"))?;
    fs::create_dir_all(files.join("usr/bin"))?;
    fs::write(files.join("usr/bin/busybox"), "no program")?;
    let control = "Package: busybox-static\nVersion: 1\nArchitecture: amd64\n\
                   Maintainer: nobody <nobody@fleeti.invalid>\nDescription: a test\n";
    fs::write(files.join("DEBIAN/control"), control)?;
    let deb = work.join("busybox-static.deb");
    let made = Command::new("dpkg-deb").arg("-b").args([&files, &deb]).output()?;
    ensure!(made.status.success(), "dpkg-deb: {}", String::from_utf8_lossy(&made.stderr));
    let bytes = fs::read(&deb)?;
    let sha256 = sha256_hex(&bytes);
    fs::create_dir_all(cache.root().join("packages"))?;
    fs::write(cache.package(&sha256), &bytes)?;
    let package = json!({
        "name": "busybox-static", "version": "1", "sha256": sha256, "size": bytes.len(),
        "path": "pool/b.deb",
    });
    let requested = Debian.packages(&Revision::new(1, profile.clone())?);
    let lock: Lock = serde_json::from_value(json!({
        "suite": "trixie", "architecture": "amd64", "requested": requested,
        "sets": {"tools": [package]},
    }))?;
    lock.write(path)?;
    Ok(())
}
