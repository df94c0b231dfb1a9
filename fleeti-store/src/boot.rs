//! Secure Boot keys of devices, and signatures made with them.

use crate::sql::{self, QueryBuilder};
use crate::{Pool, StoreError, Tx, from_seconds, seconds};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::secure_boot::BootState;
use fleeti_core::secure_boot::assess;
use fleeti_core::wire::api::SecureBoot;
use fleeti_core::wire::boot::{BootSignatures, BootSummary, FirmwareKeys, VariableWrite};
use fleeti_core::wire::device::DesiredState;

#[derive(sqlx::FromRow)]
struct Row {
    wrapped: String,
    epoch: i64,
    expected: String,
    loader_release: Option<String>,
    change_number: i64,
    change_writes: String,
    may_end_fallback: i64,
}

/// The Secure Boot keys of a device.
pub struct BootKeysRow {
    /// The state from the signing service. `expected.change` is the number of the last change, 0
    /// before the first.
    pub state: BootState,
    /// The release whose boot loader is on its ESP.
    pub loader_release: Option<ReleaseName>,
    /// The writes that bring the variables to `state.expected`.
    pub change_writes: Vec<VariableWrite>,
    /// Whether the change may disable booting of the other slot.
    pub may_end_fallback: bool,
}

pub(super) fn expected(text: &str, change_number: i64) -> Result<FirmwareKeys, StoreError> {
    Ok(FirmwareKeys { change: from_seconds(change_number), ..serde_json::from_str(text)? })
}

fn epoch(number: i64) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(StoreError::value)
}

/// The columns of a device's keys that are read together with the device.
#[derive(sqlx::FromRow)]
pub(super) struct JoinedRow {
    epoch: Option<i64>,
    expected: Option<String>,
    change_number: Option<i64>,
}

impl JoinedRow {
    /// The Secure Boot state; `None` for a device without keys of its own.
    pub(super) fn assess(
        &self,
        boot: Option<&BootSummary>,
    ) -> Result<Option<SecureBoot>, StoreError> {
        let (Some(number), Some(text), Some(change)) =
            (self.epoch, &self.expected, self.change_number)
        else {
            return Ok(None);
        };
        Ok(Some(assess(epoch(number)?, &expected(text, change)?, boot)))
    }
}

impl TryFrom<Row> for BootKeysRow {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        let expected = expected(&row.expected, row.change_number)?;
        Ok(Self {
            state: BootState { wrapped: row.wrapped, epoch: epoch(row.epoch)?, expected },
            loader_release: row
                .loader_release
                .map(|r| r.parse())
                .transpose()
                .map_err(StoreError::value)?,
            change_writes: serde_json::from_str(&row.change_writes)?,
            may_end_fallback: row.may_end_fallback != 0,
        })
    }
}

/// The keys of a device, if it has its own.
pub async fn get(pool: &Pool, device: &DeviceId) -> Result<Option<BootKeysRow>, StoreError> {
    let sql = "SELECT wrapped, epoch, expected, loader_release, change_number, change_writes, may_end_fallback \
               FROM boot_keys WHERE device = $1";
    sql::query_as::<Row>(sql)
        .bind(device.as_str())
        .fetch_optional(pool)
        .await?
        .map(BootKeysRow::try_from)
        .transpose()
}

