//! Evidence and attestation results of devices.

use crate::batch::{push_list, push_rows};
use crate::sql::{self, QueryBuilder};
use crate::{Connection, Pool, StoreError, Tx, from_seconds, seconds};
use fleeti_core::attestation::{Level, level_for_update};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::strict;
use fleeti_core::wire::attestation::{AttestationResult, Evidence, aged};
use fleeti_core::wire::boot::FirmwareKeys;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;

/// Number of firmware event logs that are kept per device.
const LOGS_MAX: i64 = 4;

/// Stores a firmware event log. Keeps only the newest `LOGS_MAX` per device.
pub async fn keep_log(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    sha256: &str,
    bytes: &[u8],
    now_s: u64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO evidence_logs (device, sha256, bytes, received_s) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (device, sha256) DO UPDATE SET received_s = excluded.received_s";
    sql::query(sql)
        .bind(device.as_str())
        .bind(sha256)
        .bind(bytes)
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    let sql = "DELETE FROM evidence_logs WHERE device = $1 AND sha256 NOT IN \
               (SELECT sha256 FROM evidence_logs WHERE device = $1 ORDER BY received_s DESC, sha256 = $2 DESC LIMIT $3)";
    sql::query(sql).bind(device.as_str()).bind(sha256).bind(LOGS_MAX).execute(&mut **tx).await?;
    Ok(())
}

/// The firmware event logs that devices name.
pub async fn logs(
    connection: &mut Connection,
    named: &[(&DeviceId, &str)],
) -> Result<HashMap<DeviceId, Vec<u8>>, StoreError> {
    if named.is_empty() {
        return Ok(HashMap::new());
    }
    let mut query = QueryBuilder::new("WITH named (device, sha256) AS (");
    push_rows(&mut query, named.iter(), |row, (device, sha256)| {
        row.push_bind(device.as_str()).push_bind(*sha256);
    });
    query.push(") SELECT l.device, l.bytes FROM named n JOIN evidence_logs l ON l.device = n.device AND l.sha256 = n.sha256");
    let rows: Vec<(String, Vec<u8>)> = query.build_query_as().fetch_all(connection).await?;
    rows.into_iter()
        .map(|(device, bytes)| Ok((device.parse().map_err(StoreError::value)?, bytes)))
        .collect()
}

/// A device whose evidence is appraised: what the server knows of it, and its last result.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its fleet.
    pub fleet: FleetId,
    /// TPMT_PUBLIC of its attestation key, base64.
    pub attestation_key: String,
    /// The kind of its TPM manufacturer, if that is trusted.
    pub manufacturer: Option<String>,
    /// The expected contents of its Secure Boot variables.
    pub firmware_keys: Option<FirmwareKeys>,
    /// The release whose boot loader is on its ESP.
    pub loader_release: Option<ReleaseName>,
    /// Its desired version.
    pub wanted: Option<ReleaseName>,
    /// The release that it reports, if it was provisioned with it or it was rolled out to it.
    pub running: Option<ReleaseName>,
    /// The release that it reports, if it is neither of those.
    pub not_given: Option<ReleaseName>,
    /// Why its attestation failed.
    pub attestation_failure: Option<String>,
    /// The values that were accepted last.
    pub accepted: Option<Accepted>,
    /// Measurements of the firmware's code.
    pub firmware_code: Option<FirmwareCodeRow>,
    /// The last result.
    pub last: Found,
}

#[derive(sqlx::FromRow)]
struct SubjectRow {
    #[sqlx(flatten)]
    found: FoundRow,
    attestation_key: String,
    manufacturer: Option<String>,
    expected: Option<String>,
    change_number: Option<i64>,
    loader_release: Option<String>,
    desired_release: Option<String>,
    running: Option<String>,
    is_given: bool,
    attestation_failure: Option<String>,
    accepted: Option<String>,
    firmware_code: Option<String>,
}

impl TryFrom<SubjectRow> for Subject {
    type Error = StoreError;
    fn try_from(row: SubjectRow) -> Result<Self, StoreError> {
        let release =
            |text: Option<String>| text.map(|t| t.parse()).transpose().map_err(StoreError::value);
        let firmware_keys = match (&row.expected, row.change_number) {
            (Some(text), Some(change)) => Some(super::boot::expected(text, change)?),
            _ => None,
        };
        let running = release(row.running)?;
        let (running, not_given) = if row.is_given { (running, None) } else { (None, running) };
        Ok(Self {
            fleet: row.found.fleet.parse().map_err(StoreError::value)?,
            last: row.found.found()?,
            attestation_key: row.attestation_key,
            manufacturer: row.manufacturer,
            firmware_keys,
            loader_release: release(row.loader_release)?,
            wanted: release(row.desired_release)?,
            running,
            not_given,
            attestation_failure: row.attestation_failure,
            accepted: row.accepted.map(|t| serde_json::from_str(&t)).transpose()?,
            firmware_code: row.firmware_code.map(|t| serde_json::from_str(&t)).transpose()?,
        })
    }
}

