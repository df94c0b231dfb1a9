//! The outbox of the audit log.

use crate::sql::{self, QueryBuilder};
use crate::{Pool, StoreError, Tx, seconds};

/// Maximum number of acts that are entered at once.
pub const AT_ONCE: u32 = 256;

/// Maximum number of waiting acts, about 20 MB. Even if the signing service is away for weeks, no
/// act may be lost, and the disk must not fill up.
pub const WAITING_MAX: u64 = 100_000;

/// Whether the outbox is full. Uses the row numbers instead of counting.
pub async fn is_full(tx: &mut Tx<'_>) -> Result<bool, StoreError> {
    let sql = "SELECT COALESCE((SELECT MAX(sequence) FROM audit_outbox) - (SELECT MIN(sequence) FROM audit_outbox) + 1, 0)";
    let span: i64 = sql::query_scalar(sql).fetch_one(&mut **tx).await?;
    Ok(super::from_seconds(span) >= WAITING_MAX)
}

/// Number of waiting acts.
pub async fn count(pool: &Pool) -> Result<u64, StoreError> {
    let found: i64 = sql::query_scalar("SELECT COUNT(*) FROM audit_outbox").fetch_one(pool).await?;
    Ok(super::from_seconds(found))
}

/// Adds an act, in the transaction of what it is about.
pub async fn insert(tx: &mut Tx<'_>, act: &WaitingAct, now_s: u64) -> Result<(), StoreError> {
    sql::query(
        "INSERT INTO audit_outbox (id, at_s, actor, action, subject) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&act.id)
    .bind(seconds(now_s))
    .bind(&act.actor)
    .bind(&act.action)
    .bind(&act.subject)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// An act that the audit log does not have yet.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct WaitingAct {
    /// Id, by which the log refuses an act that it has.
    pub id: String,
    /// Who acted.
    pub actor: String,
    /// What was done, as in `device.revoke`.
    pub action: String,
    /// What it was done to.
    pub subject: String,
}

/// The oldest waiting acts, in order.
pub async fn waiting(tx: &mut Tx<'_>) -> Result<Vec<WaitingAct>, StoreError> {
    let sql = "SELECT id, actor, action, subject FROM audit_outbox ORDER BY sequence LIMIT $1";
    sql::query_as(sql).bind(AT_ONCE).fetch_all(&mut **tx).await
}

/// Removes acts that are in the log.
pub async fn remove(tx: &mut Tx<'_>, ids: &[&str]) -> Result<(), StoreError> {
    for some in ids.chunks(AT_ONCE as usize) {
        let mut query = QueryBuilder::new("DELETE FROM audit_outbox WHERE id IN ");
        query.push_list(some.iter().copied());
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}
