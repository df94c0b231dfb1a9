//! Reserved disk space for the audit log: nothing can be signed if the log cannot be written.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes to reserve, and bytes that must stay free beside them.
const RESERVED: u64 = 8 << 20;

/// A file that is deleted when the disk is full.
pub(crate) struct Reserve {
    path: PathBuf,
    is_held: bool,
    tried: Option<Instant>,
}

/// Time between two attempts.
const AGAIN: Duration = Duration::from_secs(60);

impl Reserve {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { path: folder.join("reserve"), is_held: false, tried: None }
    }

    /// Reserves the space, if enough is free.
    pub(crate) fn hold(&mut self) {
        if self.is_held || self.tried.is_some_and(|at| at.elapsed() < AGAIN) {
            return;
        }
        self.tried = Some(Instant::now());
        let folder = self.path.parent().unwrap_or(&self.path);
        let found =
            rustix::fs::statvfs(folder).map(|found| found.f_bavail.saturating_mul(found.f_frsize));
        let is_there = fs::metadata(&self.path).is_ok_and(|m| m.len() == RESERVED);
        if !is_there {
            if !found.is_ok_and(|free| free >= RESERVED * 2) {
                return;
            }
            let allocate = || -> std::io::Result<()> {
                let file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&self.path)?;
                Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVED)?)
            };
            if let Err(e) = allocate() {
                tracing::debug!("{}: cannot reserve disk space: {e}", self.path.display());
                fs::remove_file(&self.path).ok();
                return;
            }
        }
        self.is_held = true;
    }

    /// Frees the reserved space; `false` if there was none.
    pub(crate) fn give_free(&mut self) -> bool {
        self.is_held = false;
        match fs::remove_file(&self.path) {
            Ok(()) => {
                tracing::error!(
                    "the disk is full: the audit log uses its reserved space; free disk space soon"
                );
                true
            }
            Err(e) if e.kind() == ErrorKind::NotFound => false,
            Err(e) => {
                tracing::error!("{}: {e}", self.path.display());
                false
            }
        }
    }
}
