//! A change of a rollout in a transaction: steps rows and header, and stores what they return.

use super::groups::{Groups, budget_of};
use super::state::Question;
use super::way_back;
use crate::context::Context;
use crate::error::Error;
use crate::events::{After, Caused, DomainEvent};
use fleeti_core::id::{DeviceId, ReleaseName};
use fleeti_core::rollout::budget::Room;
use fleeti_core::rollout::device::{self, Device};
use fleeti_core::rollout::header;
use fleeti_core::rollout::plan::OnError;
use fleeti_core::rollout::{Ctx, Eligibility, Limits, Phase, cohort};
use fleeti_core::wire::api::Event;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::updates::SKIP_WINDOWS_S_MAX;
use fleeti_pki::audit::Act;
use fleeti_store::rollout_devices::Joining;
use fleeti_store::rollouts::StoredRollout;
use fleeti_store::{self as store, Tx};
use std::collections::HashMap;

/// Devices in a chunk.
pub const CHUNK: u32 = 2000;

/// Until when devices that are offered an urgent release now skip their windows for it.
pub(crate) fn urgent_until_s(now_s: u64) -> u64 {
    now_s.saturating_add(SKIP_WINDOWS_S_MAX)
}

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
    /// By release: a device may be offered a floor first.
    offered: HashMap<ReleaseName, Vec<DeviceId>>,
    withdrawn: HashMap<ReleaseName, Vec<DeviceId>>,
    challenged: Vec<DeviceId>,
    groups: Groups,
    /// Number of the question to the webhook gate.
    question: Option<u32>,
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
            offered: HashMap::new(),
            withdrawn: HashMap::new(),
            challenged: Vec::new(),
            groups: Groups::default(),
            question: None,
            is_published: false,
        }
    }

    fn ctx(&self) -> Ctx<'_> {
        let StoredRollout { release, plan, header, .. } = &self.rollout;
        let (now_s, limits, room) = (self.now_s, Limits::default(), Room::Free);
        let (plan, is_urgent) = (plan.as_ref(), self.rollout.urgent.is_some());
        let ctx = Ctx { now_s, release, limits, plan, is_urgent, may_offer: false, room };
        Ctx { may_offer: header::may_offer(header, &ctx) > 0, ..ctx }
    }

    /// Reads the groups of devices that will be stepped.
    pub(super) async fn read_groups<'a>(
        &mut self,
        tx: &mut Tx<'_>,
        devices: impl Iterator<Item = &'a Device>,
    ) -> Result<(), Error> {
        self.groups.read(tx, &self.rollout, devices).await
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
                header::Effect::Ask { question } => self.question = Some(question),
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
        selected: Option<u32>,
    ) -> Result<(), header::Rejected> {
        let (device, effects) = device::join(eligibility, &self.ctx());
        self.header(header::Event::Added(device.phase.category()))?;
        self.follow(&id, (&device, &device), effects);
        let StoredRollout { id: salt, plan, .. } = &self.rollout;
        let listed = plan.as_ref().and_then(|plan| plan.wave_of(&id)).or(selected);
        let cohort = plan.as_ref().map(|_| cohort::cohort(salt, &id));
        self.joined.push(Joining { id, device, cohort, listed });
        Ok(())
    }

    /// Applies an event to a device. An event that does not apply changes nothing.
    pub(super) fn device(&mut self, id: &DeviceId, before: &Device, event: device::Event) {
        let room = self.groups.room(budget_of(&self.rollout), before);
        let stepped = device::step(before, event, &Ctx { room, ..self.ctx() });
        let (after, effects) = match stepped {
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
            if after.phase != before.phase {
                self.groups.moved(after.group.as_ref(), &before.phase, &after.phase);
            }
            self.moved.push((id.clone(), after.clone()));
        }
        self.follow(id, (before, &after), effects);
    }

    /// Devices that wait for a place in a group that has one again.
    async fn wake(&mut self, tx: &mut Tx<'_>) -> Result<(), Error> {
        let Some(budget) = budget_of(&self.rollout) else { return Ok(()) };
        for (group, free) in self.groups.free(budget) {
            let limit = u32::try_from(free).unwrap_or(CHUNK).min(CHUNK);
            let rollout = &self.rollout.id;
            for (id, row) in store::rollout_devices::queued(tx, rollout, &group, limit).await? {
                self.device(&id, &row, device::Event::Freed);
            }
        }
        self.groups.store(tx, &self.rollout.id).await
    }

    /// Stores the rows, and wakes those that wait for a place that they leave.
    async fn store_rows(&mut self, tx: &mut Tx<'_>) -> Result<(), Error> {
        let id = self.rollout.id.clone();
        store::rollout_devices::insert(tx, &id, &self.joined).await?;
        if let Some(budget) = budget_of(&self.rollout) {
            let joined: Vec<_> = self.joined.iter().map(|joining| &joining.id).collect();
            if !joined.is_empty() {
                store::budgets::assign(tx, &id, &budget.group_by, &joined).await?;
            }
            let is = |rollout: &StoredRollout, phase| rollout.header.phase == phase;
            let was_starting = is(&self.stored, Phase::Ready) || is(&self.stored, Phase::Starting);
            if was_starting && is(&self.rollout, Phase::Running) {
                store::budgets::begin(tx, &id).await?;
            }
        }
        let moved = std::mem::take(&mut self.moved);
        store::rollout_devices::set(tx, &id, &moved).await?;
        self.wake(tx).await?;
        Ok(store::rollout_devices::set(tx, &id, &self.moved).await?)
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
        self.withdrawn.entry(self.rollout.release.clone()).or_default().push(id);
    }

    fn follow(
        &mut self,
        id: &DeviceId,
        (before, after): (&Device, &Device),
        effects: Vec<device::Effect>,
    ) {
        for effect in effects {
            match effect {
                device::Effect::Offer => {
                    let release = after.via.as_ref().unwrap_or(&self.rollout.release);
                    self.offered.entry(release.clone()).or_default().push(id.clone());
                }
                device::Effect::Withdraw => {
                    for release in before.via.iter().chain([&self.rollout.release]) {
                        self.withdrawn.entry(release.clone()).or_default().push(id.clone());
                    }
                }
                device::Effect::Challenge => self.challenged.push(id.clone()),
                device::Effect::Publish => self.is_published = true,
            }
        }
    }

    /// Stores rows, header and desired states. Returns what that causes: the other areas are told
    /// of it if the rollout has ended.
    pub(super) async fn store(mut self, cx: &Context, tx: &mut Tx<'_>) -> Result<Caused, Error> {
        self.plan_way_back(cx, tx).await?;
        self.store_rows(tx).await?;
        self.rollout.due_s = header::due_s(&self.rollout.header, &self.ctx());
        let StoredRollout { id, fleet, release, header, due_s, .. } = &self.rollout;
        if self.rollout != self.stored {
            store::rollouts::set(tx, &self.rollout).await?;
        }
        let mut desired = Vec::new();
        for (offer, devices) in &self.offered {
            desired.extend(match (&self.rollout.back_of, &self.rollout.urgent) {
                (Some(_), _) => store::desired::set_back(tx, devices, offer).await?,
                (None, Some(_)) => {
                    let until_s = urgent_until_s(self.now_s);
                    store::desired::set_urgent(tx, devices, offer, until_s).await?
                }
                (None, None) => store::desired::set_desired(tx, devices, Some(offer)).await?,
            });
        }
        // A device that is pinned may be offered another release meanwhile.
        for (offer, devices) in &self.withdrawn {
            desired.extend(store::desired::withdraw(tx, devices, offer).await?);
        }
        let changes =
            if self.is_published { vec![Event::Rollout { id: id.clone() }] } else { Vec::new() };
        let gate = self.rollout.plan.as_ref().and_then(|plan| plan.gate.clone());
        let webhook = gate.unwrap_or_default();
        let question = |number| Question { rollout: id.clone(), number, webhook };
        let asked = self.question.map(question);
        let questions = asked.into_iter().collect();
        let after = After { desired, challenges: self.challenged, changes, questions };
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
