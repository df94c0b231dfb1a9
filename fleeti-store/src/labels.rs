//! Names, notes and labels of devices, and the keys of labels.

use crate::batch::{push_list, push_rows};
use crate::sql::{self, QueryBuilder};
use crate::{Pool, StoreError, Tx, seconds};
use fleeti_core::id::{DeviceId, LabelKey};
use fleeti_core::wire::labels::{LabelKeyInfo, LabelType};
use std::collections::{BTreeMap, HashMap};

/// Number of rows of one statement.
const ROWS: usize = 2000;

#[derive(sqlx::FromRow)]
struct KeyRow {
    label_key: String,
    r#type: String,
    choices: String,
}

impl TryFrom<KeyRow> for LabelKeyInfo {
    type Error = StoreError;
    fn try_from(row: KeyRow) -> Result<Self, StoreError> {
        let of = match row.r#type.as_str() {
            "text" => LabelType::Text,
            "number" => LabelType::Number,
            "boolean" => LabelType::Boolean,
            "choice" => LabelType::Choice { values: serde_json::from_str(&row.choices)? },
            other => return Err(StoreError::value(format!("type of a label key {other:?}"))),
        };
        Ok(Self { key: row.label_key.parse().map_err(StoreError::value)?, of })
    }
}

const KEYS: &str = "SELECT label_key, type, choices FROM label_keys ORDER BY label_key";

/// All label keys, ordered by key.
pub async fn keys(pool: &Pool) -> Result<Vec<LabelKeyInfo>, StoreError> {
    let rows: Vec<KeyRow> = sql::query_as(KEYS).fetch_all(pool).await?;
    rows.into_iter().map(LabelKeyInfo::try_from).collect()
}

/// All label keys, in a transaction.
pub async fn keys_in(tx: &mut Tx<'_>) -> Result<BTreeMap<LabelKey, LabelType>, StoreError> {
    let rows: Vec<KeyRow> = sql::query_as(KEYS).fetch_all(&mut **tx).await?;
    let info = rows.into_iter().map(LabelKeyInfo::try_from);
    info.map(|info| info.map(|LabelKeyInfo { key, of }| (key, of))).collect()
}

/// Declares a label key, or changes what values it can have.
pub async fn declare(tx: &mut Tx<'_>, key: &LabelKeyInfo, now_s: u64) -> Result<(), StoreError> {
    let choices = match &key.of {
        LabelType::Choice { values } => values.as_slice(),
        LabelType::Text | LabelType::Number | LabelType::Boolean => &[],
    };
    let sql = "INSERT INTO label_keys (label_key, type, choices, created_s) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (label_key) DO UPDATE SET type = excluded.type, choices = excluded.choices";
    sql::query(sql)
        .bind(key.key.as_str())
        .bind(key.of.as_str())
        .bind(serde_json::to_string(choices)?)
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Different values of a label, at most `limit`.
pub async fn used_values(
    tx: &mut Tx<'_>,
    key: &LabelKey,
    limit: u32,
) -> Result<Vec<String>, StoreError> {
    let sql =
        "SELECT DISTINCT value FROM device_labels WHERE label_key = $1 ORDER BY value LIMIT $2";
    sql::query_scalar(sql).bind(key.as_str()).bind(limit).fetch_all(&mut **tx).await
}

/// Removes a label key that no device has. Returns `false` if there is no such key.
pub async fn remove_key(tx: &mut Tx<'_>, key: &LabelKey) -> Result<bool, StoreError> {
    let query = sql::query("DELETE FROM label_keys WHERE label_key = $1").bind(key.as_str());
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}

/// Labels by the id of their device.
pub type ByDevice = HashMap<String, BTreeMap<LabelKey, String>>;

/// The labels of some devices.
pub async fn of_devices<'a>(
    pool: &Pool,
    ids: impl Iterator<Item = &'a DeviceId>,
) -> Result<ByDevice, StoreError> {
    let ids: Vec<_> = ids.map(DeviceId::as_str).collect();
    let mut found = ByDevice::new();
    for ids in ids.chunks(ROWS) {
        let mut query = QueryBuilder::new(
            "SELECT device, label_key, value FROM device_labels WHERE device IN (",
        );
        push_list(&mut query, ids);
        query.push(")");
        let rows: Vec<(String, String, String)> = query.build_query_as().fetch_all(pool).await?;
        for (device, key, value) in rows {
            let key = key.parse().map_err(StoreError::value)?;
            found.entry(device).or_default().insert(key, value);
        }
    }
    Ok(found)
}

/// A label of a device.
#[derive(Debug, Clone, Copy)]
pub struct Label<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// The key.
    pub key: &'a LabelKey,
    /// The value.
    pub value: &'a str,
    /// The value of a number.
    pub number: Option<i64>,
}

