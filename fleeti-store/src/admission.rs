//! The data for admitting MQTT sessions of devices.

use super::desired::{DESIRED, DesiredRow};
use crate::mqtt_sessions::{Stored, Subscriptions};
use crate::{Pool, StoreError, from_seconds, sql};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::device::DesiredState;

/// The data for admitting an MQTT session of a device.
#[derive(sqlx::FromRow)]
pub struct Admission {
    /// SHA-256 of its key.
    pub key_sha256: String,
    /// SHA-256 of a renewed key that was not used yet.
    pub next_key_sha256: Option<String>,
    /// Time of revocation, Unix seconds.
    pub revoked_s: Option<i64>,
    /// Expiry of its session, Unix seconds; 0 without a session.
    pub mqtt_until_s: i64,
    /// Subscriptions of the session, as in [`Subscriptions::to_bits`].
    pub mqtt_subscriptions: i64,
    #[sqlx(flatten)]
    desired: DesiredRow,
}

impl Admission {
    /// The stored state of its MQTT session.
    #[must_use]
    pub fn session(&self) -> Stored {
        Stored {
            until_s: from_seconds(self.mqtt_until_s),
            subscriptions: Subscriptions::from_bits(self.mqtt_subscriptions),
        }
    }

    /// Its desired state.
    ///
    /// # Errors
    /// When the row is invalid.
    pub fn desired(self) -> Result<DesiredState, StoreError> {
        <(DeviceId, DesiredState)>::try_from(self.desired).map(|(_, desired)| desired)
    }
}

/// The data for admitting an MQTT session of a device.
pub async fn admission(pool: &Pool, id: &DeviceId) -> Result<Option<Admission>, StoreError> {
    let sql = sql::AssertSqlSafe(format!(
        "SELECT key_sha256, next_key_sha256, revoked_s, mqtt_until_s, mqtt_subscriptions, {DESIRED} FROM devices WHERE id = $1"
    ));
    sql::query_as(sql).bind(id.as_str()).fetch_optional(pool).await
}
