//! The history of devices: what they were, as a row for each change, and their metrics, as a row for
//! each hour and, beyond a month, for each day.

use crate::{Connection, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::attestation::Level;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::history::{
    DAY_S, DeviceState, HOUR_S, Metrics, SAMPLES_MAX, STATES_MAX, Sample,
};
use std::collections::BTreeMap;

/// What is known of a device now. What is absent is as before.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Its fleet.
    pub fleet: &'a FleetId,
    /// The release that it reports, and its boot.
    pub boot: Option<(&'a str, &'a str)>,
    /// Its attestation level.
    pub level: Option<Level>,
}

/// Adds a state of a device, if it differs from the last one. Returns whether it does.
pub async fn record(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    known: Known<'_>,
    now_s: u64,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO device_states (device, at_s, fleet, running, boot_id, level) \
         SELECT $1, $2, $3, COALESCE($4, last.running, ''), COALESCE($5, last.boot_id, ''), COALESCE($6, last.level, 1) \
         FROM (SELECT 1 AS one) AS single LEFT JOIN \
         (SELECT fleet, running, boot_id, level FROM device_states WHERE device = $1 ORDER BY at_s DESC LIMIT 1) AS last ON single.one = 1 \
         WHERE last.fleet IS NULL OR last.fleet <> $3 OR last.running <> COALESCE($4, last.running) \
         OR last.boot_id <> COALESCE($5, last.boot_id) OR last.level <> COALESCE($6, last.level) \
         ON CONFLICT (device, at_s) DO UPDATE SET fleet = excluded.fleet, running = excluded.running, boot_id = excluded.boot_id, level = excluded.level";
    let done = sql::query(sql)
        .bind(device.as_str())
        .bind(seconds(now_s))
        .bind(known.fleet.as_str())
        .bind(known.boot.map(|(running, _)| running))
        .bind(known.boot.map(|(_, boot)| boot))
        .bind(known.level.map(|level| level as i64))
        .execute(&mut **tx)
        .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    let sql = "DELETE FROM device_states WHERE device = $1 AND at_s <= \
               (SELECT at_s FROM device_states WHERE device = $1 ORDER BY at_s DESC LIMIT 1 OFFSET $2)";
    sql::query(sql).bind(device.as_str()).bind(i64::from(STATES_MAX)).execute(&mut **tx).await?;
    Ok(true)
}

/// A span of time, Unix seconds.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Its beginning.
    pub from_s: u64,
    /// Its end.
    pub until_s: u64,
}

/// The states of a device in a span of time, newest first; also the one with which it began.
pub async fn states(
    connection: &mut Connection,
    device: &DeviceId,
    span: Span,
) -> Result<Vec<DeviceState>, StoreError> {
    let sql = "SELECT at_s, fleet, running, boot_id, level FROM device_states WHERE device = $1 AND at_s <= $3 AND at_s >= \
               COALESCE((SELECT MAX(at_s) FROM device_states WHERE device = $1 AND at_s <= $2), $2) ORDER BY at_s DESC LIMIT $4";
    let rows: Vec<(i64, String, String, String, i64)> = sql::query_as(sql)
        .bind(device.as_str())
        .bind(seconds(span.from_s))
        .bind(seconds(span.until_s))
        .bind(i64::from(STATES_MAX))
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|(at_s, fleet, running, boot_id, level)| {
            let known = usize::try_from(level).ok().and_then(|level| Level::ALL.get(level));
            let running = Some(running).filter(|text| !text.is_empty());
            Ok(DeviceState {
                at_s: from_seconds(at_s),
                fleet: fleet.parse().map_err(StoreError::value)?,
                running: running.map(|r| r.parse()).transpose().map_err(StoreError::value)?,
                boot_id,
                level: known
                    .ok_or_else(|| StoreError::value(format!("level {level}")))?
                    .code()
                    .to_owned(),
            })
        })
        .collect()
}

