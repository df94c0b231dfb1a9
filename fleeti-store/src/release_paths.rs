//! What operators say about the ways to releases: floors, and versions that are not offered them.

use crate::{Connection, StoreError, Tx, sql};
use fleeti_core::id::{Line, ReleaseName};
use fleeti_core::rollout::gates::{Paths, ReleaseFacts, ReleasePath};
use std::collections::HashMap;

/// Stores the path to a release.
pub async fn set(
    tx: &mut Tx<'_>,
    release: &ReleaseName,
    path: &ReleasePath,
) -> Result<(), StoreError> {
    if path.is_empty() {
        let sql = "DELETE FROM release_paths WHERE release_name = $1";
        sql::query(sql).bind(release.to_string()).execute(&mut **tx).await?;
        return Ok(());
    }
    let sql = "INSERT INTO release_paths (release_name, floor, blocked) VALUES ($1, $2, $3) \
        ON CONFLICT (release_name) DO UPDATE SET floor = excluded.floor, blocked = excluded.blocked";
    sql::query(sql)
        .bind(release.to_string())
        .bind(&path.floor)
        .bind(serde_json::to_string(&path.blocked)?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Row {
    release_name: String,
    floor: Option<String>,
    blocked: String,
    is_good: bool,
    is_proved: bool,
}

const COLUMNS: &str = "p.release_name, p.floor, p.blocked, (r.revoked_s IS NULL) AS is_good, \
    (r.boot_proof IS NOT NULL) AS is_proved \
    FROM release_paths p JOIN releases r ON r.name = p.release_name";

impl Row {
    fn path(&self) -> Result<(ReleaseName, ReleasePath), StoreError> {
        let release = self.release_name.parse().map_err(StoreError::value)?;
        let blocked = serde_json::from_str(&self.blocked)?;
        Ok((release, ReleasePath { floor: self.floor.clone(), blocked }))
    }
}

/// The path to a release; an empty one if operators said nothing.
pub async fn get(
    connection: &mut Connection,
    release: &ReleaseName,
) -> Result<ReleasePath, StoreError> {
    let sql = sql::AssertSqlSafe(format!("SELECT {COLUMNS} WHERE p.release_name = $1"));
    let row: Option<Row> =
        sql::query_as(sql).bind(release.to_string()).fetch_optional(connection).await?;
    Ok(row.map(|row| row.path()).transpose()?.map(|(_, path)| path).unwrap_or_default())
}

/// The ways to the releases of a line.
pub async fn of_line(connection: &mut Connection, line: &Line) -> Result<Paths, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} WHERE substr(p.release_name, 1, length($1)) = $1"
    ));
    // Few releases have a row at all.
    let query = sql::query_as(sql).bind(format!("{line}@"));
    let rows: Vec<Row> = query.fetch_all(connection).await?;
    let paths: HashMap<ReleaseName, ReleasePath> =
        rows.iter().map(Row::path).collect::<Result<_, _>>()?;
    let facts: HashMap<&str, ReleaseFacts> = rows
        .iter()
        .map(|row| {
            let Row { is_good, is_proved, .. } = *row;
            (row.release_name.as_str(), ReleaseFacts { is_good, is_proved })
        })
        .collect();
    let unknown = ReleaseFacts { is_good: false, is_proved: false };
    Ok(Paths::of(paths.iter(), |release| {
        facts.get(release.to_string().as_str()).copied().unwrap_or(unknown)
    }))
}

/// The ways to releases of a line changed: the devices of its active rollouts are compared with them.
pub async fn changed(tx: &mut Tx<'_>, line: &Line) -> Result<(), StoreError> {
    let sql = "UPDATE rollouts SET appraised = '' \
        WHERE active = 1 AND substr(release_name, 1, length($1)) = $1 \
        AND phase IN ('starting', 'running', 'paused')";
    sql::query(sql).bind(format!("{line}@")).execute(&mut **tx).await?;
    Ok(())
}
