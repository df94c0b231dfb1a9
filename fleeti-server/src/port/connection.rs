//! An HTTP connection with timeouts: it ends if the client sends no request, or does not read the
//! response. One that gives way to another answers the request that has begun.

use crate::gateway::doors::Peer;
use fleeti_control::places::{Full, Origin, Place, Places};
use fleeti_core::id::DeviceId;
use std::cell::{Cell, RefCell};
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

/// The byte stream of a connection.
pub enum Transport {
    /// TCP without TLS.
    Plain(TcpStream),
    /// TLS, after the handshake.
    Tls(Box<TlsStream<TcpStream>>),
    /// Left for [`Activity::close`].
    Left(tokio::io::Empty),
}

impl Transport {
    fn pin(&mut self) -> Pin<&mut dyn Stream> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(&mut **stream),
            Self::Left(nothing) => Pin::new(nothing),
        }
    }

    /// Writes the last bytes, and closes. Reads what still arrives: otherwise TCP would reset the
    /// connection, and the client could lose them.
    async fn close_with(&mut self, last: &[u8]) -> Result<()> {
        let mut stream = self.pin();
        stream.write_all(last).await?;
        stream.shutdown().await?;
        let mut ignored = [0; 1024];
        while stream.read(&mut ignored).await? > 0 {}
        Ok(())
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// The place of a connection.
pub enum Gate {
    /// No whole request yet. With its first request the connection enters these places.
    Quiet(Place<Origin>, Arc<Places<Origin>>),
    /// A place per address.
    Anonymous(Place<Origin>),
    /// A place per device.
    Device(Place<DeviceId>),
    /// No place: the connection only gets the error.
    Refused(Full, Option<Place<Origin>>),
}

/// What a connection has carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carried {
    Nothing,
    /// The first bytes of a request.
    Request,
    /// The first bytes of a response.
    Response,
}

/// Maximum time for the response to a request on a connection that gives way.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The activity of a connection, shared by its stream and its requests.
pub struct Activity {
    /// When a response was last read, or the connection began.
    moved: Cell<Instant>,
    /// Number of requests whose handler is still running.
    serving: Cell<usize>,
    gate: RefCell<Gate>,
    carried: Cell<Carried>,
    /// The byte stream, after the connection was dropped.
    left: RefCell<Option<Transport>>,
    /// Notified when the place was given to another connection.
    evicted: Arc<Notify>,
}

impl Activity {
    /// The activity of a new connection.
    #[must_use]
    pub fn new(gate: Gate, evicted: Arc<Notify>) -> Rc<Self> {
        Rc::new(Self {
            moved: Cell::new(Instant::now()),
            serving: Cell::new(0),
            gate: RefCell::new(gate),
            carried: Cell::new(Carried::Nothing),
            left: RefCell::default(),
            evicted,
        })
    }

    /// Closes the byte stream of a connection that was dropped. One that has given way has a
    /// response: it is written if a request has begun, and no response has.
    pub async fn close(&self, response: Option<Vec<u8>>) {
        let left = self.left.borrow_mut().take();
        if let (Some(mut transport), Some(response)) = (left, response)
            && self.carried.get() == Carried::Request
        {
            tokio::time::timeout(LAST_WORDS, transport.close_with(&response)).await.ok();
        }
    }

    /// Registers a whole request. It ends when the return value is dropped.
    ///
    /// # Errors
    /// The limit because of which the request is refused.
    pub fn serve(self: &Rc<Self>) -> std::result::Result<Serving, Full> {
        let mut gate = self.gate.borrow_mut();
        if let Gate::Quiet(quiet, places) = &*gate {
            let entered = places.enter(quiet.key(), Arc::clone(&self.evicted));
            *gate = entered.map_or_else(|full| Gate::Refused(full, None), Gate::Anonymous);
        }
        if let Gate::Refused(full, _) = &*gate {
            return Err(*full);
        }
        self.serving.set(self.serving.get() + 1);
        Ok(Serving(Rc::clone(self)))
    }
}

/// A request in progress.
pub struct Serving(Rc<Activity>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.serving.set(self.0.serving.get() - 1);
        self.0.moved.set(Instant::now());
    }
}

/// An HTTP connection.
pub struct Connection {
    transport: Transport,
    /// Its activity.
    pub activity: Rc<Activity>,
    /// The device of the verified certificate.
    pub peer: Option<Peer>,
    idle: Duration,
    stall: Duration,
    wakes: Option<Pin<Box<Sleep>>>,
    /// Since when the client has not read any of the data that waits to be written.
    blocked: Option<Instant>,
}

impl Connection {
    /// Creates a connection that ends after `idle` without a request or response, and when the
    /// client has not read a response for `stall`.
    #[must_use]
    pub fn new(
        transport: Transport,
        activity: Rc<Activity>,
        peer: Option<Peer>,
        idle: Duration,
        stall: Duration,
    ) -> Self {
        Self { transport, activity, peer, idle, stall, wakes: None, blocked: None }
    }

    /// The TLS connection, if there is one.
    #[must_use]
    pub fn tls(&self) -> Option<&rustls::ServerConnection> {
        match &self.transport {
            Transport::Plain(_) | Transport::Left(_) => None,
            Transport::Tls(stream) => Some(stream.get_ref().1),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.blocked {
            Some(since) => Some(since + self.stall),
            None if self.activity.serving.get() == 0 => Some(self.activity.moved.get() + self.idle),
            None => None,
        }
    }

    /// Arranges to wake the task at the deadline. Returns an error if it has passed.
    fn watch(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let Some(deadline) = self.deadline() else { return Ok(()) };
        let wakes = self.wakes.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        // Reset the timer only if it is later than the deadline, or has fired: most deadlines move
        // before they are reached.
        if deadline < wakes.deadline() {
            wakes.as_mut().reset(deadline);
        }
        while wakes.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                return Err(Error::new(ErrorKind::TimedOut, "the client timed out"));
            }
            wakes.as_mut().reset(deadline);
        }
        Ok(())
    }

    /// Called after an attempt to write or flush.
    fn wrote<T>(&mut self, cx: &mut Context<'_>, result: Poll<Result<T>>) -> Poll<Result<T>> {
        if result.is_ready() {
            self.blocked = None;
            self.activity.moved.set(Instant::now());
        } else {
            self.blocked.get_or_insert_with(Instant::now);
        }
        self.watch(cx)?;
        result
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let left = std::mem::replace(&mut self.transport, Transport::Left(tokio::io::empty()));
        *self.activity.left.borrow_mut() = Some(left);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let result = this.transport.pin().poll_read(cx, buffer);
        if buffer.filled().len() > before && this.activity.carried.get() == Carried::Nothing {
            this.activity.carried.set(Carried::Request);
        }
        this.watch(cx)?;
        result
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let result = this.transport.pin().poll_write(cx, bytes);
        this.activity.carried.set(Carried::Response);
        this.wrote(cx, result)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        let result = this.transport.pin().poll_flush(cx);
        // A flush without data is not progress.
        if result.is_ready() && this.blocked.is_none() {
            this.watch(cx)?;
            return result;
        }
        this.wrote(cx, result)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().transport.pin().poll_shutdown(cx)
    }
}
