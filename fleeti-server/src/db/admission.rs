//! What decides whether a device's MQTT session starts, and how.

use super::desired::{DESIRED, DesiredRow};
use super::from_seconds;
use crate::db::mqtt_sessions::{Stored, Subscriptions};
use crate::error::AppError;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::device::DesiredState;
use sqlx::sqlite::SqlitePool;

/// What decides whether a device's MQTT session begins, and how.
#[derive(sqlx::FromRow)]
pub struct Admission {
    /// SHA-256 of its key.
    pub key_sha256: String,
    /// SHA-256 of the key that a renewal brought and that was not used yet.
    pub next_key_sha256: Option<String>,
    /// When it was revoked.
    pub revoked_s: Option<i64>,
    /// Until when its session lasts, Unix seconds; 0 without one.
    pub mqtt_until_s: i64,
    /// What the session has subscribed, as in [`Subscriptions::to_bits`].
    pub mqtt_subscriptions: i64,
    #[sqlx(flatten)]
    desired: DesiredRow,
}

impl Admission {
    /// What is kept of its MQTT session.
    #[must_use]
    pub fn session(&self) -> Stored {
        Stored {
            until_s: from_seconds(self.mqtt_until_s),
            subscriptions: Subscriptions::from_bits(self.mqtt_subscriptions),
        }
    }

    /// What it should run.
    ///
    /// # Errors
    /// When the row cannot be read.
    pub fn desired(self) -> Result<DesiredState, AppError> {
        <(DeviceId, DesiredState)>::try_from(self.desired).map(|(_, desired)| desired)
    }
}

/// What decides whether a device's MQTT session begins, and how.
pub async fn admission(pool: &SqlitePool, id: &DeviceId) -> Result<Option<Admission>, AppError> {
    let sql = sqlx::AssertSqlSafe(format!(
        "SELECT key_sha256, next_key_sha256, revoked_s, mqtt_until_s, mqtt_subscriptions, {DESIRED} FROM devices WHERE id = $1"
    ));
    Ok(sqlx::query_as(sql).bind(id.as_str()).fetch_optional(pool).await?)
}
