//! Test tools from the registries of Python and npm.

use crate::{python, root, run, target};
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Reads UEFI variables.
const VIRT_FIRMWARE: &[&str] = &["virt-firmware==26.10"];
/// Independent MQTT clients.
const MQTT_CLIENTS: &[&str] = &["paho-mqtt==2.2.0", "aiomqtt==2.5.1"];
/// An SMTP relay.
const SMTP_RELAY: &[&str] = &["aiosmtpd==1.4.6"];
/// Validates the OpenAPI document, and tests every operation that it describes.
const OPENAPI: &[&str] = &["openapi-spec-validator==0.9.0", "schemathesis==4.32.5"];
/// Generates a Python client.
const OPENAPI_PYTHON: &[&str] = &["openapi-python-client==0.29.1"];
/// The official readers of SBOMs and of provenance.
const SBOM: &[&str] =
    &["cyclonedx-python-lib[json-validation]==11.12.0", "in-toto-attestation==0.9.3"];
/// Spell checker.
const TYPOS: &[&str] = &["typos==1.52.0"];
/// Generates and compiles a TypeScript client; its lock file has the digest of every package.
const TYPESCRIPT: &[&str] =
    &["package.json", "package-lock.json", "tsconfig.json", "list-devices.ts"];
/// An identity provider (OpenID Connect); its lock file has the digest of every package.
const OIDC_PROVIDER: &[&str] = &["package.json", "package-lock.json", "provider.mjs"];

/// Environment variables that tell tests the paths of the tools.
pub fn judges() -> [(&'static str, PathBuf); 8] {
    let tools = target().join("tools");
    [
        ("FLEETI_VIRT_FW_VARS", tools.join("virt-firmware/bin/virt-fw-vars")),
        ("FLEETI_MQTT_PYTHON", tools.join("mqtt/bin/python")),
        ("FLEETI_SMTP_PYTHON", tools.join("smtp/bin/python")),
        ("FLEETI_OPENAPI_TOOLS", tools.join("openapi/bin")),
        ("FLEETI_OPENAPI_PYTHON", tools.join("openapi-python/bin")),
        ("FLEETI_OPENAPI_TS", tools.join("openapi-ts")),
        ("FLEETI_OIDC_PROVIDER", tools.join("oidc")),
        ("FLEETI_SBOM_PYTHON", tools.join("sbom/bin/python")),
    ]
}

/// Installs the tools into `target/tools`.
pub fn install() -> Result<()> {
    of_python("mqtt", MQTT_CLIENTS)?;
    of_python("smtp", SMTP_RELAY)?;
    of_python("virt-firmware", VIRT_FIRMWARE)?;
    of_python("openapi", OPENAPI)?;
    of_python("openapi-python", OPENAPI_PYTHON)?;
    of_python("sbom", SBOM)?;
    of_npm("openapi-ts", TYPESCRIPT, "typescript")?;
    of_npm("oidc", OIDC_PROVIDER, "oidc-provider")
}

/// Installs the spell checker if it is missing, and returns its path.
pub fn typos() -> Result<PathBuf> {
    of_python("typos", TYPOS)?;
    Ok(target().join("tools/typos/bin/typos"))
}

/// A virtual environment with exactly these packages. The list is written last, so that an
/// interrupted installation is repeated.
fn of_python(name: &str, wanted: &[&str]) -> Result<()> {
    let folder = target().join("tools").join(name);
    let (installed, wanted_text) = (folder.join("installed"), wanted.join("\n"));
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted_text) {
        return Ok(());
    }
    fs::remove_dir_all(&folder).ok();
    python::environment(&folder)?;
    python::install(name, &folder, wanted)?;
    Ok(fs::write(installed, wanted_text)?)
}

/// The packages of a folder of `xtask`, with its files beside them. `last` is one of the packages.
fn of_npm(name: &str, files: &[&str], last: &str) -> Result<()> {
    let (from, folder) = (root().join("xtask").join(name), target().join("tools").join(name));
    let lock = folder.join("package-lock.json");
    let is_installed = folder.join("node_modules").join(last).exists()
        && fs::read(&lock).ok() == fs::read(from.join("package-lock.json")).ok();
    fs::create_dir_all(&folder)?;
    for file in files {
        fs::copy(from.join(file), folder.join(file))
            .with_context(|| format!("xtask/{name}/{file}"))?;
    }
    if is_installed {
        return Ok(());
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"])
        .arg(&folder);
    run(&format!("install {last} from npm"), &mut npm)
}
