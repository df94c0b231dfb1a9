//! Requests that were done under an idempotency key, and their answers.

use crate::{Connection, StoreError, Tx, from_seconds, seconds, sql};

/// A request under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// What names the account and its key.
    pub id: String,
    /// The account.
    pub account: String,
    /// When it was done, Unix seconds.
    pub created_s: u64,
    /// Digest of the request.
    pub request: String,
    /// The answer, sealed; `None` if it is not kept.
    pub answer: Option<String>,
}

/// The request with this id.
pub async fn get(connection: &mut Connection, id: &str) -> Result<Option<KeyRow>, StoreError> {
    let sql = "SELECT id, account, created_s, request, answer FROM idempotency_keys WHERE id = $1";
    let row: Option<(String, String, i64, String, Option<String>)> =
        sql::query_as(sql).bind(id).fetch_optional(connection).await?;
    Ok(row.map(|(id, account, created_s, request, answer)| KeyRow {
        id,
        account,
        created_s: from_seconds(created_s),
        request,
        answer,
    }))
}

/// Stores a request, in place of an earlier one with its id.
pub async fn put(tx: &mut Tx<'_>, row: &KeyRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO idempotency_keys (id, account, created_s, request, answer) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (id) DO UPDATE SET created_s = excluded.created_s, request = excluded.request, answer = excluded.answer";
    sql::query(sql)
        .bind(&row.id)
        .bind(&row.account)
        .bind(seconds(row.created_s))
        .bind(&row.request)
        .bind(&row.answer)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Deletes requests of an account beyond its newest `kept`.
pub async fn prune_account(tx: &mut Tx<'_>, account: &str, kept: u32) -> Result<(), StoreError> {
    let sql = "DELETE FROM idempotency_keys WHERE account = $1 AND number <= \
               (SELECT number FROM idempotency_keys WHERE account = $1 ORDER BY number DESC LIMIT 1 OFFSET $2)";
    sql::query(sql).bind(account).bind(i64::from(kept)).execute(&mut **tx).await?;
    Ok(())
}

/// Deletes up to `limit` requests that were done before a time. Returns their number.
pub async fn prune(tx: &mut Tx<'_>, before_s: u64, limit: u32) -> Result<u64, StoreError> {
    let sql = "DELETE FROM idempotency_keys WHERE number IN \
               (SELECT number FROM idempotency_keys WHERE created_s < $1 ORDER BY number LIMIT $2)";
    let done =
        sql::query(sql).bind(seconds(before_s)).bind(i64::from(limit)).execute(&mut **tx).await?;
    Ok(done.rows_affected())
}
