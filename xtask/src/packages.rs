//! `cargo xtask packages`: Debian packages of the executables, with their units, users, folders and
//! configuration.

use crate::package::{Order, PACKAGES, order};
use crate::{cargo, clean_root, deb, oci, run, target};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

/// `cargo xtask packages [--profile ci|release] [--check] [--oci]`.
pub fn command(words: &[&str]) -> Result<()> {
    let (mut profile, mut is_checked, mut has_image) = ("release", false, false);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match *word {
            "--profile" => profile = rest.next().context("--profile needs a value")?,
            "--check" => is_checked = true,
            "--oci" => has_image = true,
            other => bail!("unknown argument {other:?}; use --profile ci|release, --check, --oci"),
        }
    }
    ensure!(["ci", "release"].contains(&profile), "--profile {profile}: use ci or release");
    if profile == "ci" {
        crate::build_programs()?;
    } else {
        let build = ["build", "--release", "--bins", "-p", "fleeti-cli", "-p", "fleeti-server"];
        let services = ["-p", "fleeti-signer", "-p", "fleeti-agent"];
        run("build the executables", &mut cargo(&[&build[..], &services].concat()))?;
    }
    let made = deb::make(&order(profile)?)?;
    for package in &made {
        println!("    {} ({} KiB)", package.display(), fs::metadata(package)?.len() >> 10);
    }
    if is_checked {
        clean_root::check(&order(profile)?, &made)?;
    }
    if has_image { oci::image(&order(profile)?) } else { Ok(()) }
}

/// In the gate: makes the packages twice, and checks what is in them.
pub fn gate() -> Result<Vec<PathBuf>> {
    println!("==> Debian packages");
    let started = Instant::now();
    let first = order("ci")?;
    let made = deb::make(&first)?;
    let again = Order { out: target().join("packages-again"), ..order("ci")? };
    for (a, b) in made.iter().zip(deb::make(&again)?) {
        ensure!(fs::read(a)? == fs::read(&b)?, "{} and {} differ", a.display(), b.display());
    }
    fs::remove_dir_all(&again.out)?;
    for (package, file) in PACKAGES.iter().zip(&made) {
        deb::check(package, file)?;
    }
    println!("    ok after {:.1} s", started.elapsed().as_secs_f64());
    Ok(made)
}

/// In the long gate: the packages that [`gate`] made, in a clean root and as an OCI image.
pub fn long_gate(made: &[PathBuf]) -> Result<()> {
    let order = order("ci")?;
    clean_root::check(&order, made)?;
    oci::image(&order)
}
