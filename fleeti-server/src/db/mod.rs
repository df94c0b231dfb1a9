//! All SQL, one file for each aggregate. The same text runs on SQLite and PostgreSQL.

pub mod approvals;
pub mod attestations;
pub mod audit;
pub mod boot;
pub mod builds;
pub mod commands;
pub mod devices;
pub mod enrollments;
pub mod pairings;
pub mod releases;
pub mod revisions;
pub mod rollouts;
pub mod sessions;
pub mod tpms;
pub mod trust;
pub mod vault;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};
use std::path::Path;
use std::time::Duration;

/// A transaction.
pub type Tx<'a> = Transaction<'a, Sqlite>;

/// The database.
#[derive(Clone)]
pub struct Db {
    pool: SqlitePool,
}

impl Db {
    /// Opens and migrates.
    ///
    /// # Errors
    /// When the file cannot be opened or a migration fails.
    pub async fn open(path: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // KiB for each connection; what is read again and again fits, and the kernel caches the rest for all of them.
            .pragma("cache_size", "-1024")
            // What was acknowledged survives a power cut as well as a kill.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
        sqlx::migrate!("migrations/sqlite").run(&pool).await?;
        Ok(Self { pool })
    }
    /// Outside a transaction.
    #[must_use]
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }
    /// A transaction that will write: it takes the lock at once, so that two of them cannot read the same
    /// state and both write.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn write(&self) -> Result<Tx<'_>, sqlx::Error> {
        self.pool.begin_with("BEGIN IMMEDIATE").await
    }
}

/// Unix seconds as the database keeps them.
#[must_use]
pub fn seconds(s: u64) -> i64 {
    i64::try_from(s).unwrap_or(i64::MAX)
}

/// Unix seconds as the database gave them.
#[must_use]
pub fn from_seconds(s: i64) -> u64 {
    u64::try_from(s).unwrap_or(0)
}
