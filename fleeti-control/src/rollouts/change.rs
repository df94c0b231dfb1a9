//! A change of a rollout in a transaction: steps rows and header, and stores what they return.

use super::way_back;
use crate::context::Context;
use crate::error::Error;
use crate::events::{After, Caused, DomainEvent};
use fleeti_core::id::DeviceId;
use fleeti_core::rollout::device::{self, Device};
use fleeti_core::rollout::header;
use fleeti_core::rollout::plan::OnError;
use fleeti_core::rollout::{Ctx, Eligibility, Limits, Phase, cohort};
use fleeti_core::wire::api::Event;
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::Act;
use fleeti_store::rollout_devices::Joining;
use fleeti_store::rollouts::StoredRollout;
use fleeti_store::{self as store, Tx};

/// Devices in a chunk.
pub const CHUNK: u32 = 2000;

pub(super) fn rejected(e: header::Rejected) -> Error {
    Error::new(Code::Conflict, e.to_string())
}

/// Rows and effects that wait for [`Change::store`].
pub(super) struct Change {
    /// The rollout as it will be stored.
    pub(super) rollout: StoredRollout,
    /// As it is stored now.
    stored: StoredRollout,
    /// When the change happens, Unix seconds.
    pub(super) now_s: u64,
    joined: Vec<Joining>,
    moved: Vec<(DeviceId, Device)>,
    offered: Vec<DeviceId>,
    withdrawn: Vec<DeviceId>,
    challenged: Vec<DeviceId>,
    is_published: bool,
}

impl Change {
    pub(super) fn of(rollout: StoredRollout, now_s: u64) -> Self {
        Self {
            stored: rollout.clone(),
            rollout,
            now_s,
            joined: Vec::new(),
            moved: Vec::new(),
            offered: Vec::new(),
            withdrawn: Vec::new(),
            challenged: Vec::new(),
            is_published: false,
        }
    }

