//! The error of this crate, and the only place that reads the databases' own errors.

use crate::dialect;
use crate::holder::Holder;
use sqlx::error::ErrorKind;
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
    /// The location is neither a file nor a URL of PostgreSQL.
    #[error("a database is sqlite:PATH or postgres://USER@HOST/NAME, not {0:?}")]
    Location(String),
    /// The database is on another machine, and nothing verifies that it is the right one.
    #[error(
        "the connection to PostgreSQL at {host:?} does not verify the server (sslmode={mode}); \
         hint: use sslmode=verify-full, with sslrootcert=FILE for a CA of your own, or add {} to \
         the URL if the network is trusted",
        crate::location::UNVERIFIED
    )]
    UnverifiedServer {
        /// Name or address of that machine.
        host: String,
        /// The TLS mode of the URL.
        mode: &'static str,
    },
    /// Another server is active on the database.
    #[error("another server is active on this database: {}; only one can be", said(holder.as_ref()))]
    Leased {
        /// That server, as far as known.
        holder: Option<Holder>,
    },
    /// Another server became active on the database after this one had lost its connection.
    #[error("this server lost the database to another one: {}", said(holder.as_ref()))]
    LeaseLost {
        /// That server, as far as known.
        holder: Option<Holder>,
    },
    /// A migration failed.
    #[error("migration of the database: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A row with this key exists.
    #[error("the database has this row already: {what}")]
    Unique {
        /// The constraint, in the database's words.
        what: String,
    },
    /// A row names another one that does not exist.
    #[error("the database does not have a row that another one names: {what}")]
    ForeignKey {
        /// The constraint, in the database's words.
        what: String,
    },
    /// A column has no value, or one that it must not have.
    #[error("the database refuses a value: {what}")]
    Check {
        /// The constraint, in the database's words.
        what: String,
    },
    /// Another session changed what a transaction has read, or has the lock. The transaction has
    /// written nothing and may be tried again.
    #[error("another session uses the same rows of the database: {what}")]
    Conflict {
        /// The error, in the database's words.
        what: String,
    },
    /// The database does not answer, or refuses a statement.
    #[error("database: {0}")]
    Database(#[source] sqlx::Error),
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

fn said(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "it has not said which one it is".to_owned(), ToString::to_string)
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &error else { return Self::Database(error) };
        let what = database.message().to_owned();
        match database.kind() {
            ErrorKind::UniqueViolation => Self::Unique { what },
            ErrorKind::ForeignKeyViolation => Self::ForeignKey { what },
            ErrorKind::NotNullViolation
            | ErrorKind::CheckViolation
            | ErrorKind::ExclusionViolation => Self::Check { what },
            _ if dialect::is_conflict(database.as_ref()) => Self::Conflict { what },
            _ => Self::Database(error),
        }
    }
}
