//! Alerts about devices, fleets and the server, what happened to them, and groups of them that wait for one message.

use crate::{Connection, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::alert::state::State;
use fleeti_core::alert::{Kind, Severity};
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::alerts::{Alert, AlertChange, HISTORY_MAX};

/// An alert as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRow {
    /// The alert.
    pub alert: Alert,
    /// The attestation level before it fell, for an alert about that.
    pub level: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    rule: String,
    kind: String,
    severity: String,
    device: String,
    fleet: String,
    state: String,
    since_s: i64,
    changed_s: i64,
    times: i64,
    silenced_until_s: Option<i64>,
    level: Option<i64>,
    detail: String,
}

const COLUMNS: &str = "SELECT id, rule, kind, severity, device, fleet, state, since_s, changed_s, times, silenced_until_s, level, detail FROM alerts";

pub(crate) fn state(text: &str) -> Result<State, StoreError> {
    let known = State::ALL.into_iter().find(|state| state.as_str() == text);
    known.ok_or_else(|| StoreError::value(format!("state of an alert {text:?}")))
}

/// A text that stands for nothing if it is empty.
fn some<T: std::str::FromStr>(text: &str) -> Result<Option<T>, StoreError>
where
    T::Err: std::fmt::Display,
{
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|e: T::Err| StoreError::value(e.to_string()))
}

impl TryFrom<Row> for AlertRow {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        let alert = Alert {
            kind: row.kind.parse().map_err(StoreError::value)?,
            severity: row.severity.parse().map_err(StoreError::value)?,
            device: some(&row.device)?,
            fleet: some(&row.fleet)?,
            state: state(&row.state)?,
            since_s: from_seconds(row.since_s),
            changed_s: from_seconds(row.changed_s),
            times: u32::try_from(row.times).unwrap_or(u32::MAX),
            silenced_until_s: row.silenced_until_s.map(from_seconds),
            id: row.id,
            rule: row.rule,
            detail: row.detail,
        };
        Ok(Self { alert, level: row.level })
    }
}

fn device_of(alert: &Alert) -> &str {
    alert.device.as_ref().map_or("", DeviceId::as_str)
}

fn fleet_of(alert: &Alert) -> &str {
    alert.fleet.as_ref().map_or("", FleetId::as_str)
}

async fn all(
    connection: &mut Connection,
    query: sql::QueryAs<'_, Row>,
) -> Result<Vec<AlertRow>, StoreError> {
    query.fetch_all(connection).await?.into_iter().map(AlertRow::try_from).collect()
}

/// The alerts about a device that are not resolved.
pub async fn active(
    connection: &mut Connection,
    device: &DeviceId,
) -> Result<Vec<AlertRow>, StoreError> {
    let sql = format!("{COLUMNS} WHERE device = $1 AND state <> 'resolved'");
    all(connection, sql::query_as(sql::AssertSqlSafe(sql)).bind(device.as_str())).await
}

/// The alerts about a fleet as a whole that are not resolved; `None` stands for the server.
pub async fn active_of_fleet(
    connection: &mut Connection,
    fleet: Option<&FleetId>,
) -> Result<Vec<AlertRow>, StoreError> {
    let sql = format!("{COLUMNS} WHERE device = '' AND fleet = $1 AND state <> 'resolved'");
    let fleet = fleet.map_or("", FleetId::as_str);
    all(connection, sql::query_as(sql::AssertSqlSafe(sql)).bind(fleet)).await
}

/// The alerts about devices that are not resolved.
pub async fn active_of(
    connection: &mut Connection,
    devices: &[&DeviceId],
) -> Result<Vec<AlertRow>, StoreError> {
    let sql = sql::Text::each(|dialect| {
        format!(
            "{COLUMNS} WHERE device IN (SELECT value FROM {}) AND state <> 'resolved'",
            dialect.strings_in(1)
        )
    });
    all(connection, sql::query_as(sql).bind(serde_json::to_string(devices)?)).await
}

