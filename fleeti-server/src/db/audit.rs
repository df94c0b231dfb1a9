//! What waits to be entered in the audit log.

use super::{Tx, seconds};
use fleeti_pki::audit::Act;
use sqlx::sqlite::SqlitePool;
use sqlx::{QueryBuilder, Sqlite};

/// Most acts that are entered at once.
pub const AT_ONCE: u32 = 256;

/// Most acts that wait, about 20 MB: a signer that is dead for weeks is not a reason to lose one,
/// nor to fill the disk.
pub const WAITING_MAX: u64 = 100_000;

/// Whether no more acts may wait. Their numbers say it without counting them.
pub async fn is_full(tx: &mut Tx<'_>) -> Result<bool, sqlx::Error> {
    let sql = "SELECT COALESCE((SELECT MAX(sequence) FROM audit_outbox) - (SELECT MIN(sequence) FROM audit_outbox) + 1, 0)";
    let span: i64 = sqlx::query_scalar(sql).fetch_one(&mut **tx).await?;
    Ok(super::from_seconds(span) >= WAITING_MAX)
}

/// How many acts wait.
pub async fn count(pool: &SqlitePool) -> Result<u64, sqlx::Error> {
    let found: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM audit_outbox").fetch_one(pool).await?;
    Ok(super::from_seconds(found))
}

/// Adds an act, in the transaction of what it is about.
pub async fn insert(
    tx: &mut Tx<'_>,
    id: &str,
    now_s: u64,
    actor: &str,
    action: &str,
    subject: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO audit_outbox (id, at_s, actor, action, subject) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(id)
    .bind(seconds(now_s))
    .bind(actor)
    .bind(action)
    .bind(subject)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The oldest acts that wait, in their order.
pub async fn waiting(tx: &mut Tx<'_>) -> Result<Vec<Act>, sqlx::Error> {
    let sql = "SELECT id, actor, action, subject FROM audit_outbox ORDER BY sequence LIMIT $1";
    let rows: Vec<(String, String, String, String)> =
        sqlx::query_as(sql).bind(AT_ONCE).fetch_all(&mut **tx).await?;
    Ok(rows
        .into_iter()
        .map(|(id, actor, action, subject)| Act {
            id: Some(id),
            ..Act::new(actor, action, subject)
        })
        .collect())
}

/// Takes acts out that are in the log.
pub async fn remove(tx: &mut Tx<'_>, ids: &[&str]) -> Result<(), sqlx::Error> {
    for some in ids.chunks(AT_ONCE as usize) {
        let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM audit_outbox WHERE id IN (");
        let mut list = query.separated(", ");
        for id in some {
            list.push_bind(*id);
        }
        query.push(")");
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}
