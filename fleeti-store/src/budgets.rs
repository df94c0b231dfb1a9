//! Groups of rollouts with a disruption budget: one row for each. An event reads and writes the rows
//! of the groups that it is about.

use crate::{Connection, StoreError, Tx, sql};
use fleeti_core::id::{DeviceId, FleetId, LabelKey};
use fleeti_core::rollout::budget::Group;
use std::collections::HashMap;

fn count(n: i64) -> usize {
    usize::try_from(n).unwrap_or(0)
}

/// How many devices of a fleet have each value of a label, at most `limit` values; the empty value
/// is that of devices without the label. Revoked devices are left out.
pub async fn sizes(
    connection: &mut Connection,
    fleet: &FleetId,
    key: &LabelKey,
    limit: usize,
) -> Result<Vec<(String, usize)>, StoreError> {
    let sql = "SELECT COALESCE(l.value, '') AS budget_group, COUNT(*) AS total FROM devices d \
        LEFT JOIN device_labels l ON l.label_key = $2 AND l.device = d.id \
        WHERE d.fleet = $1 AND d.revoked_s IS NULL GROUP BY COALESCE(l.value, '') \
        ORDER BY 2, 1 LIMIT $3";
    let rows: Vec<(String, i64)> = sql::query_as(sql)
        .bind(fleet.as_str())
        .bind(key.as_str())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|(group, total)| (group, count(total))).collect())
}

/// Fixes the groups of devices that joined a rollout, by their labels.
pub async fn assign(
    tx: &mut Tx<'_>,
    rollout: &str,
    key: &LabelKey,
    devices: &[&DeviceId],
) -> Result<(), StoreError> {
    let sql = sql::Text::each(|dialect| {
        format!(
            "UPDATE rollout_devices SET budget_group = COALESCE((SELECT l.value FROM device_labels l \
             WHERE l.label_key = $2 AND l.device = rollout_devices.device), '') \
             WHERE rollout = $1 AND device IN (SELECT value FROM {})",
            dialect.strings_in(3)
        )
    });
    sql::query(sql)
        .bind(rollout)
        .bind(key.as_str())
        .bind(serde_json::to_string(devices)?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Counts the groups of a rollout, once, when all devices have joined and none has an offer.
pub async fn begin(tx: &mut Tx<'_>, rollout: &str) -> Result<(), StoreError> {
    let sql = "INSERT INTO rollout_groups (rollout, budget_group, total, in_use) \
        SELECT d.rollout, d.budget_group, COUNT(*), 0 FROM rollout_devices d \
        WHERE d.rollout = $1 AND d.budget_group IS NOT NULL GROUP BY d.rollout, d.budget_group";
    sql::query(sql).bind(rollout).execute(&mut **tx).await?;
    Ok(())
}

/// These groups of a rollout.
pub async fn of(
    tx: &mut Tx<'_>,
    rollout: &str,
    groups: &[&str],
) -> Result<HashMap<String, Group>, StoreError> {
    let sql = sql::Text::each(|dialect| {
        format!(
            "SELECT budget_group, total, in_use FROM rollout_groups \
             WHERE rollout = $1 AND budget_group IN (SELECT value FROM {})",
            dialect.strings_in(2)
        )
    });
    let rows: Vec<(String, i64, i64)> = sql::query_as(sql)
        .bind(rollout)
        .bind(serde_json::to_string(groups)?)
        .fetch_all(&mut **tx)
        .await?;
    let group =
        |(name, total, in_use)| (name, Group { total: count(total), in_use: count(in_use) });
    Ok(rows.into_iter().map(group).collect())
}

/// Stores how many devices of a group use a place.
pub async fn set(
    tx: &mut Tx<'_>,
    rollout: &str,
    name: &str,
    group: Group,
) -> Result<(), StoreError> {
    let sql = "UPDATE rollout_groups SET in_use = $3 WHERE rollout = $1 AND budget_group = $2";
    sql::query(sql)
        .bind(rollout)
        .bind(name)
        .bind(i64::try_from(group.in_use).unwrap_or(i64::MAX))
        .execute(&mut **tx)
        .await?;
    Ok(())
}
