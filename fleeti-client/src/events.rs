//! The event stream (server-sent events).

use crate::{Client, ClientError, Result};
use bytes::{Bytes, BytesMut};
use fleeti_core::strict;
use fleeti_core::wire::api::Event;
use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::{Method, Response};
use std::time::{Duration, Instant};

/// Longest line of the stream, bytes. An event contains only a name.
pub const LINE_MAX: usize = 64 << 10;
/// Longest id of an event, bytes. The stream is not resumed from a longer one.
const ID_MAX: usize = 64;
/// Delays before attempts to resume a broken stream: about a minute in all.
const DELAYS: [Duration; 8] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(30),
];

/// The event stream (server-sent events). After a broken connection it continues with what was
/// missed.
pub struct Events {
    client: Client,
    stream: BoxStream<'static, reqwest::Result<Bytes>>,
    buffer: BytesMut,
    /// The last event that the caller got; `None` if the server sends no ids.
    last: Option<String>,
    /// The id of the event that is being read.
    id: Option<String>,
    /// Number of attempts to resume it since the last event.
    attempts: usize,
    /// When the connection was opened.
    opened: Instant,
}

/// A connection that lasted so long was no failed attempt.
const LASTING: Duration = Duration::from_secs(60);

impl Events {
    pub(crate) async fn open(client: Client) -> Result<Self> {
        let stream = Box::pin(request(&client, None).await?.bytes_stream());
        let buffer = BytesMut::new();
        Ok(Self {
            client,
            stream,
            buffer,
            last: None,
            id: None,
            attempts: 0,
            opened: Instant::now(),
        })
    }

    /// The next event. `None` if the caller must read everything again: events were missed, or this
    /// client does not know the event.
    ///
    /// # Errors
    /// [`ClientError::StreamEnded`] or [`ClientError::Transport`] once the stream cannot be
    /// resumed, for about a minute; [`ClientError::Refused`] if the credential has ended;
    /// [`ClientError::TooLarge`].
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(end + 1);
                if let Some(event) = self.take(String::from_utf8_lossy(&line).trim_end()) {
                    return Ok(event);
                }
            }
            if self.buffer.len() > LINE_MAX {
                return Err(ClientError::TooLarge(LINE_MAX));
            }
            match self.stream.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(e)) => self.resume(e.into()).await?,
                None => self.resume(ClientError::StreamEnded).await?,
            }
        }
    }

    /// Takes a line: the data of an event, its id, or the end of a message. The id counts once the
    /// whole event was read.
    fn take(&mut self, line: &str) -> Option<Option<Event>> {
        if let Some(id) = line.strip_prefix("id: ") {
            let is_good = id.len() <= ID_MAX && id.bytes().all(|b| b.is_ascii_graphic());
            self.id = is_good.then(|| id.to_owned());
            return None;
        }
        let data = line.strip_prefix("data: ");
        if (data.is_some() || line.is_empty())
            && let Some(id) = self.id.take()
        {
            self.last = Some(id);
        }
        let data = data?;
        self.attempts = 0;
        Some(strict::from_slice(data.as_bytes()).ok())
    }

    /// Opens the stream again after the last event. `broken` is why it ended.
    async fn resume(&mut self, mut broken: ClientError) -> Result<()> {
        let Some(last) = self.last.clone() else { return Err(broken) };
        if self.opened.elapsed() >= LASTING {
            self.attempts = 0;
        }
        while let Some(delay) = DELAYS.get(self.attempts) {
            self.attempts += 1;
            tokio::time::sleep(*delay).await;
            match request(&self.client, Some(&last)).await {
                Ok(response) => {
                    self.stream = Box::pin(response.bytes_stream());
                    // What is left of a line that broke off is sent again.
                    self.buffer.clear();
                    (self.id, self.opened) = (None, Instant::now());
                    return Ok(());
                }
                // The server is busy, or starts.
                Err(ClientError::Refused(problem)) if matches!(problem.status, 429 | 500..) => {
                    broken = ClientError::Refused(problem);
                }
                Err(e @ ClientError::Transport(_)) => broken = e,
                Err(e) => return Err(e),
            }
        }
        Err(broken)
    }

    /// Waits for a matching event, or until events were missed, because the match may be among
    /// those.
    ///
    /// # Errors
    /// As [`Events::next`].
    pub async fn wait_for(&mut self, wanted: impl Fn(&Event) -> bool) -> Result<()> {
        while let Some(event) = self.next().await? {
            if wanted(&event) {
                return Ok(());
            }
        }
        Ok(())
    }
}

async fn request(client: &Client, last: Option<&str>) -> Result<Response> {
    let mut request = client.request(Method::GET, "events");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    Client::send(request).await
}
