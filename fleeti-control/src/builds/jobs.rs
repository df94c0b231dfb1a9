//! The API for build workers: they lease builds, report progress, and upload the results.
//!
//! The server cannot check what a worker built: release signers rebuild it before they sign. It
//! checks everything else: the record must match the requested build, and every file the record.

use crate::builds::change::{self, Change, Claimed};
use crate::builds::log_path;
use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::health;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fleeti_build::build::{BuildRecord, RECORD_MAX};
use fleeti_build::file::sha256_file;
use fleeti_build::lock::Lock;
use fleeti_build::refresh::changes;
use fleeti_core::build::{self, Ctx, Holder};
use fleeti_core::foreign::Foreign;
use fleeti_core::id::{ReleaseName, WorkerName};
use fleeti_core::profile::Revision;
use fleeti_core::wire::api::{CreateBuild, Event};
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::worker::{
    ARTIFACT_MAX, ARTIFACTS, CLAIM_WAIT_S, Claim, DETAIL_CHARS_MAX, Finish, Job, LEASE_S, LOG_MAX,
    Outcome, Renew, is_lease,
};
use fleeti_store as store;
use fleeti_store::builds::{Requested, Texts};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

/// Folder of uploads that are not checked yet.
const INCOMING: &str = "incoming";
/// Lease extension while the server compares files with the record, in seconds.
const CHECK_S: u64 = 900;
/// Maximum number of public key files, and maximum size of each in bytes.
const TRUST_FILES_MAX: usize = 64;
const TRUST_FILE_MAX: u64 = 256 * 1024;
/// Mode of build folders: the signing service's group can read them.
const FOLDER: u32 = 0o750;
const FILE: u32 = 0o640;

fn lost(id: &str) -> Error {
    Error::new(Code::Conflict, format!("the lease of {id} has expired, or another worker holds it"))
        .hint("claim another build")
}

fn folder(cx: &Context, id: &str) -> PathBuf {
    cx.settings.data.join("builds").join(id)
}

/// Leases a build to a worker, or waits for one. Returns `None` if none was queued in time.
///
/// # Errors
/// [`Code::Invalid`] for an invalid lease; [`Code::Full`] if the disk has no room for a build.
pub async fn claim(
    cx: &ContextRef,
    worker: &WorkerName,
    claim: &Claim,
) -> Result<Option<Job>, Error> {
    if !is_lease(&claim.lease) {
        return Err(Error::new(Code::Invalid, "lease must be 32 hexadecimal digits"));
    }
    health::admit(cx, "build")?;
    // Subscribe before the first query, so that no build queued in between is missed.
    let mut events = cx.events.subscribe();
    let end = Instant::now() + Duration::from_secs(CLAIM_WAIT_S);
    loop {
        if let Some(claimed) = take(cx, worker, &claim.lease).await? {
            claimed.applied.follow(cx);
            return Ok(Some(job(cx, claimed).await?));
        }
        if tokio::time::timeout_at(end, next_build(&mut events)).await.is_err() {
            return Ok(None);
        }
    }
}

