//! Filters, names, notes and labels of devices, saved views, and changes of many devices.

use crate::{Client, PAGE, Result, with_query};
use fleeti_core::id::{DeviceId, LabelKey, ViewName};
use fleeti_core::wire::api::Device;
use fleeti_core::wire::labels::{
    About, ChangeDevices, ChangeLabels, DeclareLabelKey, DevicesChanged, ImportLabels, Imported,
    LabelKeyInfo, LabelType, Replace, SaveView, View,
};
use reqwest::Method;

impl Client {
    /// Every device that a filter matches.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn devices_of(&self, filter: &str) -> Result<Vec<Device>> {
        let mut all: Vec<Device> = Vec::new();
        loop {
            let after = all.last().map_or("", |device| device.id.as_str()).to_owned();
            let page = self.devices_page(filter, &after, PAGE).await?;
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }
    /// A page of devices that a filter matches, ordered by id, after an id.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn devices_page(
        &self,
        filter: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Device>> {
        let values = [("filter", filter), ("after", after), ("limit", &limit.to_string())]
            .map(|(name, value)| (name, Some(value.to_owned())));
        self.get(&with_query("devices", values)).await
    }
    /// All label keys.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn label_keys(&self) -> Result<Vec<LabelKeyInfo>> {
        self.get("label-keys").await
    }
    /// Declares a label key, or changes what values it can have.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn declare_label_key(&self, key: &LabelKey, of: LabelType) -> Result<LabelKeyInfo> {
        let request =
            self.request(Method::PUT, &format!("label-keys/{key}")).json(&DeclareLabelKey { of });
        Self::read(Self::send(request).await?).await
    }
    /// Removes a label key that no device has.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn remove_label_key(&self, key: &LabelKey) -> Result<()> {
        let request = self.request(Method::DELETE, &format!("label-keys/{key}"));
        Self::send(request).await.map(drop)
    }
    /// Changes the name and the note of a device.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn describe_device(&self, device: &DeviceId, about: &About) -> Result<Device> {
        self.post(&format!("devices/{device}/about"), about).await
    }
    /// Sets and removes labels of a device.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn change_labels(&self, device: &DeviceId, labels: &ChangeLabels) -> Result<Device> {
        self.post(&format!("devices/{device}/labels"), labels).await
    }
    /// Sets names, notes and labels of many devices: of all rows, or of none.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn import_labels(&self, import: &ImportLabels) -> Result<Imported> {
        self.post("label-imports", import).await
    }
    /// Previews or makes a change of all devices that a filter matches.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn change_devices(&self, change: &ChangeDevices) -> Result<DevicesChanged> {
        self.post("device-changes", change).await
    }
    /// Puts an enrolled device in the place of another one, and revokes that one.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn replace_device(&self, old: &DeviceId, with: &DeviceId) -> Result<Device> {
        self.post(&format!("devices/{old}/replace"), &Replace { with: with.clone() }).await
    }
    /// All saved views.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn views(&self) -> Result<Vec<View>> {
        self.get("views").await
    }
    /// Saves a view.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn save_view(&self, name: &ViewName, filter: &str) -> Result<View> {
        let view = SaveView { filter: filter.to_owned() };
        let request = self.request(Method::PUT, &format!("views/{name}")).json(&view);
        Self::read(Self::send(request).await?).await
    }
    /// Removes a saved view.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn remove_view(&self, name: &ViewName) -> Result<()> {
        let request = self.request(Method::DELETE, &format!("views/{name}"));
        Self::send(request).await.map(drop)
    }
}
