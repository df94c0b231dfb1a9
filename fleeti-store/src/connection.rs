//! Connections to either database, and transactions on them.

use crate::error::StoreError;
use crate::hold::Timer;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Postgres, Sqlite, Transaction};
use std::ops::{Deref, DerefMut};

/// Connections for statements that stand alone.
#[derive(Debug, Clone)]
pub enum Pool {
    /// To SQLite.
    Sqlite(SqlitePool),
    /// To PostgreSQL.
    Postgres(PgPool),
}

impl Pool {
    /// One of the connections, for several statements.
    // sqlx's futures are boxed here and below. They have 4 KiB, because they may have to connect,
    // and every future that waits for one would have room for them, such as that of each session.
    pub async fn acquire(&self) -> Result<Connection, StoreError> {
        Ok(Connection(match self {
            Self::Sqlite(pool) => Kind::Sqlite(Box::pin(pool.acquire()).await?),
            Self::Postgres(pool) => Kind::Postgres(Box::pin(pool.acquire()).await?),
        }))
    }

    /// Begins a transaction that writes.
    pub(crate) async fn begin(&self) -> Result<Connection, sqlx::Error> {
        Ok(Connection(match self {
            // The lock at once, so that two of them cannot both read the same state and then write.
            Self::Sqlite(pool) => {
                Kind::SqliteTx(Box::pin(pool.begin_with("BEGIN IMMEDIATE")).await?)
            }
            // The writer connection is serializable by default.
            Self::Postgres(pool) => Kind::PostgresTx(Box::pin(pool.begin()).await?),
        }))
    }

    /// Closes the connections after all uses have ended.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }

    pub(crate) fn raw(&self) -> Raw<'_> {
        match self {
            Self::Sqlite(pool) => Raw::SqlitePool(pool),
            Self::Postgres(pool) => Raw::PostgresPool(pool),
        }
    }
}

/// What sqlx runs statements on.
pub(crate) enum Raw<'c> {
    SqlitePool(&'c SqlitePool),
    Sqlite(&'c mut SqliteConnection),
    PostgresPool(&'c PgPool),
    Postgres(&'c mut PgConnection),
}

/// A connection, perhaps in a transaction.
#[derive(Debug)]
pub struct Connection(Kind);

#[derive(Debug)]
enum Kind {
    Sqlite(PoolConnection<Sqlite>),
    SqliteTx(Transaction<'static, Sqlite>),
    Postgres(PoolConnection<Postgres>),
    PostgresTx(Transaction<'static, Postgres>),
}

impl Connection {
    pub(crate) fn raw(&mut self) -> Raw<'_> {
        match &mut self.0 {
            Kind::Sqlite(connection) => Raw::Sqlite(connection),
            Kind::SqliteTx(tx) => Raw::Sqlite(tx),
            Kind::Postgres(connection) => Raw::Postgres(connection),
            Kind::PostgresTx(tx) => Raw::Postgres(tx),
        }
    }

    async fn commit(self) -> Result<(), StoreError> {
        match self.0 {
            Kind::SqliteTx(tx) => Box::pin(tx.commit()).await?,
            Kind::PostgresTx(tx) => Box::pin(tx.commit()).await?,
            Kind::Sqlite(_) | Kind::Postgres(_) => {}
        }
        Ok(())
    }
}

/// A write transaction. Without [`Tx::commit`] it is rolled back.
#[derive(Debug)]
pub struct Tx<'a> {
    connection: Connection,
    // Dropped after the connection.
    timer: Timer<'a>,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(connection: Connection, timer: Timer<'a>) -> Self {
        Self { connection, timer }
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when PostgreSQL saw that another session wrote what this
    /// transaction has read. Nothing is written then.
    pub async fn commit(self) -> Result<(), StoreError> {
        let Self { connection, timer } = self;
        let committed = connection.commit().await;
        drop(timer);
        committed
    }
}

impl Deref for Tx<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}
