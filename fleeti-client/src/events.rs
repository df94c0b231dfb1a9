//! The event stream (server-sent events).

use crate::{ClientError, Result};
use bytes::{Bytes, BytesMut};
use fleeti_core::strict;
use fleeti_core::wire::api::Event;
use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::Response;

/// The event stream (server-sent events).
pub struct Events {
    stream: BoxStream<'static, reqwest::Result<Bytes>>,
    buffer: BytesMut,
}

impl Events {
    pub(crate) fn of(response: Response) -> Self {
        Self { stream: Box::pin(response.bytes_stream()), buffer: BytesMut::new() }
    }

    /// The next event; `None` when some were missed and everything must be read anew.
    ///
    /// # Errors
    /// [`ClientError::StreamEnded`], [`ClientError::Transport`].
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let text = String::from_utf8_lossy(&line);
                if let Some(data) = text.trim_end().strip_prefix("data: ") {
                    return Ok(strict::from_slice(data.as_bytes()).ok());
                }
            }
            match self.stream.next().await {
                Some(chunk) => self.buffer.extend_from_slice(&chunk?),
                None => return Err(ClientError::StreamEnded),
            }
        }
    }

    /// Waits for an event of this kind, or until some were missed: then it may have been among them.
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
