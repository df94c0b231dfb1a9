//! Publishing of releases: upload of files, verification of everything, then the release is
//! immutable.

pub mod documents;
pub mod offers;
pub mod retention;
pub mod revoke;
pub(crate) mod state;

use crate::accounts::actor::Actor;
use crate::builds::approvals;
use crate::clock::new_id;
use crate::context::Context;
use crate::cursor::{Asked, Last, Page};
use crate::error::Error;
use crate::releases::documents::Documents;
use crate::{audit, health};
use bytes::Bytes;
use fleeti_build::build::BuildRecord;
use fleeti_build::release::{self, ReleaseError};
use fleeti_build::sbom::packages_of;
use fleeti_core::id::ReleaseName;
use fleeti_core::manifest::{BYTES_MAX, Manifest, is_artifact_path, provenance_name, sbom_name};
use fleeti_core::rollout::gates::ReleasePath;
use fleeti_core::wire::api::{Build, Event, Fleet, Release};
use fleeti_core::wire::device::ReleaseProof;
use fleeti_core::wire::list::ListQuery;
use fleeti_core::wire::package::ReleasePackage;
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::{Act, RELEASE_PUBLISH};
use fleeti_pki::manifest::Signature;
use fleeti_store as store;
use fleeti_store::releases::NewRelease;
use futures::{Stream, StreamExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// Maximum size of an artifact, in bytes.
pub const ARTIFACT_MAX: u64 = 8 << 30;
/// Bytes of an upload between two checks of the disk.
const LOOK_EVERY: u64 = 16 << 20;

fn staging(cx: &Context, name: &ReleaseName) -> PathBuf {
    cx.settings.releases().join(".staging").join(name.to_string())
}

/// The folder of a published release.
#[must_use]
pub fn directory(cx: &Context, name: &ReleaseName) -> PathBuf {
    cx.settings.releases().join(name.line.as_str()).join(name.version.as_str())
}

fn is_release_file(path: &str) -> bool {
    path == "manifest.json" || Signature::key_id_of(path).is_some() || is_artifact_path(path)
}

/// Stores an uploaded file of a release that is not published yet.
///
/// # Errors
/// [`Code::Invalid`] for an invalid path; [`Code::TooLarge`]; [`Code::Conflict`] for a published
/// release.
pub async fn upload<S, E>(
    cx: &Context,
    name: &ReleaseName,
    path: &str,
    mut body: S,
) -> Result<(), Error>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    if !is_release_file(path) {
        return Err(Error::new(Code::Invalid, format!("{path:?} is not a file of a release")));
    }
    if store::releases::get(cx.db.pool(), name).await?.is_some() {
        return Err(Error::new(Code::Conflict, format!("{name} is published and never changes"))
            .hint("publish a higher version"));
    }
    health::admit(cx, "upload")?;
    let target = staging(cx, name).join(path);
    let folder = target.parent().ok_or_else(|| Error::internal("a path without a folder"))?;
    tokio::fs::create_dir_all(folder).await?;
    let part = target.with_extension("part");
    let mut file = tokio::fs::File::create(&part).await?;
    let limit = if is_artifact_path(path) { ARTIFACT_MAX } else { BYTES_MAX as u64 };
    let (mut size, mut looked_at) = (0u64, 0u64);
    while let Some(chunk) = body.next().await {
        let chunk = chunk
            .map_err(|e| Error::new(Code::Invalid, format!("the upload is incomplete: {e}")))?;
        size += chunk.len() as u64;
        if size > limit {
            tokio::fs::remove_file(&part).await.ok();
            return Err(Error::new(Code::TooLarge, format!("{path} is larger than {limit} bytes")));
        }
        looked_at += chunk.len() as u64;
        if looked_at >= LOOK_EVERY {
            looked_at = 0;
            if let Err(full) = health::admit(cx, "upload") {
                tokio::fs::remove_file(&part).await.ok();
                return Err(full);
            }
        }
        if let Err(e) = file.write_all(&chunk).await {
            tokio::fs::remove_file(&part).await.ok();
            return Err(e.into());
        }
    }
    file.sync_all().await?;
    rename_durably(part, target).await
}

