//! What the server of a world knows about devices.

use super::{SOON, World};
use anyhow::{Context, Result, bail};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::{CreateCommand, Device, Event};
use fleeti_core::wire::device::CommandKind;
use std::time::Duration;

impl World {
    /// The only device, when `wanted` holds.
    ///
    /// # Errors
    /// If it does not hold in time.
    pub fn device(&self, timeout: Duration, wanted: impl Fn(&Device) -> bool) -> Result<Device> {
        self.look(timeout, |_| true, wanted)
    }

    /// A device, when `wanted` holds.
    ///
    /// # Errors
    /// If it does not hold in time.
    pub fn device_with(
        &self,
        timeout: Duration,
        id: &DeviceId,
        wanted: impl Fn(&Device) -> bool,
    ) -> Result<Device> {
        self.look(timeout, |d| d.id == *id, wanted)
    }

    fn look(
        &self,
        timeout: Duration,
        which: impl Fn(&Device) -> bool,
        wanted: impl Fn(&Device) -> bool,
    ) -> Result<Device> {
        let client = self.client()?;
        self.runtime.block_on(async {
            let mut events = client.events().await?;
            let mut last = None;
            let looked = tokio::time::timeout(timeout, async {
                loop {
                    last = client.devices().await?.into_iter().find(|d| which(d));
                    if let Some(device) = last.take_if(|d| wanted(d)) {
                        return anyhow::Ok(device);
                    }
                    events.wait_for(|e| matches!(e, Event::Device { .. })).await?;
                }
            })
            .await;
            match looked {
                Ok(result) => result,
                Err(_) => {
                    bail!(
                        "the expected state was not reached in {} s; last state: {last:?}",
                        timeout.as_secs()
                    )
                }
            }
        })
    }

    /// Sends the command `report`, waits until the device has acknowledged it, and returns its id.
    ///
    /// # Errors
    /// If the device does not do so in time.
    pub fn command(&self, device: &DeviceId) -> Result<String> {
        let client = self.client()?;
        let request = CreateCommand { kind: CommandKind::Report, valid_s: 600, confirm: None };
        self.runtime.block_on(async {
            let mut events = client.events().await?;
            let id = client.create_command(device, &request).await?.id;
            let answered = async {
                while client.command(&id).await?.status != "done" {
                    events.next().await?;
                }
                anyhow::Ok(())
            };
            tokio::time::timeout(SOON, answered)
                .await
                .context("the device did not acknowledge the command")??;
            Ok(id)
        })
    }

    /// The device's certificate, PEM.
    ///
    /// # Errors
    /// If the server does not know the device.
    pub fn certificate(&self, device: &DeviceId) -> Result<String> {
        Ok(self.runtime.block_on(self.client()?.certificate(device))?)
    }
}
