//! How far the waves of a rollout are. Everything here is computed from counters: an event costs the
//! same for every size of the fleet.

use super::asked::{Answer, Asked};
use super::counts::{Category, Counts};
use super::gates::GateWait;
use super::plan::{ErrorsMax, Plan, Size, Start, Wave};
use serde::{Deserialize, Serialize};

/// Seconds between two searches for devices that are silent.
pub const CHECK_S: u64 = 60;

/// How far the waves of a rollout are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RolloutWaves)]
pub struct Waves {
    /// Number of the current wave, from 0.
    pub current: u32,
    /// What the current wave does.
    pub stage: Stage,
    /// Devices of each wave that has begun.
    pub counts: Vec<Counts>,
    /// Whether no device is left that this wave could take.
    pub exhausted: bool,
    /// Devices that had finished when an operator last resumed the rollout: they are not counted
    /// again.
    pub excused: Excused,
    /// Offers in the current period.
    pub offers: Offers,
    /// When the server last looked for silent devices, Unix seconds.
    pub checked_s: u64,
    /// Errors that stopped the rollout; absent if an operator did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<Errors>,
    /// Whether an operator began the current wave: it waits for nothing but the webhook gate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_begun: bool,
    /// What the webhook gate of the plan was asked; absent before the first question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Asked>,
}

/// What a wave does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = RolloutWaveStage)]
pub enum Stage {
    /// Waits for its start.
    Due,
    /// Its devices update.
    Open,
    /// It has succeeded; the next one waits.
    Soaking {
        /// Until when, Unix seconds.
        until_s: u64,
    },
}

/// Devices that are not counted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RolloutExcused)]
pub struct Excused {
    /// Of the current wave: errors, and devices that had finished.
    pub wave: Errors,
    /// Of the rollout.
    pub rollout: Errors,
}

/// Errors among the devices that have finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RolloutErrors)]
pub struct Errors {
    /// Number of errors.
    pub failed: usize,
    /// Number of devices that have finished.
    pub finished: usize,
}

/// Offers in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RolloutOffers)]
pub struct Offers {
    /// When the period began, Unix seconds.
    pub from_s: u64,
    /// Number of offers.
    pub devices: usize,
}

/// What the waves come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The rollout goes on.
    Going,
    /// More errors than the plan accepts.
    TooManyErrors,
    /// The last wave is complete.
    Done,
}

/// What the waves are computed from, beside themselves.
#[derive(Clone, Copy)]
pub(super) struct World<'a> {
    /// Devices of the whole rollout.
    pub(super) totals: &'a Counts,
    /// The plan.
    pub(super) plan: &'a Plan,
    /// Whether the waves do not soak.
    pub(super) is_urgent: bool,
    /// Unix seconds.
    pub(super) now_s: u64,
}

impl Errors {
    fn of(counts: &Counts) -> Self {
        Self { failed: counts.failed, finished: counts.finished() }
    }

    fn without(self, excused: Self) -> Self {
        Self {
            failed: self.failed.saturating_sub(excused.failed),
            finished: self.finished.saturating_sub(excused.finished),
        }
    }

    fn at_most(self, other: Self) -> Self {
        Self { failed: self.failed.min(other.failed), finished: self.finished.min(other.finished) }
    }

    fn exceed(self, max: ErrorsMax) -> bool {
        match max {
            ErrorsMax::Count { devices } => self.failed > devices,
            ErrorsMax::Percent { percent } => {
                self.failed * 100 > usize::from(percent) * self.finished
            }
        }
    }
}

impl Default for Waves {
    fn default() -> Self {
        Self {
            current: 0,
            stage: Stage::Due,
            counts: vec![Counts::default()],
            exhausted: false,
            excused: Excused::default(),
            offers: Offers::default(),
            checked_s: 0,
            errors: None,
            is_begun: false,
            gate: None,
        }
    }
}

impl Waves {
    fn now(&self) -> Counts {
        self.counts.last().copied().unwrap_or_default()
    }