/// Verifies an uploaded release and publishes it.
///
/// # Errors
/// [`Code::Untrusted`] with the first failed check; then nothing is published.
pub async fn publish(cx: &Context, by: &Actor, name: &ReleaseName) -> Result<Release, Error> {
    if let Some(release) = store::releases::get(cx.db.pool(), name).await? {
        return Ok(release);
    }
    let (from, to) = (staging(cx, name), directory(cx, name));
    if to.exists() {
        // The server was killed between the rename and the commit: this folder is verified already.
        return commit(cx, by, name, &to).await;
    }
    if !from.join("manifest.json").exists() {
        return Err(Error::not_found("upload of release", &name.to_string())
            .hint("upload its files first: `fleeti release publish DIR`"));
    }
    // Move it out of reach of uploads first, so that exactly the verified files are published.
    let private = cx.settings.releases().join(".staging").join(new_id("verifying"));
    tokio::fs::rename(&from, &private).await?;
    publish_private(cx, by, name, private).await
}

/// Verifies a folder that no upload can reach, and publishes it.
async fn publish_private(
    cx: &Context,
    by: &Actor,
    name: &ReleaseName,
    private: PathBuf,
) -> Result<Release, Error> {
    let (to, keys) = (directory(cx, name), cx.pki.release_keys.clone());
    let checked = tokio::task::spawn_blocking({
        let private = private.clone();
        move || release::verify(&private, &keys)
    });
    let verified = match checked.await.map_err(Error::internal)? {
        Ok(verified) if verified.manifest().release == *name => verified,
        refused => {
            tokio::fs::remove_dir_all(&private).await.ok();
            return Err(match refused {
                Ok(other) => Error::new(
                    Code::Untrusted,
                    format!("the manifest is of {}", other.manifest().release),
                ),
                Err(e) => untrusted(e),
            });
        }
    };
    tracing::info!("{name} is signed by release keys: {}", verified.sha256());
    if let Some(folder) = to.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    // The rename must be durable before the row that refers to it.
    if let Err(e) = rename_durably(private.clone(), to.clone()).await {
        tokio::fs::remove_dir_all(&private).await.ok();
        return Err(e);
    }
    commit(cx, by, name, &to).await
}

async fn rename_durably(from: PathBuf, to: PathBuf) -> Result<(), Error> {
    let renamed = tokio::task::spawn_blocking(move || fleeti_files::rename_durably(&from, &to));
    Ok(renamed.await.map_err(Error::internal)??)
}

/// The documents that a device verifies before it downloads anything.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn documents(cx: &Context, name: &ReleaseName) -> Result<Arc<Documents>, Error> {
    if let Some(found) = cx.releases.documents.get(name) {
        return Ok(found);
    }
    let found = store::releases::documents(cx.db.pool(), name).await?;
    let (manifest, signatures) =
        found.ok_or_else(|| Error::not_found("release", &name.to_string()))?;
    let documents =
        Arc::new(Documents { manifest: manifest.into(), signatures: signatures.into() });
    cx.releases.documents.insert(name, &documents);
    Ok(documents)
}

/// One release.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(cx: &Context, name: &ReleaseName) -> Result<Release, Error> {
    let missing = || {
        Error::not_found("release", &name.to_string())
            .hint("publish it with `fleeti release publish`")
    };
    store::releases::get(cx.db.pool(), name).await?.ok_or_else(missing)
}

/// The newest releases.
pub async fn newest(cx: &Context, limit: u32) -> Result<Vec<Release>, Error> {
    Ok(store::releases::newest(cx.db.pool(), limit).await?)
}

/// A page of releases, newest first.
///
/// # Errors
/// [`Code::Malformed`] for a cursor that is not one.
pub async fn page(cx: &Context, query: &ListQuery) -> Result<Page<Release>, Error> {
    let ListQuery { cursor, limit } = query;
    let asked = Asked { list: ("releases", ""), cursor: cursor.as_deref(), limit: *limit };
    let after = asked.after(cx)?;
    let rows = store::releases::page(cx.db.pool(), after.as_ref(), asked.rows()?).await?;
    asked.page(cx, rows, |release| Last {
        at_s: release.published_s.unwrap_or_default(),
        id: release.name.to_string(),
    })
}

/// A release with its manifest.
pub struct Details {
    /// The release.
    pub release: Release,
    /// The manifest.
    pub manifest: Manifest,
    /// Key id and signature (DER, base64) of each release key.
    pub signatures: Vec<(String, String)>,
    /// The fleets that it can be rolled out to.
    pub fleets: Vec<Fleet>,
    /// The ways to it.
    pub path: ReleasePath,
}

