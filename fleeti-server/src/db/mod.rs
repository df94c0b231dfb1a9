//! All SQL, one file for each aggregate. The same text runs on SQLite and PostgreSQL.

pub mod builds;
pub mod commands;
pub mod devices;
pub mod enrollments;
pub mod releases;
pub mod revisions;
pub mod rollouts;
pub mod sessions;

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
    /// Adds to a counter and gives its new value.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn next(&self, counter: &str) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(
            "INSERT INTO counters (name, value) VALUES ($1, 1) \
             ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value",
        )
        .bind(counter)
        .fetch_one(&self.pool)
        .await
    }
}

/// An entry of the audit log, in the transaction of what it is about.
///
/// # Errors
/// When the database does not answer.
pub async fn audit(tx: &mut Tx<'_>, now_s: u64, actor: &str, action: &str, subject: &str) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO audit (id, at_s, actor, action, subject) VALUES ($1, $2, $3, $4, $5)")
        .bind(crate::app::new_id("audit"))
        .bind(seconds(now_s))
        .bind(actor)
        .bind(action)
        .bind(subject)
        .execute(&mut **tx)
        .await?;
    Ok(())
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
