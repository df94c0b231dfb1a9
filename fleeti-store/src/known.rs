//! What is known of devices where the server decides about their updates: one row for each.

use crate::attestations::{Found, found_of_row};
use crate::channels::target_of;
use crate::sql::{self, QueryBuilder};
use crate::{Connection, StoreError, Tx, from_seconds, seconds};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::rollout::Phase;
use fleeti_core::rollout::gates::{Active, FleetTarget, Hold, Known, Penalty, Pin};
use fleeti_core::update::State;

/// A device, and the last result of its attestation.
#[derive(Debug, Clone)]
pub struct KnownDevice {
    /// The device. The state of its update, and what that waits for, are only known in a
    /// [`Situation`].
    pub known: Known,
    /// The last result.
    pub found: Found,
}

/// A device, what its fleet should run, and its part in the active rollout.
#[derive(Debug, Clone)]
pub struct Situation {
    /// Its fleet.
    pub fleet: FleetId,
    /// The device.
    pub device: KnownDevice,
    /// What its fleet should run.
    pub target: FleetTarget,
    /// The active rollout of its fleet.
    pub active: Option<Active>,
}

#[derive(sqlx::FromRow, serde::Deserialize)]
struct Row {
    id: String,
    fleet: String,
    level: Option<i64>,
    appraised_s: Option<i64>,
    release_name: Option<String>,
    update_level: Option<i64>,
    revoked_s: Option<i64>,
    running: Option<String>,
    desired_release: Option<String>,
    hold_reason: Option<String>,
    hold_until_s: Option<i64>,
    pin: Option<String>,
    pin_reason: Option<String>,
    penalty_version: Option<String>,
    penalty_failures: i64,
    penalty_until_s: Option<i64>,
    pin_back: i64,
}

/// Columns of a row, in the order of its fields.
const COLUMNS: &str = "d.id, d.fleet, a.level, a.appraised_s, a.release_name, a.update_level, d.revoked_s, \
    d.running, d.desired_release, d.hold_reason, d.hold_until_s, d.pin, d.pin_reason, \
    d.penalty_version, d.penalty_failures, d.penalty_until_s, d.pin_back";
const NAMES: &str = "id, fleet, level, appraised_s, release_name, update_level, revoked_s, running, \
    desired_release, hold_reason, hold_until_s, pin, pin_reason, penalty_version, penalty_failures, \
    penalty_until_s, pin_back";
const FROM: &str = "FROM devices d LEFT JOIN attestations a ON a.device = d.id";

fn release(name: Option<&str>) -> Result<Option<ReleaseName>, StoreError> {
    name.map(str::parse).transpose().map_err(StoreError::value)
}

impl Row {
    fn device(&self, now_s: u64) -> Result<KnownDevice, StoreError> {
        let found = found_of_row(
            self.level,
            self.update_level,
            self.appraised_s,
            self.release_name.as_deref(),
        )?;
        let hold = self.hold_reason.as_ref().map(|reason| Hold {
            reason: reason.clone(),
            until_s: self.hold_until_s.map(from_seconds),
        });
        let reason = self.pin_reason.clone().unwrap_or_default();
        let downgrade = self.pin_back != 0;
        let pin = release(self.pin.as_deref())?.map(|release| Pin { release, reason, downgrade });
        let penalty = match &self.penalty_version {
            None => None,
            Some(version) => Some(Penalty {
                version: version.parse().map_err(StoreError::value)?,
                failures: u32::try_from(self.penalty_failures).unwrap_or(u32::MAX),
                until_s: self.penalty_until_s.map(from_seconds),
            }),
        };
        let known = Known {
            is_revoked: self.revoked_s.is_some(),
            running: release(self.running.as_deref())?,
            desired: release(self.desired_release.as_deref())?,
            update: State::Idle,
            waits: None,
            time_zone: None,
            skip_windows_until_s: None,
            urgent_until_s: None,
            hold,
            pin,
            penalty,
            level: found.level_for_update(now_s),
        };
        Ok(KnownDevice { known, found })
    }

    fn with_id(&self, now_s: u64) -> Result<(DeviceId, KnownDevice), StoreError> {
        Ok((self.id.parse().map_err(StoreError::value)?, self.device(now_s)?))
    }
}

