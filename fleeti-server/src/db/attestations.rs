//! TPMs of devices, their evidence and what it means.

use super::{Tx, from_seconds, seconds};
use crate::error::AppError;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::attestation::{AttestationResult, Evidence};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use std::collections::BTreeMap;

/// Firmware's logs that are kept of a device.
const LOGS_MAX: i64 = 4;

/// A device's TPM.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct TpmRow {
    /// SHA-256 of the endorsement key's SubjectPublicKeyInfo.
    pub ek_sha256: String,
    /// TPMT_PUBLIC, base64.
    pub endorsement_key: String,
    /// TPMT_PUBLIC, base64.
    pub attestation_key: String,
    /// As in `hardware`.
    pub maker: Option<String>,
    /// What its certificate says, or why it has none that counts.
    pub description: String,
    bound_s: i64,
}

impl TpmRow {
    /// One that is bound now.
    #[must_use]
    pub fn new(ek_sha256: String, keys: (String, String), maker: Option<String>, description: String, now_s: u64) -> Self {
        let (endorsement_key, attestation_key) = keys;
        Self { ek_sha256, endorsement_key, attestation_key, maker, description, bound_s: seconds(now_s) }
    }

    /// Since when.
    #[must_use]
    pub fn bound_s(&self) -> u64 {
        from_seconds(self.bound_s)
    }
}

/// A device's TPM, if it has shown one.
///
/// # Errors
/// When the database does not answer.
pub async fn tpm(pool: &SqlitePool, device: &DeviceId) -> Result<Option<TpmRow>, AppError> {
    let sql = "SELECT ek_sha256, endorsement_key, attestation_key, maker, description, bound_s FROM device_tpms WHERE device = $1";
    Ok(sqlx::query_as(sql).bind(device.as_str()).fetch_optional(pool).await?)
}

/// What became of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The device had no TPM, and the TPM no device.
    New,
    /// As it was.
    Same,
    /// The device has another TPM, or the TPM another device.
    Refused,
}

/// Whether a TPM is that of another device which is not revoked for good, or the device is known by another TPM.
///
/// # Errors
/// When the database does not answer.
pub async fn is_taken(connection: &mut SqliteConnection, device: &DeviceId, row: &TpmRow) -> Result<bool, AppError> {
    let sql = "SELECT COUNT(*) FROM device_tpms JOIN devices ON devices.id = device_tpms.device WHERE \
               device <> $1 AND (ek_sha256 = $2 OR attestation_key = $3) AND (revoked_s IS NULL OR revocation_reason = 'certificate_hold') \
               OR device = $1 AND (ek_sha256 <> $2 OR attestation_key <> $3)";
    let query = sqlx::query_scalar(sql).bind(device.as_str()).bind(&row.ek_sha256).bind(&row.attestation_key);
    let found: i64 = query.fetch_one(connection).await?;
    Ok(found > 0)
}

/// Binds a TPM to a device, unless either has another one. A device that is revoked for good gives its TPM free: the
/// machine may be enrolled anew.
///
/// # Errors
/// When the database does not answer.
pub async fn bind(tx: &mut Tx<'_>, device: &DeviceId, row: &TpmRow) -> Result<Bound, AppError> {
    let sql = "DELETE FROM device_tpms WHERE (ek_sha256 = $1 OR attestation_key = $2) AND device <> $3 AND device IN \
               (SELECT id FROM devices WHERE revoked_s IS NOT NULL AND revocation_reason <> 'certificate_hold')";
    sqlx::query(sql).bind(&row.ek_sha256).bind(&row.attestation_key).bind(device.as_str()).execute(&mut **tx).await?;
    let sql = "INSERT INTO device_tpms (device, ek_sha256, endorsement_key, attestation_key, maker, description, bound_s) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    let inserted = sqlx::query(sql)
        .bind(device.as_str())
        .bind(&row.ek_sha256)
        .bind(&row.endorsement_key)
        .bind(&row.attestation_key)
        .bind(&row.maker)
        .bind(&row.description)
        .bind(row.bound_s)
        .execute(&mut **tx)
        .await?;
    // The maker may be believed only since it was bound.
    let sql = "UPDATE device_tpms SET maker = $4, description = $5 WHERE device = $1 AND ek_sha256 = $2 AND attestation_key = $3";
    let same = sqlx::query(sql)
        .bind(device.as_str())
        .bind(&row.ek_sha256)
        .bind(&row.attestation_key)
        .bind(&row.maker)
        .bind(&row.description)
        .execute(&mut **tx)
        .await?;
    Ok(match (inserted.rows_affected(), same.rows_affected()) {
        (1, _) => Bound::New,
        (_, 1) => Bound::Same,
        _ => Bound::Refused,
    })
}

