//! The database of a Fleeti server: all of its SQL, one file for each aggregate. It knows nothing
//! of HTTP, TLS or the signing service.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let dir = tempfile::tempdir().unwrap();
//! let db = fleeti_store::Db::open(&dir.path().join("fleeti.db")).await.unwrap();
//! let mut tx = db.write().await.unwrap();
//! let fleet = "office".parse().unwrap();
//! fleeti_store::enrollments::insert(&mut tx, "sha256-of-a-token", &fleet, 1_800_000_000, None)
//!     .await
//!     .unwrap();
//! tx.commit().await.unwrap();
//! # });
//! ```
//!
//! Every function returns a [`StoreError`] when the database does not answer. The `# Errors`
//! sections name only the other errors.
//!
//! Code map: [`devices`], [`desired`], [`admission`], [`mqtt_sessions`], [`commands`] (devices and
//! what they are asked) · [`enrollments`], [`pairings`], [`readmissions`], [`certificates`],
//! [`device_keys`], [`trust`] (identities) · [`tpms`], [`attestations`], [`boot`], [`vault`] (evidence and what only
//! the signing service opens) · [`revisions`], [`builds`], [`approvals`], [`releases`],
//! [`rollouts`], [`rollout_headers`], [`rollout_devices`] · [`sessions`], [`workers`], [`audit`],
//! [`domain_events`].
#![allow(clippy::missing_errors_doc, reason = "said once, above")]
#![warn(missing_docs)]

pub mod admission;
pub mod approvals;
pub mod attestations;
pub mod audit;
mod batch;
pub mod boot;
pub mod builds;
pub mod certificates;
pub mod commands;
pub mod desired;
pub mod device_keys;
pub mod devices;
pub mod domain_events;
pub mod enrollments;
mod error;
pub mod mqtt_sessions;
pub mod pairings;
pub mod readmissions;
pub mod releases;
pub mod revisions;
pub mod rollout_devices;
pub mod rollout_headers;
pub mod rollouts;
pub mod sessions;
pub mod tpms;
pub mod trust;
pub mod vault;
pub mod workers;

pub use error::StoreError;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// A write transaction. Without [`Tx::commit`] it is rolled back.
#[derive(Debug)]
pub struct Tx<'a>(Transaction<'a, Sqlite>);

impl Tx<'_> {
    /// Makes it durable.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.0.commit().await?)
    }
}

impl Deref for Tx<'_> {
    type Target = SqliteConnection;
    fn deref(&self) -> &SqliteConnection {
        &self.0
    }
}

impl DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.0
    }
}

/// Number of reader connections.
const READERS: u32 = 3;

/// The database. It has a single writer connection, for which other writers queue. So its page
/// cache stays valid: a write over another connection would invalidate all of it.
#[derive(Clone)]
pub struct Db {
    readers: SqlitePool,
    writer: SqlitePool,
}

