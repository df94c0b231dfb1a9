//! The documents of releases that devices verify before they download anything.

use bytes::Bytes;
use fleeti_core::id::ReleaseName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Maximum number of cached releases.
const DOCUMENTS_MAX: usize = 64;

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
pub(super) struct DocumentCache(Mutex<HashMap<ReleaseName, Arc<Documents>>>);

impl DocumentCache {
    pub(super) fn get(&self, name: &ReleaseName) -> Option<Arc<Documents>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(super) fn insert(&self, name: &ReleaseName, documents: &Arc<Documents>) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= DOCUMENTS_MAX {
            cache.clear();
        }
        cache.insert(name.clone(), Arc::clone(documents));
    }
}
