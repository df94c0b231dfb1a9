//! Headers of rollouts: phase, counters, and how far the chunks are. Their devices are in
//! [`super::rollout_devices`].

use crate::page::After;
use crate::{Connection, Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::rollout::device::Device;
use fleeti_core::rollout::header::Header;
use fleeti_core::rollout::plan::Plan;
use fleeti_core::rollout::{Counts, Phase};
use fleeti_core::wire::api::{RolloutSummary, Urgent};

/// A rollout as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRollout {
    /// Rollout id.
    pub id: String,
    /// The fleet of the rollout.
    pub fleet: FleetId,
    /// When the rollout started, Unix seconds.
    pub created_s: u64,
    /// The release that is rolled out.
    pub release: ReleaseName,
    /// Phase and counters.
    pub header: Header,
    /// The last device of the last chunk, while the rollout starts or is aborted.
    pub reached: String,
    /// The last device that was compared with a new policy of the fleet; `None` if none is left.
    pub appraised: Option<String>,
    /// The last device that was checked for an offer of the release, after that was revoked; `None`
    /// if none is left.
    pub withdrawn: Option<String>,
    /// How it proceeds; `None` for everybody at once.
    pub plan: Option<Plan>,
    /// When it has something to do without an event, Unix seconds.
    pub due_s: Option<u64>,
    /// The rollout that starts when the last offer of this one is withdrawn.
    pub next: Option<String>,
    /// The rollout whose devices go back to what they ran before.
    pub back_of: Option<String>,
    /// Why it is urgent; `None` if it is not.
    pub urgent: Option<String>,
}

impl StoredRollout {
    /// A rollout that is ready to begin.
    #[must_use]
    pub fn ready(id: String, fleet: FleetId, release: ReleaseName, now_s: u64) -> Self {
        Self {
            id,
            fleet,
            created_s: now_s,
            release,
            header: Header::default(),
            reached: String::new(),
            appraised: None,
            withdrawn: None,
            plan: None,
            due_s: None,
            next: None,
            back_of: None,
            urgent: None,
        }
    }

    /// Whether devices are left that the rollout must add, compare or withdraw, in chunks.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let is_active = match self.header.phase {
            Phase::Starting | Phase::Pausing | Phase::Aborting => true,
            Phase::Running | Phase::Paused => self.appraised.is_some(),
            Phase::Ready | Phase::Succeeded | Phase::Failed | Phase::Aborted => false,
        };
        is_active || self.withdrawn.is_some()
    }
}

impl From<&StoredRollout> for RolloutSummary {
    fn from(r: &StoredRollout) -> Self {
        Self {
            id: r.id.clone(),
            fleet: r.fleet.clone(),
            created_s: r.created_s,
            release: r.release.clone(),
            phase: r.header.phase,
            counts: r.header.counts,
            plan: r.plan.clone(),
            waves: r.header.waves.clone(),
            follows: r.next.clone(),
            back_of: r.back_of.clone(),
            urgent: r.urgent.clone().map(|reason| Urgent { reason }),
        }
    }
}

#[derive(sqlx::FromRow)]
struct HeaderRow {
    id: String,
    fleet: String,
    created_s: i64,
    release_name: String,
    phase: String,
    total: i64,
    succeeded: i64,
    failed: i64,
    moving: i64,
    unconfirmed: i64,
    reached: String,
    appraised: Option<String>,
    withdrawn: Option<String>,
    pending: i64,
    queued: i64,
    unreached: i64,
    due_s: Option<i64>,
    plan: Option<String>,
    waves: Option<String>,
    next: Option<String>,
    back_of: Option<String>,
    urgent: Option<String>,
}

const COLUMNS: &str = "r.id, r.fleet, r.created_s, r.release_name, r.phase, r.total, r.succeeded, \
    r.failed, r.moving, r.unconfirmed, r.reached, r.appraised, r.withdrawn, r.pending, \
    r.queued, r.unreached, r.due_s, r.plan, r.waves, r.next, r.back_of, r.urgent";

