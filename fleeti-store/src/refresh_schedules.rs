//! When lines are built with refreshed packages.

use crate::{Connection, Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::Line;
use fleeti_core::wire::refresh::{LastRefresh, RefreshSchedule};

const COLUMNS: &str =
    "SELECT line, opens, next_s, set_by, last_s, last_build, last_problem FROM refresh_schedules";

#[derive(sqlx::FromRow)]
struct Row {
    line: String,
    opens: String,
    next_s: i64,
    set_by: String,
    last_s: Option<i64>,
    last_build: Option<String>,
    last_problem: Option<String>,
}

impl TryFrom<Row> for RefreshSchedule {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        let Row { last_build: build, last_problem: problem, .. } = row;
        let last = row.last_s.map(|at_s| LastRefresh { at_s: from_seconds(at_s), build, problem });
        Ok(Self {
            line: row.line.parse().map_err(StoreError::value)?,
            window: row.opens.parse().map_err(StoreError::value)?,
            next_s: from_seconds(row.next_s),
            set_by: row.set_by,
            last,
        })
    }
}

/// The schedule of a line.
pub async fn get(
    connection: &mut Connection,
    line: &Line,
) -> Result<Option<RefreshSchedule>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("{COLUMNS} WHERE line = $1"));
    let row: Option<Row> =
        sql::query_as(sql).bind(line.as_str()).fetch_optional(connection).await?;
    row.map(RefreshSchedule::try_from).transpose()
}

/// Up to `limit` lines whose schedules are due, the longest due first.
pub async fn due(pool: &Pool, now_s: u64, limit: u32) -> Result<Vec<Line>, StoreError> {
    let sql =
        "SELECT line FROM refresh_schedules WHERE next_s <= $1 ORDER BY next_s, line LIMIT $2";
    let query = sql::query_scalar::<String>(sql).bind(seconds(now_s)).bind(i64::from(limit));
    let lines = query.fetch_all(pool).await?;
    lines.iter().map(|line| line.parse().map_err(StoreError::value)).collect()
}

/// Sets the window of a line, in place of an earlier one. What happened the last time stays.
pub async fn set(tx: &mut Tx<'_>, schedule: &RefreshSchedule) -> Result<(), StoreError> {
    let sql = "INSERT INTO refresh_schedules (line, opens, next_s, set_by) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (line) DO UPDATE SET opens = excluded.opens, next_s = excluded.next_s, \
               set_by = excluded.set_by";
    sql::query(sql)
        .bind(schedule.line.as_str())
        .bind(schedule.window.to_string())
        .bind(seconds(schedule.next_s))
        .bind(&schedule.set_by)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Notes what happened when a schedule was due, and when it is next. Returns `false`, and changes
/// nothing, if it was set again or removed meanwhile.
pub async fn keep(
    tx: &mut Tx<'_>,
    due: &RefreshSchedule,
    next_s: u64,
    last: &LastRefresh,
) -> Result<bool, StoreError> {
    let sql = "UPDATE refresh_schedules SET next_s = $1, last_s = $2, last_build = $3, \
               last_problem = $4 WHERE line = $5 AND next_s = $6 AND opens = $7";
    let query = sql::query(sql)
        .bind(seconds(next_s))
        .bind(seconds(last.at_s))
        .bind(&last.build)
        .bind(&last.problem)
        .bind(due.line.as_str())
        .bind(seconds(due.next_s))
        .bind(due.window.to_string());
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}

/// Removes the schedule of a line. Returns `false` if it has none.
pub async fn remove(tx: &mut Tx<'_>, line: &Line) -> Result<bool, StoreError> {
    let query = sql::query("DELETE FROM refresh_schedules WHERE line = $1").bind(line.as_str());
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}
