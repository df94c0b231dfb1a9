//! Reference values of releases, and their cache.

use fleeti_core::id::ReleaseName;
use fleeti_core::manifest::{Artifact, Manifest, PHASE_READY};
use fleeti_core::wire::api::Release;
use fleeti_pki::attestation::appraisal::Reference;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Path of the boot loader in a release.
pub(super) const BOOT_LOADER: &str = "raw/systemd-boot.efi";
/// Maximum number of cached releases.
const FACTS_MAX: usize = 64;

/// What evidence is compared with, of one release.
#[derive(Clone)]
pub(super) struct Facts {
    /// Its reference values.
    pub(super) reference: Option<Reference>,
    /// The Authenticode digest of its boot loader.
    pub(super) boot_loader: Option<[u8; 32]>,
}

/// Facts, and the counter of changes before they were read.
struct Entry {
    changes: u64,
    facts: Facts,
}

/// Cache of the facts of recently used releases. A release never changes, except that it can be
/// revoked, which counts as a policy change.
#[derive(Default)]
pub(super) struct FactCache(Mutex<HashMap<ReleaseName, Entry>>);

impl FactCache {
    /// The facts that were read when the counter of changes had this value.
    pub(super) fn get(&self, name: &ReleaseName, changes: u64) -> Option<Facts> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name).filter(|entry| entry.changes == changes).map(|entry| entry.facts.clone())
    }

    pub(super) fn insert(&self, name: &ReleaseName, changes: u64, facts: &Facts) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= FACTS_MAX {
            all.clear();
        }
        all.insert(name.clone(), Entry { changes, facts: facts.clone() });
    }
}

/// EFI binaries of a release, by path, with their Authenticode digests.
pub(super) fn binaries(artifacts: &[Artifact]) -> impl Iterator<Item = (&str, [u8; 32])> {
    artifacts.iter().filter_map(|a| Some((a.path.as_str(), digest(a.authenticode.as_deref()?)?)))
}

pub(super) fn boot_loader(release: &Release) -> Option<[u8; 32]> {
    binaries(&release.artifacts).find(|(path, _)| *path == BOOT_LOADER).map(|(_, digest)| digest)
}

pub(super) fn reference(manifest: &Manifest, is_revoked: bool) -> Option<Reference> {
    let kernel_image = digest(manifest.uki()?.authenticode.as_deref()?)?;
    let pcr_11 = digest(manifest.reference_values.pcr11.get(PHASE_READY)?)?;
    let pcr_9 = match &manifest.reference_values.pcr9 {
        Some(text) => Some(digest(text)?),
        None => None,
    };
    Some(Reference { release: manifest.release.clone(), kernel_image, pcr_9, pcr_11, is_revoked })
}

/// Parses a digest or PCR of 32 bytes, hexadecimal.
pub(super) fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    // The fast decoder, because evidence has two dozen of these. It would accept `0x`, hence the
    // check.
    const_hex::decode_to_slice(Some(text).filter(|t| t.len() == 64)?, &mut digest).ok()?;
    Some(digest)
}