/// Keeps one of firmware's logs; of each device the newest few.
///
/// # Errors
/// When the database does not answer.
pub async fn keep_log(tx: &mut Tx<'_>, device: &DeviceId, sha256: &str, bytes: &[u8], now_s: u64) -> Result<(), AppError> {
    let sql = "INSERT INTO evidence_logs (device, sha256, bytes, received_s) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (device, sha256) DO UPDATE SET received_s = excluded.received_s";
    sqlx::query(sql).bind(device.as_str()).bind(sha256).bind(bytes).bind(seconds(now_s)).execute(&mut **tx).await?;
    let sql = "DELETE FROM evidence_logs WHERE device = $1 AND sha256 NOT IN \
               (SELECT sha256 FROM evidence_logs WHERE device = $1 ORDER BY received_s DESC, sha256 = $2 DESC LIMIT $3)";
    sqlx::query(sql).bind(device.as_str()).bind(sha256).bind(LOGS_MAX).execute(&mut **tx).await?;
    Ok(())
}

/// One of firmware's logs.
///
/// # Errors
/// When the database does not answer.
pub async fn log(pool: &SqlitePool, device: &DeviceId, sha256: &str) -> Result<Option<Vec<u8>>, AppError> {
    let sql = "SELECT bytes FROM evidence_logs WHERE device = $1 AND sha256 = $2";
    Ok(sqlx::query_scalar(sql).bind(device.as_str()).bind(sha256).fetch_optional(pool).await?)
}

/// SHA-256 of the newest of firmware's logs.
///
/// # Errors
/// When the database does not answer.
pub async fn newest_log(pool: &SqlitePool, device: &DeviceId) -> Result<Option<String>, AppError> {
    let sql = "SELECT sha256 FROM evidence_logs WHERE device = $1 ORDER BY received_s DESC LIMIT 1";
    Ok(sqlx::query_scalar(sql).bind(device.as_str()).fetch_optional(pool).await?)
}

/// What was accepted last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Milliseconds, resets, restarts, and whether it is safe.
    pub clock: (u64, u32, u32, bool),
    /// Registers, hexadecimal.
    pub registers: BTreeMap<u8, String>,
}

/// Registers 0 and 2, and whether an operator has accepted them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareCodeRow {
    /// Hexadecimal.
    pub registers: [String; 2],
    /// By an operator.
    pub is_accepted: bool,
}

/// What is kept of a device's evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationRow {
    /// What was asked, hexadecimal.
    pub nonce: String,
    /// What was answered.
    pub evidence: Evidence,
    /// What was accepted last.
    pub accepted: Option<Accepted>,
    /// The firmware's code.
    pub firmware_code: Option<FirmwareCodeRow>,
    /// What it means.
    pub result: AttestationResult,
}

#[derive(sqlx::FromRow)]
struct Row {
    nonce: String,
    evidence: String,
    accepted: Option<String>,
    firmware_code: Option<String>,
    result: String,
}

impl TryFrom<Row> for AttestationRow {
    type Error = AppError;
    fn try_from(row: Row) -> Result<Self, AppError> {
        Ok(Self {
            nonce: row.nonce,
            evidence: serde_json::from_str(&row.evidence)?,
            accepted: row.accepted.map(|t| serde_json::from_str(&t)).transpose()?,
            firmware_code: row.firmware_code.map(|t| serde_json::from_str(&t)).transpose()?,
            result: serde_json::from_str(&row.result)?,
        })
    }
}

/// What is kept of a device's evidence.
///
/// # Errors
/// When the database does not answer.
pub async fn get(pool: &SqlitePool, device: &DeviceId) -> Result<Option<AttestationRow>, AppError> {
    let sql = "SELECT nonce, evidence, accepted, firmware_code, result FROM attestations WHERE device = $1";
    sqlx::query_as::<_, Row>(sql).bind(device.as_str()).fetch_optional(pool).await?.map(AttestationRow::try_from).transpose()
}

/// Keeps it. The firmware's code is kept once: it is an operator's to change.
///
/// # Errors
/// When the database does not answer.
pub async fn keep(tx: &mut Tx<'_>, device: &DeviceId, row: &AttestationRow) -> Result<(), AppError> {
    let sql = "INSERT INTO attestations (device, nonce, evidence, accepted, firmware_code, result) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT (device) DO UPDATE SET nonce = excluded.nonce, evidence = excluded.evidence, \
               accepted = excluded.accepted, firmware_code = COALESCE(attestations.firmware_code, excluded.firmware_code), \
               result = excluded.result";
    sqlx::query(sql)
        .bind(device.as_str())
        .bind(&row.nonce)
        .bind(serde_json::to_string(&row.evidence)?)
        .bind(row.accepted.as_ref().map(serde_json::to_string).transpose()?)
        .bind(row.firmware_code.as_ref().map(serde_json::to_string).transpose()?)
        .bind(serde_json::to_string(&row.result)?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Accepts the firmware's code, unless the device has answered since `seen`; whether it did.
///
/// # Errors
/// When the database does not answer.
pub async fn accept_firmware(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    seen: &AttestationResult,
    code: &FirmwareCodeRow,
) -> Result<bool, AppError> {
    let sql = "UPDATE attestations SET firmware_code = $3 WHERE device = $1 AND result = $2";
    let done = sqlx::query(sql)
        .bind(device.as_str())
        .bind(serde_json::to_string(seen)?)
        .bind(serde_json::to_string(code)?)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}
