//! Acts that wait for the approval of a second person, and which acts do.
//!
//! Each row has a seal, which the control plane makes and checks.

use crate::{Connection, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::approval::State;
use fleeti_core::id::AccountName;
use fleeti_core::wire::approval::Approval;

/// A pending act as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingAct {
    /// What lists show of it.
    pub approval: Approval,
    /// The credential of the account that approved it.
    pub decided_via: Option<String>,
    /// Canonical JSON of exactly what is performed.
    pub act: String,
    /// The seal.
    pub seal: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    state: String,
    requester: String,
    requested_s: i64,
    expires_s: i64,
    via: String,
    decided_by: Option<String>,
    decided_s: Option<i64>,
    reason: String,
    summary: String,
    fleets: Option<String>,
    note: String,
    outcome: String,
}

#[derive(sqlx::FromRow)]
struct WholeRow {
    #[sqlx(flatten)]
    row: Row,
    decided_via: Option<String>,
    seal: String,
    act: String,
}

const COLUMNS: &str = "id, state, requester, requested_s, expires_s, via, decided_by, decided_s, \
                       reason, summary, fleets, note, outcome";

fn state(text: &str) -> Result<State, StoreError> {
    let found = State::ALL.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| StoreError::Value(format!("the state of a pending act is {text:?}")))
}

impl TryFrom<Row> for Approval {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        let name = |text: String| text.parse::<AccountName>().map_err(StoreError::value);
        Ok(Self {
            state: state(&row.state)?,
            id: row.id,
            act: row.summary,
            fleets: row.fleets.as_deref().map(serde_json::from_str).transpose()?,
            requester: name(row.requester)?,
            via: row.via,
            reason: row.reason,
            requested_s: from_seconds(row.requested_s),
            expires_s: from_seconds(row.expires_s),
            decided_by: row.decided_by.map(name).transpose()?,
            decided_s: row.decided_s.map(from_seconds),
            note: row.note,
            outcome: row.outcome,
        })
    }
}

/// Adds a pending act.
pub async fn insert(tx: &mut Tx<'_>, row: &PendingAct) -> Result<(), StoreError> {
    let sql = "INSERT INTO pending_acts (id, state, requester, requested_s, expires_s, via, reason, \
               summary, fleets, note, outcome, seal, act) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    let of = &row.approval;
    let fleets = of.fleets.as_ref().map(serde_json::to_string).transpose()?;
    sql::query(sql)
        .bind(&of.id)
        .bind(of.state.as_str())
        .bind(of.requester.as_str())
        .bind(seconds(of.requested_s))
        .bind(seconds(of.expires_s))
        .bind(&of.via)
        .bind(&of.reason)
        .bind(&of.act)
        .bind(fleets)
        .bind(&of.note)
        .bind(&of.outcome)
        .bind(&row.seal)
        .bind(&row.act)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Stores what became of a pending act.
pub async fn update(tx: &mut Tx<'_>, row: &PendingAct) -> Result<(), StoreError> {
    let sql = "UPDATE pending_acts SET state = $2, decided_by = $3, decided_via = $4, \
               decided_s = $5, note = $6, outcome = $7, seal = $8 WHERE id = $1";
    let of = &row.approval;
    sql::query(sql)
        .bind(&of.id)
        .bind(of.state.as_str())
        .bind(of.decided_by.as_ref().map(AccountName::as_str))
        .bind(&row.decided_via)
        .bind(of.decided_s.map(seconds))
        .bind(&of.note)
        .bind(&of.outcome)
        .bind(&row.seal)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A pending act.
pub async fn get(connection: &mut Connection, id: &str) -> Result<Option<PendingAct>, StoreError> {
    let sql = format!("SELECT {COLUMNS}, decided_via, seal, act FROM pending_acts WHERE id = $1");
    let found: Option<WholeRow> =
        sql::query_as(sql::AssertSqlSafe(sql)).bind(id).fetch_optional(connection).await?;
    let whole = |whole: WholeRow| {
        let WholeRow { row, decided_via, seal, act } = whole;
        Ok(PendingAct { approval: row.try_into()?, decided_via, act, seal })
    };
    found.map(whole).transpose()
}

/// Pending acts: those that wait first, then the newest.
pub async fn list(connection: &mut Connection, limit: u32) -> Result<Vec<Approval>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM pending_acts \
         ORDER BY CASE state WHEN 'waiting' THEN 0 WHEN 'approved' THEN 1 ELSE 2 END, \
         requested_s DESC, id LIMIT $1"
    );
    let rows: Vec<Row> =
        sql::query_as(sql::AssertSqlSafe(sql)).bind(i64::from(limit)).fetch_all(connection).await?;
    rows.into_iter().map(Approval::try_from).collect()
}

