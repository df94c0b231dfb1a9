//! The lease of the one active server of a database.
//!
//! Caches of a server are process memory, so two servers on one database would not see each other's
//! changes. On SQLite the lease is a lock on a file beside the database. On PostgreSQL it is an
//! advisory lock of the session of the *writer connection*, the only one over which a server
//! writes. INVARIANT: who does not hold the lease has no connection to write over; nothing has to
//! be checked at each write.
//!
//! A server whose connection broke takes the lease again with the next one, unless another server
//! had it meanwhile: its caches would be of before. The row in `leases` says who had it last.

use crate::connection::{Connection, Pool};
use crate::dialect;
use crate::error::StoreError;
use crate::holder::Holder;
use crate::sql;
use crate::time::{from_seconds, seconds};
use sqlx::postgres::PgConnection;
use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Key of the advisory lock: `fleeti` in ASCII. PostgreSQL counts such locks by database.
const LOCK: i64 = 0x666c_6565_7469;
/// How often a start tries to take the lease, and the time between. A server that was killed is
/// gone at once, but PostgreSQL needs some milliseconds to see it.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);

#[derive(sqlx::FromRow)]
struct HolderRow {
    id: String,
    host: String,
    pid: i64,
    since_s: i64,
}

impl From<HolderRow> for Holder {
    fn from(row: HolderRow) -> Self {
        Self {
            id: row.id,
            host: row.host,
            pid: u32::try_from(row.pid).unwrap_or_default(),
            since_s: from_seconds(row.since_s),
        }
    }
}

const HOLDER: &str = "SELECT id, host, pid, since_s FROM leases WHERE name = 'server'";

/// The server that took the lease last.
pub(crate) async fn holder(pool: &Pool) -> Result<Option<Holder>, StoreError> {
    let row: Option<HolderRow> = sql::query_as(HOLDER).fetch_optional(pool).await?;
    Ok(row.map(Holder::from))
}

/// A lease, held until it is dropped or its process ends.
#[derive(Debug)]
pub(crate) struct Lease {
    mine: Holder,
    /// The locked file, on SQLite.
    file: Mutex<Option<File>>,
    /// Whether this server has had the lease.
    is_taken: AtomicBool,
    lost: OnceLock<Option<Holder>>,
    is_lost: Notify,
}

impl Lease {
    pub(crate) fn new(mine: Holder) -> Self {
        let (file, is_taken) = (Mutex::new(None), AtomicBool::new(false));
        Self { mine, file, is_taken, lost: OnceLock::new(), is_lost: Notify::new() }
    }

    /// Fails once another server has had the lease.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.lost.get() {
            Some(holder) => Err(StoreError::LeaseLost { holder: holder.clone() }),
            None => Ok(()),
        }
    }

    /// Returns once another server has had the lease.
    pub(crate) async fn lost(&self) -> StoreError {
        loop {
            // Before the check, so that no loss is missed.
            let is_lost = self.is_lost.notified();
            if let Err(e) = self.check() {
                return e;
            }
            is_lost.await;
        }
    }

    /// Writes who has the lease.
    pub(crate) async fn announce(&self, writer: &mut Connection) -> Result<(), StoreError> {
        let sql = "INSERT INTO leases (name, id, host, pid, since_s) VALUES ('server', $1, $2, $3, $4) \
                   ON CONFLICT (name) DO UPDATE SET id = $1, host = $2, pid = $3, since_s = $4";
        let query = sql::query(sql).bind(&self.mine.id).bind(&self.mine.host).bind(self.mine.pid);
        query.bind(seconds(self.mine.since_s)).execute(writer).await?;
        self.is_taken.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Takes the lease of a database file. Returns `false` if another process has it.
    pub(crate) async fn take_file(&self, database: &Path) -> Result<bool, StoreError> {
        let path = beside(database);
        let open = |source| StoreError::Open { path: path.clone(), source };
        for _ in 0..ATTEMPTS {
            let file =
                File::options().create(true).append(true).mode(0o600).open(&path).map_err(open)?;
            match file.try_lock() {
                Ok(()) => {
                    *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
                    return Ok(true);
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::Error(source)) => return Err(open(source)),
            }
        }
        Ok(false)
    }

    /// Takes the lease on a new writer connection.
    pub(crate) async fn take_on(&self, writer: &mut PgConnection) -> Result<(), StoreError> {
        let is_ours = try_lock(writer).await?;
        let had = self.is_taken.load(Ordering::SeqCst);
        if is_ours && !had {
            return Ok(());
        }
        let last = last(writer).await;
        match &last {
            // PostgreSQL may still hold the session of the broken connection.
            Some(holder) if had && *holder == self.mine => {
                if is_ours {
                    Ok(())
                } else {
                    Err(StoreError::Leased { holder: last })
                }
            }
            _ if had => {
                self.lost.set(last.clone()).ok();
                self.is_lost.notify_waiters();
                Err(StoreError::LeaseLost { holder: last })
            }
            _ => Err(StoreError::Leased { holder: last }),
        }
    }

    /// Gives the lease of a database file back.
    pub(crate) fn release(&self) {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Waits until no other server has the lease of this database.
///
/// # Errors
/// [`StoreError::Leased`] when one still has it after a second.
pub(crate) async fn wait_for(connection: &mut PgConnection) -> Result<(), StoreError> {
    for _ in 0..ATTEMPTS {
        if try_lock(connection).await? {
            sqlx::query(dialect::ADVISORY_UNLOCK).bind(LOCK).execute(connection).await?;
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(StoreError::Leased { holder: last(connection).await })
}

async fn try_lock(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(dialect::TRY_ADVISORY_LOCK).bind(LOCK).fetch_one(connection).await
}

/// Who has the lease. Before the first migration there is no row.
async fn last(connection: &mut PgConnection) -> Option<Holder> {
    let row: Option<HolderRow> =
        sqlx::query_as(HOLDER).fetch_optional(connection).await.ok().flatten();
    row.map(Holder::from)
}

/// The file whose lock is the lease.
fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-lease");
    name.into()
}
