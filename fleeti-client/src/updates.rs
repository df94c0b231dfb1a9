//! What decides about the updates of devices.

use crate::{Client, Result};
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::fixes::FleetFixes;
use fleeti_core::wire::updates::{Channel, PinFleet, UpdateOrder, Why};
use reqwest::Method;

impl Client {
    /// Why a device is, or is not, offered a release.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn why(&self, id: &DeviceId) -> Result<Why> {
        self.get(&format!("devices/{id}/why")).await
    }
    /// Holds or pins a device, ends either, or moves it.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn order_updates(&self, id: &DeviceId, order: &UpdateOrder) -> Result<Why> {
        self.post(&format!("devices/{id}/updates"), order).await
    }
    /// What the devices of a fleet should run.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn channel(&self, fleet: &FleetId) -> Result<Channel> {
        self.get(&format!("fleets/{fleet}/channel")).await
    }
    /// The security fixes that the release of a fleet lacks.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn fixes(&self, fleet: &FleetId) -> Result<FleetFixes> {
        self.get(&format!("fleets/{fleet}/fixes")).await
    }
    /// Pins a fleet to a release, or ends that.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn pin_fleet(&self, fleet: &FleetId, request: &PinFleet) -> Result<Channel> {
        let path = format!("fleets/{fleet}/channel");
        Self::read(Self::send(self.request(Method::PUT, &path).json(request)).await?).await
    }
}
