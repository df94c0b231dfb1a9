//! What the enrollment area keeps in memory.

use super::codes::Pairing;
use crate::error::Error;
use fleeti_core::wire::enrollment::EnrollResponse;
use fleeti_pki::certificate::Protection;
use fleeti_store::tpms::TpmRow;
use tokio::sync::{mpsc, oneshot};

/// Maximum number of waiting requests.
const QUEUE_MAX: usize = 1024;

pub(crate) type Answer = Result<EnrollResponse, Error>;

/// The enrollment request of a device with a token.
pub(crate) struct QueuedEnrollment {
    pub token_sha256: String,
    pub key_sha256: String,
    pub csr_pem: String,
    pub tpm: Option<ProvedTpm>,
    pub answer: oneshot::Sender<Answer>,
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
    pub queue: mpsc::Sender<QueuedEnrollment>,
    pub pairing: Pairing,
}

impl EnrollmentState {
    /// The state, and the queue that one task must serve.
    pub(crate) fn new() -> (Self, mpsc::Receiver<QueuedEnrollment>) {
        let (queue, pending) = mpsc::channel(QUEUE_MAX);
        (Self { queue, pairing: Pairing::default() }, pending)
    }
}
