//! Rules of alerts, silences, and which devices must be looked at because of time.

use crate::batch::push_rows;
use crate::sql::QueryBuilder;
use crate::{Connection, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::alert::Rule;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::wire::alerts::Silence;

/// The rules that an operator changed or added.
pub async fn rules(connection: &mut Connection) -> Result<Vec<Rule>, StoreError> {
    let sql = "SELECT id, kind, threshold, severity, fleets, enabled FROM alert_rules ORDER BY id";
    let rows: Vec<(String, String, i64, String, String, i64)> =
        sql::query_as(sql).fetch_all(connection).await?;
    rows.into_iter()
        .map(|(id, kind, threshold, severity, fleets, enabled)| {
            Ok(Rule {
                id,
                kind: kind.parse().map_err(StoreError::value)?,
                threshold: from_seconds(threshold),
                severity: severity.parse().map_err(StoreError::value)?,
                fleets: serde_json::from_str(&fleets)?,
                enabled: enabled != 0,
            })
        })
        .collect()
}

/// Stores a rule, in place of an earlier one with its id.
pub async fn put(tx: &mut Tx<'_>, rule: &Rule) -> Result<(), StoreError> {
    let sql = "INSERT INTO alert_rules (id, kind, threshold, severity, fleets, enabled) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, threshold = excluded.threshold, severity = excluded.severity, \
               fleets = excluded.fleets, enabled = excluded.enabled";
    sql::query(sql)
        .bind(&rule.id)
        .bind(rule.kind.code())
        .bind(seconds(rule.threshold))
        .bind(rule.severity.as_str())
        .bind(serde_json::to_string(&rule.fleets)?)
        .bind(i64::from(rule.enabled))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes a changed or added rule. Returns whether there was one.
pub async fn remove(tx: &mut Tx<'_>, id: &str) -> Result<bool, StoreError> {
    let done =
        sql::query("DELETE FROM alert_rules WHERE id = $1").bind(id).execute(&mut **tx).await?;
    Ok(done.rows_affected() == 1)
}

/// Makes every device be looked at, in chunks by [`sweep`].
pub async fn begin_sweep(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let sql = "INSERT INTO alert_sweep (name, reached) VALUES ('devices', '') ON CONFLICT (name) DO UPDATE SET reached = ''";
    sql::query(sql).execute(&mut **tx).await?;
    Ok(())
}

/// Whether devices are left for [`sweep`].
pub async fn is_sweeping(connection: &mut Connection) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM alert_sweep";
    let count: i64 = sql::query_scalar(sql).fetch_one(connection).await?;
    Ok(count > 0)
}

/// Marks the next devices to be looked at. Returns their number.
pub async fn sweep(tx: &mut Tx<'_>, limit: u32) -> Result<usize, StoreError> {
    let reached: Option<String> =
        sql::query_scalar("SELECT reached FROM alert_sweep WHERE name = 'devices'")
            .fetch_optional(&mut **tx)
            .await?;
    let Some(reached) = reached else { return Ok(0) };
    let sql = "SELECT id FROM devices WHERE id > $1 ORDER BY id LIMIT $2";
    let ids: Vec<String> =
        sql::query_scalar(sql).bind(&reached).bind(i64::from(limit)).fetch_all(&mut **tx).await?;
    let Some(last) = ids.last() else {
        sql::query("DELETE FROM alert_sweep WHERE name = 'devices'").execute(&mut **tx).await?;
        return Ok(0);
    };
    let sql = "UPDATE devices SET watch_s = 0 WHERE id > $1 AND id <= $2";
    sql::query(sql).bind(&reached).bind(last).execute(&mut **tx).await?;
    let sql = "UPDATE alert_sweep SET reached = $1 WHERE name = 'devices'";
    sql::query(sql).bind(last).execute(&mut **tx).await?;
    Ok(ids.len())
}

/// What is known of a device that must be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The device.
    pub device: DeviceId,
    /// Its fleet.
    pub fleet: FleetId,
    /// When the server last got something from it.
    pub last_seen_s: u64,
    /// When its certificate ends.
    pub certificate_not_after_s: u64,
    /// Since when it runs another release than its desired one.
    pub drift_since_s: Option<u64>,
    /// What it reports that it runs.
    pub running: Option<ReleaseName>,
    /// What it should run.
    pub desired: Option<ReleaseName>,
}

