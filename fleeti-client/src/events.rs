//! The event stream (server-sent events).

use crate::{ClientError, Result};
use bytes::{Bytes, BytesMut};
use fleeti_core::strict;
use fleeti_core::wire::api::Event;
use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::Response;

/// Longest line of the stream, bytes. An event contains only a name.
pub const LINE_MAX: usize = 64 << 10;

/// The event stream (server-sent events).
pub struct Events {
    stream: BoxStream<'static, reqwest::Result<Bytes>>,
    buffer: BytesMut,
}

impl Events {
    pub(crate) fn of(response: Response) -> Self {
        Self { stream: Box::pin(response.bytes_stream()), buffer: BytesMut::new() }
    }

    /// The next event. `None` if the caller must read everything again: events were missed, or this
    /// client does not know the event.
    ///
    /// # Errors
    /// [`ClientError::StreamEnded`], [`ClientError::Transport`], [`ClientError::TooLarge`].
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let text = String::from_utf8_lossy(&line);
                if let Some(data) = text.trim_end().strip_prefix("data: ") {
                    return Ok(strict::from_slice(data.as_bytes()).ok());
                }
            }
            if self.buffer.len() > LINE_MAX {
                return Err(ClientError::TooLarge(LINE_MAX));
            }
            match self.stream.next().await {
                Some(chunk) => self.buffer.extend_from_slice(&chunk?),
                None => return Err(ClientError::StreamEnded),
            }
        }
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
