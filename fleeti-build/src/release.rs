//! A release: an immutable directory that is signed once and served unchanged.
//!
//! ```text
//! manifest.json  manifest.<key id>.sig
//! raw/  <line>_<version>_<uuid>.root  ..._<uuid>.verity  <line>_<version>.efi  systemd-boot.efi
//!       <line>_<version>.cdx.json  <line>_<version>.intoto.json  SHA256SUMS  SHA256SUMS.gpg
//! xz/   the same names with .xz, for a device without an agent
//! ```

use crate::error::BuildError;
use crate::file::{open_plain, sha256_file};
use crate::pieces::Difference;
use crate::provenance;
use crate::record::{BuildRecord, FileRecord};
use crate::sbom;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::manifest::{
    Artifact, CRITICAL_KNOWN, KIND, Manifest, ReferenceValues, provenance_name, sbom_name,
};
use fleeti_pki::manifest::{ReleaseKeys, Signature, Verified, VerifyError};
use fleeti_pki::openpgp::OpenPgpKey;
use fleeti_pki::signer::Signer;
use fleeti_pki::{Error as PkiError, authenticode, manifest, measured::predicted, pcr_policy};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Block size of the `.xz` files. Fixed, so that the number of threads does not change their bytes.
const XZ_BLOCK: u64 = 8 << 20;
const XZ_PRESET: u32 = 2;

/// The keys that sign a release.
pub struct ReleaseSigners<'a> {
    /// Signs the manifest.
    pub release: &'a dyn Signer,
    /// Signs `SHA256SUMS`.
    pub openpgp: &'a OpenPgpKey,
    /// Signs EFI binaries for every device of the organisation, with its certificate (PEM). Without
    /// it, only devices with their own Secure Boot keys can boot the release.
    pub db: Option<(&'a dyn Signer, &'a str)>,
    /// Signs the value of PCR 11 of the UKI, so that the UKI opens what devices sealed under
    /// another one. A UKI that was built for such a key cannot be signed without it.
    pub pcr: Option<&'a dyn Signer>,
}

/// Why a release could not be made or is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The build could not be read.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// An error of a key or a signature.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A file of the build does not match its record.
    #[error("{0} does not match build.json")]
    ChangedBuild(PathBuf),
    /// The directory exists already.
    #[error("{0} exists already; a release is never changed")]
    Exists(PathBuf),
    /// The manifest does not verify.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A release differs from the caller's own build.
    #[error("the release differs from your own build: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Differs(Vec<Difference>),
    /// A file does not match the manifest.
    #[error("{path}: {problem}")]
    Artifact {
        /// Path of the file.
        path: PathBuf,
        /// The problem, for example a different digest.
        problem: String,
    },
}

pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ReleaseError {
    let path = path.to_owned();
    |source| ReleaseError::Io { path, source }
}

/// A release to create.
#[derive(Clone, Copy)]
pub struct NewRelease<'a> {
    /// The directory of the build.
    pub build: &'a Path,
    /// What the build contains.
    pub record: &'a BuildRecord,
    /// The release directory, which does not exist yet.
    pub out: &'a Path,
    /// What signs it.
    pub signers: &'a ReleaseSigners<'a>,
    /// When it is created, Unix seconds.
    pub created_s: u64,
}

