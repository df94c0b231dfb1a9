//! Lists of many pages, each of which names the next one (`Link`, RFC 8288).

use crate::{Client, ClientError, Result};
use fleeti_core::id::FleetId;
use fleeti_core::wire::api::{Build, Release, RolloutSummary};
use futures::stream::{self, Stream, TryStreamExt};
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

impl Client {
    /// Builds, newest first. Reads a page when it is needed.
    pub fn build_stream(&self) -> impl Stream<Item = Result<Build>> + Send + use<> {
        self.linked("builds".to_owned())
    }
    /// Releases, newest first. Reads a page when it is needed.
    pub fn release_stream(&self) -> impl Stream<Item = Result<Release>> + Send + use<> {
        self.linked("releases".to_owned())
    }
    /// Rollouts of one fleet or of all, newest first, without their devices. Reads a page when it is
    /// needed.
    pub fn rollouts_stream(
        &self,
        fleet: Option<&FleetId>,
    ) -> impl Stream<Item = Result<RolloutSummary>> + Send + use<> {
        let query = fleet.map_or_else(String::new, |fleet| format!("?fleet={fleet}"));
        self.linked(format!("rollouts{query}"))
    }

    fn linked<T>(&self, first: String) -> impl Stream<Item = Result<T>> + Send + use<T>
    where
        T: DeserializeOwned + Serialize + Send + 'static,
    {
        let client = self.clone();
        let list = first.split('?').next().unwrap_or_default().to_owned();
        let pages = stream::try_unfold(Some(first), move |path| {
            let (client, list) = (client.clone(), list.clone());
            async move {
                let Some(path) = path else { return Ok(None) };
                let response = Client::send(client.request(Method::GET, &path)).await?;
                let next = next(&response, &list);
                let items: Vec<T> = Client::read(response).await?;
                Ok::<_, ClientError>(Some((stream::iter(items.into_iter().map(Ok)), next)))
            }
        });
        pages.try_flatten()
    }
}

/// The path of the next page below the API, if it is one of the same list: a server leads to no other
/// address.
fn next(response: &Response, list: &str) -> Option<String> {
    let link = response.headers().get("link")?.to_str().ok()?;
    let (address, _) = link.strip_prefix('<')?.split_once(">; rel=\"next\"")?;
    let path = address.strip_prefix("/api/v1/")?;
    let query = path.strip_prefix(list)?.strip_prefix('?')?;
    let is_query = query.bytes().all(|b| b.is_ascii_alphanumeric() || b"=&._-".contains(&b));
    is_query.then(|| path.to_owned())
}
