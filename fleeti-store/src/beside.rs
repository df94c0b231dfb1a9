//! The database beside its active server: to read it, and to copy it.

use crate::connection::Pool;
use crate::error::StoreError;
use crate::location::Location;
use sqlx::Connection as _;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePoolOptions};
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// How long a statement waits for a lock of the server.
const PATIENCE: Duration = Duration::from_secs(10);

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).create_if_missing(false).busy_timeout(PATIENCE)
}

/// Connects to an existing database, only to read. No migration runs, so a program of another
/// version may call it.
pub(crate) async fn read_only(location: &Location) -> Result<Pool, StoreError> {
    Ok(match location {
        Location::Sqlite(path) => {
            let options = options(path).pragma("query_only", "ON");
            Pool::Sqlite(SqlitePoolOptions::new().max_connections(1).connect_with(options).await?)
        }
        Location::Postgres(options) => {
            let options = options.clone().options([("default_transaction_read_only", "on")]);
            Pool::Postgres(PgPoolOptions::new().max_connections(1).connect_with(options).await?)
        }
    })
}

/// What a copy of a database is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Number of its last migration.
    pub migration: i64,
}

/// Copies a database of SQLite as it is at one time, while its server may write. The copy is one
/// file, mode 0600, which must not exist.
///
/// The server's log of changes (WAL) grows meanwhile, because its pages are needed until the end.
///
/// # Errors
/// When the database does not exist, the copy exists, or there is no room for it.
pub async fn copy(from: &Path, to: &Path) -> Result<Copied, StoreError> {
    let open = |source| StoreError::Open { path: to.to_owned(), source };
    // SQLite fills an empty file, and would make one that others can read.
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(open)?;
    let mut connection = SqliteConnection::connect_with(&options(from)).await?;
    let text = to.to_str().ok_or_else(|| StoreError::value(format!("path {}", to.display())))?;
    sqlx::query("VACUUM INTO $1").bind(text).execute(&mut connection).await?;
    connection.close().await?;
    fs::File::open(to).and_then(|file| file.sync_all()).map_err(open)?;
    let mut copy = SqliteConnection::connect_with(&options(to)).await?;
    let migration = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations");
    let migration: i64 = migration.fetch_one(&mut copy).await?;
    let found: String =
        sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut copy).await?;
    if found != "ok" {
        return Err(StoreError::value(format!("the copy of the database is damaged: {found}")));
    }
    copy.close().await?;
    Ok(Copied { migration })
}

/// Number of the last migration that this program knows.
#[must_use]
pub fn newest_migration() -> i64 {
    crate::dialect::sqlite_migrations().iter().map(|m| m.version).max().unwrap_or_default()
}
