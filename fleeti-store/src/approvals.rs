//! Signing requests and approvals. The signing service verifies all their signatures and trusts
//! nothing else in them.

use crate::{Connection, StoreError, Tx, seconds, sql};
use fleeti_core::wire::api::{RequestSignature, SignedBy};

/// Stores a request, and removes the approvals of an earlier one.
pub async fn ask(
    tx: &mut Tx<'_>,
    build: &str,
    request: &RequestSignature,
    now_s: u64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO signature_requests (build, intent, key_id, signature, created_s) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (build) DO UPDATE SET intent = $2, key_id = $3, signature = $4, created_s = $5";
    let query = sql::query(sql).bind(build).bind(&request.intent).bind(&request.by.key_id);
    query.bind(&request.by.signature).bind(seconds(now_s)).execute(&mut **tx).await?;
    sql::query("DELETE FROM signature_approvals WHERE build = $1")
        .bind(build)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Stores an approval. Replaces an earlier one by the same key.
pub async fn approve(tx: &mut Tx<'_>, build: &str, by: &SignedBy) -> Result<(), StoreError> {
    let sql = "INSERT INTO signature_approvals (build, key_id, signature) VALUES ($1, $2, $3) \
               ON CONFLICT (build, key_id) DO UPDATE SET signature = $3";
    sql::query(sql).bind(build).bind(&by.key_id).bind(&by.signature).execute(&mut **tx).await?;
    Ok(())
}

/// The request for a build, and its approvals.
pub struct Asked {
    /// The request.
    pub request: RequestSignature,
    /// The approvals, ordered by key id.
    pub approvals: Vec<SignedBy>,
}

#[derive(sqlx::FromRow)]
struct RequestRow {
    intent: String,
    key_id: String,
    signature: String,
}

/// The request for a build, and its approvals.
pub async fn get(connection: &mut Connection, build: &str) -> Result<Option<Asked>, StoreError> {
    let sql = "SELECT intent, key_id, signature FROM signature_requests WHERE build = $1";
    let row: Option<RequestRow> =
        sql::query_as(sql).bind(build).fetch_optional(&mut *connection).await?;
    let Some(RequestRow { intent, key_id, signature }) = row else { return Ok(None) };
    let sql = "SELECT key_id, signature FROM signature_approvals WHERE build = $1 ORDER BY key_id";
    let approvals: Vec<(String, String)> =
        sql::query_as(sql).bind(build).fetch_all(connection).await?;
    let approvals =
        approvals.into_iter().map(|(key_id, signature)| SignedBy { key_id, signature }).collect();
    let request = RequestSignature { intent, by: SignedBy { key_id, signature } };
    Ok(Some(Asked { request, approvals }))
}