/// Signs a build into a release directory, and tells `line` what it does. Signs exactly what
/// `record` describes: the directory is not trusted, so every file is read once and compared with the
/// record.
///
/// # Errors
/// [`ReleaseError`]. Then nothing remains at `out`.
pub fn create(
    release: NewRelease<'_>,
    line: &mut dyn FnMut(&str),
) -> Result<Manifest, ReleaseError> {
    let NewRelease { build, record, out, signers, created_s } = release;
    if out.exists() {
        return Err(ReleaseError::Exists(out.to_owned()));
    }
    let parent =
        out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(parent).map_err(io(parent))?;
    let staging = tempfile::tempdir_in(parent).map_err(io(parent))?;
    let folder = |view: &str| staging.path().join(view);
    for view in ["raw", "xz"] {
        fs::create_dir(folder(view)).map_err(io(staging.path()))?;
    }

    line("checking the build");
    let raw = folder("raw");
    copy_files(build, record, &raw)?;
    let reference_values = sign_programs(build, record, &raw, signers, line)?;
    for entry in sorted_files(&raw)? {
        line(&format!("compressing {entry}"));
        compress(&raw.join(&entry), &folder("xz").join(format!("{entry}.xz")))?;
    }
    let mut artifacts = Vec::new();
    for view in ["raw", "xz"] {
        artifacts.extend(write_sums(&folder(view), view, signers.openpgp)?);
    }
    artifacts.sort_by(|a, b| a.path.cmp(&b.path));
    line("signing the manifest");
    let manifest = Manifest {
        kind: KIND.to_owned(),
        release: record.release.clone(),
        architecture: record.architecture,
        revision_digest: record.inputs.revision_digest.clone(),
        lock_digest: record.inputs.lock_digest.clone(),
        artifacts,
        root_hash: record.root_hash.clone(),
        reference_values,
        minimum_version: record.minimum_version.clone(),
        created_s,
        critical: CRITICAL_KNOWN.iter().map(|f| (*f).to_owned()).collect(),
    };
    let bytes = manifest::to_bytes(&manifest)?;
    let signature = manifest::sign(&bytes, signers.release)?;
    for (file, bytes) in
        [("manifest.json".to_owned(), bytes), (signature.file_name(), signature.der)]
    {
        let path = staging.path().join(file);
        fs::write(&path, bytes).map_err(io(&path))?;
    }
    put_in_place(staging, out)?;
    Ok(manifest)
}

/// Files of a build that a release has as they are: their names in the build, and below `raw/`.
/// Builds of earlier versions have no SBOM and no provenance.
pub(crate) fn copied(record: &BuildRecord) -> Vec<(&'static str, String)> {
    let (line, version) = (&record.release.line, &record.release.version);
    let (root_uuid, verity_uuid) = partition_uuids(&record.root_hash);
    let mut copied = vec![
        ("root.erofs", format!("{line}_{version}_{root_uuid}.root")),
        ("root.verity", format!("{line}_{version}_{verity_uuid}.verity")),
        (sbom::FILE, sbom_name(&record.release)),
        (provenance::FILE, provenance_name(&record.release)),
    ];
    let is_required = |name: &str| name.starts_with("root.");
    copied.retain(|(name, _)| is_required(name) || record.files.contains_key(*name));
    copied
}

/// Copies the root file system, its hash tree and the documents, and compares them with the record.
fn copy_files(build: &Path, record: &BuildRecord, raw: &Path) -> Result<(), ReleaseError> {
    for (from, to) in copied(record) {
        let target = raw.join(to);
        let (mut file, recorded) = recorded(build, record, from)?;
        let mut copy = fs::File::create(&target).map_err(io(&target))?;
        std::io::copy(&mut file, &mut copy).map_err(io(&target))?;
        if sha256_file(&target).map_err(io(&target))? != recorded.sha256 {
            return Err(ReleaseError::ChangedBuild(build.join(from)));
        }
    }
    Ok(())
}

/// Signs the EFI binaries. Returns the PCR values that the UKI will measure.
fn sign_programs(
    build: &Path,
    record: &BuildRecord,
    raw: &Path,
    signers: &ReleaseSigners<'_>,
    line: &mut dyn FnMut(&str),
) -> Result<ReferenceValues, ReleaseError> {
    let mut reference_values = record.reference_values.clone();
    let db = signers
        .db
        .map(|(signer, pem)| Ok::<_, PkiError>((signer, fleeti_pki::certificate::from_pem(pem)?)))
        .transpose()?;
    for (from, to) in [
        ("uki.efi", format!("{}_{}.efi", record.release.line, record.release.version)),
        ("systemd-boot.efi", "systemd-boot.efi".to_owned()),
    ] {
        line(&format!("signing {to}"));
        let (mut file, recorded) = recorded(build, record, from)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io(&build.join(from)))?;
        if sha256_hex(&bytes) != recorded.sha256 {
            return Err(ReleaseError::ChangedBuild(build.join(from)));
        }
        if from == "uki.efi" {
            authenticode::check_uki(&bytes)?;
            authenticode::check_command_line(&bytes, &record.root_hash)?;
            bytes = with_policy(bytes, record, signers.pcr)?;
            reference_values = measured_by(&bytes, &record.reference_values)?;
        }
        let binary = match &db {
            Some((signer, certificate)) => authenticode::sign(&bytes, certificate, *signer)?,
            None => authenticode::padded(&bytes),
        };
        let target = raw.join(to);
        fs::write(&target, binary).map_err(io(&target))?;
    }
    Ok(reference_values)
}

