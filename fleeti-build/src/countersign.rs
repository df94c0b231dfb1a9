//! One more signature under a release, by somebody who has looked at it.

use crate::compare::Own;
use crate::compare_release;
use crate::release::{ReleaseError, check_artifacts, io, measured_by};
use fleeti_core::manifest::Manifest;
use fleeti_pki::manifest::{Signature, VerifyError};
use fleeti_pki::signer::Signer;
use fleeti_pki::{authenticode, manifest};
use std::fs;
use std::path::Path;

/// Adds the signature of one more person to a release. What is signed is what lies there: every
/// file is compared with the manifest, programs with the digests that devices are to start, the
/// command line with what Fleeti allows, and, where there is a build of one's own, every byte that
/// boots with it. The second of the pair is now, Unix seconds.
///
/// # Errors
/// [`ReleaseError::Artifact`] for what is not as the manifest says; [`ReleaseError::Differs`] names
/// every difference from the own build.
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
        let program = fs::read(&path).map_err(io(&path))?;
        let found = hex::encode(authenticode::digest(&program)?);
        if artifact.authenticode.as_ref() != Some(&found) {
            let problem = format!(
                "has the Authenticode digest {found}, the manifest says {}",
                artifact.authenticode.as_deref().unwrap_or("-")
            );
            return Err(ReleaseError::Artifact { path, problem });
        }
        if manifest.uki() == Some(artifact) {
            authenticode::check_uki(&program)?;
            authenticode::check_command_line(&program, &manifest.root_hash)?;
            let (computed, said) =
                (measured_by(&program, &manifest.reference_values)?, &manifest.reference_values);
            // What the manifest does not say was not known to whoever made it.
            let differs = |said: &Option<String>, computed: &Option<String>| {
                said.is_some() && said != computed
            };
            if differs(&said.pcr9, &computed.pcr9) || differs(&said.pcr12, &computed.pcr12) {
                let problem =
                    "measures something else than the manifest's reference values say".into();
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
    fs::write(&target, &signature.der).map_err(io(&target))?;
    fs::File::open(&target).and_then(|f| f.sync_all()).map_err(io(&target))?;
    Ok((manifest, signature))
}
