//! What the attestation area keeps in memory.

use super::policies::Policies;
use super::proving::Proving;
use super::reference::FactCache;
use crate::error::Error;
use fleeti_core::id::DeviceId;
use fleeti_store::attestations::SentEvidence;
use tokio::sync::{mpsc, oneshot};

/// Capacity of the queue of evidence. Beyond it, sessions wait.
const QUEUE_MAX: usize = 1024;

/// Evidence of a device that answers its outstanding challenge.
pub(crate) struct Answer {
    pub device: DeviceId,
    pub nonce: [u8; 32],
    pub sent: SentEvidence,
    pub kept: oneshot::Sender<Result<(), Error>>,
}

/// What the attestation area keeps in memory.
pub(crate) struct Attestation {
    pub queue: mpsc::Sender<Answer>,
    pub facts: FactCache,
    pub proving: Proving,
    pub policies: Policies,
}

impl Attestation {
    /// The state, and the queue that one task must serve.
    pub(crate) fn new(policies: Policies) -> (Self, mpsc::Receiver<Answer>) {
        let (queue, answers) = mpsc::channel(QUEUE_MAX);
        let state =
            Self { queue, facts: FactCache::default(), proving: Proving::default(), policies };
        (state, answers)
    }
}