impl Db {
    /// Opens the database and runs migrations.
    ///
    /// # Errors
    /// When the file cannot be opened or a migration fails.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        close_to_others(path)
            .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            // The evidence of a device fits into one page. Existing databases keep their page size.
            .page_size(8192)
            .journal_mode(SqliteJournalMode::Wal)
            // Checkpoint after 2048 pages (16 MiB) of WAL: a page that was written often meanwhile
            // is copied once.
            .pragma("wal_autocheckpoint", "2048")
            // Acknowledged data survives a power cut, not only a killed process.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            // Rows that a connection's thread buffers before it blocks: fewer wake-ups.
            .row_buffer_size(1024)
            .foreign_keys(true);
        // 4096 KiB: the ends of all indexes, and the middle of those with random keys.
        let writing = options.clone().pragma("cache_size", "-4096");
        // Connections to a local file do not break, so they are not tested before use.
        let pool = || SqlitePoolOptions::new().test_before_acquire(false);
        let writer = pool().max_connections(1).connect_with(writing).await?;
        MIGRATIONS.run(&writer).await?;
        // Frequently read pages fit; the kernel caches the rest for all connections.
        let reading = options.pragma("cache_size", "-1024").pragma("query_only", "ON");
        let readers = pool().max_connections(READERS).connect_with(reading).await?;
        Ok(Self { readers, writer })
    }
    /// The reader connections.
    #[must_use]
    pub fn pool(&self) -> &SqlitePool {
        &self.readers
    }
    /// Begins a write transaction. It takes the lock at once, so that two of them cannot both read
    /// the same state and then write.
    pub async fn write(&self) -> Result<Tx<'_>, StoreError> {
        match self.writer.begin_with("BEGIN IMMEDIATE").await {
            // SQLite rolls back by itself when the disk is full, and sqlx then treats the
            // connection as broken forever. As it is the only writer connection, open it again.
            Err(sqlx::Error::WorkerCrashed | sqlx::Error::InvalidSavePointStatement) => {
                self.writer.acquire().await?.close().await.ok();
                Ok(Tx(self.writer.begin_with("BEGIN IMMEDIATE").await?))
            }
            begun => Ok(Tx(begun?)),
        }
    }
    /// A reader connection, for several queries.
    pub async fn reader(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        Ok(self.readers.acquire().await?)
    }
    /// The writer connection outside a transaction, for several queries: its cache has the pages
    /// that it wrote.
    pub async fn single_writer(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        Ok(self.writer.acquire().await?)
    }
    /// The writer connection, for single statements outside a transaction.
    #[must_use]
    pub fn writer(&self) -> &SqlitePool {
        &self.writer
    }
    /// Closes the database after all uses have ended.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Makes the database file, and SQLite's files next to it, readable for the server only: they
/// contain password hashes and digests of tokens. SQLite gives new files the mode of the database.
fn close_to_others(path: &Path) -> std::io::Result<()> {
    let owner = || std::fs::Permissions::from_mode(0o600);
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    for end in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        match std::fs::set_permissions(&name, owner()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Converts Unix seconds to the type in the database.
#[must_use]
pub fn seconds(s: u64) -> i64 {
    i64::try_from(s).unwrap_or(i64::MAX)
}

/// Converts Unix seconds from the type in the database.
#[must_use]
pub fn from_seconds(s: i64) -> u64 {
    u64::try_from(s).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Db;
    use crate::enrollments;
    use anyhow::Result;

    #[tokio::test]
    async fn nobody_else_reads_the_database_nor_what_is_beside_it() -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("fleeti.db");
        let names = ["fleeti.db", "fleeti.db-wal", "fleeti.db-shm"];
        let modes = || {
            names.map(|n| {
                std::fs::metadata(dir.path().join(n))
                    .map(|m| m.permissions().mode() & 0o777)
                    .unwrap_or_default()
            })
        };
        let db = Db::open(&path).await?;
        assert_eq!(modes(), [0o600; 3]);
        // As an older server left them; existing files keep their place.
        for name in names {
            std::fs::set_permissions(
                dir.path().join(name),
                std::fs::Permissions::from_mode(0o644),
            )?;
        }
        let again = Db::open(&path).await?;
        assert_eq!(modes(), [0o600; 3]);
        db.close().await;
        again.close().await;
        Ok(())
    }

    #[tokio::test]
    async fn what_reads_writes_nothing_and_sees_what_was_kept() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let db = Db::open(&dir.path().join("fleeti.db")).await?;
        let mut tx = db.write().await?;
        for token in ["old", "new"] {
            enrollments::insert(&mut tx, token, &"bench".parse()?, 7, None).await?;
        }
        enrollments::consume(&mut tx, &[("old", &"dev-1".parse()?, "key")]).await?;
        let used = enrollments::used(&mut tx, &["old", "new", "unknown"]).await?;
        assert_eq!(used.into_keys().collect::<Vec<_>>(), ["old"]);
        tx.commit().await?;
        let refused = sqlx::query("DELETE FROM enrollments")
            .execute(db.pool())
            .await
            .expect_err("a reader wrote");
        assert!(refused.to_string().contains("readonly"), "{refused}");
        let found = enrollments::find(&mut *db.pool().acquire().await?, &["old", "new"]).await?;
        assert_eq!(
            (found.len(), found["old"].device.as_deref(), found["new"].device.as_deref()),
            (2, Some("dev-1"), None)
        );
        Ok(())
    }
}
