//! Removes old files of builds and uploads from the disk. Keeps the newest builds, builds that a
//! release was made from, and recent uploads.

use crate::builds;
use crate::context::{Context, ContextRef};
use crate::error::Error;
use fleeti_store as store;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Interval of the clean-up.
const LOOK: Duration = Duration::from_secs(3600);

/// Cleans up every hour until the task is aborted.
pub async fn run(cx: ContextRef) {
    loop {
        if let Err(e) = make_room(&cx).await {
            tracing::warn!("old builds and uploads were not removed: {}", e.for_log());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Cleans up. Returns the numbers of removed builds and uploads.
///
/// # Errors
/// When a folder cannot be removed.
pub async fn make_room(cx: &Context) -> Result<(usize, usize), Error> {
    let kept = cx.settings.retention;
    let old = store::builds::beyond(cx.db.pool(), kept.builds).await?;
    let mut removed = 0;
    for id in &old {
        if builds::remove_files(cx, id).await? {
            removed += 1;
            let kept = kept.builds;
            tracing::info!("removed the files of build {id}; {kept} newer builds are kept");
        }
    }
    let staging = cx.settings.outbox();
    let given_up = tokio::task::spawn_blocking(move || uploads_since(&staging, kept.upload_s))
        .await
        .map_err(Error::internal)??;
    for folder in &given_up {
        tracing::info!("{}: removed an abandoned upload", folder.display());
        remove(folder.clone()).await?;
    }
    Ok((removed, given_up.len()))
}

async fn remove(folder: PathBuf) -> Result<(), Error> {
    match tokio::fs::remove_dir_all(&folder).await {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// Uploads without a write for `s` seconds. [`crate::releases::sweep`] removes files of the signing
/// service.
fn uploads_since(staging: &Path, s: u64) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(staging) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(vec![]),
        entries => entries?,
    };
    let mut old = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_upload = path.file_name().is_some_and(|name| name.to_string_lossy().contains('@'));
        if is_upload && touched(&path)?.elapsed().is_ok_and(|age| age.as_secs() >= s) {
            old.push(path);
        }
    }
    Ok(old)
}

/// Time of the last write in a folder.
fn touched(folder: &Path) -> std::io::Result<SystemTime> {
    let mut last = std::fs::symlink_metadata(folder)?.modified()?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let is_folder = entry.file_type()?.is_dir();
        last = last.max(if is_folder {
            touched(&entry.path())?
        } else {
            entry.metadata()?.modified()?
        });
    }
    Ok(last)
}
