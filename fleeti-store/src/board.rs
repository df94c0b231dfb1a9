//! Numbers of all devices, by fleet. Each statement reads every device of an index once, so callers
//! keep the result and do not ask for each reader.

use crate::{Pool, StoreError, from_seconds, seconds, sql};
use fleeti_core::attestation::Level;
use fleeti_core::id::{FleetId, ReleaseName};

/// Devices that are not revoked. Neither this nor [`FLEET`] is the column itself, by which SQLite would
/// choose an index that has not all columns.
const NOT_REVOKED: &str = "COALESCE(d.revoked_s, 0) = 0";
const FLEET: &str = "COALESCE(d.fleet, '')";

/// Text of the statement of [`releases`].
pub const RELEASES: &str = "SELECT COALESCE(d.fleet, '') AS of_fleet, COALESCE(d.running, '') AS release_name, \
     COALESCE(d.update_kind, '') AS state, COUNT(*) AS devices FROM devices d \
     WHERE COALESCE(d.revoked_s, 0) = 0 GROUP BY of_fleet, release_name, state";

/// Text of the statement of [`levels`]. `$1` is the time after which evidence counts.
pub const LEVELS: &str = "SELECT COALESCE(d.fleet, '') AS of_fleet, \
     CASE WHEN a.appraised_s > $1 OR a.level = 0 THEN a.level ELSE NULL END AS shown, COUNT(*) AS devices \
     FROM devices d LEFT JOIN attestations a ON a.device = d.id AND a.appraised_s > -1 \
     WHERE COALESCE(d.revoked_s, 0) = 0 GROUP BY of_fleet, shown";

fn fleet(text: &str) -> Result<FleetId, StoreError> {
    text.parse().map_err(StoreError::value)
}

/// Devices of a fleet with the same release and update state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The fleet.
    pub fleet: FleetId,
    /// The release that they report; `None` before the first report.
    pub release: Option<ReleaseName>,
    /// Name of the update state.
    pub update: String,
    /// Their number.
    pub devices: u64,
}

/// Devices that are not revoked, by fleet, reported release and update state.
pub async fn releases(pool: &Pool) -> Result<Vec<Running>, StoreError> {
    let rows: Vec<(String, String, String, i64)> = sql::query_as(RELEASES).fetch_all(pool).await?;
    let running = |(of, release, update, devices): (String, String, String, i64)| {
        let release = Some(release).filter(|name| !name.is_empty());
        Ok(Running {
            fleet: fleet(&of)?,
            release: release.map(|r| r.parse()).transpose().map_err(StoreError::value)?,
            update,
            devices: from_seconds(devices),
        })
    };
    rows.into_iter().map(running).collect()
}

/// Devices that are not revoked, by fleet and attestation level at a time. Without evidence that was
/// appraised after `fresh_after_s`, a level is at most [`Level::Token`].
pub async fn levels(
    pool: &Pool,
    fresh_after_s: u64,
) -> Result<Vec<(FleetId, Level, u64)>, StoreError> {
    let rows: Vec<(String, Option<i64>, i64)> =
        sql::query_as(LEVELS).bind(seconds(fresh_after_s)).fetch_all(pool).await?;
    let row = |(of, level, devices): (String, Option<i64>, i64)| {
        let known = level.and_then(|n| Level::ALL.get(usize::try_from(n).ok()?));
        Ok((fleet(&of)?, known.copied().unwrap_or(Level::Token), from_seconds(devices)))
    };
    rows.into_iter().map(row).collect()
}

/// Numbers of devices of fleets.
pub type ByFleet = Vec<(FleetId, u64)>;

async fn by_fleet(pool: &Pool, condition: &str) -> Result<ByFleet, StoreError> {
    let sql = format!(
        "SELECT {FLEET} AS of_fleet, COUNT(*) FROM devices d WHERE {condition} GROUP BY of_fleet"
    );
    let rows: Vec<(String, i64)> = sql::query_as(sql::AssertSqlSafe(sql)).fetch_all(pool).await?;
    rows.iter().map(|(of, devices)| Ok((fleet(of)?, from_seconds(*devices)))).collect()
}

/// Devices that run another release than their desired one, by fleet.
pub async fn drifting(pool: &Pool) -> Result<ByFleet, StoreError> {
    by_fleet(pool, &format!("d.drift_since_s IS NOT NULL AND {NOT_REVOKED}")).await
}

/// Devices that are revoked, by fleet.
pub async fn revoked(pool: &Pool) -> Result<ByFleet, StoreError> {
    by_fleet(pool, "d.revoked_s IS NOT NULL").await
}

/// Devices that raise an alarm, or whose attestation failed, by fleet and update state.
pub async fn alarms(pool: &Pool) -> Result<Vec<(FleetId, String, u64)>, StoreError> {
    let columns = ["alarm", "report_refused", "clone_alarm", "attestation_failure"];
    // Each part is read from its own index.
    let ids: Vec<_> =
        columns.iter().map(|c| format!("SELECT id FROM devices WHERE {c} IS NOT NULL")).collect();
    let sql = format!(
        "SELECT {FLEET} AS of_fleet, d.update_kind, COUNT(*) FROM devices d WHERE d.id IN ({}) AND {NOT_REVOKED} \
         GROUP BY of_fleet, d.update_kind",
        ids.join(" UNION ")
    );
    let rows: Vec<(String, String, i64)> =
        sql::query_as(sql::AssertSqlSafe(sql)).fetch_all(pool).await?;
    rows.into_iter()
        .map(|(of, update, devices)| Ok((fleet(&of)?, update, from_seconds(devices))))
        .collect()
}
