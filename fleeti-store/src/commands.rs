//! Commands to devices, and their results.

use crate::{Connection, Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::command::{Event, OVERDUE_S, State, step};
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::api::CommandStatus;
use fleeti_core::wire::command::{Acknowledgement, Cancellation, Command, CommandKind, detail};

/// Maximum number of open commands per device. Each delivery reads all of them.
pub const PENDING_MAX: i64 = 64;
/// Maximum number of results that are kept of one device.
pub const RESULTS_MAX: i64 = 8;
/// A result is kept this long, seconds: 30 days.
pub const RESULT_S: u64 = 30 * 86_400;
/// A command is kept this long, seconds: 180 days.
pub const COMMAND_S: u64 = 180 * 86_400;

const COLUMNS: &str =
    "id, device, created_s, deadline_s, kind, status, detail, changed_s, sent_by, result_bytes";
const OPEN: &str = "status IN ('pending', 'running', 'cancelling')";

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    device: String,
    created_s: i64,
    deadline_s: i64,
    kind: String,
    status: String,
    detail: String,
    changed_s: i64,
    sent_by: String,
    result_bytes: Option<i64>,
}

impl Row {
    fn state(&self) -> Result<State, StoreError> {
        let wrong = || StoreError::value(format!("command {} is {:?}", self.id, self.status));
        State::named(&self.status).ok_or_else(wrong)
    }

    fn status(self, now_s: u64) -> Result<CommandStatus, StoreError> {
        let (state, deadline_s) = (self.state()?, from_seconds(self.deadline_s));
        Ok(CommandStatus {
            id: self.id,
            device: self.device.parse().map_err(StoreError::value)?,
            kind: serde_json::from_str(&self.kind)?,
            status: seen(state, deadline_s, now_s).as_str().to_owned(),
            detail: (!self.detail.is_empty()).then_some(self.detail),
            created_s: from_seconds(self.created_s),
            deadline_s,
            changed_s: from_seconds(self.changed_s.max(self.created_s)),
            sent_by: self.sent_by,
            result_bytes: self.result_bytes.map(from_seconds),
        })
    }
}

/// The state of a command at a time: rows are marked as expired later.
pub(crate) fn seen(state: State, deadline_s: u64, now_s: u64) -> State {
    let event = if deadline_s.saturating_add(OVERDUE_S) < now_s {
        Event::Overdue
    } else if deadline_s < now_s {
        Event::DeadlinePassed
    } else {
        return state;
    };
    step(state, event).unwrap_or(state)
}

/// A command to add.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// The command.
    pub command: &'a Command,
    /// Who sends it.
    pub sent_by: &'a str,
}

/// Adds a command.
pub async fn insert(tx: &mut Tx<'_>, new: New<'_>, now_s: u64) -> Result<(), StoreError> {
    let New { device, command, sent_by } = new;
    sql::query(
        "INSERT INTO commands (id, device, created_s, deadline_s, kind, status, changed_s, sent_by) \
         VALUES ($1, $2, $3, $4, $5, 'pending', $3, $6)",
    )
    .bind(&command.id)
    .bind(device.as_str())
    .bind(seconds(now_s))
    .bind(seconds(command.deadline_s))
    .bind(serde_json::to_string(&command.kind)?)
    .bind(sent_by)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What a device is sent about a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The command.
    Command(Command),
    /// The command is cancelled.
    Cancellation(Cancellation),
}

/// What a device has not answered, oldest first: unexpired commands, and cancellations.
pub async fn pending(
    pool: &Pool,
    device: &DeviceId,
    now_s: u64,
) -> Result<Vec<Message>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM commands WHERE device = $1 AND (status = 'pending' AND deadline_s >= $3 \
         OR status = 'cancelling' AND deadline_s >= $4) ORDER BY created_s, id LIMIT $2"
    ));
    let query = sql::query_as::<Row>(sql)
        .bind(device.as_str())
        .bind(PENDING_MAX)
        .bind(seconds(now_s))
        .bind(seconds(now_s.saturating_sub(OVERDUE_S)));
    let message = |row: Row| match row.state()? {
        State::Cancelling => Ok(Message::Cancellation(Cancellation { cancel: row.id })),
        State::Pending
        | State::Running
        | State::Done
        | State::Failed
        | State::Cancelled
        | State::Expired => Ok(Message::Command(Command {
            kind: serde_json::from_str(&row.kind)?,
            deadline_s: from_seconds(row.deadline_s),
            id: row.id,
        })),
    };
    query.fetch_all(pool).await?.into_iter().map(message).collect()
}