/// The newest alert of a rule, whatever its state: about a device, about a fleet as a whole if there
/// is no device, and about the server if there is no fleet either.
pub async fn newest(
    connection: &mut Connection,
    rule: &str,
    (fleet, device): (Option<&FleetId>, Option<&DeviceId>),
) -> Result<Option<AlertRow>, StoreError> {
    // A device may have been in another fleet.
    let fleet_of = if device.is_some() { "" } else { "AND fleet = $3 " };
    let sql = format!(
        "{COLUMNS} WHERE device = $1 AND rule = $2 {fleet_of}ORDER BY changed_s DESC, id DESC LIMIT 1"
    );
    let query = sql::query_as(sql::AssertSqlSafe(sql)).bind(device.map_or("", DeviceId::as_str));
    let query = query.bind(rule);
    let query = match device {
        Some(_) => query,
        None => query.bind(fleet.map_or("", FleetId::as_str)),
    };
    Ok(all(connection, query).await?.pop())
}

/// Up to `limit` alerts of a rule that are not resolved.
pub async fn active_of_rule(
    connection: &mut Connection,
    rule: &str,
    limit: u32,
) -> Result<Vec<AlertRow>, StoreError> {
    let sql = format!("{COLUMNS} WHERE rule = $1 AND state <> 'resolved' LIMIT $2");
    let query = sql::query_as(sql::AssertSqlSafe(sql)).bind(rule).bind(i64::from(limit));
    all(connection, query).await
}

/// Up to `limit` alerts of a kind about fleets as a whole that are not resolved.
pub async fn active_of_fleets(
    connection: &mut Connection,
    kind: Kind,
    limit: u32,
) -> Result<Vec<AlertRow>, StoreError> {
    let sql = format!(
        "{COLUMNS} WHERE device = '' AND kind = $1 AND fleet <> '' AND state <> 'resolved' LIMIT $2"
    );
    let query = sql::query_as(sql::AssertSqlSafe(sql)).bind(kind.code()).bind(i64::from(limit));
    all(connection, query).await
}

/// Adds an alert.
pub async fn insert(tx: &mut Tx<'_>, row: &AlertRow) -> Result<(), StoreError> {
    let alert = &row.alert;
    let sql = "INSERT INTO alerts (id, rule, kind, severity, device, fleet, state, since_s, changed_s, times, silenced_until_s, level, detail) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    sql::query(sql)
        .bind(&alert.id)
        .bind(&alert.rule)
        .bind(alert.kind.code())
        .bind(alert.severity.as_str())
        .bind(device_of(alert))
        .bind(fleet_of(alert))
        .bind(alert.state.as_str())
        .bind(seconds(alert.since_s))
        .bind(seconds(alert.changed_s))
        .bind(alert.times)
        .bind(alert.silenced_until_s.map(seconds))
        .bind(row.level)
        .bind(&alert.detail)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Stores what has changed of an alert.
pub async fn update(tx: &mut Tx<'_>, alert: &Alert) -> Result<(), StoreError> {
    let sql = "UPDATE alerts SET state = $2, changed_s = $3, times = $4, silenced_until_s = $5, detail = $6, fleet = $7 WHERE id = $1";
    sql::query(sql)
        .bind(&alert.id)
        .bind(alert.state.as_str())
        .bind(seconds(alert.changed_s))
        .bind(alert.times)
        .bind(alert.silenced_until_s.map(seconds))
        .bind(&alert.detail)
        .bind(fleet_of(alert))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Adds an entry to the history of an alert, and removes its oldest ones beyond [`HISTORY_MAX`].
pub async fn add_change(
    tx: &mut Tx<'_>,
    alert: &str,
    change: &AlertChange,
) -> Result<(), StoreError> {
    let sql =
        "INSERT INTO alert_changes (alert, at_s, state, actor, note) VALUES ($1, $2, $3, $4, $5)";
    sql::query(sql)
        .bind(alert)
        .bind(seconds(change.at_s))
        .bind(change.state.as_str())
        .bind(&change.by)
        .bind(&change.note)
        .execute(&mut **tx)
        .await?;
    let sql = "DELETE FROM alert_changes WHERE alert = $1 AND number <= \
               (SELECT number FROM alert_changes WHERE alert = $1 ORDER BY number DESC LIMIT 1 OFFSET $2)";
    sql::query(sql).bind(alert).bind(i64::from(HISTORY_MAX)).execute(&mut **tx).await?;
    Ok(())
}

/// An alert.
pub async fn get(connection: &mut Connection, id: &str) -> Result<Option<AlertRow>, StoreError> {
    let sql = format!("{COLUMNS} WHERE id = $1");
    Ok(all(connection, sql::query_as(sql::AssertSqlSafe(sql)).bind(id)).await?.pop())
}

/// The history of an alert, oldest first.
pub async fn changes(
    connection: &mut Connection,
    alert: &str,
) -> Result<Vec<AlertChange>, StoreError> {
    let sql = "SELECT at_s, state, actor, note FROM alert_changes WHERE alert = $1 ORDER BY number LIMIT $2";
    let rows: Vec<(i64, String, String, String)> = sql::query_as(sql)
        .bind(alert)
        .bind(i64::from(HISTORY_MAX) + 1)
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|(at_s, text, by, note)| {
            Ok(AlertChange { at_s: from_seconds(at_s), state: state(&text)?, by, note })
        })
        .collect()
}

/// Selects alerts, newest first.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Only alerts about devices of this fleet.
    pub fleet: Option<&'a FleetId>,
    /// Also resolved ones.
    pub all: bool,
    /// Older than this alert; empty for the newest.
    pub after: &'a str,
    /// Maximum number.
    pub limit: u32,
}

