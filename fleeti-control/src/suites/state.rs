//! Where the index is, and what is known of it in memory.

use super::opened::OpenIndex;
use fleeti_build::file::sha256_file;
use fleeti_build::suite;
use fleeti_core::id::WorkerName;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// Largest number of searches and checks at the same time.
const PLACES: usize = 2;

/// What the area keeps in memory.
pub(crate) struct SuiteState {
    pub(super) shared: Arc<Shared>,
}

impl SuiteState {
    pub(crate) fn new(data: &Path) -> Self {
        let shared = Shared {
            folder: data.join("suites"),
            places: Arc::new(Semaphore::new(PLACES)),
            current: Mutex::new(None),
            upload: Mutex::new(None),
        };
        Self { shared: Arc::new(shared) }
    }
}

/// Path of the index in a data folder.
pub(super) fn index_of(data: &Path) -> PathBuf {
    data.join("suites").join(format!("{}.index", suite::SUITE))
}

/// What tasks and blocking threads share.
pub(super) struct Shared {
    folder: PathBuf,
    /// Places for searches and checks.
    pub(super) places: Arc<Semaphore>,
    /// `None` if no index was opened yet, or there was none.
    current: Mutex<Option<Arc<OpenIndex>>>,
    upload: Mutex<Option<Upload>>,
}

/// An upload that is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upload {
    /// Who sends it.
    pub(super) worker: WorkerName,
    /// SHA-256 of the whole, hexadecimal.
    pub(super) digest: String,
    /// Size of the whole, bytes.
    pub(super) size: u64,
}

impl Shared {
    /// Path of the index.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.index", suite::SUITE))
    }

    /// Path of an index that is not complete or not checked.
    pub(super) fn incoming(&self) -> PathBuf {
        self.folder.join("incoming")
    }

    /// The upload that runs. Nobody else writes [`Self::incoming`] while it is locked.
    pub(super) fn upload(&self) -> MutexGuard<'_, Option<Upload>> {
        self.upload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index; `None` if no worker has uploaded one, or if its file is not an index, which is logged.
    pub(super) fn open(&self) -> Option<Arc<OpenIndex>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_none() {
            *current = read(&self.path());
        }
        current.clone()
    }

    /// The index was replaced.
    pub(super) fn replace(&self, index: OpenIndex) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(index));
    }
}

fn read(path: &Path) -> Option<Arc<OpenIndex>> {
    let opened = suite::open(path).map_err(|e| e.to_string());
    let index = opened.and_then(|index| {
        let Some(index) = index else { return Ok(None) };
        let digest = sha256_file(path).map_err(|e| e.to_string())?;
        Ok(Some(OpenIndex { index, digest }))
    });
    index
        .unwrap_or_else(|e| {
            tracing::error!("profiles are not checked against packages: {e}");
            None
        })
        .map(Arc::new)
}
