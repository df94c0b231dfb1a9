//! Secrets of fleets, and recovery keys of devices.

use crate::{Client, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::id::{DeviceId, FleetId, SecretName};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::vault::{
    FleetSecret, RecoveryKeyStatus, SetSecret, ShowRecoveryKey, ShownRecoveryKey,
};
use reqwest::Method;

impl Client {
    /// Whether the server has a recovery key of the device's data partition.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn recovery_key(&self, id: &DeviceId) -> Result<RecoveryKeyStatus> {
        self.get(&format!("devices/{id}/recovery-key")).await
    }
    /// Reveals the recovery key. The reason is kept in the audit log.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn show_recovery_key(
        &self,
        id: &DeviceId,
        request: &ShowRecoveryKey,
    ) -> Result<Secret> {
        Ok(self
            .post::<_, ShownRecoveryKey>(&format!("devices/{id}/recovery-key"), request)
            .await?
            .key)
    }
    /// The names of the secrets of a fleet.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn secrets(&self, fleet: &FleetId) -> Result<Vec<FleetSecret>> {
        self.get(&format!("fleets/{fleet}/secrets")).await
    }
    /// Sets a secret of a fleet.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn set_secret(
        &self,
        fleet: &FleetId,
        name: &SecretName,
        value: &[u8],
    ) -> Result<Vec<FleetSecret>> {
        let body = SetSecret { value: Secret::new(STANDARD.encode(value)) };
        let request =
            self.request(Method::PUT, &format!("fleets/{fleet}/secrets/{name}")).json(&body);
        Self::read(Self::send(request).await?).await
    }
    /// Removes a secret of a fleet.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn remove_secret(
        &self,
        fleet: &FleetId,
        name: &SecretName,
    ) -> Result<Vec<FleetSecret>> {
        let request = self.request(Method::DELETE, &format!("fleets/{fleet}/secrets/{name}"));
        Self::read(Self::send(request).await?).await
    }
}