/// A page of alerts, newest first.
pub async fn page(
    connection: &mut Connection,
    page: Page<'_>,
) -> Result<Vec<AlertRow>, StoreError> {
    // Two conditions that the database can follow in an index: an id is after the character of all ids.
    let state = if page.all { "" } else { "state <> 'resolved' AND " };
    let fleet = if page.fleet.is_some() { "fleet = $3 AND " } else { "" };
    let sql = format!("{COLUMNS} WHERE {state}{fleet}id < $1 ORDER BY id DESC LIMIT $2");
    let after = if page.after.is_empty() { "~" } else { page.after };
    let query = sql::query_as(sql::AssertSqlSafe(sql)).bind(after).bind(i64::from(page.limit));
    let query = match page.fleet {
        Some(fleet) => query.bind(fleet.as_str()),
        None => query,
    };
    all(connection, query).await
}

/// Number of alerts that are not resolved, by severity.
pub async fn counts(connection: &mut Connection) -> Result<Vec<(Severity, u64)>, StoreError> {
    let sql = "SELECT severity, COUNT(*) FROM alerts WHERE state <> 'resolved' GROUP BY severity";
    let rows: Vec<(String, i64)> = sql::query_as(sql).fetch_all(connection).await?;
    rows.into_iter()
        .map(|(severity, n)| Ok((severity.parse().map_err(StoreError::value)?, from_seconds(n))))
        .collect()
}

/// Up to `limit` alerts whose silence has ended and that are not resolved.
pub async fn silence_ended(
    connection: &mut Connection,
    now_s: u64,
    limit: u32,
) -> Result<Vec<AlertRow>, StoreError> {
    let sql = format!("{COLUMNS} WHERE silenced_until_s <= $1 ORDER BY silenced_until_s LIMIT $2");
    let query = sql::query_as(sql::AssertSqlSafe(sql)).bind(seconds(now_s));
    all(connection, query.bind(i64::from(limit))).await
}

