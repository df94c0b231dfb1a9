//! The outbox of domain events: what happened, in order, for programs that are told later.

use crate::batch::push_rows;
use crate::sql::QueryBuilder;
use crate::{Pool, StoreError, Tx, from_seconds, seconds, sql};

/// Maximum number of records that are kept.
pub const KEPT_MAX: u32 = 100_000;

/// A record of a domain event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number. Later records have higher numbers.
    pub number: i64,
    /// When it happened, Unix seconds.
    pub at_s: u64,
    /// Its kind, such as `device.revoked`.
    pub kind: String,
    /// Its body, JSON.
    pub body: String,
}

/// Adds records, each a kind and a body, in the transaction of what they are about.
pub async fn insert(
    tx: &mut Tx<'_>,
    at_s: u64,
    records: &[(&str, String)],
) -> Result<(), StoreError> {
    if records.is_empty() {
        return Ok(());
    }
    let mut query =
        QueryBuilder::new("INSERT INTO domain_events (at_s, kind, body) SELECT * FROM (");
    push_rows(&mut query, records.iter(), |row, (kind, body)| {
        row.push_bind(seconds(at_s)).push_bind(*kind).push_bind(body);
    });
    query.push(") AS new WHERE column1 IS NOT NULL");
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// Up to `limit` records after a number, oldest first.
pub async fn after(pool: &Pool, number: i64, limit: u32) -> Result<Vec<Record>, StoreError> {
    let sql = "SELECT number, at_s, kind, body FROM domain_events WHERE number > $1 ORDER BY number LIMIT $2";
    #[derive(sqlx::FromRow)]
    struct Row {
        number: i64,
        at_s: i64,
        kind: String,
        body: String,
    }
    let rows: Vec<Row> =
        sql::query_as(sql).bind(number).bind(i64::from(limit)).fetch_all(pool).await?;
    let record = |row: Row| Record {
        number: row.number,
        at_s: from_seconds(row.at_s),
        kind: row.kind,
        body: row.body,
    };
    Ok(rows.into_iter().map(record).collect())
}

/// Number and time (Unix seconds) of the newest record.
pub async fn newest(pool: &Pool) -> Result<Option<(i64, u64)>, StoreError> {
    let sql = "SELECT number, at_s FROM domain_events ORDER BY number DESC LIMIT 1";
    let row: Option<(i64, i64)> = sql::query_as(sql).fetch_optional(pool).await?;
    Ok(row.map(|(number, at_s)| (number, from_seconds(at_s))))
}

/// When the record with this number happened, Unix seconds; `None` if it is not kept.
pub async fn at_s(pool: &Pool, number: i64) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT at_s FROM domain_events WHERE number = $1";
    let at_s: Option<i64> = sql::query_scalar(sql).bind(number).fetch_optional(pool).await?;
    Ok(at_s.map(from_seconds))
}

/// Deletes up to `limit` of the oldest records beyond [`KEPT_MAX`]. Returns their number.
pub async fn prune(tx: &mut Tx<'_>, limit: u32) -> Result<u64, StoreError> {
    let sql = "DELETE FROM domain_events WHERE number IN (SELECT number FROM domain_events \
               WHERE number <= (SELECT MAX(number) FROM domain_events) - $1 ORDER BY number LIMIT $2)";
    let done =
        sql::query(sql).bind(i64::from(KEPT_MAX)).bind(i64::from(limit)).execute(&mut **tx).await?;
    Ok(done.rows_affected())
}
