//! What the enrollment area keeps in memory.

use super::code_limits::Pairing;
use crate::error::Error;
use fleeti_core::wire::enrollment::EnrollResponse;
use fleeti_pki::certificate::Protection;
use fleeti_store::tpms::TpmRow;
use tokio::sync::{mpsc, oneshot};

/// Maximum number of waiting requests.
const QUEUE_MAX: usize = 1024;

pub(crate) type Answer = Result<EnrollResponse, Error>;

/// The answers of a batch, for requests that wait. The first one that still waits is woken, gets the
/// others' answers with its own, and hands them out when it drops them: the requests wait on another
/// thread, and each wake-up across threads is a system call.
#[derive(Default)]
pub(crate) struct Answers(Vec<(oneshot::Sender<Delivered>, Answer)>);

/// The answer of a request, and those of others.
pub(crate) type Delivered = (Answer, Answers);

impl Answers {
    /// Delivers the answers to the requests, in their order.
    pub(crate) fn deliver(requests: Vec<QueuedEnrollment>, answers: Vec<Answer>) {
        let waiting = requests.into_iter().map(|request| request.answer);
        let mut all: Vec<_> = waiting.zip(answers).collect();
        while let Some((waiting, answer)) = all.pop() {
            match waiting.send((answer, Self(all))) {
                Ok(()) => return,
                // The client has left.
                Err((_, mut rest)) => all = std::mem::take(&mut rest.0),
            }
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        for (waiting, answer) in self.0.drain(..) {
            waiting.send((answer, Self::default())).ok();
        }
    }
}

/// The enrollment request of a device with a token.
pub(crate) struct QueuedEnrollment {
    pub(super) token_sha256: String,
    pub(super) key_sha256: String,
    pub(super) csr_pem: String,
    pub(super) tpm: Option<ProvedTpm>,
    pub(super) answer: oneshot::Sender<Delivered>,
}

/// A proved TPM, and the protection level of its keys.
pub struct ProvedTpm {
    /// The row to store.
    pub row: TpmRow,
    /// The protection level for the certificate.
    pub protection: Protection,
}

/// What the enrollment area keeps in memory.
pub(crate) struct EnrollmentState {
    pub(super) queue: mpsc::Sender<QueuedEnrollment>,
    pub(super) pairing: Pairing,
}

impl EnrollmentState {
    /// The state, and the queue that one task must serve.
    pub(crate) fn new() -> (Self, mpsc::Receiver<QueuedEnrollment>) {
        let (queue, pending) = mpsc::channel(QUEUE_MAX);
        (Self { queue, pairing: Pairing::default() }, pending)
    }
}
