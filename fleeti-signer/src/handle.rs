//! A signer as its callers see it. Requests that come while another batch is on its way are the next batch.

use crate::keeper::Keeper;
use crate::wire::{Request, Response};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// Most requests of one batch.
const BATCH_MAX: usize = 256;
/// Most requests that wait.
const QUEUE_MAX: usize = 4096;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignerError {
    /// It refused.
    #[error("the signer refuses: {0}")]
    Refused(String),
    /// It may be done later.
    #[error("the signer has signed enough for now: {0}")]
    Limited(String),
    /// It does not answer.
    #[error("the signer does not answer: {0}")]
    Unavailable(String),
}

/// What waits for its answer.
pub type Waiting = (Request, oneshot::Sender<Response>);

/// A signer, in this process or behind a socket.
#[derive(Clone)]
pub struct SignerHandle {
    queue: mpsc::Sender<Waiting>,
}

impl SignerHandle {
    /// A signer in this process: for development, and for what stands alone on a machine.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn embedded(keeper: Keeper) -> std::io::Result<Self> {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        std::thread::Builder::new().name("signer".into()).spawn(move || work(keeper, receiver))?;
        Ok(Self { queue })
    }

    /// A signer whose requests go elsewhere.
    #[must_use]
    pub fn remote() -> (Self, mpsc::Receiver<Waiting>) {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        (Self { queue }, receiver)
    }

    /// Returns when the signer answers no more.
    pub async fn stopped(&self) {
        self.queue.closed().await;
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`SignerError`].
    pub async fn ask(&self, request: Request) -> Result<Response, SignerError> {
        let gone = || SignerError::Unavailable("it has stopped".into());
        let (answer, waiting) = oneshot::channel();
        self.queue.send((request, answer)).await.map_err(|_| gone())?;
        match waiting.await.map_err(|_| gone())? {
            Response::Refused { reason } => Err(SignerError::Refused(reason)),
            Response::Limited { reason } => Err(SignerError::Limited(reason)),
            response => Ok(response),
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn work(mut keeper: Keeper, mut queue: mpsc::Receiver<Waiting>) {
    let mut batch: Vec<Waiting> = Vec::new();
    while queue.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        // Nothing is signed for somebody who has gone away.
        let (requests, waiting): (Vec<_>, Vec<_>) = batch.drain(..).filter(|(_, w)| !w.is_closed()).unzip();
        match keeper.perform(now_s(), requests) {
            Ok(answers) => waiting.into_iter().zip(answers).for_each(|(w, answer)| drop(w.send(answer))),
            // Whoever waits hears that nobody answers; what is on the disk is known after a new start.
            Err(e) => {
                tracing::error!("the signer stops: {e}");
                return;
            }
        }
    }
}
