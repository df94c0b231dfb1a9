//! What is read of a relay: never more than a few answers. A reader of lines would keep a line
//! without an end in memory.

use lettre::transport::smtp::client::AsyncTokioStream;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

/// Most that is read in one connection, bytes.
const READ_MAX: u64 = 64 << 10;

/// A connection of which at most [`READ_MAX`] bytes are read.
pub(super) struct Bounded<S> {
    inner: Take<S>,
    peer: SocketAddr,
    /// What is read first.
    first: &'static [u8],
}

impl<S: AsyncRead> Bounded<S> {
    /// A connection to `peer`, of which `first` is read first.
    pub(super) fn new(inner: S, peer: SocketAddr, first: &'static [u8]) -> Self {
        Self { inner: inner.take(READ_MAX), peer, first }
    }
}

impl<S> fmt::Debug for Bounded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            let (now, rest) = this.first.split_at(this.first.len().min(buffer.remaining()));
            buffer.put_slice(now);
            this.first = rest;
            return Poll::Ready(Ok(()));
        }
        if this.inner.limit() == 0 {
            let text = format!("the relay sent {READ_MAX} bytes or more");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        Pin::new(&mut this.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().inner.get_mut()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().inner.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().inner.get_mut()).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> AsyncTokioStream for Bounded<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn an_endless_line_is_read_to_the_limit_and_no_further() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 25));
        let mut bounded = Bounded::new(tokio::io::repeat(b'2'), peer, b"220 x\r\n");
        let mut read = Vec::new();
        let refused = bounded.read_to_end(&mut read).await.unwrap_err();
        assert!(refused.to_string().contains("65536 bytes or more"), "{refused}");
        assert!(read.starts_with(b"220 x\r\n22222") && read.len() == 7 + (64 << 10));
    }
}
