//! Recovery keys of devices and secrets of fleets, wrapped by the signing service.

use crate::{Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::{DeviceId, FleetId, SecretName};
use fleeti_core::wire::vault::{FleetSecret, RecoveryKeyStatus, SecretChange};
use std::collections::{BTreeMap, HashMap, HashSet};

#[derive(sqlx::FromRow)]
struct Row {
    wrapped: String,
    key_sha256: String,
    kept_s: i64,
    shown_s: Option<i64>,
    previous: Option<String>,
}

/// The stored recovery keys of a device.
pub struct RecoveryRow {
    /// The newest key, wrapped.
    pub wrapped: String,
    /// The previous key, wrapped.
    pub previous: Option<String>,
    /// SHA-256 of the newest key.
    pub key_sha256: String,
    /// When it was stored, and when it was shown.
    pub status: RecoveryKeyStatus,
}

/// The recovery keys of a device.
pub async fn recovery_key(
    pool: &Pool,
    device: &DeviceId,
) -> Result<Option<RecoveryRow>, StoreError> {
    let sql = "SELECT wrapped, key_sha256, kept_s, shown_s, previous FROM recovery_keys WHERE device = $1";
    let row: Option<Row> = sql::query_as(sql).bind(device.as_str()).fetch_optional(pool).await?;
    Ok(row.map(|r| RecoveryRow {
        status: RecoveryKeyStatus {
            kept_s: from_seconds(r.kept_s),
            shown_s: r.shown_s.map(from_seconds),
            has_previous: r.previous.is_some(),
        },
        wrapped: r.wrapped,
        previous: r.previous,
        key_sha256: r.key_sha256,
    }))
}

/// Stores a recovery key of a device, and keeps the previous one. Marks it as not shown.
pub async fn keep_recovery_key(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    wrapped: &str,
    key_sha256: &str,
    now_s: u64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO recovery_keys (device, wrapped, key_sha256, kept_s) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (device) DO UPDATE SET previous = recovery_keys.wrapped, wrapped = excluded.wrapped, \
               key_sha256 = excluded.key_sha256, kept_s = excluded.kept_s, shown_s = NULL";
    let query =
        sql::query(sql).bind(device.as_str()).bind(wrapped).bind(key_sha256).bind(seconds(now_s));
    query.execute(&mut **tx).await?;
    Ok(())
}

/// Records that the newest recovery key of a device was shown.
pub async fn set_shown(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    wrapped: &str,
    now_s: u64,
) -> Result<(), StoreError> {
    let sql = "UPDATE recovery_keys SET shown_s = $3 WHERE device = $1 AND wrapped = $2";
    sql::query(sql)
        .bind(device.as_str())
        .bind(wrapped)
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Devices whose recovery key was shown, and that have not made a new one since.
pub async fn shown(pool: &Pool) -> Result<HashSet<DeviceId>, StoreError> {
    let ids: Vec<String> =
        sql::query_scalar("SELECT device FROM recovery_keys WHERE shown_s IS NOT NULL")
            .fetch_all(pool)
            .await?;
    ids.into_iter().map(|id| id.parse().map_err(StoreError::value)).collect()
}

/// Number of changes of the secrets of each fleet that has secrets.
pub async fn versions(pool: &Pool) -> Result<HashMap<FleetId, u64>, StoreError> {
    let rows: Vec<(String, i64)> =
        sql::query_as("SELECT fleet, version FROM fleet_secret_versions").fetch_all(pool).await?;
    rows.into_iter()
        .map(|(fleet, version)| {
            Ok((fleet.parse().map_err(StoreError::value)?, from_seconds(version)))
        })
        .collect()
}

/// The names of a fleet's secrets, without values.
pub async fn secrets(pool: &Pool, fleet: &FleetId) -> Result<Vec<FleetSecret>, StoreError> {
    let sql = "SELECT name, changed_s, version FROM fleet_secrets WHERE fleet = $1 ORDER BY name";
    let rows: Vec<(String, i64, i64)> =
        sql::query_as(sql).bind(fleet.as_str()).fetch_all(pool).await?;
    let read = |(name, changed_s, version): (String, i64, i64)| {
        Ok(FleetSecret {
            name: name.parse().map_err(StoreError::value)?,
            changed_s: from_seconds(changed_s),
            version: from_seconds(version),
        })
    };
    rows.into_iter().map(read).collect()
}

#[derive(sqlx::FromRow)]
struct SecretRow {
    version: i64,
    name: Option<String>,
    wrapped: Option<String>,
    set_by: Option<i64>,
    changed_s: Option<i64>,
}

/// The secrets of a fleet, wrapped.
#[derive(Debug, Default)]
pub struct WrappedSecrets {
    /// Number of changes of the fleet's secrets.
    pub version: u64,
    /// The wrapped values, by name.
    pub wrapped: BTreeMap<SecretName, String>,
    /// The change that set each.
    pub changes: BTreeMap<SecretName, SecretChange>,
}

/// The secrets of a fleet, wrapped, and their number of changes.
pub async fn wrapped_secrets(pool: &Pool, fleet: &FleetId) -> Result<WrappedSecrets, StoreError> {
    // A single query, so that version and secrets always match.
    let sql = "SELECT v.version, s.name, s.wrapped, s.version AS set_by, s.changed_s FROM fleet_secret_versions v \
               LEFT JOIN fleet_secrets s ON s.fleet = v.fleet WHERE v.fleet = $1";
    let rows: Vec<SecretRow> = sql::query_as(sql).bind(fleet.as_str()).fetch_all(pool).await?;
    let mut found = WrappedSecrets::default();
    for row in rows {
        found.version = from_seconds(row.version);
        let Some((name, wrapped)) = row.name.zip(row.wrapped) else { continue };
        let name: SecretName = name.parse().map_err(StoreError::value)?;
        let change = SecretChange {
            version: row.set_by.map_or(0, from_seconds),
            changed_s: row.changed_s.map_or(0, from_seconds),
        };
        found.wrapped.insert(name.clone(), wrapped);
        found.changes.insert(name, change);
    }
    Ok(found)
}

/// Number of secrets of a fleet, not counting one.
pub async fn count_besides(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    name: &SecretName,
) -> Result<usize, StoreError> {
    let sql = "SELECT COUNT(*) FROM fleet_secrets WHERE fleet = $1 AND name <> $2";
    let count: i64 = sql::query_scalar(sql)
        .bind(fleet.as_str())
        .bind(name.as_str())
        .fetch_one(&mut **tx)
        .await?;
    usize::try_from(count).map_err(StoreError::value)
}

/// Stores a secret of a fleet, set by this change.
pub async fn set_secret(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    name: &SecretName,
    wrapped: &str,
    change: SecretChange,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO fleet_secrets (fleet, name, wrapped, changed_s, version) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (fleet, name) DO UPDATE SET wrapped = excluded.wrapped, changed_s = excluded.changed_s, \
               version = excluded.version";
    sql::query(sql)
        .bind(fleet.as_str())
        .bind(name.as_str())
        .bind(wrapped)
        .bind(seconds(change.changed_s))
        .bind(seconds(change.version))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes a secret of a fleet. Returns whether it existed.
pub async fn remove_secret(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    name: &SecretName,
) -> Result<bool, StoreError> {
    let sql = "DELETE FROM fleet_secrets WHERE fleet = $1 AND name = $2";
    Ok(sql::query(sql)
        .bind(fleet.as_str())
        .bind(name.as_str())
        .execute(&mut **tx)
        .await?
        .rows_affected()
        > 0)
}

/// Counts a change of a fleet's secrets. Returns the new count.
pub async fn changed(tx: &mut Tx<'_>, fleet: &FleetId) -> Result<u64, StoreError> {
    let sql = "INSERT INTO fleet_secret_versions (fleet, version) VALUES ($1, 1) \
               ON CONFLICT (fleet) DO UPDATE SET version = fleet_secret_versions.version + 1 RETURNING version";
    let version: i64 = sql::query_scalar(sql).bind(fleet.as_str()).fetch_one(&mut **tx).await?;
    Ok(from_seconds(version))
}
