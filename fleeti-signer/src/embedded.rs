//! Runs a signing service on a thread. Requests that arrive while a batch is processed form the next
//! batch.

use crate::release::ReleaseRequest;
use crate::service::SigningService;
use fleeti_signer_client::handle::{Asker, SignerHandle, Waiting};
use fleeti_signer_client::wire::Response;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Maximum number of requests in one batch.
const BATCH_MAX: usize = 256;
/// How long a batch waits for more requests when the last one had several: those of one batch of the
/// server come one after the other, and each batch costs two flushes to the disk.
const GATHER: Duration = Duration::from_micros(300);

/// Runs a signing service on a thread of this process: of `fleeti-signer` or, for development,
/// of the server.
///
/// # Errors
/// If the thread cannot be started.
pub fn start(service: SigningService) -> std::io::Result<SignerHandle> {
    start_at(service, now_s)
}

/// As [`start`], with a clock that returns Unix seconds.
///
/// # Errors
/// If the thread cannot be started.
pub fn start_at(
    mut service: SigningService,
    now_s: impl Fn() -> u64 + Send + Sync + 'static,
) -> std::io::Result<SignerHandle> {
    let now_s: Clock = Arc::new(now_s);
    service.record_policy(now_s()).map_err(std::io::Error::other)?;
    let (handle, receiver) = SignerHandle::remote();
    let courier = Courier::start();
    std::thread::Builder::new()
        .name("signer".into())
        .spawn(move || work(service, receiver, &now_s, &courier))?;
    Ok(handle)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Returns Unix seconds.
type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Responses of a batch.
type Responses = Vec<(Asker, Response)>;

/// Takes the responses of a batch to the runtime of their callers with one wake-up: each one across
/// threads is a system call, and a caller that is woken alone answers alone.
struct Courier(Option<mpsc::UnboundedSender<Responses>>);

impl Courier {
    /// Without a runtime here, [`Courier::deliver`] wakes each caller itself.
    fn start() -> Self {
        Self(tokio::runtime::Handle::try_current().ok().map(|runtime| {
            let (sender, mut receiver) = mpsc::unbounded_channel();
            runtime.spawn(async move {
                while let Some(responses) = receiver.recv().await {
                    deliver(responses);
                }
            });
            sender
        }))
    }

    fn deliver(&self, responses: Responses) {
        match &self.0 {
            Some(sender) => sender.send(responses).unwrap_or_else(|failed| deliver(failed.0)),
            None => deliver(responses),
        }
    }
}

fn deliver(responses: Responses) {
    for (asker, response) in responses {
        asker.send(Ok(response)).ok();
    }
}

/// What is shared with the thread that signs a release: that takes too long for other callers to
/// wait.
#[derive(Clone)]
struct Shared {
    service: Arc<Mutex<SigningService>>,
    /// A release is being signed.
    is_busy: Arc<AtomicBool>,
}

fn work(
    service: SigningService,
    mut queue: mpsc::Receiver<Waiting>,
    now_s: &Clock,
    courier: &Courier,
) {
    let shared = Shared { service: Arc::new(Mutex::new(service)), is_busy: Arc::default() };
    let mut batch: Vec<Waiting> = Vec::new();
    let (mut said, mut are_many) = (0, false);
    while queue.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        if are_many {
            std::thread::sleep(GATHER);
            while batch.len() < BATCH_MAX
                && let Ok(waiting) = queue.try_recv()
            {
                batch.push(waiting);
            }
        }
        are_many = batch.len() > 1;
        let (mut requests, mut waiting) = (Vec::new(), Vec::new());
        // Drop requests whose callers no longer wait.
        for (request, answer) in batch.drain(..).filter(|(_, w)| !w.is_closed()) {
            match ReleaseRequest::of(request) {
                Ok(release) => begin_release(&shared, now_s, release, answer),
                Err(request) => {
                    requests.push(*request);
                    waiting.push(answer);
                }
            }
        }
        let performed = shared
            .service
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .perform(now_s(), requests);
        let answers = match performed {
            Ok(answers) => answers,
            // Nothing was returned to a caller. Callers may try again: the log continues when it
            // can be written again.
            Err(e) => {
                let minute = now_s() / 60;
                if said != minute {
                    tracing::error!("signing stopped: {e}");
                    said = minute;
                }
                let reason = format!("the audit log cannot be written: {e}");
                waiting.iter().map(|_| Response::Limited { reason: reason.clone() }).collect()
            }
        };
        courier.deliver(waiting.into_iter().zip(answers).collect());
    }
}

/// Allows the next release when dropped, also after a panic.
struct Idle<'a>(&'a AtomicBool);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Signs a release in its own thread, one at a time.
fn begin_release(shared: &Shared, now_s: &Clock, release: ReleaseRequest, answer: Asker) {
    if shared.is_busy.swap(true, Ordering::SeqCst) {
        answer
            .send(Ok(Response::Limited { reason: "another release is being signed".into() }))
            .ok();
        return;
    }
    let (Shared { service, is_busy }, now_s) = (shared.clone(), Arc::clone(now_s));
    let sign = move || {
        let idle = Idle(&is_busy);
        let locked = || service.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = locked().begin_release(now_s(), &release);
        let ended = match begun {
            Ok(Ok(job)) => {
                // A panic while reading the build, which an attacker may have made, must not block
                // the next release.
                let result =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.run(now_s())));
                let result = result.unwrap_or_else(|_| {
                    Err("the signing service could not read the build; see its log".into())
                });
                locked().end_release(now_s(), job, result)
            }
            Ok(Err(refused)) => Ok(refused),
            Err(e) => Err(e),
        };
        // Set idle first: after the response, the caller may request the next release.
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
        shared.is_busy.store(false, Ordering::SeqCst);
        tracing::error!("a release was not signed: {e}");
    }
}
