//! Resources with their versions, so that a change does not overwrite another one that its author has
//! not seen.

use crate::{Client, Result};
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{FleetId, ReleaseName, ViewName};
use fleeti_core::rollout::gates::ReleasePath;
use fleeti_core::wire::alerts::RuleStatus;
use fleeti_core::wire::approval::ApprovalPolicy;
use fleeti_core::wire::labels::View;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest tag that is sent back, bytes.
const TAG_MAX: usize = 128;

/// The version of a resource (`ETag`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

impl Tag {
    /// As the server wrote it, with quotation marks.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A resource and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged<T> {
    /// The resource.
    pub value: T,
    /// Its version; `None` from a server that names none.
    pub tag: Option<Tag>,
}

impl Client {
    /// A client whose changes are made only in this version of a resource (`If-Match`). The server
    /// refuses others with
    /// [`Code::PreconditionFailed`](fleeti_core::wire::problem::Code::PreconditionFailed). Without a
    /// tag, nothing is expected.
    ///
    /// ```no_run
    /// # async fn example(client: fleeti_client::Client) -> Result<(), fleeti_client::ClientError> {
    /// let fleet = "berlin".parse().unwrap();
    /// let mut read = client.tagged_attestation_policy(&fleet).await?;
    /// read.value.proved_releases = true;
    /// client.expecting(read.tag.as_ref()).set_attestation_policy(&fleet, &read.value).await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn expecting(&self, tag: Option<&Tag>) -> Self {
        Self { expected: tag.cloned(), ..self.clone() }
    }

    /// The appraisal policy of a fleet, with its version.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn tagged_attestation_policy(&self, fleet: &FleetId) -> Result<Tagged<Policy>> {
        self.get_tagged(&format!("fleets/{fleet}/attestation-policy")).await
    }
    /// The ways to a release, with their version.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn tagged_release_path(&self, release: &ReleaseName) -> Result<Tagged<ReleasePath>> {
        self.get_tagged(&format!("releases/{release}/path")).await
    }
    /// Which acts need a second person, with the version of that policy.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn tagged_approval_policy(&self) -> Result<Tagged<ApprovalPolicy>> {
        self.get_tagged("approval-policy").await
    }
    /// One alert rule, with its version.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn alert_rule(&self, id: &str) -> Result<Tagged<RuleStatus>> {
        self.get_tagged(&format!("alert-rules/{id}")).await
    }
    /// One saved view, with its version.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn view(&self, name: &ViewName) -> Result<Tagged<View>> {
        self.get_tagged(&format!("views/{name}")).await
    }

    async fn get_tagged<T: DeserializeOwned + Serialize>(&self, path: &str) -> Result<Tagged<T>> {
        let response = Self::send(self.request(Method::GET, path)).await?;
        let sent = response.headers().get("etag").and_then(|tag| tag.to_str().ok());
        let tag = sent.filter(|tag| tag.len() <= TAG_MAX).map(|tag| Tag(tag.to_owned()));
        Ok(Tagged { value: Self::read(response).await?, tag })
    }
}
