//! Headers of rollouts: phase, counters, and how far the chunks are. Their devices are in
//! [`super::rollout_devices`].

use crate::{Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::rollout::device::Device;
use fleeti_core::rollout::header::Header;
use fleeti_core::rollout::{Counts, Phase};
use fleeti_core::wire::api::RolloutSummary;

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
}

impl StoredRollout {
    /// Whether devices are left that the rollout must add, compare or withdraw, in chunks.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let is_active = match self.header.phase {
            Phase::Starting | Phase::Aborting => true,
            Phase::Running => self.appraised.is_some(),
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
}

const COLUMNS: &str = "r.id, r.fleet, r.created_s, r.release_name, r.phase, r.total, r.succeeded, \
    r.failed, r.moving, r.unconfirmed, r.reached, r.appraised, r.withdrawn";

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
        };
        let phase =
            phase.ok_or_else(|| StoreError::value(format!("rollout phase {:?}", row.phase)))?;
        Ok(Self {
            id: row.id,
            fleet: row.fleet.parse().map_err(StoreError::value)?,
            created_s: from_seconds(row.created_s),
            release: row.release_name.parse().map_err(StoreError::value)?,
            header: Header { phase, counts },
            reached: row.reached,
            appraised: row.appraised,
            withdrawn: row.withdrawn,
        })
    }
}

/// The newest rollouts.
pub async fn summaries(pool: &Pool, limit: u32) -> Result<Vec<RolloutSummary>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM rollouts r ORDER BY r.created_s DESC, r.id LIMIT $1"
    ));
    let rows = sql::query_as::<HeaderRow>(sql).bind(i64::from(limit)).fetch_all(pool).await?;
    rows.into_iter().map(|row| Ok(RolloutSummary::from(&StoredRollout::try_from(row)?))).collect()
}

/// Adds a rollout.
pub async fn insert(tx: &mut Tx<'_>, rollout: &StoredRollout) -> Result<(), StoreError> {
    let sql = "INSERT INTO rollouts (id, fleet, created_s, active, release_name, phase, reached) \
        VALUES ($1, $2, $3, 1, $4, $5, '')";
    sql::query(sql)
        .bind(&rollout.id)
        .bind(rollout.fleet.as_str())
        .bind(seconds(rollout.created_s))
        .bind(rollout.release.to_string())
        .bind(rollout.header.phase.name())
        .execute(&mut **tx)
        .await?;
    set(tx, rollout).await
}

/// Stores the new header of a rollout, and how far its chunks are.
pub async fn set(tx: &mut Tx<'_>, rollout: &StoredRollout) -> Result<(), StoreError> {
    let Counts { total, succeeded, failed, moving, unconfirmed } = rollout.header.counts;
    let n = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let sql = "UPDATE rollouts SET active = $2, phase = $3, total = $4, succeeded = $5, failed = $6, \
        moving = $7, unconfirmed = $8, reached = $9, appraised = $10, withdrawn = $11 WHERE id = $1";
    sql::query(sql)
        .bind(&rollout.id)
        .bind(i64::from(!rollout.header.phase.is_terminal()))
        .bind(rollout.header.phase.name())
        .bind(n(total))
        .bind(n(succeeded))
        .bind(n(failed))
        .bind(n(moving))
        .bind(n(unconfirmed))
        .bind(&rollout.reached)
        .bind(&rollout.appraised)
        .bind(&rollout.withdrawn)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The active rollout of a fleet: there is at most one.
pub async fn active_in(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
) -> Result<Option<StoredRollout>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM rollouts r WHERE r.fleet = $1 AND r.active = 1"
    ));
    let row = sql::query_as::<HeaderRow>(sql).bind(fleet.as_str()).fetch_optional(&mut **tx);
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

/// A rollout with devices that it must add, compare or withdraw; `None` if no rollout has. A revoked
/// release goes first.
pub async fn next_with_work(tx: &mut Tx<'_>) -> Result<Option<StoredRollout>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM rollouts r WHERE r.withdrawn IS NOT NULL OR r.active = 1 \
         AND (r.phase IN ('starting', 'aborting') OR r.appraised IS NOT NULL) \
         ORDER BY CASE WHEN r.withdrawn IS NULL THEN 1 ELSE 0 END, r.id LIMIT 1"
    ));
    let row = sql::query_as::<HeaderRow>(sql).fetch_optional(&mut **tx).await?;
    row.map(TryInto::try_into).transpose()
}

/// Records that every offer of a release must be withdrawn, whatever became of its rollouts. Each
/// offer of a release to a device comes from a rollout that the device is part of.
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
