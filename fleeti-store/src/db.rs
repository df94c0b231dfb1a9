//! The database.

use crate::beside;
use crate::connection::{Connection, Pool, Tx};
use crate::error::StoreError;
use crate::hold::{HoldTimes, WriterHold};
use crate::holder::Holder;
use crate::lease::Lease;
use crate::location::Location;
use crate::open::{self, Opened};
use std::path::Path;
use std::sync::Arc;

/// The database. It has a single writer connection, for which other writers queue. On SQLite its
/// page cache so stays valid: a write over another connection would invalidate all of it.
#[derive(Clone)]
pub struct Db {
    readers: Pool,
    writer: Pool,
    hold: Arc<HoldTimes>,
    lease: Option<Arc<Lease>>,
}

impl From<Opened> for Db {
    fn from(opened: Opened) -> Self {
        let Opened { readers, writer, lease } = opened;
        Self { readers, writer, hold: Arc::new(HoldTimes::default()), lease }
    }
}

impl Db {
    /// Opens a database file and runs migrations. Does not look whether a server is active on it.
    ///
    /// # Errors
    /// When the file cannot be opened or a migration fails.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(open::sqlite(path, None).await?.into())
    }
    /// Opens a database and runs migrations. Does not look whether a server is active on it.
    ///
    /// # Errors
    /// When the database cannot be opened or a migration fails.
    pub async fn connect(location: &Location) -> Result<Self, StoreError> {
        Ok(open::at(location, None).await?.into())
    }
    /// Opens a database for its one active server, and runs migrations.
    ///
    /// # Errors
    /// [`StoreError::Leased`] when another server is active; when the database cannot be opened or
    /// a migration fails.
    pub async fn connect_active(location: &Location, mine: Holder) -> Result<Self, StoreError> {
        Ok(open::at(location, Some(mine)).await?.into())
    }
    /// Connects to an existing database only to read, beside its active server. Runs no migrations.
    ///
    /// # Errors
    /// When the database does not exist or cannot be opened.
    pub async fn beside(location: &Location) -> Result<Self, StoreError> {
        let readers = beside::read_only(location).await?;
        Ok(Opened { writer: readers.clone(), readers, lease: None }.into())
    }
    /// The reader connections.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.readers
    }
    /// Begins a write transaction. There is one at a time, so that two of them cannot both read the
    /// same state and then write.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] once another server is active on the database.
    pub async fn write(&self) -> Result<Tx<'_>, StoreError> {
        let connection = match &self.lease {
            // sqlx would try for long to connect, and be refused the lease each time.
            Some(lease) => tokio::select! {
                biased;
                e = lease.lost() => return Err(e),
                begun = self.begin() => begun?,
            },
            None => self.begin().await?,
        };
        Ok(Tx::new(connection, self.hold.begin()))
    }

    async fn begin(&self) -> Result<Connection, StoreError> {
        match self.writer.begin().await {
            // SQLite rolls back by itself when the disk is full, and sqlx then treats the
            // connection as broken forever. As it is the only writer connection, open it again.
            Err(sqlx::Error::WorkerCrashed | sqlx::Error::InvalidSavePointStatement) => {
                open::close_one(&self.writer).await;
                Ok(self.writer.begin().await?)
            }
            begun => Ok(begun?),
        }
    }
    /// A reader connection, for several queries.
    pub async fn reader(&self) -> Result<Connection, StoreError> {
        self.readers.acquire().await
    }
    /// The writer connection outside a transaction, for several queries: its cache has the pages
    /// that it wrote.
    pub async fn single_writer(&self) -> Result<Connection, StoreError> {
        self.writer.acquire().await
    }
    /// The writer connection, for single statements outside a transaction.
    #[must_use]
    pub fn writer(&self) -> &Pool {
        &self.writer
    }
    /// How long transactions hold the writer.
    #[must_use]
    pub fn writer_hold(&self) -> WriterHold {
        self.hold.figures()
    }
    /// Whether this server may still use the database. Notices the loss of a lease only when it
    /// writes.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] once another server is active on the database.
    pub fn check_lease(&self) -> Result<(), StoreError> {
        self.lease.as_ref().map_or(Ok(()), |lease| lease.check())
    }
    /// Returns when another server is active on the database, with [`StoreError::LeaseLost`].
    pub async fn lease_lost(&self) -> StoreError {
        match &self.lease {
            Some(lease) => lease.lost().await,
            None => std::future::pending().await,
        }
    }
    /// Closes the database after all uses have ended.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
        if let Some(lease) = &self.lease {
            lease.release();
        }
    }
}
