//! Accounts, their API tokens and the links that set their passwords.
//!
//! Each row has a seal, which the control plane makes and checks.

use crate::{Connection, Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::AccountName;
use fleeti_core::wire::accounts::{AccountKind, ApiToken, Grant, Permission};

/// An account as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// Its name.
    pub name: AccountName,
    /// Who it is for.
    pub kind: AccountKind,
    /// When it was added, Unix seconds.
    pub created_s: u64,
    /// When it was disabled, Unix seconds.
    pub disabled_s: Option<u64>,
    /// The hash of its password, or what else its credential is known by.
    pub password: Option<String>,
    /// Its roles.
    pub grants: Vec<Grant>,
    /// The seal.
    pub seal: String,
}

type Columns = (String, String, i64, Option<i64>, Option<String>, String, String);

const COLUMNS: &str =
    "SELECT name, kind, created_s, disabled_s, password, grants, seal FROM accounts";

fn account(columns: Columns) -> Result<AccountRow, StoreError> {
    let (name, kind, created_s, disabled_s, password, grants, seal) = columns;
    let kind = match kind.as_str() {
        "person" => AccountKind::Person,
        "service" => AccountKind::Service,
        _ => return Err(StoreError::Value(format!("the kind of account {name} is {kind:?}"))),
    };
    Ok(AccountRow {
        name: name.parse().map_err(StoreError::value)?,
        kind,
        created_s: from_seconds(created_s),
        disabled_s: disabled_s.map(from_seconds),
        password,
        grants: serde_json::from_str(&grants)?,
        seal,
    })
}

/// Adds an account. Returns `false` if the name is taken.
pub async fn insert(tx: &mut Tx<'_>, row: &AccountRow) -> Result<bool, StoreError> {
    let sql = "INSERT INTO accounts (name, kind, created_s, disabled_s, password, grants, seal) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO NOTHING";
    let done = sql::query(sql)
        .bind(row.name.as_str())
        .bind(row.kind.as_str())
        .bind(seconds(row.created_s))
        .bind(row.disabled_s.map(seconds))
        .bind(&row.password)
        .bind(serde_json::to_string(&row.grants)?)
        .bind(&row.seal)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Changes everything of an account but its name, kind and age.
pub async fn update(tx: &mut Tx<'_>, row: &AccountRow) -> Result<(), StoreError> {
    let sql = "UPDATE accounts SET disabled_s = $2, password = $3, grants = $4, seal = $5 WHERE name = $1";
    sql::query(sql)
        .bind(row.name.as_str())
        .bind(row.disabled_s.map(seconds))
        .bind(&row.password)
        .bind(serde_json::to_string(&row.grants)?)
        .bind(&row.seal)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// An account.
pub async fn get(
    connection: &mut Connection,
    name: &AccountName,
) -> Result<Option<AccountRow>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("{COLUMNS} WHERE name = $1"));
    let found: Option<Columns> =
        sql::query_as(sql).bind(name.as_str()).fetch_optional(connection).await?;
    found.map(account).transpose()
}

/// All accounts, ordered by name.
pub async fn all(connection: &mut Connection) -> Result<Vec<AccountRow>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("{COLUMNS} ORDER BY name"));
    let rows: Vec<Columns> = sql::query_as(sql).fetch_all(connection).await?;
    rows.into_iter().map(account).collect()
}

/// An API token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// What is known of it.
    pub about: ApiToken,
    /// Its digest.
    pub token_sha256: String,
    /// The seal.
    pub seal: String,
}

type TokenColumns = (String, String, String, String, Option<String>, i64, i64, Option<i64>, String);

const TOKENS: &str = "SELECT id, token_sha256, account, label, permissions, created_s, expires_s, used_s, seal FROM api_tokens";

fn token(columns: TokenColumns) -> Result<TokenRow, StoreError> {
    let (id, token_sha256, account, label, permissions, created_s, expires_s, used_s, seal) =
        columns;
    let permissions: Option<Vec<Permission>> =
        permissions.as_deref().map(serde_json::from_str).transpose()?;
    let about = ApiToken {
        id,
        account: account.parse().map_err(StoreError::value)?,
        label,
        permissions,
        created_s: from_seconds(created_s),
        expires_s: from_seconds(expires_s),
        used_s: used_s.map(from_seconds),
    };
    Ok(TokenRow { about, token_sha256, seal })
}

/// Adds an API token, and deletes expired ones.
pub async fn insert_token(tx: &mut Tx<'_>, row: &TokenRow, now_s: u64) -> Result<(), StoreError> {
    sql::query("DELETE FROM api_tokens WHERE expires_s < $1")
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    let sql = "INSERT INTO api_tokens (id, token_sha256, account, label, permissions, created_s, expires_s, seal) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let about = &row.about;
    let permissions = about.permissions.as_ref().map(serde_json::to_string).transpose()?;
    sql::query(sql)
        .bind(&about.id)
        .bind(&row.token_sha256)
        .bind(about.account.as_str())
        .bind(&about.label)
        .bind(permissions)
        .bind(seconds(about.created_s))
        .bind(seconds(about.expires_s))
        .bind(&row.seal)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn token_where(
    connection: &mut Connection,
    condition: &'static str,
    value: &str,
) -> Result<Option<TokenRow>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("{TOKENS} WHERE {condition}"));
    let found: Option<TokenColumns> =
        sql::query_as(sql).bind(value).fetch_optional(connection).await?;
    found.map(token).transpose()
}

