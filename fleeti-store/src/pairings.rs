//! Pending enrollments. Code and token are stored as digests.

use crate::{Pool, StoreError, Tx, seconds, sql};
use fleeti_core::id::FleetId;

/// A pending enrollment.
#[derive(sqlx::FromRow)]
pub struct PairingRow {
    /// Digest of the token that the device will enroll with.
    pub token_sha256: String,
    /// SHA-256 of the device's key.
    pub key_sha256: String,
    /// The release that the device runs.
    pub running: String,
}

/// Adds a pending enrollment, and deletes expired ones.
pub async fn insert(
    tx: &mut Tx<'_>,
    row: &PairingRow,
    code_sha256: &str,
    (now_s, expires_s): (u64, u64),
) -> Result<(), StoreError> {
    sql::query("DELETE FROM pairings WHERE expires_s < $1")
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    // One pending enrollment per key: a restarted device gets a new code.
    sql::query("DELETE FROM pairings WHERE key_sha256 = $1")
        .bind(&row.key_sha256)
        .execute(&mut **tx)
        .await?;
    sql::query("INSERT INTO pairings (token_sha256, code_sha256, key_sha256, running, expires_s) VALUES ($1, $2, $3, $4, $5)")
        .bind(&row.token_sha256)
        .bind(code_sha256)
        .bind(&row.key_sha256)
        .bind(&row.running)
        .bind(seconds(expires_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Deletes a pending enrollment.
pub async fn remove(tx: &mut Tx<'_>, token_sha256: &str) -> Result<(), StoreError> {
    sql::query("DELETE FROM pairings WHERE token_sha256 = $1")
        .bind(token_sha256)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes and returns the pending enrollment with this code.
pub async fn take(
    tx: &mut Tx<'_>,
    code_sha256: &str,
    now_s: u64,
) -> Result<Option<PairingRow>, StoreError> {
    let sql = "DELETE FROM pairings WHERE code_sha256 = $1 AND expires_s >= $2 RETURNING token_sha256, key_sha256, running";
    sql::query_as(sql).bind(code_sha256).bind(seconds(now_s)).fetch_optional(&mut **tx).await
}

/// Whether the enrollment with this token is still pending, and whether the token is valid already.
pub async fn state(
    pool: &Pool,
    token_sha256: &str,
    now_s: u64,
) -> Result<(bool, bool), StoreError> {
    let sql = "SELECT (SELECT COUNT(*) FROM pairings WHERE token_sha256 = $1 AND expires_s >= $2), \
               (SELECT COUNT(*) FROM enrollments WHERE token_sha256 = $1 AND expires_s >= $2)";
    let (waits, is_good): (i64, i64) =
        sql::query_as(sql).bind(token_sha256).bind(seconds(now_s)).fetch_one(pool).await?;
    Ok((waits == 1, is_good == 1))
}

/// Makes the token of a device valid, for its key only.
pub async fn admit(
    tx: &mut Tx<'_>,
    row: &PairingRow,
    fleet: &FleetId,
    expires_s: u64,
) -> Result<(), StoreError> {
    sql::query("INSERT INTO enrollments (token_sha256, fleet, expires_s, for_key_sha256) VALUES ($1, $2, $3, $4)")
        .bind(&row.token_sha256)
        .bind(fleet.as_str())
        .bind(seconds(expires_s))
        .bind(&row.key_sha256)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