impl TryFrom<HeaderRow> for StoredRollout {
    type Error = StoreError;
    fn try_from(row: HeaderRow) -> Result<Self, StoreError> {
        let phase = Phase::ALL.into_iter().find(|phase| phase.name() == row.phase);
        let n = |n: i64| usize::try_from(n).unwrap_or(0);
        let counts = Counts {
            total: n(row.total),
            succeeded: n(row.succeeded),
            failed: n(row.failed),
            moving: n(row.moving),
            unconfirmed: n(row.unconfirmed),
            pending: n(row.pending),
            queued: n(row.queued),
            unreached: n(row.unreached),
        };
        let waves = row.waves.as_deref().map(serde_json::from_str).transpose()?;
        let phase =
            phase.ok_or_else(|| StoreError::value(format!("rollout phase {:?}", row.phase)))?;
        Ok(Self {
            id: row.id,
            fleet: row.fleet.parse().map_err(StoreError::value)?,
            created_s: from_seconds(row.created_s),
            release: row.release_name.parse().map_err(StoreError::value)?,
            header: Header { phase, counts, waves },
            reached: row.reached,
            appraised: row.appraised,
            withdrawn: row.withdrawn,
            plan: row.plan.as_deref().map(serde_json::from_str).transpose()?,
            due_s: row.due_s.map(from_seconds),
            next: row.next,
            back_of: row.back_of,
            urgent: row.urgent,
        })
    }
}

/// The newest rollouts of these fleets, or of all, without their devices.
pub async fn summaries(
    pool: &Pool,
    fleets: Option<&[&FleetId]>,
    limit: u32,
) -> Result<Vec<RolloutSummary>, StoreError> {
    page(pool, fleets, None, limit).await
}

/// Up to `limit` rollouts of some fleets, or of all, after one, newest first.
pub async fn page(
    pool: &Pool,
    fleets: Option<&[&FleetId]>,
    after: Option<&After>,
    limit: u32,
) -> Result<Vec<RolloutSummary>, StoreError> {
    const AFTER: &str = "(r.created_s < $2 OR (r.created_s = $2 AND r.id > $3))";
    let sql = match fleets {
        None => sql::Text::each(|_| {
            format!(
                "SELECT {COLUMNS} FROM rollouts r WHERE {AFTER} ORDER BY r.created_s DESC, r.id LIMIT $1"
            )
        }),
        Some(_) => sql::Text::each(|dialect| {
            format!(
                "SELECT {COLUMNS} FROM rollouts r WHERE {AFTER} AND r.fleet IN (SELECT value FROM {}) \
                 ORDER BY r.created_s DESC, r.id LIMIT $1",
                dialect.strings_in(4)
            )
        }),
    };
    let (at_s, id) = After::values(after);
    let mut query = sql::query_as::<HeaderRow>(sql).bind(i64::from(limit)).bind(at_s).bind(id);
    if let Some(fleets) = fleets {
        query = query.bind(serde_json::to_string(fleets)?);
    }
    let rows = query.fetch_all(pool).await?;
    rows.into_iter().map(|row| Ok(RolloutSummary::from(&StoredRollout::try_from(row)?))).collect()
}

/// Rollouts of some fleets, or of all, that offer their release or will soon: up to `limit`, newest
/// first.
pub async fn going(
    pool: &Pool,
    fleets: Option<&[&FleetId]>,
    limit: u32,
) -> Result<Vec<RolloutSummary>, StoreError> {
    const GOING: &str =
        "(r.active = 1 AND r.phase IN ('starting', 'running') OR r.phase = 'ready')";
    const ORDER: &str = "ORDER BY r.created_s DESC, r.id LIMIT $1";
    let sql = match fleets {
        None => {
            sql::Text::each(|_| format!("SELECT {COLUMNS} FROM rollouts r WHERE {GOING} {ORDER}"))
        }
        Some(_) => sql::Text::each(|dialect| {
            let fleets = dialect.strings_in(2);
            format!(
                "SELECT {COLUMNS} FROM rollouts r WHERE {GOING} \
                 AND r.fleet IN (SELECT value FROM {fleets}) {ORDER}"
            )
        }),
    };
    let mut query = sql::query_as::<HeaderRow>(sql).bind(i64::from(limit));
    if let Some(fleets) = fleets {
        query = query.bind(serde_json::to_string(fleets)?);
    }
    let rows = query.fetch_all(pool).await?;
    rows.into_iter().map(|row| Ok(RolloutSummary::from(&StoredRollout::try_from(row)?))).collect()
}

