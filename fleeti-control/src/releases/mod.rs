//! Publishing of releases: upload of files, verification of everything, then the release is
//! immutable.

use crate::app::{App, new_id, now_s};
use crate::error::AppError;
use crate::service::{approvals, audit, devices};
use actix_files::NamedFile;
use bytes::Bytes;
use fleeti_build::build::BuildRecord;
use fleeti_build::release::{self, ReleaseError};
use fleeti_core::id::ReleaseName;
use fleeti_core::manifest::{BYTES_MAX, Manifest, is_artifact_path};
use fleeti_core::wire::api::{Build, Event, Fleet, Release};
use fleeti_core::wire::device::ReleaseProof;
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::{Act, RELEASE_PUBLISH};
use fleeti_pki::manifest::Signature;
use fleeti_store as store;
use futures::{Stream, StreamExt};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncWriteExt;

/// Maximum size of an artifact, in bytes.
pub const ARTIFACT_MAX: u64 = 8 << 30;
/// Bytes of an upload between two checks of the disk.
const LOOK_EVERY: u64 = 16 << 20;

fn staging(app: &App, name: &ReleaseName) -> PathBuf {
    app.releases().join(".staging").join(name.to_string())
}

/// The folder of a published release.
#[must_use]
pub fn directory(app: &App, name: &ReleaseName) -> PathBuf {
    app.releases().join(name.line.as_str()).join(name.version.as_str())
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
    app: &App,
    name: &ReleaseName,
    path: &str,
    mut body: S,
) -> Result<(), AppError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    if !is_release_file(path) {
        return Err(AppError::new(Code::Invalid, format!("{path:?} is not a file of a release")));
    }
    if store::releases::get(app.db.pool(), name).await?.is_some() {
        return Err(AppError::new(
            Code::Conflict,
            format!("{name} is published and never changes"),
        )
        .hint("publish a higher version"));
    }
    app.health.disk.admit(&app.config, "upload")?;
    let target = staging(app, name).join(path);
    let folder = target.parent().ok_or_else(|| AppError::internal("a path without a folder"))?;
    tokio::fs::create_dir_all(folder).await?;
    let part = target.with_extension("part");
    let mut file = tokio::fs::File::create(&part).await?;
    let limit = if is_artifact_path(path) { ARTIFACT_MAX } else { BYTES_MAX as u64 };
    let (mut size, mut looked_at) = (0u64, 0u64);
    while let Some(chunk) = body.next().await {
        let chunk = chunk
            .map_err(|e| AppError::new(Code::Invalid, format!("the upload is incomplete: {e}")))?;
        size += chunk.len() as u64;
        if size > limit {
            tokio::fs::remove_file(&part).await.ok();
            return Err(AppError::new(
                Code::TooLarge,
                format!("{path} is larger than {limit} bytes"),
            ));
        }
        looked_at += chunk.len() as u64;
        if looked_at >= LOOK_EVERY {
            looked_at = 0;
            if let Err(full) = app.health.disk.admit(&app.config, "upload") {
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
    Ok(tokio::fs::rename(&part, &target).await?)
}

/// Verifies an uploaded release and publishes it.
///
/// # Errors
/// [`Code::Untrusted`] with the first failed check; then nothing is published.
pub async fn publish(app: &App, name: &ReleaseName) -> Result<Release, AppError> {
    if let Some(release) = store::releases::get(app.db.pool(), name).await? {
        return Ok(release);
    }
    let (from, to) = (staging(app, name), directory(app, name));
    if to.exists() {
        // The server was killed between the rename and the commit: this folder is verified already.
        return commit(app, name, &to).await;
    }
    if !from.join("manifest.json").exists() {
        return Err(AppError::not_found("upload of release", &name.to_string())
            .hint("upload its files first: `fleeti release publish DIR`"));
    }
    // Move it out of reach of uploads first, so that exactly the verified files are published.
    let private = app.releases().join(".staging").join(new_id("verifying"));
    tokio::fs::rename(&from, &private).await?;
    publish_private(app, name, private).await
}

/// Verifies a folder that no upload can reach, and publishes it.
async fn publish_private(
    app: &App,
    name: &ReleaseName,
    private: PathBuf,
) -> Result<Release, AppError> {
    let (to, keys) = (directory(app, name), app.pki.release_keys.clone());
    let checked = tokio::task::spawn_blocking({
        let private = private.clone();
        move || release::verify(&private, &keys)
    });
    let verified = match checked.await.map_err(AppError::internal)? {
        Ok(verified) if verified.manifest().release == *name => verified,
        refused => {
            tokio::fs::remove_dir_all(&private).await.ok();
            return Err(match refused {
                Ok(other) => AppError::new(
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
    if let Err(e) = tokio::fs::rename(&private, &to).await {
        tokio::fs::remove_dir_all(&private).await.ok();
        return Err(e.into());
    }
    let folder = to.parent().unwrap_or(&to).to_owned();
    // The rename must be durable before the row that refers to it.
    tokio::task::spawn_blocking(move || std::fs::File::open(folder)?.sync_all())
        .await
        .map_err(AppError::internal)??;
    commit(app, name, &to).await
}

/// The documents that a device verifies before it downloads anything.
pub struct Documents {
    /// `manifest.json`, as it was signed.
    pub manifest: Bytes,
    /// Key id and signature (DER, base64) of each release key, JSON.
    pub signatures: Bytes,
}

/// Cache of the documents of recently requested releases. A release never changes, so entries never
/// become stale.
#[derive(Default)]
pub struct DocumentCache(Mutex<HashMap<ReleaseName, Arc<Documents>>>);

/// Maximum number of cached releases.
const DOCUMENTS_MAX: usize = 64;

/// The documents that a device verifies before it downloads anything.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn documents(app: &App, name: &ReleaseName) -> Result<Arc<Documents>, AppError> {
    let cache = || app.documents.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = cache().get(name) {
        return Ok(Arc::clone(found));
    }
    let found = store::releases::documents(app.db.pool(), name).await?;
    let (manifest, signatures) =
        found.ok_or_else(|| AppError::not_found("release", &name.to_string()))?;
    let documents =
        Arc::new(Documents { manifest: manifest.into(), signatures: signatures.into() });
    let mut cache = cache();
    if cache.len() >= DOCUMENTS_MAX {
        cache.clear();
    }
    cache.insert(name.clone(), Arc::clone(&documents));
    Ok(documents)
}

/// One release.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(app: &App, name: &ReleaseName) -> Result<Release, AppError> {
    let missing = || {
        AppError::not_found("release", &name.to_string())
            .hint("publish it with `fleeti release publish`")
    };
    store::releases::get(app.db.pool(), name).await?.ok_or_else(missing)
}

/// The newest releases.
pub async fn newest(app: &App, limit: u32) -> Result<Vec<Release>, AppError> {
    Ok(store::releases::newest(app.db.pool(), limit).await?)
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
}

/// A release with its manifest.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn details(app: &App, name: &ReleaseName) -> Result<Details, AppError> {
    let release = get(app, name).await?;
    let documents = documents(app, name).await?;
    let manifest = Manifest::parse(&documents.manifest).map_err(AppError::internal)?;
    let signatures = serde_json::from_slice(&documents.signatures)?;
    Ok(Details { release, manifest, signatures, fleets: devices::fleets(app).await? })
}

/// A file of a release.
///
/// # Errors
/// [`Code::NotFound`] for an invalid path, or a file that does not exist.
pub async fn file(app: &App, name: &ReleaseName, path: &str) -> Result<NamedFile, AppError> {
    if !is_artifact_path(path) {
        return Err(AppError::new(Code::NotFound, format!("{path:?} is not a file of a release")));
    }
    NamedFile::open_async(directory(app, name).join(path))
        .await
        .map_err(|_| AppError::not_found("file", path))
}

/// Whether a published release was made from exactly this build.
pub async fn is_of(app: &App, name: &ReleaseName, record: &BuildRecord) -> Result<bool, AppError> {
    let Some((manifest, _)) = store::releases::documents(app.db.pool(), name).await? else {
        return Ok(false);
    };
    Ok(record.made(&Manifest::parse(manifest.as_bytes()).map_err(AppError::internal)?))
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
pub async fn sign(app: &App, build: &Build) -> Result<Release, AppError> {
    let name = &build.release;
    let from = PathBuf::from(
        build.directory.as_ref().ok_or_else(|| AppError::internal("the build has no directory"))?,
    );
    let record = BuildRecord::read(&from).map_err(AppError::internal)?;
    let taken = || {
        AppError::new(Code::Conflict, format!("{name} is published and never changes"))
            .hint("build a higher version")
    };
    if let Some(release) = store::releases::get(app.db.pool(), name).await? {
        return if is_of(app, name, &record).await? { Ok(release) } else { Err(taken()) };
    }
    let published = directory(app, name);
    if published.exists() {
        // The server was killed between the rename and the commit.
        let manifest = Manifest::parse(&tokio::fs::read(published.join("manifest.json")).await?)
            .map_err(AppError::internal)?;
        return if record.made(&manifest) {
            commit(app, name, &published).await
        } else {
            Err(taken())
        };
    }
    app.health.disk.admit(&app.config, "release")?;
    tokio::fs::create_dir_all(app.outbox()).await?;
    let out = new_id("signing");
    approvals::have_signed(app, build, &out).await?;
    publish_private(app, name, app.outbox().join(out)).await
}

async fn commit(app: &App, name: &ReleaseName, directory: &Path) -> Result<Release, AppError> {
    let manifest = tokio::fs::read_to_string(directory.join("manifest.json")).await?;
    let signatures: Vec<_> = release::read_signatures(directory)
        .map_err(AppError::internal)?
        .into_iter()
        .map(|s| (s.key_id, fleeti_pki::base64_text(&s.der)))
        .collect();
    let digest = fleeti_core::canonical::sha256_hex(manifest.as_bytes());
    // Enter it in the log before it becomes visible: devices request the inclusion proof.
    let number = audit::enter(app, published(name, &digest)).await?;
    let mut tx = app.db.write().await?;
    store::releases::insert(
        &mut tx,
        name,
        &digest,
        &manifest,
        &serde_json::to_string(&signatures)?,
        now_s(),
    )
    .await?;
    store::releases::set_audit_number(&mut tx, name, number).await?;
    tx.commit().await?;
    app.publish(Event::Release { name: name.clone() });
    store::releases::get(app.db.pool(), name)
        .await?
        .ok_or_else(|| AppError::internal("the release has disappeared"))
}

/// The audit entry of a publication. Devices look for exactly this text.
fn published(name: &ReleaseName, manifest_sha256: &str) -> Act {
    Act::new("admin", RELEASE_PUBLISH, name.to_string()).of(manifest_sha256)
}

/// Enters releases that were published before the audit log existed.
///
/// # Errors
/// When the database or the signing service does not answer.
pub async fn enter_in_log(app: &App) -> Result<(), AppError> {
    for (name, digest) in store::releases::without_audit_number(app.db.pool()).await? {
        let number = audit::enter(app, published(&name, &digest)).await?;
        let mut tx = app.db.write().await?;
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
pub async fn proof(app: &App, name: &ReleaseName, seen: u64) -> Result<ReleaseProof, AppError> {
    let number = store::releases::audit_number(app.db.pool(), name).await?;
    let number = number.ok_or_else(|| AppError::not_found("release", &name.to_string()))?;
    let published = audit::proof(app, number).await?;
    let size = app.pki.log.verify(&published.checkpoint)?.checkpoint().size;
    // A device that knows a larger log gets no consistency proof, and notices that.
    let consistency = if seen == 0 || seen > size {
        Vec::new()
    } else {
        audit::consistency(app, seen, size).await?.hashes
    };
    Ok(ReleaseProof { published, consistency })
}

fn untrusted(e: ReleaseError) -> AppError {
    match e {
        ReleaseError::Verify(_) | ReleaseError::Artifact { .. } => {
            AppError::new(Code::Untrusted, e.to_string())
        }
        other => AppError::internal(other),
    }
}
