//! Lists of many pages as streams, and the end of a rollout.

use crate::{Client, ClientError, Events, PAGE, Result};
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::rollout::{Category, Phase};
use fleeti_core::wire::api::{Device, Event, Rollout, RolloutQuery};
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use std::collections::VecDeque;

/// Devices in a page of a rollout.
const ROLLOUT_PAGE: u32 = 1000;

impl Client {
    /// Every device.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn devices(&self) -> Result<Vec<Device>> {
        self.device_stream(None).try_collect().await
    }

    /// A page of devices, ordered by id: those after a device, of one fleet or of all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn device_page(
        &self,
        after: Option<&DeviceId>,
        fleet: Option<&FleetId>,
    ) -> Result<Vec<Device>> {
        let after = after.map_or_else(String::new, |id| format!("&after={id}"));
        let fleet = fleet.map_or_else(String::new, |fleet| format!("&fleet={fleet}"));
        self.get(&format!("devices?limit={PAGE}{after}{fleet}")).await
    }

    /// Devices, ordered by id, of one fleet or of all. Reads a page when it is needed.
    ///
    /// ```no_run
    /// use futures::TryStreamExt;
    ///
    /// # async fn example(client: fleeti_client::Client) -> Result<(), fleeti_client::ClientError> {
    /// let mut devices = std::pin::pin!(client.device_stream(None));
    /// while let Some(device) = devices.try_next().await? {
    ///     println!("{} runs {:?}", device.id, device.boot.map(|boot| boot.running));
    /// }
    /// # Ok(()) }
    /// ```
    pub fn device_stream(
        &self,
        fleet: Option<FleetId>,
    ) -> impl Stream<Item = Result<Device>> + Send + use<> {
        let client = self.clone();
        paged(move |last: Option<Device>| {
            let (client, fleet) = (client.clone(), fleet.clone());
            async move {
                let page = client.device_page(last.as_ref().map(|d| &d.id), fleet.as_ref()).await?;
                let is_last = page.len() < PAGE;
                Ok((page, is_last))
            }
        })
    }

    /// A rollout, once for each page of its devices.
    pub fn rollout_stream(
        &self,
        id: &str,
        category: Option<Category>,
    ) -> impl Stream<Item = Result<Rollout>> + Send + use<> {
        let (client, id) = (self.clone(), id.to_owned());
        paged(move |last: Option<Rollout>| {
            let (client, id) = (client.clone(), id.clone());
            async move {
                let after = last.and_then(|page| page.next);
                let query = RolloutQuery { category, after, limit: Some(ROLLOUT_PAGE) };
                let page = client.rollout_page(&id, &query).await?;
                let is_last = page.next.is_none();
                Ok((vec![page], is_last))
            }
        })
    }

    /// Lines of the audit log from an entry on, oldest first, up to the newest.
    pub fn audit_stream(&self, from: u64) -> impl Stream<Item = Result<String>> + Send + use<> {
        let client = self.clone();
        let pages = stream::try_unfold(from, move |from| {
            let client = client.clone();
            async move {
                let lines = client.audit_entries(from).await?;
                let next = from + lines.len() as u64;
                let lines = (!lines.is_empty()).then_some(lines);
                Ok::<_, ClientError>(lines.map(|lines| (stream::iter(lines).map(Ok), next)))
            }
        });
        pages.try_flatten()
    }

    /// Waits until a rollout needs nothing more or needs an operator: until it has succeeded,
    /// failed, or is paused or aborted.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn wait_for_rollout(&self, id: &str) -> Result<Rollout> {
        // Before the state is read, so that no event is missed.
        let mut events: Events = self.events().await?;
        let query = RolloutQuery { limit: Some(1), ..RolloutQuery::default() };
        loop {
            let rollout = self.rollout_page(id, &query).await?;
            if rollout.phase.is_terminal() || rollout.phase == Phase::Paused {
                return Ok(rollout);
            }
            events
                .wait_for(|e| matches!(e, Event::Rollout { id: changed } if changed == id))
                .await?;
        }
    }
}

/// What is left of a list: items of the page that was read, and whether more pages follow.
struct Rest<T> {
    items: VecDeque<T>,
    last: Option<T>,
    is_last: bool,
}

/// The items of all pages. `page` gets the last item of the page before, and says whether its page
/// is the last one.
fn paged<T, F, P>(page: F) -> impl Stream<Item = Result<T>> + Send
where
    T: Clone + Send + 'static,
    F: Fn(Option<T>) -> P + Send + Sync + 'static,
    P: Future<Output = Result<(Vec<T>, bool)>> + Send,
{
    let page = std::sync::Arc::new(page);
    let start = Rest { items: VecDeque::new(), last: None, is_last: false };
    stream::try_unfold(start, move |mut rest| {
        let page = std::sync::Arc::clone(&page);
        async move {
            if rest.items.is_empty() && !rest.is_last {
                let (items, is_last) = page(rest.last.take()).await?;
                rest = Rest { last: items.last().cloned(), items: items.into(), is_last };
            }
            Ok(rest.items.pop_front().map(|item| (item, rest)))
        }
    })
}
