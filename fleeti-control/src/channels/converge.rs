//! Compares a device with what it should run, and offers that to it.

use crate::attestation::{eligibility, policy};
use crate::context::Context;
use crate::error::Error;
use crate::events::{After, Appraised, Caused, DeviceReport, DomainEvent};
use crate::reaction::Reacting;
use crate::rollouts::urgent_until_s;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::rollout::Phase;
use fleeti_core::rollout::gates::{
    self, Facts, FleetTarget, Known, Order, Part, Paths, ReleaseFacts, Source, Target,
    after_failure,
};
use fleeti_core::wire::api::Event;
use fleeti_core::wire::device::DesiredState;
use fleeti_store::known::Situation;
use fleeti_store::{self as store, Connection, Tx};

/// All that the gates read about a device.
pub(super) struct Looked {
    pub(super) fleet: FleetId,
    pub(super) known: Known,
    pub(super) target: Option<Target>,
    pub(super) part: Option<Part>,
    /// Whether the active rollout of its fleet is urgent.
    is_urgent: bool,
    policy: Policy,
    release: ReleaseFacts,
    paths: Paths,
    now_s: u64,
}

impl Looked {
    /// Reads a device. `None` if it is unknown.
    pub(super) async fn at(
        cx: &Context,
        connection: &mut Connection,
        device: &DeviceId,
    ) -> Result<Option<Self>, Error> {
        let now_s = cx.now_s();
        let found = store::known::situation(connection, device, now_s).await?;
        let Some(Situation { fleet, device, target: of_fleet, active }) = found else {
            return Ok(None);
        };
        let policy = policy::of(cx, &fleet);
        let (known, active) = (device.known, active.as_ref());
        let of_fleet: &FleetTarget = &of_fleet;
        let (target, part) = gates::target(known.pin.as_ref(), active, of_fleet);
        let release = match &target {
            None => ReleaseFacts { is_good: false, is_proved: false },
            Some(Target { release, .. }) => ReleaseFacts {
                is_good: !cx.releases.is_revoked(release),
                is_proved: eligibility::is_proved(connection, &policy, release).await?,
            },
        };
        let paths = match &target {
            None => Paths::default(),
            Some(target) => store::release_paths::of_line(connection, &target.release.line).await?,
        };
        let is_urgent = active.is_some_and(|active| active.is_urgent);
        Ok(Some(Self { fleet, known, target, part, is_urgent, policy, release, paths, now_s }))
    }

    /// What the gates are computed from.
    pub(super) fn facts(&self, is_online: Option<bool>) -> Facts<'_> {
        Facts {
            now_s: self.now_s,
            is_online,
            known: &self.known,
            target: self.target.as_ref(),
            release: self.release,
            policy: &self.policy,
            paths: &self.paths,
            part: self.part.clone(),
        }
    }

    fn order(&self) -> Order {
        gates::order(&self.facts(None))
    }
}

/// Decides again about a device that connects. Only a device that is to be offered something, or to
/// lose an offer, costs a transaction.
pub async fn on_reconnect(cx: &Context, device: &DeviceId) -> Result<(), Error> {
    policy::on_reconnect(cx, device).await?;
    let looked = Looked::at(cx, &mut cx.db.reader().await?, device).await?;
    if looked.is_none_or(|looked| looked.order() == Order::Keep) {
        return Ok(());
    }
    let mut tx = cx.db.write().await?;
    let after = policy::look_again(cx, &mut tx, device).await?;
    tx.commit().await?;
    cx.dispatch(after);
    Ok(())
}

