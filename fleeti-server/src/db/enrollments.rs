//! One-time tokens, kept as digests.

use super::{Tx, seconds};
use crate::error::AppError;
use fleeti_core::id::{DeviceId, FleetId};

/// A token that was given out.
#[derive(sqlx::FromRow)]
pub struct EnrollmentRow {
    /// The fleet it enrolls into.
    pub fleet: String,
    /// End of its validity.
    pub expires_s: i64,
    /// The device that used it.
    pub device: Option<String>,
    /// The key that used it.
    pub key_sha256: Option<String>,
}

/// Adds a token.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(tx: &mut Tx<'_>, token_sha256: &str, fleet: &FleetId, expires_s: u64) -> Result<(), AppError> {
    sqlx::query("INSERT INTO enrollments (token_sha256, fleet, expires_s) VALUES ($1, $2, $3)")
        .bind(token_sha256)
        .bind(fleet.as_str())
        .bind(seconds(expires_s))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Finds a token.
///
/// # Errors
/// When the database does not answer.
pub async fn find(tx: &mut Tx<'_>, token_sha256: &str) -> Result<Option<EnrollmentRow>, AppError> {
    let sql = "SELECT fleet, expires_s, device, key_sha256 FROM enrollments WHERE token_sha256 = $1";
    Ok(sqlx::query_as(sql).bind(token_sha256).fetch_optional(&mut **tx).await?)
}

/// Binds a token to the device and key that used it.
///
/// # Errors
/// When the database does not answer.
pub async fn consume(tx: &mut Tx<'_>, token_sha256: &str, device: &DeviceId, key_sha256: &str) -> Result<(), AppError> {
    sqlx::query("UPDATE enrollments SET device = $2, key_sha256 = $3 WHERE token_sha256 = $1")
        .bind(token_sha256)
        .bind(device.as_str())
        .bind(key_sha256)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
