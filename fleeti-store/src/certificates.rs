//! Device certificates and their keys.

use super::devices::{Certified, reason};
use crate::sql;
use crate::{Connection, Pool, StoreError, Tx, device_keys, from_seconds, seconds};
use fleeti_core::enrollment::certificate::{Certificates, KeyPlace, State, Successors};
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::api::RevocationReason;

/// The newest certificate of a device, PEM.
pub async fn newest(pool: &Pool, id: &DeviceId) -> Result<Option<String>, StoreError> {
    let sql = "SELECT i.pem FROM devices d JOIN issued i ON i.device = d.id AND i.serial = d.serial WHERE d.id = $1";
    sql::query_scalar(sql).bind(id.as_str()).fetch_optional(pool).await
}

#[derive(sqlx::FromRow)]
struct Row {
    key_sha256: String,
    serial: String,
    pem: String,
    sha256: String,
    not_after_s: i64,
    issuer: String,
}

impl From<Row> for Certified {
    fn from(row: Row) -> Self {
        Self {
            key_sha256: row.key_sha256,
            serial: row.serial,
            pem: row.pem,
            certificate_sha256: row.sha256,
            not_after_s: from_seconds(row.not_after_s),
            issuer: row.issuer,
            // This is stored with the device instead.
            is_in_tpm: false,
        }
    }
}

/// The newest certificate of a device for a key, if it has not expired.
pub async fn of_key(
    connection: &mut Connection,
    device: &DeviceId,
    key_sha256: &str,
    now_s: u64,
) -> Result<Option<Certified>, StoreError> {
    let sql = "SELECT key_sha256, serial, pem, sha256, not_after_s, issuer FROM issued \
               WHERE device = $1 AND key_sha256 = $2 AND not_after_s > $3 ORDER BY not_after_s DESC LIMIT 1";
    let query =
        sql::query_as::<Row>(sql).bind(device.as_str()).bind(key_sha256).bind(seconds(now_s));
    Ok(query.fetch_optional(connection).await?.map(Certified::from))
}

/// The certificates of a device as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCertificates {
    /// Its fleet.
    pub fleet: FleetId,
    /// The certificates.
    pub certificates: Certificates,
}

#[derive(sqlx::FromRow)]
struct StateRow {
    fleet: String,
    revoked_s: Option<i64>,
    key_sha256: String,
    next_key_sha256: Option<String>,
    is_in_tpm: i64,
    certificate_not_after_s: i64,
    successors: i64,
    successor_s: i64,
}

impl TryFrom<StateRow> for StoredCertificates {
    type Error = StoreError;
    fn try_from(row: StateRow) -> Result<Self, StoreError> {
        let key_sha256 = row.key_sha256;
        let state = match (row.revoked_s, row.next_key_sha256) {
            (Some(_), _) => State::Revoked,
            (None, None) => State::Current { key_sha256 },
            (None, Some(next_sha256)) => State::Renewed { key_sha256, next_sha256 },
        };
        let certificates = Certificates {
            state,
            place: if row.is_in_tpm == 1 { KeyPlace::Tpm } else { KeyPlace::File },
            not_after_s: from_seconds(row.certificate_not_after_s),
            successors: Successors {
                count: u32::try_from(row.successors).unwrap_or(u32::MAX),
                last_s: from_seconds(row.successor_s),
            },
        };
        Ok(Self { fleet: row.fleet.parse().map_err(StoreError::value)?, certificates })
    }
}

/// The certificates of a device.
pub async fn load(
    connection: &mut Connection,
    device: &DeviceId,
) -> Result<Option<StoredCertificates>, StoreError> {
    let sql = "SELECT fleet, revoked_s, key_sha256, next_key_sha256, is_in_tpm, certificate_not_after_s, successors, successor_s \
               FROM devices WHERE id = $1";
    let row: Option<StateRow> =
        sql::query_as(sql).bind(device.as_str()).fetch_optional(connection).await?;
    row.map(StoredCertificates::try_from).transpose()
}

