//! `cargo xtask setup`: installs the Debian packages that the other commands need. Idempotent.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// A Debian package.
pub struct Package {
    name: &'static str,
    /// A file that exists if it is installed.
    file: &'static str,
    /// Its use.
    why: &'static str,
}

const fn package(name: &'static str, file: &'static str, why: &'static str) -> Package {
    Package { name, file, why }
}

const NEEDED: &[Package] = &[
    package("nix-bin", "/usr/bin/nix-build", "builds the images"),
    package(
        "bubblewrap",
        "/usr/bin/bwrap",
        "runs QEMU and systemd-sysupdate out of their packages",
    ),
    package("swtpm", "/usr/bin/swtpm", "the TPM of virtual devices"),
    package("swtpm-tools", "/usr/bin/swtpm_setup", "makes a TPM of a known manufacturer, in tests"),
    package("tpm2-tools", "/usr/bin/tpm2_quote", "uses a TPM and checks its quotes, in tests"),
    package("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "firmware with Secure Boot"),
    package(
        "systemd",
        "/usr/bin/systemd-analyze",
        "checks the units of server and signing service, in tests",
    ),
    package("xz-utils", "/usr/bin/xz", "unpacks packages"),
    package("gpg", "/usr/bin/gpg", "signs repositories of packages in tests"),
    package("gpg-agent", "/usr/bin/gpg-agent", "holds the keys of gpg"),
    package("gpgv", "/usr/bin/gpgv", "checks OpenPGP signatures in tests"),
    package("openssl", "/usr/bin/openssl", "checks certificates and signatures in tests"),
    package("gnutls-bin", "/usr/bin/certtool", "checks certificates in tests"),
    package("sbsigntool", "/usr/bin/sbverify", "checks Authenticode signatures in tests"),
    package(
        "mmdebstrap",
        "/usr/bin/mmdebstrap",
        "makes clean Debian roots, to compare images with and to install packages in",
    ),
    package("chromium", "/usr/bin/chromium", "opens the pages in tests"),
    package(
        "fonts-dejavu-core",
        "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
        "font of the pages in the browser",
    ),
    package(
        "mosquitto",
        "/usr/sbin/mosquitto",
        "a broker to compare with, in tests and benchmarks",
    ),
    package("mosquitto-clients", "/usr/bin/mosquitto_sub", "independent MQTT clients, in tests"),
    package(
        "libfaketime",
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "moves the server's clock ahead, in tests",
    ),
    package("softhsm2", "/usr/lib/softhsm/libsofthsm2.so", "a token for keys, in tests"),
    package("libtss2-dev", "/usr/include/tss2/tss2_esys.h", "TPM library of the agent"),
    package("postgresql", "/usr/bin/pg_createcluster", "a database server, in tests"),
    package("nodejs", "/usr/bin/node", "runs a generated TypeScript client, in tests"),
    package("npm", "/usr/bin/npm", "installs its generator and compiler"),
    package(
        "python3-venv",
        "/usr/share/doc/python3-venv",
        "makes virtual environments, for tools of tests",
    ),
    package("curl", "/usr/bin/curl", "uses the API from a shell, in tests"),
    package("jq", "/usr/bin/jq", "reads its answers"),
    package("dpkg-dev", "/usr/bin/dpkg-shlibdeps", "finds what packages of Fleeti depend on"),
    package("pkg-config", "/usr/bin/pkg-config", "finds the libraries of the TPM"),
    package("gcc", "/usr/bin/gcc", "compiles the C parts of crates"),
    package("g++", "/usr/bin/g++", "compiles libFuzzer"),
];

/// Peers of benchmarks; nothing else needs them.
pub const PEERS: &[Package] = &[
    package("nginx-light", "/usr/sbin/nginx", "serves files, in benchmarks"),
    package("golang-cfssl", "/usr/bin/cfssl", "signs certificates, in benchmarks"),
];

/// Installs missing packages.
pub fn run() -> Result<()> {
    install(NEEDED)
}

/// Installs those of these packages that are missing.
pub fn install(packages: &[Package]) -> Result<()> {
    let missing: Vec<_> = packages.iter().filter(|p| !Path::new(p.file).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("==> setup: {} packages are missing", missing.len());
    for Package { name, why, .. } in &missing {
        println!("    {name:<17} {why}");
    }
    let names: Vec<&str> = missing.iter().map(|p| p.name).collect();
    if !is_root()? {
        bail!(
            "run this as root, then again:\n  apt-get update && apt-get install --no-install-recommends {}",
            names.join(" ")
        );
    }
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(names);
    apt(&arguments)
}

/// Fails early if the disk of a folder, which may not exist yet, has less than `wanted` GiB free.
pub fn room(folder: &Path, wanted: u64) -> Result<()> {
    let folder = folder.ancestors().find(|f| f.exists()).unwrap_or_else(|| Path::new("/"));
    let output = Command::new("df")
        .args(["--output=avail", "--block-size=1G"])
        .arg(folder)
        .output()
        .context("df")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let free: u64 = text
        .lines()
        .last()
        .unwrap_or_default()
        .trim()
        .parse()
        .with_context(|| format!("unexpected output of df: {text:?}"))?;
    if free < wanted {
        bail!(
            "{} has {free} GiB free, expected at least {wanted}\nhint: `cargo clean` and `nix-store --gc` free space",
            folder.display()
        );
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("id")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

fn apt(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("apt-get")?;
    if status.success() { Ok(()) } else { bail!("apt-get {}: {status}", arguments.join(" ")) }
}
