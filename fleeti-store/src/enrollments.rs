//! One-time enrollment tokens, stored as digests.

use crate::batch::{push_list, push_rows};
use crate::sql::{self, QueryBuilder};
use crate::{Connection, StoreError, Tx, from_seconds, seconds};
use fleeti_core::enrollment::token::{State, Terms, Token};
use fleeti_core::id::{DeviceId, FleetId};
use std::collections::HashMap;

/// An enrollment token as it is stored.
#[derive(Debug, Clone)]
pub struct StoredToken {
    /// Its digest.
    pub token_sha256: String,
    /// The fleet it enrolls into.
    pub fleet: FleetId,
    /// The token.
    pub token: Token,
}

/// A row, by position: looking up eight names in each row costs more than reading it.
type Columns = (
    String,
    String,
    i64,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

fn stored(columns: Columns) -> Result<StoredToken, StoreError> {
    let (token_sha256, fleet, expires_s, device, key_sha256, reserved, ek_sha256, for_key_sha256) =
        columns;
    let id = |text: String| text.parse::<DeviceId>().map_err(StoreError::value);
    let state = match device {
        None => State::Unused,
        // Both were stored together. Without a key, no device may repeat its request.
        Some(device) => {
            State::Used { device: id(device)?, key_sha256: key_sha256.unwrap_or_default() }
        }
    };
    let terms = Terms {
        expires_s: from_seconds(expires_s),
        reserved: reserved.map(id).transpose()?,
        ek_sha256,
        for_key_sha256,
    };
    let fleet = fleet.parse().map_err(StoreError::value)?;
    Ok(StoredToken { token_sha256, fleet, token: Token { state, terms } })
}

/// Adds a token.
pub async fn insert(
    tx: &mut Tx<'_>,
    token_sha256: &str,
    fleet: &FleetId,
    terms: &Terms,
) -> Result<(), StoreError> {
    sql::query(
        "INSERT INTO enrollments (token_sha256, fleet, expires_s, reserved, ek_sha256, for_key_sha256) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(token_sha256)
    .bind(fleet.as_str())
    .bind(seconds(terms.expires_s))
    .bind(terms.reserved.as_ref().map(DeviceId::as_str))
    .bind(&terms.ek_sha256)
    .bind(&terms.for_key_sha256)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Finds tokens.
pub async fn find(
    connection: &mut Connection,
    token_sha256s: &[&str],
) -> Result<HashMap<String, StoredToken>, StoreError> {
    look(connection, token_sha256s, "").await
}

/// Those of these tokens that were used.
pub async fn used(
    tx: &mut Tx<'_>,
    token_sha256s: &[&str],
) -> Result<HashMap<String, StoredToken>, StoreError> {
    look(tx, token_sha256s, " AND device IS NOT NULL").await
}

async fn look(
    connection: &mut Connection,
    token_sha256s: &[&str],
    condition: &'static str,
) -> Result<HashMap<String, StoredToken>, StoreError> {
    let mut query = QueryBuilder::new(
        "SELECT token_sha256, fleet, expires_s, device, key_sha256, reserved, ek_sha256, for_key_sha256 FROM enrollments WHERE token_sha256 IN (",
    );
    push_list(&mut query, token_sha256s);
    query.push(")").push(condition);
    let rows: Vec<Columns> = query.build_query_as().fetch_all(connection).await?;
    let rows = rows.into_iter().map(stored);
    rows.map(|row| row.map(|row| (row.token_sha256.clone(), row))).collect()
}

/// A use of a token.
#[derive(Debug, Clone, Copy)]
pub struct Use<'a> {
    /// Digest of the token.
    pub token_sha256: &'a str,
    /// The device that used it.
    pub device: &'a DeviceId,
    /// SHA-256 of its key.
    pub key_sha256: &'a str,
}

/// Binds tokens to the devices and keys that used them.
pub async fn consume(tx: &mut Tx<'_>, uses: &[Use<'_>]) -> Result<(), StoreError> {
    let mut query = QueryBuilder::new("WITH used (token, device, key) AS (");
    push_rows(&mut query, uses.iter().copied(), |row, Use { token_sha256, device, key_sha256 }| {
        row.push_bind(token_sha256).push_bind(device.as_str()).push_bind(key_sha256);
    });
    query.push(") UPDATE enrollments SET device = used.device, key_sha256 = used.key FROM used WHERE token_sha256 = used.token");
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// Ends tokens that devices may have used since the database was copied: those that are reserved
/// for these devices, and, if there is another device among them, each that is reserved for none.
/// Returns their number.
pub async fn end_open(
    tx: &mut Tx<'_>,
    devices: &[DeviceId],
    now_s: u64,
) -> Result<u64, StoreError> {
    let mut reserved = 0;
    for device in devices {
        let sql = "UPDATE enrollments SET expires_s = 0 WHERE reserved = $1 AND device IS NULL";
        reserved += sql::query(sql).bind(device.as_str()).execute(&mut **tx).await?.rows_affected();
    }
    if usize::try_from(reserved).is_ok_and(|reserved| reserved >= devices.len()) {
        return Ok(reserved);
    }
    let sql = "UPDATE enrollments SET expires_s = 0 \
               WHERE reserved IS NULL AND device IS NULL AND expires_s >= $1";
    let open = sql::query(sql).bind(seconds(now_s)).execute(&mut **tx).await?.rows_affected();
    Ok(reserved + open)
}