/// Reacts to events of other areas, after the rollouts have.
pub(crate) fn react<'a>(
    cx: &'a Context,
    tx: &'a mut Tx<'_>,
    event: &'a DomainEvent,
) -> Reacting<'a> {
    Box::pin(async move {
        match event {
            DomainEvent::DeviceReported(report) => converge(cx, tx, &report.device).await,
            DomainEvent::DevicesAppraised(appraisal) => {
                let Appraised::Devices(changes) = &appraisal.devices else {
                    return Ok(Caused::default());
                };
                let mut caused = Caused::default();
                // Evidence that says what was known before changes nothing.
                let is_new = |before, now| !appraisal.has_new_evidence || before != now;
                for change in changes.iter().filter(|change| is_new(change.before, change.now)) {
                    caused.merge(converge(cx, tx, &change.device).await?);
                }
                Ok(caused)
            }
            DomainEvent::RolloutFinished { rollout, fleet, release, phase } => {
                if *phase == Phase::Succeeded {
                    let now_s = cx.now_s();
                    store::channels::moved(tx, fleet, release, rollout, now_s).await?;
                }
                Ok(Caused::default())
            }
            DomainEvent::DeviceRevoked { .. }
            | DomainEvent::ReleaseRevoked { .. }
            | DomainEvent::AlertsTold { .. } => Ok(Caused::default()),
        }
    })
}

/// Offers a device what it should run, or withdraws what it should not.
async fn converge(cx: &Context, tx: &mut Tx<'_>, device: &DeviceId) -> Result<Caused, Error> {
    let Some(looked) = Looked::at(cx, tx, device).await? else { return Ok(Caused::default()) };
    let id = std::slice::from_ref(device);
    let next = looked.facts(None).next().cloned();
    let (desired, challenges) = match (looked.order(), &next, &looked.known.desired) {
        (Order::Offer, Some(next), _) => {
            (offered(tx, &looked, id, next).await?, vec![device.clone()])
        }
        (Order::Withdraw, _, Some(desired)) => {
            (store::desired::withdraw(tx, id, desired).await?, Vec::new())
        }
        (Order::Keep, _, _) | (Order::Offer, None, _) | (Order::Withdraw, _, None) => {
            return Ok(Caused::default());
        }
    };
    let changes = vec![Event::Device { id: device.clone() }];
    Ok(Caused {
        after: After { desired, challenges, changes, ..After::default() },
        events: Vec::new(),
    })
}

/// Offers a release. An urgent rollout without waves is for devices that come later, too.
async fn offered(
    tx: &mut Tx<'_>,
    looked: &Looked,
    id: &[DeviceId],
    next: &ReleaseName,
) -> Result<Vec<(DeviceId, DesiredState)>, Error> {
    if looked.target.as_ref().is_some_and(|target| target.source.is_back()) {
        return Ok(store::desired::set_back(tx, id, next).await?);
    }
    let is_of_rollout = looked.target.as_ref().is_some_and(|t| t.source == Source::Rollout);
    if is_of_rollout && looked.is_urgent {
        let until_s = urgent_until_s(looked.now_s);
        return Ok(store::desired::set_urgent(tx, id, next, until_s).await?);
    }
    Ok(store::desired::set_desired(tx, id, Some(next)).await?)
}

/// Notes that what a device was offered has failed on it, before its offer is withdrawn.
pub(crate) fn note_failure<'a>(
    cx: &'a Context,
    tx: &'a mut Tx<'_>,
    event: &'a DomainEvent,
) -> Reacting<'a> {
    Box::pin(async move {
        if let DomainEvent::DeviceReported(report) = event {
            failed(cx, tx, report).await?;
        }
        Ok(Caused::default())
    })
}

async fn failed(cx: &Context, tx: &mut Tx<'_>, sent: &DeviceReport) -> Result<(), Error> {
    let DeviceReport { device, report, received_offer, .. } = sent;
    let (now_s, update) = (cx.now_s(), &report.update);
    // Most reports cost nothing here.
    if !received_offer || after_failure(None, update, now_s).is_none() {
        return Ok(());
    }
    let Some((_, found)) = store::known::get(tx, device, now_s).await? else { return Ok(()) };
    let Known { desired, penalty, .. } = found.known;
    // A device that runs what it was offered has not failed, whatever happened before.
    let is_of_offer = desired.is_some_and(|desired| {
        Some(&desired.version) == update.target() && desired != report.boot.running
    });
    if is_of_offer && let Some(penalty) = after_failure(penalty.as_ref(), update, now_s) {
        store::known::set_penalty(tx, device, &penalty).await?;
    }
    Ok(())
}
