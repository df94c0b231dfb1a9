//! What happened to one device, newest first: states, alerts, commands and rollouts. Every function
//! reads at most the rows that it names.

use crate::commands::seen;
use crate::rollout_devices::phase;
use crate::{Connection, StoreError, from_seconds, seconds, sql};
use fleeti_core::alert::{Kind, Severity, state::State};
use fleeti_core::attestation::Level;
use fleeti_core::command;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::rollout::DevicePhase;

/// Maximum number of rollouts of which the part of a device is looked for.
const ROLLOUTS_MAX: i64 = 200;

/// Selects a part of a timeline: what happened before a time.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// Before this time, Unix seconds.
    pub before_s: u64,
    /// Maximum number of rows.
    pub limit: u32,
}

/// A state of a device from a time on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRow {
    /// From when on.
    pub at_s: u64,
    /// Its fleet.
    pub fleet: FleetId,
    /// The release that it reported; `None` before its first report.
    pub running: Option<ReleaseName>,
    /// Its boot; empty before its first report.
    pub boot_id: String,
    /// Its attestation level.
    pub level: Level,
}

/// States of a device.
pub async fn states(
    connection: &mut Connection,
    part: Part<'_>,
) -> Result<Vec<StateRow>, StoreError> {
    let sql = "SELECT at_s, fleet, running, boot_id, level FROM device_states \
               WHERE device = $1 AND at_s < $2 ORDER BY at_s DESC LIMIT $3";
    let rows: Vec<(i64, String, String, String, i64)> = fetch(connection, sql, part).await?;
    let state = |(at_s, fleet, running, boot_id, level): (i64, String, String, String, i64)| {
        let running = Some(running).filter(|text| !text.is_empty());
        let known = usize::try_from(level).ok().and_then(|level| Level::ALL.get(level));
        Ok(StateRow {
            at_s: from_seconds(at_s),
            fleet: fleet.parse().map_err(StoreError::value)?,
            running: running.map(|r| r.parse()).transpose().map_err(StoreError::value)?,
            boot_id,
            level: *known.ok_or_else(|| StoreError::value(format!("level {level}")))?,
        })
    };
    rows.into_iter().map(state).collect()
}

async fn fetch<T: sql::Row>(
    connection: &mut Connection,
    sql: &'static str,
    part: Part<'_>,
) -> Result<Vec<T>, StoreError> {
    let query = sql::query_as(sql).bind(part.device.as_str()).bind(seconds(part.before_s));
    query.bind(i64::from(part.limit)).fetch_all(connection).await
}

/// A change of an alert about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRow {
    /// When.
    pub at_s: u64,
    /// Its state since then.
    pub state: State,
    /// Who changed it.
    pub by: String,
    /// The alert.
    pub id: String,
    /// What it is about.
    pub kind: Kind,
    /// How severe it is.
    pub severity: Severity,
    /// What is the case.
    pub detail: String,
}

/// Changes of alerts about a device.
pub async fn alerts(
    connection: &mut Connection,
    part: Part<'_>,
) -> Result<Vec<AlertRow>, StoreError> {
    let sql = "SELECT c.at_s, c.state, c.actor, a.id, a.kind, a.severity, a.detail \
               FROM alerts a JOIN alert_changes c ON c.alert = a.id \
               WHERE a.device = $1 AND c.at_s < $2 ORDER BY c.at_s DESC, c.number DESC LIMIT $3";
    type Columns = (i64, String, String, String, String, String, String);
    let rows: Vec<Columns> = fetch(connection, sql, part).await?;
    let alert = |(at_s, state, by, id, kind, severity, detail): Columns| {
        Ok(AlertRow {
            at_s: from_seconds(at_s),
            state: crate::alerts::state(&state)?,
            by,
            id,
            kind: kind.parse().map_err(StoreError::value)?,
            severity: severity.parse().map_err(StoreError::value)?,
            detail,
        })
    };
    rows.into_iter().map(alert).collect()
}

/// A command to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRow {
    /// When it was made.
    pub at_s: u64,
    /// Its kind, as JSON.
    pub kind: String,
    /// Its state.
    pub state: command::State,
}

/// Commands to a device.
pub async fn commands(
    connection: &mut Connection,
    part: Part<'_>,
    now_s: u64,
) -> Result<Vec<CommandRow>, StoreError> {
    let sql = "SELECT created_s, deadline_s, kind, status FROM commands \
               WHERE device = $1 AND created_s < $2 ORDER BY created_s DESC, id LIMIT $3";
    let rows: Vec<(i64, i64, String, String)> = fetch(connection, sql, part).await?;
    let read = |(at_s, deadline_s, kind, status): (i64, i64, String, String)| {
        let wrong = || StoreError::value(format!("a command is {status:?}"));
        let state = command::State::named(&status).ok_or_else(wrong)?;
        let state = seen(state, from_seconds(deadline_s), now_s);
        Ok(CommandRow { at_s: from_seconds(at_s), kind, state })
    };
    rows.into_iter().map(read).collect()
}

/// The part of a device in a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRow {
    /// Since when it has its phase.
    pub at_s: u64,
    /// The rollout.
    pub rollout: String,
    /// Its release.
    pub release: ReleaseName,
    /// The phase of the device.
    pub phase: DevicePhase,
}

/// The part of a device in the newest rollouts that began before the time.
pub async fn rollouts(
    connection: &mut Connection,
    part: Part<'_>,
) -> Result<Vec<RolloutRow>, StoreError> {
    let sql = "SELECT d.since_s, r.id, r.release_name, d.phase, d.detail FROM \
               (SELECT id, release_name FROM rollouts WHERE created_s < $2 ORDER BY created_s DESC LIMIT $4) AS r \
               JOIN rollout_devices d ON d.rollout = r.id AND d.device = $1 \
               WHERE d.since_s < $2 ORDER BY d.since_s DESC, r.id LIMIT $3";
    type Columns = (i64, String, String, String, Option<String>);
    let rows: Vec<Columns> = sql::query_as(sql)
        .bind(part.device.as_str())
        .bind(seconds(part.before_s))
        .bind(i64::from(part.limit))
        .bind(ROLLOUTS_MAX)
        .fetch_all(connection)
        .await?;
    let rollout = |(at_s, rollout, release, name, detail): Columns| {
        Ok(RolloutRow {
            at_s: from_seconds(at_s),
            rollout,
            release: release.parse().map_err(StoreError::value)?,
            phase: phase(&name, detail.as_deref())?,
        })
    };
    rows.into_iter().map(rollout).collect()
}