/// What is known of a device, and its fleet.
pub async fn get(
    connection: &mut Connection,
    device: &DeviceId,
    now_s: u64,
) -> Result<Option<(FleetId, KnownDevice)>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("SELECT {COLUMNS} {FROM} WHERE d.id = $1"));
    let row: Option<Row> =
        sql::query_as(sql).bind(device.as_str()).fetch_optional(connection).await?;
    let both = |row: Row| Ok((row.fleet.parse().map_err(StoreError::value)?, row.device(now_s)?));
    row.map(both).transpose()
}

/// What is known of these devices.
pub async fn of(
    connection: &mut Connection,
    devices: &[&DeviceId],
    now_s: u64,
) -> Result<Vec<(DeviceId, KnownDevice)>, StoreError> {
    let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} {FROM} WHERE d.id IN "));
    query.push_list(devices.iter().map(|device| device.as_str()));
    let rows: Vec<Row> = query.build_query_as().fetch_all(connection).await?;
    rows.iter().map(|row| row.with_id(now_s)).collect()
}

/// What is known of the next devices of a fleet after an id, without revoked devices.
pub async fn after(
    connection: &mut Connection,
    fleet: &FleetId,
    (after, limit): (&str, u32),
    now_s: u64,
) -> Result<Vec<(DeviceId, KnownDevice)>, StoreError> {
    // One value for all rows: as single values, those of a large fleet are copied several times.
    let sql = sql::Text::each(|d| {
        let (rows, array, text) = (d.json_rows, d.json_array, d.json_as_text);
        format!(
            "SELECT COALESCE({rows}({array}({NAMES})){text}, '[]') FROM (SELECT {COLUMNS} {FROM} \
             WHERE d.fleet = $1 AND d.revoked_s IS NULL AND d.id > $2 ORDER BY d.id LIMIT $3) AS found"
        )
    });
    let text: String = sql::query_scalar(sql)
        .bind(fleet.as_str())
        .bind(after)
        .bind(i64::from(limit))
        .fetch_one(connection)
        .await?;
    let rows: Vec<Row> = serde_json::from_str(&text)?;
    rows.iter().map(|row| row.with_id(now_s)).collect()
}

#[derive(sqlx::FromRow)]
struct SituationRow {
    #[sqlx(flatten)]
    device: Row,
    update_state: Option<String>,
    waits: Option<String>,
    time_zone: Option<String>,
    skip_windows_until_s: Option<i64>,
    urgent_until_s: Option<i64>,
    channel: Option<String>,
    pinned: Option<String>,
    fleet_pin_reason: Option<String>,
    rollout: Option<String>,
    rollout_release: Option<String>,
    rollout_phase: Option<String>,
    has_waves: bool,
    is_back: bool,
    is_urgent: bool,
    device_phase: Option<String>,
    detail: Option<String>,
    wave: Option<i64>,
}

impl SituationRow {
    fn active(&self) -> Result<Option<Active>, StoreError> {
        let (Some(rollout), Some(release), Some(phase)) =
            (&self.rollout, release(self.rollout_release.as_deref())?, &self.rollout_phase)
        else {
            return Ok(None);
        };
        let row = match &self.device_phase {
            None => None,
            Some(name) => {
                let phase = super::rollout_devices::phase(name, self.detail.as_deref())?;
                Some((phase, self.wave.map(super::rollout_devices::number).transpose()?))
            }
        };
        let phase = Phase::ALL
            .into_iter()
            .find(|known| known.name() == phase)
            .ok_or_else(|| StoreError::value(format!("rollout phase {phase:?}")))?;
        let (rollout, has_waves, is_back) = (rollout.clone(), self.has_waves, self.is_back);
        let is_urgent = self.is_urgent;
        Ok(Some(Active { rollout, release, phase, has_waves, is_back, is_urgent, row }))
    }
}

