//! One MQTT connection: whole packets in, whole packets out, within limits.

use crate::error::AppError;
use bytes::{Bytes, BytesMut};
use fleeti_core::foreign::Foreign;
use fleeti_core::wire::mqtt::PACKET_MAX;
use fleeti_core::wire::packet::{self, Reason, Refusal};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// Bytes to a device that are gathered before they are written.
const GATHER_MAX: usize = 64 * 1024;
/// How long a peer may take for the last packet.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why a session ends.
#[derive(Debug)]
pub(super) enum Ended {
    /// The device said goodbye.
    Left,
    /// The connection is gone: nobody is there to be told.
    Gone(String),
    /// The hub ends it, and knows why.
    Kicked,
    /// The server ends it.
    Closed {
        /// What the device is told.
        reason: Reason,
        /// In words; a device may have written some of them.
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
            Self::Left => f.write_str("the device left"),
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

impl From<AppError> for Ended {
    fn from(e: AppError) -> Self {
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
    stream: TlsStream<TcpStream>,
    input: BytesMut,
    output: Vec<u8>,
    write_limit: Duration,
    /// A packet was begun and not written to its end: nothing may follow it.
    is_torn: bool,
    /// Ends what waits for a peer that does not read.
    pub kicked: CancellationToken,
    /// Largest packet that the device takes, bytes.
    pub packet_max: usize,
}

impl Connection {
    pub fn new(stream: TlsStream<TcpStream>, write_limit: Duration) -> Self {
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

    /// The next packet, whole and framed; not read yet. What has come stays when the caller stops
    /// waiting.
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

    /// Whether what has come is, or would be, CONNECT.
    pub fn begins_with_connect(&self) -> bool {
        self.input.first().is_some_and(|b| *b == 0x10)
    }

    /// A packet to be written with the next [`Self::flush`]. `false` when it is larger than the
    /// device takes: it is dropped, as if it had been sent (MQTT-3.1.2-24, MQTT-3.1.2-25).
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

    /// Whether more should be written before more is queued.
    pub fn is_full(&self) -> bool {
        self.output.len() >= GATHER_MAX
    }

    /// Writes what is queued. A peer that does not read ends its session: after the limit, or at
    /// once when the session is kicked.
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

    /// The last packet, if one can follow what was written, and the end of the connection.
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
