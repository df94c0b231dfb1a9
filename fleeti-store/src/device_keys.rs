//! Which device a key belongs to, for ever: SHA-256 of the SubjectPublicKeyInfo of each key that a
//! device has used.
//!
//! Rows lie in the order in which they came. The index, whose entries are in random order, has only
//! the first eight bytes of each digest, so that many entries share a page: a page for each new key
//! would be the most expensive part of a certificate. The whole digest is compared. Of two keys
//! whose digests begin with the same eight bytes the second one is refused, even if another device
//! has the first one.

use crate::batch::{push_integers, push_list, push_rows};
use crate::sql::QueryBuilder;
use crate::{Connection, StoreError, Tx};
use fleeti_core::id::DeviceId;
use std::collections::HashMap;

/// The owner of a key whose digest begins like another one's: no device.
const NO_DEVICE: &str = "";
/// Keys that one statement removes.
const AT_ONCE: usize = 128;

/// The first eight bytes of a SHA-256, hexadecimal, as an integer.
fn prefix(sha256: &str) -> Result<i64, StoreError> {
    let digits = sha256.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let digits = digits.ok_or_else(|| StoreError::value(format!("SHA-256 {sha256:?}")))?;
    Ok(digits.cast_signed())
}

#[derive(sqlx::FromRow)]
struct Row {
    key_prefix: i64,
    key_sha256: String,
    device: String,
}

/// The devices that keys belong to, by the key's SHA-256. A key that may belong to no device has an
/// owner that is no device's id.
pub async fn owners(
    connection: &mut Connection,
    keys: &[&str],
) -> Result<HashMap<String, String>, StoreError> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let prefixes = keys.iter().map(|key| prefix(key)).collect::<Result<Vec<_>, _>>()?;
    let mut query = QueryBuilder::new(
        "SELECT key_prefix, key_sha256, device FROM device_keys WHERE key_prefix IN (",
    );
    push_integers(&mut query, &prefixes);
    query.push(")");
    let rows: Vec<Row> = query.build_query_as().fetch_all(connection).await?;
    let mut owners = HashMap::new();
    for Row { key_prefix, key_sha256, device } in rows {
        for (key, _) in keys.iter().zip(&prefixes).filter(|(_, prefix)| **prefix == key_prefix) {
            let owner = if **key == key_sha256 { device.clone() } else { NO_DEVICE.to_owned() };
            owners.insert((*key).to_owned(), owner);
        }
    }
    Ok(owners)
}

/// Stores keys that no device has used. Fails for any other key: callers check that, and this
/// guards against bugs.
pub(crate) async fn insert_new(
    tx: &mut Tx<'_>,
    keys: &[(&str, &DeviceId)],
) -> Result<(), StoreError> {
    insert(tx, keys, "").await
}

/// Stores keys. Fails for the key of another device: callers check that, and this guards against
/// bugs.
pub(crate) async fn insert_known(
    tx: &mut Tx<'_>,
    keys: &[(&str, &DeviceId)],
) -> Result<(), StoreError> {
    // INVARIANT: a key belongs to one device. The column accepts no NULL.
    let same = " ON CONFLICT (key_prefix) DO UPDATE SET device = CASE WHEN device_keys.device = excluded.device \
                AND device_keys.key_sha256 = excluded.key_sha256 THEN excluded.device END";
    insert(tx, keys, same).await
}