/// Loads devices with known TPMs, by id.
pub async fn subjects(
    connection: &mut Connection,
    ids: &[&DeviceId],
) -> Result<HashMap<DeviceId, Subject>, StoreError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let runs_as_given = super::desired::RUNS_AS_GIVEN;
    let mut query = QueryBuilder::new(format!(
        "SELECT d.id, d.fleet, a.level, a.appraised_s, a.release_name, a.update_level, t.attestation_key, t.manufacturer, k.expected, k.change_number, \
         k.loader_release, d.desired_release, d.running, {runs_as_given} AS is_given, d.attestation_failure, \
         a.accepted, a.firmware_code \
         FROM devices d JOIN device_tpms t ON t.device = d.id LEFT JOIN boot_keys k ON k.device = d.id \
         LEFT JOIN attestations a ON a.device = d.id WHERE d.id IN ("
    ));
    let ids: Vec<_> = ids.iter().map(|id| id.as_str()).collect();
    push_list(&mut query, &ids);
    query.push(")");
    let rows: Vec<SubjectRow> = query.build_query_as().fetch_all(connection).await?;
    let read = |row: SubjectRow| -> Result<_, StoreError> {
        Ok((row.found.id.parse().map_err(StoreError::value)?, Subject::try_from(row)?))
    };
    // An unreadable row must not keep other devices from being appraised.
    Ok(rows
        .into_iter()
        .filter_map(|row| read(row).inspect_err(|e| tracing::error!("evidence: {e}")).ok())
        .collect())
}

/// The clock of a TPM (TPMS_CLOCK_INFO), stored as a list of its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u32, u32, bool)", into = "(u64, u32, u32, bool)")]
pub struct TpmClock {
    /// Milliseconds for which the TPM was powered.
    pub milliseconds: u64,
    /// TPM resets since it was last cleared.
    pub resets: u32,
    /// TPM restarts since the last reset.
    pub restarts: u32,
    /// Whether no higher value was reported before.
    pub safe: bool,
}

impl From<(u64, u32, u32, bool)> for TpmClock {
    fn from((milliseconds, resets, restarts, safe): (u64, u32, u32, bool)) -> Self {
        Self { milliseconds, resets, restarts, safe }
    }
}

impl From<TpmClock> for (u64, u32, u32, bool) {
    fn from(clock: TpmClock) -> Self {
        (clock.milliseconds, clock.resets, clock.restarts, clock.safe)
    }
}

/// What was accepted last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The TPM clock.
    pub clock: TpmClock,
    /// PCRs that do not change while a system runs, hexadecimal.
    pub pcrs: BTreeMap<u8, String>,
}

/// PCR 0 and PCR 2, and whether an operator has accepted them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareCodeRow {
    /// PCR 0 and PCR 2, hexadecimal.
    pub pcrs: [String; 2],
    /// Digests of EFI binaries that the firmware starts before it selects a boot entry,
    /// hexadecimal.
    #[serde(default)]
    pub binaries: Vec<String>,
    /// Whether an operator has accepted them.
    pub is_accepted: bool,
}

/// Evidence with its JSON text, which is stored exactly as the device sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentEvidence {
    text: String,
    evidence: Evidence,
}

impl SentEvidence {
    /// Parses the JSON text.
    ///
    /// # Errors
    /// When the text is not valid evidence.
    pub fn read(text: String) -> Result<Self, serde_json::Error> {
        Ok(Self { evidence: strict::from_slice(text.as_bytes())?, text })
    }
}

impl Deref for SentEvidence {
    type Target = Evidence;
    fn deref(&self) -> &Evidence {
        &self.evidence
    }
}

/// The stored evidence of a device, and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationRow {
    /// The challenge, hexadecimal.
    pub nonce: String,
    /// The evidence.
    pub evidence: SentEvidence,
    /// The values that were accepted last.
    pub accepted: Option<Accepted>,
    /// Measurements of the firmware's code.
    pub firmware_code: Option<FirmwareCodeRow>,
    /// The attestation result.
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
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            nonce: row.nonce,
            evidence: SentEvidence::read(row.evidence)?,
            accepted: row.accepted.map(|t| serde_json::from_str(&t)).transpose()?,
            firmware_code: row.firmware_code.map(|t| serde_json::from_str(&t)).transpose()?,
            result: serde_json::from_str(&row.result)?,
        })
    }
}

