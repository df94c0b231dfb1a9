//! Saved views: filters with a name.

use crate::{Connection, Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::ViewName;
use fleeti_core::wire::labels::View;

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    filter: String,
    account: String,
}

impl TryFrom<Row> for View {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        let name: ViewName = row.name.parse().map_err(StoreError::value)?;
        Ok(Self { name, filter: row.filter, saved_by: row.account })
    }
}

/// All views, ordered by name.
pub async fn all(pool: &Pool) -> Result<Vec<View>, StoreError> {
    let sql = "SELECT name, filter, account FROM views ORDER BY name";
    let rows: Vec<Row> = sql::query_as(sql).fetch_all(pool).await?;
    rows.into_iter().map(View::try_from).collect()
}

/// One view.
pub async fn get(connection: &mut Connection, name: &ViewName) -> Result<Option<View>, StoreError> {
    let sql = "SELECT name, filter, account FROM views WHERE name = $1";
    let row: Option<Row> =
        sql::query_as(sql).bind(name.as_str()).fetch_optional(connection).await?;
    row.map(View::try_from).transpose()
}

/// Number of views.
pub async fn count(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
    let count: i64 = sql::query_scalar("SELECT COUNT(*) FROM views").fetch_one(&mut **tx).await?;
    Ok(from_seconds(count))
}

/// Saves a view, in place of an earlier one of its name.
pub async fn save(tx: &mut Tx<'_>, view: &View, now_s: u64) -> Result<(), StoreError> {
    let sql = "INSERT INTO views (name, filter, account, saved_s) VALUES ($1, $2, $3, $4) ON CONFLICT (name) \
               DO UPDATE SET filter = excluded.filter, account = excluded.account, saved_s = excluded.saved_s";
    sql::query(sql)
        .bind(view.name.as_str())
        .bind(&view.filter)
        .bind(&view.saved_by)
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes a view. Returns `false` if no view has this name.
pub async fn remove(tx: &mut Tx<'_>, name: &ViewName) -> Result<bool, StoreError> {
    let query = sql::query("DELETE FROM views WHERE name = $1").bind(name.as_str());
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}
