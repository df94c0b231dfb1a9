//! Readmissions of fleets.

use crate::{Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::{DeviceId, FleetId};

/// Opens readmission for a fleet until a time. Returns the number of devices with expired
/// certificates.
pub async fn open(
    tx: &mut Tx<'_>,
    fleet: &FleetId,
    until_s: u64,
    reason: &str,
    now_s: u64,
) -> Result<u64, StoreError> {
    let sql = "INSERT INTO readmissions (fleet, until_s, reason) VALUES ($1, $2, $3) \
               ON CONFLICT (fleet) DO UPDATE SET until_s = $2, reason = $3";
    sql::query(sql)
        .bind(fleet.as_str())
        .bind(seconds(until_s))
        .bind(reason)
        .execute(&mut **tx)
        .await?;
    let sql = "SELECT COUNT(*) FROM devices WHERE fleet = $1 AND revoked_s IS NULL AND is_in_tpm = 0 AND certificate_not_after_s < $2";
    let count: i64 = sql::query_scalar(sql)
        .bind(fleet.as_str())
        .bind(seconds(now_s))
        .fetch_one(&mut **tx)
        .await?;
    Ok(from_seconds(count))
}

/// Whether a device with this key can be readmitted: it is not revoked, its key was never in a TPM,
/// and readmission is open for its fleet. Does not check that its certificate has expired: its
/// intermediate CA may have ended instead, and a device with a valid one renews without this.
pub async fn is_open_for(
    pool: &Pool,
    id: &DeviceId,
    key_sha256: &str,
    now_s: u64,
) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM devices d JOIN readmissions r ON r.fleet = d.fleet WHERE d.id = $1 AND d.revoked_s IS NULL \
               AND d.is_in_tpm = 0 AND r.until_s >= $3 AND $2 IN (d.key_sha256, d.next_key_sha256)";
    let count: i64 = sql::query_scalar(sql)
        .bind(id.as_str())
        .bind(key_sha256)
        .bind(seconds(now_s))
        .fetch_one(pool)
        .await?;
    Ok(count == 1)
}
