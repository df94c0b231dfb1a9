//! The request that a task works on, so that its act is stored with its key in one transaction.

use crate::error::Error;
use fleeti_store::Tx;
use fleeti_store::idempotency::{self, KeyRow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

tokio::task_local! {
    static RUNNING: Arc<Running>;
}

/// A request with a key.
#[derive(Debug)]
pub(super) struct Running {
    /// What is stored of it.
    pub row: KeyRow,
    /// Whether an act of it was recorded, perhaps in a transaction that was rolled back.
    has_acted: AtomicBool,
}

impl Running {
    pub fn new(row: KeyRow) -> Self {
        Self { row, has_acted: AtomicBool::new(false) }
    }
    pub fn has_acted(&self) -> bool {
        self.has_acted.load(Ordering::SeqCst)
    }
    /// Works on the request.
    pub async fn scope<F: Future>(self: &Arc<Self>, work: F) -> F::Output {
        RUNNING.scope(Arc::clone(self), work).await
    }
}

/// Stores the key of the request that this task works on, if it has one, in the transaction of its
/// act.
pub(crate) async fn mark(tx: &mut Tx<'_>) -> Result<(), Error> {
    let Ok(running) = RUNNING.try_with(Arc::clone) else { return Ok(()) };
    idempotency::put(tx, &running.row).await?;
    running.has_acted.store(true, Ordering::SeqCst);
    Ok(())
}

/// Work of the same request for a task of its own, which the caller begins.
pub(crate) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let running = RUNNING.try_with(Arc::clone).ok();
    async move {
        match running {
            Some(running) => running.scope(work).await,
            None => work.await,
        }
    }
}