async fn next_build(events: &mut Receiver<Event>) {
    loop {
        match events.recv().await {
            Ok(Event::Build { .. }) | Err(RecvError::Lagged(_)) => return,
            Ok(_) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

async fn take(cx: &Context, worker: &WorkerName, lease: &str) -> Result<Option<Claimed>, Error> {
    let (holder, ctx) = (holder(worker, lease), Ctx { now_s: cx.now_s(), lease_s: LEASE_S });
    let mut tx = cx.db.write().await?;
    store::workers::seen(&mut tx, worker, ctx.now_s).await?;
    let claimed = change::claim(&mut tx, &holder, ctx).await?;
    tx.commit().await?;
    Ok(claimed)
}

fn holder(worker: &WorkerName, lease: &str) -> Holder {
    Holder { worker: worker.as_str().to_owned(), lease: lease.to_owned() }
}

async fn job(cx: &ContextRef, claimed: Claimed) -> Result<Job, Error> {
    let (build, Requested { revision, request }) = (claimed.applied.id, claimed.requested);
    let (public, folder, log) =
        (cx.settings.data.join("pki/public"), folder(cx, &build), log_path(cx, &build));
    let prepared = tokio::task::spawn_blocking(move || {
        // Remove uploads of a previous worker, so that they do not mix with this one's.
        fs::remove_dir_all(folder.join(INCOMING))
            .or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
        make_folder(&folder)?;
        make_folder(&folder.join(INCOMING))?;
        let log_size = fs::metadata(log).map_or(0, |m| m.len());
        std::io::Result::Ok((trust(&public)?, log_size))
    });
    let (trust, log_size) = prepared.await.map_err(Error::internal)??;
    Ok(Job { build, revision, request, trust, log_size })
}

/// Makes a folder that the group can read, in spite of the umask: the signing service is in it.
fn make_folder(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(FOLDER).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(FOLDER))
}

fn open(path: &Path) -> std::io::Result<fs::File> {
    let file =
        fs::OpenOptions::new().create(true).truncate(false).write(true).mode(FILE).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(FILE))?;
    Ok(file)
}

fn trust(public: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(public)?.take(TRUST_FILES_MAX) {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if let (true, Ok(name)) = (
            metadata.is_file() && metadata.len() <= TRUST_FILE_MAX,
            entry.file_name().into_string(),
        ) {
            files.insert(name, STANDARD.encode(fs::read(entry.path())?));
        }
    }
    Ok(files)
}

/// Renews a lease, and records the worker's progress.
///
/// # Errors
/// [`Code::Conflict`] if the lease has expired and another worker holds the build.
pub async fn renew(
    cx: &Context,
    worker: &WorkerName,
    id: &str,
    renew: &Renew,
) -> Result<(), Error> {
    let detail = words(&renew.detail);
    let texts = Texts { detail: Some(&detail), ..Texts::default() };
    renewed(cx, id, holder(worker, &renew.lease), Renewal { lease_s: LEASE_S, texts }).await?;
    cx.publish_unstored(Event::Build { id: id.to_owned() });
    Ok(())
}

/// A renewal of a lease.
#[derive(Default)]
struct Renewal<'a> {
    /// How long the lease lasts from now on, in seconds.
    lease_s: u64,
    texts: Texts<'a>,
}

async fn renewed(
    cx: &Context,
    id: &str,
    holder: Holder,
    renewal: Renewal<'_>,
) -> Result<(), Error> {
    let ctx = Ctx { now_s: cx.now_s(), lease_s: renewal.lease_s };
    let change = Change { event: build::Event::Renew(holder), texts: renewal.texts, ctx };
    let mut tx = cx.db.write().await?;
    change.apply_to(&mut tx, id).await.map_err(|e| e.or(|| lost(id)))?;
    Ok(tx.commit().await?)
}

/// Renews the lease of a worker that uploads.
async fn keep(cx: &Context, worker: &WorkerName, id: &str, lease: &str) -> Result<(), Error> {
    let renewal = Renewal { lease_s: LEASE_S, ..Renewal::default() };
    renewed(cx, id, holder(worker, lease), renewal).await
}

/// Text of a worker, escaped line by line: it contains output of the build, which is untrusted.
fn words(text: &str) -> String {
    let cut: String = text.chars().take(DETAIL_CHARS_MAX).collect();
    cut.lines()
        .map(|line| Foreign::new(line, DETAIL_CHARS_MAX).to_string())
        .collect::<Vec<_>>()
        .join("\n")
}

