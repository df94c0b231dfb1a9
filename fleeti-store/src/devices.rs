//! Devices.

use crate::batch::{push_list, push_rows};
use crate::sql::{self, QueryBuilder};
use crate::{Connection, Pool, StoreError, Tx, device_keys, from_seconds, labels, seconds};
use fleeti_core::filter;
use fleeti_core::id::{DeviceId, FleetId, Line};
use fleeti_core::wire::api::{Device, Fleet, RevocationReason};
use fleeti_core::wire::boot::BootSummary;
use std::collections::{BTreeMap, HashMap, HashSet};

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    fleet: String,
    name: Option<String>,
    note: Option<String>,
    replaced_by: Option<String>,
    last_seen_s: i64,
    certificate_sha256: String,
    certificate_not_after_s: i64,
    revoked_s: Option<i64>,
    revocation_reason: Option<String>,
    boot: Option<String>,
    update_state: Option<String>,
    progress: Option<String>,
    telemetry: Option<String>,
    desired_release: Option<String>,
    trust_bundle: i64,
    alarm: Option<String>,
    clone_alarm: Option<String>,
    attestation_failure: Option<String>,
    #[sqlx(flatten)]
    keys: super::boot::JoinedRow,
}

const COLUMNS: &str = "SELECT id, fleet, name, note, replaced_by, last_seen_s, certificate_sha256, certificate_not_after_s, revoked_s, revocation_reason, boot, \
     update_state, progress, telemetry, desired_release, trust_bundle, COALESCE(alarm, report_refused) AS alarm, clone_alarm, attestation_failure, k.epoch, k.expected, k.change_number \
     FROM devices LEFT JOIN boot_keys k ON k.device = id";

fn json<T: serde::de::DeserializeOwned>(text: Option<String>) -> Result<Option<T>, StoreError> {
    Ok(text.map(|t| serde_json::from_str(&t)).transpose()?)
}

pub(super) fn reason(text: &str) -> Result<RevocationReason, StoreError> {
    let known = RevocationReason::ALL.into_iter().find(|r| r.as_str() == text);
    known.ok_or_else(|| StoreError::value(format!("revocation reason {text:?}")))
}

impl TryFrom<Row> for Device {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        let boot: Option<BootSummary> = json(row.boot)?;
        Ok(Self {
            secure_boot: row.keys.assess(boot.as_ref())?,
            id: row.id.parse().map_err(StoreError::value)?,
            fleet: row.fleet.parse().map_err(StoreError::value)?,
            name: row.name,
            note: row.note,
            labels: BTreeMap::new(),
            replaced_by: row
                .replaced_by
                .map(|id| id.parse())
                .transpose()
                .map_err(StoreError::value)?,
            online: false,
            revoked: row.revoked_s.is_some(),
            revocation_reason: row.revocation_reason.as_deref().map(reason).transpose()?,
            last_seen_s: from_seconds(row.last_seen_s),
            boot,
            update: json(row.update_state)?,
            progress: json(row.progress)?,
            desired: row
                .desired_release
                .map(|r| r.parse())
                .transpose()
                .map_err(StoreError::value)?,
            certificate_sha256: row.certificate_sha256,
            certificate_not_after_s: from_seconds(row.certificate_not_after_s),
            telemetry: json(row.telemetry)?,
            trust_bundle: from_seconds(row.trust_bundle),
            // An alarm of the server takes precedence over the device's own.
            alarm: row.clone_alarm.or(row.alarm),
            attestation_failure: row.attestation_failure,
        })
    }
}

/// A device certificate.
pub struct Certified {
    /// SHA-256 of its public key.
    pub key_sha256: String,
    /// Serial, hexadecimal.
    pub serial: String,
    /// PEM.
    pub pem: String,
    /// SHA-256 of the DER.
    pub certificate_sha256: String,
    /// End of validity.
    pub not_after_s: u64,
    /// SHA-256 of the intermediate CA that issued it.
    pub issuer: String,
    /// Whether its key is in the device's TPM.
    pub is_in_tpm: bool,
}

/// A device with a certificate for it.
#[derive(Clone, Copy)]
pub struct WithCertificate<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// Its fleet.
    pub fleet: &'a FleetId,
    /// The certificate.
    pub certificate: &'a Certified,
}

impl<'a> WithCertificate<'a> {
    fn key(&self) -> (&'a str, &'a DeviceId) {
        (&self.certificate.key_sha256, self.device)
    }
}

