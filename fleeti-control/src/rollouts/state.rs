//! State of the area in memory.

use std::time::Duration;
use tokio::sync::Notify;

/// Delay between two looks at the clock: waves start, soak and time out to this precision.
const TICK: Duration = Duration::from_secs(2);

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

    /// Returns when there may be work: `true` if somebody said so, `false` if time passed.
    pub(super) async fn wait_for_work(&self) -> bool {
        tokio::time::timeout(TICK, self.waiting.notified()).await.is_ok()
    }
}
