//! Attestation of devices, appraisal policies of fleets, and TPM manufacturers.

use crate::{Client, Result};
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::attestation::{
    AddTpmManufacturers, AskedFleet, Attestation, TpmManufacturer, TpmManufacturers,
};
use reqwest::Method;

impl Client {
    /// The attestation level of a device, with its claims.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn attestation(&self, id: &DeviceId) -> Result<Attestation> {
        self.get(&format!("devices/{id}/attestation")).await
    }
    /// The attestation result of a device as an EAT Attestation Result (draft-ietf-rats-ear-04).
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn ear(&self, id: &DeviceId) -> Result<serde_json::Value> {
        self.get(&format!("devices/{id}/attestation/ear")).await
    }
    /// Challenges the TPM of a device now.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn challenge_device(&self, id: &DeviceId) -> Result<()> {
        self.post(&format!("devices/{id}/attestation/challenge"), &()).await
    }
    /// Challenges the TPM of every connected device of a fleet. Returns the number of devices.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn challenge_fleet(&self, fleet: &FleetId) -> Result<u64> {
        Ok(self
            .post::<_, AskedFleet>(&format!("fleets/{fleet}/attestation/challenge"), &())
            .await?
            .asked)
    }
    /// Accepts the current firmware of a device.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn accept_firmware(&self, id: &DeviceId) -> Result<Attestation> {
        self.post(&format!("devices/{id}/attestation/accept-firmware"), &()).await
    }
    /// The appraisal policy of a fleet.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn attestation_policy(&self, fleet: &FleetId) -> Result<Policy> {
        self.get(&format!("fleets/{fleet}/attestation-policy")).await
    }
    /// Sets the appraisal policy of a fleet.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn set_attestation_policy(&self, fleet: &FleetId, policy: &Policy) -> Result<Policy> {
        let request =
            self.request(Method::PUT, &format!("fleets/{fleet}/attestation-policy")).json(policy);
        Self::read(Self::send(request).await?).await
    }
    /// The trusted TPM manufacturers.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn tpm_manufacturers(&self) -> Result<TpmManufacturers> {
        self.get("tpm-manufacturers").await
    }
    /// Trusts the TPM manufacturers in a file. Returns those that are new.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn add_tpm_manufacturers(
        &self,
        request: &AddTpmManufacturers,
    ) -> Result<Vec<TpmManufacturer>> {
        self.post("tpm-manufacturers", request).await
    }
    /// Removes a trusted TPM manufacturer.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn remove_tpm_manufacturer(&self, id: &str) -> Result<TpmManufacturer> {
        let mut path = String::from("tpm-manufacturers/");
        // Other tools write fingerprints in upper case and with colons.
        path.extend(id.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()));
        Self::read(Self::send(self.request(Method::DELETE, &path)).await?).await
    }
}