/// Adds devices that are new, each with a key that no device has used. If one of them is not, the
/// transaction must be rolled back.
pub async fn insert_new(
    tx: &mut Tx<'_>,
    devices: &[WithCertificate<'_>],
    now_s: u64,
) -> Result<(), StoreError> {
    if devices.is_empty() {
        return Ok(());
    }
    insert(tx, devices, now_s, "").await?;
    insert_issued(tx, devices).await?;
    let keys: Vec<_> = devices.iter().map(WithCertificate::key).collect();
    device_keys::insert_new(tx, &keys).await
}

/// Adds devices, or stores new certificates of known ones. If that fails, the transaction must be
/// rolled back.
pub async fn upsert(
    tx: &mut Tx<'_>,
    devices: &[WithCertificate<'_>],
    now_s: u64,
) -> Result<(), StoreError> {
    if devices.is_empty() {
        return Ok(());
    }
    // A different key is stored as the next one, and replaces the old one on first use.
    let known = " ON CONFLICT (id) DO UPDATE SET serial = excluded.serial, certificate_sha256 = excluded.certificate_sha256, \
         certificate_not_after_s = excluded.certificate_not_after_s, next_is_in_tpm = excluded.is_in_tpm, \
         next_key_sha256 = CASE WHEN excluded.key_sha256 = devices.key_sha256 THEN NULL ELSE excluded.key_sha256 END";
    let mut rest = devices.to_vec();
    while !rest.is_empty() {
        // PostgreSQL refuses to change a row twice in one statement.
        let mut seen = HashSet::new();
        let (once, again): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|row| seen.insert(row.device.as_str()));
        insert(tx, &once, now_s, known).await?;
        insert_issued(tx, &once).await?;
        let keys: Vec<_> = once.iter().map(WithCertificate::key).collect();
        device_keys::insert_known(tx, &keys).await?;
        rest = again;
    }
    Ok(())
}

async fn insert(
    tx: &mut Tx<'_>,
    devices: &[WithCertificate<'_>],
    now_s: u64,
    on_conflict: &'static str,
) -> Result<(), StoreError> {
    // OR FAIL, because the caller rolls the transaction back anyway: for OR ABORT, the default, SQLite
    // copies each page before it changes it, to undo a failed statement alone.
    let mut query = QueryBuilder::new(
        "INSERT OR FAIL INTO devices (id, fleet, created_s, last_seen_s, key_sha256, serial, certificate_sha256, \
         certificate_not_after_s, is_in_tpm, seen_step) SELECT * FROM (",
    );
    let (seen_step, now_s) = (seconds(filter::seen_step(now_s)), seconds(now_s));
    push_rows(
        &mut query,
        devices.iter().copied(),
        |row, WithCertificate { device, fleet, certificate: c }| {
            row.push_bind(device.as_str())
                .push_bind(fleet.as_str())
                .push_bind(now_s)
                .push_bind(now_s);
            row.push_bind(&c.key_sha256)
                .push_bind(&c.serial)
                .push_bind(&c.certificate_sha256)
                .push_bind(seconds(c.not_after_s));
            row.push_bind(i64::from(c.is_in_tpm)).push_bind(seen_step);
        },
    );
    query.push(") AS new WHERE column1 IS NOT NULL").push(on_conflict);
    query.build().execute(&mut **tx).await?;
    Ok(())
}

async fn insert_issued(tx: &mut Tx<'_>, devices: &[WithCertificate<'_>]) -> Result<(), StoreError> {
    let mut query = QueryBuilder::new(
        "INSERT OR FAIL INTO issued (serial, device, sha256, not_after_s, pem, issuer, key_sha256) SELECT * FROM (",
    );
    push_rows(
        &mut query,
        devices.iter().copied(),
        |row, WithCertificate { device, certificate: c, .. }| {
            row.push_bind(&c.serial)
                .push_bind(device.as_str())
                .push_bind(&c.certificate_sha256)
                .push_bind(seconds(c.not_after_s))
                .push_bind(&c.pem)
                .push_bind(&c.issuer)
                .push_bind(&c.key_sha256);
        },
    );
    query.push(") AS new WHERE column1 IS NOT NULL");
    query.build().execute(&mut **tx).await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct KeyRow {
    id: String,
    key_sha256: String,
    revoked_s: Option<i64>,
}

/// The keys of known devices, and whether the devices are revoked, by id.
pub async fn existing(
    tx: &mut Tx<'_>,
    ids: &[&DeviceId],
) -> Result<HashMap<String, (String, bool)>, StoreError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut query =
        QueryBuilder::new("SELECT id, key_sha256, revoked_s FROM devices WHERE id IN (");
    let ids: Vec<_> = ids.iter().map(|id| id.as_str()).collect();
    push_list(&mut query, &ids);
    query.push(")");
    let rows: Vec<KeyRow> = query.build_query_as().fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|row| (row.id, (row.key_sha256, row.revoked_s.is_some()))).collect())
}

