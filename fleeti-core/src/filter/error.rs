//! Why a text is not a filter.

/// Where a filter is wrong, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of the filter: {message}")]
pub struct FilterError {
    /// The place, in characters from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl FilterError {
    pub(super) fn new(column: usize, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { column, message: message.into(), hint: hint.into() }
    }

    /// A line that points at the column with `^`, for a line below the filter in a font of fixed width.
    #[must_use]
    pub fn pointer(&self) -> String {
        format!("{}^", " ".repeat(self.column.saturating_sub(1).min(super::FILTER_MAX)))
    }
}
