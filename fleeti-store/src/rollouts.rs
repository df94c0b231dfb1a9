//! Rollouts.

use crate::{Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::FleetId;
use fleeti_core::rollout::{Counts, Phase, State};
use fleeti_core::wire::api::{Rollout, RolloutSummary};

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    fleet: String,
    created_s: i64,
    state: String,
}

impl TryFrom<Row> for Rollout {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            fleet: row.fleet.parse().map_err(StoreError::value)?,
            created_s: from_seconds(row.created_s),
            state: serde_json::from_str(&row.state)?,
        })
    }
}

const PHASES: [(Phase, &str); 5] = [
    (Phase::Ready, "ready"),
    (Phase::Running, "running"),
    (Phase::Succeeded, "succeeded"),
    (Phase::Failed, "failed"),
    (Phase::Aborted, "aborted"),
];

fn phase_text(phase: Phase) -> &'static str {
    PHASES.iter().find(|(p, _)| *p == phase).map_or("", |(_, text)| text)
}

#[derive(sqlx::FromRow)]
struct SummaryRow {
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
}

impl TryFrom<SummaryRow> for RolloutSummary {
    type Error = StoreError;
    fn try_from(row: SummaryRow) -> Result<Self, StoreError> {
        let phase = PHASES.iter().find(|(_, text)| *text == row.phase);
        let n = |n: i64| usize::try_from(n).unwrap_or(0);
        Ok(Self {
            phase: phase
                .ok_or_else(|| StoreError::value(format!("rollout phase {:?}", row.phase)))?
                .0,
            id: row.id,
            fleet: row.fleet.parse().map_err(StoreError::value)?,
            created_s: from_seconds(row.created_s),
            release: row.release_name.parse().map_err(StoreError::value)?,
            counts: Counts {
                total: n(row.total),
                succeeded: n(row.succeeded),
                failed: n(row.failed),
                moving: n(row.moving),
                unconfirmed: n(row.unconfirmed),
            },
        })
    }
}

/// The newest rollouts, without their devices.
pub async fn summaries(pool: &Pool, limit: u32) -> Result<Vec<RolloutSummary>, StoreError> {
    let sql = "SELECT id, fleet, created_s, release_name, phase, total, succeeded, failed, moving, unconfirmed FROM rollouts \
         ORDER BY created_s DESC, id LIMIT $1";
    let rows = sql::query_as::<SummaryRow>(sql).bind(i64::from(limit)).fetch_all(pool).await?;
    rows.into_iter().map(RolloutSummary::try_from).collect()
}

/// Adds a rollout, or stores its new state.
pub async fn store(
    tx: &mut Tx<'_>,
    id: &str,
    fleet: &FleetId,
    state: &State,
    now_s: u64,
) -> Result<(), StoreError> {
    let counts = state.counts();
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    sql::query(
        "INSERT INTO rollouts (id, fleet, created_s, active, state, release_name, phase, total, succeeded, failed, moving, unconfirmed) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
         ON CONFLICT (id) DO UPDATE SET active = $4, state = $5, phase = $7, total = $8, succeeded = $9, failed = $10, moving = $11, \
         unconfirmed = $12",
    )
    .bind(id)
    .bind(fleet.as_str())
    .bind(seconds(now_s))
    .bind(i64::from(!state.phase.is_terminal()))
    .bind(serde_json::to_string(state)?)
    .bind(state.release.to_string())
    .bind(phase_text(state.phase))
    .bind(count(counts.total))
    .bind(count(counts.succeeded))
    .bind(count(counts.failed))
    .bind(count(counts.moving))
    .bind(count(counts.unconfirmed))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Active rollouts of a fleet.
pub async fn active(tx: &mut Tx<'_>, fleet: &FleetId) -> Result<Vec<Rollout>, StoreError> {
    let sql = "SELECT id, fleet, created_s, state FROM rollouts WHERE fleet = $1 AND active = 1 ORDER BY created_s";
    let rows = sql::query_as::<Row>(sql).bind(fleet.as_str()).fetch_all(&mut **tx).await?;
    rows.into_iter().map(Rollout::try_from).collect()
}

/// Whether a fleet has an active rollout.
pub async fn is_one_active(tx: &mut Tx<'_>, fleet: &FleetId) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM rollouts WHERE fleet = $1 AND active = 1";
    let found: i64 = sql::query_scalar(sql).bind(fleet.as_str()).fetch_one(&mut **tx).await?;
    Ok(found > 0)
}

/// All active rollouts.
pub async fn all_active(tx: &mut Tx<'_>) -> Result<Vec<Rollout>, StoreError> {
    let sql =
        "SELECT id, fleet, created_s, state FROM rollouts WHERE active = 1 ORDER BY created_s";
    let rows = sql::query_as::<Row>(sql).fetch_all(&mut **tx).await?;
    rows.into_iter().map(Rollout::try_from).collect()
}

/// One rollout, in a write transaction.
pub async fn get_in(tx: &mut Tx<'_>, id: &str) -> Result<Option<Rollout>, StoreError> {
    let sql = "SELECT id, fleet, created_s, state FROM rollouts WHERE id = $1";
    sql::query_as::<Row>(sql)
        .bind(id)
        .fetch_optional(&mut **tx)
        .await?
        .map(Rollout::try_from)
        .transpose()
}

/// One rollout.
pub async fn get(pool: &Pool, id: &str) -> Result<Option<Rollout>, StoreError> {
    let sql = "SELECT id, fleet, created_s, state FROM rollouts WHERE id = $1";
    sql::query_as::<Row>(sql)
        .bind(id)
        .fetch_optional(pool)
        .await?
        .map(Rollout::try_from)
        .transpose()
}