/// The fleets of known devices, by id.
pub async fn fleets_of(
    pool: &Pool,
    ids: &[DeviceId],
) -> Result<HashMap<String, FleetId>, StoreError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut query = QueryBuilder::new("SELECT id, fleet FROM devices WHERE id IN (");
    let ids: Vec<_> = ids.iter().map(DeviceId::as_str).collect();
    push_list(&mut query, &ids);
    query.push(")");
    let rows: Vec<(String, String)> = query.build_query_as().fetch_all(pool).await?;
    let read = |(id, fleet): (String, String)| Ok((id, fleet.parse().map_err(StoreError::value)?));
    rows.into_iter().map(read).collect()
}

/// Those of these devices that are in a fleet and not revoked.
pub async fn in_fleet(
    connection: &mut Connection,
    fleet: &FleetId,
    ids: &[&DeviceId],
) -> Result<HashSet<String>, StoreError> {
    let sql = sql::Text::each(|dialect| {
        format!(
            "SELECT id FROM devices \
             WHERE fleet = $1 AND revoked_s IS NULL AND id IN (SELECT value FROM {})",
            dialect.strings_in(2)
        )
    });
    let query = sql::query_scalar(sql).bind(fleet.as_str()).bind(serde_json::to_string(ids)?);
    let found: Vec<String> = query.fetch_all(connection).await?;
    Ok(found.into_iter().collect())
}

/// One device.
pub async fn get(pool: &Pool, id: &str) -> Result<Option<Device>, StoreError> {
    let sql = sql::AssertSqlSafe(format!("{COLUMNS} WHERE id = $1"));
    let row = sql::query_as::<Row>(sql).bind(id).fetch_optional(pool).await?;
    Ok(shown(pool, row.into_iter().collect()).await?.pop())
}

/// Devices with their labels.
async fn shown(pool: &Pool, rows: Vec<Row>) -> Result<Vec<Device>, StoreError> {
    let mut devices = rows.into_iter().map(Device::try_from).collect::<Result<Vec<_>, _>>()?;
    let mut labels = labels::of_devices(pool, devices.iter().map(|device| &device.id)).await?;
    for device in &mut devices {
        device.labels = labels.remove(device.id.as_str()).unwrap_or_default();
    }
    Ok(devices)
}

/// These devices, ordered by id.
pub async fn listed(pool: &Pool, ids: &[DeviceId]) -> Result<Vec<Device>, StoreError> {
    if ids.is_empty() {
        return Ok(vec![]);
    }
    let mut query = QueryBuilder::new(format!("{COLUMNS} WHERE id IN ("));
    let ids: Vec<_> = ids.iter().map(DeviceId::as_str).collect();
    push_list(&mut query, &ids);
    query.push(") ORDER BY id");
    let rows = query.build_query_as::<Row>().fetch_all(pool).await?;
    shown(pool, rows).await
}

/// The fleet of a device.
pub async fn fleet_of(pool: &Pool, id: &DeviceId) -> Result<Option<FleetId>, StoreError> {
    let sql = "SELECT fleet FROM devices WHERE id = $1";
    let found: Option<String> =
        sql::query_scalar(sql).bind(id.as_str()).fetch_optional(pool).await?;
    found.map(|fleet| fleet.parse().map_err(StoreError::value)).transpose()
}

/// A page of devices, ordered by id, after `after`; of one fleet, or of all.
pub async fn page(
    pool: &Pool,
    fleet: Option<&FleetId>,
    after: &str,
    limit: u32,
) -> Result<Vec<Device>, StoreError> {
    let sql = match fleet {
        Some(_) => format!("{COLUMNS} WHERE fleet = $3 AND id > $1 ORDER BY id LIMIT $2"),
        None => format!("{COLUMNS} WHERE id > $1 ORDER BY id LIMIT $2"),
    };
    let query = sql::query_as::<Row>(sql::AssertSqlSafe(sql)).bind(after).bind(i64::from(limit));
    let query = match fleet {
        Some(fleet) => query.bind(fleet.as_str()),
        None => query,
    };
    shown(pool, query.fetch_all(pool).await?).await
}