/// Sets labels. Each key and device is there once.
pub async fn set(tx: &mut Tx<'_>, labels: &[Label<'_>]) -> Result<(), StoreError> {
    for labels in labels.chunks(ROWS) {
        let mut query = QueryBuilder::new(
            "INSERT INTO device_labels (label_key, device, value, number) SELECT * FROM (",
        );
        push_rows(&mut query, labels.iter(), |row, label| {
            row.push_bind(label.key.as_str())
                .push_bind(label.device.as_str())
                .push_bind(label.value)
                .push_bind(label.number);
        });
        query.push(
            ") AS new WHERE column1 IS NOT NULL ON CONFLICT (label_key, device) \
             DO UPDATE SET value = excluded.value, number = excluded.number",
        );
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// Removes a label from devices.
pub async fn unset(
    tx: &mut Tx<'_>,
    key: &LabelKey,
    devices: &[&DeviceId],
) -> Result<(), StoreError> {
    for devices in devices.chunks(ROWS) {
        let mut query = QueryBuilder::new("DELETE FROM device_labels WHERE label_key = ");
        query.push_bind(key.as_str()).push(" AND device IN (");
        let ids: Vec<_> = devices.iter().map(|id| id.as_str()).collect();
        push_list(&mut query, &ids);
        query.push(")");
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// The first of some devices that has more than `max` labels.
pub async fn over_full(
    tx: &mut Tx<'_>,
    devices: &[&DeviceId],
    max: usize,
) -> Result<Option<String>, StoreError> {
    for devices in devices.chunks(ROWS) {
        let mut query = QueryBuilder::new("SELECT device FROM device_labels WHERE device IN (");
        let ids: Vec<_> = devices.iter().map(|id| id.as_str()).collect();
        push_list(&mut query, &ids);
        query.push(") GROUP BY device HAVING COUNT(*) > ");
        query.push(max).push(" ORDER BY device LIMIT 1");
        let found: Option<String> = query.build_query_scalar().fetch_optional(&mut **tx).await?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// A device that a text names.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its fleet.
    pub fleet: String,
    /// Its name.
    pub name: Option<String>,
    /// The note about it.
    pub note: Option<String>,
}

/// The devices whose id or name is one of these texts.
pub async fn named(tx: &mut Tx<'_>, texts: &[&str]) -> Result<Vec<Named>, StoreError> {
    let mut found = Vec::new();
    for texts in texts.chunks(ROWS) {
        let mut query =
            QueryBuilder::new("SELECT id, fleet, name, note FROM devices WHERE id IN (");
        push_list(&mut query, texts);
        query.push(")");
        found.extend(query.build_query_as::<Named>().fetch_all(&mut **tx).await?);
        let mut query =
            QueryBuilder::new("SELECT id, fleet, name, note FROM devices WHERE name_key IN ");
        query.push_list(texts.iter().map(|text| text.to_ascii_lowercase()));
        query.push(" AND name IN (");
        push_list(&mut query, texts);
        query.push(")");
        found.extend(query.build_query_as::<Named>().fetch_all(&mut **tx).await?);
    }
    Ok(found)
}

/// A change of the name and the note of a device: `None` keeps, an empty text removes.
#[derive(Debug, Clone, Copy)]
pub struct Described<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// The name.
    pub name: Option<&'a str>,
    /// The note.
    pub note: Option<&'a str>,
}

/// Changes the name and the note of a device. Returns `false` if there is no such device.
pub async fn describe(tx: &mut Tx<'_>, about: Described<'_>) -> Result<bool, StoreError> {
    let Described { device, name, note } = about;
    let mut query = QueryBuilder::new("UPDATE devices SET id = id");
    if let Some(name) = name {
        let kept = Some(name).filter(|name| !name.is_empty());
        query.push(", name = ").push_bind(kept);
        query.push(", name_key = ").push_bind(kept.map(str::to_ascii_lowercase));
    }
    if let Some(note) = note {
        query.push(", note = ").push_bind(Some(note).filter(|note| !note.is_empty()));
    }
    query.push(" WHERE id = ").push_bind(device.as_str());
    Ok(query.build().execute(&mut **tx).await?.rows_affected() == 1)
}

/// Gives the name, the note and the labels of a device to the one that takes its place, in place of
/// its own.
pub async fn hand_over(tx: &mut Tx<'_>, from: &DeviceId, to: &DeviceId) -> Result<(), StoreError> {
    for sql in [
        "UPDATE devices SET name = (SELECT o.name FROM devices o WHERE o.id = $1), name_key = (SELECT o.name_key FROM devices o WHERE o.id = $1), \
         note = (SELECT o.note FROM devices o WHERE o.id = $1) WHERE id = $2",
        "UPDATE devices SET name = NULL, name_key = NULL, note = NULL, replaced_by = $2 WHERE id = $1",
    ] {
        sql::query(sql).bind(from.as_str()).bind(to.as_str()).execute(&mut **tx).await?;
    }
    let clear = "DELETE FROM device_labels WHERE device = $1";
    sql::query(clear).bind(to.as_str()).execute(&mut **tx).await?;
    let sql = "UPDATE device_labels SET device = $2 WHERE device = $1";
    sql::query(sql).bind(from.as_str()).bind(to.as_str()).execute(&mut **tx).await?;
    Ok(())
}
