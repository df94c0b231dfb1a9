//! TPMs of devices.

use crate::{Connection, Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::{DeviceId, FleetId};

/// A device's TPM.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct TpmRow {
    /// SHA-256 of the endorsement key's SubjectPublicKeyInfo.
    pub ek_sha256: String,
    /// TPMT_PUBLIC of the endorsement key, base64.
    pub endorsement_key: String,
    /// TPMT_PUBLIC of the attestation key, base64.
    pub attestation_key: String,
    /// Its certificates, DER, concatenated.
    pub certificates: Vec<u8>,
    /// What the certificates state.
    #[sqlx(flatten)]
    pub manufacturer: Manufacturer,
    bound_s: i64,
}

/// The manufacturer of a TPM, as far as known.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Manufacturer {
    /// The kind, such as `hardware`; `None` without a trusted TPM manufacturer.
    #[sqlx(rename = "manufacturer")]
    pub kind: Option<String>,
    /// Description from its certificate, or why it has no valid certificate.
    pub description: String,
    /// Digest of the manufacturers and CRLs by which it was appraised.
    pub judged_by: String,
}

/// The keys of a TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmKeys {
    /// SHA-256 of the endorsement key's SubjectPublicKeyInfo.
    pub ek_sha256: String,
    /// TPMT_PUBLIC of the endorsement key, base64.
    pub endorsement_key: String,
    /// TPMT_PUBLIC of the attestation key, base64.
    pub attestation_key: String,
}

impl TpmRow {
    /// A TPM that is bound now.
    #[must_use]
    pub fn new(
        keys: TpmKeys,
        certificates: Vec<u8>,
        manufacturer: Manufacturer,
        now_s: u64,
    ) -> Self {
        let TpmKeys { ek_sha256, endorsement_key, attestation_key } = keys;
        Self {
            ek_sha256,
            endorsement_key,
            attestation_key,
            certificates,
            manufacturer,
            bound_s: seconds(now_s),
        }
    }

    /// Time of binding, Unix seconds.
    #[must_use]
    pub fn bound_s(&self) -> u64 {
        from_seconds(self.bound_s)
    }
}

/// A device's TPM, if it has shown one.
pub async fn get(pool: &Pool, device: &DeviceId) -> Result<Option<TpmRow>, StoreError> {
    let sql = "SELECT * FROM device_tpms WHERE device = $1";
    sql::query_as(sql).bind(device.as_str()).fetch_optional(pool).await
}

/// Sets this digest for TPMs from before it was stored.
pub async fn set_judged(tx: &mut Tx<'_>, by: &str) -> Result<(), StoreError> {
    sql::query("UPDATE device_tpms SET judged_by = $1 WHERE judged_by = ''")
        .bind(by)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Devices whose TPMs were appraised by other manufacturers and CRLs than these.
pub async fn judged_by_others(
    pool: &Pool,
    than: &str,
    limit: u32,
) -> Result<Vec<(DeviceId, TpmRow)>, StoreError> {
    #[derive(sqlx::FromRow)]
    struct Row {
        device: String,
        #[sqlx(flatten)]
        tpm: TpmRow,
    }
    let sql = "SELECT * FROM device_tpms WHERE judged_by < $1 \
               UNION ALL SELECT * FROM device_tpms WHERE judged_by > $1 LIMIT $2";
    let rows: Vec<Row> = sql::query_as(sql).bind(than).bind(limit).fetch_all(pool).await?;
    rows.into_iter()
        .map(|row| Ok((row.device.parse().map_err(StoreError::value)?, row.tpm)))
        .collect()
}

/// Stores the manufacturer of a device's TPM after another appraisal. Returns `false` if it changed
/// meanwhile.
pub async fn set_manufacturer(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    before: &TpmRow,
    manufacturer: &Manufacturer,
) -> Result<bool, StoreError> {
    let sql = "UPDATE device_tpms SET manufacturer = $3, description = $4, judged_by = $5 WHERE device = $1 AND judged_by = $2";
    let query = sql::query(sql)
        .bind(device.as_str())
        .bind(&before.manufacturer.judged_by)
        .bind(&manufacturer.kind)
        .bind(&manufacturer.description);
    Ok(query.bind(&manufacturer.judged_by).execute(&mut **tx).await?.rows_affected() == 1)
}

/// The result of binding a TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The device had no TPM, and the TPM no device.
    New,
    /// The TPM is bound to the device already.
    Same,
    /// The device has another TPM, or the TPM another device.
    Refused,
}

