//! Releases with dummy payloads, for everything but booting.

use anyhow::{Result, bail, ensure};
use fleeti_build::build::{BuildRecord, FileRecord, RecordedInputs};
use fleeti_core::build::{Outcome, State};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{Architecture, ReleaseName};
use fleeti_core::manifest::{Artifact, KIND, Manifest, PHASE_READY, ReferenceValues};
use fleeti_pki::manifest;
use fleeti_pki::signer::Signer;
use fleeti_store::Tx;
use fleeti_store::builds::{self, Texts};
use sha2::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn sha256_bytes(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

/// A manifest with these artifacts and dummy values.
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
        reference_values: ReferenceValues {
            systemd_version: "257".into(),
            ..ReferenceValues::default()
        },
        minimum_version: name.version.clone(),
        created_s: 0,
        critical: vec![],
    }
}

/// Reference values of a release.
pub struct Measures {
    /// Authenticode digest of the boot loader.
    pub boot_loader: [u8; 32],
    /// Authenticode digest of the UKI.
    pub kernel_image: [u8; 32],
    /// PCR 11 after the boot.
    pub pcr_11: [u8; 32],
}

/// Writes a signed release directory with one root of `size` bytes.
///
/// # Errors
/// I/O.
pub fn release(dir: &Path, name: &ReleaseName, key: &dyn Signer, size: usize) -> Result<Manifest> {
    let program = |path: &str| sha256_bytes(format!("program {path}").as_bytes());
    let kernel_image = program(&format!("raw/{}_{}.efi", name.line, name.version));
    let measures =
        Measures { boot_loader: program("raw/systemd-boot.efi"), kernel_image, pcr_11: [0; 32] };
    release_that_measures(dir, name, key, size, &measures)
}

/// As [`release`], with reference values.
///
/// # Errors
/// I/O.
pub fn release_that_measures(
    dir: &Path,
    name: &ReleaseName,
    key: &dyn Signer,
    size: usize,
    measures: &Measures,
) -> Result<Manifest> {
    let seed = sha256_hex(name.to_string().as_bytes());
    let bytes: Vec<u8> = seed.bytes().cycle().take(size).collect();
    let path = format!("raw/{}_{}.root", name.line, name.version);
    // EFI binaries that never run: their digests are signed all the same.
    let program = |path: String, digest: [u8; 32]| {
        let (bytes, authenticode) = (path.clone().into_bytes(), Some(hex::encode(digest)));
        (
            Artifact { path, size: bytes.len() as u64, sha256: sha256_hex(&bytes), authenticode },
            bytes,
        )
    };
    let kernel_image =
        program(format!("raw/{}_{}.efi", name.line, name.version), measures.kernel_image);
    let programs = [kernel_image, program("raw/systemd-boot.efi".into(), measures.boot_loader)];
    let root = Artifact {
        path: path.clone(),
        size: size as u64,
        sha256: sha256_hex(&bytes),
        authenticode: None,
    };
    let artifacts =
        [root].into_iter().chain(programs.iter().map(|(artifact, _)| artifact.clone())).collect();
    let mut manifest = Manifest { root_hash: seed, ..manifest_of(name, artifacts) };
    manifest.reference_values.pcr11.insert(PHASE_READY.to_owned(), hex::encode(measures.pcr_11));
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

const KERNEL_IMAGE: &[u8] = include_bytes!("../../fleeti-pki/tests/fixtures/secure-boot/uki.efi");
const BOOT_LOADER: &[u8] = include_bytes!("../../fleeti-pki/tests/fixtures/secure-boot/binary.efi");

/// An SBOM with one package of a source with another name.
const SBOM: &str = r#"{"components":[{"name":"libssl3t64","properties":[{"name":"fleeti:source","value":"openssl"},{"name":"fleeti:source_version","value":"3.5.1-1"}],"purl":"pkg:deb/debian/libssl3t64@3.5.1-1","version":"3.5.1-1"}]}"#;

/// Writes the directory of a build, with signable EFI binaries and a dummy file system.
///
/// # Errors
/// I/O.
pub fn build(dir: &Path, name: &ReleaseName) -> Result<BuildRecord> {
    fs::create_dir_all(dir)?;
    let mut files = BTreeMap::new();
    let parts = [
        ("root.erofs", &b"root"[..]),
        ("root.verity", b"verity"),
        ("uki.efi", KERNEL_IMAGE),
        ("systemd-boot.efi", BOOT_LOADER),
        ("sbom.cdx.json", SBOM.as_bytes()),
        ("provenance.intoto.json", b"{}"),
    ];
    for (name, bytes) in parts {
        fs::write(dir.join(name), bytes)?;
        files.insert(
            name.parse()?,
            FileRecord { size: bytes.len() as u64, sha256: sha256_hex(bytes) },
        );
    }
    let digest = |text: &str| sha256_hex(text.as_bytes());
    let record = BuildRecord {
        schema: 1,
        release: name.clone(),
        architecture: Architecture::X86_64,
        minimum_version: "1".parse()?,
        inputs: RecordedInputs {
            revision: 1,
            revision_digest: digest("revision"),
            lock_digest: digest("lock"),
            agent_digest: digest("agent"),
        },
        derivations: BTreeMap::new(),
        nix_version: "2.8.0".into(),
        root_hash: digest("root hash"),
        reference_values: ReferenceValues {
            systemd_version: "257".into(),
            ..ReferenceValues::default()
        },
        files,
    };
    fs::write(dir.join("build.json"), serde_json::to_vec_pretty(&record)?)?;
    Ok(record)
}

/// Marks a build as ended, as a worker leaves it: succeeded with the files in this folder, or
/// failed without one.
///
/// # Errors
/// When the database fails.
pub async fn end_build(tx: &mut Tx<'_>, id: &str, directory: Option<&str>) -> Result<()> {
    let Some(build) = builds::load(tx, id).await? else { bail!("there is no build {id}") };
    let outcome = if directory.is_some() { Outcome::Succeeded } else { Outcome::Failed };
    let texts = Texts { detail: Some("done"), directory, ..Texts::default() };
    ensure!(builds::set(tx, &build, &State::from(outcome), texts).await?, "{id} has changed");
    Ok(())
}
