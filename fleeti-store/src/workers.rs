//! Build workers, with the digests of their tokens.

use crate::{Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::WorkerName;
use fleeti_core::wire::worker::Worker;

/// Adds a worker. Returns `false` if the name is taken.
pub async fn insert(
    tx: &mut Tx<'_>,
    name: &WorkerName,
    token_sha256: &str,
    now_s: u64,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO workers (name, token_sha256, created_s) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";
    let done = sql::query(sql)
        .bind(name.as_str())
        .bind(token_sha256)
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Removes a worker. Returns `false` if there is none with this name.
pub async fn delete(tx: &mut Tx<'_>, name: &WorkerName) -> Result<bool, StoreError> {
    Ok(sql::query("DELETE FROM workers WHERE name = $1")
        .bind(name.as_str())
        .execute(&mut **tx)
        .await?
        .rows_affected()
        == 1)
}

/// All workers, ordered by name.
pub async fn all(pool: &Pool) -> Result<Vec<Worker>, StoreError> {
    let sql = "SELECT name, created_s, seen_s FROM workers ORDER BY name";
    let rows: Vec<(String, i64, Option<i64>)> = sql::query_as(sql).fetch_all(pool).await?;
    let worker = |(name, created_s, seen_s): (String, i64, Option<i64>)| {
        let name = name.parse().map_err(StoreError::value)?;
        Ok(Worker { name, created_s: from_seconds(created_s), seen_s: seen_s.map(from_seconds) })
    };
    rows.into_iter().map(worker).collect()
}

/// The worker with this token.
pub async fn by_token(pool: &Pool, token_sha256: &str) -> Result<Option<WorkerName>, StoreError> {
    let sql = "SELECT name FROM workers WHERE token_sha256 = $1";
    let name: Option<String> =
        sql::query_scalar(sql).bind(token_sha256).fetch_optional(pool).await?;
    name.map(|n| n.parse().map_err(StoreError::value)).transpose()
}

/// Records that a worker asked for a build.
pub async fn seen(tx: &mut Tx<'_>, name: &WorkerName, now_s: u64) -> Result<(), StoreError> {
    sql::query("UPDATE workers SET seen_s = $2 WHERE name = $1")
        .bind(name.as_str())
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}
