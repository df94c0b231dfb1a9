//! The interface of the signing service for its callers.

use crate::wire::{Request, Response};
use tokio::sync::{mpsc, oneshot};

/// Maximum number of queued requests.
const QUEUE_MAX: usize = 4096;

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The request was refused.
    #[error("the signing service refused: {0}")]
    Refused(String),
    /// A limit is reached; the caller may try again later.
    #[error("the signing service's limit is reached: {0}")]
    Limited(String),
    /// The signing service does not respond.
    #[error("the signing service does not respond: {0}")]
    Unavailable(String),
}

/// The channel for the response or the error.
pub type Asker = oneshot::Sender<Result<Response, SignerError>>;
/// A queued request with the channel for its response.
pub type Waiting = (Request, Asker);

/// A signing service, in this process or behind a socket.
#[derive(Clone)]
pub struct SignerHandle {
    queue: mpsc::Sender<Waiting>,
}

impl SignerHandle {
    /// A handle whose requests the caller of this function forwards to another process.
    #[must_use]
    pub fn remote() -> (Self, mpsc::Receiver<Waiting>) {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        (Self { queue }, receiver)
    }

    /// Returns when the signing service has stopped.
    pub async fn stopped(&self) {
        self.queue.closed().await;
    }

    /// Sends a request and waits for the response.
    ///
    /// # Errors
    /// [`SignerError`].
    pub async fn ask(&self, request: Request) -> Result<Response, SignerError> {
        let gone = || SignerError::Unavailable("it has stopped".into());
        let (answer, waiting) = oneshot::channel();
        self.queue.send((request, answer)).await.map_err(|_| gone())?;
        match waiting.await.map_err(|_| gone())?? {
            Response::Refused { reason } => Err(SignerError::Refused(reason)),
            Response::Limited { reason } => Err(SignerError::Limited(reason)),
            response => Ok(response),
        }
    }
}