/// Devices whose last update failed or was rolled back, that raise an alarm, or whose attestation
/// failed.
pub async fn in_trouble(pool: &Pool, after: &str, limit: u32) -> Result<Vec<Device>, StoreError> {
    let sql = format!(
        "{COLUMNS} WHERE (update_kind IN ('rolled_back', 'failed') OR alarm IS NOT NULL OR report_refused IS NOT NULL OR clone_alarm IS NOT NULL OR attestation_failure IS NOT NULL) \
         AND revoked_s IS NULL AND id > $1 ORDER BY id LIMIT $2"
    );
    let rows = sql::query_as::<Row>(sql::AssertSqlSafe(sql))
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?;
    shown(pool, rows).await
}

/// A page of devices that run another release than their desired one; of one fleet, or of all.
pub async fn drifting(
    pool: &Pool,
    fleet: Option<&FleetId>,
    after: &str,
    limit: u32,
) -> Result<Vec<Device>, StoreError> {
    let of = if fleet.is_some() { "fleet = $3 AND " } else { "" };
    let sql = format!(
        "{COLUMNS} WHERE {of}drift_since_s IS NOT NULL AND COALESCE(revoked_s, 0) = 0 AND id > $1 ORDER BY id LIMIT $2"
    );
    let query = sql::query_as::<Row>(sql::AssertSqlSafe(sql)).bind(after).bind(i64::from(limit));
    let query = match fleet {
        Some(fleet) => query.bind(fleet.as_str()),
        None => query,
    };
    shown(pool, query.fetch_all(pool).await?).await
}

/// Since when a device runs another release than its desired one.
pub async fn drift_since_s(pool: &Pool, id: &DeviceId) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT drift_since_s FROM devices WHERE id = $1 AND drift_since_s IS NOT NULL";
    let found: Option<i64> = sql::query_scalar(sql).bind(id.as_str()).fetch_optional(pool).await?;
    Ok(found.map(from_seconds))
}

/// All fleets that have, or had, a device, with numbers of devices.
pub async fn fleets(pool: &Pool) -> Result<Vec<Fleet>, StoreError> {
    #[derive(sqlx::FromRow)]
    struct FleetRow {
        fleet: String,
        devices: i64,
        revoked: i64,
    }
    let sql = "SELECT fleet, COUNT(*) AS devices, COUNT(revoked_s) AS revoked FROM devices \
               GROUP BY fleet ORDER BY fleet";
    let rows: Vec<FleetRow> = sql::query_as(sql).fetch_all(pool).await?;
    let fleet = |row: FleetRow| {
        Ok(Fleet {
            name: row.fleet.parse().map_err(StoreError::value)?,
            devices: from_seconds(row.devices - row.revoked),
            revoked: from_seconds(row.revoked),
        })
    };
    rows.into_iter().map(fleet).collect()
}

/// Number of devices that run an image of a line or are to run one, and are not revoked. Reads every
/// device: an index would have to be written with each report.
pub async fn of_line(pool: &Pool, line: &Line) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM devices WHERE revoked_s IS NULL \
         AND (running LIKE $1 OR desired_release LIKE $1)";
    // A line has no character that LIKE reads as a wildcard.
    let count: i64 = sql::query_scalar(sql).bind(format!("{line}@%")).fetch_one(pool).await?;
    Ok(from_seconds(count))
}

