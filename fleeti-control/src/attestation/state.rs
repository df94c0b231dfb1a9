//! What the attestation area keeps in memory. Only this area reads it.

use super::policies::Policies;
use super::proving::Proving;
use super::reference::FactCache;
use crate::error::Error;
use fleeti_core::id::DeviceId;
use fleeti_store::Db;
use fleeti_store::attestations::SentEvidence;
use tokio::sync::{mpsc, oneshot};

/// Capacity of the queue of evidence. Beyond it, sessions wait.
const QUEUE_MAX: usize = 1024;

/// Evidence of a device that answers its outstanding challenge.
pub(super) struct Answer {
    pub(super) device: DeviceId,
    pub(super) nonce: [u8; 32],
    pub(super) sent: SentEvidence,
}

/// An answer in the queue, and the session that waits until its result is stored.
pub(crate) struct QueuedAnswer {
    pub(super) answer: Answer,
    pub(super) kept: oneshot::Sender<Result<(), Error>>,
}

/// The queue of evidence, for the one task that serves it.
pub(crate) type Queue = mpsc::Receiver<QueuedAnswer>;

/// What the attestation area keeps in memory.
pub(crate) struct AttestationState {
    pub(super) queue: mpsc::Sender<QueuedAnswer>,
    pub(super) facts: FactCache,
    pub(super) proving: Proving,
    pub(super) policies: Policies,
}

impl AttestationState {
    /// Loads the state, and makes the queue that one task must serve.
    pub(crate) async fn load(db: &Db) -> Result<(Self, Queue), Error> {
        let (queue, answers) = mpsc::channel(QUEUE_MAX);
        let state = Self {
            queue,
            facts: FactCache::default(),
            proving: Proving::default(),
            policies: Policies::load(db).await?,
        };
        Ok((state, answers))
    }
}
