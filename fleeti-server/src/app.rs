//! The state that all parts of the server share.

use crate::config::{Config, Pki};
use crate::error::AppError;
use crate::gateway::conduct::Conducts;
use crate::gateway::doors::Doors;
use crate::gateway::hub::Hub;
use crate::gateway::sessions::Sessions;
use crate::gateway::tls::TlsState;
use crate::service::enrollment_batch::QueuedEnrollment;
use crate::service::evidence::{Answer, FactCache};
use crate::service::health::Health;
use crate::service::pairing::Pairing;
use crate::service::policy::Policies;
use crate::service::releases::DocumentCache;
use crate::service::revocation::Crls;
use crate::service::tpm::{Alarms, Proving};
use crate::service::trust::Trust;
use crate::service::vault::Vault;
use arc_swap::ArcSwap;
use bytes::Bytes;
use fleeti_core::wire::api::Event;
use fleeti_core::wire::problem::Code;
use fleeti_signer::handle::SignerHandle;
use fleeti_store::{Db, Tx};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Mutex, Notify, broadcast, mpsc};
use ulid::Ulid;

/// Shared state.
pub struct App {
    /// The configuration.
    pub config: Config,
    /// Certificates and public keys.
    pub pki: Pki,
    /// The intermediate CAs that count.
    pub trust: ArcSwap<Trust>,
    /// Held while the notice to devices is made.
    pub notices: Mutex<()>,
    /// The notice for all devices, encoded.
    pub notice: ArcSwap<Bytes>,
    /// The signing service, which holds the private keys and the audit log.
    pub signer: SignerHandle,
    /// Queue of enrollment requests.
    pub enrollment_batch: mpsc::Sender<QueuedEnrollment>,
    /// Queue of evidence.
    pub evidence: mpsc::Sender<Answer>,
    /// Held while acts are entered into the audit log.
    pub carrying: Mutex<()>,
    /// Wakes the task that enters acts.
    pub audit_waits: Notify,
    /// The database.
    pub db: Db,
    /// Open MQTT sessions.
    pub hub: Hub,
    /// TLS of the device ports, replaced at every revocation.
    pub tls: TlsState,
    /// Accepts connections, within limits.
    pub doors: Doors,
    /// The administrator's token.
    pub admin_token: String,
    /// Changes, for clients that watch them.
    pub events: broadcast::Sender<Event>,
    /// Coordinates publication of CRLs.
    pub crls: Crls,
    /// Health of the server.
    pub health: Health,
    /// MQTT session state that outlasts connections.
    pub sessions: Sessions,
    /// Rate limits per device.
    pub conducts: Conducts,
    /// Counts changes of what devices may fetch.
    pub grants: Grants,
    /// Cache of manifests and their signatures.
    pub documents: DocumentCache,
    /// Cache of reference values of releases.
    pub facts: FactCache,
    /// Pending enrollments.
    pub pairing: Pairing,
    /// TPMs with outstanding secrets.
    pub proving: Proving,
    /// Recent alarms.
    pub alarms: Alarms,
    /// Appraisal policies of fleets.
    pub policies: Policies,
    /// Secrets and recovery keys.
    pub vault: Vault,
    /// Wakes the build worker.
    pub build_queued: Notify,
}

/// A counter that grows with every change of what devices may fetch. A connection can cache the
/// state of its device as long as the counter stays the same.
#[derive(Default)]
pub struct Grants(AtomicU64);

impl Grants {
    /// The current value.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
    /// Call this after the commit that changes an offer.
    pub fn changed(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The shared state, reference-counted.
pub type AppRef = Arc<App>;

impl App {
    /// Unix seconds by this server's clock.
    #[must_use]
    pub fn now_s(&self) -> u64 {
        self.config.clock.now_s()
    }
    /// The folder of releases.
    #[must_use]
    pub fn releases(&self) -> PathBuf {
        self.config.data.join("releases")
    }
    /// The folder into which the signing service writes the releases that it signs, next to
    /// uploads; on the same file system as the releases.
    #[must_use]
    pub fn outbox(&self) -> PathBuf {
        outbox(&self.config.data)
    }
    /// Queues an act for the audit log, in the transaction of what it is about.
    ///
    /// # Errors
    /// When the database does not answer; [`Code::Unavailable`] if too many acts wait already: the
    /// server does nothing that it cannot enter in the audit log.
    pub async fn audit(
        &self,
        tx: &mut Tx<'_>,
        now_s: u64,
        actor: &str,
        action: &str,
        subject: &str,
    ) -> Result<(), AppError> {
        if fleeti_store::audit::is_full(tx).await? {
            let text = "too many acts wait for the audit log, so the server refuses changes";
            return Err(
                AppError::new(Code::Unavailable, text).hint("start fleeti-signer, or read its log")
            );
        }
        fleeti_store::audit::insert(
            tx,
            &new_id("audit"),
            now_s,
            actor,
            action,
            &fleeti_pki::audit::fitting(subject),
        )
        .await?;
        // The woken task waits for the write lock, which this transaction holds.
        self.audit_waits.notify_one();
        Ok(())
    }
    /// Publishes a change to clients that watch.
    pub fn publish(&self, event: Event) {
        self.events.send(event).ok();
    }
}

/// [`App::outbox`] of a data folder.
#[must_use]
pub fn outbox(data: &std::path::Path) -> PathBuf {
    data.join("releases/.staging")
}

/// Unix seconds.
#[must_use]
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A new id: a prefix and a ULID (time in milliseconds and 80 random bits), so that rows of the
/// same time are close together in every index.
#[must_use]
pub fn new_id(prefix: &str) -> String {
    format!("{prefix}-{}", Ulid::generate().to_string().to_ascii_lowercase())
}
