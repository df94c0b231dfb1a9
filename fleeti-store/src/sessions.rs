//! Login sessions of browsers.

use crate::{Connection, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::AccountName;

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// The digest of its token.
    pub token_sha256: String,
    /// Its account.
    pub account: AccountName,
    /// When it began, Unix seconds.
    pub created_s: u64,
    /// When it was last used, Unix seconds.
    pub used_s: u64,
    /// When it ends, Unix seconds.
    pub expires_s: u64,
    /// The MAC that ties it to the credential that began it.
    pub credential: String,
    /// The id of the passkey that began it; `None` for another credential.
    pub passkey: Option<String>,
}

type Columns = (String, String, i64, i64, i64, String, Option<String>);

const COLUMNS: &str = "SELECT token_sha256, account, created_s, used_s, expires_s, credential_sha256, passkey FROM sessions";

fn session(columns: Columns) -> Result<SessionRow, StoreError> {
    let (token_sha256, account, created_s, used_s, expires_s, credential, passkey) = columns;
    Ok(SessionRow {
        token_sha256,
        account: account.parse().map_err(StoreError::value)?,
        created_s: from_seconds(created_s),
        used_s: from_seconds(used_s),
        expires_s: from_seconds(expires_s),
        credential,
        passkey,
    })
}

/// Adds a session, and deletes expired ones.
pub async fn insert(tx: &mut Tx<'_>, row: &SessionRow) -> Result<(), StoreError> {
    sql::query("DELETE FROM sessions WHERE expires_s < $1")
        .bind(seconds(row.created_s))
        .execute(&mut **tx)
        .await?;
    let sql = "INSERT INTO sessions (token_sha256, account, created_s, used_s, expires_s, credential_sha256, passkey) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sql::query(sql)
        .bind(&row.token_sha256)
        .bind(row.account.as_str())
        .bind(seconds(row.created_s))
        .bind(seconds(row.used_s))
        .bind(seconds(row.expires_s))
        .bind(&row.credential)
        .bind(&row.passkey)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The session with this digest.
pub async fn get(
    connection: &mut Connection,
    token_sha256: &str,
) -> Result<Option<SessionRow>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("{COLUMNS} WHERE token_sha256 = $1"));
    let found: Option<Columns> =
        sql::query_as(sql).bind(token_sha256).fetch_optional(connection).await?;
    found.map(session).transpose()
}

/// The sessions of an account, oldest first.
pub async fn of(
    connection: &mut Connection,
    account: &AccountName,
) -> Result<Vec<SessionRow>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "{COLUMNS} WHERE account = $1 ORDER BY created_s, token_sha256"
    ));
    let rows: Vec<Columns> =
        sql::query_as(sql).bind(account.as_str()).fetch_all(connection).await?;
    rows.into_iter().map(session).collect()
}

/// Records the use of a session.
pub async fn used(tx: &mut Tx<'_>, token_sha256: &str, now_s: u64) -> Result<(), StoreError> {
    sql::query("UPDATE sessions SET used_s = $2 WHERE token_sha256 = $1")
        .bind(token_sha256)
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Ends a session.
pub async fn delete(tx: &mut Tx<'_>, token_sha256: &str) -> Result<(), StoreError> {
    sql::query("DELETE FROM sessions WHERE token_sha256 = $1")
        .bind(token_sha256)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Ends all sessions of an account. Returns how many there were.
pub async fn delete_all(tx: &mut Tx<'_>, account: &AccountName) -> Result<u64, StoreError> {
    let sql = "DELETE FROM sessions WHERE account = $1";
    Ok(sql::query(sql).bind(account.as_str()).execute(&mut **tx).await?.rows_affected())
}