/// Adds a sample to the hour of a device: one row. An hour has at most [`SAMPLES_MAX`].
pub async fn add_sample(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    sample: &Sample,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO device_metrics (device, at_s, span_s, samples, load_sum, load_max, memory_sum, memory_max, disk_sum, disk_max, points) \
         VALUES ($1, $2, $3, 1, $4, $4, $5, $5, $6, $6, $7) ON CONFLICT (device, span_s, at_s) DO UPDATE SET \
         samples = device_metrics.samples + 1, points = device_metrics.points || excluded.points, \
         load_sum = device_metrics.load_sum + excluded.load_sum, memory_sum = device_metrics.memory_sum + excluded.memory_sum, \
         disk_sum = device_metrics.disk_sum + excluded.disk_sum, \
         load_max = CASE WHEN excluded.load_max > device_metrics.load_max THEN excluded.load_max ELSE device_metrics.load_max END, \
         memory_max = CASE WHEN excluded.memory_max > device_metrics.memory_max THEN excluded.memory_max ELSE device_metrics.memory_max END, \
         disk_max = CASE WHEN excluded.disk_max > device_metrics.disk_max THEN excluded.disk_max ELSE device_metrics.disk_max END \
         WHERE device_metrics.samples < $8";
    let Sample { at_s, load_milli, memory_percent, data_percent } = *sample;
    sql::query(sql)
        .bind(device.as_str())
        .bind(seconds(at_s - at_s % HOUR_S))
        .bind(seconds(HOUR_S))
        .bind(seconds(load_milli))
        .bind(seconds(memory_percent))
        .bind(seconds(data_percent))
        .bind(format!("{at_s},{load_milli},{memory_percent},{data_percent};"))
        .bind(i64::from(SAMPLES_MAX))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct MetricsRow {
    device: String,
    at_s: i64,
    span_s: i64,
    samples: i64,
    load_sum: i64,
    load_max: i64,
    memory_sum: i64,
    memory_max: i64,
    disk_sum: i64,
    disk_max: i64,
    points: String,
}

const METRICS: &str = "device, at_s, span_s, samples, load_sum, load_max, memory_sum, memory_max, disk_sum, disk_max, points";

fn points(text: &str) -> Vec<Sample> {
    let sample = |point: &str| {
        let mut numbers = point.split(',').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        Some(Sample {
            at_s: next()?,
            load_milli: next()?,
            memory_percent: next()?,
            data_percent: next()?,
        })
    };
    text.split_terminator(';').filter_map(sample).collect()
}

impl From<MetricsRow> for Metrics {
    fn from(row: MetricsRow) -> Self {
        let samples = row.samples.max(1);
        let mean = |sum: i64| from_seconds(sum / samples);
        Self {
            at_s: from_seconds(row.at_s),
            span_s: from_seconds(row.span_s),
            samples: from_seconds(row.samples),
            load_milli: mean(row.load_sum),
            load_milli_max: from_seconds(row.load_max),
            memory_percent: mean(row.memory_sum),
            memory_percent_max: from_seconds(row.memory_max),
            data_percent: mean(row.disk_sum),
            data_percent_max: from_seconds(row.disk_max),
            points: points(&row.points),
        }
    }
}

/// The metrics of a device in a span of time: days, then hours, oldest first.
pub async fn metrics(
    connection: &mut Connection,
    device: &DeviceId,
    span: Span,
) -> Result<Vec<Metrics>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {METRICS} FROM device_metrics WHERE device = $1 AND at_s >= $2 AND at_s <= $3 ORDER BY span_s DESC, at_s LIMIT 2000"
    ));
    let rows: Vec<MetricsRow> = sql::query_as(sql)
        .bind(device.as_str())
        .bind(seconds(span.from_s.saturating_sub(span.from_s % HOUR_S)))
        .bind(seconds(span.until_s))
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(Metrics::from).collect())
}

