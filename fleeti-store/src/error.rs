//! The error of this crate.

use std::fmt::Display;
use std::path::PathBuf;

/// Why the database has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A migration failed.
    #[error("migration of the database: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The database does not answer, or refuses a statement.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// A stored document is not what it should be.
    #[error("a document in the database: {0}")]
    Document(#[from] serde_json::Error),
    /// A stored value is not what it should be.
    #[error("a value in the database: {0}")]
    Value(String),
}

impl StoreError {
    pub(crate) fn value(e: impl Display) -> Self {
        Self::Value(e.to_string())
    }
}