/// A device with all that decides about its update. Reads one row of each table.
pub async fn situation(
    connection: &mut Connection,
    device: &DeviceId,
    now_s: u64,
) -> Result<Option<Situation>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS}, d.update_state, d.waits, d.time_zone, d.skip_windows_until_s, d.urgent_until_s, \
         c.release_name AS channel, c.pinned, \
         c.pin_reason AS fleet_pin_reason, r.id AS rollout, r.release_name AS rollout_release, \
         r.phase AS rollout_phase, (r.plan IS NOT NULL) AS has_waves, (r.back_of IS NOT NULL) AS is_back, \
         (r.urgent IS NOT NULL) AS is_urgent, \
         p.phase AS device_phase, p.detail, p.wave \
         {FROM} LEFT JOIN channels c ON c.fleet = d.fleet \
         LEFT JOIN rollouts r ON r.fleet = d.fleet AND r.active = 1 \
         LEFT JOIN rollout_devices p ON p.rollout = r.id AND p.device = d.id WHERE d.id = $1"
    ));
    let row: Option<SituationRow> =
        sql::query_as(sql).bind(device.as_str()).fetch_optional(connection).await?;
    let Some(row) = row else { return Ok(None) };
    let mut device = row.device.device(now_s)?;
    if let Some(text) = &row.update_state {
        device.known.update = serde_json::from_str(text)?;
    }
    device.known.waits = row.waits.as_deref().map(serde_json::from_str).transpose()?;
    device.known.skip_windows_until_s = row.skip_windows_until_s.map(from_seconds);
    device.known.urgent_until_s = row.urgent_until_s.map(from_seconds);
    device.known.time_zone = row.time_zone.clone();
    let target =
        target_of(row.channel.as_deref(), row.pinned.as_deref(), row.fleet_pin_reason.as_deref())?;
    let fleet = row.device.fleet.parse().map_err(StoreError::value)?;
    Ok(Some(Situation { fleet, device, target, active: row.active()? }))
}

/// Stores the hold of a device, or ends it.
pub async fn set_hold(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    hold: Option<&Hold>,
) -> Result<(), StoreError> {
    let sql = "UPDATE devices SET hold_reason = $2, hold_until_s = $3 WHERE id = $1";
    sql::query(sql)
        .bind(device.as_str())
        .bind(hold.map(|hold| hold.reason.as_str()))
        .bind(hold.and_then(|hold| hold.until_s).map(seconds))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Stores the pin of a device, or ends it.
pub async fn set_pin(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    pin: Option<&Pin>,
) -> Result<(), StoreError> {
    let sql = "UPDATE devices SET pin = $2, pin_reason = $3, pin_back = $4 WHERE id = $1";
    sql::query(sql)
        .bind(device.as_str())
        .bind(pin.map(|pin| pin.release.to_string()))
        .bind(pin.map(|pin| pin.reason.as_str()))
        .bind(i64::from(pin.is_some_and(|pin| pin.downgrade)))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Stores until when a device may skip its windows, or ends that.
pub async fn set_skip_windows(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    until_s: Option<u64>,
) -> Result<(), StoreError> {
    let sql = "UPDATE devices SET skip_windows_until_s = $2 WHERE id = $1";
    sql::query(sql).bind(device.as_str()).bind(until_s.map(seconds)).execute(&mut **tx).await?;
    Ok(())
}

/// The time zone that a device reports.
pub async fn time_zone(
    connection: &mut Connection,
    device: &DeviceId,
) -> Result<Option<String>, StoreError> {
    let sql = "SELECT time_zone FROM devices WHERE id = $1";
    let found: Option<Option<String>> =
        sql::query_scalar(sql).bind(device.as_str()).fetch_optional(connection).await?;
    Ok(found.flatten())
}

/// Stores the penalty of a device.
pub async fn set_penalty(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    penalty: &Penalty,
) -> Result<(), StoreError> {
    let sql = "UPDATE devices SET penalty_version = $2, penalty_failures = $3, penalty_until_s = $4 \
        WHERE id = $1";
    sql::query(sql)
        .bind(device.as_str())
        .bind(penalty.version.as_str())
        .bind(i64::from(penalty.failures))
        .bind(penalty.until_s.map(seconds))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Marks what has ended of a device's hold and penalty, so that it is looked at once.
pub async fn end_due(tx: &mut Tx<'_>, device: &DeviceId, now_s: u64) -> Result<(), StoreError> {
    let sql = "UPDATE devices SET \
        hold_reason = CASE WHEN hold_until_s <= $2 THEN NULL ELSE hold_reason END, \
        hold_until_s = CASE WHEN hold_until_s <= $2 THEN NULL ELSE hold_until_s END, \
        penalty_until_s = CASE WHEN penalty_until_s <= $2 THEN 0 ELSE penalty_until_s END \
        WHERE id = $1";
    sql::query(sql).bind(device.as_str()).bind(seconds(now_s)).execute(&mut **tx).await?;
    Ok(())
}

/// Moves a device to another fleet.
pub async fn set_fleet(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    fleet: &FleetId,
) -> Result<(), StoreError> {
    let sql = "UPDATE devices SET fleet = $2 WHERE id = $1";
    sql::query(sql).bind(device.as_str()).bind(fleet.as_str()).execute(&mut **tx).await?;
    Ok(())
}
