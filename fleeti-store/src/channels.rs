//! What each fleet should run when no rollout updates it.

use crate::{Connection, Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::{FleetId, ReleaseName};
use fleeti_core::rollout::gates::{FleetTarget, Pin};
use fleeti_core::wire::updates::Channel;

#[derive(sqlx::FromRow)]
struct Row {
    release_name: Option<String>,
    rollout: Option<String>,
    since_s: i64,
    pinned: Option<String>,
    pin_reason: Option<String>,
}

/// The target of a fleet by its columns.
pub(super) fn target_of(
    channel: Option<&str>,
    pinned: Option<&str>,
    reason: Option<&str>,
) -> Result<FleetTarget, StoreError> {
    let parse = |name: &str| name.parse::<ReleaseName>().map_err(StoreError::value);
    let pin = pinned.map(parse).transpose()?;
    let reason = reason.unwrap_or_default().to_owned();
    let channel = channel.map(parse).transpose()?;
    Ok(FleetTarget { channel, pin: pin.map(|release| Pin { release, reason, downgrade: false }) })
}

/// The channel of a fleet; an empty one if no rollout has succeeded.
pub async fn get(pool: &Pool, fleet: &FleetId) -> Result<Channel, StoreError> {
    let sql =
        "SELECT release_name, rollout, since_s, pinned, pin_reason FROM channels WHERE fleet = $1";
    let row: Option<Row> = sql::query_as(sql).bind(fleet.as_str()).fetch_optional(pool).await?;
    let empty =
        Channel { fleet: fleet.clone(), release: None, rollout: None, since_s: None, pin: None };
    let Some(row) = row else { return Ok(empty) };
    let FleetTarget { channel, pin } =
        target_of(row.release_name.as_deref(), row.pinned.as_deref(), row.pin_reason.as_deref())?;
    let since_s = channel.as_ref().map(|_| from_seconds(row.since_s));
    Ok(Channel { release: channel, rollout: row.rollout, since_s, pin, ..empty })
}

/// The release that devices of each fleet should run, by its pin or its channel, sorted by fleet.
/// Fleets without one, and those without a device that is not revoked, are left out.
pub async fn releases(pool: &Pool) -> Result<Vec<(FleetId, ReleaseName)>, StoreError> {
    let sql = "SELECT fleet, COALESCE(pinned, release_name) FROM channels \
               WHERE COALESCE(pinned, release_name) IS NOT NULL AND EXISTS \
               (SELECT 1 FROM devices d WHERE d.fleet = channels.fleet AND d.revoked_s IS NULL) ORDER BY fleet";
    let rows: Vec<(String, String)> = sql::query_as(sql).fetch_all(pool).await?;
    rows.into_iter()
        .map(|(fleet, release)| {
            let fleet = fleet.parse().map_err(StoreError::value)?;
            Ok((fleet, release.parse().map_err(StoreError::value)?))
        })
        .collect()
}

/// A rollout succeeded: points the channel of its fleet at its release. A rollout that goes back sets
/// only an empty channel: [`left`] moved the others when it began.
pub async fn moved(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    release: &ReleaseName,
    rollout: &str,
    now_s: u64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO channels (fleet, release_name, rollout, since_s) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (fleet) DO UPDATE SET release_name = excluded.release_name, \
        rollout = excluded.rollout, since_s = excluded.since_s WHERE channels.release_name IS NULL \
        OR NOT EXISTS (SELECT 1 FROM rollouts r WHERE r.id = $3 AND r.back_of IS NOT NULL)";
    sql::query(sql)
        .bind(fleet.as_str())
        .bind(release.to_string())
        .bind(rollout)
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Pins a fleet to a release, or ends that.
pub async fn set_pin(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    pin: Option<&Pin>,
    now_s: u64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO channels (fleet, since_s, pinned, pin_reason) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (fleet) DO UPDATE SET pinned = excluded.pinned, pin_reason = excluded.pin_reason";
    sql::query(sql)
        .bind(fleet.as_str())
        .bind(seconds(now_s))
        .bind(pin.map(|pin| pin.release.to_string()))
        .bind(pin.map(|pin| pin.reason.as_str()))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// What a fleet is pinned to.
pub async fn pin(connection: &mut Connection, fleet: &FleetId) -> Result<Option<Pin>, StoreError> {
    let sql = "SELECT pinned, pin_reason FROM channels WHERE fleet = $1 AND pinned IS NOT NULL";
    let row: Option<(String, Option<String>)> =
        sql::query_as(sql).bind(fleet.as_str()).fetch_optional(connection).await?;
    let Some((pinned, reason)) = row else { return Ok(None) };
    Ok(target_of(None, Some(&pinned), reason.as_deref())?.pin)
}

/// Devices leave the release of the rollout `of` for `release`, by the rollout `rollout`: the
/// channel leaves it, too, if it points there.
pub async fn left(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    of: &str,
    release: &ReleaseName,
    (rollout, now_s): (&str, u64),
) -> Result<(), StoreError> {
    let sql = "UPDATE channels SET release_name = $2, rollout = $3, since_s = $4 WHERE fleet = $1 \
        AND release_name = (SELECT release_name FROM rollouts WHERE id = $5)";
    sql::query(sql)
        .bind(fleet.as_str())
        .bind(release.to_string())
        .bind(rollout)
        .bind(seconds(now_s))
        .bind(of)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