/// Deletes up to `limit` alerts that were resolved before a time, with their history.
pub async fn prune(tx: &mut Tx<'_>, before_s: u64, limit: u32) -> Result<u64, StoreError> {
    const OLD: &str = "SELECT id FROM alerts WHERE state = 'resolved' AND changed_s < $1 ORDER BY changed_s LIMIT $2";
    let changes = format!("DELETE FROM alert_changes WHERE alert IN ({OLD})");
    let alerts = format!("DELETE FROM alerts WHERE id IN ({OLD})");
    let mut removed = 0;
    for sql in [changes, alerts] {
        let query = sql::query(sql::AssertSqlSafe(sql)).bind(seconds(before_s));
        removed = query.bind(i64::from(limit)).execute(&mut **tx).await?.rows_affected();
    }
    Ok(removed)
}

/// Counts of alerts of one rule in one fleet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Number of alerts that began.
    pub raised: u32,
    /// Number of alerts that ended.
    pub resolved: u32,
}

/// When a group is told.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Now.
    pub now_s: u64,
    /// Time from the first alert of a group to its message.
    pub wait_s: u64,
    /// Shortest time between two messages of a group.
    pub interval_s: u64,
}

/// Adds alerts to the group that waits for the next message of a rule in a fleet.
pub async fn add_to_group(
    tx: &mut Tx<'_>,
    (rule, fleet): (&str, Option<&FleetId>),
    counted: Counted,
    pace: Pace,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO alert_groups (rule, fleet, raised, resolved, due_s, sent_s) VALUES ($1, $2, $3, $4, $5, 0) \
               ON CONFLICT (rule, fleet) DO UPDATE SET raised = alert_groups.raised + excluded.raised, resolved = alert_groups.resolved + excluded.resolved, \
               due_s = COALESCE(alert_groups.due_s, CASE WHEN alert_groups.sent_s + $6 > excluded.due_s THEN alert_groups.sent_s + $6 ELSE excluded.due_s END)";
    sql::query(sql)
        .bind(rule)
        .bind(fleet.map_or("", FleetId::as_str))
        .bind(counted.raised)
        .bind(counted.resolved)
        .bind(seconds(pace.now_s + pace.wait_s))
        .bind(seconds(pace.interval_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A group whose message is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The rule.
    pub rule: String,
    /// The fleet.
    pub fleet: Option<FleetId>,
    /// What waits.
    pub counted: Counted,
}

/// Up to `limit` groups whose message is due.
pub async fn due_groups(
    connection: &mut Connection,
    now_s: u64,
    limit: u32,
) -> Result<Vec<Group>, StoreError> {
    let sql = "SELECT rule, fleet, raised, resolved FROM alert_groups WHERE due_s <= $1 ORDER BY due_s LIMIT $2";
    let rows: Vec<(String, String, i64, i64)> = sql::query_as(sql)
        .bind(seconds(now_s))
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    let number = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    rows.into_iter()
        .map(|(rule, fleet, raised, resolved)| {
            let counted = Counted { raised: number(raised), resolved: number(resolved) };
            Ok(Group { rule, fleet: some(&fleet)?, counted })
        })
        .collect()
}

/// Empties a group whose message was sent.
pub async fn group_sent(tx: &mut Tx<'_>, group: &Group, now_s: u64) -> Result<(), StoreError> {
    let sql = "UPDATE alert_groups SET raised = 0, resolved = 0, due_s = NULL, sent_s = $3 WHERE rule = $1 AND fleet = $2";
    sql::query(sql)
        .bind(&group.rule)
        .bind(group.fleet.as_ref().map_or("", FleetId::as_str))
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The newest alerts of a group, resolved or not.
pub async fn newest_of_group(
    connection: &mut Connection,
    group: &Group,
    resolved: bool,
    limit: u32,
) -> Result<Vec<AlertRow>, StoreError> {
    let state = if resolved { "=" } else { "<>" };
    let sql = format!(
        "{COLUMNS} WHERE rule = $1 AND fleet = $2 AND state {state} 'resolved' ORDER BY changed_s DESC LIMIT $3"
    );
    let query = sql::query_as(sql::AssertSqlSafe(sql)).bind(&group.rule);
    let query = query.bind(group.fleet.as_ref().map_or("", FleetId::as_str));
    all(connection, query.bind(i64::from(limit))).await
}
