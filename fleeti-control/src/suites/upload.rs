//! Takes the index of a suite from a build worker.
//!
//! The server has no network and no apt of its own, so it cannot check what an index says. It checks
//! its form, size and digest, and keeps the last good one until a new one is complete. A wrong index
//! harms checks only: what is built depends on the lock that the worker resolves.

use super::opened::OpenIndex;
use super::state::{Shared, Upload};
use super::using::with;
use crate::context::Context;
use crate::error::Error;
use crate::health;
use bytes::Bytes;
use fleeti_build::file::sha256_file;
use fleeti_build::suite::{self, SUITE};
use fleeti_core::canonical::is_sha256_hex;
use fleeti_core::foreign::Foreign;
use fleeti_core::id::WorkerName;
use fleeti_core::profile::INDEX_MAX;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::suite::KnownIndex;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// A part of an index.
pub struct Part {
    /// SHA-256 of the whole index, hexadecimal.
    pub digest: String,
    /// Size of the whole index, bytes.
    pub size: u64,
    /// Offset of the first byte.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
}

impl Part {
    /// Offset after the last byte.
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes.len() as u64)
    }
}

/// The index that the server has.
///
/// # Errors
/// [`Code::NotFound`] for another suite.
pub async fn known(cx: &Context, of: &str) -> Result<KnownIndex, Error> {
    check_suite(of)?;
    let path = cx.suites.shared.path();
    with(cx, move |index| {
        // A worker asks after it has reached the mirror: the index is as old as this.
        let opened = fs::File::options().write(true).open(&path);
        opened.and_then(|file| file.set_modified(SystemTime::now())).ok();
        KnownIndex { digest: index.map(|index| index.suite().digest) }
    })
    .await
}

fn check_suite(of: &str) -> Result<(), Error> {
    if of == SUITE { Ok(()) } else { Err(Error::not_found("suite", of)) }
}

/// Stores the next part of an index, or the first one of another: then the upload that was not
/// complete is forgotten. The last part replaces the index, if it has the digest and the form.
/// Repeating a part is harmless, also the last one.
///
/// # Errors
/// [`Code::NotFound`] for another suite; [`Code::TooLarge`]; [`Code::Conflict`] if a part is missing
/// before this one, or another worker began an upload; [`Code::Untrusted`] for another digest;
/// [`Code::Invalid`] for a text that is not an index of this suite; [`Code::Full`].
pub async fn put(cx: &Context, worker: &WorkerName, of: &str, part: Part) -> Result<(), Error> {
    check_suite(of)?;
    if !is_sha256_hex(&part.digest) {
        return Err(Error::new(Code::Invalid, "sha256 must be 64 hexadecimal digits"));
    }
    if part.size > INDEX_MAX || part.end() > part.size {
        let most = part.size.min(INDEX_MAX);
        let detail = format!("the index has more than {most} bytes");
        return Err(Error::new(Code::TooLarge, detail));
    }
    health::admit(cx, "index of a suite")?;
    let (shared, worker) = (Arc::clone(&cx.suites.shared), worker.clone());
    let stored = tokio::task::spawn_blocking(move || store(&shared, &worker, &part));
    stored.await.map_err(Error::internal)?
}

fn store(shared: &Shared, worker: &WorkerName, part: &Part) -> Result<(), Error> {
    let upload = Upload { worker: worker.clone(), digest: part.digest.clone(), size: part.size };
    let mut running = shared.upload();
    let path = shared.incoming();
    if part.offset == 0 && running.as_ref() != Some(&upload) {
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::File::create(&path)?;
        *running = Some(upload.clone());
    }
    if running.as_ref() != Some(&upload) {
        // The answer to the last part was lost.
        let is_last = part.end() == part.size;
        if is_last && shared.open().is_some_and(|index| index.digest == part.digest) {
            return Ok(());
        }
        let detail = "this upload was not begun, is complete, or gave way to another";
        return Err(Error::new(Code::Conflict, detail).hint("begin with the first part"));
    }
    let file = fs::File::options().write(true).open(&path)?;
    let length = file.metadata()?.len();
    if part.offset > length {
        let detail = format!("the part begins at {}, but {length} bytes are here", part.offset);
        return Err(Error::new(Code::Conflict, detail));
    }
    file.write_all_at(&part.bytes, part.offset)?;
    if file.metadata()?.len() < part.size {
        return Ok(());
    }
    file.sync_all()?;
    // The upload is complete: it becomes the index, or is removed.
    *running = None;
    let placed = place(shared, &path, &part.digest);
    if placed.is_err() {
        fs::remove_file(&path).ok();
    }
    let index = placed?;
    tracing::info!("{worker} uploaded the index of {SUITE}, {} bytes", part.size);
    shared.replace(index);
    Ok(())
}

/// Checks an index, and puts it in the place of the former one.
fn place(shared: &Shared, path: &Path, digest: &str) -> Result<OpenIndex, Error> {
    if sha256_file(path)? != digest {
        return Err(Error::new(Code::Untrusted, "the index does not match its digest"));
    }
    let invalid = |text: &str| {
        let detail = format!("the index: {}", Foreign::new(text, 200));
        Error::new(Code::Invalid, detail).hint("update the worker to the version of the server")
    };
    // A worker is told what is wrong with the text, and no path of the server.
    let index = suite::open(path).map_err(|e| match e {
        suite::SuiteError::Index { source, .. } => invalid(&source.to_string()),
        other => Error::internal(other),
    })?;
    let Some(index) = index.filter(|index| index.head().suite == SUITE) else {
        return Err(invalid("is one of another suite"));
    };
    fleeti_files::rename_durably(path, &shared.path())?;
    Ok(OpenIndex { index, digest: digest.to_owned() })
}

/// Takes the index that a worker of this process made.
///
/// # Errors
/// [`Code::Invalid`] for a file that is not an index of this suite.
pub async fn take(cx: &Context, made: &Path) -> Result<(), Error> {
    let (shared, made) = (Arc::clone(&cx.suites.shared), made.to_owned());
    let taken = tokio::task::spawn_blocking(move || {
        let mut running = shared.upload();
        *running = None;
        let path = shared.incoming();
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::copy(&made, &path)?;
        fs::File::open(&path)?.sync_all()?;
        let digest = sha256_file(&path)?;
        shared.replace(place(&shared, &path, &digest)?);
        Ok(())
    });
    taken.await.map_err(Error::internal)?
}