    fn wave<'a>(&self, plan: &'a Plan) -> Option<&'a Wave> {
        plan.waves.get(self.current as usize)
    }

    /// Number of the wave, from 0, that begins if an operator goes on now.
    #[must_use]
    pub fn next(&self) -> u32 {
        match self.stage {
            Stage::Due => self.current,
            Stage::Open | Stage::Soaking { .. } => self.current + 1,
        }
    }

    /// Whether the current wave is the last one.
    #[must_use]
    pub fn is_last(&self, plan: &Plan) -> bool {
        self.current as usize + 1 >= plan.waves.len()
    }

    /// A pending device joins the current wave.
    pub(super) fn take(&mut self, category: Category) {
        if let Some(counts) = self.counts.last_mut() {
            *counts = counts.added(category);
        }
    }

    /// A device of a wave changes its category. `None` if the counters contradict it.
    pub(super) fn moved(&mut self, wave: u32, from: Category, to: Category) -> Option<()> {
        let counts = self.counts.get_mut(wave as usize)?;
        *counts = counts.moved(from, to)?;
        Some(())
    }

    /// A device is offered the release.
    pub(super) fn offer(&mut self, world: World<'_>) {
        let Some(rate) = world.plan.rate else { return };
        if world.now_s >= self.offers.from_s.saturating_add(rate.per_s) {
            self.offers = Offers { from_s: world.now_s, devices: 0 };
        }
        self.offers.devices += 1;
    }

    /// Number of devices that the release may be offered to now.
    pub(super) fn places(&self, world: World<'_>) -> usize {
        let World { totals, plan, now_s, .. } = world;
        let at_once =
            plan.moving_max.map_or(usize::MAX, |max| max.saturating_sub(totals.in_flight()));
        let in_period = plan.rate.map_or(usize::MAX, |rate| {
            let is_over = now_s >= self.offers.from_s.saturating_add(rate.per_s);
            if is_over { rate.devices } else { rate.devices.saturating_sub(self.offers.devices) }
        });
        at_once.min(in_period)
    }

    /// Devices of earlier offers that wait for a new one.
    pub(super) fn returned(&self) -> usize {
        self.counts.iter().map(|counts| counts.pending).sum()
    }

    /// Number of pending devices that the current wave may still take.
    pub(super) fn left(&self, world: World<'_>) -> usize {
        let Some(wave) = self.wave(world.plan) else { return 0 };
        if self.exhausted || self.stage != Stage::Open {
            return 0;
        }
        let reached = self.counts.iter().map(|counts| counts.total).sum::<usize>();
        let reached = reached.saturating_sub(world.totals.unreached);
        match &wave.size {
            Size::List { devices } => devices.len(),
            // The server says when none is left.
            Size::Filter { .. } => world.totals.pending,
            size => size.until(world.totals.total).unwrap_or(0).saturating_sub(reached),
        }
    }

    /// Whether the current wave has no device that can still finish, and takes no other.
    fn is_complete(&self, world: World<'_>) -> bool {
        let counts = self.now();
        let (unfinished, is_evidence) = if self.is_last(world.plan) {
            (world.totals.unfinished(), world.totals.succeeded > 0)
        } else {
            (counts.unfinished(), counts.total == 0 || counts.finished() > 0)
        };
        self.left(world) == 0 && unfinished == 0 && is_evidence
    }

    /// Devices that an operator who goes on must wait for: those of the current wave and, as the
    /// rollout ends with the last one, then all.
    pub(super) fn unfinished(&self, world: World<'_>) -> usize {
        match self.stage {
            Stage::Due | Stage::Soaking { .. } => 0,
            Stage::Open if self.is_last(world.plan) => world.totals.unfinished(),
            Stage::Open => self.now().unfinished(),
        }
    }

    /// The errors that stop the rollout.
    fn too_many(&self, world: World<'_>) -> Option<Errors> {
        let plan = world.plan;
        let wave = Errors::of(&self.now()).without(self.excused.wave);
        let all = Errors::of(world.totals).without(self.excused.rollout);
        let is_sample = |errors: Errors| match plan.errors_max {
            ErrorsMax::Count { .. } => true,
            ErrorsMax::Percent { .. } => errors.finished >= plan.sample_min,
        };
        let wave_is_sample =
            is_sample(wave) || (self.left(world) == 0 && self.now().unfinished() == 0);
        [(wave, wave_is_sample), (all, is_sample(all))]
            .into_iter()
            .find(|(errors, is_sample)| *is_sample && errors.exceed(plan.errors_max))
            .map(|(errors, _)| errors)
    }

    /// Goes as far as time and counters permit.
    pub(super) fn advance(&mut self, world: World<'_>) -> Outcome {
        // An error is taken back when a silent device returns.
        self.excused.wave = self.excused.wave.at_most(Errors::of(&self.now()));
        self.excused.rollout = self.excused.rollout.at_most(Errors::of(world.totals));
        if let Some(errors) = self.too_many(world) {
            self.errors = Some(errors);
            return Outcome::TooManyErrors;
        }
        loop {
            let Some(wave) = self.wave(world.plan) else { return Outcome::Done };
            match self.stage {
                Stage::Due if !self.may_begin(wave, world) => return Outcome::Going,
                Stage::Due if world.plan.gate.is_some() && !self.is_allowed() => {
                    self.gate.get_or_insert_default().ask(world.now_s);
                    return Outcome::Going;
                }
                Stage::Due => self.open(),
                Stage::Open if !self.is_complete(world) => return Outcome::Going,
                Stage::Open if self.is_last(world.plan) => return Outcome::Done,
                // Nothing to watch.
                Stage::Open if self.now().total == 0 => self.begin_next(),
                Stage::Open => {
                    let soak_s = if world.is_urgent { 0 } else { wave.soak_s };
                    let until_s = world.now_s.saturating_add(soak_s);
                    self.stage = Stage::Soaking { until_s };
                }
                Stage::Soaking { until_s } if world.now_s >= until_s => self.begin_next(),
                Stage::Soaking { .. } => return Outcome::Going,
            }
        }
    }

    /// Whether the current wave waits for nothing but the webhook gate.
    fn may_begin(&self, wave: &Wave, world: World<'_>) -> bool {
        self.is_begun
            || match wave.start {
                Start::AfterSuccess => true,
                Start::At { time_s } => world.now_s >= time_s,
                Start::ByHand | Start::ByApproval => false,
            }
    }

    fn is_allowed(&self) -> bool {
        self.gate.as_ref().is_some_and(Asked::is_allowed)
    }

    /// As [`Self::waits_for_gate`], for the explanation of a device that no wave has taken.
    #[must_use]
    pub fn gate_wait(&self) -> Option<GateWait> {
        let said = self.waits_for_gate()?.words();
        Some(GateWait { wave: self.current, said })
    }

    /// The webhook gate that the current wave waits for.
    #[must_use]
    pub fn waits_for_gate(&self) -> Option<&Asked> {
        self.gate.as_ref().filter(|asked| self.stage == Stage::Due && asked.again_s.is_some())
    }

    /// The current wave begins.
    fn open(&mut self) {
        self.stage = Stage::Open;
        self.is_begun = false;
        self.gate.iter_mut().for_each(Asked::forget);
    }

    /// The webhook gate answers. `None` if the current wave does not wait for that answer.
    pub(super) fn answered(&mut self, question: u32, answer: Answer, now_s: u64) -> Option<()> {
        let asked = self.gate.as_mut().filter(|_| self.stage == Stage::Due)?;
        asked.answered(question, answer, now_s)
    }

    /// Ends the current stage, because an operator says so. A wave that waits for the webhook gate
    /// alone, which the operator does not pass over, asks it again now. `None` if that was asked and its
    /// answer is awaited.
    pub(super) fn go_on(&mut self, world: World<'_>, over_gate: bool) -> Option<Outcome> {
        let is_over = over_gate || world.plan.gate.is_none();
        match self.stage {
            Stage::Due => {
                let wave = self.wave(world.plan);
                if !is_over && wave.is_some_and(|wave| self.may_begin(wave, world)) {
                    let asked = self.gate.get_or_insert_default();
                    if asked.is_awaited(world.now_s) {
                        return None;
                    }
                    asked.hurry(world.now_s);
                }
            }
            Stage::Open | Stage::Soaking { .. } if self.is_last(world.plan) => {
                return Some(Outcome::Done);
            }
            Stage::Open | Stage::Soaking { .. } => self.begin_next(),
        }
        self.is_begun = true;
        if is_over {
            self.open();
        }
        Some(self.advance(world))
    }

    fn begin_next(&mut self) {
        self.current += 1;
        self.stage = Stage::Due;
        self.is_begun = false;
        self.gate.iter_mut().for_each(Asked::forget);
        self.counts.push(Counts::default());
        self.exhausted = false;
        self.excused.wave = Errors::default();
    }

    /// An operator accepts the errors so far.
    pub(super) fn excuse(&mut self, totals: &Counts) {
        let (wave, rollout) = (Errors::of(&self.now()), Errors::of(totals));
        self.excused = Excused { wave, rollout };
        self.errors = None;
    }

    /// The rollout does not run any more: nothing waits for the webhook gate, and what it said may have
    /// changed when the rollout goes on.
    pub(super) fn stopped(&mut self) {
        self.gate.iter_mut().for_each(Asked::forget);
    }

    /// When something is to be done, Unix seconds.
    pub(super) fn due_s(&self, world: World<'_>) -> Option<u64> {
        let World { totals, plan, now_s, .. } = world;
        let start = match (self.stage, self.wave(plan)) {
            (Stage::Soaking { until_s }, _) => Some(until_s),
            (Stage::Due, Some(wave)) if self.may_begin(wave, world) => {
                let again_s = self.waits_for_gate().and_then(|asked| asked.again_s);
                Some(again_s.unwrap_or(now_s))
            }
            (Stage::Due, Some(Wave { start: Start::At { time_s }, .. })) => Some(*time_s),
            (Stage::Due, Some(_) | None) | (Stage::Open, _) => None,
        };
        let waiting = self.returned() + self.left(world);
        let offer = match (waiting, self.places(world)) {
            (0, _) => None,
            // A place: when a device finishes, which is an event, or with the next period.
            (_, 0) => plan.rate.map(|rate| self.offers.from_s.saturating_add(rate.per_s)),
            (_, _) => Some(now_s),
        };
        // A period that is over, and no place: a device that finishes gives one.
        let offer = offer.filter(|due_s| *due_s > now_s || self.places(world) > 0);
        let check = (totals.in_flight() + totals.queued > 0)
            .then(|| self.checked_s.saturating_add(CHECK_S));
        [start, offer, check].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
