//! Adds another signature to a release.

use crate::compare::Own;
use crate::compare_release;
use crate::release::{ReleaseError, check_artifacts, io, measured_by};
use fleeti_core::manifest::Manifest;
use fleeti_pki::manifest::{Signature, VerifyError};
use fleeti_pki::signer::Signer;
use fleeti_pki::{authenticode, manifest};
use std::fs;
use std::path::Path;

/// Checks a release and signs its manifest with one more key. Every file must match the manifest,
/// EFI binaries the Authenticode digests, and the command line what Fleeti permits. With an own
/// build, every byte that boots must also match that build. The second value of the pair is the
/// current time, Unix seconds.
///
/// # Errors
/// [`ReleaseError::Artifact`] for a file that does not match the manifest;
/// [`ReleaseError::Differs`] with all differences from the own build.
pub fn countersign(
    release: &Path,
    own: Option<(&Own, u64)>,
    key: &dyn Signer,
) -> Result<(Manifest, Signature), ReleaseError> {
    let path = release.join("manifest.json");
    let bytes = fs::read(&path).map_err(io(&path))?;
    let signature = manifest::sign(&bytes, key)?;
    let manifest = Manifest::parse(&bytes).map_err(VerifyError::from)?;
    check_artifacts(release, &manifest)?;
    for artifact in manifest.artifacts.iter().filter(|a| a.path.ends_with(".efi")) {
        let path = release.join(&artifact.path);
        let binary = fs::read(&path).map_err(io(&path))?;
        let found = hex::encode(authenticode::digest(&binary)?);
        if artifact.authenticode.as_ref() != Some(&found) {
            let problem = format!(
                "has the Authenticode digest {found}, the manifest has {}",
                artifact.authenticode.as_deref().unwrap_or("-")
            );
            return Err(ReleaseError::Artifact { path, problem });
        }
        if manifest.uki() == Some(artifact) {
            authenticode::check_uki(&binary)?;
            authenticode::check_command_line(&binary, &manifest.root_hash)?;
            let (computed, said) =
                (measured_by(&binary, &manifest.reference_values)?, &manifest.reference_values);
            // A reference value that is absent could not be predicted when the release was made.
            let differs = |said: &Option<String>, computed: &Option<String>| {
                said.is_some() && said != computed
            };
            if differs(&said.pcr9, &computed.pcr9) || differs(&said.pcr12, &computed.pcr12) {
                let problem = "does not measure the reference values of the manifest".into();
                return Err(ReleaseError::Artifact { path, problem });
            }
        }
    }
    if let Some((own, now_s)) = own {
        let found = compare_release::with_release(own, release, &manifest, now_s)?;
        if !found.differences.is_empty() {
            return Err(ReleaseError::Differs(found.differences));
        }
    }
    let target = release.join(signature.file_name());
    fleeti_files::write_durably(&target, &signature.der, fleeti_files::PUBLIC)
        .map_err(io(&target))?;
    Ok((manifest, signature))
}
