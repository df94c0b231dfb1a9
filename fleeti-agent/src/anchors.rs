//! The trust anchors of this device: those of its image, and those that these have introduced since
//! (`fleeti_pki::transition`).
//!
//! Daemon and helper each store the transitions that they have received; each applies only those
//! that its image's anchors have signed.

use crate::image::{log_key, release_keys};
use crate::{Paths, kept, write_durably};
use anyhow::{Context, Result};
use fleeti_core::wire::readmission::SignedTransition;
use fleeti_pki::certificate;
use fleeti_pki::transition::{Anchors, TRANSITIONS_MAX};
use std::fs;
use std::path::{Path, PathBuf};

fn path(folder: &Path) -> PathBuf {
    folder.join("transitions.json")
}

/// The trust anchors of the image.
///
/// # Errors
/// If a file of the image is missing or malformed.
pub fn of_image(paths: &Paths) -> Result<Anchors> {
    let path = paths.lib.join("trust/root.pem");
    let root = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let anchors =
        Anchors::of_image(certificate::from_pem(&root)?, release_keys(paths)?, log_key(paths)?);
    Ok(match paths.keyrings.iter().find_map(|path| fs::read(path).ok()) {
        Some(keyring) => anchors.with_keyring(&keyring),
        None => anchors,
    })
}

/// The trust anchors of the daemon.
///
/// # Errors
/// If a file of the image is missing or malformed.
pub fn of_daemon(paths: &Paths) -> Result<Anchors> {
    Ok(of_image(paths)?.walk(&seen(&paths.state)).0)
}

/// The trust anchors of the helper. It stores transitions in a folder that only root can write.
///
/// # Errors
/// If a file of the image is missing or malformed.
pub fn of_helper(paths: &Paths) -> Result<Anchors> {
    Ok(of_image(paths)?.walk(&seen(&paths.helper_state)).0)
}

/// The transitions stored in a folder, unverified.
#[must_use]
pub fn seen(folder: &Path) -> Vec<SignedTransition> {
    kept::read(&path(folder), kept::json).unwrap_or_default()
}

/// Stores the transitions that lead on from this image; `false` if none is new. Those of other
/// images stay, because the device may roll back to one.
///
/// # Errors
/// If the image's anchors cannot be read; I/O.
pub fn take(paths: &Paths, folder: &Path, given: &[SignedTransition]) -> Result<bool> {
    let mut all = seen(folder);
    let (_, applied) = of_image(paths)?.walk(&[&all[..], given].concat());
    let new: Vec<_> = applied.into_iter().filter(|a| !all.contains(a)).collect();
    if new.is_empty() {
        return Ok(false);
    }
    let room = TRANSITIONS_MAX.saturating_sub(new.len());
    if all.len() > room {
        all.drain(..all.len() - room);
    }
    all.extend(new);
    write_durably(&path(folder), &serde_json::to_vec(&all)?)?;
    Ok(true)
}
