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

/// Connections that read.
const READERS: u32 = 3;

/// The database. One connection writes: whoever else would waits for it in line, and what it has
/// read stays true for it, where every write by another one would make it read everything again.
#[derive(Clone)]
pub struct Db {
    readers: SqlitePool,
    writer: SqlitePool,
}

impl Db {
    /// Opens and migrates.
    ///
    /// # Errors
    /// When the file cannot be opened or a migration fails.
    pub async fn open(path: &Path) -> anyhow::Result<Self> {
        close_to_others(path).with_context(|| path.display().to_string())?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            // A device's evidence fits into one page, and is written as one. Of databases of before
            // the size stays.
            .page_size(8192)
            .journal_mode(SqliteJournalMode::Wal)
            // Pages of the log, 16 MiB, before they are copied: what was written again and again
            // meanwhile is copied once.
            .pragma("wal_autocheckpoint", "2048")
            // What was acknowledged survives a power cut as well as a kill.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            // Rows that a connection's thread buffers before it blocks. A larger buffer means fewer
            // wake-ups.
            .row_buffer_size(1024)
            .foreign_keys(true);
        // KiB: the ends of every index, and the middle of those whose keys are random.
        let writing = options.clone().pragma("cache_size", "-4096");
        // A connection to a file in this process does not go away: nobody asks it whether it is
        // still there.
        let pool = || SqlitePoolOptions::new().test_before_acquire(false);
        let writer = pool().max_connections(1).connect_with(writing).await?;
        MIGRATIONS.run(&writer).await?;
        // What is read again and again fits, and the kernel caches the rest for all of them.
        let reading = options.pragma("cache_size", "-1024").pragma("query_only", "ON");
        let readers = pool().max_connections(READERS).connect_with(reading).await?;
        Ok(Self { readers, writer })
    }
    /// For reading, and nothing else.
    #[must_use]
    pub fn pool(&self) -> &SqlitePool {
        &self.readers
    }
    /// A transaction that will write: it takes the lock at once, so that two of them cannot read
    /// the same state and both write.
    pub async fn write(&self) -> Result<Tx<'_>, sqlx::Error> {
        match self.writer.begin_with("BEGIN IMMEDIATE").await {
            // SQLite rolls back by itself when the disk is full, and the driver takes that for a
            // broken connection, for ever. There is one connection that writes, so it is opened
            // again.
            Err(sqlx::Error::WorkerCrashed | sqlx::Error::InvalidSavePointStatement) => {
                self.writer.acquire().await?.close().await.ok();
                self.writer.begin_with("BEGIN IMMEDIATE").await
            }
            begun => begun,
        }
    }
    /// For a statement that writes and is a transaction of its own.
    #[must_use]
    pub fn writer(&self) -> &SqlitePool {
        &self.writer
    }
    /// Closes it, once nobody uses it any more.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Makes the file, and what SQLite keeps beside it, readable for the server alone: profiles have
/// password hashes, and rows the digests of tokens. SQLite gives new files the mode of the
/// database.
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
        // As an older server left them; what is there stays there.
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
