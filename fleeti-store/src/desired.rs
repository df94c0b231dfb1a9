//! Desired states of devices, and whether devices run what was rolled out to them.

use crate::{Connection, Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName, Version};
use fleeti_core::windows::Windows;
use fleeti_core::wire::device::{DesiredState, Forgiveness};

#[derive(sqlx::FromRow, serde::Deserialize)]
pub(super) struct DesiredRow {
    id: String,
    desired_generation: i64,
    desired_release: Option<String>,
    forgiven: Option<String>,
    forgiveness: i64,
    boot_change: Option<i64>,
    desired_back: i64,
    skip_windows_until_s: Option<i64>,
    urgent_until_s: Option<i64>,
    /// Of its fleet, JSON.
    windows: Option<String>,
}

/// Columns of a row, in the order of its fields, without names.
const VALUES: &str = "id, desired_generation, desired_release, forgiven, forgiveness, boot_change, desired_back, \
    skip_windows_until_s, urgent_until_s, (SELECT p.windows FROM attestation_policies p WHERE p.fleet = devices.fleet)";
/// Columns of a row of `devices`.
pub(super) const DESIRED: &str = "id, desired_generation, desired_release, forgiven, forgiveness, boot_change, desired_back, \
    skip_windows_until_s, urgent_until_s, \
    (SELECT p.windows FROM attestation_policies p WHERE p.fleet = devices.fleet) AS windows";

impl TryFrom<DesiredRow> for (DeviceId, DesiredState) {
    type Error = StoreError;
    fn try_from(row: DesiredRow) -> Result<Self, StoreError> {
        let forgiven = row.forgiven.map(|v| v.parse()).transpose().map_err(StoreError::value)?;
        let back = row.desired_back != 0;
        let mut critical = vec!["release".into()];
        if back {
            critical.push("back".into());
        }
        let windows: Windows =
            row.windows.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default();
        // An agent that knows no windows must refuse an offer, and take a withdrawal.
        if !windows.is_empty() && row.desired_release.is_some() {
            critical.push("windows".into());
        }
        let desired = DesiredState {
            back,
            generation: from_seconds(row.desired_generation),
            release: row
                .desired_release
                .map(|r| r.parse())
                .transpose()
                .map_err(StoreError::value)?,
            forgiven: forgiven
                .map(|version| Forgiveness { version, number: from_seconds(row.forgiveness) }),
            boot_change: row.boot_change.map(from_seconds),
            windows,
            skip_windows_until_s: row
                .skip_windows_until_s
                .max(row.urgent_until_s)
                .map(from_seconds),
            critical,
        };
        Ok((row.id.parse().map_err(StoreError::value)?, desired))
    }
}

/// Sets the desired version of devices. Returns their new desired states.
pub async fn set_desired(
    tx: &mut Tx<'_>,
    ids: &[DeviceId],
    release: Option<&ReleaseName>,
) -> Result<Vec<(DeviceId, DesiredState)>, StoreError> {
    set_either(tx, ids, release, Offered::default()).await
}

/// As [`set_desired`], for an urgent release: until `until_s` the devices skip their windows for it.
pub async fn set_urgent(
    tx: &mut Tx<'_>,
    ids: &[DeviceId],
    release: &ReleaseName,
    until_s: u64,
) -> Result<Vec<(DeviceId, DesiredState)>, StoreError> {
    let urgent = Offered { urgent_until_s: Some(until_s), ..Offered::default() };
    set_either(tx, ids, Some(release), urgent).await
}

/// How a release is offered.
#[derive(Default)]
struct Offered {
    is_back: bool,
    urgent_until_s: Option<u64>,
}

/// As [`set_desired`], for a release that the devices go back to.
pub async fn set_back(
    tx: &mut Tx<'_>,
    ids: &[DeviceId],
    release: &ReleaseName,
) -> Result<Vec<(DeviceId, DesiredState)>, StoreError> {
    set_either(tx, ids, Some(release), Offered { is_back: true, ..Offered::default() }).await
}