/// Number of a fleet's devices that are not revoked.
pub async fn count(tx: &mut Tx<'_>, fleet: &FleetId) -> Result<usize, StoreError> {
    let sql = "SELECT COUNT(*) FROM devices WHERE fleet = $1 AND revoked_s IS NULL";
    let count: i64 = sql::query_scalar(sql).bind(fleet.as_str()).fetch_one(&mut **tx).await?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Number of devices by update state. Devices that raise an alarm, or whose attestation failed,
/// count as `alarm`.
pub async fn by_update(pool: &Pool) -> Result<Vec<(String, i64)>, StoreError> {
    let sql = "SELECT CASE WHEN alarm IS NULL AND report_refused IS NULL AND clone_alarm IS NULL AND attestation_failure IS NULL THEN update_kind ELSE 'alarm' END AS kind, COUNT(*) FROM devices \
               WHERE revoked_s IS NULL GROUP BY kind";
    sql::query_as(sql).fetch_all(pool).await
}

/// Ids of a fleet's devices that are not revoked.
pub async fn ids_of_fleet(tx: &mut Tx<'_>, fleet: &FleetId) -> Result<Vec<DeviceId>, StoreError> {
    let sql = "SELECT id FROM devices WHERE fleet = $1 AND revoked_s IS NULL ORDER BY id";
    let ids: Vec<String> = sql::query_scalar(sql).bind(fleet.as_str()).fetch_all(&mut **tx).await?;
    ids.into_iter().map(|id| id.parse().map_err(StoreError::value)).collect()
}

/// Marks a device as revoked, or changes the reason of a hold. Returns `false` if nothing changes.
pub async fn revoke(
    tx: &mut Tx<'_>,
    id: &DeviceId,
    reason: RevocationReason,
    now_s: u64,
) -> Result<bool, StoreError> {
    let sql = "UPDATE devices SET revoked_s = COALESCE(revoked_s, $3), revocation_reason = $2 \
               WHERE id = $1 AND (revoked_s IS NULL OR revocation_reason = $4 AND $2 <> $4)";
    let query = sql::query(sql).bind(id.as_str()).bind(reason.as_str()).bind(seconds(now_s));
    Ok(query
        .bind(RevocationReason::CertificateHold.as_str())
        .execute(&mut **tx)
        .await?
        .rows_affected()
        == 1)
}

/// Releases a hold. Returns `false` if the device is not on hold.
pub async fn release_hold(tx: &mut Tx<'_>, id: &DeviceId) -> Result<bool, StoreError> {
    let sql = "UPDATE devices SET revoked_s = NULL, revocation_reason = NULL WHERE id = $1 AND revocation_reason = $2";
    let query = sql::query(sql).bind(id.as_str()).bind(RevocationReason::CertificateHold.as_str());
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}

/// Makes the next key of a device its key, on first use, and clears the alarm about two clients.
/// Returns `false` if it is the key already.
pub async fn promote_key(
    tx: &mut Tx<'_>,
    id: &DeviceId,
    key_sha256: &str,
) -> Result<bool, StoreError> {
    let sql = "UPDATE devices SET key_sha256 = next_key_sha256, next_key_sha256 = NULL, is_in_tpm = CASE WHEN next_is_in_tpm > is_in_tpm THEN next_is_in_tpm ELSE is_in_tpm END, \
               clone_alarm = NULL WHERE id = $1 AND next_key_sha256 = $2";
    Ok(sql::query(sql).bind(id.as_str()).bind(key_sha256).execute(&mut **tx).await?.rows_affected()
        == 1)
}

/// Whether a key is one that a device may use next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It is now.
    Next,
    /// It was already, or the device is revoked.
    Known,
    /// There is no such device.
    NoDevice,
}

/// Makes a key the next one of a device, although its certificate is not in this database: the
/// database was restored from a backup, and the certificate is newer.
///
/// # Errors
/// When the key belongs to another device.
pub async fn expect_key(
    tx: &mut Tx<'_>,
    id: &DeviceId,
    key_sha256: &str,
) -> Result<Expected, StoreError> {
    let sql = "UPDATE devices SET next_key_sha256 = $2, next_is_in_tpm = is_in_tpm \
               WHERE id = $1 AND revoked_s IS NULL AND key_sha256 <> $2 AND COALESCE(next_key_sha256, '') <> $2";
    let query = sql::query(sql).bind(id.as_str()).bind(key_sha256);
    if query.execute(&mut **tx).await?.rows_affected() == 1 {
        device_keys::insert_known(tx, &[(key_sha256, id)]).await?;
        return Ok(Expected::Next);
    }
    let known: i64 = sql::query_scalar("SELECT COUNT(*) FROM devices WHERE id = $1")
        .bind(id.as_str())
        .fetch_one(&mut **tx)
        .await?;
    Ok(if known == 0 { Expected::NoDevice } else { Expected::Known })
}

/// Stores the alarm that two clients use a device's certificate.
pub async fn set_clone_alarm(tx: &mut Tx<'_>, id: &DeviceId, text: &str) -> Result<(), StoreError> {
    sql::query("UPDATE devices SET clone_alarm = $2 WHERE id = $1")
        .bind(id.as_str())
        .bind(text)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The fleet of a device that is revoked.
pub async fn fleet_of_revoked(
    tx: &mut Tx<'_>,
    id: &DeviceId,
) -> Result<Option<FleetId>, StoreError> {
    let sql = "SELECT fleet FROM devices WHERE id = $1 AND revoked_s IS NOT NULL";
    let fleet: Option<String> =
        sql::query_scalar(sql).bind(id.as_str()).fetch_optional(&mut **tx).await?;
    fleet.map(|f| f.parse().map_err(StoreError::value)).transpose()
}

/// Ids of revoked devices.
pub async fn revoked(pool: &Pool) -> Result<HashSet<DeviceId>, StoreError> {
    let ids: Vec<String> = sql::query_scalar("SELECT id FROM devices WHERE revoked_s IS NOT NULL")
        .fetch_all(pool)
        .await?;
    ids.into_iter().map(|id| id.parse().map_err(StoreError::value)).collect()
}
