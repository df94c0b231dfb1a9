//! Devices of rollouts: one row for each. No function reads or writes more rows than it names.

use crate::dialect::Dialect;
use crate::{Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::{DeviceId, ReleaseName};
use fleeti_core::rollout::device::Device;
use fleeti_core::rollout::{Category, DevicePhase};
use fleeti_core::wire::api::UrgentCounts;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};

/// Columns of a row.
#[derive(sqlx::FromRow)]
pub(super) struct DeviceRow {
    device: String,
    device_phase: String,
    since_s: i64,
    detail: Option<String>,
    wave: Option<i64>,
    via: Option<String>,
    retries: i64,
    budget_group: Option<String>,
}

pub(super) const COLUMNS: &str = "d.device, d.phase AS device_phase, d.since_s, d.detail, d.wave, \
    d.via, d.retries, d.budget_group";

impl TryFrom<DeviceRow> for (DeviceId, Device) {
    type Error = StoreError;
    fn try_from(row: DeviceRow) -> Result<Self, StoreError> {
        let device = Device {
            phase: phase(&row.device_phase, row.detail.as_deref())?,
            since_s: from_seconds(row.since_s),
            wave: row.wave.map(number).transpose()?,
            via: row.via.map(|via| via.parse()).transpose().map_err(StoreError::value)?,
            retries: u32::try_from(row.retries).unwrap_or(u32::MAX),
            group: row.budget_group,
        };
        Ok((row.device.parse().map_err(StoreError::value)?, device))
    }
}

pub(super) fn number(wave: i64) -> Result<u32, StoreError> {
    u32::try_from(wave).map_err(|_| StoreError::value(format!("wave {wave}")))
}

/// A phase as it is stored: its name, and what it carries as JSON.
pub(super) fn phase(name: &str, detail: Option<&str>) -> Result<DevicePhase, StoreError> {
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
        DevicePhase::Retrying { code, until_s } => {
            serde_json::json!({ "code": code, "until_s": until_s })
        }
        DevicePhase::Pending
        | DevicePhase::Queued
        | DevicePhase::Blocked
        | DevicePhase::Held
        | DevicePhase::Offered
        | DevicePhase::Unreached
        | DevicePhase::Silent
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
    wave: Option<i64>,
    listed: Option<i64>,
    via: Option<String>,
    retries: u32,
    retry_s: Option<u64>,
}

impl NewRow {
    fn of(device: &Device, listed: Option<u32>) -> Result<Self, StoreError> {
        // The group of a device never changes.
        let Device { phase, since_s, wave, via, retries, group: _ } = device;
        let retry_s =
            if let DevicePhase::Retrying { until_s, .. } = phase { Some(*until_s) } else { None };
        Ok(Self {
            via: via.as_ref().map(ToString::to_string),
            retries: *retries,
            retry_s,
            phase: phase.name(),
            category: phase.category().name(),
            since_s: *since_s,
            detail: detail(phase)?,
            wave: wave.map(i64::from),
            listed: listed.map(i64::from),
        })
    }
}

/// A device that joins a rollout.
#[derive(Debug, Clone)]
pub struct Joining {
    /// Device id.
    pub id: DeviceId,
    /// Its row.
    pub device: Device,
    /// Its place in the order of the waves; `None` without waves.
    pub cohort: Option<u64>,
    /// The wave whose list has it.
    pub listed: Option<u32>,
}

/// Devices by their new row: one statement for each row that differs, whatever their number.
type Groups<'a> = BTreeMap<NewRow, Vec<&'a DeviceId>>;

fn groups(devices: &[(DeviceId, Device)]) -> Result<Groups<'_>, StoreError> {
    let mut groups = Groups::new();
    for (id, device) in devices {
        groups.entry(NewRow::of(device, None)?).or_default().push(id);
    }
    Ok(groups)
}

/// Digits of a cohort.
const DIGITS: usize = 16;

