//! Published releases.

use crate::page::After;
use crate::{Connection, Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::id::{DeviceId, ReleaseName};
use fleeti_core::manifest::Manifest;
use fleeti_core::wire::api::{Release, SignedBootProof};

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    manifest_sha256: String,
    manifest: String,
    published_s: i64,
    revoked_s: Option<i64>,
    boot_proof: Option<String>,
}

impl TryFrom<Row> for Release {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            name: row.name.parse().map_err(StoreError::value)?,
            manifest_sha256: row.manifest_sha256,
            published_s: Some(from_seconds(row.published_s)),
            revoked_s: row.revoked_s.map(from_seconds),
            boot_proof: row.boot_proof.map(|text| serde_json::from_str(&text)).transpose()?,
            artifacts: Manifest::parse(row.manifest.as_bytes())
                .map_err(StoreError::value)?
                .artifacts,
        })
    }
}

/// A release to add.
#[derive(Debug, Clone, Copy)]
pub struct NewRelease<'a> {
    /// Its name.
    pub name: &'a ReleaseName,
    /// SHA-256 of its manifest, hexadecimal.
    pub manifest_sha256: &'a str,
    /// Its manifest, byte for byte.
    pub manifest: &'a str,
    /// JSON of pairs: the id of a key, and its signature.
    pub signatures: &'a str,
    /// When it is published, Unix seconds.
    pub published_s: u64,
}

/// Adds a release whose files are in place. Returns `false` if it exists already.
pub async fn insert(tx: &mut Tx<'_>, release: &NewRelease<'_>) -> Result<bool, StoreError> {
    let NewRelease { name, manifest_sha256, manifest, signatures, published_s } = *release;
    let result = sql::query(
        "INSERT INTO releases (name, manifest_sha256, manifest, signatures, published_s) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (name) DO NOTHING",
    )
    .bind(name.to_string())
    .bind(manifest_sha256)
    .bind(manifest)
    .bind(signatures)
    .bind(seconds(published_s))
    .execute(&mut **tx)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// One release.
pub async fn get(pool: &Pool, name: &ReleaseName) -> Result<Option<Release>, StoreError> {
    let sql = "SELECT name, manifest_sha256, manifest, published_s, revoked_s, boot_proof FROM releases WHERE name = $1";
    sql::query_as::<Row>(sql)
        .bind(name.to_string())
        .fetch_optional(pool)
        .await?
        .map(Release::try_from)
        .transpose()
}

/// Marks a release as revoked. Returns `false` if it is revoked already, or does not exist.
pub async fn revoke(tx: &mut Tx<'_>, name: &ReleaseName, now_s: u64) -> Result<bool, StoreError> {
    let sql = "UPDATE releases SET revoked_s = $2 WHERE name = $1 AND revoked_s IS NULL";
    Ok(sql::query(sql)
        .bind(name.to_string())
        .bind(seconds(now_s))
        .execute(&mut **tx)
        .await?
        .rows_affected()
        == 1)
}

/// Whether a release can be rolled out: it is published and not revoked.
pub async fn is_good(connection: &mut Connection, name: &ReleaseName) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM releases WHERE name = $1 AND revoked_s IS NULL";
    let found: i64 = sql::query_scalar(sql).bind(name.to_string()).fetch_one(connection).await?;
    Ok(found == 1)
}

/// Stores a boot proof of a release. Replaces an earlier one.
pub async fn set_boot_proof(
    tx: &mut Tx<'_>,
    name: &ReleaseName,
    proof: &SignedBootProof,
) -> Result<(), StoreError> {
    let sql = "UPDATE releases SET boot_proof = $2, boot_proof_signatures = $3 WHERE name = $1";
    let query = sql::query(sql)
        .bind(name.to_string())
        .bind(&proof.proof)
        .bind(serde_json::to_string(&proof.signatures)?);
    query.execute(&mut **tx).await?;
    Ok(())
}

/// Whether a release has a boot proof.
pub async fn is_proved(
    connection: &mut Connection,
    name: &ReleaseName,
) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM releases WHERE name = $1 AND boot_proof IS NOT NULL";
    let found: i64 = sql::query_scalar(sql).bind(name.to_string()).fetch_one(connection).await?;
    Ok(found == 1)
}