/// A chunk of a file.
pub struct Piece {
    /// The lease.
    pub lease: String,
    /// Offset of the first byte.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// Appends to a build's log. Skips bytes that are in the log already, so that a worker can repeat a
/// request whose response was lost.
///
/// # Errors
/// [`Code::Conflict`] for a build of another worker, or if bytes are missing; [`Code::TooLarge`]
/// beyond [`LOG_MAX`].
pub async fn append_log(
    cx: &Context,
    worker: &WorkerName,
    id: &str,
    piece: Piece,
) -> Result<(), Error> {
    keep(cx, worker, id, &piece.lease).await?;
    let path = log_path(cx, id);
    let appended = tokio::task::spawn_blocking(move || {
        let file = open(&path)?;
        let size = file.metadata()?.len();
        let Some(known) = size.checked_sub(piece.offset) else {
            return Err(Error::new(
                Code::Conflict,
                format!("the log has {size} bytes, but the chunk begins at {}", piece.offset),
            ));
        };
        let new =
            piece.bytes.get(usize::try_from(known).unwrap_or(usize::MAX)..).unwrap_or_default();
        if size + new.len() as u64 > LOG_MAX {
            return Err(Error::new(
                Code::TooLarge,
                format!("the log is larger than {LOG_MAX} bytes"),
            ));
        }
        Ok(file.write_all_at(new, size)?)
    });
    appended.await.map_err(Error::internal)??;
    cx.publish_unstored(Event::BuildLog { id: id.to_owned() });
    Ok(())
}

/// Stores a chunk of a file. Idempotent.
///
/// # Errors
/// [`Code::Conflict`] for a build of another worker; [`Code::Invalid`] for an unknown file name;
/// [`Code::TooLarge`].
pub async fn put(
    cx: &Context,
    worker: &WorkerName,
    id: &str,
    name: &str,
    piece: Piece,
) -> Result<(), Error> {
    if !ARTIFACTS.contains(&name) {
        return Err(Error::new(Code::Invalid, format!("{name:?} is not a file of a build")));
    }
    if piece.offset.saturating_add(piece.bytes.len() as u64) > ARTIFACT_MAX {
        return Err(Error::new(
            Code::TooLarge,
            format!("the file is larger than {ARTIFACT_MAX} bytes"),
        ));
    }
    keep(cx, worker, id, &piece.lease).await?;
    health::admit(cx, "build")?;
    let path = folder(cx, id).join(INCOMING).join(name);
    let written =
        tokio::task::spawn_blocking(move || open(&path)?.write_all_at(&piece.bytes, piece.offset));
    Ok(written.await.map_err(Error::internal)??)
}

/// Ends a build: it failed, or all files are uploaded and match the record.
///
/// # Errors
/// [`Code::Conflict`] for a build of another worker; [`Code::Untrusted`] with the first mismatch,
/// and the build fails.
pub async fn finish(
    cx: &ContextRef,
    worker: &WorkerName,
    id: &str,
    finish: &Finish,
) -> Result<(), Error> {
    let holder = holder(worker, &finish.lease);
    let renewal = Renewal { lease_s: CHECK_S, ..Renewal::default() };
    renewed(cx, id, holder.clone(), renewal).await?;
    let folder = folder(cx, id);
    let result = match &finish.outcome {
        Outcome::Failed { detail } => Err(words(detail)),
        Outcome::Succeeded { record } => {
            let expected = expected(cx, id).await?;
            let (folder, record) = (folder.clone(), record.clone());
            tokio::task::spawn_blocking(move || expected.place(&folder, &record))
                .await
                .map_err(Error::internal)?
        }
    };
    let directory = folder.display().to_string();
    let (outcome, texts) = match &result {
        Ok(()) => (
            build::Outcome::Succeeded,
            Texts { detail: Some("done"), directory: Some(&directory), ..Texts::default() },
        ),
        Err(detail) => (build::Outcome::Failed, Texts { detail: Some(detail), ..Texts::default() }),
    };
    let ctx = Ctx { now_s: cx.now_s(), lease_s: 0 };
    let change = Change { event: build::Event::Finish { holder, outcome }, texts, ctx };
    let mut tx = cx.db.write().await?;
    let applied = change.apply_to(&mut tx, id).await.map_err(|e| e.or(|| lost(id)))?;
    tx.commit().await?;
    applied.follow(cx);
    match (result, &finish.outcome) {
        (Err(detail), Outcome::Succeeded { .. }) => Err(Error::new(Code::Untrusted, detail)),
        (Ok(()), _) | (Err(_), Outcome::Failed { .. }) => Ok(()),
    }
}

async fn expected(cx: &Context, id: &str) -> Result<Expected, Error> {
    let requested = store::builds::request(&mut cx.db.reader().await?, id).await?;
    let Requested { revision, request } = requested.ok_or_else(|| lost(id))?;
    let CreateBuild { profile, version, refresh_packages, .. } = request;
    let release = ReleaseName { line: profile.name.clone(), version };
    let newest = match refresh_packages.is_empty() {
        true => None,
        false => store::builds::newest_with_files(cx.db.pool(), &release.line).await?,
    };
    let kept = newest.map(|build| folder(cx, &build.id).join("lock.json"));
    let revision = Revision::new(revision, profile).map_err(Error::internal)?;
    Ok(Expected { release, revision, kept })
}

/// Which packages are older than in the newest build of the line, if some are. A worker refreshes
/// packages in its own lock, which may be older than that of the worker before.
fn older(newest: &Lock, made: &Lock) -> Option<String> {
    let down = changes(newest, made).down;
    let first = down.first()?;
    Some(format!(
        "{} packages would be older than in the newest build of the line, such as {} {} instead of {}: \
         the lock of the worker is old; refresh all packages in a build of this worker first",
        down.len(),
        first.name,
        first.after,
        first.before
    ))
}

/// What the record of a build must state.
struct Expected {
    release: ReleaseName,
    revision: Revision,
    /// The lock whose other packages a build keeps that refreshes some.
    kept: Option<PathBuf>,
}

impl Expected {
    /// Compares the uploads with the record, and moves them into the build's folder. Returns the
    /// first mismatch.
    fn place(&self, folder: &Path, text: &str) -> Result<(), String> {
        let incoming = folder.join(INCOMING);
        self.check(&incoming, text)?;
        let io = |e: std::io::Error| format!("the server could not store the build: {e}");
        for name in ARTIFACTS {
            fleeti_files::rename_durably(&incoming.join(name), &folder.join(name)).map_err(io)?;
        }
        let record = folder.join("build.json");
        fleeti_files::write_durably(&record, text.as_bytes(), FILE)
            // The umask may have narrowed the mode.
            .and_then(|()| fs::set_permissions(&record, fs::Permissions::from_mode(FILE)))
            .map_err(io)?;
        fs::remove_dir_all(incoming).map_err(io)
    }

