//! `cargo xtask setup`: installs the Debian packages that the other commands need. Idempotent.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// Package, a file that exists if it is installed, and its use.
type Package = (&'static str, &'static str, &'static str);

const NEEDED: &[Package] = &[
    ("nix-bin", "/usr/bin/nix-build", "builds the images"),
    ("bubblewrap", "/usr/bin/bwrap", "runs QEMU and systemd-sysupdate out of their packages"),
    ("swtpm", "/usr/bin/swtpm", "the TPM of virtual devices"),
    ("swtpm-tools", "/usr/bin/swtpm_setup", "makes a TPM of a known manufacturer, in tests"),
    ("tpm2-tools", "/usr/bin/tpm2_quote", "uses a TPM and checks its quotes, in tests"),
    ("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "firmware with Secure Boot"),
    (
        "systemd",
        "/usr/bin/systemd-analyze",
        "checks the units of server and signing service, in tests",
    ),
    ("xz-utils", "/usr/bin/xz", "unpacks packages"),
    ("gpgv", "/usr/bin/gpgv", "checks OpenPGP signatures in tests"),
    ("openssl", "/usr/bin/openssl", "checks certificates and signatures in tests"),
    ("gnutls-bin", "/usr/bin/certtool", "checks certificates in tests"),
    ("sbsigntool", "/usr/bin/sbverify", "checks Authenticode signatures in tests"),
    ("mmdebstrap", "/usr/bin/mmdebstrap", "installs packages with dpkg, to compare images with"),
    ("chromium", "/usr/bin/chromium", "opens the pages in tests"),
    (
        "fonts-dejavu-core",
        "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
        "font of the pages in the browser",
    ),
    ("mosquitto", "/usr/sbin/mosquitto", "a broker to compare with, in tests and benchmarks"),
    ("mosquitto-clients", "/usr/bin/mosquitto_sub", "independent MQTT clients, in tests"),
    (
        "libfaketime",
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "moves the server's clock ahead, in tests",
    ),
    ("softhsm2", "/usr/lib/softhsm/libsofthsm2.so", "a token for keys, in tests"),
    ("libtss2-dev", "/usr/include/tss2/tss2_esys.h", "TPM library of the agent"),
    ("postgresql", "/usr/bin/pg_createcluster", "a database server, in tests"),
    ("nodejs", "/usr/bin/node", "runs a generated TypeScript client, in tests"),
    ("npm", "/usr/bin/npm", "installs its generator and compiler"),
    ("pkg-config", "/usr/bin/pkg-config", "finds the libraries of the TPM"),
    ("gcc", "/usr/bin/gcc", "compiles the C parts of crates"),
    ("g++", "/usr/bin/g++", "compiles libFuzzer"),
];

/// Peers of benchmarks; nothing else needs them.
pub const PEERS: &[Package] = &[
    ("nginx-light", "/usr/sbin/nginx", "serves files, in benchmarks"),
    ("golang-cfssl", "/usr/bin/cfssl", "signs certificates, in benchmarks"),
];

/// Installs missing packages.
pub fn run() -> Result<()> {
    install(NEEDED)
}

/// Installs those of these packages that are missing.
pub fn install(packages: &[Package]) -> Result<()> {
    let missing: Vec<_> =
        packages.iter().filter(|(_, file, _)| !Path::new(file).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("==> setup: {} packages are missing", missing.len());
    for (package, _, why) in &missing {
        println!("    {package:<17} {why}");
    }
    let names: Vec<&str> = missing.iter().map(|(package, _, _)| *package).collect();
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
