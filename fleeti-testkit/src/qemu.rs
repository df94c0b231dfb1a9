//! QEMU 10 from Debian trixie's packages, unpacked into the cache and run by bubblewrap, so that
//! nothing is installed on the host. (QEMU 7.2 of bookworm corrupts a 6.12 guest.)

use anyhow::{Context, Result, bail, ensure};
use fleeti_build::cache::Cache;
use fleeti_build::lock::Lock;
use fleeti_build::resolve::{Wanted, resolve};
use fleeti_core::profile::Software;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A tree of unpacked packages with executables to run.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

/// Firmware of Debian's `ovmf` package.
pub const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
/// Empty variables of that firmware.
pub const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

impl Tree {
    /// A tree with QEMU and virt-fw-vars.
    ///
    /// # Errors
    /// If the packages cannot be fetched.
    pub fn qemu(cache: &Cache) -> Result<Self> {
        Self::ensure(
            cache,
            "qemu",
            &["qemu-system-x86", "python3-virt-firmware", "base-files", "coreutils"],
        )
    }
    /// A tree with the real systemd-sysupdate and the gpg that it calls.
    ///
    /// # Errors
    /// If the packages cannot be fetched.
    pub fn sysupdate(cache: &Cache) -> Result<Self> {
        Self::ensure(
            cache,
            "sysupdate",
            &["systemd-container", "systemd", "gpg", "base-files", "coreutils", "bash", "fdisk"],
        )
    }

    /// A tree with tools that read a disk and open encrypted partitions.
    ///
    /// # Errors
    /// If the packages cannot be fetched.
    pub fn disks(cache: &Cache) -> Result<Self> {
        Self::ensure(
            cache,
            "disks",
            &["cryptsetup-bin", "e2fsprogs", "fdisk", "base-files", "coreutils"],
        )
    }

    /// A bootable Debian system with systemd and Nix, without running maintainer scripts, in which
    /// dpkg can install packages.
    ///
    /// # Errors
    /// If the packages cannot be fetched.
    pub fn system(cache: &Cache) -> Result<Self> {
        let packages = [
            "systemd",
            "linux-image-cloud-amd64",
            "base-files",
            "base-passwd",
            "coreutils",
            "bash",
            "util-linux",
            "mount",
            "sed",
            "grep",
            "nix-bin",
            "busybox-static",
            "dpkg",
            "tar",
            "diffutils",
            "libc-bin",
            "init-system-helpers",
            "libtss2-esys-3.0.2-0t64",
            "libtss2-tctildr0t64",
        ];
        Self::ensure(cache, "system", &packages)
    }

    /// A tree with systemd's tools for virtual machines.
    ///
    /// # Errors
    /// If the packages cannot be fetched.
    pub fn boot(cache: &Cache) -> Result<Self> {
        Self::ensure(cache, "boot", &["systemd-boot-efi"])
    }

    fn ensure(cache: &Cache, name: &str, packages: &[&str]) -> Result<Self> {
        let requested: BTreeMap<_, _> =
            [(name.to_owned(), packages.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>())]
                .into();
        let _alone = cache.lock(&format!("tree-{name}"))?;
        let lock_path = cache.root().join("locks").join(format!("host-{name}.json"));
        let lock = match Lock::read(&lock_path) {
            Ok(lock)
                if lock.requested == requested
                    && cache.root().join("trees").join(lock.digest()).exists() =>
            {
                lock
            }
            _ => {
                let wanted = Wanted {
                    requested: &requested,
                    software: &Software::default(),
                    base: &[],
                    earlier: None,
                    only: &[],
                    allow_older: false,
                };
                let lock = resolve(cache, &wanted, &mut |_| {}).context("resolving packages")?;
                lock.write(&lock_path)?;
                lock
            }
        };
        let root = cache.root().join("trees").join(lock.digest());
        if !root.exists() {
            lock.fetch(cache, &Software::default(), |_, _| {})?;
            let staging = root.with_extension("new");
            let _ = fs::remove_dir_all(&staging);
            fs::create_dir_all(&staging)?;
            let mut set = lock.set(name).to_vec();
            set.sort_by_key(|p| &*p.name != "base-files"); // it ships the merged-usr links
            for package in &set {
                let file = cache.package(&package.sha256);
                note_installed(&staging, &file)?;
                let data = Command::new("dpkg-deb")
                    .arg("--fsys-tarfile")
                    .arg(&file)
                    .stdout(Stdio::piped())
                    .spawn()?;
                let stdout = data.stdout.context("dpkg-deb")?;
                let status = Command::new("tar")
                    .args(["-x", "--keep-directory-symlink", "-C"])
                    .arg(&staging)
                    .stdin(stdout)
                    .status()?;
                ensure!(status.success(), "unpacking {} failed", package.name);
            }
            fs::rename(&staging, &root)?;
        }
        Ok(Self { root })
    }