    fn check(&self, incoming: &Path, text: &str) -> Result<(), String> {
        if text.len() as u64 > RECORD_MAX {
            return Err(format!("the record is larger than {RECORD_MAX} bytes"));
        }
        let record =
            BuildRecord::parse(incoming, text.as_bytes()).map_err(|e| words(&e.to_string()))?;
        let is_of_build = record.release == self.release
            && record.architecture == self.revision.profile.architecture
            && record.inputs.revision == self.revision.number
            && record.inputs.revision_digest == self.revision.digest;
        if !is_of_build {
            return Err(format!(
                "the record does not match the build {} of revision {}",
                self.release, self.revision.number
            ));
        }
        let made: Vec<&str> = ARTIFACTS.into_iter().filter(|name| *name != "lock.json").collect();
        if let Some(name) = made.iter().find(|name| !record.files.contains_key(**name)) {
            return Err(format!(
                "the record does not name {name}; if the worker is older than the server, update it"
            ));
        }
        for (name, file) in &record.files {
            let Some(name) = made.iter().find(|known| **known == name.as_str()) else {
                return Err(format!(
                    "the record names {}, which is not a file of a build",
                    Foreign::log(name.as_str())
                ));
            };
            let path = incoming.join(name);
            let at = |e: std::io::Error| format!("{name}: {e}");
            if file.size > ARTIFACT_MAX {
                return Err(format!("{name} is larger than {ARTIFACT_MAX} bytes"));
            }
            // Workers do not upload chunks of zeros: extend the file to its size.
            open(&path)
                .and_then(|f| f.set_len(file.size).and_then(|()| f.sync_all()))
                .map_err(at)?;
            if sha256_file(&path).map_err(at)? != file.sha256 {
                return Err(format!("{name} does not match the record"));
            }
        }
        let lock = Lock::read(&incoming.join("lock.json")).map_err(|e| words(&e.to_string()))?;
        if lock.digest() != record.inputs.lock_digest {
            return Err("lock.json does not match the digest in the record".to_owned());
        }
        let Some(kept) = &self.kept else { return Ok(()) };
        let newest = Lock::read(kept).map_err(|e| words(&e.to_string()))?;
        older(&newest, &lock).map_or(Ok(()), |why| Err(words(&why)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    fn lock(version: &str) -> Lock {
        let package = json!({"name": "nginx", "version": version, "sha256": "a".repeat(64),
            "size": 1, "path": "pool/x.deb"});
        serde_json::from_value(json!({"suite": "trixie", "architecture": "amd64",
            "requested": {}, "sets": {"device": [package]}}))
        .unwrap()
    }

    #[test]
    fn a_worker_with_an_old_lock_makes_no_package_older() {
        assert_eq!(older(&lock("1.2"), &lock("1.10")), None);
        assert_eq!(older(&lock("1.2"), &lock("1.2")), None);
        let why = older(&lock("1.10"), &lock("1.9")).unwrap();
        assert!(why.contains("nginx 1.9 instead of 1.10"), "{why}");
    }
}
