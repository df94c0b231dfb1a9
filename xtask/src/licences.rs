//! `cargo xtask licences`: checks that every compiled crate has a licence that `deny.toml` accepts
//! and comes from the registry. `cargo deny` checks the same and more, but must be installed.

use crate::root;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Cargo's prefix of a source that is a registry, and not Git or a folder.
const REGISTRY: &str = "registry+";

/// Checks every crate of the workspace's lock file.
///
/// # Errors
/// Names each crate whose licence or source is not accepted.
pub fn check(root: &Path) -> Result<()> {
    let accepted = accepted(&fs::read_to_string(root.join("deny.toml")).context("deny.toml")?)?;
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--all-features", "--locked"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata: packages")?;
    let wrong: Vec<String> = packages.iter().filter_map(|p| refused(p, &accepted)).collect();
    if wrong.is_empty() {
        println!("    licences: ok, {} crates", packages.len());
        return Ok(());
    }
    bail!("licences and sources (deny.toml):\n  {}", wrong.join("\n  "))
}

/// Checks licences and sources, and runs `cargo deny` where it is installed.
///
/// # Errors
/// As [`check`], or if `cargo deny` finds something.
pub fn deny() -> Result<()> {
    check(&root())?;
    let is_installed =
        Command::new("cargo-deny").arg("--version").output().is_ok_and(|o| o.status.success());
    if !is_installed {
        println!("    advisories: not checked, cargo-deny is not installed");
        return Ok(());
    }
    crate::run("cargo deny", &mut crate::cargo(&["deny", "check"]))
}

/// The list `licenses.allow`.
fn accepted(deny: &str) -> Result<BTreeSet<String>> {
    let deny: toml::Table = deny.parse().context("deny.toml")?;
    let list = deny.get("licenses").and_then(|l| l.get("allow")).and_then(|a| a.as_array());
    let list = list.context("deny.toml has no list licenses.allow")?;
    Ok(list.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect())
}

/// Why a crate is rejected.
fn refused(package: &serde_json::Value, accepted: &BTreeSet<String>) -> Option<String> {
    let name = format!("{} {}", package["name"].as_str()?, package["version"].as_str()?);
    match package["source"].as_str() {
        // A crate of this workspace.
        None => return None,
        Some(source) if source.starts_with(REGISTRY) => {}
        Some(other) => return Some(format!("{name}: comes from {other}")),
    }
    let Some(text) = package["license"].as_str() else {
        return Some(format!("{name}: names no licence"));
    };
    // Older crates write "MIT/Apache-2.0".
    let licence = match spdx::Expression::parse_mode(text, spdx::ParseMode::LAX) {
        Ok(licence) => licence,
        Err(e) => return Some(format!("{name}: {text:?} is not an SPDX expression: {e}")),
    };
    let is_accepted = licence.evaluate(|wanted| accepted.contains(&wanted.to_string()));
    (!is_accepted).then(|| format!("{name}: {text}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_crate_is_refused_for_its_licence_and_for_its_source() {
        let accepted = accepted("[licenses]\nallow = [\"MIT\", \"Apache-2.0\"]").unwrap();
        let package = |license: serde_json::Value, source: &str| {
            let package =
                json!({"name": "a", "version": "1", "license": license, "source": source});
            refused(&package, &accepted)
        };
        for license in ["MIT", "MIT OR GPL-3.0-only", "MIT/Apache-2.0", "MIT AND Apache-2.0"] {
            assert_eq!(package(license.into(), REGISTRY), None, "{license}");
        }
        for license in ["GPL-3.0-only", "MIT AND GPL-3.0-only"] {
            assert_eq!(package(license.into(), REGISTRY), Some(format!("a 1: {license}")));
        }
        assert_eq!(package(json!(null), REGISTRY).unwrap(), "a 1: names no licence");
        assert!(package("whatever".into(), REGISTRY).unwrap().contains("not an SPDX expression"));
        let git = "git+https://git.example/a";
        assert_eq!(package("MIT".into(), git), Some(format!("a 1: comes from {git}")));
    }
}
