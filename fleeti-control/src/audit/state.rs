//! Coordinates the entry of acts into the audit log.

use tokio::sync::{Mutex, Notify};

/// Coordinates the entry of acts into the audit log.
#[derive(Default)]
pub(crate) struct Acts {
    /// Held while acts are entered.
    pub entering: Mutex<()>,
    /// Wakes the task that enters acts.
    pub waiting: Notify,
}