/// Number of open commands of a device. Marks those whose time has passed as expired.
pub async fn pending_count(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    now_s: u64,
) -> Result<i64, StoreError> {
    expire(tx, Some(device), now_s).await?;
    let sql =
        sql::AssertSqlSafe(format!("SELECT COUNT(*) FROM commands WHERE device = $1 AND {OPEN}"));
    sql::query_scalar(sql).bind(device.as_str()).fetch_one(&mut **tx).await
}

/// Number of the commands of a device whose deadline has not passed, whatever became of them: the
/// device remembers each until then.
pub async fn remembered_count(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    now_s: u64,
) -> Result<i64, StoreError> {
    let sql = "SELECT COUNT(*) FROM commands WHERE device = $1 AND deadline_s >= $2";
    let query = sql::query_scalar(sql).bind(device.as_str()).bind(seconds(now_s));
    query.fetch_one(&mut **tx).await
}

/// Marks commands whose time has passed as expired. Returns their number.
pub async fn expire_all(tx: &mut Tx<'_>, now_s: u64) -> Result<u64, StoreError> {
    expire(tx, None, now_s).await
}

/// As [`Event::DeadlinePassed`] and [`Event::Overdue`] of the machine.
async fn expire(tx: &mut Tx<'_>, device: Option<&DeviceId>, now_s: u64) -> Result<u64, StoreError> {
    let sql = "UPDATE commands SET status = 'expired', changed_s = $1 WHERE ($3 = '' OR device = $3) AND \
               (status = 'pending' AND deadline_s < $1 OR status IN ('running', 'cancelling') AND deadline_s < $2)";
    let query = sql::query(sql)
        .bind(seconds(now_s))
        .bind(seconds(now_s.saturating_sub(OVERDUE_S)))
        .bind(device.map_or("", DeviceId::as_str));
    Ok(query.execute(&mut **tx).await?.rows_affected())
}

/// Deletes results and commands that are old, at most `limit` of each. Returns their number.
pub async fn prune(tx: &mut Tx<'_>, now_s: u64, limit: u32) -> Result<u64, StoreError> {
    let old = "UPDATE commands SET result_bytes = NULL WHERE id IN \
               (SELECT command FROM command_results WHERE at_s < $1 ORDER BY at_s, command LIMIT $2)";
    let results = "DELETE FROM command_results WHERE command IN \
                   (SELECT command FROM command_results WHERE at_s < $1 ORDER BY at_s, command LIMIT $2)";
    let commands = sql::AssertSqlSafe(format!(
        "DELETE FROM commands WHERE id IN (SELECT id FROM commands WHERE created_s < $1 AND NOT ({OPEN}) \
         ORDER BY created_s, id LIMIT $2)"
    ));
    let result_s = seconds(now_s.saturating_sub(RESULT_S));
    sql::query(old).bind(result_s).bind(limit).execute(&mut **tx).await?;
    let gone = sql::query(results).bind(result_s).bind(limit).execute(&mut **tx).await?;
    let command_s = seconds(now_s.saturating_sub(COMMAND_S));
    let ended = sql::query(commands).bind(command_s).bind(limit).execute(&mut **tx).await?;
    Ok(gone.rows_affected() + ended.rows_affected())
}

/// Whether a device got this command since a time, and the command is open or done.
pub async fn has_command_since(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    kind: CommandKind,
    since_s: u64,
) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM commands WHERE device = $1 AND kind = $2 AND created_s >= $3 \
               AND status IN ('pending', 'running', 'cancelling', 'done')";
    let query = sql::query_scalar(sql)
        .bind(device.as_str())
        .bind(serde_json::to_string(&kind)?)
        .bind(seconds(since_s));
    let found: i64 = query.fetch_one(&mut **tx).await?;
    Ok(found > 0)
}

/// Whether a device is to do this, by a command that it has not ended.
pub async fn is_commanded(
    connection: &mut Connection,
    device: &DeviceId,
    kind: &CommandKind,
    now_s: u64,
) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM commands WHERE device = $1 AND kind = $2 AND deadline_s >= $3 \
               AND status IN ('pending', 'running', 'cancelling')";
    let query = sql::query_scalar(sql)
        .bind(device.as_str())
        .bind(serde_json::to_string(kind)?)
        .bind(seconds(now_s));
    let found: i64 = query.fetch_one(connection).await?;
    Ok(found > 0)
}

/// Applies a device's answer to one of its own commands. `false` if that changes nothing: another
/// device's command, or an end that is known.
pub async fn acknowledge(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    answer: &Acknowledgement,
    now_s: u64,
) -> Result<bool, StoreError> {
    let Some(row) = row(tx, &answer.command).await? else { return Ok(false) };
    if row.device != device.as_str() {
        return Ok(false);
    }
    let Ok(state) = step(row.state()?, Event::Answered(answer.outcome)) else { return Ok(false) };
    let text = detail(answer.detail.as_deref().unwrap_or_default());
    set(tx, &row.id, (state, &text), now_s).await?;
    Ok(true)
}