/// Sets the number of recently issued certificates, and when the last one was requested.
pub async fn set_successors(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    successors: Successors,
) -> Result<(), StoreError> {
    let sql = "UPDATE devices SET successors = $2, successor_s = $3 WHERE id = $1";
    sql::query(sql)
        .bind(device.as_str())
        .bind(successors.count)
        .bind(seconds(successors.last_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Revokes an unused certificate that another one replaces. Its key then belongs to no device.
pub async fn supersede(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    key_sha256: &str,
) -> Result<(), StoreError> {
    for sql in [
        "INSERT INTO superseded (device, not_after_s, serial, issuer) \
         SELECT device, not_after_s, serial, issuer FROM issued WHERE device = $1 AND key_sha256 = $2 ON CONFLICT DO NOTHING",
        "DELETE FROM issued WHERE device = $1 AND key_sha256 = $2",
    ] {
        sql::query(sql).bind(device.as_str()).bind(key_sha256).execute(&mut **tx).await?;
    }
    if device_keys::owners(tx, &[key_sha256]).await?.get(key_sha256).map(String::as_str)
        == Some(device.as_str())
    {
        device_keys::remove(tx, &[key_sha256]).await?;
    }
    Ok(())
}

/// A certificate of a revoked device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedCertificate {
    /// Its serial, hexadecimal.
    pub serial: String,
    /// When the device was revoked, Unix seconds.
    pub revoked_s: u64,
    /// Why.
    pub reason: RevocationReason,
}

/// All unexpired certificates of revoked devices that this intermediate CA issued.
pub async fn revoked(
    pool: &Pool,
    issuer: &str,
    now_s: u64,
) -> Result<Vec<RevokedCertificate>, StoreError> {
    let sql = "SELECT i.serial, d.revoked_s, d.revocation_reason FROM devices d JOIN issued i ON i.device = d.id \
               WHERE d.revoked_s IS NOT NULL AND i.not_after_s >= $1 AND i.issuer IN ($2, '') \
               UNION ALL SELECT s.serial, d.revoked_s, d.revocation_reason FROM devices d JOIN superseded s ON s.device = d.id \
               WHERE d.revoked_s IS NOT NULL AND s.not_after_s >= $1 AND s.issuer IN ($2, '') ORDER BY 2, 1";
    let rows: Vec<(String, i64, String)> =
        sql::query_as(sql).bind(seconds(now_s)).bind(issuer).fetch_all(pool).await?;
    rows.into_iter()
        .map(|(serial, s, text)| {
            let (revoked_s, reason) = (from_seconds(s), reason(&text)?);
            Ok(RevokedCertificate { serial, revoked_s, reason })
        })
        .collect()
}

/// Deletes some expired rows: certificates, except the newest of each device, and keys of deleted
/// certificates, except those of revoked devices. Returns the number of rows.
pub async fn prune(tx: &mut Tx<'_>, now_s: u64, limit: u32) -> Result<u64, StoreError> {
    let keys = "SELECT i.key_sha256 FROM issued i JOIN devices d ON d.id = i.device \
         WHERE i.not_after_s < $1 AND i.serial <> d.serial AND d.revoked_s IS NULL \
         AND i.key_sha256 NOT IN (d.key_sha256, COALESCE(d.next_key_sha256, '')) ORDER BY i.not_after_s LIMIT $2";
    let keys: Vec<String> =
        sql::query_scalar(keys).bind(seconds(now_s)).bind(limit).fetch_all(&mut **tx).await?;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut gone = device_keys::remove(tx, &keys).await?;
    for sql in [
        "DELETE FROM issued WHERE (device, not_after_s, serial) IN (SELECT i.device, i.not_after_s, i.serial FROM issued i JOIN devices d ON d.id = i.device \
         WHERE i.not_after_s < $1 AND i.serial <> d.serial ORDER BY i.not_after_s LIMIT $2)",
        "DELETE FROM superseded WHERE (device, not_after_s, serial) IN \
         (SELECT device, not_after_s, serial FROM superseded WHERE not_after_s < $1 LIMIT $2)",
    ] {
        gone += sql::query(sql)
            .bind(seconds(now_s))
            .bind(limit)
            .execute(&mut **tx)
            .await?
            .rows_affected();
    }
    Ok(gone)
}