/// A release with its manifest.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn details(cx: &Context, name: &ReleaseName) -> Result<Details, Error> {
    let release = get(cx, name).await?;
    let documents = documents(cx, name).await?;
    let manifest = Manifest::parse(&documents.manifest).map_err(Error::internal)?;
    let signatures = serde_json::from_slice(&documents.signatures)?;
    Ok(Details {
        release,
        manifest,
        signatures,
        fleets: store::devices::fleets(cx.db.pool()).await?,
        path: store::release_paths::get(&mut cx.db.reader().await?, name).await?,
    })
}

/// A file of a release.
///
/// # Errors
/// [`Code::NotFound`] for an invalid path, or a file that does not exist.
pub async fn file(cx: &Context, name: &ReleaseName, path: &str) -> Result<PathBuf, Error> {
    if !is_artifact_path(path) {
        return Err(Error::new(Code::NotFound, format!("{path:?} is not a file of a release")));
    }
    let file = directory(cx, name).join(path);
    let is_file = tokio::fs::metadata(&file).await.is_ok_and(|m| m.is_file());
    if is_file { Ok(file) } else { Err(Error::not_found("file", path)) }
}

/// A file of a published release that people read: manifest, signatures, SBOM, provenance. Who wants
/// to trust it verifies the signatures of the manifest, and by it the digest of the file.
///
/// # Errors
/// [`Code::NotFound`] for any other file, or a release that is not published.
pub async fn document(cx: &Context, name: &ReleaseName, path: &str) -> Result<PathBuf, Error> {
    let missing = || Error::not_found("file", path);
    get(cx, name).await?;
    let documents = [sbom_name(name), provenance_name(name)];
    let is_document = path == "manifest.json"
        || Signature::key_id_of(path).is_some()
        || path.strip_prefix("raw/").is_some_and(|file| documents.iter().any(|d| d == file));
    let file = directory(cx, name).join(path);
    let is_there = is_document && tokio::fs::metadata(&file).await.is_ok_and(|m| m.is_file());
    if is_there { Ok(file) } else { Err(missing()) }
}

/// Whether a published release was made from exactly this build.
pub async fn is_of(cx: &Context, name: &ReleaseName, record: &BuildRecord) -> Result<bool, Error> {
    let Some((manifest, _)) = store::releases::documents(cx.db.pool(), name).await? else {
        return Ok(false);
    };
    Ok(record.made(&Manifest::parse(manifest.as_bytes()).map_err(Error::internal)?))
}

/// Cleans up after a killed server: removes releases that it was signing, and makes those that it
/// was verifying uploads again. Call this at startup, before anything else runs.
///
/// # Errors
/// I/O.
pub fn sweep(releases: &Path) -> std::io::Result<()> {
    let staging = releases.join(".staging");
    let entries = match std::fs::read_dir(&staging) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.contains('@') {
            // An upload, whatever the name of its line.
        } else if name.starts_with("verifying-")
            && let Ok(manifest) = std::fs::read(path.join("manifest.json"))
            && let Ok(manifest) = Manifest::parse(&manifest)
            && !staging.join(manifest.release.to_string()).exists()
        {
            std::fs::rename(&path, staging.join(manifest.release.to_string()))?;
        } else if ["verifying-", "signing-", ".tmp"].iter().any(|p| name.starts_with(p)) {
            // The server may lack permission to remove folders of the signing service; they do no
            // harm.
            if let Err(e) = std::fs::remove_dir_all(&path) {
                tracing::warn!("{}: {e}", path.display());
            }
        }
    }
    Ok(())
}

/// Makes the signing service sign a build, and publishes the release.
///
/// # Errors
/// [`Code::Conflict`] if the release exists already, approvals are missing, or the release key is
/// not on this server.
pub async fn sign(cx: &Context, build: &Build) -> Result<Release, Error> {
    let name = &build.release;
    let from = PathBuf::from(
        build.directory.as_ref().ok_or_else(|| Error::internal("the build has no directory"))?,
    );
    let record = BuildRecord::read(&from).map_err(Error::internal)?;
    let taken = || {
        Error::new(Code::Conflict, format!("{name} is published and never changes"))
            .hint("build a higher version")
    };
    if let Some(release) = store::releases::get(cx.db.pool(), name).await? {
        return if is_of(cx, name, &record).await? { Ok(release) } else { Err(taken()) };
    }
    let published = directory(cx, name);
    if published.exists() {
        // The server was killed between the rename and the commit.
        let manifest = Manifest::parse(&tokio::fs::read(published.join("manifest.json")).await?)
            .map_err(Error::internal)?;
        return if record.made(&manifest) {
            commit(cx, &Actor::server(), name, &published).await
        } else {
            Err(taken())
        };
    }
    health::admit(cx, "release")?;
    tokio::fs::create_dir_all(cx.settings.outbox()).await?;
    let out = new_id("signing");
    approvals::have_signed(cx, build, &out).await?;
    publish_private(cx, &Actor::server(), name, cx.settings.outbox().join(out)).await
}