/// One that is ready waits for the end of another one.
fn is_active(phase: Phase) -> bool {
    !phase.is_terminal() && phase != Phase::Ready
}

/// Adds a rollout.
pub async fn insert(tx: &mut Tx<'_>, rollout: &StoredRollout) -> Result<(), StoreError> {
    let sql = "INSERT INTO rollouts (id, fleet, created_s, active, release_name, phase, reached, plan, back_of, urgent) \
        VALUES ($1, $2, $3, 0, $4, $5, '', $6, $7, $8)";
    sql::query(sql)
        .bind(&rollout.id)
        .bind(rollout.fleet.as_str())
        .bind(seconds(rollout.created_s))
        .bind(rollout.release.to_string())
        .bind(rollout.header.phase.name())
        .bind(rollout.plan.as_ref().map(serde_json::to_string).transpose()?)
        .bind(&rollout.back_of)
        .bind(&rollout.urgent)
        .execute(&mut **tx)
        .await?;
    set(tx, rollout).await
}

/// Stores the new header of a rollout, and how far its chunks are.
pub async fn set(tx: &mut Tx<'_>, rollout: &StoredRollout) -> Result<(), StoreError> {
    let Header { phase, counts, waves } = &rollout.header;
    let Counts { total, succeeded, failed, moving, unconfirmed, pending, queued, unreached } =
        *counts;
    let n = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let sql = "UPDATE rollouts SET active = $2, phase = $3, total = $4, succeeded = $5, failed = $6, \
        moving = $7, unconfirmed = $8, reached = $9, appraised = $10, withdrawn = $11, \
        pending = $12, unreached = $13, due_s = $14, waves = $15, next = $16, \
        queued = $17 WHERE id = $1";
    sql::query(sql)
        .bind(&rollout.id)
        .bind(i64::from(is_active(*phase)))
        .bind(phase.name())
        .bind(n(total))
        .bind(n(succeeded))
        .bind(n(failed))
        .bind(n(moving))
        .bind(n(unconfirmed))
        .bind(&rollout.reached)
        .bind(&rollout.appraised)
        .bind(&rollout.withdrawn)
        .bind(n(pending))
        .bind(n(unreached))
        .bind(rollout.due_s.map(seconds))
        .bind(waves.as_ref().map(serde_json::to_string).transpose()?)
        .bind(&rollout.next)
        .bind(n(queued))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The active rollout of a fleet: there is at most one.
pub async fn active_in(
    connection: &mut Connection,
    fleet: &FleetId,
) -> Result<Option<StoredRollout>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM rollouts r WHERE r.fleet = $1 AND r.active = 1"
    ));
    let row = sql::query_as::<HeaderRow>(sql).bind(fleet.as_str()).fetch_optional(connection);
    row.await?.map(TryInto::try_into).transpose()
}

#[derive(sqlx::FromRow)]
struct WithDeviceRow {
    #[sqlx(flatten)]
    header: HeaderRow,
    #[sqlx(flatten)]
    device: super::rollout_devices::DeviceRow,
}

/// The active rollout that a device of this fleet is part of, and its row.
pub async fn active_with(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    device: &DeviceId,
) -> Result<Option<(StoredRollout, Device)>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS}, {} FROM rollouts r \
         JOIN rollout_devices d ON d.rollout = r.id AND d.device = $2 \
         WHERE r.fleet = $1 AND r.active = 1",
        super::rollout_devices::COLUMNS
    ));
    let row: Option<WithDeviceRow> = sql::query_as(sql)
        .bind(fleet.as_str())
        .bind(device.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    let both = |row: WithDeviceRow| {
        let (_, device): (DeviceId, Device) = row.device.try_into()?;
        Ok((row.header.try_into()?, device))
    };
    row.map(both).transpose()
}

/// Rollouts of a release, the newest first.
pub async fn of_release(
    pool: &Pool,
    release: &ReleaseName,
    limit: u32,
) -> Result<Vec<RolloutSummary>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM rollouts r WHERE r.release_name = $1 \
         ORDER BY r.created_s DESC, r.id LIMIT $2"
    ));
    let query = sql::query_as::<HeaderRow>(sql).bind(release.to_string()).bind(i64::from(limit));
    let rows = query.fetch_all(pool).await?;
    rows.into_iter().map(|row| Ok(RolloutSummary::from(&StoredRollout::try_from(row)?))).collect()
}

