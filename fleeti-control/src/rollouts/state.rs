//! State of the area in memory.

use tokio::sync::Notify;

/// What the area knows beside the database.
#[derive(Default)]
pub(crate) struct RolloutState {
    /// Wakes the task that works in chunks.
    pub(super) waiting: Notify,
}
