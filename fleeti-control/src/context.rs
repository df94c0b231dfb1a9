//! What every operation of the control plane gets: the store, the clock, the signing service and
//! the events. Each area keeps its own state here. Its fields and methods are visible in the area's
//! folder only (`pub(super)`), so that other areas ask the area's functions.

use crate::accounts::state::AccountsState;
use crate::alarms::Alarms;
use crate::alerts::state::AlertState;
use crate::attestation::state::AttestationState;
use crate::audit::state::Acts;
use crate::changes::fleets::Fleets;
use crate::changes::record::record;
use crate::changes::streams::Streams;
use crate::changes::tail::Tail;
use crate::clock::new_id;
use crate::enrollment::state::EnrollmentState;
use crate::error::Error;
use crate::events::{After, Caused, DomainEvent};
use crate::figures::Figures;
use crate::health::state::Health;
use crate::hub::Hub;
use crate::idempotency::running::mark;
use crate::idempotency::state::InProgress;
use crate::pki::Pki;
use crate::ports::Ports;
use crate::profiles::state::ProfileState;
use crate::reaction::{self, Reaction};
use crate::releases::state::ReleaseState;
use crate::rollouts::state::RolloutState;
use crate::secrets::tickets::Vault;
use crate::settings::Settings;
use crate::suites::state::SuiteState;
use crate::trust::access::Access;
use crate::trust::state::TrustState;
use fleeti_core::wire::api::Event;
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::Act;
use fleeti_signer_client::handle::SignerHandle;
use fleeti_store::audit::WaitingAct;
use fleeti_store::{Db, Tx};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, broadcast};

/// What every operation gets.
pub struct Context {
    /// What an operator configured.
    pub settings: Settings,
    /// Certificates and public keys.
    pub pki: Pki,
    /// The database.
    pub db: Db,
    /// The signing service, which holds the private keys and the audit log.
    pub signer: SignerHandle,
    /// Changes, for clients that watch them.
    pub events: broadcast::Sender<Event>,
    /// Mailboxes of the devices that are connected.
    pub hub: Hub,
    /// Which certificates of devices count now.
    pub access: Arc<Access>,
    /// The ports on which devices connect.
    pub ports: Arc<dyn Ports>,
    /// Counts changes of what devices may fetch.
    pub grants: Grants,
    /// Wakes the build worker of this process.
    pub build_queued: Notify,
    pub(crate) accounts: AccountsState,
    pub(crate) alarms: Alarms,
    pub(crate) alerts: AlertState,
    pub(crate) reactions: &'static [Reaction<Self>],
    pub(crate) health: Health,
    pub(crate) figures: Figures,
    pub(crate) acts: Acts,
    pub(crate) trust: TrustState,
    pub(crate) enrollment: EnrollmentState,
    pub(crate) attestation: AttestationState,
    pub(crate) profiles: ProfileState,
    pub(crate) releases: ReleaseState,
    pub(crate) rollouts: RolloutState,
    pub(crate) tail: Tail,
    pub(crate) fleets: Fleets,
    /// The open streams of each account.
    pub streams: Streams,
    pub(crate) in_progress: InProgress,
    pub(crate) suites: SuiteState,
    pub(crate) secrets: Vault,
}

/// A context, shared by tasks.
pub type ContextRef = Arc<Context>;

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

impl Context {
    /// Unix seconds by the injected clock.
    #[must_use]
    pub fn now_s(&self) -> u64 {
        self.settings.clock.now_s()
    }
    /// Queues an act for the audit log, in the transaction of what it is about.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if too many acts wait already: the server does nothing that it cannot
    /// enter in the audit log.
    pub async fn audit(&self, tx: &mut Tx<'_>, act: Act) -> Result<(), Error> {
        if fleeti_store::audit::is_full(tx).await? {
            let text = "too many acts wait for the audit log, so the server refuses changes";
            return Err(
                Error::new(Code::Unavailable, text).hint("start fleeti-signer, or read its log")
            );
        }
        let act = WaitingAct {
            id: new_id("audit"),
            actor: act.actor,
            action: act.action,
            subject: fleeti_pki::audit::fitting(&act.subject).into_owned(),
        };
        fleeti_store::audit::insert(tx, &act, self.now_s()).await?;
        mark(tx).await?;
        self.acts.added();
        Ok(())
    }
    /// Tells the other areas of a domain event, in the transaction in which it happens: records it
    /// in the outbox, and lets each area react that the table of reactions lists for its kind.
    /// Returns what must follow the commit.
    pub(crate) async fn emit(
        &self,
        tx: &mut Tx<'_>,
        now_s: u64,
        event: DomainEvent,
    ) -> Result<After, Error> {
        self.emit_all(tx, now_s, Caused { after: After::default(), events: vec![event] }).await
    }
    /// As [`Self::emit`], for the events that a change of an area causes, and for those that the
    /// reactions to them cause. It ends, because the table of reactions has no circle.
    pub(crate) async fn emit_all(
        &self,
        tx: &mut Tx<'_>,
        now_s: u64,
        caused: Caused,
    ) -> Result<After, Error> {
        let Caused { mut after, events } = caused;
        let mut waiting = VecDeque::from(events);
        while let Some(event) = waiting.pop_front() {
            reaction::check_may_emit(event.kind())?;
            fleeti_store::domain_events::insert(tx, now_s, &event.records()?).await?;
            for reaction in self.reactions.iter().filter(|r| r.to.contains(&event.kind())) {
                let caused = reaction.run(self, tx, &event).await?;
                after.merge(caused.after);
                waiting.extend(caused.events);
            }
        }
        record(tx, now_s, &after.changes).await?;
        Ok(after)
    }
    /// Does what must follow a commit: pushes desired states to devices, requests evidence, and
    /// publishes changes.
    pub(crate) fn dispatch(&self, after: After) {
        if !after.desired.is_empty() {
            self.grants.changed();
        }
        self.hub.push_all(after.desired, after.challenges);
        self.tail.has_more();
        for event in after.changes {
            self.publish(event);
        }
        self.rollouts.ask(after.questions);
    }
    /// Commits a change, which is recorded for clients that watch, and publishes it.
    pub(crate) async fn commit(&self, mut tx: Tx<'_>, change: Event) -> Result<(), Error> {
        record(&mut tx, self.now_s(), std::slice::from_ref(&change)).await?;
        tx.commit().await?;
        self.publish(change);
        Ok(())
    }
    /// Publishes a change to clients that watch now. A change that is stored is recorded in its
    /// transaction too, for those that are away.
    pub fn publish(&self, event: Event) {
        self.tail.has_more();
        self.publish_unstored(event);
    }
    /// Tells clients that watch now of what is not stored, without another look at the outbox:
    /// telemetry, connections of devices, more lines of a log.
    pub fn publish_unstored(&self, event: Event) {
        self.events.send(event).ok();
    }
}
