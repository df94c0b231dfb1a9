//! What the releases area keeps in memory. Only this area reads it.

use super::documents::DocumentCache;
use crate::error::Error;
use arc_swap::ArcSwap;
use fleeti_core::id::ReleaseName;
use fleeti_store::{self as store, Db};
use std::collections::HashSet;
use std::sync::Arc;

/// What the releases area keeps in memory.
pub(crate) struct ReleaseState {
    pub(super) documents: DocumentCache,
    revoked: ArcSwap<HashSet<ReleaseName>>,
}

impl ReleaseState {
    /// Loads the names of revoked releases.
    pub(crate) async fn load(db: &Db) -> Result<Self, Error> {
        let revoked = ArcSwap::from_pointee(revoked(db).await?);
        Ok(Self { documents: DocumentCache::default(), revoked })
    }

    pub(crate) fn is_revoked(&self, name: &ReleaseName) -> bool {
        self.revoked.load().contains(name)
    }

    pub(super) fn revoke(&self, name: &ReleaseName) {
        self.revoked.rcu(|all| {
            let mut all = HashSet::clone(all);
            all.insert(name.clone());
            all
        });
    }

    /// Reads the names again, after a revocation of which it is unknown whether it was stored.
    pub(super) async fn reload(&self, db: &Db) -> Result<(), Error> {
        self.revoked.store(Arc::new(revoked(db).await?));
        Ok(())
    }
}

async fn revoked(db: &Db) -> Result<HashSet<ReleaseName>, Error> {
    Ok(store::releases::revoked(db.pool(), usize::MAX).await?.into_iter().collect())
}