/// Adds the keys of a device.
pub async fn insert(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    state: &BootState,
    loader: Option<&ReleaseName>,
    now_s: u64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO boot_keys (device, created_s, wrapped, epoch, expected, loader_release) VALUES ($1, $2, $3, $4, $5, $6)";
    sql::query(sql)
        .bind(device.as_str())
        .bind(seconds(now_s))
        .bind(&state.wrapped)
        .bind(i64::from(state.epoch))
        .bind(serde_json::to_string(&state.expected)?)
        .bind(loader.map(ToString::to_string))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Stores a change, unless there was another one since `before`. Returns the device's desired
/// state, if it has enrolled.
pub async fn change(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    before: u64,
    row: &BootKeysRow,
) -> Result<Option<Option<DesiredState>>, StoreError> {
    let sql = "UPDATE boot_keys SET wrapped = $3, epoch = $4, expected = $5, change_number = $6, change_writes = $7, \
               may_end_fallback = $8 WHERE device = $1 AND change_number = $2";
    let changed = sql::query(sql)
        .bind(device.as_str())
        .bind(seconds(before))
        .bind(&row.state.wrapped)
        .bind(i64::from(row.state.epoch))
        .bind(serde_json::to_string(&row.state.expected)?)
        .bind(seconds(row.state.expected.change))
        .bind(serde_json::to_string(&row.change_writes)?)
        .bind(i64::from(row.may_end_fallback))
        .execute(&mut **tx)
        .await?;
    if changed.rows_affected() == 0 {
        return Ok(None);
    }
    Ok(Some(super::desired::set_boot_change(tx, device, row.state.expected.change).await?))
}

/// A device's signatures over a release, if they were made in this epoch.
pub async fn signatures(
    pool: &Pool,
    device: &DeviceId,
    release: &ReleaseName,
    epoch: u32,
) -> Result<Option<BootSignatures>, StoreError> {
    let sql = "SELECT binaries FROM boot_signatures WHERE device = $1 AND release_name = $2 AND epoch = $3";
    let query = sql::query_scalar(sql)
        .bind(device.as_str())
        .bind(release.to_string())
        .bind(i64::from(epoch));
    let text: Option<String> = query.fetch_optional(pool).await?;
    Ok(text.map(|t| serde_json::from_str(&t)).transpose()?)
}

/// The signatures over a release by the keys of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedForDevice {
    /// The device.
    pub device: DeviceId,
    /// The epoch of the key that signed.
    pub epoch: u32,
    /// The signatures.
    pub signatures: BootSignatures,
}

/// Stores signatures of devices over a release.
pub async fn keep_signatures(
    tx: &mut Tx<'_>,
    release: &ReleaseName,
    signed: &[SignedForDevice],
) -> Result<(), StoreError> {
    if signed.is_empty() {
        return Ok(());
    }
    let name = release.to_string();
    let texts: Vec<_> = signed
        .iter()
        .map(|signed| serde_json::to_string(&signed.signatures))
        .collect::<Result<_, _>>()?;
    let mut query =
        QueryBuilder::new("INSERT INTO boot_signatures (device, release_name, epoch, binaries) ");
    query.push_values(signed.iter().zip(&texts), |mut row, (signed, text)| {
        row.push_bind(signed.device.as_str())
            .push_bind(&name)
            .push_bind(i64::from(signed.epoch))
            .push_bind(text);
    });
    query.push(" ON CONFLICT (device, release_name) DO UPDATE SET epoch = excluded.epoch, binaries = excluded.binaries");
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// A device whose signatures over a release are missing.
pub struct Unsigned {
    /// The device.
    pub device: DeviceId,
    /// The epoch of its newest db key.
    pub epoch: u32,
    /// Its keys, wrapped by the signing service.
    pub wrapped: String,
    /// Its Secure Boot state.
    pub secure_boot: SecureBoot,
}

#[derive(sqlx::FromRow)]
struct UnsignedRow {
    device: String,
    wrapped: String,
    boot: Option<String>,
    epoch: i64,
    expected: String,
    change_number: i64,
}

impl TryFrom<UnsignedRow> for Unsigned {
    type Error = StoreError;
    fn try_from(row: UnsignedRow) -> Result<Self, StoreError> {
        let boot: Option<BootSummary> =
            row.boot.map(|text| serde_json::from_str(&text)).transpose()?;
        let epoch = epoch(row.epoch)?;
        Ok(Self {
            device: row.device.parse().map_err(StoreError::value)?,
            epoch,
            wrapped: row.wrapped,
            secure_boot: assess(epoch, &expected(&row.expected, row.change_number)?, boot.as_ref()),
        })
    }
}

/// Devices of a fleet with keys of their own that have no signatures over a release in their epoch,
/// after a device.
pub async fn unsigned(
    pool: &Pool,
    fleet: &FleetId,
    release: &ReleaseName,
    after: &str,
    limit: u32,
) -> Result<Vec<Unsigned>, StoreError> {
    let sql = "SELECT k.device, k.wrapped, d.boot, k.epoch, k.expected, k.change_number \
               FROM devices d JOIN boot_keys k ON k.device = d.id \
               LEFT JOIN boot_signatures s ON s.device = d.id AND s.release_name = $2 AND s.epoch = k.epoch \
               WHERE d.fleet = $1 AND d.revoked_s IS NULL AND s.device IS NULL AND d.id > $3 ORDER BY d.id LIMIT $4";
    let query = sql::query_as::<UnsignedRow>(sql)
        .bind(fleet.as_str())
        .bind(release.to_string())
        .bind(after)
        .bind(i64::from(limit));
    query.fetch_all(pool).await?.into_iter().map(Unsigned::try_from).collect()
}
