//! Readmissions of fleets.

use crate::{Connection, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::{DeviceId, FleetId};

/// A readmission.
#[derive(Debug, Clone, Copy)]
pub struct Opened<'a> {
    /// The fleet.
    pub fleet: &'a FleetId,
    /// Its last second, Unix seconds.
    pub until_s: u64,
    /// Why an operator opened it.
    pub reason: &'a str,
}

/// Opens readmission for a fleet until a time. Returns the number of devices with expired
/// certificates.
pub async fn open(tx: &mut Tx<'_>, opened: &Opened<'_>, now_s: u64) -> Result<u64, StoreError> {
    let Opened { fleet, until_s, reason } = *opened;
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

/// Last second of the readmission of a device's fleet, Unix seconds; `None` without one.
pub async fn until_s(
    connection: &mut Connection,
    device: &DeviceId,
) -> Result<Option<u64>, StoreError> {
    let sql =
        "SELECT r.until_s FROM devices d JOIN readmissions r ON r.fleet = d.fleet WHERE d.id = $1";
    let until_s: Option<i64> =
        sql::query_scalar(sql).bind(device.as_str()).fetch_optional(connection).await?;
    Ok(until_s.map(from_seconds))
}
