//! Trust bundles and transitions. Callers verify everything that they read from here.

use crate::{Pool, StoreError, Tx, from_seconds, seconds, sql};
use fleeti_core::wire::device::SignedBundle;
use fleeti_core::wire::readmission::SignedTransition;
use std::collections::HashMap;

/// The newest bundle of a root, by the SHA-256 of its certificate.
pub async fn newest(pool: &Pool, root_sha256: &str) -> Result<Option<SignedBundle>, StoreError> {
    let sql = "SELECT bundle, signature FROM trust_bundles WHERE root_sha256 = $1 ORDER BY version DESC LIMIT 1";
    let row: Option<(String, String)> =
        sql::query_as(sql).bind(root_sha256).fetch_optional(pool).await?;
    Ok(row.map(|(bundle, signature)| SignedBundle { bundle, signature }))
}

/// A trust bundle to store.
#[derive(Debug, Clone, Copy)]
pub struct NewBundle<'a> {
    /// SHA-256 of the certificate of its root.
    pub root_sha256: &'a str,
    /// Its version, as it says itself.
    pub version: u64,
    /// The bundle.
    pub bundle: &'a SignedBundle,
    /// The transcript of the ceremony that made it.
    pub transcript: &'a str,
}

/// Stores a bundle of a root.
pub async fn insert(tx: &mut Tx<'_>, new: NewBundle<'_>, now_s: u64) -> Result<(), StoreError> {
    let NewBundle { root_sha256, version, bundle, transcript } = new;
    let sql = "INSERT INTO trust_bundles (root_sha256, version, bundle, signature, transcript, imported_s) VALUES ($1, $2, $3, $4, $5, $6)";
    let query = sql::query(sql)
        .bind(root_sha256)
        .bind(seconds(version))
        .bind(&bundle.bundle)
        .bind(&bundle.signature)
        .bind(transcript);
    query.bind(seconds(now_s)).execute(&mut **tx).await?;
    Ok(())
}

/// The transcript of the newest bundle of a root.
pub async fn transcript(pool: &Pool, root_sha256: &str) -> Result<Option<String>, StoreError> {
    let sql =
        "SELECT transcript FROM trust_bundles WHERE root_sha256 = $1 ORDER BY version DESC LIMIT 1";
    sql::query_scalar(sql).bind(root_sha256).fetch_optional(pool).await
}

/// All transitions, oldest first, as they were signed.
pub async fn transitions(pool: &Pool) -> Result<Vec<SignedTransition>, StoreError> {
    let rows: Vec<String> =
        sql::query_scalar("SELECT signed FROM transitions ORDER BY imported_s, sha256")
            .fetch_all(pool)
            .await?;
    rows.iter().map(|text| serde_json::from_str(text).map_err(StoreError::value)).collect()
}

/// Stores a transition, or more signatures of a known one.
pub async fn keep_transition(
    tx: &mut Tx<'_>,
    sha256: &str,
    signed: &SignedTransition,
    now_s: u64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO transitions (sha256, signed, imported_s) VALUES ($1, $2, $3) ON CONFLICT (sha256) DO UPDATE SET signed = $2";
    let query =
        sql::query(sql).bind(sha256).bind(serde_json::to_string(signed)?).bind(seconds(now_s));
    query.execute(&mut **tx).await?;
    Ok(())
}

/// Number of devices that are not revoked and have a certificate of this intermediate CA.
/// Certificates from before the issuer was stored are of `first`.
pub async fn devices_of(pool: &Pool, issuer: &str, first: &str) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM devices d JOIN issued i ON i.device = d.id AND i.serial = d.serial WHERE d.revoked_s IS NULL \
               AND COALESCE(NULLIF(i.issuer, ''), $2) = $1";
    let count: i64 = sql::query_scalar(sql).bind(issuer).bind(first).fetch_one(pool).await?;
    Ok(from_seconds(count))
}

/// The issuing intermediate CAs, by purpose.
pub async fn issuing(pool: &Pool) -> Result<HashMap<String, String>, StoreError> {
    let rows: Vec<(String, String)> =
        sql::query_as("SELECT purpose, certificate_sha256 FROM issuing").fetch_all(pool).await?;
    Ok(rows.into_iter().collect())
}

/// Sets the issuing intermediate CA of a purpose.
pub async fn switch(
    tx: &mut Tx<'_>,
    purpose: &str,
    certificate_sha256: &str,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO issuing (purpose, certificate_sha256) VALUES ($1, $2) ON CONFLICT (purpose) DO UPDATE SET certificate_sha256 = $2";
    sql::query(sql).bind(purpose).bind(certificate_sha256).execute(&mut **tx).await?;
    Ok(())
}

/// How many devices have a trust bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleCoverage {
    /// Number of devices that are not revoked.
    pub devices: u64,
    /// How many of them have the bundle, or a newer one.
    pub with_bundle: u64,
}

/// How many devices have a bundle.
pub async fn coverage(pool: &Pool, version: u64) -> Result<BundleCoverage, StoreError> {
    let sql = "SELECT COUNT(*), COUNT(CASE WHEN trust_bundle >= $1 THEN 1 END) FROM devices WHERE revoked_s IS NULL";
    let (devices, with_bundle): (i64, i64) =
        sql::query_as(sql).bind(seconds(version)).fetch_one(pool).await?;
    Ok(BundleCoverage { devices: from_seconds(devices), with_bundle: from_seconds(with_bundle) })
}
