//! Immutable, numbered revisions of profiles.

use super::{Tx, seconds};
use crate::error::AppError;
use fleeti_core::profile::{Profile, Revision};

/// The number of a profile's revision: the one that this very document has, or the next one.
///
/// # Errors
/// When the database does not answer.
pub async fn number(tx: &mut Tx<'_>, profile: &Profile, now_s: u64) -> Result<u32, AppError> {
    let digest = Revision::new(0, profile.clone()).map_err(AppError::internal)?.digest;
    let known: Option<i64> = sqlx::query_scalar("SELECT number FROM revisions WHERE line = $1 AND digest = $2")
        .bind(profile.name.as_str())
        .bind(&digest)
        .fetch_optional(&mut **tx)
        .await?;
    let number = match known {
        Some(number) => number,
        None => {
            sqlx::query_scalar(
                "INSERT INTO revisions (line, number, digest, created_s, document) \
                 VALUES ($1, (SELECT COALESCE(MAX(number), 0) + 1 FROM revisions WHERE line = $1), $2, $3, $4) RETURNING number",
            )
            .bind(profile.name.as_str())
            .bind(&digest)
            .bind(seconds(now_s))
            .bind(serde_json::to_string(profile)?)
            .fetch_one(&mut **tx)
            .await?
        }
    };
    u32::try_from(number).map_err(AppError::internal)
}
