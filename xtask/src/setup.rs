//! `cargo xtask setup`: what the other commands need from Debian. Idempotent.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// Package, a file that shows it is there, and what it is for.
type Package = (&'static str, &'static str, &'static str);

const NEEDED: &[Package] = &[
    ("nix-bin", "/usr/bin/nix-build", "builds the images"),
    ("bubblewrap", "/usr/bin/bwrap", "runs QEMU and systemd-sysupdate out of their packages"),
    ("swtpm", "/usr/bin/swtpm", "the TPM of virtual devices"),
    ("swtpm-tools", "/usr/bin/swtpm_setup", "makes a TPM of a known maker, in tests"),
    ("tpm2-tools", "/usr/bin/tpm2_quote", "speaks to a TPM, and checks what it says, in tests"),
    ("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "firmware with Secure Boot"),
    ("systemd", "/usr/bin/systemd-analyze", "judges the units of server and signer, in tests"),
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
        "what the pages are drawn with",
    ),
    (
        "mosquitto",
        "/usr/sbin/mosquitto",
        "a broker that rows of MQTT 5 are compared with, in tests and benchmarks",
    ),
    (
        "mosquitto-clients",
        "/usr/bin/mosquitto_sub",
        "MQTT clients that nobody here wrote, in tests",
    ),
    (
        "libfaketime",
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "moves the server's clock ahead, in tests",
    ),
    ("softhsm2", "/usr/lib/softhsm/libsofthsm2.so", "a token for keys, in tests"),
    ("libtss2-dev", "/usr/include/tss2/tss2_esys.h", "how the agent speaks to a TPM"),
    ("nodejs", "/usr/bin/node", "runs a generated TypeScript client, in tests"),
    ("npm", "/usr/bin/npm", "installs its generator and compiler"),
    ("pkg-config", "/usr/bin/pkg-config", "finds the libraries of the TPM"),
    ("gcc", "/usr/bin/gcc", "compiles the C parts of crates"),
    ("g++", "/usr/bin/g++", "compiles libFuzzer"),
];

/// What benchmarks are run beside; nothing else needs them.
pub const PEERS: &[Package] = &[
    ("nginx-light", "/usr/sbin/nginx", "serves files beside us"),
    ("golang-cfssl", "/usr/bin/cfssl", "signs certificates beside us"),
];

/// Installs what is missing.
pub fn run() -> Result<()> {
    install(NEEDED)
}

/// Installs what is missing of these.
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

/// Refuses when there is not this much room, in GiB, where this folder is or will be: at the
/// beginning, and not after half an hour.
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
        .with_context(|| format!("df said {text:?}"))?;
    if free < wanted {
        bail!(
            "{} has {free} GiB free, and {wanted} are needed\nhint: `cargo clean` and `nix-store --gc` remove what is made anew \
             when it is needed",
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
