//! State of the area in memory.

use tokio::sync::Notify;

/// What the area knows beside the database.
#[derive(Default)]
pub(crate) struct RolloutState {
    /// Wakes the task that works in chunks.
    waiting: Notify,
}

impl RolloutState {
    /// Wakes the task that works in chunks. It then waits for the write lock, which the transaction
    /// of the caller holds.
    pub(super) fn has_work(&self) {
        self.waiting.notify_one();
    }

    /// Returns when there may be work.
    pub(super) async fn wait_for_work(&self) {
        self.waiting.notified().await;
    }
}
