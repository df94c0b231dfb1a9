//! Sends messages to receivers.
//!
//! A receiver is somebody else's server: names are resolved to public addresses only, redirects are
//! not followed, no proxy is used, and only the beginning of an answer is read.

use fleeti_control::context::Context;
use fleeti_control::error::Error;
use fleeti_control::rollouts::gate;
use fleeti_control::webhooks::{self, Answer, Message, Outgoing};
use futures::future::join_all;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// Time for a connection, and for a whole request.
const CONNECT: Duration = Duration::from_secs(5);
pub(super) const REQUEST: Duration = Duration::from_secs(15);
/// Largest part of an answer that is read, bytes.
const ANSWER_MAX: usize = 512;
/// Maximum number of deliveries to one receiver in one look.
const BATCH: usize = 50;

const _: () = assert!(REQUEST.as_secs() * 2 < webhooks::LOST_S);
const _: () = assert!(REQUEST.as_secs() * 2 < gate::LOST_S);

/// Resolves names to addresses that a webhook may be sent to.
struct Guarded {
    private: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(addresses(name, self.private))
    }
}

/// The addresses of a name that a webhook may be sent to.
async fn addresses(
    name: Name,
    private: bool,
) -> Result<Addrs, Box<dyn std::error::Error + Send + Sync>> {
    let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
    let may_reach: Vec<_> =
        found.filter(|address| webhooks::may_reach(address.ip(), private)).collect();
    if may_reach.is_empty() {
        return Err(format!("{} has no public address", name.as_str()).into());
    }
    Ok(Box::new(may_reach.into_iter()))
}

/// Sends deliveries.
pub struct Sender {
    private: bool,
    /// Made for the first delivery: it reads the certificates that the system trusts.
    client: OnceCell<Client>,
}

impl Sender {
    /// A sender for a control plane.
    #[must_use]
    pub fn new(cx: &Context) -> Self {
        Self { private: cx.settings.private_webhooks, client: OnceCell::new() }
    }

    async fn client(&self) -> reqwest::Result<&Client> {
        let private = self.private;
        self.client
            .get_or_try_init(|| async move {
                Client::builder()
                    .redirect(Policy::none())
                    .no_proxy()
                    .connect_timeout(CONNECT)
                    .timeout(REQUEST)
                    .pool_max_idle_per_host(1)
                    .dns_resolver(Arc::new(Guarded { private }))
                    .user_agent("fleeti-server")
                    .build()
            })
            .await
    }

    /// Makes deliveries of new events, and sends what is due, to all receivers at the same time.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn look(&self, cx: &Context) -> Result<(), Error> {
        while webhooks::fan_out(cx).await? {}
        let ids = webhooks::ids(cx).await?;
        let sent = join_all(ids.iter().map(|id| self.send_due(cx, id))).await;
        sent.into_iter().collect()
    }

    /// Sends what is due to one receiver, until it does not accept something.
    async fn send_due(&self, cx: &Context, webhook: &str) -> Result<(), Error> {
        // The others wait for the slowest, so it gets as long as one request.
        let began = std::time::Instant::now();
        for _ in 0..BATCH {
            if began.elapsed() >= REQUEST {
                return Ok(());
            }
            let Some(outgoing) = webhooks::next(cx, webhook).await? else { return Ok(()) };
            let answer = self.send(&outgoing).await;
            if !webhooks::answered(cx, &outgoing, &answer).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn send(&self, outgoing: &Outgoing) -> Answer {
        match self.request(&outgoing.message).await {
            Ok(response) => {
                let status = Some(response.status().as_u16());
                Answer { status, text: beginning(response).await }
            }
            Err(text) => Answer { status: None, text },
        }
    }

    /// Sends a message, and reads the whole answer but for what is longer than `max` bytes and one.
    ///
    /// # Errors
    /// Why there is no whole answer.
    pub(super) async fn ask(
        &self,
        message: &Message,
        max: usize,
    ) -> Result<(u16, Vec<u8>), String> {
        let mut response = self.request(message).await?;
        let (status, mut bytes) = (response.status().as_u16(), Vec::new());
        while bytes.len() <= max
            && let Some(chunk) = response.chunk().await.map_err(|e| reason(&e))?
        {
            bytes.extend(chunk.iter().take(max + 1 - bytes.len()));
        }
        Ok((status, bytes))
    }

    async fn request(&self, message: &Message) -> Result<Response, String> {
        // An address in the URL is not resolved, so it is checked here.
        let url = webhooks::check(&message.url, self.private).map_err(|e| e.to_string())?;
        let client = self.client().await.map_err(|e| reason(&e))?;
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", message.timestamp_s.to_string())
            .header("webhook-signature", &message.signature)
            .body(message.body.clone());
        request.send().await.map_err(|e| reason(&e))
    }
}

/// Why a request failed, without the URL, which may contain a token.
fn reason(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = if error.is_timeout() { "no answer in time" } else { "not reached" }.to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

/// The beginning of an answer, as text.
async fn beginning(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_MAX
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend(chunk.iter().take(ANSWER_MAX - bytes.len()));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::TcpListener;

    /// The whole client: what it resolves and where it connects.
    #[tokio::test]
    async fn a_name_that_has_only_private_addresses_is_never_connected() {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let sent = async |private| {
            let sender = Sender { private, client: OnceCell::new() };
            let request = sender.client().await.unwrap().get(&url);
            request.timeout(Duration::from_secs(1)).send().await.unwrap_err()
        };
        let refused = sent(false).await;
        assert_eq!(reason(&refused), "localhost has no public address");
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        // The listener does notice who connects.
        sent(true).await;
        listener.accept().unwrap();
    }
}