/// The stored evidence of a device, and its result.
pub async fn get(pool: &Pool, device: &DeviceId) -> Result<Option<AttestationRow>, StoreError> {
    let sql = "SELECT nonce, evidence, accepted, firmware_code, result FROM attestations WHERE device = $1";
    sql::query_as::<Row>(sql)
        .bind(device.as_str())
        .fetch_optional(pool)
        .await?
        .map(AttestationRow::try_from)
        .transpose()
}

/// Whether a result is the newest one of a device.
pub async fn is_last(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    result: &AttestationResult,
) -> Result<bool, StoreError> {
    let query =
        sql::query_scalar("SELECT COUNT(*) FROM attestations WHERE device = $1 AND result = $2");
    let found: i64 = query
        .bind(device.as_str())
        .bind(serde_json::to_string(result)?)
        .fetch_one(&mut **tx)
        .await?;
    Ok(found == 1)
}

/// Documents of an [`AttestationRow`], JSON.
struct Texts {
    accepted: Option<String>,
    firmware_code: Option<String>,
    result: String,
}

impl Texts {
    fn of(row: &AttestationRow) -> Result<Self, StoreError> {
        Ok(Self {
            accepted: row.accepted.as_ref().map(serde_json::to_string).transpose()?,
            firmware_code: row.firmware_code.as_ref().map(serde_json::to_string).transpose()?,
            result: serde_json::to_string(&row.result)?,
        })
    }
}

/// Stores evidence and results. Measurements of the firmware's code are stored only once:
/// afterwards only an operator can change them.
pub async fn keep(
    tx: &mut Tx<'_>,
    rows: &[(&DeviceId, &AttestationRow)],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let texts: Vec<_> = rows.iter().map(|(_, row)| Texts::of(row)).collect::<Result<_, _>>()?;
    let mut query = QueryBuilder::new(
        "INSERT INTO attestations (device, nonce, evidence, accepted, firmware_code, result, level, appraised_s, release_name, \
         update_level) SELECT * FROM (",
    );
    push_rows(&mut query, rows.iter().zip(texts), |line, ((device, row), texts)| {
        line.push_bind(device.as_str())
            .push_bind(&row.nonce)
            .push_bind(&row.evidence.text)
            .push_bind(texts.accepted)
            .push_bind(texts.firmware_code);
        line.push_bind(texts.result)
            .push_bind(row.result.level as i64)
            .push_bind(seconds(row.result.appraised_s));
        line.push_bind(row.result.release.as_ref().map(ToString::to_string));
        line.push_bind(level_for_update(&row.result.claims) as i64);
    });
    query.push(
        ") AS new WHERE column1 IS NOT NULL ON CONFLICT (device) DO UPDATE SET nonce = excluded.nonce, evidence = excluded.evidence, accepted = excluded.accepted, \
         firmware_code = COALESCE(attestations.firmware_code, excluded.firmware_code), result = excluded.result, \
         level = excluded.level, appraised_s = excluded.appraised_s, release_name = excluded.release_name, \
         update_level = excluded.update_level",
    );
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// The last result of a device, without its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    level: Level,
    appraised_s: u64,
    /// The release that was measured.
    pub release: Option<ReleaseName>,
    update_level: Level,
}

impl Found {
    /// The result of a device without evidence: the level of its enrollment.
    pub const NOTHING: Self = Self {
        level: Level::Token,
        appraised_s: u64::MAX,
        release: None,
        update_level: Level::Token,
    };

    /// The level when the evidence was appraised.
    #[must_use]
    pub fn stored_level(&self) -> Level {
        self.level
    }

    /// The level at a time: levels decay.
    #[must_use]
    pub fn level_at(&self, now_s: u64) -> Level {
        aged(self.level, self.appraised_s, now_s)
    }

    /// The level at a time, as it counts for updates (`level_for_update`).
    #[must_use]
    pub fn level_for_update(&self, now_s: u64) -> Level {
        aged(self.update_level, self.appraised_s, now_s)
    }
}

#[derive(sqlx::FromRow)]
pub(crate) struct FoundRow {
    id: String,
    fleet: String,
    level: Option<i64>,
    appraised_s: Option<i64>,
    release_name: Option<String>,
    update_level: Option<i64>,
}

fn level_of(number: i64) -> Result<Level, StoreError> {
    let level = usize::try_from(number).ok().and_then(|n| Level::ALL.get(n).copied());
    level.ok_or_else(|| StoreError::value("invalid attestation level in the database"))
}