/// Writes `SHA256SUMS` and its signature beside the files of a view. Returns all of them.
fn write_sums(
    folder: &Path,
    view: &str,
    openpgp: &OpenPgpKey,
) -> Result<Vec<Artifact>, ReleaseError> {
    let (mut artifacts, mut sums) = (Vec::new(), String::new());
    for entry in sorted_files(folder)? {
        let path = folder.join(&entry);
        let artifact = artifact(&path, format!("{view}/{entry}"))?;
        sums.push_str(&format!("{}  {entry}\n", artifact.sha256));
        artifacts.push(artifact);
    }
    for (file, bytes) in [
        ("SHA256SUMS", sums.clone().into_bytes()),
        ("SHA256SUMS.gpg", openpgp.sign(sums.as_bytes())?),
    ] {
        let path = folder.join(file);
        fs::write(&path, bytes).map_err(io(&path))?;
        artifacts.push(artifact(&path, format!("{view}/{file}"))?);
    }
    Ok(artifacts)
}

/// Moves a complete release to its place.
fn put_in_place(staging: tempfile::TempDir, out: &Path) -> Result<(), ReleaseError> {
    let staged = staging.path();
    fs::set_permissions(staged, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(io(staged))?;
    // After a power cut, a release directory must be complete as well.
    sync(staged)?;
    fleeti_files::rename_durably(staged, out).map_err(io(out))?;
    drop(staging.keep());
    Ok(())
}

/// The UKI with the signature over its PCR 11, if it was built for one.
fn with_policy(
    uki: Vec<u8>,
    record: &BuildRecord,
    key: Option<&dyn Signer>,
) -> Result<Vec<u8>, ReleaseError> {
    if !pcr_policy::is_asked_for(&uki)? {
        return Ok(uki);
    }
    let key = key.ok_or(PkiError::Refused(
        "the UKI requires a signature over its PCR 11, but there is no pcr.key",
    ))?;
    let systemd = record
        .reference_values
        .systemd()
        .ok_or(PkiError::Refused("the build does not record its systemd version"))?;
    Ok(pcr_policy::attach(&uki, systemd, key)?)
}

/// Computes the reference values of a UKI from the UKI itself. The values of PCR 11 in `said` must
/// be equal.
pub(crate) fn measured_by(
    uki: &[u8],
    said: &ReferenceValues,
) -> Result<ReferenceValues, ReleaseError> {
    let Some(systemd) = said.systemd().filter(|_| !said.pcr11.is_empty()) else {
        return Ok(said.clone());
    };
    let started = predicted::pcr_11(uki, systemd, "")?;
    for (phases, value) in &said.pcr11 {
        let computed = hex::encode(predicted::after_phases(started, phases));
        if computed != *value {
            let detail = format!(
                "PCR 11 after {phases} will be {computed}, the reference values have {value}"
            );
            return Err(PkiError::Malformed { what: "kernel image", detail }.into());
        }
    }
    let pcr9 = predicted::pcr_9(uki, systemd)?.map(hex::encode);
    Ok(ReferenceValues { pcr9, pcr12: Some(hex::encode(predicted::PCR_12)), ..said.clone() })
}

/// Opens a file of a build once, and reads no more of it than the record declares.
fn recorded<'a>(
    build: &Path,
    record: &'a BuildRecord,
    name: &str,
) -> Result<(std::io::Take<fs::File>, &'a FileRecord), ReleaseError> {
    let path = build.join(name);
    let entry = record.files.get(name).ok_or_else(|| ReleaseError::ChangedBuild(path.clone()))?;
    let file = open_plain(&path).map_err(io(&path))?;
    if file.metadata().map_err(io(&path))?.len() != entry.size {
        return Err(ReleaseError::ChangedBuild(path));
    }
    Ok((file.take(entry.size), entry))
}