    fn ctx(&self) -> Ctx<'_> {
        let StoredRollout { release, plan, header, .. } = &self.rollout;
        let (now_s, limits) = (self.now_s, Limits::default());
        let ctx = Ctx { now_s, release, limits, plan: plan.as_ref(), may_offer: false };
        Ctx { may_offer: header::may_offer(header, &ctx) > 0, ..ctx }
    }

    /// Pending devices that are to be offered the release now.
    pub(super) fn to_open(&self) -> header::ToOpen {
        header::to_open(&self.rollout.header, &self.ctx())
    }

    /// Applies an event to the header.
    pub(super) fn header(&mut self, event: header::Event) -> Result<(), header::Rejected> {
        let (next, effects) = header::step(&self.rollout.header, event, &self.ctx())?;
        self.rollout.header = next;
        for effect in effects {
            match effect {
                // The phase says that devices are left: see `StoredRollout::has_work`.
                header::Effect::AddDevices
                | header::Effect::WithdrawOffers
                | header::Effect::PauseOffers => {
                    self.rollout.reached.clear();
                }
                header::Effect::Publish => self.is_published = true,
            }
        }
        Ok(())
    }

    /// Adds a device.
    pub(super) fn join(
        &mut self,
        id: DeviceId,
        eligibility: &Eligibility,
    ) -> Result<(), header::Rejected> {
        let (device, effects) = device::join(eligibility, &self.ctx());
        self.header(header::Event::Added(device.phase.category()))?;
        self.follow(&id, effects);
        let StoredRollout { id: salt, plan, .. } = &self.rollout;
        let listed = plan.as_ref().and_then(|plan| plan.wave_of(&id));
        let cohort = plan.as_ref().map(|_| cohort::cohort(salt, &id));
        self.joined.push(Joining { id, device, cohort, listed });
        Ok(())
    }

    /// Applies an event to a device. An event that does not apply changes nothing.
    pub(super) fn device(&mut self, id: &DeviceId, before: &Device, event: device::Event) {
        let (after, effects) = match device::step(before, event, &self.ctx()) {
            Ok(stepped) => stepped,
            Err(e) => return tracing::debug!(device = %id, "{e}"),
        };
        if after != *before {
            let (from, to) = (before.phase.category(), after.phase.category());
            let event = if before.wave.is_none() && after.wave.is_some() {
                header::Event::Opened(to)
            } else {
                header::Event::Moved { wave: after.wave, from, to }
            };
            if let Err(e) = self.header(event) {
                return match e {
                    header::Rejected::Miscounted(_) => {
                        tracing::error!(rollout = self.rollout.id, device = %id, "{e}");
                    }
                    e => tracing::debug!(device = %id, "{e}"),
                };
            }
            self.moved.push((id.clone(), after));
        }
        self.follow(id, effects);
    }

    /// A rollout that stops by itself and goes back has another one that follows it.
    async fn plan_way_back(&mut self, cx: &Context, tx: &mut Tx<'_>) -> Result<(), Error> {
        let StoredRollout { plan, header, next, .. } = &self.rollout;
        let is_over = |phase| matches!(phase, Phase::Aborting | Phase::Aborted);
        let is_new = is_over(header.phase) && !is_over(self.stored.header.phase);
        let goes_back = plan.as_ref().is_some_and(|plan| plan.on_error == OnError::RollBack);
        let has_errors = header.waves.as_ref().is_some_and(|waves| waves.errors.is_some());
        if !(is_new && goes_back && has_errors) || next.is_some() {
            return Ok(());
        }
        let id = &self.rollout.id;
        match way_back::of(tx, &self.rollout, self.now_s).await? {
            Some(back) => {
                store::rollouts::insert(tx, &back).await?;
                let subject = format!("{id} {} {}", back.id, back.release);
                cx.audit(tx, Act::new("server", "rollout.roll-back", &subject)).await?;
                self.rollout.next = Some(back.id);
            }
            None => tracing::warn!(rollout = id, "no older release to go back to: it is aborted"),
        }
        Ok(())
    }

    /// Withdraws the release from a device that still has it, whatever became of the device.
    pub(super) fn withdraw_release(&mut self, id: DeviceId) {
        self.withdrawn.push(id);
    }

    fn follow(&mut self, id: &DeviceId, effects: Vec<device::Effect>) {
        for effect in effects {
            match effect {
                device::Effect::Offer => self.offered.push(id.clone()),
                device::Effect::Withdraw => self.withdrawn.push(id.clone()),
                device::Effect::Challenge => self.challenged.push(id.clone()),
                device::Effect::Publish => self.is_published = true,
            }
        }
    }

    /// Stores rows, header and desired states. Returns what that causes: the other areas are told
    /// of it if the rollout has ended.
    pub(super) async fn store(mut self, cx: &Context, tx: &mut Tx<'_>) -> Result<Caused, Error> {
        self.plan_way_back(cx, tx).await?;
        self.rollout.due_s = header::due_s(&self.rollout.header, &self.ctx());
        let StoredRollout { id, fleet, release, header, due_s, .. } = &self.rollout;
        store::rollout_devices::insert(tx, id, &self.joined).await?;
        store::rollout_devices::set(tx, id, &self.moved).await?;
        if self.rollout != self.stored {
            store::rollouts::set(tx, &self.rollout).await?;
        }
        let mut desired = match &self.rollout.back_of {
            Some(_) => store::desired::set_back(tx, &self.offered, release).await?,
            None => store::desired::set_desired(tx, &self.offered, Some(release)).await?,
        };
        // A device that is pinned may be offered another release meanwhile.
        desired.extend(store::desired::withdraw(tx, &self.withdrawn, release).await?);
        let changes =
            if self.is_published { vec![Event::Rollout { id: id.clone() }] } else { Vec::new() };
        let after = After { desired, challenges: self.challenged, changes };
        let mut events = Vec::new();
        if header.phase.is_terminal() && !self.stored.header.phase.is_terminal() {
            events.push(DomainEvent::RolloutFinished {
                rollout: id.clone(),
                fleet: fleet.clone(),
                release: release.clone(),
                phase: header.phase,
            });
        }
        // The next one begins.
        let is_followed = header.phase.is_terminal() && self.rollout.next.is_some();
        if is_followed || self.rollout.has_work() || due_s.is_some_and(|due_s| due_s <= self.now_s)
        {
            cx.rollouts.has_work();
        }
        Ok(Caused { after, events })
    }
}