async fn insert(
    tx: &mut Tx<'_>,
    keys: &[(&str, &DeviceId)],
    on_conflict: &'static str,
) -> Result<(), StoreError> {
    let prefixes = keys.iter().map(|(key, _)| prefix(key)).collect::<Result<Vec<_>, _>>()?;
    // See `devices::insert_new` for OR FAIL.
    let mut query = QueryBuilder::new(
        "INSERT OR FAIL INTO device_keys (key_prefix, key_sha256, device) SELECT * FROM (",
    );
    push_rows(&mut query, prefixes.into_iter().zip(keys), |row, (prefix, (key, device))| {
        row.push_bind(prefix).push_bind(*key).push_bind(device.as_str());
    });
    query.push(") AS keys WHERE column1 IS NOT NULL").push(on_conflict);
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// Forgets keys, so that they belong to no device. Returns how many were known.
pub(crate) async fn remove(tx: &mut Tx<'_>, keys: &[&str]) -> Result<u64, StoreError> {
    let mut gone = 0;
    for some in keys.chunks(AT_ONCE) {
        let prefixes = some.iter().map(|key| prefix(key)).collect::<Result<Vec<_>, _>>()?;
        let mut query = QueryBuilder::new("DELETE FROM device_keys WHERE key_prefix IN (");
        push_integers(&mut query, &prefixes);
        query.push(") AND key_sha256 IN (");
        push_list(&mut query, some);
        query.push(")");
        gone += query.build().execute(&mut **tx).await?.rows_affected();
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::{NO_DEVICE, owners};
    use crate::Db;
    use crate::devices::{Certified, WithCertificate, insert_new, upsert};
    use fleeti_core::id::DeviceId;
    use std::sync::atomic::{AtomicU32, Ordering};

    static SERIAL: AtomicU32 = AtomicU32::new(1);

    fn certified(key_sha256: &str) -> Certified {
        Certified {
            key_sha256: key_sha256.to_owned(),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed).to_string(),
            pem: String::new(),
            certificate_sha256: String::new(),
            not_after_s: 2_000_000_000,
            issuer: String::new(),
            is_in_tpm: false,
        }
    }

    /// Stores a certificate for this key, in a transaction of its own.
    async fn keep(db: &Db, device: &str, key: &str, is_new: bool) -> Result<(), crate::StoreError> {
        let (id, fleet, certified) =
            (device.parse().unwrap(), "demo".parse().unwrap(), certified(key));
        let mut tx = db.write().await?;
        let all = [WithCertificate { device: &id, fleet: &fleet, certificate: &certified }];
        if is_new {
            insert_new(&mut tx, &all, 1).await?
        } else {
            upsert(&mut tx, &all, 1).await?
        }
        tx.commit().await
    }

    async fn owner(db: &Db, key: &str) -> Option<String> {
        owners(&mut db.reader().await.unwrap(), &[key]).await.unwrap().remove(key)
    }

    #[tokio::test]
    async fn a_key_belongs_to_one_device_on_every_path_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fleeti.db");
        let db = Db::open(&path).await.unwrap();
        let (mine, other) = ("1".repeat(64), "2".repeat(64));
        keep(&db, "dev-1", &mine, true).await.unwrap();
        keep(&db, "dev-2", &other, true).await.unwrap();
        keep(&db, "dev-1", &mine, false).await.unwrap();
        for (device, is_new) in [("dev-3", true), ("dev-2", false)] {
            let refused = keep(&db, device, &mine, is_new).await.unwrap_err();
            assert!(refused.to_string().contains("device_keys"), "{refused}");
        }
        db.close().await;
        let db = Db::open(&path).await.unwrap();
        assert_eq!(owner(&db, &mine).await.as_deref(), Some("dev-1"));
        assert_eq!(owner(&db, &other).await.as_deref(), Some("dev-2"));
        assert_eq!(owner(&db, &"3".repeat(64)).await, None);
        assert!(owners(&mut db.reader().await.unwrap(), &["no digest"]).await.is_err());
        db.close().await;
    }

    #[tokio::test]
    async fn a_key_whose_digest_begins_like_another_ones_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("fleeti.db")).await.unwrap();
        let (first, alike) =
            (format!("{:0<64}", "ffffffffffffffff"), format!("{:1<64}", "ffffffffffffffff"));
        keep(&db, "dev-1", &first, true).await.unwrap();
        assert_eq!(owner(&db, &alike).await.as_deref(), Some(NO_DEVICE));
        assert!(NO_DEVICE.parse::<DeviceId>().is_err());
        for (device, is_new) in [("dev-1", false), ("dev-2", true)] {
            keep(&db, device, &alike, is_new).await.unwrap_err();
        }
        assert_eq!(owner(&db, &first).await.as_deref(), Some("dev-1"));
        let mut tx = db.write().await.unwrap();
        assert_eq!(super::remove(&mut tx, &[&alike]).await.unwrap(), 0);
        assert_eq!(super::remove(&mut tx, &[&first, &alike]).await.unwrap(), 1);
        tx.commit().await.unwrap();
        assert_eq!(owner(&db, &first).await, None);
        db.close().await;
    }
}
