//! One-time enrollment tokens, stored as digests.

use crate::batch::{push_list, push_rows};
use crate::sql::{self, QueryBuilder};
use crate::{Connection, StoreError, Tx, seconds};
use fleeti_core::id::{DeviceId, FleetId};
use std::collections::HashMap;

/// An enrollment token.
pub struct EnrollmentRow {
    /// Its digest.
    pub token_sha256: String,
    /// The fleet it enrolls into.
    pub fleet: String,
    /// Expiry, Unix seconds.
    pub expires_s: i64,
    /// The device that used it.
    pub device: Option<String>,
    /// The key that used it.
    pub key_sha256: Option<String>,
    /// The device that it is reserved for.
    pub reserved: Option<String>,
    /// SHA-256 of the endorsement key of the TPM that it is reserved for.
    pub ek_sha256: Option<String>,
    /// The only key that may use it.
    pub for_key_sha256: Option<String>,
}

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

impl From<Columns> for EnrollmentRow {
    fn from(columns: Columns) -> Self {
        let (
            token_sha256,
            fleet,
            expires_s,
            device,
            key_sha256,
            reserved,
            ek_sha256,
            for_key_sha256,
        ) = columns;
        Self {
            token_sha256,
            fleet,
            expires_s,
            device,
            key_sha256,
            reserved,
            ek_sha256,
            for_key_sha256,
        }
    }
}

/// Adds a token.
pub async fn insert(
    tx: &mut Tx<'_>,
    token_sha256: &str,
    fleet: &FleetId,
    expires_s: u64,
    reserved: Option<(&DeviceId, Option<&str>)>,
) -> Result<(), StoreError> {
    sql::query("INSERT INTO enrollments (token_sha256, fleet, expires_s, reserved, ek_sha256) VALUES ($1, $2, $3, $4, $5)")
        .bind(token_sha256)
        .bind(fleet.as_str())
        .bind(seconds(expires_s))
        .bind(reserved.map(|(device, _)| device.as_str()))
        .bind(reserved.and_then(|(_, ek)| ek))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Finds tokens.
pub async fn find(
    connection: &mut Connection,
    token_sha256s: &[&str],
) -> Result<HashMap<String, EnrollmentRow>, StoreError> {
    look(connection, token_sha256s, "").await
}

/// Those of these tokens that were used.
pub async fn used(
    tx: &mut Tx<'_>,
    token_sha256s: &[&str],
) -> Result<HashMap<String, EnrollmentRow>, StoreError> {
    look(tx, token_sha256s, " AND device IS NOT NULL").await
}

async fn look(
    connection: &mut Connection,
    token_sha256s: &[&str],
    condition: &'static str,
) -> Result<HashMap<String, EnrollmentRow>, StoreError> {
    let mut query = QueryBuilder::new(
        "SELECT token_sha256, fleet, expires_s, device, key_sha256, reserved, ek_sha256, for_key_sha256 FROM enrollments WHERE token_sha256 IN (",
    );
    push_list(&mut query, token_sha256s);
    query.push(")").push(condition);
    // By position: looking up eight names in each row costs more than reading it.
    let rows: Vec<Columns> = query.build_query_as().fetch_all(connection).await?;
    let rows = rows.into_iter().map(EnrollmentRow::from);
    Ok(rows.map(|row| (row.token_sha256.clone(), row)).collect())
}

/// A use of a token: token, device and key.
pub type Use<'a> = (&'a str, &'a DeviceId, &'a str);

/// Binds tokens to the devices and keys that used them.
pub async fn consume(tx: &mut Tx<'_>, uses: &[Use<'_>]) -> Result<(), StoreError> {
    let mut query = QueryBuilder::new("WITH used (token, device, key) AS (");
    push_rows(&mut query, uses, |row, (token, device, key)| {
        row.push_bind(token).push_bind(device.as_str()).push_bind(key);
    });
    query.push(") UPDATE enrollments SET device = used.device, key_sha256 = used.key FROM used WHERE token_sha256 = used.token");
    query.build().execute(&mut **tx).await?;
    Ok(())
}
