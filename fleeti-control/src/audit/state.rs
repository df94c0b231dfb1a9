//! Coordinates the entry of acts into the audit log. Only this area reads it.

use tokio::sync::{Mutex, Notify};

/// Coordinates the entry of acts into the audit log.
#[derive(Default)]
pub(crate) struct Acts {
    /// Held while acts are entered.
    pub(super) entering: Mutex<()>,
    waiting: Notify,
}

impl Acts {
    /// Wakes the task that enters acts. It then waits for the write lock, which the transaction of
    /// the caller holds.
    pub(crate) fn added(&self) {
        self.waiting.notify_one();
    }

    /// Returns when there may be acts to enter.
    pub(super) async fn wait(&self) {
        self.waiting.notified().await;
    }
}
