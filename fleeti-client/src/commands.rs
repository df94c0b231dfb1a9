//! Commands to devices.

use crate::{Client, Result};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::{CommandStatus, CreateCommand};
use reqwest::Method;

impl Client {
    /// Sends a command to a device.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn create_command(
        &self,
        id: &DeviceId,
        command: &CreateCommand,
    ) -> Result<CommandStatus> {
        self.post(&format!("devices/{id}/commands"), command).await
    }
    /// The newest commands of a device, newest first: at most 50.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn commands(&self, id: &DeviceId) -> Result<Vec<CommandStatus>> {
        self.get(&format!("devices/{id}/commands")).await
    }
    /// The status of a command.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn command(&self, id: &str) -> Result<CommandStatus> {
        self.get(&format!("commands/{id}")).await
    }
    /// Cancels a command: the device is asked to stop it, or not to begin it.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn cancel_command(&self, id: &str) -> Result<CommandStatus> {
        self.post(&format!("commands/{id}/cancel"), &()).await
    }
    /// The result of a command: text, or an encrypted support bundle.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn command_result(&self, id: &str) -> Result<Vec<u8>> {
        let path = format!("commands/{id}/result");
        let response = Self::send(self.request(Method::GET, &path)).await?;
        Ok(Self::bytes(response).await?.to_vec())
    }
}
