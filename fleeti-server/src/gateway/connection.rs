//! An MQTT connection: reads and writes whole packets, within limits.

use bytes::{Bytes, BytesMut};
use fleeti_control::error::Error;
use fleeti_core::foreign::Foreign;
use fleeti_core::wire::mqtt::PACKET_MAX;
use fleeti_core::wire::packet::{self, Reason, Refusal};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// Number of bytes that are queued before they are written.
const GATHER_MAX: usize = 64 * 1024;
/// Timeout for writing the last packet.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a session that is taken over looks for the end of its connection.
const LOOK: Duration = Duration::from_millis(50);

/// Why a session ends.
#[derive(Debug)]
pub(super) enum Ended {
    /// The device sent DISCONNECT.
    Left,
    /// The connection is closed, so no reason can be sent.
    Gone(String),
    /// The hub ends it; the handle has the reason.
    Kicked,
    /// The server ends it.
    Closed {
        /// The reason code for the device.
        reason: Reason,
        /// Details for the log. They may contain text from the device.
        detail: String,
    },
}

impl Ended {
    pub fn closed<T>(reason: Reason, detail: impl Into<String>) -> Result<T, Self> {
        Err(Self::Closed { reason, detail: detail.into() })
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Left => f.write_str("the device disconnected"),
            Self::Gone(why) => f.write_str(why),
            Self::Kicked => f.write_str("kicked"),
            Self::Closed { reason, detail } => write!(f, "{reason:?}: {}", Foreign::log(detail)),
        }
    }
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Closed { reason: refusal.reason, detail: refusal.detail.to_owned() }
    }
}

impl From<Error> for Ended {
    fn from(e: Error) -> Self {
        Self::Closed { reason: Reason::UnspecifiedError, detail: e.to_string() }
    }
}

impl From<serde_json::Error> for Ended {
    fn from(e: serde_json::Error) -> Self {
        Self::Closed { reason: Reason::UnspecifiedError, detail: e.to_string() }
    }
}

/// The connection.
pub(super) struct Connection {
    stream: Box<TlsStream<TcpStream>>,
    input: BytesMut,
    output: Vec<u8>,
    write_limit: Duration,
    /// A packet was written only in part, so nothing may follow it.
    is_torn: bool,
    /// Cancels writes to a peer that does not read.
    pub kicked: CancellationToken,
    /// Maximum packet size that the device accepts, in bytes.
    pub packet_max: usize,
}

impl Connection {
    pub fn new(stream: Box<TlsStream<TcpStream>>, write_limit: Duration) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: Vec::new(),
            write_limit,
            is_torn: false,
            kicked: CancellationToken::new(),
            packet_max: usize::MAX,
        }
    }

    /// Reads the next whole packet, without parsing it. Cancel-safe: bytes that have arrived stay
    /// in the buffer.
    pub async fn next(&mut self) -> Result<Bytes, Ended> {
        loop {
            if let Some(length) = packet::frame(&self.input, PACKET_MAX)? {
                return Ok(self.input.split_to(length).freeze());
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err(Ended::Gone("the device closed the connection".into())),
                Ok(_) => {}
                Err(e) => return Err(Ended::Gone(e.to_string())),
            }
        }
    }

    /// Returns when the device has closed the connection. Keeps what it sends meanwhile, up to the
    /// size of a packet; beyond that it does not read.
    pub async fn gone(&mut self) {
        while self.input.len() <= PACKET_MAX {
            if !matches!(self.stream.read_buf(&mut self.input).await, Ok(1..)) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Whether the device has closed the connection, as far as its bytes have arrived. Waits for a
    /// moment, because the runtime learns of an end that has arrived only when it looks for events.
    pub async fn is_gone(&mut self) -> bool {
        tokio::time::timeout(LOOK, self.gone()).await.is_ok()
    }

    /// Whether the buffered bytes are a CONNECT, or the start of one.
    pub fn begins_with_connect(&self) -> bool {
        self.input.first().is_some_and(|b| *b == 0x10)
    }

    /// Queues a packet for the next [`Self::flush`]. Returns `false` if it is larger than the
    /// device accepts: it is then dropped, as if it had been sent (MQTT-3.1.2-24, MQTT-3.1.2-25).
    pub fn queue(&mut self, packet: Vec<u8>) -> bool {
        if packet.len() > self.packet_max {
            return false;
        }
        if self.output.is_empty() {
            self.output = packet;
        } else {
            self.output.extend(packet);
        }
        true
    }

    /// Whether the queue should be flushed before more is queued.
    pub fn is_full(&self) -> bool {
        self.output.len() >= GATHER_MAX
    }

    /// Writes the queue. If the peer does not read, the session ends after the timeout, or at once
    /// when it is kicked.
    pub async fn flush(&mut self) -> Result<(), Ended> {
        if self.output.is_empty() {
            return Ok(());
        }
        let output = std::mem::take(&mut self.output);
        self.is_torn = true;
        let write = async {
            self.stream.write_all(&output).await?;
            self.stream.flush().await
        };
        tokio::select! {
            biased;
            written = tokio::time::timeout(self.write_limit, write) => match written {
                Ok(Ok(())) => self.is_torn = false,
                Ok(Err(e)) => return Err(Ended::Gone(e.to_string())),
                Err(_) => return Err(Ended::Gone("the device does not read".into())),
            },
            () = self.kicked.cancelled() => return Err(Ended::Kicked),
        }
        Ok(())
    }

    /// Writes the last packet, if no packet was written in part, and closes the connection.
    pub async fn end(&mut self, last: Option<Vec<u8>>) {
        self.kicked = CancellationToken::new();
        self.write_limit = self.write_limit.min(GOODBYE);
        if let (Some(last), false) = (last, self.is_torn) {
            self.queue(last);
            self.flush().await.ok();
        }
        if !self.is_torn {
            tokio::time::timeout(self.write_limit, self.stream.shutdown()).await.ok();
        }
    }
}
