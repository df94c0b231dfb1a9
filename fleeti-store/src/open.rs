//! Opens either database.

use crate::connection::Pool;
use crate::dialect;
use crate::error::StoreError;
use crate::holder::Holder;
use crate::lease::{self, Lease};
use crate::location::Location;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Connection as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Number of reader connections to SQLite, and to PostgreSQL, where each answer takes a round trip.
const SQLITE_READERS: u32 = 3;
const POSTGRES_READERS: u32 = 8;

/// An open database.
pub(crate) struct Opened {
    pub(crate) readers: Pool,
    pub(crate) writer: Pool,
    pub(crate) lease: Option<Arc<Lease>>,
}

pub(crate) async fn at(location: &Location, mine: Option<Holder>) -> Result<Opened, StoreError> {
    match location {
        Location::Sqlite(path) => sqlite(path, mine).await,
        Location::Postgres(options) => postgres(options, mine).await,
    }
}

pub(crate) async fn sqlite(path: &Path, mine: Option<Holder>) -> Result<Opened, StoreError> {
    close_to_others(path).map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    let lease = mine.map(|mine| Arc::new(Lease::new(mine)));
    if let Some(lease) = &lease
        && !lease.take_file(path).await?
    {
        let readers = Pool::Sqlite(SqlitePool::connect_with(sqlite_options(path)).await?);
        // Before the first migration there is no row.
        let holder = lease::holder(&readers).await.ok().flatten();
        readers.close().await;
        return Err(StoreError::Leased { holder });
    }
    // 2048 KiB: the ends of all indexes, and the middle of those with random keys.
    let writing = sqlite_options(path).pragma("cache_size", "-2048");
    // Connections to a local file do not break, so they are not tested before use.
    let pool = || SqlitePoolOptions::new().test_before_acquire(false);
    let writer = pool().max_connections(1).connect_with(writing).await?;
    dialect::sqlite_migrations().run(&writer).await?;
    // Frequently read pages fit; the kernel caches the rest for all connections.
    let reading = sqlite_options(path).pragma("cache_size", "-256").pragma("query_only", "ON");
    let readers = pool().max_connections(SQLITE_READERS).connect_with(reading).await?;
    ready(Pool::Sqlite(readers), Pool::Sqlite(writer), lease).await
}

fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        // The evidence of a device fits into one page. Existing databases keep their page size.
        .page_size(8192)
        .journal_mode(SqliteJournalMode::Wal)
        // Checkpoint after 2048 pages (16 MiB) of WAL: a page that was written often meanwhile is
        // copied once.
        .pragma("wal_autocheckpoint", "2048")
        // Acknowledged data survives a power cut, not only a killed process.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(10))
        // Rows that a connection's thread buffers before it blocks: fewer wake-ups.
        .row_buffer_size(1024)
        .foreign_keys(true)
}

async fn postgres(options: &PgConnectOptions, mine: Option<Holder>) -> Result<Opened, StoreError> {
    let options =
        options.clone().application_name("fleeti-server").statement_cache_capacity(512).options([
            // Planning a query takes longer than compiling it saves.
            ("jit", "off"),
            // PostgreSQL notices within 25 s that the machine of a server has gone, and ends its lease.
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
        ]);
    let mut first = create_if_missing(&options).await?;
    let lease = mine.map(|mine| Arc::new(Lease::new(mine)));
    if lease.is_some() {
        lease::wait_for(&mut first).await?;
    }
    first.close().await?;
    let writing = options.clone().options([("default_transaction_isolation", "serializable")]);
    let on_connect = lease.clone();
    let writer = PgPoolOptions::new()
        .max_connections(1)
        // The connection has the lease, so it stays.
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(move |connection, _| {
            let lease = on_connect.clone();
            Box::pin(async move {
                let Some(lease) = lease else { return Ok(()) };
                let taken = lease.take_on(connection).await;
                taken.map_err(|e| sqlx::Error::Configuration(e.into()))
            })
        })
        .connect_with(writing)
        .await?;
    dialect::postgres_migrations().run(&writer).await?;
    let reading = options.options([("default_transaction_read_only", "on")]);
    let readers =
        PgPoolOptions::new().max_connections(POSTGRES_READERS).connect_with(reading).await?;
    ready(Pool::Postgres(readers), Pool::Postgres(writer), lease).await
}

/// Connects; creates the database if it does not exist.
async fn create_if_missing(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let missing = match PgConnection::connect_with(options).await {
        Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some(dialect::NO_SUCH_DATABASE) => {
            e
        }
        connected => return Ok(connected?),
    };
    let name = options.get_database().unwrap_or_default().replace('"', "\"\"");
    let mut other = PgConnection::connect_with(&options.clone().database("postgres")).await?;
    let sql = format!("CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8'");
    let created = sqlx::query(AssertSqlSafe(sql)).execute(&mut other).await;
    other.close().await?;
    match created {
        Ok(_) => Ok(PgConnection::connect_with(options).await?),
        Err(e) => {
            tracing::error!("the database {name:?} cannot be created: {e}");
            Err(sqlx::Error::Database(missing).into())
        }
    }
}

async fn ready(
    readers: Pool,
    writer: Pool,
    lease: Option<Arc<Lease>>,
) -> Result<Opened, StoreError> {
    if let Some(lease) = &lease {
        lease.announce(&mut writer.acquire().await?).await?;
    }
    Ok(Opened { readers, writer, lease })
}

/// Closes one connection, so that the next use opens another.
pub(crate) async fn close_one(pool: &Pool) {
    match pool {
        Pool::Sqlite(pool) => {
            if let Ok(connection) = pool.acquire().await {
                connection.close().await.ok();
            }
        }
        Pool::Postgres(pool) => {
            if let Ok(connection) = pool.acquire().await {
                connection.close().await.ok();
            }
        }
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

#[cfg(test)]
mod tests {
    use super::sqlite;
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
        let opened = sqlite(&path, None).await?;
        assert_eq!(modes(), [0o600; 3]);
        // As an older server left them; existing files keep their place.
        for name in names {
            std::fs::set_permissions(
                dir.path().join(name),
                std::fs::Permissions::from_mode(0o644),
            )?;
        }
        let again = sqlite(&path, None).await?;
        assert_eq!(modes(), [0o600; 3]);
        for opened in [opened, again] {
            opened.readers.close().await;
            opened.writer.close().await;
        }
        Ok(())
    }
}
