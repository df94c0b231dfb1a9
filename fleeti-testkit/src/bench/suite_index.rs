//! The check of a profile of 300 packages against an index of 60,000.

use super::{Record, Scale, median, process};
use anyhow::{Context, Result, ensure};
use fleeti_build::suite;
use fleeti_core::profile::{
    Builtin, IndexHead, IndexParts, IndexedPackage, Profile, SuiteIndex, resolve_with,
};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

/// Number of packages of the index.
const INDEXED: usize = 60_000;
/// Number of packages of the profile.
const PACKAGES: usize = 300;

/// Measures the check, and the memory of the process that did it.
///
/// # Errors
/// If the index cannot be made or opened, or the profile has errors.
pub fn run(dir: &Path, scale: Scale) -> Result<Vec<Record>> {
    let path = dir.join("trixie.index");
    std::fs::write(&path, text_of_index())?;
    let started = Instant::now();
    let index = suite::open(&path)?.context("the index")?;
    eprintln!("    index opened in {:.1} ms", started.elapsed().as_secs_f64() * 1000.0);
    let text = document()?;
    let mut times = Vec::new();
    for _ in 0..scale.pick(50, 3) {
        let started = Instant::now();
        check(&text, &index)?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    let median = median("check with index", times);
    Ok(vec![
        Record::new("check_indexed_ms", median, "ms", "fleeti"),
        Record::new(
            "check_indexed_mib",
            process::peak_kib(std::process::id())? / 1024.0,
            "MiB",
            "fleeti",
        ),
    ])
}

fn check(text: &str, index: &SuiteIndex) -> Result<()> {
    let packages = |profile: &Profile| suite::check(profile, Some(index)).unwrap_or_default();
    let resolved = resolve_with(text, &Builtin, &packages);
    let profile = match resolved {
        Ok(resolved) => resolved.profile,
        Err(findings) => anyhow::bail!("the profile: {findings:?}"),
    };
    ensure!(profile.software.packages.len() >= PACKAGES, "packages are missing");
    Ok(())
}

/// An index as large as Debian's, with dependencies and summaries of usual length.
fn text_of_index() -> String {
    let mut parts = IndexParts::default();
    let mut add = |name: String, depends: String| {
        let package = IndexedPackage {
            version: "1:2.3.4-5+deb13u1".to_owned(),
            size_kib: 1234,
            sha256: "0".repeat(64),
            depends,
            summary: "words that say what a package is for, as long as most are".to_owned(),
            is_learnt: false,
        };
        parts.packages.insert(name, package);
    };
    for i in 0..INDEXED {
        // Each needs packages with half its number or less, which others need as well.
        let near = (1..=6).map(|n| format!("package-{}", i / 2 / n));
        add(format!("package-{i}"), near.collect::<Vec<_>>().join(","));
    }
    for name in ["nginx", "openssh-server", "sudo", "nftables"] {
        add(name.to_owned(), String::new());
    }
    for i in 0..5000 {
        let by = BTreeSet::from([format!("package-{i}")]);
        parts.units.insert(format!("unit-{i}.service"), by.clone());
        parts.programs.insert(format!("/usr/bin/program-{i}"), by);
    }
    let suite = suite::SUITE.to_owned();
    parts.to_text(&IndexHead { suite, snapshot: "0".repeat(64), has_contents: true })
}

fn document() -> Result<String> {
    let mut text =
        "schema = 1\nname = \"shop\"\narchitecture = \"x86_64\"\nsoftware.packages = [\n"
            .to_owned();
    for i in 0..PACKAGES {
        writeln!(text, "  \"package-{}\",", i * 199)?;
    }
    text.push_str("]\n");
    for i in 0..20 {
        writeln!(text, "[[users]]\nname = \"user-{i}\"\ngroups = [\"adm\"]")?;
        writeln!(text, "[[services]]\nname = \"unit-{i}.service\"")?;
    }
    Ok(text)
}
