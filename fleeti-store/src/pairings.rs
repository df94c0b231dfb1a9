//! Pending enrollments. Code and token are stored as digests.

use crate::{Connection, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::enrollment::pairing::State;

/// A pending enrollment.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct PairingRow {
    /// Digest of the token that the device will enroll with.
    pub token_sha256: String,
    /// SHA-256 of the device's key.
    pub key_sha256: String,
    /// The release that the device runs.
    pub running: String,
}

/// A pending enrollment as it is stored.
#[derive(Debug, Clone)]
pub struct StoredPairing {
    /// The device and its token.
    pub row: PairingRow,
    /// Its state.
    pub state: State,
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(flatten)]
    row: PairingRow,
    expires_s: i64,
}

impl From<Row> for StoredPairing {
    fn from(Row { row, expires_s }: Row) -> Self {
        Self { row, state: State::Pending { expires_s: from_seconds(expires_s) } }
    }
}

/// Deletes expired pending enrollments.
pub async fn prune(tx: &mut Tx<'_>, now_s: u64) -> Result<(), StoreError> {
    sql::query("DELETE FROM pairings WHERE expires_s < $1")
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Adds a pending enrollment.
pub async fn insert(
    tx: &mut Tx<'_>,
    row: &PairingRow,
    code_sha256: &str,
    expires_s: u64,
) -> Result<(), StoreError> {
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

/// Deletes a pending enrollment. Returns `false` if there is none with this token.
pub async fn remove(tx: &mut Tx<'_>, token_sha256: &str) -> Result<bool, StoreError> {
    let query = sql::query("DELETE FROM pairings WHERE token_sha256 = $1").bind(token_sha256);
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}

/// The pending enrollment with this code.
pub async fn by_code(
    tx: &mut Tx<'_>,
    code_sha256: &str,
) -> Result<Option<StoredPairing>, StoreError> {
    let sql =
        "SELECT token_sha256, key_sha256, running, expires_s FROM pairings WHERE code_sha256 = $1";
    let row: Option<Row> = sql::query_as(sql).bind(code_sha256).fetch_optional(&mut **tx).await?;
    Ok(row.map(StoredPairing::from))
}

/// The pending enrollments of a key.
pub async fn of_key(tx: &mut Tx<'_>, key_sha256: &str) -> Result<Vec<StoredPairing>, StoreError> {
    let sql =
        "SELECT token_sha256, key_sha256, running, expires_s FROM pairings WHERE key_sha256 = $1";
    let rows: Vec<Row> = sql::query_as(sql).bind(key_sha256).fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(StoredPairing::from).collect())
}

/// The state of the pairing with this token.
pub async fn state(connection: &mut Connection, token_sha256: &str) -> Result<State, StoreError> {
    let sql = "SELECT (SELECT expires_s FROM pairings WHERE token_sha256 = $1), \
               (SELECT expires_s FROM enrollments WHERE token_sha256 = $1)";
    let (pending, paired): (Option<i64>, Option<i64>) =
        sql::query_as(sql).bind(token_sha256).fetch_one(connection).await?;
    Ok(match (pending, paired) {
        (_, Some(expires_s)) => State::Paired { expires_s: from_seconds(expires_s) },
        (Some(expires_s), None) => State::Pending { expires_s: from_seconds(expires_s) },
        (None, None) => State::Gone,
    })
}