/// Whether a TPM is bound to another device that is not revoked for good, or the device is bound to
/// another TPM.
pub async fn is_taken(
    connection: &mut Connection,
    device: &DeviceId,
    row: &TpmRow,
) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM device_tpms JOIN devices ON devices.id = device_tpms.device WHERE \
               device <> $1 AND (ek_sha256 = $2 OR attestation_key = $3) AND (revoked_s IS NULL OR revocation_reason = 'certificate_hold') \
               OR device = $1 AND (ek_sha256 <> $2 OR attestation_key <> $3)";
    let query = sql::query_scalar(sql)
        .bind(device.as_str())
        .bind(&row.ek_sha256)
        .bind(&row.attestation_key);
    let found: i64 = query.fetch_one(connection).await?;
    Ok(found > 0)
}

/// Binds a TPM to a device, unless either is bound already. The TPM of a device that is revoked for
/// good is free again, so that the machine can enroll again.
pub async fn bind(tx: &mut Tx<'_>, device: &DeviceId, row: &TpmRow) -> Result<Bound, StoreError> {
    let sql = "DELETE FROM device_tpms WHERE (ek_sha256 = $1 OR attestation_key = $2) AND device <> $3 AND device IN \
               (SELECT id FROM devices WHERE revoked_s IS NOT NULL AND revocation_reason <> 'certificate_hold')";
    sql::query(sql)
        .bind(&row.ek_sha256)
        .bind(&row.attestation_key)
        .bind(device.as_str())
        .execute(&mut **tx)
        .await?;
    let sql = "INSERT INTO device_tpms \
               (device, ek_sha256, endorsement_key, attestation_key, manufacturer, description, bound_s, certificates, judged_by) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
    let inserted = sql::query(sql)
        .bind(device.as_str())
        .bind(&row.ek_sha256)
        .bind(&row.endorsement_key)
        .bind(&row.attestation_key)
        .bind(&row.manufacturer.kind)
        .bind(&row.manufacturer.description)
        .bind(row.bound_s)
        .bind(&row.certificates)
        .bind(&row.manufacturer.judged_by)
        .execute(&mut **tx)
        .await?;
    // The manufacturer may be trusted only since the TPM was bound.
    let sql = "UPDATE device_tpms SET manufacturer = $4, description = $5, certificates = $6, judged_by = $7 \
               WHERE device = $1 AND ek_sha256 = $2 AND attestation_key = $3";
    let same = sql::query(sql)
        .bind(device.as_str())
        .bind(&row.ek_sha256)
        .bind(&row.attestation_key)
        .bind(&row.manufacturer.kind)
        .bind(&row.manufacturer.description)
        .bind(&row.certificates)
        .bind(&row.manufacturer.judged_by)
        .execute(&mut **tx)
        .await?;
    Ok(match (inserted.rows_affected(), same.rows_affected()) {
        (1, _) => Bound::New,
        (_, 1) => Bound::Same,
        _ => Bound::Refused,
    })
}

/// For a device with a TPM, the SHA-256 of the newest firmware event log that it has sent.
pub async fn to_be_asked(
    pool: &Pool,
    device: &DeviceId,
) -> Result<Option<Option<String>>, StoreError> {
    let sql = "SELECT (SELECT sha256 FROM evidence_logs l WHERE l.device = t.device ORDER BY received_s DESC LIMIT 1) \
               FROM device_tpms t WHERE t.device = $1";
    sql::query_scalar(sql).bind(device.as_str()).fetch_optional(pool).await
}

/// Devices of a fleet with a bound TPM that are not revoked.
pub async fn of_fleet(pool: &Pool, fleet: &FleetId) -> Result<Vec<DeviceId>, StoreError> {
    let sql = "SELECT d.id FROM devices d JOIN device_tpms t ON t.device = d.id WHERE d.fleet = $1 AND d.revoked_s IS NULL";
    let ids: Vec<String> = sql::query_scalar(sql).bind(fleet.as_str()).fetch_all(pool).await?;
    ids.into_iter().map(|id| id.parse().map_err(StoreError::value)).collect()
}