/// A result by its columns; that of a device without evidence if one is missing.
pub(super) fn found_of_row(
    level: Option<i64>,
    update_level: Option<i64>,
    appraised_s: Option<i64>,
    release: Option<&str>,
) -> Result<Found, StoreError> {
    let (Some(level), Some(update_level), Some(appraised_s)) = (level, update_level, appraised_s)
    else {
        return Ok(Found::NOTHING);
    };
    Ok(Found {
        level: level_of(level)?,
        update_level: level_of(update_level)?,
        appraised_s: from_seconds(appraised_s),
        release: release.map(str::parse).transpose().map_err(StoreError::value)?,
    })
}

impl FoundRow {
    pub(crate) fn device(&self) -> Result<DeviceId, StoreError> {
        self.id.parse().map_err(StoreError::value)
    }

    pub(crate) fn found(&self) -> Result<Found, StoreError> {
        found_of_row(self.level, self.update_level, self.appraised_s, self.release_name.as_deref())
    }
}

const FOUND: &str = "SELECT d.id, d.fleet, a.level, a.update_level, a.appraised_s, a.release_name FROM devices d \
     LEFT JOIN attestations a ON a.device = d.id";

/// The fleet of a device, and its last result.
pub async fn found(
    connection: &mut Connection,
    device: &DeviceId,
) -> Result<Option<(FleetId, Found)>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("{FOUND} WHERE d.id = $1"));
    let row: Option<FoundRow> =
        sql::query_as(sql).bind(device.as_str()).fetch_optional(connection).await?;
    row.map(|row| Ok((row.fleet.parse().map_err(StoreError::value)?, row.found()?))).transpose()
}

/// Devices of a fleet that have sent evidence, after an id.
pub async fn with_evidence(
    pool: &Pool,
    fleet: &FleetId,
    after: &str,
    limit: u32,
) -> Result<Vec<DeviceId>, StoreError> {
    let sql = "SELECT d.id FROM devices d JOIN attestations a ON a.device = d.id WHERE d.fleet = $1 AND d.id > $2 ORDER BY d.id LIMIT $3";
    let ids: Vec<String> = sql::query_scalar(sql)
        .bind(fleet.as_str())
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?;
    ids.into_iter().map(|id| id.parse().map_err(StoreError::value)).collect()
}

/// Devices whose last evidence was for this release.
pub async fn on_release(pool: &Pool, release: &ReleaseName) -> Result<Vec<DeviceId>, StoreError> {
    let ids: Vec<String> =
        sql::query_scalar("SELECT device FROM attestations WHERE release_name = $1")
            .bind(release.to_string())
            .fetch_all(pool)
            .await?;
    ids.into_iter().map(|id| id.parse().map_err(StoreError::value)).collect()
}

/// Number of devices whose last evidence was for this release, and the results of the first ones.
pub async fn proofs_of(
    pool: &Pool,
    release: &ReleaseName,
    limit: u32,
) -> Result<(u64, Vec<(DeviceId, AttestationResult)>), StoreError> {
    let name = release.to_string();
    let count: i64 = sql::query_scalar("SELECT COUNT(*) FROM attestations WHERE release_name = $1")
        .bind(&name)
        .fetch_one(pool)
        .await?;
    let sql =
        "SELECT device, result FROM attestations WHERE release_name = $1 ORDER BY device LIMIT $2";
    let rows: Vec<(String, String)> =
        sql::query_as(sql).bind(&name).bind(i64::from(limit)).fetch_all(pool).await?;
    let read = |(device, result): (String, String)| {
        let device = device.parse().map_err(StoreError::value)?;
        Ok::<_, StoreError>((device, serde_json::from_str(&result)?))
    };
    let rows = rows.into_iter().map(read).collect::<Result<_, _>>()?;
    Ok((u64::try_from(count).unwrap_or_default(), rows))
}

/// Stores why attestation of a device failed.
pub async fn set_attestation_failure(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    what: Option<&str>,
) -> Result<(), StoreError> {
    sql::query("UPDATE devices SET attestation_failure = $2 WHERE id = $1")
        .bind(device.as_str())
        .bind(what)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Accepts the firmware's code, unless the device has sent evidence since `seen`. Returns whether
/// it did.
pub async fn accept_firmware(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    seen: &AttestationResult,
    code: &FirmwareCodeRow,
) -> Result<bool, StoreError> {
    let sql = "UPDATE attestations SET firmware_code = $3 WHERE device = $1 AND result = $2";
    let done = sql::query(sql)
        .bind(device.as_str())
        .bind(serde_json::to_string(seen)?)
        .bind(serde_json::to_string(code)?)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}
