//! What devices report of themselves, and their telemetry.

use crate::{StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::filter;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::windows;
use fleeti_core::wire::boot::BootSecret;
use fleeti_core::wire::device::{EPOCH_MAX, Report, SEQUENCE_JUMP_MAX, Telemetry};

/// What is known of a device whose report was stored.
#[derive(Debug, Clone)]
pub struct TakenReport {
    /// Its fleet.
    pub fleet: FleetId,
    /// The generation of its desired state.
    pub generation: u64,
    /// Since when it runs another release than its desired one.
    pub drift_since_s: Option<u64>,
    /// Its alarm: of this report, or of the server about it.
    pub alarm: Option<String>,
}

/// Fleet, generation, release before, drift, alarm.
type TakenRow = (String, i64, Option<String>, Option<i64>, Option<String>);

/// The result of storing a report.
pub enum Taken {
    /// Stored.
    New(TakenReport),
    /// A duplicate.
    Again,
    /// The sequence number is too far ahead; with the last one.
    Jumped(u64),
}

/// Stores a report that is newer than the last one: of another epoch, or with a higher sequence
/// number that is not too far ahead. The first report also sets the release that the device was
/// provisioned with, if that is unknown.
///
/// # Errors
/// When the database does not know the device.
pub async fn report(
    tx: &mut Tx<'_>,
    id: &DeviceId,
    report: &Report,
    now_s: u64,
) -> Result<Taken, StoreError> {
    let running = report.boot.running.to_string();
    // Without an epoch, the boot id stands for it: the server accepts a device that has lost its
    // sequence number again after the next boot.
    let epoch: String =
        report.epoch.as_deref().unwrap_or(&report.boot.boot_id).chars().take(EPOCH_MAX).collect();
    let row: Option<TakenRow> = sql::query_as(
        "UPDATE devices SET report_sequence = $2, boot = $3, update_state = $4, progress = $5, last_seen_s = $6, update_kind = $7, \
         trust_bundle = $8, alarm = $9, report_epoch = $11, report_refused = NULL, version_key = $13, seen_step = $14, waits = $15, time_zone = $16, \
         drift_since_s = CASE WHEN desired_release IS NULL OR desired_release = $10 THEN NULL ELSE COALESCE(drift_since_s, $6) END, \
         came_with = COALESCE(came_with, (SELECT loader_release FROM boot_keys WHERE device = $1), $10) \
         WHERE id = $1 AND (report_epoch IS DISTINCT FROM $11 OR report_sequence < $2 AND $2 <= report_sequence + $12) \
         RETURNING fleet, desired_generation, running, drift_since_s, COALESCE(clone_alarm, alarm)",
    )
    .bind(id.as_str())
    .bind(seconds(report.sequence))
    .bind(serde_json::to_string(&report.boot)?)
    .bind(serde_json::to_string(&report.update)?)
    .bind(report.progress.map(|p| serde_json::to_string(&p)).transpose()?)
    .bind(seconds(now_s))
    .bind(report.update.name())
    .bind(seconds(report.trust_bundle))
    .bind(alarm_of(report))
    .bind(running.as_str())
    .bind(epoch)
    .bind(seconds(SEQUENCE_JUMP_MAX))
    .bind(report.boot.running.version.sort_key())
    .bind(seconds(filter::seen_step(now_s)))
    .bind(report.waits.map(|waits| serde_json::to_string(&waits)).transpose()?)
    .bind(report.time_zone.as_deref().filter(|zone| windows::is_zone(zone)))
    .fetch_optional(&mut **tx)
    .await?;
    if let Some((fleet, generation, before, drift_since_s, alarm)) = row {
        // Only when it changes: an index has this column.
        if before.as_ref() != Some(&running) {
            let sql = "UPDATE devices SET running = $2 WHERE id = $1";
            sql::query(sql).bind(id.as_str()).bind(running).execute(&mut **tx).await?;
        }
        return Ok(Taken::New(TakenReport {
            fleet: fleet.parse().map_err(StoreError::value)?,
            generation: from_seconds(generation),
            drift_since_s: drift_since_s.map(from_seconds),
            alarm,
        }));
    }
    let last: i64 = sql::query_scalar("SELECT report_sequence FROM devices WHERE id = $1")
        .bind(id.as_str())
        .fetch_one(&mut **tx)
        .await?;
    Ok(if from_seconds(last) < report.sequence {
        Taken::Jumped(from_seconds(last))
    } else {
        Taken::Again
    })
}

/// The alarm in a report, including a wrong clock and a secret that did not reach the server.
fn alarm_of(report: &Report) -> Option<String> {
    let secret = || report.boot.secrets.iter().find_map(BootSecret::alarm);
    let clock = || {
        report.clock_wrong_by_s.map(|s| {
            format!("clock_wrong: the device's clock is off by {s} s; it goes by signed times")
        })
    };
    report.alarm.clone().or_else(secret).or_else(clock)
}

/// Stores why a report was refused. Returns `false` if that is stored already.
pub async fn refuse_report(
    tx: &mut Tx<'_>,
    id: &DeviceId,
    reason: &str,
) -> Result<bool, StoreError> {
    let sql = "UPDATE devices SET report_refused = $2 WHERE id = $1 AND report_refused IS DISTINCT FROM $2";
    Ok(sql::query(sql).bind(id.as_str()).bind(reason).execute(&mut **tx).await?.rows_affected()
        == 1)
}

/// Stores the last telemetry. Returns the fleet of the device, and whether its hold, or its penalty,
/// has ended.
pub async fn telemetry(
    tx: &mut Tx<'_>,
    id: &DeviceId,
    telemetry: &Telemetry,
    now_s: u64,
) -> Result<Option<(FleetId, bool)>, StoreError> {
    let sql = "UPDATE devices SET telemetry = $2, last_seen_s = $3 WHERE id = $1 RETURNING fleet, \
        COALESCE(hold_until_s <= $3, FALSE) OR COALESCE(penalty_until_s > 0 AND penalty_until_s <= $3, FALSE)";
    let row: Option<(String, bool)> = sql::query_as(sql)
        .bind(id.as_str())
        .bind(serde_json::to_string(telemetry)?)
        .bind(seconds(now_s))
        .fetch_optional(&mut **tx)
        .await?;
    // A statement of its own, because one that names the column writes its index each time.
    sql::query("UPDATE devices SET seen_step = $2 WHERE id = $1 AND seen_step <> $2")
        .bind(id.as_str())
        .bind(seconds(filter::seen_step(now_s)))
        .execute(&mut **tx)
        .await?;
    row.map(|(fleet, is_due)| Ok((fleet.parse().map_err(StoreError::value)?, is_due))).transpose()
}