/// Up to `limit` devices that must be looked at now, by one index.
pub async fn watched(
    connection: &mut Connection,
    now_s: u64,
    limit: u32,
) -> Result<Vec<Watched>, StoreError> {
    #[derive(sqlx::FromRow)]
    struct Row {
        id: String,
        fleet: String,
        last_seen_s: i64,
        certificate_not_after_s: i64,
        drift_since_s: Option<i64>,
        running: Option<String>,
        desired_release: Option<String>,
    }
    let sql = "SELECT id, fleet, last_seen_s, certificate_not_after_s, drift_since_s, running, desired_release FROM devices \
               WHERE revoked_s IS NULL AND watch_s <= $1 ORDER BY watch_s LIMIT $2";
    let rows: Vec<Row> = sql::query_as(sql)
        .bind(seconds(now_s))
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    let release =
        |text: Option<String>| text.map(|t| t.parse()).transpose().map_err(StoreError::value);
    rows.into_iter()
        .map(|row| {
            Ok(Watched {
                device: row.id.parse().map_err(StoreError::value)?,
                fleet: row.fleet.parse().map_err(StoreError::value)?,
                last_seen_s: from_seconds(row.last_seen_s),
                certificate_not_after_s: from_seconds(row.certificate_not_after_s),
                drift_since_s: row.drift_since_s.map(from_seconds),
                running: release(row.running)?,
                desired: release(row.desired_release)?,
            })
        })
        .collect()
}

/// When a device must be looked at next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The device.
    pub device: DeviceId,
    /// When, Unix seconds.
    pub watch_s: u64,
    /// Since when it runs another release than its desired one.
    pub drift_since_s: Option<u64>,
}

/// Sets when devices must be looked at next.
pub async fn set_watches(tx: &mut Tx<'_>, watches: &[Watch]) -> Result<(), StoreError> {
    if watches.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::new(
        "UPDATE devices SET watch_s = new.column2, drift_since_s = new.column3 FROM (",
    );
    push_rows(&mut query, watches.iter(), |row, watch| {
        row.push_bind(watch.device.as_str())
            .push_bind(seconds(watch.watch_s))
            .push_bind(watch.drift_since_s.map(seconds));
    });
    query.push(") AS new WHERE devices.id = new.column1");
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// Makes a device be looked at now.
pub async fn watch_now(tx: &mut Tx<'_>, device: &DeviceId) -> Result<(), StoreError> {
    let sql = "UPDATE devices SET watch_s = 0 WHERE id = $1";
    sql::query(sql).bind(device.as_str()).execute(&mut **tx).await?;
    Ok(())
}

/// All silences that have not ended before a time, oldest first.
pub async fn silences(
    connection: &mut Connection,
    ends_after_s: u64,
) -> Result<Vec<Silence>, StoreError> {
    #[derive(sqlx::FromRow)]
    struct Row {
        id: String,
        rule: Option<String>,
        fleet: Option<String>,
        device: Option<String>,
        from_s: i64,
        until_s: i64,
        reason: String,
        actor: String,
    }
    let sql = "SELECT id, rule, fleet, device, from_s, until_s, reason, actor FROM alert_silences WHERE until_s > $1 ORDER BY id";
    let rows: Vec<Row> =
        sql::query_as(sql).bind(seconds(ends_after_s)).fetch_all(connection).await?;
    rows.into_iter()
        .map(|row| {
            Ok(Silence {
                id: row.id,
                rule: row.rule,
                fleet: row.fleet.map(|f| f.parse()).transpose().map_err(StoreError::value)?,
                device: row.device.map(|d| d.parse()).transpose().map_err(StoreError::value)?,
                from_s: from_seconds(row.from_s),
                until_s: from_seconds(row.until_s),
                reason: row.reason,
                by: row.actor,
            })
        })
        .collect()
}

/// Adds a silence, and deletes those that have ended.
pub async fn add_silence(tx: &mut Tx<'_>, silence: &Silence, now_s: u64) -> Result<(), StoreError> {
    sql::query("DELETE FROM alert_silences WHERE until_s <= $1")
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    let sql = "INSERT INTO alert_silences (id, rule, fleet, device, from_s, until_s, reason, actor) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    sql::query(sql)
        .bind(&silence.id)
        .bind(&silence.rule)
        .bind(silence.fleet.as_ref().map(FleetId::as_str))
        .bind(silence.device.as_ref().map(DeviceId::as_str))
        .bind(seconds(silence.from_s))
        .bind(seconds(silence.until_s))
        .bind(&silence.reason)
        .bind(&silence.by)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes a silence. Returns whether there was one.
pub async fn remove_silence(tx: &mut Tx<'_>, id: &str) -> Result<bool, StoreError> {
    let sql = "DELETE FROM alert_silences WHERE id = $1";
    Ok(sql::query(sql).bind(id).execute(&mut **tx).await?.rows_affected() == 1)
}