async fn commit(
    cx: &Context,
    by: &Actor,
    name: &ReleaseName,
    directory: &Path,
) -> Result<Release, Error> {
    let manifest = tokio::fs::read_to_string(directory.join("manifest.json")).await?;
    let signatures: Vec<_> = release::read_signatures(directory)
        .map_err(Error::internal)?
        .into_iter()
        .map(|s| (s.key_id, fleeti_pki::base64_text(&s.der)))
        .collect();
    let digest = fleeti_core::canonical::sha256_hex(manifest.as_bytes());
    let packages = packages_in(directory, &manifest).await?;
    // Enter it in the log before it becomes visible: devices request the inclusion proof.
    let number = audit::enter(cx, published(by, name, &digest)).await?;
    let mut tx = cx.db.write().await?;
    let new = NewRelease {
        name,
        manifest_sha256: &digest,
        manifest: &manifest,
        signatures: &serde_json::to_string(&signatures)?,
        published_s: cx.now_s(),
    };
    store::releases::insert(&mut tx, &new).await?;
    store::releases::set_audit_number(&mut tx, name, number).await?;
    store::packages::insert(&mut tx, name, &packages).await?;
    cx.commit(tx, Event::Release { name: name.clone() }).await?;
    store::releases::get(cx.db.pool(), name)
        .await?
        .ok_or_else(|| Error::internal("the release has disappeared"))
}

/// The packages that the SBOM of a verified release lists; none without an SBOM.
async fn packages_in(directory: &Path, manifest: &str) -> Result<Vec<ReleasePackage>, Error> {
    let manifest = Manifest::parse(manifest.as_bytes()).map_err(Error::internal)?;
    let Some(sbom) = manifest.sbom() else { return Ok(Vec::new()) };
    let path = directory.join(&sbom.path);
    let read = tokio::task::spawn_blocking(move || packages_of(&path)).await;
    // Release keys signed it: what cannot be read is no reason to refuse the release.
    Ok(read.map_err(Error::internal)?.unwrap_or_else(|e| {
        tracing::warn!("the packages of {} are not known: {e}", manifest.release);
        Vec::new()
    }))
}

/// The audit entry of a publication. Devices look for its action, subject and digest.
fn published(by: &Actor, name: &ReleaseName, manifest_sha256: &str) -> Act {
    by.act(RELEASE_PUBLISH, name.to_string()).of(manifest_sha256)
}

/// Enters releases that were published before the audit log existed.
///
/// # Errors
/// When the database or the signing service does not answer.
pub async fn enter_in_log(cx: &Context) -> Result<(), Error> {
    for (name, digest) in store::releases::without_audit_number(cx.db.pool()).await? {
        let number = audit::enter(cx, published(&Actor::server(), &name, &digest)).await?;
        let mut tx = cx.db.write().await?;
        store::releases::set_audit_number(&mut tx, &name, number).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// The inclusion proof of a release with the current checkpoint, and the consistency proof from
/// `seen`, the size of the last checkpoint that the device knows.
///
/// # Errors
/// [`Code::NotFound`]; when the signing service does not answer.
pub async fn proof(cx: &Context, name: &ReleaseName, seen: u64) -> Result<ReleaseProof, Error> {
    let number = store::releases::audit_number(cx.db.pool(), name).await?;
    let number = number.ok_or_else(|| Error::not_found("release", &name.to_string()))?;
    let published = audit::proof(cx, number).await?;
    let size = cx.pki.log.verify(&published.checkpoint)?.checkpoint().size;
    // A device that knows a larger log gets no consistency proof, and notices that.
    let consistency = if seen == 0 || seen > size {
        Vec::new()
    } else {
        audit::consistency(cx, seen, size).await?.hashes
    };
    Ok(ReleaseProof { published, consistency })
}

fn untrusted(e: ReleaseError) -> Error {
    match e {
        ReleaseError::Verify(_) | ReleaseError::Artifact { .. } => {
            Error::new(Code::Untrusted, e.to_string())
        }
        other => Error::internal(other),
    }
}