/// Adds devices to a rollout. A device and its cohort are one string, because both databases take
/// a list of strings as one parameter.
pub async fn insert(tx: &mut Tx<'_>, rollout: &str, devices: &[Joining]) -> Result<(), StoreError> {
    let mut groups: BTreeMap<NewRow, Vec<String>> = BTreeMap::new();
    for Joining { id, device, cohort, listed } in devices {
        let cohort = cohort.map_or_else(String::new, |cohort| format!("{cohort:0DIGITS$x}"));
        let both = format!("{cohort:DIGITS$}{id}");
        groups.entry(NewRow::of(device, *listed)?).or_default().push(both);
    }
    for (NewRow { phase, category, since_s, detail, wave, listed, via, .. }, ids) in groups {
        let sql = sql::Text::each(|dialect| {
            format!(
                "INSERT INTO rollout_devices \
                 (rollout, device, phase, category, since_s, detail, wave, listed, cohort, \
                 offered_s, previous, via) \
                 SELECT $1, substr(value, 17), $3, $4, $5, $6, $7, $8, \
                 NULLIF(trim(substr(value, 1, 16)), ''), {OFFERED_S}, {}, $9 FROM {}",
                running("substr(value, 17)"),
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
            .bind(wave)
            .bind(listed)
            .bind(via)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// When a device was offered the release, if this row says so: `$3` is the phase, `$5` its time.
const OFFERED_S: &str = "CASE WHEN $3 = 'offered' THEN $5 END";

/// What a device runs when it is offered the release.
fn running(device: &str) -> String {
    format!(
        "CASE WHEN $3 = 'offered' THEN (SELECT v.running FROM devices v WHERE v.id = {device}) END"
    )
}

/// Sets the rows with these ids. Of several offers, the last one says how long an update takes, and
/// what the device ran before: after a floor, its other slot has that.
fn set_where(ids: &str) -> String {
    let running = running("rollout_devices.device");
    format!(
        "UPDATE rollout_devices \
         SET phase = $3, category = $4, since_s = $5, detail = $6, wave = $7, via = $8, \
         retries = $9, retry_s = $10, \
         offered_s = COALESCE({OFFERED_S}, offered_s), previous = COALESCE({running}, previous) \
         WHERE rollout = $1 AND device {ids}"
    )
}

fn set_one(_: &Dialect) -> String {
    set_where("= $2")
}

fn set_some(dialect: &Dialect) -> String {
    set_where(&format!("IN (SELECT value FROM {})", dialect.strings_in(2)))
}

/// Stores the new rows of devices of a rollout.
pub async fn set(
    tx: &mut Tx<'_>,
    rollout: &str,
    devices: &[(DeviceId, Device)],
) -> Result<(), StoreError> {
    for (row, ids) in groups(devices)? {
        let NewRow { phase, category, since_s, detail, wave, listed: _, via, .. } = row;
        let (sql, ids) = match ids.as_slice() {
            [id] => (sql::Text::each(set_one), id.to_string()),
            ids => (sql::Text::each(set_some), serde_json::to_string(ids)?),
        };
        sql::query(sql)
            .bind(rollout)
            .bind(ids)
            .bind(phase)
            .bind(category)
            .bind(seconds(since_s))
            .bind(detail)
            .bind(wave)
            .bind(via)
            .bind(i64::from(row.retries))
            .bind(row.retry_s.map(seconds))
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Devices of a group that wait for a place, in the order of their waves.
pub async fn queued(
    tx: &mut Tx<'_>,
    rollout: &str,
    group: &str,
    limit: u32,
) -> Result<Vec<(DeviceId, Device)>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM rollout_devices d WHERE d.rollout = $1 AND d.budget_group = $2 \
         AND d.phase = 'queued' ORDER BY d.wave, d.cohort LIMIT $3"
    ));
    let rows: Vec<DeviceRow> = sql::query_as(sql)
        .bind(rollout)
        .bind(group)
        .bind(i64::from(limit))
        .fetch_all(&mut **tx)
        .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Devices whose pause after a failure has ended.
pub async fn paused_until(
    tx: &mut Tx<'_>,
    rollout: &str,
    now_s: u64,
    limit: u32,
) -> Result<Vec<(DeviceId, Device)>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM rollout_devices d \
         WHERE d.rollout = $1 AND d.retry_s <= $2 ORDER BY d.retry_s LIMIT $3"
    ));
    let rows: Vec<DeviceRow> = sql::query_as(sql)
        .bind(rollout)
        .bind(seconds(now_s))
        .bind(i64::from(limit))
        .fetch_all(&mut **tx)
        .await?;
    rows.into_iter().map(TryInto::try_into).collect()
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

/// Devices of a rollout that can go back: those that still run its release, or run again what they
/// ran before. A device that got something else since is not taken two releases back.
const GO_BACK: &str = "FROM rollout_devices d JOIN rollouts r ON r.id = d.rollout \
    JOIN devices v ON v.id = d.device \
    WHERE d.rollout = $1 AND v.running IN (r.release_name, d.previous)";

/// The release that most devices of a rollout that can go back ran before, if it is not the one of
/// the rollout.
pub async fn most_previous(
    tx: &mut Tx<'_>,
    rollout: &str,
) -> Result<Option<ReleaseName>, StoreError> {
    let sql = format!(
        "SELECT d.previous {GO_BACK} AND d.previous <> r.release_name \
         GROUP BY d.previous ORDER BY COUNT(*) DESC, d.previous LIMIT 1"
    );
    let query = sql::query_scalar(sql::AssertSqlSafe(sql)).bind(rollout);
    let found: Option<String> = query.fetch_optional(&mut **tx).await?;
    found.map(|r| r.parse().map_err(StoreError::value)).transpose()
}

/// Those of these devices that can go back to the release that they ran before a rollout.
pub async fn ran_before(
    tx: &mut Tx<'_>,
    rollout: &str,
    release: &ReleaseName,
    devices: &[&DeviceId],
) -> Result<HashSet<String>, StoreError> {
    let sql = sql::Text::each(|dialect| {
        format!(
            "SELECT d.device {GO_BACK} AND d.previous = $2 AND d.device IN (SELECT value FROM {})",
            dialect.strings_in(3)
        )
    });
    let found: Vec<String> = sql::query_scalar(sql)
        .bind(rollout)
        .bind(release.to_string())
        .bind(serde_json::to_string(devices)?)
        .fetch_all(&mut **tx)
        .await?;
    Ok(found.into_iter().collect())
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

/// Number of the devices of a rollout that do not run its release, by phase, most first. Devices that
/// update or wait are left out, but not those that are blocked.
pub async fn troubles(pool: &Pool, rollout: &str) -> Result<Vec<(DevicePhase, usize)>, StoreError> {
    let sql = "SELECT phase, MIN(detail) AS detail, COUNT(*) AS devices FROM rollout_devices \
        WHERE rollout = $1 AND (category IN ('failed', 'unconfirmed', 'unreached') OR phase IN ('blocked', 'retrying')) \
        GROUP BY phase, CASE WHEN phase = 'failed' THEN detail END \
        ORDER BY devices DESC, phase LIMIT 20";
    let rows: Vec<(String, Option<String>, i64)> =
        sql::query_as(sql).bind(rollout).fetch_all(pool).await?;
    let read = |(name, detail, devices): (String, Option<String>, i64)| {
        Ok((phase(&name, detail.as_deref())?, usize::try_from(devices).unwrap_or(0)))
    };
    rows.into_iter().map(read).collect()
}

/// How far an urgent rollout is: its rows, and the last evidence of their devices.
pub async fn urgent_counts(
    pool: &Pool,
    rollout: &str,
    release: &ReleaseName,
) -> Result<UrgentCounts, StoreError> {
    let sql = "SELECT COUNT(CASE WHEN d.phase = 'succeeded' AND a.release_name = $2 THEN 1 END), \
        COUNT(CASE WHEN d.phase IN ('blocked', 'held') THEN 1 END), \
        COUNT(CASE WHEN d.phase = 'unreached' THEN 1 END) \
        FROM rollout_devices d LEFT JOIN attestations a ON a.device = d.device WHERE d.rollout = $1";
    let (proved, blocked, unreached): (i64, i64, i64) =
        sql::query_as(sql).bind(rollout).bind(release.to_string()).fetch_one(pool).await?;
    let n = |n: i64| usize::try_from(n).unwrap_or(0);
    Ok(UrgentCounts { proved: n(proved), blocked: n(blocked), unreached: n(unreached) })
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

/// Which pending devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// Those that a wave has taken before.
    Returned,
    /// Those that a list of this wave or an earlier one has.
    Listed(u32),
    /// Those that no list has.
    Unlisted,
}

/// The next pending devices of a rollout, by cohort.
pub async fn pending(
    tx: &mut Tx<'_>,
    rollout: &str,
    which: Pending,
    limit: u32,
) -> Result<Vec<(DeviceId, Device)>, StoreError> {
    let (condition, wave) = match which {
        Pending::Returned => ("d.wave >= $3", 0),
        Pending::Listed(wave) => ("d.wave IS NULL AND d.listed <= $3", i64::from(wave)),
        Pending::Unlisted => ("d.wave IS NULL AND d.listed IS NULL AND $3 = 0", 0),
    };
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM rollout_devices d \
         WHERE d.rollout = $1 AND d.phase = 'pending' AND {condition} \
         ORDER BY d.wave, d.listed, d.cohort LIMIT $2"
    ));
    let rows: Vec<DeviceRow> = sql::query_as(sql)
        .bind(rollout)
        .bind(i64::from(limit))
        .bind(wave)
        .fetch_all(&mut **tx)
        .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// When devices are not heard of.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Devices that have started: not since this time, Unix seconds.
    pub silent_before_s: u64,
    /// Devices that have not started.
    pub unreached_before_s: u64,
}

#[derive(sqlx::FromRow)]
struct SeenRow {
    #[sqlx(flatten)]
    device: DeviceRow,
    last_seen_s: i64,
}

/// Devices of a rollout that are not heard of any more, and when they were, Unix seconds.
pub async fn unheard(
    tx: &mut Tx<'_>,
    rollout: &str,
    deadlines: Deadlines,
    limit: u32,
) -> Result<Vec<(DeviceId, Device, u64)>, StoreError> {
    let Deadlines { silent_before_s, unreached_before_s } = deadlines;
    let (moving, waiting) = (silent_before_s, unreached_before_s);
    let mut found = Vec::new();
    for (category, before_s) in
        [(Category::Moving, moving), (Category::Unconfirmed, moving), (Category::Waiting, waiting)]
    {
        let sql = sql::AssertSqlSafe(format!(
            "SELECT {COLUMNS}, v.last_seen_s FROM rollout_devices d \
             JOIN devices v ON v.id = d.device \
             WHERE d.rollout = $1 AND d.category = $2 AND d.since_s <= $3 \
             AND (v.last_seen_s <= $3 OR d.phase IN ('blocked', 'proving')) ORDER BY d.device LIMIT $4"
        ));
        let left = i64::from(limit) - i64::try_from(found.len()).unwrap_or(i64::MAX);
        let rows: Vec<SeenRow> = sql::query_as(sql)
            .bind(rollout)
            .bind(category.name())
            .bind(seconds(before_s))
            .bind(left.max(0))
            .fetch_all(&mut **tx)
            .await?;
        for SeenRow { device, last_seen_s } in rows {
            let (id, device) = device.try_into()?;
            found.push((id, device, from_seconds(last_seen_s)));
        }
    }
    Ok(found)
}