/// Cancels a command. The new state, or the state that cannot be cancelled.
pub async fn cancel(
    tx: &mut Tx<'_>,
    id: &str,
    now_s: u64,
) -> Result<Option<Result<State, State>>, StoreError> {
    let Some(row) = row(tx, id).await? else { return Ok(None) };
    let state = seen(row.state()?, from_seconds(row.deadline_s), now_s);
    match step(state, Event::Cancel) {
        Ok(next) => {
            set(tx, id, (next, &row.detail), now_s).await?;
            Ok(Some(Ok(next)))
        }
        Err(rejected) => Ok(Some(Err(rejected.0))),
    }
}

async fn set(
    tx: &mut Tx<'_>,
    id: &str,
    (state, detail): (State, &str),
    now_s: u64,
) -> Result<(), StoreError> {
    sql::query("UPDATE commands SET status = $2, detail = $3, changed_s = $4 WHERE id = $1")
        .bind(id)
        .bind(state.as_str())
        .bind(detail)
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn row(tx: &mut Tx<'_>, id: &str) -> Result<Option<Row>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("SELECT {COLUMNS} FROM commands WHERE id = $1"));
    sql::query_as::<Row>(sql).bind(id).fetch_optional(&mut **tx).await
}

/// The fleet of the device of a command.
pub async fn fleet_of(pool: &Pool, id: &str) -> Result<Option<FleetId>, StoreError> {
    let sql = "SELECT d.fleet FROM commands c JOIN devices d ON d.id = c.device WHERE c.id = $1";
    let found: Option<String> = sql::query_scalar(sql).bind(id).fetch_optional(pool).await?;
    found.map(|fleet| fleet.parse().map_err(StoreError::value)).transpose()
}

/// One command.
pub async fn get(pool: &Pool, id: &str, now_s: u64) -> Result<Option<CommandStatus>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("SELECT {COLUMNS} FROM commands WHERE id = $1"));
    let row = sql::query_as::<Row>(sql).bind(id).fetch_optional(pool).await?;
    row.map(|row| row.status(now_s)).transpose()
}

/// The newest commands of a device, newest first.
pub async fn of_device(
    pool: &Pool,
    device: &DeviceId,
    limit: u32,
    now_s: u64,
) -> Result<Vec<CommandStatus>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM commands WHERE device = $1 ORDER BY created_s DESC, id DESC LIMIT $2"
    ));
    let rows = sql::query_as::<Row>(sql).bind(device.as_str()).bind(limit).fetch_all(pool).await?;
    rows.into_iter().map(|row| row.status(now_s)).collect()
}

/// Stores the result of a command of a device, in place of an earlier one, and deletes the oldest
/// results beyond [`RESULTS_MAX`].
pub async fn put_result(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    id: &str,
    (result, now_s): (&[u8], u64),
) -> Result<(), StoreError> {
    let size = i64::try_from(result.len()).map_err(StoreError::value)?;
    sql::query(
        "INSERT INTO command_results (command, device, at_s, result) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (command) DO UPDATE SET at_s = excluded.at_s, result = excluded.result",
    )
    .bind(id)
    .bind(device.as_str())
    .bind(seconds(now_s))
    .bind(result)
    .execute(&mut **tx)
    .await?;
    sql::query("UPDATE commands SET result_bytes = $2 WHERE id = $1")
        .bind(id)
        .bind(size)
        .execute(&mut **tx)
        .await?;
    let kept = "SELECT command FROM command_results WHERE device = $1 ORDER BY at_s DESC, command DESC LIMIT $2";
    let old = sql::AssertSqlSafe(format!(
        "UPDATE commands SET result_bytes = NULL WHERE device = $1 AND result_bytes IS NOT NULL AND id NOT IN ({kept})"
    ));
    let results = sql::AssertSqlSafe(format!(
        "DELETE FROM command_results WHERE device = $1 AND command NOT IN ({kept})"
    ));
    sql::query(old).bind(device.as_str()).bind(RESULTS_MAX).execute(&mut **tx).await?;
    sql::query(results).bind(device.as_str()).bind(RESULTS_MAX).execute(&mut **tx).await?;
    Ok(())
}

/// The result of a command.
pub async fn result(pool: &Pool, id: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT result FROM command_results WHERE command = $1";
    sql::query_scalar(sql).bind(id).fetch_optional(pool).await
}