/// Manifests of the newest releases, and of all releases that the device may have been given.
pub async fn known_to(
    pool: &Pool,
    device: &DeviceId,
    limit: u32,
) -> Result<Vec<Manifest>, StoreError> {
    let sql = "SELECT manifest FROM releases WHERE name IN (SELECT name FROM releases ORDER BY published_s DESC LIMIT $2) \
               OR name IN (SELECT release_name FROM device_releases WHERE device = $1) \
               OR name IN (SELECT came_with FROM devices WHERE id = $1 UNION SELECT running FROM devices WHERE id = $1 \
               UNION SELECT desired_release FROM devices WHERE id = $1) \
               ORDER BY published_s DESC LIMIT 2 * $2";
    let texts: Vec<String> =
        sql::query_scalar(sql).bind(device.as_str()).bind(i64::from(limit)).fetch_all(pool).await?;
    texts
        .into_iter()
        .map(|text| Manifest::parse(text.as_bytes()).map_err(StoreError::value))
        .collect()
}

/// The newest releases.
pub async fn newest(pool: &Pool, limit: u32) -> Result<Vec<Release>, StoreError> {
    let sql = "SELECT name, manifest_sha256, manifest, published_s, revoked_s, boot_proof FROM releases ORDER BY published_s DESC, name LIMIT $1";
    let rows = sql::query_as::<Row>(sql).bind(i64::from(limit)).fetch_all(pool).await?;
    rows.into_iter().map(Release::try_from).collect()
}

/// Up to `limit` releases after one, newest first.
pub async fn page(
    pool: &Pool,
    after: Option<&After>,
    limit: u32,
) -> Result<Vec<Release>, StoreError> {
    let sql = "SELECT name, manifest_sha256, manifest, published_s, revoked_s, boot_proof FROM releases \
        WHERE published_s < $2 OR (published_s = $2 AND name > $3) ORDER BY published_s DESC, name LIMIT $1";
    let (at_s, id) = After::values(after);
    let rows = sql::query_as::<Row>(sql).bind(i64::from(limit)).bind(at_s).bind(id);
    rows.fetch_all(pool).await?.into_iter().map(Release::try_from).collect()
}

/// The bytes of the manifest, and its signatures, in the form for devices.
pub async fn documents(
    pool: &Pool,
    name: &ReleaseName,
) -> Result<Option<(String, String)>, StoreError> {
    let sql = "SELECT manifest, signatures FROM releases WHERE name = $1";
    sql::query_as(sql).bind(name.to_string()).fetch_optional(pool).await
}

/// Stores the number of the audit entry about the publication of a release.
pub async fn set_audit_number(
    tx: &mut Tx<'_>,
    name: &ReleaseName,
    number: u64,
) -> Result<(), StoreError> {
    let sql = "UPDATE releases SET audit_number = $2 WHERE name = $1";
    sql::query(sql).bind(name.to_string()).bind(seconds(number)).execute(&mut **tx).await?;
    Ok(())
}

/// The number of the audit entry about the publication of a release.
pub async fn audit_number(pool: &Pool, name: &ReleaseName) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT audit_number FROM releases WHERE name = $1 AND audit_number IS NOT NULL";
    let number: Option<i64> =
        sql::query_scalar(sql).bind(name.to_string()).fetch_optional(pool).await?;
    Ok(number.map(from_seconds))
}

/// Names and manifest digests of releases that are not in the audit log.
pub async fn without_audit_number(pool: &Pool) -> Result<Vec<(ReleaseName, String)>, StoreError> {
    let sql = "SELECT name, manifest_sha256 FROM releases WHERE audit_number IS NULL ORDER BY published_s, name";
    let rows: Vec<(String, String)> = sql::query_as(sql).fetch_all(pool).await?;
    rows.into_iter()
        .map(|(name, sha256)| Ok((name.parse().map_err(StoreError::value)?, sha256)))
        .collect()
}

/// Names of the most recently revoked releases.
pub async fn revoked(pool: &Pool, limit: usize) -> Result<Vec<ReleaseName>, StoreError> {
    let sql = "SELECT name FROM releases WHERE revoked_s IS NOT NULL ORDER BY revoked_s DESC, name LIMIT $1";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let names: Vec<String> = sql::query_scalar(sql).bind(limit).fetch_all(pool).await?;
    names.into_iter().map(|name| name.parse().map_err(StoreError::value)).collect()
}
