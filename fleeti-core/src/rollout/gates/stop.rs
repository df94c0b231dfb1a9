//! What a gate says that does not let an offer through.

/// Why a gate does not let an offer through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Whether the offer is made, and the device acts on it later.
    pub is_offered: bool,
    /// What is true.
    pub text: String,
    /// What would change it.
    pub change: String,
    /// When time changes it, Unix seconds.
    pub until_s: Option<u64>,
}

impl Stop {
    pub(super) fn closed(text: impl Into<String>, change: impl Into<String>) -> Self {
        let (text, change) = (text.into(), change.into());
        Self { is_offered: false, text, change, until_s: None }
    }

    pub(super) fn waits(text: impl Into<String>, change: impl Into<String>) -> Self {
        Self { is_offered: true, ..Self::closed(text, change) }
    }
}
