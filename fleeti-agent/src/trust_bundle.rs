//! The trust bundle: the intermediates that count, as the daemon stores it.

use crate::{Paths, kept};
use anyhow::Result;
use fleeti_core::wire::device::SignedBundle;
use fleeti_pki::bundle::{self, VerifiedBundle};
use fleeti_pki::certificate;
use std::path::PathBuf;
use x509_cert::Certificate;

/// Bundles of two roots have separate files: each ceremony numbers its own.
pub fn path(paths: &Paths, root_sha256: &str) -> PathBuf {
    paths.state.join(format!("trust-bundle-{}.json", root_sha256.get(..16).unwrap_or(root_sha256)))
}

/// The stored trust bundle of this root, verified again.
///
/// # Errors
/// If the root has no name.
pub fn of_root(paths: &Paths, root: &Certificate) -> Result<Option<VerifiedBundle>> {
    let path = path(paths, &certificate::fingerprint(root)?);
    let found = kept::read(&path, |bytes| Ok(bundle::read(&kept::json(bytes)?, root)?));
    // The file name before bundles were named after their root. It may hold another root's bundle.
    let unnamed = || kept::read(&paths.state.join("trust-bundle.json"), kept::json::<SignedBundle>);
    Ok(found.or_else(|| bundle::read(&unnamed()?, root).ok()))
}