/// Number of acts of an account that wait.
pub async fn waiting_of(tx: &mut Tx<'_>, account: &AccountName) -> Result<usize, StoreError> {
    let sql = "SELECT COUNT(*) FROM pending_acts WHERE state = 'waiting' AND requester = $1";
    let n: i64 = sql::query_scalar(sql).bind(account.as_str()).fetch_one(&mut **tx).await?;
    Ok(usize::try_from(n).unwrap_or(usize::MAX))
}

/// Ids of acts that wait, or are approved, and have expired.
pub async fn late(tx: &mut Tx<'_>, now_s: u64, limit: u32) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT id FROM pending_acts WHERE state IN ('waiting', 'approved') \
               AND expires_s < $1 ORDER BY expires_s LIMIT $2";
    let query = sql::query_scalar(sql).bind(seconds(now_s)).bind(i64::from(limit));
    query.fetch_all(&mut **tx).await
}

/// Removes acts that were requested before a time and have ended.
pub async fn prune(tx: &mut Tx<'_>, before_s: u64) -> Result<(), StoreError> {
    let sql =
        "DELETE FROM pending_acts WHERE requested_s < $1 AND state NOT IN ('waiting', 'approved')";
    sql::query(sql).bind(seconds(before_s)).execute(&mut **tx).await?;
    Ok(())
}

/// Which acts need a second person, as JSON, and the seal of that.
pub async fn policy(connection: &mut Connection) -> Result<Option<(String, String)>, StoreError> {
    let sql = "SELECT policy, seal FROM approval_policy WHERE one = 1";
    sql::query_as(sql).fetch_optional(connection).await
}

/// Stores which acts need a second person.
pub async fn set_policy(tx: &mut Tx<'_>, policy: &str, seal: &str) -> Result<(), StoreError> {
    let sql = "INSERT INTO approval_policy (one, policy, seal) VALUES (1, $1, $2) \
               ON CONFLICT (one) DO UPDATE SET policy = excluded.policy, seal = excluded.seal";
    sql::query(sql).bind(policy).bind(seal).execute(&mut **tx).await?;
    Ok(())
}

/// Number of devices that an account revoked without a second person since a time.
pub async fn revoked_alone(
    tx: &mut Tx<'_>,
    account: &str,
    since_s: u64,
) -> Result<u64, StoreError> {
    let sql = "SELECT devices FROM revocations_alone WHERE account = $1 AND at_s > $2";
    let all: Vec<i64> =
        sql::query_scalar(sql).bind(account).bind(seconds(since_s)).fetch_all(&mut **tx).await?;
    Ok(all.into_iter().map(from_seconds).sum())
}

/// Counts devices that an account revokes without a second person, and forgets those until
/// `since_s`.
pub async fn count_alone(
    tx: &mut Tx<'_>,
    (account, devices): (&str, u64),
    (now_s, since_s): (u64, u64),
) -> Result<(), StoreError> {
    sql::query("DELETE FROM revocations_alone WHERE at_s <= $1")
        .bind(seconds(since_s))
        .execute(&mut **tx)
        .await?;
    sql::query("INSERT INTO revocations_alone (account, at_s, devices) VALUES ($1, $2, $3)")
        .bind(account)
        .bind(seconds(now_s))
        .bind(seconds(devices))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Notes that an account changed another one; `""` for the use of a link.
pub async fn changed(
    tx: &mut Tx<'_>,
    account: &AccountName,
    by: &str,
    now_s: u64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO account_changes (account, changed_by, changed_s) VALUES ($1, $2, $3) \
               ON CONFLICT (account, changed_by) DO UPDATE SET changed_s = excluded.changed_s";
    sql::query(sql).bind(account.as_str()).bind(by).bind(seconds(now_s)).execute(&mut **tx).await?;
    Ok(())
}

/// When another account, or a link, last changed an account; `by` limits it to one.
pub async fn last_change(
    connection: &mut Connection,
    account: &str,
    by: Option<&str>,
) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT MAX(changed_s) FROM account_changes \
               WHERE account = $1 AND changed_by <> $1 AND ($2 = '' OR changed_by = $2)";
    let found: Option<i64> = sql::query_scalar(sql)
        .bind(account)
        .bind(by.unwrap_or_default())
        .fetch_one(connection)
        .await?;
    Ok(found.map(from_seconds))
}
