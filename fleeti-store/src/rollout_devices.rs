//! Devices of rollouts: one row for each. No function reads or writes more rows than it names.

use crate::dialect::Dialect;
use crate::{Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::DeviceId;
use fleeti_core::rollout::device::Device;
use fleeti_core::rollout::{Category, DevicePhase};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Columns of a row.
#[derive(sqlx::FromRow)]
pub(super) struct DeviceRow {
    device: String,
    device_phase: String,
    since_s: i64,
    detail: Option<String>,
}

pub(super) const COLUMNS: &str = "d.device, d.phase AS device_phase, d.since_s, d.detail";

impl TryFrom<DeviceRow> for (DeviceId, Device) {
    type Error = StoreError;
    fn try_from(row: DeviceRow) -> Result<Self, StoreError> {
        let device = Device {
            phase: phase(&row.device_phase, row.detail.as_deref())?,
            since_s: from_seconds(row.since_s),
        };
        Ok((row.device.parse().map_err(StoreError::value)?, device))
    }
}

/// A phase as it is stored: its name, and what it carries as JSON.
fn phase(name: &str, detail: Option<&str>) -> Result<DevicePhase, StoreError> {
    let mut fields: Map<String, Value> =
        detail.map(serde_json::from_str).transpose()?.unwrap_or_default();
    fields.insert("type".into(), name.into());
    Ok(serde_json::from_value(Value::Object(fields))?)
}

/// What a phase carries beside its name, as JSON; `None` for nothing.
fn detail(phase: &DevicePhase) -> Result<Option<String>, StoreError> {
    let fields = match phase {
        DevicePhase::RolledBack { reason } => serde_json::json!({ "reason": reason }),
        DevicePhase::Failed { code } => serde_json::json!({ "code": code }),
        DevicePhase::Blocked
        | DevicePhase::Offered
        | DevicePhase::Staging
        | DevicePhase::Staged
        | DevicePhase::Rebooting
        | DevicePhase::Trying
        | DevicePhase::Unconfirmed
        | DevicePhase::Proving
        | DevicePhase::Succeeded
        | DevicePhase::AttestationFailed
        | DevicePhase::Revoked => return Ok(None),
    };
    Ok(Some(serde_json::to_string(&fields)?))
}

/// What a row says beside the names of rollout and device.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct NewRow {
    phase: &'static str,
    category: &'static str,
    since_s: u64,
    detail: Option<String>,
}

/// Devices by their new row: one statement for each row that differs, whatever their number.
type Groups<'a> = BTreeMap<NewRow, Vec<&'a DeviceId>>;

fn groups(devices: &[(DeviceId, Device)]) -> Result<Groups<'_>, StoreError> {
    let mut groups = Groups::new();
    for (id, Device { phase, since_s }) in devices {
        let row = NewRow {
            phase: phase.name(),
            category: phase.category().name(),
            since_s: *since_s,
            detail: detail(phase)?,
        };
        groups.entry(row).or_default().push(id);
    }
    Ok(groups)
}

/// Adds devices to a rollout.
pub async fn insert(
    tx: &mut Tx<'_>,
    rollout: &str,
    devices: &[(DeviceId, Device)],
) -> Result<(), StoreError> {
    for (NewRow { phase, category, since_s, detail }, ids) in groups(devices)? {
        let sql = sql::Text::each(|dialect| {
            format!(
                "INSERT INTO rollout_devices (rollout, device, phase, category, since_s, detail) \
                 SELECT $1, value, $3, $4, $5, $6 FROM {}",
                dialect.strings_in(2)
            )
        });
        sql::query(sql)
            .bind(rollout)
            .bind(serde_json::to_string(&ids)?)
            .bind(phase)
            .bind(category)
            .bind(seconds(since_s))
            .bind(detail)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

const SET_ONE: &str = "UPDATE rollout_devices SET phase = $3, category = $4, since_s = $5, detail = $6 \
    WHERE rollout = $1 AND device = $2";

fn set_some(dialect: &Dialect) -> String {
    format!(
        "UPDATE rollout_devices SET phase = $3, category = $4, since_s = $5, detail = $6 \
         WHERE rollout = $1 AND device IN (SELECT value FROM {})",
        dialect.strings_in(2)
    )
}

/// Stores the new rows of devices of a rollout.
pub async fn set(
    tx: &mut Tx<'_>,
    rollout: &str,
    devices: &[(DeviceId, Device)],
) -> Result<(), StoreError> {
    for (NewRow { phase, category, since_s, detail }, ids) in groups(devices)? {
        let (sql, ids) = match ids.as_slice() {
            [id] => (sql::Text::from(SET_ONE), id.to_string()),
            ids => (sql::Text::each(set_some), serde_json::to_string(ids)?),
        };
        sql::query(sql)
            .bind(rollout)
            .bind(ids)
            .bind(phase)
            .bind(category)
            .bind(seconds(since_s))
            .bind(detail)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Rows of these devices; devices that are not part of the rollout are left out.
pub async fn of(
    tx: &mut Tx<'_>,
    rollout: &str,
    devices: &[&DeviceId],
) -> Result<Vec<(DeviceId, Device)>, StoreError> {
    let sql = sql::Text::each(|dialect| {
        format!(
            "SELECT {COLUMNS} FROM rollout_devices d \
             WHERE d.rollout = $1 AND d.device IN (SELECT value FROM {})",
            dialect.strings_in(2)
        )
    });
    let rows: Vec<DeviceRow> = sql::query_as(sql)
        .bind(rollout)
        .bind(serde_json::to_string(devices)?)
        .fetch_all(&mut **tx)
        .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// The next rows of a rollout after a device, by id.
pub async fn after(
    tx: &mut Tx<'_>,
    rollout: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<(DeviceId, Device)>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM rollout_devices d \
         WHERE d.rollout = $1 AND d.device > $2 ORDER BY d.device LIMIT $3"
    ));
    let rows: Vec<DeviceRow> = sql::query_as(sql)
        .bind(rollout)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&mut **tx)
        .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// A page of the devices of a rollout after a device, by id; of one category, or of all.
pub async fn page(
    pool: &Pool,
    rollout: &str,
    category: Option<Category>,
    after: &str,
    limit: u32,
) -> Result<Vec<(DeviceId, Device)>, StoreError> {
    let of_category = if category.is_some() { "AND d.category = $4" } else { "" };
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM rollout_devices d \
         WHERE d.rollout = $1 AND d.device > $2 {of_category} ORDER BY d.device LIMIT $3"
    ));
    let mut query =
        sql::query_as::<DeviceRow>(sql).bind(rollout).bind(after).bind(i64::from(limit));
    if let Some(category) = category {
        query = query.bind(category.name());
    }
    query.fetch_all(pool).await?.into_iter().map(TryInto::try_into).collect()
}
