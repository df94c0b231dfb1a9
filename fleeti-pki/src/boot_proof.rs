//! Boot proofs: signed by release keys like a manifest, and distinguished from one by their type.

use crate::manifest::{PublicKey, ReleaseKeys, Signature, Verified, VerifyError, check_signatures};
use crate::signer::Signer;
use crate::{Error, OrMalformed};
use fleeti_core::boot_proof::{BootProof, NoProof};
use fleeti_core::canonical;

/// Why a boot proof is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootProofError {
    /// Too few valid signatures.
    #[error(transparent)]
    Signatures(#[from] VerifyError),
    /// The boot proof proves something else.
    #[error(transparent)]
    NoProof(#[from] NoProof),
}

/// The bytes to sign.
///
/// # Errors
/// [`Error::Malformed`].
pub fn to_bytes(proof: &BootProof) -> Result<Vec<u8>, Error> {
    canonical::to_vec(proof).or_malformed("boot proof")
}

/// Signs a boot proof with a release key. The bytes are parsed first.
///
/// # Errors
/// [`Error::Malformed`] if they are not a boot proof; [`Error::Refused`] for another kind of key.
pub fn sign(bytes: &[u8], signer: &dyn Signer) -> Result<Signature, Error> {
    if to_bytes(&BootProof::parse(bytes).or_malformed("boot proof")?)? != bytes {
        return Err(Error::Refused("the boot proof is not in canonical form"));
    }
    Ok(Signature { key_id: PublicKey::of(signer)?.id(), der: signer.sign(bytes)? })
}

/// Verifies the signatures, then that the boot proof is for this release.
///
/// # Errors
/// [`BootProofError`]; signatures are verified before a byte is parsed.
pub fn verify(
    bytes: &[u8],
    signatures: &[Signature],
    keys: &ReleaseKeys,
    release: &Verified,
) -> Result<BootProof, BootProofError> {
    check_signatures(bytes, signatures, keys)?;
    let proof = BootProof::parse(bytes)?;
    proof.check(release.manifest(), release.sha256())?;
    Ok(proof)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;
    use crate::signer::{Algorithm, SoftKey};
    use fleeti_core::attestation::Level;
    use fleeti_core::boot_proof::KIND;
    use fleeti_core::id::Architecture;
    use fleeti_core::manifest::{Artifact, Manifest, PHASE_READY, ReferenceValues};

    const NINE: &str = "99";
    const ELEVEN: &str = "11";
    const TWELVE: &str = "00";

    /// A release, the keys that count, and its manifest as signed.
    struct Released {
        release: Verified,
        keys: ReleaseKeys,
        manifest: Vec<u8>,
    }

    fn released(key: &SoftKey) -> Released {
        let manifest = Manifest {
            kind: manifest_kind(),
            release: "kiosk@2".parse().unwrap(),
            architecture: Architecture::X86_64,
            revision_digest: "aa".into(),
            lock_digest: "bb".into(),
            artifacts: vec![Artifact {
                path: "raw/kiosk_2.efi".into(),
                size: 1,
                sha256: "cc".into(),
                authenticode: None,
            }],
            root_hash: "dd".into(),
            reference_values: ReferenceValues {
                systemd_version: "257".into(),
                pcr11: [(PHASE_READY.to_owned(), ELEVEN.to_owned())].into(),
                pcr9: Some(NINE.into()),
                pcr12: Some(TWELVE.into()),
            },
            minimum_version: "1".parse().unwrap(),
            created_s: 0,
            critical: vec![],
        };
        let manifest = manifest::to_bytes(&manifest).unwrap();
        let keys = ReleaseKeys::new(vec![PublicKey::of(key).unwrap()], 1).unwrap();
        let signature = manifest::sign(&manifest, key).unwrap();
        let release = manifest::verify(&manifest, &[signature], &keys).unwrap();
        Released { release, keys, manifest }
    }

    fn manifest_kind() -> String {
        fleeti_core::manifest::KIND.to_owned()
    }

    fn proof(release: &Verified) -> BootProof {
        let value = |pcr: &str, text: &str| (pcr.to_owned(), text.to_owned());
        BootProof {
            kind: KIND.to_owned(),
            release: release.manifest().release.clone(),
            manifest_sha256: release.sha256().to_owned(),
            device: "dev-a".parse().unwrap(),
            level: Level::VerifiedBoot,
            pcrs: [value("9", NINE), value("11", ELEVEN), value("12", TWELVE)].into(),
            evidence: "ee".into(),
            proved_s: 1,
        }
    }

    #[test]
    fn a_proof_counts_for_the_release_that_it_is_of_and_by_release_keys_alone() {
        let (key, other) = (
            SoftKey::generate(Algorithm::P384).unwrap(),
            SoftKey::generate(Algorithm::P384).unwrap(),
        );
        let Released { release, keys, manifest } = released(&key);
        let check = |change: &dyn Fn(&mut BootProof), by: &SoftKey| {
            let mut proof = proof(&release);
            change(&mut proof);
            let bytes = to_bytes(&proof).unwrap();
            verify(&bytes, &[sign(&bytes, by)?], &keys, &release)
                .map_err(|e| Error::Malformed { what: "proof", detail: e.to_string() })
        };
        check(&|_| (), &key).unwrap();
        assert!(check(&|_| (), &other).is_err(), "a key that is not a release key");
        type Change = dyn Fn(&mut BootProof);
        let wrong: [(&str, &Change); 7] = [
            ("kiosk@3", &|p| p.release = "kiosk@3".parse().unwrap()),
            ("manifest", &|p| p.manifest_sha256 = "00".into()),
            ("L3", &|p| p.level = Level::ObservedBoot),
            ("PCR 9", &|p| drop(p.pcrs.insert("9".into(), "98".into()))),
            ("PCR 11", &|p| drop(p.pcrs.remove("11"))),
            ("PCR 12", &|p| drop(p.pcrs.insert("12".into(), "01".into()))),
            ("not a fleeti-boot-proof", &|p| p.kind = manifest_kind()),
        ];
        for (word, change) in wrong {
            let said = check(change, &key).unwrap_err().to_string();
            assert!(said.contains(word), "{word}: {said}");
        }
        // Neither document is accepted as the other.
        assert!(sign(&manifest, &key).is_err());
        assert!(manifest::sign(&to_bytes(&proof(&release)).unwrap(), &key).is_err());
        let signature = manifest::sign(&manifest, &key).unwrap();
        assert!(verify(&manifest, &[signature], &keys, &release).is_err());
    }
}
