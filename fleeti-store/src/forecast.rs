//! What is known of the devices of a fleet before a rollout: counted, or for those that are named.

use crate::attestations::{Found, FoundRow};
use crate::{Connection, Pool, StoreError, from_seconds, seconds, sql};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName, Version};

/// Most devices whose time is measured.
const MEASURED_MAX: i64 = 1000;

/// What is known of devices that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alike {
    /// One of them.
    pub device: DeviceId,
    /// The last attestation result.
    pub found: Found,
    /// The release that they report.
    pub running: Option<ReleaseName>,
    /// Whether they were not heard of.
    pub is_offline: bool,
    /// Whether an operator holds their updates.
    pub is_held: bool,
    /// The release that an operator pinned them to.
    pub pin: Option<ReleaseName>,
    /// The version that failed on them, if its pause has not ended.
    pub penalty: Option<Version>,
    /// Whether they rolled the release back.
    pub has_rolled_back: bool,
    /// How many they are.
    pub devices: usize,
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(flatten)]
    found: FoundRow,
    running: Option<String>,
    is_offline: bool,
    is_held: bool,
    pin: Option<String>,
    penalty: Option<String>,
    has_rolled_back: bool,
    devices: i64,
}

impl TryFrom<Row> for Alike {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            device: row.found.device()?,
            found: row.found.found()?,
            running: row.running.map(|r| r.parse()).transpose().map_err(StoreError::value)?,
            is_offline: row.is_offline,
            is_held: row.is_held,
            pin: row.pin.map(|pin| pin.parse()).transpose().map_err(StoreError::value)?,
            penalty: row.penalty.map(|v| v.parse()).transpose().map_err(StoreError::value)?,
            has_rolled_back: row.has_rolled_back,
            devices: usize::try_from(row.devices).unwrap_or(0),
        })
    }
}

/// Which devices, and what they are asked about.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Their fleet.
    pub fleet: &'a FleetId,
    /// The release.
    pub release: &'a ReleaseName,
    /// Devices that were not heard of since are offline, Unix seconds.
    pub offline_before_s: u64,
    /// Attestation results of before have expired, Unix seconds.
    pub expired_before_s: u64,
    /// Holds and pauses of before have ended, Unix seconds.
    pub now_s: u64,
}

/// Columns and tables of both queries. Results that have expired, and those that have not, are
/// alike each.
const KNOWN: &str = "d.fleet, d.running, a.level, a.update_level, (d.last_seen_s <= $2) AS is_offline, \
    (d.hold_reason IS NOT NULL AND (d.hold_until_s IS NULL OR d.hold_until_s > $5)) AS is_held, d.pin, \
    CASE WHEN d.penalty_until_s IS NULL OR d.penalty_until_s > $5 THEN d.penalty_version END AS penalty, \
    (d.update_kind IN ('rolled_back', 'failed') AND d.update_state LIKE '%rolled_back%' \
    AND d.update_state LIKE $3) AS has_rolled_back";
const FROM: &str = "FROM devices d LEFT JOIN attestations a ON a.device = d.id \
    WHERE d.fleet = $1 AND d.revoked_s IS NULL";

fn target(release: &ReleaseName) -> String {
    format!("%\"target\":\"{}\"%", release.version)
}

/// The devices of a fleet that are not revoked, counted.
pub async fn counted(
    connection: &mut Connection,
    question: Question<'_>,
) -> Result<Vec<Alike>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT MIN(d.id) AS id, {KNOWN}, MIN(a.appraised_s) AS appraised_s, \
         MIN(a.release_name) AS release_name, COUNT(*) AS devices {FROM} \
         GROUP BY d.fleet, d.running, a.level, a.update_level, is_offline, is_held, d.pin, penalty, has_rolled_back, \
         (a.appraised_s > $4)"
    ));
    let rows: Vec<Row> = sql::query_as(sql)
        .bind(question.fleet.as_str())
        .bind(seconds(question.offline_before_s))
        .bind(target(question.release))
        .bind(seconds(question.expired_before_s))
        .bind(seconds(question.now_s))
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Those of these devices that are in the fleet and not revoked, one by one.
pub async fn named(
    connection: &mut Connection,
    question: Question<'_>,
    devices: &[&DeviceId],
) -> Result<Vec<Alike>, StoreError> {
    let sql = sql::Text::each(|dialect| {
        format!(
            "SELECT d.id, {KNOWN}, a.appraised_s, a.release_name, CAST(1 AS BIGINT) AS devices {FROM} \
             AND d.id IN (SELECT value FROM {})",
            dialect.strings_in(4)
        )
    });
    let rows: Vec<Row> = sql::query_as(sql)
        .bind(question.fleet.as_str())
        .bind(seconds(question.offline_before_s))
        .bind(target(question.release))
        .bind(serde_json::to_string(devices)?)
        .bind(seconds(question.now_s))
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// How long devices took from the offer to the success, in the last rollout of the fleet that had
/// any, seconds. Devices that ran the release before are left out.
pub async fn durations(pool: &Pool, fleet: &FleetId) -> Result<Vec<u64>, StoreError> {
    let sql = "SELECT d.since_s - d.offered_s FROM rollout_devices d \
        JOIN rollouts r ON r.id = d.rollout \
        WHERE d.rollout = (SELECT id FROM rollouts WHERE fleet = $1 AND succeeded > 0 \
        ORDER BY created_s DESC, id LIMIT 1) \
        AND d.category = 'succeeded' AND d.offered_s IS NOT NULL \
        AND NOT (d.previous IS NOT DISTINCT FROM r.release_name) ORDER BY d.device LIMIT $2";
    let query = sql::query_scalar(sql).bind(fleet.as_str()).bind(MEASURED_MAX);
    let found: Vec<i64> = query.fetch_all(pool).await?;
    Ok(found.into_iter().map(from_seconds).collect())
}