    /// The folder of the tree.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A command in the tree; the `shared` folders are visible at their own paths.
    #[must_use]
    pub fn command(&self, program: &str, shared: &[&Path]) -> Command {
        let mut command = Command::new("bwrap");
        command.arg("--bind").arg(&self.root).arg("/");
        command.args([
            "--proc",
            "/proc",
            "--dev-bind",
            "/dev",
            "/dev",
            "--tmpfs",
            "/tmp",
            "--tmpfs",
            "/run",
        ]);
        for path in shared {
            command.arg("--bind").arg(path).arg(path);
        }
        command.args([
            "--setenv",
            "PATH",
            "/usr/bin:/usr/sbin",
            "--setenv",
            "HOME",
            "/tmp",
            "--die-with-parent",
            program,
        ]);
        command
    }
}

/// Tells the dpkg of a tree that a package is installed.
fn note_installed(tree: &Path, package: &Path) -> Result<()> {
    let output = Command::new("dpkg-deb").arg("--field").arg(package).output()?;
    ensure!(output.status.success(), "{}: dpkg-deb failed", package.display());
    let control = String::from_utf8_lossy(&output.stdout);
    let folder = tree.join("var/lib/dpkg");
    fs::create_dir_all(&folder)?;
    let mut status =
        fs::OpenOptions::new().create(true).append(true).open(folder.join("status"))?;
    Ok(write!(status, "Status: install ok installed\n{}\n\n", control.trim_end())?)
}

/// How QEMU runs the guest's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// On the host's processor.
    Kvm,
    /// By emulation.
    Tcg,
}

impl Accelerator {
    /// Boots the firmware under KVM and checks its output: the device file may exist although KVM
    /// does not work.
    #[must_use]
    pub fn probe(tree: &Tree) -> Self {
        if !Path::new("/dev/kvm").exists() {
            return Self::Tcg;
        }
        match boots_firmware(tree) {
            Ok(true) => Self::Kvm,
            Ok(false) | Err(_) => Self::Tcg,
        }
    }
    pub(crate) fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off,pku=off"],
        }
    }
}

fn boots_firmware(tree: &Tree) -> Result<bool> {
    let dir = tempfile::tempdir()?;
    let (vars, log) = (dir.path().join("vars.fd"), dir.path().join("serial.log"));
    fs::copy(OVMF_VARS, &vars)?;
    let mut command =
        tree.command("qemu-system-x86_64", &[dir.path(), Path::new("/usr/share/OVMF")]);
    command.args(crate::vm::MACHINE).args(Accelerator::Kvm.arguments());
    command.args(crate::vm::firmware(&vars)).arg("-serial").arg(format!("file:{}", log.display()));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let started = Instant::now();
    let booted = loop {
        if fs::read(&log).is_ok_and(|text| text.windows(7).any(|w| w == b"BdsDxe:")) {
            break true;
        }
        if started.elapsed() > Duration::from_secs(8) || child.try_wait()?.is_some() {
            break false;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    child.kill().ok();
    child.wait().ok();
    Ok(booted)
}

/// Firmware variables with Secure Boot on, and these certificates.
///
/// # Errors
/// If virt-fw-vars fails.
pub fn enroll_secure_boot(tree: &Tree, public: &Path, vars: &Path) -> Result<()> {
    const OWNER: &str = "6b1d6f3a-5c1c-4e0d-9f6b-3f1f5f0c7a11";
    let folder = vars.parent().context("variables need a folder")?;
    let file = |name: &str| public.join(name).display().to_string();
    let output = tree
        .command("virt-fw-vars", &[public, folder, Path::new("/usr/share/OVMF")])
        .args(["-i", OVMF_VARS, "-o"])
        .arg(vars)
        .args(["--set-pk", OWNER, &file("PK.pem"), "--add-kek", OWNER, &file("KEK.pem")])
        .args(["--add-db", OWNER, &file("db.pem"), "--secure-boot"])
        .output()?;
    if !output.status.success() {
        bail!("virt-fw-vars failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