/// Active rollouts of a release.
pub async fn active_of(
    tx: &mut Tx<'_>,
    release: &ReleaseName,
) -> Result<Vec<StoredRollout>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM rollouts r WHERE r.active = 1 AND r.release_name = $1 ORDER BY r.id"
    ));
    let rows: Vec<HeaderRow> =
        sql::query_as(sql).bind(release.to_string()).fetch_all(&mut **tx).await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Condition on a row `r` of `rollouts`: the task has something to do at `$1`. One word for each
/// index.
const HAS_WORK: &str = "(r.withdrawn IS NOT NULL OR r.active = 1 \
    AND (r.phase IN ('starting', 'pausing', 'aborting') OR r.appraised IS NOT NULL) \
    OR r.due_s <= $1)";

/// A rollout with devices that it must add, compare, offer or withdraw; `None` if no rollout
/// has. A revoked release goes first.
pub async fn next_with_work(
    tx: &mut Tx<'_>,
    now_s: u64,
) -> Result<Option<StoredRollout>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM rollouts r WHERE {HAS_WORK} \
         ORDER BY CASE WHEN r.withdrawn IS NULL THEN 1 ELSE 0 END, r.id LIMIT 1"
    ));
    let row =
        sql::query_as::<HeaderRow>(sql).bind(seconds(now_s)).fetch_optional(&mut **tx).await?;
    row.map(TryInto::try_into).transpose()
}

/// A rollout that is ready, and whose predecessor has ended.
pub async fn next_ready(tx: &mut Tx<'_>) -> Result<Option<StoredRollout>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM rollouts r WHERE r.phase = 'ready' AND EXISTS \
         (SELECT 1 FROM rollouts b WHERE b.next = r.id AND b.active = 0) ORDER BY r.id LIMIT 1"
    ));
    let row = sql::query_as::<HeaderRow>(sql).fetch_optional(&mut **tx).await?;
    row.map(TryInto::try_into).transpose()
}

/// Number of rollouts that have begun and not ended.
pub async fn active(pool: &Pool) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM rollouts WHERE active = 1";
    let count: i64 = sql::query_scalar(sql).fetch_one(pool).await?;
    Ok(from_seconds(count))
}

/// Whether a rollout has something to do that no event said.
pub async fn is_due(pool: &Pool, now_s: u64) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM rollouts r WHERE r.due_s <= $1";
    let found: i64 = sql::query_scalar(sql).bind(seconds(now_s)).fetch_one(pool).await?;
    Ok(found > 0)
}

/// Records that every offer of a release that came from a rollout must be withdrawn, whatever became
/// of the rollout. An offer that came from a channel is withdrawn when the device is next heard of.
pub async fn withdraw_release(tx: &mut Tx<'_>, release: &ReleaseName) -> Result<(), StoreError> {
    let sql = "UPDATE rollouts SET withdrawn = '' WHERE release_name = $1";
    sql::query(sql).bind(release.to_string()).execute(&mut **tx).await?;
    Ok(())
}

/// A rollout of this release with devices whose offers must be withdrawn.
pub async fn next_to_withdraw(
    tx: &mut Tx<'_>,
    release: &ReleaseName,
) -> Result<Option<StoredRollout>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM rollouts r \
         WHERE r.withdrawn IS NOT NULL AND r.release_name = $1 ORDER BY r.id LIMIT 1"
    ));
    let row = sql::query_as::<HeaderRow>(sql).bind(release.to_string());
    row.fetch_optional(&mut **tx).await?.map(TryInto::try_into).transpose()
}

/// One rollout, in a write transaction.
pub async fn load(tx: &mut Tx<'_>, id: &str) -> Result<Option<StoredRollout>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("SELECT {COLUMNS} FROM rollouts r WHERE r.id = $1"));
    let row = sql::query_as::<HeaderRow>(sql).bind(id).fetch_optional(&mut **tx).await?;
    row.map(TryInto::try_into).transpose()
}

/// One rollout.
pub async fn get(pool: &Pool, id: &str) -> Result<Option<StoredRollout>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("SELECT {COLUMNS} FROM rollouts r WHERE r.id = $1"));
    let row = sql::query_as::<HeaderRow>(sql).bind(id).fetch_optional(pool).await?;
    row.map(TryInto::try_into).transpose()
}