/// All ids are one parameter, and each row is one value, because single values are copied several
/// times.
async fn set_either(
    tx: &mut Tx<'_>,
    ids: &[DeviceId],
    release: Option<&ReleaseName>,
    offered: Offered,
) -> Result<Vec<(DeviceId, DesiredState)>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids = serde_json::to_string(ids)?;
    // A device may still run a release that was rolled out to it before.
    let keep = sql::Text::each(|d| {
        format!(
            "INSERT INTO device_releases (device, release_name) SELECT id, desired_release FROM devices \
             WHERE desired_release IS NOT NULL AND id IN (SELECT value FROM {}) ON CONFLICT DO NOTHING",
            d.strings_in(1)
        )
    });
    sql::query(keep).bind(&ids).execute(&mut **tx).await?;
    let set = sql::Text::each(|d| {
        format!(
            "UPDATE devices SET desired_release = $2, desired_back = $3, urgent_until_s = $4, \
             desired_generation = desired_generation + 1 \
             WHERE id IN (SELECT value FROM {}) RETURNING {}({VALUES}){}",
            d.strings_in(1),
            d.json_array,
            d.json_as_text
        )
    });
    let rows: Vec<String> = sql::query_scalar(set)
        .bind(&ids)
        .bind(release.map(ToString::to_string))
        .bind(i64::from(offered.is_back))
        .bind(offered.urgent_until_s.map(seconds))
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| serde_json::from_str::<DesiredRow>(row)?.try_into()).collect()
}

/// Removes a release as the desired version of those devices that have it. Returns their new desired
/// states.
pub async fn withdraw(
    tx: &mut Tx<'_>,
    ids: &[DeviceId],
    release: &ReleaseName,
) -> Result<Vec<(DeviceId, DesiredState)>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let (ids, release) = (serde_json::to_string(ids)?, release.to_string());
    // A device may still run the release.
    let keep = sql::Text::each(|d| {
        format!(
            "INSERT INTO device_releases (device, release_name) SELECT id, desired_release FROM devices \
             WHERE desired_release = $2 AND id IN (SELECT value FROM {}) ON CONFLICT DO NOTHING",
            d.strings_in(1)
        )
    });
    sql::query(keep).bind(&ids).bind(&release).execute(&mut **tx).await?;
    let set = sql::Text::each(|d| {
        format!(
            "UPDATE devices SET desired_release = NULL, desired_back = 0, urgent_until_s = NULL, \
             desired_generation = desired_generation + 1 \
             WHERE desired_release = $2 AND id IN (SELECT value FROM {}) RETURNING {}({VALUES}){}",
            d.strings_in(1),
            d.json_array,
            d.json_as_text
        )
    });
    let rows: Vec<String> =
        sql::query_scalar(set).bind(&ids).bind(&release).fetch_all(&mut **tx).await?;
    rows.iter().map(|row| serde_json::from_str::<DesiredRow>(row)?.try_into()).collect()
}

/// Makes the desired states of devices new, because what belongs to them changed: the windows of
/// their fleet, or whether they skip them. Returns them.
pub async fn renew(
    tx: &mut Tx<'_>,
    ids: &[DeviceId],
) -> Result<Vec<(DeviceId, DesiredState)>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let set = sql::Text::each(|d| {
        format!(
            "UPDATE devices SET desired_generation = desired_generation + 1 \
             WHERE id IN (SELECT value FROM {}) RETURNING {}({VALUES}){}",
            d.strings_in(1),
            d.json_array,
            d.json_as_text
        )
    });
    let rows: Vec<String> =
        sql::query_scalar(set).bind(serde_json::to_string(ids)?).fetch_all(&mut **tx).await?;
    rows.iter().map(|row| serde_json::from_str::<DesiredRow>(row)?.try_into()).collect()
}

/// The next devices of a fleet after an id, without revoked devices.
pub async fn next_of(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    after: &str,
    limit: u32,
) -> Result<Vec<DeviceId>, StoreError> {
    let sql = "SELECT id FROM devices WHERE fleet = $1 AND revoked_s IS NULL AND id > $2 \
        ORDER BY id LIMIT $3";
    let ids: Vec<String> = sql::query_scalar(sql)
        .bind(fleet.as_str())
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&mut **tx)
        .await?;
    ids.into_iter().map(|id| id.parse().map_err(StoreError::value)).collect()
}

