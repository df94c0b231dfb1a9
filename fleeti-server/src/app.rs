//! What every part of the server shares.

use crate::config::{Config, Pki};
use crate::db::{Db, Tx};
use crate::error::AppError;
use crate::gateway::conduct::Conducts;
use crate::gateway::doors::Doors;
use crate::gateway::hub::Hub;
use crate::gateway::sessions::Sessions;
use crate::gateway::tls::TlsState;
use crate::service::evidence::{Answer, FactCache};
use crate::service::health::Health;
use crate::service::intake::Applicant;
use crate::service::pairing::Pairing;
use crate::service::policy::Policies;
use crate::service::releases::DocumentCache;
use crate::service::revocation::Lists;
use crate::service::tpm::{Alarms, Proving};
use crate::service::trust::Trust;
use crate::service::vault::Vault;
use arc_swap::ArcSwap;
use bytes::Bytes;
use fleeti_core::wire::api::Event;
use fleeti_core::wire::problem::Code;
use fleeti_signer::handle::SignerHandle;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Mutex, Notify, broadcast, mpsc};
use ulid::Ulid;

/// Shared state.
pub struct App {
    /// How the server was started.
    pub config: Config,
    /// Certificates and public keys.
    pub pki: Pki,
    /// Which intermediates count.
    pub trust: ArcSwap<Trust>,
    /// Held while the notice to devices is made.
    pub notices: Mutex<()>,
    /// What every device is to know, as it is sent.
    pub notice: ArcSwap<Bytes>,
    /// Who holds the private ones, and the audit log.
    pub signer: SignerHandle,
    /// Devices that enroll.
    pub intake: mpsc::Sender<Applicant>,
    /// Devices that prove what they run.
    pub evidence: mpsc::Sender<Answer>,
    /// Held while acts are carried to the audit log.
    pub carrying: Mutex<()>,
    /// Wakes what carries them.
    pub audit_waits: Notify,
    /// Storage.
    pub db: Db,
    /// Live MQTT sessions.
    pub hub: Hub,
    /// Who may connect, swapped at every revocation.
    pub tls: TlsState,
    /// How connections come in, and how many.
    pub doors: Doors,
    /// The administrator's token.
    pub admin_token: String,
    /// What changed, for watchers.
    pub events: broadcast::Sender<Event>,
    /// Revocation lists on their way.
    pub lists: Lists,
    /// What the server lacks.
    pub health: Health,
    /// What outlasts MQTT connections.
    pub sessions: Sessions,
    /// What devices did lately that has limits.
    pub conducts: Conducts,
    /// When what devices may fetch has changed.
    pub grants: Grants,
    /// Manifests and signatures of releases that are asked for.
    pub documents: DocumentCache,
    /// What releases measure that devices prove.
    pub facts: FactCache,
    /// Devices that wait for their code.
    pub pairing: Pairing,
    /// TPMs whose secrets are out.
    pub proving: Proving,
    /// Who raised an alarm lately.
    pub alarms: Alarms,
    /// What fleets ask of their devices.
    pub policies: Policies,
    /// Secrets and recovery keys.
    pub vault: Vault,
    /// Wakes the build worker.
    pub build_queued: Notify,
}

/// A number that grows with every change of what devices may fetch, so that a connection may
/// remember what it was told for as long as the number stays.
#[derive(Default)]
pub struct Grants(AtomicU64);

impl Grants {
    /// The number now.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
    /// To be called after the commit that changes a grant.
    pub fn changed(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Shared state, counted.
pub type AppRef = Arc<App>;

impl App {
    /// Unix seconds by this server's clock.
    #[must_use]
    pub fn now_s(&self) -> u64 {
        self.config.clock.now_s()
    }
    /// Where releases lie.
    #[must_use]
    pub fn releases(&self) -> PathBuf {
        self.config.data.join("releases")
    }
    /// Where the signer leaves the releases that it signs, beside uploads; the same file system as
    /// their place.
    #[must_use]
    pub fn outbox(&self) -> PathBuf {
        outbox(&self.config.data)
    }
    /// An entry for the audit log, in the transaction of what it is about.
    ///
    /// # Errors
    /// When the database does not answer; [`Code::Unavailable`] when too many acts wait already:
    /// what cannot be entered is not done.
    pub async fn audit(
        &self,
        tx: &mut Tx<'_>,
        now_s: u64,
        actor: &str,
        action: &str,
        subject: &str,
    ) -> Result<(), AppError> {
        if crate::db::audit::is_full(tx).await? {
            let text =
                "too many acts wait for the audit log, and what cannot be entered is not done";
            return Err(AppError::new(Code::Unavailable, text)
                .hint("start fleeti-signer, or look into its log"));
        }
        crate::db::audit::insert(
            tx,
            &new_id("audit"),
            now_s,
            actor,
            action,
            &fleeti_pki::audit::fitting(subject),
        )
        .await?;
        // The transaction holds the write lock, and who is woken waits for that.
        self.audit_waits.notify_one();
        Ok(())
    }
    /// Tells watchers; nobody has to watch.
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

/// A new id: a prefix and a ULID, which is the time in milliseconds and 80 random bits. Rows that
/// come together are together in every index.
#[must_use]
pub fn new_id(prefix: &str) -> String {
    format!("{prefix}-{}", Ulid::generate().to_string().to_ascii_lowercase())
}