/// Removes the samples of up to `limit` hours before a time. Returns their number.
pub async fn drop_samples(tx: &mut Tx<'_>, before_s: u64, limit: u32) -> Result<u64, StoreError> {
    let sql = "UPDATE device_metrics SET points = '' WHERE (device, span_s, at_s) IN \
               (SELECT device, span_s, at_s FROM device_metrics WHERE points <> '' AND at_s < $1 ORDER BY at_s LIMIT $2)";
    let query = sql::query(sql).bind(seconds(before_s)).bind(i64::from(limit));
    Ok(query.execute(&mut **tx).await?.rows_affected())
}

/// Makes up to `limit` rows of hours before a time rows of their days. Returns their number.
pub async fn roll_up(tx: &mut Tx<'_>, before_s: u64, limit: u32) -> Result<usize, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "DELETE FROM device_metrics WHERE (device, span_s, at_s) IN \
         (SELECT device, span_s, at_s FROM device_metrics WHERE span_s = $1 AND at_s < $2 ORDER BY at_s LIMIT $3) RETURNING {METRICS}"
    ));
    let hours: Vec<MetricsRow> = sql::query_as(sql)
        .bind(seconds(HOUR_S))
        .bind(seconds(before_s))
        .bind(i64::from(limit))
        .fetch_all(&mut **tx)
        .await?;
    let count = hours.len();
    let mut days: BTreeMap<(String, i64), MetricsRow> = BTreeMap::new();
    for hour in hours {
        let day_s = hour.at_s - hour.at_s.rem_euclid(seconds(DAY_S));
        match days.entry((hour.device.clone(), day_s)) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(MetricsRow { at_s: day_s, ..hour });
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let day = entry.get_mut();
                day.samples += hour.samples;
                day.load_sum += hour.load_sum;
                day.memory_sum += hour.memory_sum;
                day.disk_sum += hour.disk_sum;
                day.load_max = day.load_max.max(hour.load_max);
                day.memory_max = day.memory_max.max(hour.memory_max);
                day.disk_max = day.disk_max.max(hour.disk_max);
            }
        }
    }
    for day in days.into_values() {
        add_to_day(tx, &day).await?;
    }
    Ok(count)
}

async fn add_to_day(tx: &mut Tx<'_>, day: &MetricsRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO device_metrics (device, at_s, span_s, samples, load_sum, load_max, memory_sum, memory_max, disk_sum, disk_max, points) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '') ON CONFLICT (device, span_s, at_s) DO UPDATE SET \
         samples = device_metrics.samples + excluded.samples, load_sum = device_metrics.load_sum + excluded.load_sum, \
         memory_sum = device_metrics.memory_sum + excluded.memory_sum, disk_sum = device_metrics.disk_sum + excluded.disk_sum, \
         load_max = CASE WHEN excluded.load_max > device_metrics.load_max THEN excluded.load_max ELSE device_metrics.load_max END, \
         memory_max = CASE WHEN excluded.memory_max > device_metrics.memory_max THEN excluded.memory_max ELSE device_metrics.memory_max END, \
         disk_max = CASE WHEN excluded.disk_max > device_metrics.disk_max THEN excluded.disk_max ELSE device_metrics.disk_max END";
    sql::query(sql)
        .bind(&day.device)
        .bind(day.at_s)
        .bind(seconds(DAY_S))
        .bind(day.samples)
        .bind(day.load_sum)
        .bind(day.load_max)
        .bind(day.memory_sum)
        .bind(day.memory_max)
        .bind(day.disk_sum)
        .bind(day.disk_max)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Deletes up to `limit` rows of days before a time. Returns their number.
pub async fn drop_days(tx: &mut Tx<'_>, before_s: u64, limit: u32) -> Result<u64, StoreError> {
    let sql = "DELETE FROM device_metrics WHERE (device, span_s, at_s) IN \
               (SELECT device, span_s, at_s FROM device_metrics WHERE span_s = $1 AND at_s < $2 ORDER BY at_s LIMIT $3)";
    let query = sql::query(sql).bind(seconds(DAY_S)).bind(seconds(before_s));
    Ok(query.bind(i64::from(limit)).execute(&mut **tx).await?.rows_affected())
}