/// Condition on a row `d` of `devices`: the device was provisioned with the release that it
/// reports, or a rollout offered it. Also true for a device without report and without a known
/// initial release.
pub(super) const RUNS_AS_GIVEN: &str = "(d.running IS NOT DISTINCT FROM d.came_with OR d.running IS NOT DISTINCT FROM d.desired_release OR EXISTS \
    (SELECT 1 FROM device_releases r WHERE r.device = d.id AND r.release_name = d.running))";

/// Whether a device was provisioned with a release, or a rollout offered it before.
pub async fn was_given(
    tx: &mut Tx<'_>,
    id: &DeviceId,
    release: &ReleaseName,
) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM devices d WHERE d.id = $1 AND (d.came_with = $2 OR EXISTS \
        (SELECT 1 FROM device_releases r WHERE r.device = d.id AND r.release_name = $2))";
    let found: i64 = sql::query_scalar(sql)
        .bind(id.as_str())
        .bind(release.to_string())
        .fetch_one(&mut **tx)
        .await?;
    Ok(found > 0)
}

/// Releases that a device was provisioned with, or that a rollout offered it: those that are published
/// and not revoked, up to `limit`, the newest first.
pub async fn given(
    connection: &mut Connection,
    id: &DeviceId,
    limit: u32,
) -> Result<Vec<ReleaseName>, StoreError> {
    let sql = "SELECT name FROM releases WHERE revoked_s IS NULL AND name IN \
        (SELECT release_name FROM device_releases WHERE device = $1 \
         UNION SELECT came_with FROM devices WHERE id = $1) \
        ORDER BY published_s DESC, name LIMIT $2";
    let names: Vec<String> = sql::query_scalar(sql)
        .bind(id.as_str())
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    names.iter().map(|name| name.parse().map_err(StoreError::value)).collect()
}

/// The release that a device reports, if it was provisioned with it, or it was rolled out to it.
pub async fn running_as_given(
    pool: &Pool,
    id: &DeviceId,
) -> Result<Option<ReleaseName>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT d.running FROM devices d WHERE d.id = $1 AND d.running IS NOT NULL AND {RUNS_AS_GIVEN}"
    ));
    let found: Option<String> =
        sql::query_scalar(sql).bind(id.as_str()).fetch_optional(pool).await?;
    found.map(|r| r.parse().map_err(StoreError::value)).transpose()
}

/// Allows a device to try a version again after a rollback. Returns `None` for an unknown device.
pub async fn forgive(
    tx: &mut Tx<'_>,
    id: &DeviceId,
    version: &Version,
) -> Result<Option<DesiredState>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "UPDATE devices SET forgiven = $2, forgiveness = forgiveness + 1, desired_generation = desired_generation + 1, \
         penalty_version = CASE WHEN penalty_version = $2 THEN NULL ELSE penalty_version END \
         WHERE id = $1 RETURNING {DESIRED}"
    ));
    let row = sql::query_as::<DesiredRow>(sql)
        .bind(id.as_str())
        .bind(version.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| <(DeviceId, DesiredState)>::try_from(row).map(|(_, desired)| desired)).transpose()
}

/// Sets the change of Secure Boot variables in a device's desired state. Returns `None` if it has
/// not enrolled.
pub async fn set_boot_change(
    tx: &mut Tx<'_>,
    id: &DeviceId,
    number: u64,
) -> Result<Option<DesiredState>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "UPDATE devices SET boot_change = $2, desired_generation = desired_generation + 1 WHERE id = $1 RETURNING {DESIRED}"
    ));
    let row = sql::query_as::<DesiredRow>(sql)
        .bind(id.as_str())
        .bind(seconds(number))
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| <(DeviceId, DesiredState)>::try_from(row).map(|(_, desired)| desired)).transpose()
}

/// The desired state of a device.
pub async fn desired(pool: &Pool, id: &DeviceId) -> Result<Option<DesiredState>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("SELECT {DESIRED} FROM devices WHERE id = $1"));
    let row = sql::query_as::<DesiredRow>(sql).bind(id.as_str()).fetch_optional(pool).await?;
    row.map(|row| <(DeviceId, DesiredState)>::try_from(row).map(|(_, desired)| desired)).transpose()
}