/// The API token with this digest.
pub async fn token_by_digest(
    connection: &mut Connection,
    token_sha256: &str,
) -> Result<Option<TokenRow>, StoreError> {
    token_where(connection, "token_sha256 = $1", token_sha256).await
}

/// The API tokens of an account, oldest first.
pub async fn tokens_of(
    connection: &mut Connection,
    account: &AccountName,
) -> Result<Vec<TokenRow>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("{TOKENS} WHERE account = $1 ORDER BY created_s, id"));
    let rows: Vec<TokenColumns> =
        sql::query_as(sql).bind(account.as_str()).fetch_all(connection).await?;
    rows.into_iter().map(token).collect()
}

/// The API token with this id.
pub async fn token_by_id(
    connection: &mut Connection,
    id: &str,
) -> Result<Option<TokenRow>, StoreError> {
    token_where(connection, "id = $1", id).await
}

/// Records the use of an API token.
pub async fn token_used(tx: &mut Tx<'_>, id: &str, now_s: u64) -> Result<(), StoreError> {
    sql::query("UPDATE api_tokens SET used_s = $2 WHERE id = $1")
        .bind(id)
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes an API token.
pub async fn remove_token(tx: &mut Tx<'_>, id: &str) -> Result<(), StoreError> {
    sql::query("DELETE FROM api_tokens WHERE id = $1").bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// Removes all API tokens of an account. Returns how many there were.
pub async fn remove_tokens(tx: &mut Tx<'_>, account: &AccountName) -> Result<u64, StoreError> {
    let sql = "DELETE FROM api_tokens WHERE account = $1";
    Ok(sql::query(sql).bind(account.as_str()).execute(&mut **tx).await?.rows_affected())
}

/// A one-time link as it is stored. Without an account it is for the first administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRow {
    /// The account.
    pub account: Option<AccountName>,
    /// The digest of its token.
    pub token_sha256: String,
    /// When it ends, Unix seconds.
    pub expires_s: u64,
    /// The seal.
    pub seal: String,
}

/// Stores a link, in place of an earlier one of the same account.
pub async fn put_link(tx: &mut Tx<'_>, row: &LinkRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO password_links (account, token_sha256, expires_s, seal) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (account) DO UPDATE SET token_sha256 = excluded.token_sha256, \
               expires_s = excluded.expires_s, seal = excluded.seal";
    sql::query(sql)
        .bind(row.account.as_ref().map_or("", AccountName::as_str))
        .bind(&row.token_sha256)
        .bind(seconds(row.expires_s))
        .bind(&row.seal)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The link with this digest.
pub async fn link(
    connection: &mut Connection,
    token_sha256: &str,
) -> Result<Option<LinkRow>, StoreError> {
    let sql =
        "SELECT account, token_sha256, expires_s, seal FROM password_links WHERE token_sha256 = $1";
    let found: Option<(String, String, i64, String)> =
        sql::query_as(sql).bind(token_sha256).fetch_optional(connection).await?;
    let link = |(account, token_sha256, expires_s, seal): (String, String, i64, String)| {
        let account = Some(account).filter(|name| !name.is_empty());
        let account = account.map(|name| name.parse().map_err(StoreError::value)).transpose()?;
        Ok(LinkRow { account, token_sha256, expires_s: from_seconds(expires_s), seal })
    };
    found.map(link).transpose()
}

/// Removes the link of an account, or that of the first administrator.
pub async fn remove_link(tx: &mut Tx<'_>, account: Option<&AccountName>) -> Result<(), StoreError> {
    sql::query("DELETE FROM password_links WHERE account = $1")
        .bind(account.map_or("", AccountName::as_str))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Number of enrollment tokens of an account that no device has used and that have not expired.
pub async fn open_enrollments(
    pool: &Pool,
    account: &AccountName,
    now_s: u64,
) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM enrollments WHERE account = $1 AND device IS NULL AND expires_s >= $2";
    let n: i64 =
        sql::query_scalar(sql).bind(account.as_str()).bind(seconds(now_s)).fetch_one(pool).await?;
    Ok(from_seconds(n))
}

/// Removes the enrollment tokens of an account that no device has used. Returns how many had not
/// expired.
pub async fn end_enrollments(
    tx: &mut Tx<'_>,
    account: &AccountName,
    now_s: u64,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM enrollments WHERE account = $1 AND device IS NULL AND expires_s >= $2";
    let done =
        sql::query(sql).bind(account.as_str()).bind(seconds(now_s)).execute(&mut **tx).await?;
    Ok(done.rows_affected())
}

/// Names the account that made an enrollment token.
pub async fn made_enrollment(
    tx: &mut Tx<'_>,
    token_sha256: &str,
    account: &str,
) -> Result<(), StoreError> {
    sql::query("UPDATE enrollments SET account = $2 WHERE token_sha256 = $1")
        .bind(token_sha256)
        .bind(account)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
