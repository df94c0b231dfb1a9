//! Login sessions of browsers.

use crate::{Pool, StoreError, Tx, seconds, sql};

/// Adds a session, and deletes expired ones.
pub async fn insert(
    tx: &mut Tx<'_>,
    token_sha256: &str,
    credential_sha256: &str,
    now_s: u64,
    expires_s: u64,
) -> Result<(), StoreError> {
    sql::query("DELETE FROM sessions WHERE expires_s < $1")
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    sql::query("INSERT INTO sessions (token_sha256, created_s, expires_s, credential_sha256) VALUES ($1, $2, $3, $4)")
        .bind(token_sha256)
        .bind(seconds(now_s))
        .bind(seconds(expires_s))
        .bind(credential_sha256)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Whether this session exists, was created with this credential, and has not expired.
pub async fn is_live(
    pool: &Pool,
    token_sha256: &str,
    credential_sha256: &str,
    now_s: u64,
) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM sessions WHERE token_sha256 = $1 AND expires_s >= $2 AND credential_sha256 = $3";
    let n: i64 = sql::query_scalar(sql)
        .bind(token_sha256)
        .bind(seconds(now_s))
        .bind(credential_sha256)
        .fetch_one(pool)
        .await?;
    Ok(n == 1)
}

/// Ends a session.
pub async fn delete(tx: &mut Tx<'_>, token_sha256: &str) -> Result<(), StoreError> {
    sql::query("DELETE FROM sessions WHERE token_sha256 = $1")
        .bind(token_sha256)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
