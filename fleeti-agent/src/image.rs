//! What the running image states about itself: os-release and `/usr/lib/fleeti`.

use crate::Paths;
use anyhow::{Context, Result};
use fleeti_core::id::ReleaseName;
use fleeti_core::image::ImageFacts;
use fleeti_core::strict;
use fleeti_pki::manifest::ReleaseKeys;
use fleeti_pki::transparency::note::LogKey;
use std::fs;

/// Reads `/usr/lib/fleeti/image.json`.
///
/// # Errors
/// If there is none: the image was not built by Fleeti.
pub fn facts(paths: &Paths) -> Result<ImageFacts> {
    let path = paths.lib.join("image.json");
    let text = fs::read(&path).with_context(|| path.display().to_string())?;
    strict::from_slice(&text).with_context(|| path.display().to_string())
}

/// The release keys that this image trusts.
///
/// # Errors
/// If the image has none.
pub fn release_keys(paths: &Paths) -> Result<ReleaseKeys> {
    let path = paths.lib.join("trust/release.pem");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    ReleaseKeys::from_pem(&text).with_context(|| path.display().to_string())
}

/// The key of the audit log that this image trusts.
///
/// # Errors
/// If the image has none.
pub fn log_key(paths: &Paths) -> Result<LogKey> {
    let path = paths.lib.join("trust/audit.pub");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    LogKey::from_text(&text).with_context(|| path.display().to_string())
}

/// `IMAGE_ID` and `IMAGE_VERSION` of os-release(5).
///
/// # Errors
/// If they are missing.
pub fn running_release(paths: &Paths) -> Result<ReleaseName> {
    parse_os_release(&fs::read_to_string(&paths.os_release)?)
}

fn parse_os_release(text: &str) -> Result<ReleaseName> {
    let value = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.map(|v| v.trim_matches('"').to_owned())
            .with_context(|| format!("os-release has no {key}"))
    };
    Ok(ReleaseName { line: value("IMAGE_ID")?.parse()?, version: value("IMAGE_VERSION")?.parse()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_os_release() {
        let text = "NAME=\"Fleeti\"\nIMAGE_ID=kiosk\nIMAGE_VERSION=\"2\"\n";
        assert_eq!(parse_os_release(text).unwrap().to_string(), "kiosk@2");
        assert!(parse_os_release("NAME=x\n").is_err());
    }
}
