//! Commands to devices.

use crate::{Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::api::CommandStatus;
use fleeti_core::wire::device::{Command, CommandKind, Outcome};

/// Maximum number of pending commands per device. Each delivery reads all of them.
pub const PENDING_MAX: i64 = 64;

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    deadline_s: i64,
    kind: String,
    status: String,
}

/// Adds a command.
pub async fn insert(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    command: &Command,
    now_s: u64,
) -> Result<(), StoreError> {
    sql::query("INSERT INTO commands (id, device, created_s, deadline_s, kind, status) VALUES ($1, $2, $3, $4, $5, 'pending')")
        .bind(&command.id)
        .bind(device.as_str())
        .bind(seconds(now_s))
        .bind(seconds(command.deadline_s))
        .bind(serde_json::to_string(&command.kind)?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Unexpired commands that the device has not acknowledged, oldest first.
pub async fn pending(
    pool: &Pool,
    device: &DeviceId,
    now_s: u64,
) -> Result<Vec<Command>, StoreError> {
    let sql = "SELECT id, deadline_s, kind, status FROM commands WHERE device = $1 AND status = 'pending' AND deadline_s >= $3 \
               ORDER BY created_s, id LIMIT $2";
    let query =
        sql::query_as::<Row>(sql).bind(device.as_str()).bind(PENDING_MAX).bind(seconds(now_s));
    let rows = query.fetch_all(pool).await?;
    rows.into_iter()
        .map(|r| {
            Ok(Command {
                id: r.id,
                kind: serde_json::from_str(&r.kind)?,
                deadline_s: from_seconds(r.deadline_s),
            })
        })
        .collect()
}

/// Number of pending commands of a device. Marks those whose deadline has passed as expired.
pub async fn pending_count(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    now_s: u64,
) -> Result<i64, StoreError> {
    let sql = "UPDATE commands SET status = 'expired' WHERE device = $1 AND status = 'pending' AND deadline_s < $2";
    sql::query(sql).bind(device.as_str()).bind(seconds(now_s)).execute(&mut **tx).await?;
    let sql = "SELECT COUNT(*) FROM commands WHERE device = $1 AND status = 'pending'";
    sql::query_scalar(sql).bind(device.as_str()).fetch_one(&mut **tx).await
}

/// Marks commands whose deadline has passed as expired. Returns their number.
pub async fn expire_all(tx: &mut Tx<'_>, now_s: u64) -> Result<u64, StoreError> {
    let sql = "UPDATE commands SET status = 'expired' WHERE status = 'pending' AND deadline_s < $1";
    Ok(sql::query(sql).bind(seconds(now_s)).execute(&mut **tx).await?.rows_affected())
}

/// Whether a device got this command since a time, and the command is pending or done.
pub async fn has_command_since(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    kind: CommandKind,
    since_s: u64,
) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM commands WHERE device = $1 AND kind = $2 AND created_s >= $3 AND status <> 'expired'";
    let query = sql::query_scalar(sql)
        .bind(device.as_str())
        .bind(serde_json::to_string(&kind)?)
        .bind(seconds(since_s));
    let found: i64 = query.fetch_one(&mut **tx).await?;
    Ok(found > 0)
}

/// Stores a device's acknowledgement of one of its own commands.
pub async fn acknowledge(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    id: &str,
    outcome: Outcome,
) -> Result<(), StoreError> {
    let status = match outcome {
        Outcome::Done => "done",
        Outcome::Expired => "expired",
    };
    sql::query(
        "UPDATE commands SET status = $3 WHERE id = $1 AND device = $2 AND status = 'pending'",
    )
    .bind(id)
    .bind(device.as_str())
    .bind(status)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The fleet of the device of a command.
pub async fn fleet_of(pool: &Pool, id: &str) -> Result<Option<FleetId>, StoreError> {
    let sql = "SELECT d.fleet FROM commands c JOIN devices d ON d.id = c.device WHERE c.id = $1";
    let found: Option<String> = sql::query_scalar(sql).bind(id).fetch_optional(pool).await?;
    found.map(|fleet| fleet.parse().map_err(StoreError::value)).transpose()
}

/// One command.
pub async fn get(pool: &Pool, id: &str, now_s: u64) -> Result<Option<CommandStatus>, StoreError> {
    let sql = "SELECT id, deadline_s, kind, status FROM commands WHERE id = $1";
    let row = sql::query_as::<Row>(sql).bind(id).fetch_optional(pool).await?;
    row.map(|r| {
        let is_late = r.status == "pending" && from_seconds(r.deadline_s) < now_s;
        let status = if is_late { "expired".to_owned() } else { r.status };
        Ok(CommandStatus { id: r.id, kind: serde_json::from_str(&r.kind)?, status })
    })
    .transpose()
}
