//! What devices prove, and what fleets ask of them.

use crate::{Client, Result};
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::attestation::{
    AddTpmManufacturers, AskedFleet, Attestation, TpmManufacturer, TpmManufacturers,
};
use reqwest::Method;

impl Client {
    /// How far a device can be trusted, and why.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn attestation(&self, id: &DeviceId) -> Result<Attestation> {
        self.get(&format!("devices/{id}/attestation")).await
    }
    /// What a device proves, as an EAT Attestation Result (draft-ietf-rats-ear-04).
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn ear(&self, id: &DeviceId) -> Result<serde_json::Value> {
        self.get(&format!("devices/{id}/attestation/ear")).await
    }
    /// Asks a device's TPM now.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn challenge_device(&self, id: &DeviceId) -> Result<()> {
        self.post(&format!("devices/{id}/attestation/challenge"), &()).await
    }
    /// Asks the TPM of every device of a fleet that is there; how many that are.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn challenge_fleet(&self, fleet: &FleetId) -> Result<u64> {
        Ok(self
            .post::<_, AskedFleet>(&format!("fleets/{fleet}/attestation/challenge"), &())
            .await?
            .asked)
    }
    /// Accepts the firmware that a device has now.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn accept_firmware(&self, id: &DeviceId) -> Result<Attestation> {
        self.post(&format!("devices/{id}/attestation/accept-firmware"), &()).await
    }
    /// What a fleet asks of its devices.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn attestation_policy(&self, fleet: &FleetId) -> Result<Policy> {
        self.get(&format!("fleets/{fleet}/attestation-policy")).await
    }
    /// Changes what a fleet asks of its devices.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn set_attestation_policy(&self, fleet: &FleetId, policy: &Policy) -> Result<Policy> {
        let request =
            self.request(Method::PUT, &format!("fleets/{fleet}/attestation-policy")).json(policy);
        Self::read(Self::send(request).await?).await
    }
    /// Which manufacturers of TPMs are believed.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn tpm_manufacturers(&self) -> Result<TpmManufacturers> {
        self.get("tpm-manufacturers").await
    }
    /// Believes the manufacturers of a file; those that are new.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn add_tpm_manufacturers(
        &self,
        request: &AddTpmManufacturers,
    ) -> Result<Vec<TpmManufacturer>> {
        self.post("tpm-manufacturers", request).await
    }
    /// Believes a manufacturer no more.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn remove_tpm_manufacturer(&self, id: &str) -> Result<TpmManufacturer> {
        let mut path = String::from("tpm-manufacturers/");
        // As fingerprints are written elsewhere: in capitals, with colons.
        path.extend(id.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()));
        Self::read(Self::send(self.request(Method::DELETE, &path)).await?).await
    }
}
