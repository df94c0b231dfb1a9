//! A signer as its callers see it. Requests that come while another batch is on its way are the
//! next batch.

use crate::keeper::Keeper;
use crate::release::ReleaseOrder;
use crate::wire::{Request, Response};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

/// Where an answer goes, or why there is none.
pub type Asker = oneshot::Sender<Result<Response, SignerError>>;
/// What waits for its answer.
pub type Waiting = (Request, Asker);

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
        Self::embedded_at(keeper, now_s)
    }

    /// As [`Self::embedded`], by a clock that tells Unix seconds.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn embedded_at(
        mut keeper: Keeper,
        now_s: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let now_s: Clock = Arc::new(now_s);
        keeper.record_policy(now_s()).map_err(std::io::Error::other)?;
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        std::thread::Builder::new()
            .name("signer".into())
            .spawn(move || work(keeper, receiver, &now_s))?;
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
        match waiting.await.map_err(|_| gone())?? {
            Response::Refused { reason } => Err(SignerError::Refused(reason)),
            Response::Limited { reason } => Err(SignerError::Limited(reason)),
            response => Ok(response),
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Tells Unix seconds.
type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

fn work(keeper: Keeper, mut queue: mpsc::Receiver<Waiting>, now_s: &Clock) {
    // Shared with the one thread that signs a release, which takes longer than anybody else should
    // wait.
    let keeper = Arc::new(Mutex::new(keeper));
    let is_busy = Arc::new(AtomicBool::new(false));
    let mut batch: Vec<Waiting> = Vec::new();
    let mut said = 0;
    while queue.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        let (mut requests, mut waiting) = (Vec::new(), Vec::new());
        // Nothing is signed for somebody who has gone away.
        for (request, answer) in batch.drain(..).filter(|(_, w)| !w.is_closed()) {
            match ReleaseOrder::of(request) {
                Ok(order) => begin_release((&keeper, &is_busy), now_s, order, answer),
                Err(request) => {
                    requests.push(*request);
                    waiting.push(answer);
                }
            }
        }
        let performed =
            keeper.lock().unwrap_or_else(PoisonError::into_inner).perform(now_s(), requests);
        match performed {
            Ok(answers) => {
                waiting.into_iter().zip(answers).for_each(|(w, answer)| drop(w.send(Ok(answer))))
            }
            // Nothing was given out. Whoever waits may come again: the log goes on by itself once
            // it can be written.
            Err(e) => {
                let minute = now_s() / 60;
                if said != minute {
                    tracing::error!("nothing is signed: {e}");
                    said = minute;
                }
                let reason = format!("the audit log cannot be written: {e}");
                waiting
                    .into_iter()
                    .for_each(|w| drop(w.send(Ok(Response::Limited { reason: reason.clone() }))));
            }
        }
    }
}

/// Makes room for the next release, however this one ends.
struct Idle<'a>(&'a AtomicBool);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Signs a release beside everything else, one at a time.
fn begin_release(
    (keeper, is_busy): (&Arc<Mutex<Keeper>>, &Arc<AtomicBool>),
    now_s: &Clock,
    order: ReleaseOrder,
    answer: Asker,
) {
    if is_busy.swap(true, Ordering::SeqCst) {
        answer
            .send(Ok(Response::Limited { reason: "another release is being signed".into() }))
            .ok();
        return;
    }
    let (keeper, busy, now_s) = (Arc::clone(keeper), Arc::clone(is_busy), Arc::clone(now_s));
    let sign = move || {
        let idle = Idle(&busy);
        let locked = || keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = locked().begin_release(now_s(), &order);
        let ended = match begun {
            Ok(Ok(job)) => {
                // A defect in what reads somebody else's files must not end what the next release
                // needs.
                let result =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.run(now_s())));
                let result = result.unwrap_or_else(|_| {
                    Err("the signer could not read the build; its log has more".into())
                });
                locked().end_release(now_s(), job, result)
            }
            Ok(Err(refused)) => Ok(refused),
            Err(e) => Err(e),
        };
        // Whoever has the answer may ask for the next one.
        drop(idle);
        match ended {
            Ok(response) => drop(answer.send(Ok(response))),
            Err(e) => {
                tracing::error!("a release was not signed: {e}");
                answer
                    .send(Ok(Response::Limited {
                        reason: format!("the audit log cannot be written: {e}"),
                    }))
                    .ok();
            }
        }
    };
    if let Err(e) = std::thread::Builder::new().name("release".into()).spawn(sign) {
        is_busy.store(false, Ordering::SeqCst);
        tracing::error!("a release was not signed: {e}");
    }
}
