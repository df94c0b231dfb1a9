//! Opens a control plane and runs its tasks.

use crate::accounts::people;
use crate::accounts::state::{AccountSecrets, AccountsState};
use crate::alarms::Alarms;
use crate::alerts::state::AlertState;
use crate::alerts::watch;
use crate::attestation::evidence;
use crate::attestation::state::{self, AttestationState};
use crate::attestation::tpm;
use crate::audit::state::Acts;
use crate::builds::schedule;
use crate::changes::fleets::Fleets;
use crate::changes::streams::Streams;
use crate::changes::tail::Tail;
use crate::context::{Context, ContextRef, Grants};
use crate::enrollment::batch;
use crate::enrollment::state::{EnrollmentState, QueuedEnrollment};
use crate::figures::Figures;
use crate::health::state::Health;
use crate::hub::Hub;
use crate::idempotency::state::InProgress;
use crate::pki::Pki;
use crate::ports::{Ports, ServerIdentity};
use crate::profiles::state::ProfileState;
use crate::reactions::REACTIONS;
use crate::releases::retention;
use crate::releases::state::ReleaseState;
use crate::rollouts::state::RolloutState;
use crate::rollouts::task;
use crate::second_person::expiry;
use crate::secrets::tickets::Vault;
use crate::settings::Settings;
use crate::suites::state::SuiteState;
use crate::trust::access::Access;
use crate::trust::identity::Credentials;
use crate::trust::state::TrustState;
use crate::trust::{self, identity, notice, revocation, upkeep};
use crate::{board, health, history, releases, restored, settle};
use anyhow::{Context as _, Result};
use fleeti_signer_client::handle::SignerHandle;
use fleeti_store::Db;
use std::sync::Arc;
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::task::JoinHandle;
use x509_cert::Certificate;

/// Number of changes that a slow watcher can be behind.
const EVENTS_MAX: usize = 1024;

/// What a control plane is opened with.
pub struct Parts {
    /// What an operator configured.
    pub settings: Settings,
    /// Certificates and public keys.
    pub pki: Pki,
    /// The database.
    pub db: Db,
    /// The signing service.
    pub signer: SignerHandle,
    /// What the files of the server say of accounts.
    pub accounts: AccountSecrets,
}

/// An open control plane whose tasks do not run yet.
pub struct Opened<P> {
    /// What every operation gets.
    pub cx: ContextRef,
    /// The ports that were made.
    pub ports: Arc<P>,
    enrollments: mpsc::Receiver<QueuedEnrollment>,
    evidence: state::Queue,
    has_signer: bool,
    is_settled: bool,
}

/// Opens a control plane. `make_ports` gets the server's certificate, who may connect, and the
/// intermediate CAs of devices. If the signing service does not answer, the certificate and CRLs of
/// the last start are used.
///
/// # Errors
/// Names what is missing or malformed, and what to do.
pub async fn open<P: Ports + 'static>(
    parts: Parts,
    make_ports: impl FnOnce(ServerIdentity, &Arc<Access>, &[Certificate]) -> Result<P>,
) -> Result<Opened<P>> {
    let Parts { settings, pki, db, signer, accounts } = parts;
    std::fs::create_dir_all(settings.releases())
        .with_context(|| settings.data.display().to_string())?;
    releases::sweep(&settings.releases()).context("releases/.staging")?;
    let trust = trust::load(&db, &pki).await.context("the trust bundle")?;
    let (attestation, evidence) = AttestationState::load(&db).await?;
    let releases = ReleaseState::load(&db).await?;
    let secrets = Vault::load(&db).await?;
    let alerts = AlertState::load(&db, settings.clock.now_s()).await?;
    let Credentials { identity, crls, has_signer } =
        identity::credentials(&settings, &db, &signer, &trust).await?;
    let issuers: Vec<_> = crls.issuers().cloned().collect();
    let access = Arc::new(Access::new(crls));
    let ports = Arc::new(make_ports(identity, &access, &issuers)?);
    let (events, _) = broadcast::channel(EVENTS_MAX);
    let (enrollment, enrollments) = EnrollmentState::new();
    let suites = SuiteState::new(&settings.data);
    let cx = Arc::new(Context {
        settings,
        pki,
        db,
        signer,
        events,
        hub: Hub::default(),
        access,
        ports: Arc::clone(&ports) as Arc<dyn Ports>,
        grants: Grants::default(),
        health: Health::default(),
        figures: Figures::default(),
        build_queued: Notify::new(),
        accounts: AccountsState::new(&accounts),
        alarms: Alarms::default(),
        alerts,
        reactions: REACTIONS,
        acts: Acts::default(),
        trust: TrustState::new(trust),
        enrollment,
        attestation,
        profiles: ProfileState::default(),
        releases,
        rollouts: RolloutState::default(),
        tail: Tail::default(),
        fleets: Fleets::default(),
        streams: Streams::default(),
        in_progress: InProgress::default(),
        suites,
        secrets,
    });
    people::prepare(&cx).await.context("the account bootstrap")?;
    health::signer_answered(&cx, has_signer);
    health::look_at_disk(&cx);
    // Before the first connection: what a restored database does not know of.
    restored::settle(&cx, has_signer).await.context("after the restore")?;
    // Load revoked devices before the first connection.
    revocation::load_revoked(&cx).await?;
    let is_settled = has_signer && settle::is_settled(&cx).await.context("the audit log")?;
    notice::renew(&cx).await.context("the notice to devices")?;
    Ok(Opened { cx, ports, enrollments, evidence, has_signer, is_settled })
}

impl<P> Opened<P> {
    /// Runs the tasks of the control plane until they are aborted.
    #[must_use]
    pub fn run(self) -> Vec<JoinHandle<()>> {
        let cx = || Arc::clone(&self.cx);
        let hub = cx();
        vec![
            tokio::spawn(upkeep::run(cx(), self.has_signer)),
            tokio::spawn(health::watch(cx())),
            tokio::spawn(revocation::prune(cx())),
            tokio::spawn(retention::run(cx())),
            tokio::spawn(batch::run(cx(), self.enrollments)),
            tokio::spawn(evidence::run(cx(), self.evidence)),
            tokio::spawn(tpm::appraise_manufacturers(cx())),
            tokio::spawn(settle::carry(cx(), self.is_settled)),
            tokio::spawn(notice::run(cx())),
            tokio::spawn(task::run(cx())),
            tokio::spawn(watch::run(cx())),
            tokio::spawn(history::run(cx())),
            tokio::spawn(expiry::run(cx())),
            tokio::spawn(schedule::run(cx())),
            tokio::spawn(board::run(cx())),
            tokio::spawn(async move { hub.hub.run().await }),
        ]
    }
}
