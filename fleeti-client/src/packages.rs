//! What is in releases, and which devices have it.

use crate::{Client, Result, with_query};
use bytes::Bytes;
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::package::{PackageDevices, PackageQuery};
use reqwest::Method;

impl Client {
    /// The devices that have a package (`openssl<3.5.1-1`), with the first page of at most `limit`
    /// devices after an id.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn package_devices(
        &self,
        query: &PackageQuery,
        after: &str,
        limit: u32,
    ) -> Result<PackageDevices> {
        let values =
            [("q", query.to_string()), ("after", after.into()), ("limit", limit.to_string())]
                .map(|(name, value)| (name, Some(value)));
        self.get(&with_query("packages/devices", values)).await
    }
    /// A file of a published release: manifest, signature, SBOM or provenance. The caller verifies
    /// it.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn release_file(&self, release: &ReleaseName, path: &str) -> Result<Bytes> {
        let path = format!("releases/{release}/files/{path}");
        Self::bytes(Self::send(self.request(Method::GET, &path)).await?).await
    }
}
