//! Rollouts.

use super::{Tx, from_seconds, seconds};
use crate::error::AppError;
use fleeti_core::id::FleetId;
use fleeti_core::rollout::State;
use fleeti_core::wire::api::Rollout;
use sqlx::sqlite::SqlitePool;

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    fleet: String,
    created_s: i64,
    state: String,
}

impl TryFrom<Row> for Rollout {
    type Error = AppError;
    fn try_from(row: Row) -> Result<Self, AppError> {
        Ok(Self {
            id: row.id,
            fleet: row.fleet.parse().map_err(AppError::internal)?,
            created_s: from_seconds(row.created_s),
            state: serde_json::from_str(&row.state)?,
        })
    }
}

/// Adds a rollout, or keeps its new state.
///
/// # Errors
/// When the database does not answer.
pub async fn store(tx: &mut Tx<'_>, id: &str, fleet: &FleetId, state: &State, now_s: u64) -> Result<(), AppError> {
    sqlx::query(
        "INSERT INTO rollouts (id, fleet, created_s, active, state) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (id) DO UPDATE SET active = $4, state = $5",
    )
    .bind(id)
    .bind(fleet.as_str())
    .bind(seconds(now_s))
    .bind(i64::from(!state.phase.is_terminal()))
    .bind(serde_json::to_string(state)?)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Rollouts of a fleet that are not over.
///
/// # Errors
/// When the database does not answer.
pub async fn active(tx: &mut Tx<'_>, fleet: &FleetId) -> Result<Vec<Rollout>, AppError> {
    let sql = "SELECT id, fleet, created_s, state FROM rollouts WHERE fleet = $1 AND active = 1 ORDER BY created_s";
    let rows = sqlx::query_as::<_, Row>(sql).bind(fleet.as_str()).fetch_all(&mut **tx).await?;
    rows.into_iter().map(Rollout::try_from).collect()
}

/// One rollout, to be changed.
///
/// # Errors
/// When the database does not answer.
pub async fn get_in(tx: &mut Tx<'_>, id: &str) -> Result<Option<Rollout>, AppError> {
    let sql = "SELECT id, fleet, created_s, state FROM rollouts WHERE id = $1";
    sqlx::query_as::<_, Row>(sql).bind(id).fetch_optional(&mut **tx).await?.map(Rollout::try_from).transpose()
}

/// One rollout.
///
/// # Errors
/// When the database does not answer.
pub async fn get(pool: &SqlitePool, id: &str) -> Result<Option<Rollout>, AppError> {
    let sql = "SELECT id, fleet, created_s, state FROM rollouts WHERE id = $1";
    sqlx::query_as::<_, Row>(sql).bind(id).fetch_optional(pool).await?.map(Rollout::try_from).transpose()
}

/// The newest rollouts.
///
/// # Errors
/// When the database does not answer.
pub async fn newest(pool: &SqlitePool, limit: u32) -> Result<Vec<Rollout>, AppError> {
    let sql = "SELECT id, fleet, created_s, state FROM rollouts ORDER BY created_s DESC, id LIMIT $1";
    let rows = sqlx::query_as::<_, Row>(sql).bind(i64::from(limit)).fetch_all(pool).await?;
    rows.into_iter().map(Rollout::try_from).collect()
}
