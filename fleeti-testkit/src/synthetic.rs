//! Releases whose payloads are bytes of no meaning: as good as any for everything but booting.

use anyhow::Result;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{Architecture, ReleaseName};
use fleeti_core::manifest::{Artifact, KIND, Manifest, ReferenceValues};
use fleeti_pki::manifest;
use fleeti_pki::signer::Signer;
use std::fs;
use std::path::Path;

/// A manifest that names these artifacts and nothing else of meaning.
#[must_use]
pub fn manifest_of(name: &ReleaseName, artifacts: Vec<Artifact>) -> Manifest {
    Manifest {
        kind: KIND.to_owned(),
        release: name.clone(),
        architecture: Architecture::X86_64,
        revision_digest: sha256_hex(b"synthetic revision"),
        lock_digest: sha256_hex(b"synthetic lock"),
        artifacts,
        root_hash: String::new(),
        reference_values: ReferenceValues { systemd_version: "257".into(), ..ReferenceValues::default() },
        minimum_version: name.version.clone(),
        created_s: 0,
        critical: vec![],
    }
}

/// Writes a signed release directory with one root of `size` bytes.
///
/// # Errors
/// I/O.
pub fn release(dir: &Path, name: &ReleaseName, key: &dyn Signer, size: usize) -> Result<Manifest> {
    let seed = sha256_hex(name.to_string().as_bytes());
    let bytes: Vec<u8> = seed.bytes().cycle().take(size).collect();
    let path = format!("raw/{}_{}.root", name.line, name.version);
    // Programs that nobody starts: their digests are signed all the same.
    let program = |path: String| {
        let (bytes, authenticode) = (path.clone().into_bytes(), Some(sha256_hex(format!("program {path}").as_bytes())));
        (Artifact { path, size: bytes.len() as u64, sha256: sha256_hex(&bytes), authenticode }, bytes)
    };
    let programs = [program(format!("raw/{}_{}.efi", name.line, name.version)), program("raw/systemd-boot.efi".into())];
    let root = Artifact { path: path.clone(), size: size as u64, sha256: sha256_hex(&bytes), authenticode: None };
    let artifacts = [root].into_iter().chain(programs.iter().map(|(artifact, _)| artifact.clone())).collect();
    let manifest = Manifest { root_hash: seed, ..manifest_of(name, artifacts) };
    let document = manifest::to_bytes(&manifest)?;
    let signature = manifest::sign(&document, key)?;
    fs::create_dir_all(dir.join("raw"))?;
    fs::write(dir.join(path), bytes)?;
    for (artifact, bytes) in programs {
        fs::write(dir.join(artifact.path), bytes)?;
    }
    fs::write(dir.join("manifest.json"), &document)?;
    fs::write(dir.join(signature.file_name()), &signature.der)?;
    Ok(manifest)
}