/// Syncs every file and directory below a path to the disk.
fn sync(path: &Path) -> Result<(), ReleaseError> {
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(io(path))? {
            sync(&entry.map_err(io(path))?.path())?;
        }
    }
    fleeti_files::sync(path).map_err(io(path))
}

/// GPT partition UUIDs of root and verity: the two halves of the root hash (Discoverable Partitions
/// Specification), so that `roothash=` alone finds both partitions.
#[must_use]
pub fn partition_uuids(root_hash: &str) -> (String, String) {
    let guid =
        |h: &str| format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..32]);
    (guid(&root_hash[..32]), guid(&root_hash[32..64]))
}

fn artifact(path: &Path, name: String) -> Result<Artifact, ReleaseError> {
    let size = fs::metadata(path).map_err(io(path))?.len();
    let is_binary = name.ends_with(".efi");
    let digest = if is_binary {
        Some(authenticode::digest(&fs::read(path).map_err(io(path))?)?)
    } else {
        None
    };
    Ok(Artifact {
        path: name,
        size,
        sha256: sha256_file(path).map_err(io(path))?,
        authenticode: digest.map(hex::encode),
    })
}

fn sorted_files(folder: &Path) -> Result<Vec<String>, ReleaseError> {
    let mut names = fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|e| e.map(|e| e.file_name().to_string_lossy().into_owned()))
                .collect::<Result<Vec<_>, _>>()
        })
        .map_err(io(folder))?;
    names.sort();
    Ok(names)
}

fn compress(source: &Path, target: &Path) -> Result<(), ReleaseError> {
    let encoder = liblzma::stream::MtStreamBuilder::new()
        .threads(2)
        .block_size(XZ_BLOCK)
        .preset(XZ_PRESET)
        .check(liblzma::stream::Check::Crc64)
        .encoder()
        .map_err(|e| ReleaseError::Io {
            path: target.to_owned(),
            source: std::io::Error::other(e),
        })?;
    let mut input = fs::File::open(source).map_err(io(source))?;
    let mut writer = liblzma::write::XzEncoder::new_stream(
        fs::File::create(target).map_err(io(target))?,
        encoder,
    );
    std::io::copy(&mut input, &mut writer).map_err(io(target))?;
    writer.finish().and_then(|mut f| f.flush()).map_err(io(target))
}

/// Reads the signature files beside a manifest.
///
/// # Errors
/// [`ReleaseError::Io`].
pub fn read_signatures(release: &Path) -> Result<Vec<Signature>, ReleaseError> {
    let mut signatures = Vec::new();
    for name in sorted_files(release)? {
        if let Some(key_id) = Signature::key_id_of(&name) {
            let path = release.join(&name);
            signatures.push(Signature {
                key_id: key_id.to_owned(),
                der: fs::read(&path).map_err(io(&path))?,
            });
        }
    }
    Ok(signatures)
}

/// Verifies a release directory: the signatures of the manifest, then every artifact.
///
/// # Errors
/// [`ReleaseError::Verify`]; [`ReleaseError::Artifact`] with the file.
pub fn verify(release: &Path, keys: &ReleaseKeys) -> Result<Verified, ReleaseError> {
    let path = release.join("manifest.json");
    let bytes = fs::read(&path).map_err(io(&path))?;
    let verified = manifest::verify(&bytes, &read_signatures(release)?, keys)?;
    check_artifacts(release, verified.manifest())?;
    Ok(verified)
}

pub(crate) fn check_artifacts(release: &Path, manifest: &Manifest) -> Result<(), ReleaseError> {
    for artifact in &manifest.artifacts {
        let path = release.join(&artifact.path);
        let problem = match fs::metadata(&path) {
            Err(e) => Some(e.to_string()),
            Ok(m) if m.len() != artifact.size => {
                Some(format!("has {} bytes, the manifest has {}", m.len(), artifact.size))
            }
            Ok(_) => {
                let found = sha256_file(&path).map_err(io(&path))?;
                (found != artifact.sha256)
                    .then(|| format!("has SHA-256 {found}, the manifest has {}", artifact.sha256))
            }
        };
        if let Some(problem) = problem {
            return Err(ReleaseError::Artifact { path, problem });
        }
    }
    Ok(())
}
