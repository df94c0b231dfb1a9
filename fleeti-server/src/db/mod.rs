//! All SQL, one file for each aggregate. The same text runs on SQLite and PostgreSQL.
//!
//! Every function returns an error when the database does not answer. The `# Errors` sections name
//! only the other errors.

pub mod admission;
pub mod approvals;
pub mod attestations;
pub mod audit;
pub mod boot;
pub mod builds;
pub mod certificates;
pub mod commands;
pub mod desired;
pub mod devices;
pub mod enrollments;
pub mod mqtt_sessions;
pub mod pairings;
pub mod readmissions;
pub mod releases;
pub mod revisions;
pub mod rollouts;
pub mod sessions;
pub mod tpms;
pub mod trust;
pub mod vault;
pub mod workers;

use anyhow::Context as _;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// A transaction.
pub type Tx<'a> = Transaction<'a, Sqlite>;

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
    pub async fn open(path: &Path) -> anyhow::Result<Self> {
        close_to_others(path).with_context(|| path.display().to_string())?;
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
    pub async fn write(&self) -> Result<Tx<'_>, sqlx::Error> {
        match self.writer.begin_with("BEGIN IMMEDIATE").await {
            // SQLite rolls back by itself when the disk is full, and sqlx then treats the
            // connection as broken forever. As it is the only writer connection, open it again.
            Err(sqlx::Error::WorkerCrashed | sqlx::Error::InvalidSavePointStatement) => {
                self.writer.acquire().await?.close().await.ok();
                self.writer.begin_with("BEGIN IMMEDIATE").await
            }
            begun => begun,
        }
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
    use crate::db::enrollments;
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
