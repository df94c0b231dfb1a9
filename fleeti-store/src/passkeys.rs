//! Passkeys of people.
//!
//! Each row has a seal, which the control plane makes and checks.

use crate::{Connection, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::AccountName;
use fleeti_core::wire::accounts::Passkey;

/// A passkey as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyRow {
    /// What is known of it.
    pub about: Passkey,
    /// Its id at the authenticator, hexadecimal.
    pub credential_id: String,
    /// Its public key (COSE), hexadecimal.
    pub public_key: String,
    /// How often it has signed; 0 for an authenticator that does not count.
    pub counter: u32,
    /// The seal.
    pub seal: String,
}

type Columns = (String, String, String, String, String, i64, i64, i64, Option<i64>, String);

const COLUMNS: &str = "SELECT id, credential_id, account, label, public_key, counter, is_synced, created_s, used_s, seal FROM passkeys";

fn passkey(columns: Columns) -> Result<PasskeyRow, StoreError> {
    let (
        id,
        credential_id,
        account,
        label,
        public_key,
        counter,
        is_synced,
        created_s,
        used_s,
        seal,
    ) = columns;
    let about = Passkey {
        id,
        account: account.parse().map_err(StoreError::value)?,
        label,
        is_synced: is_synced != 0,
        created_s: from_seconds(created_s),
        used_s: used_s.map(from_seconds),
    };
    let counter = u32::try_from(counter).map_err(StoreError::value)?;
    Ok(PasskeyRow { about, credential_id, public_key, counter, seal })
}

/// Adds a passkey. Returns `false` if an account has this credential already.
pub async fn insert(tx: &mut Tx<'_>, row: &PasskeyRow) -> Result<bool, StoreError> {
    let sql = "INSERT INTO passkeys (id, credential_id, account, label, public_key, counter, is_synced, created_s, seal) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (credential_id) DO NOTHING";
    let about = &row.about;
    let done = sql::query(sql)
        .bind(&about.id)
        .bind(&row.credential_id)
        .bind(about.account.as_str())
        .bind(&about.label)
        .bind(&row.public_key)
        .bind(i64::from(row.counter))
        .bind(i64::from(about.is_synced))
        .bind(seconds(about.created_s))
        .bind(&row.seal)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

async fn one_where(
    connection: &mut Connection,
    condition: &'static str,
    value: &str,
) -> Result<Option<PasskeyRow>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("{COLUMNS} WHERE {condition}"));
    let found: Option<Columns> = sql::query_as(sql).bind(value).fetch_optional(connection).await?;
    found.map(passkey).transpose()
}

/// The passkey with this id.
pub async fn by_id(
    connection: &mut Connection,
    id: &str,
) -> Result<Option<PasskeyRow>, StoreError> {
    one_where(connection, "id = $1", id).await
}

/// The passkey with this id at the authenticator, hexadecimal.
pub async fn by_credential(
    connection: &mut Connection,
    credential_id: &str,
) -> Result<Option<PasskeyRow>, StoreError> {
    one_where(connection, "credential_id = $1", credential_id).await
}

/// The passkeys of an account, oldest first.
pub async fn of(
    connection: &mut Connection,
    account: &AccountName,
) -> Result<Vec<PasskeyRow>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("{COLUMNS} WHERE account = $1 ORDER BY created_s, id"));
    let rows: Vec<Columns> =
        sql::query_as(sql).bind(account.as_str()).fetch_all(connection).await?;
    rows.into_iter().map(passkey).collect()
}

/// Records the use of a passkey: its counter, when it was used, and the seal.
pub async fn used(tx: &mut Tx<'_>, row: &PasskeyRow) -> Result<(), StoreError> {
    sql::query("UPDATE passkeys SET counter = $2, used_s = $3, seal = $4 WHERE id = $1")
        .bind(&row.about.id)
        .bind(i64::from(row.counter))
        .bind(row.about.used_s.map(seconds))
        .bind(&row.seal)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes a passkey, and ends the sessions that it began.
pub async fn remove(tx: &mut Tx<'_>, id: &str) -> Result<(), StoreError> {
    sql::query("DELETE FROM sessions WHERE passkey = $1").bind(id).execute(&mut **tx).await?;
    sql::query("DELETE FROM passkeys WHERE id = $1").bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// Removes all passkeys of an account. Returns how many there were.
pub async fn remove_all(tx: &mut Tx<'_>, account: &AccountName) -> Result<u64, StoreError> {
    let sql = "DELETE FROM passkeys WHERE account = $1";
    Ok(sql::query(sql).bind(account.as_str()).execute(&mut **tx).await?.rows_affected())
}
