//! The virtual clock: steps the header of a rollout through what its devices are expected to do.

use super::mix::Mix;
use super::parts::{End, Expected, Facts, Group, WaveForecast, sums};
use crate::rollout::asked::Answer;
use crate::rollout::budget::Room;
use crate::rollout::header::{self, Effect, Event, Header, Rejected, ToOpen};
use crate::rollout::plan::Size;
use crate::rollout::waves::{Errors, Stage};
use crate::rollout::{Category, Counts, Ctx, DEVICES_MAX, Limits, Phase};
use std::collections::BTreeMap;

/// Most points in time that are looked at: a slow rate needs many.
const TIMES_MAX: usize = 200_000;

/// What becomes of devices that were offered the release: when, of which wave, and in which category
/// they are then.
type Later = BTreeMap<(u64, Option<u32>, Category), usize>;

/// A rollout in virtual time.
pub(super) struct Simulation<'a> {
    facts: &'a Facts<'a>,
    header: Header,
    now_s: u64,
    unlisted: Mix,
    /// Devices of lists, by wave.
    listed: BTreeMap<u32, Vec<Expected>>,
    later: Later,
    waves: Vec<WaveForecast>,
    /// A time, and when a device that is offered the release then is done, without and with floors.
    done: Option<(u64, u64, u64)>,
}

impl<'a> Simulation<'a> {
    pub(super) fn new(facts: &'a Facts<'a>) -> Self {
        let mut listed: BTreeMap<u32, Vec<Expected>> = BTreeMap::new();
        for (wave, expected) in &facts.listed {
            listed.entry(*wave).or_default().push(*expected);
        }
        Self {
            header: Header::default(),
            now_s: facts.now_s,
            unlisted: Mix::of(sums(facts.unlisted.iter().copied())),
            listed,
            later: Later::new(),
            waves: Vec::new(),
            done: None,
            facts,
        }
    }

    fn ctx(&self) -> Ctx<'a> {
        let limits = Limits { devices_max: DEVICES_MAX };
        let Facts { release, plan, is_urgent, .. } = *self.facts;
        let room = Room::Free;
        Ctx { now_s: self.now_s, release, limits, plan, is_urgent, may_offer: true, room }
    }

    fn step(&mut self, event: Event) -> Result<(), Rejected> {
        let (header, effects) = header::step(&self.header, event, &self.ctx())?;
        self.header = header;
        for effect in effects {
            // Only the webhook knows what it will say: here it allows each wave at once.
            if let Effect::Ask { question } = effect {
                self.step(Event::Answered { question, answer: Answer::allows("") })?;
            }
        }
        Ok(())
    }

    /// Runs until nothing more happens.
    pub(super) fn run(mut self) -> (Vec<WaveForecast>, End) {
        let end = match self.simulated() {
            Ok(end) => end,
            // An empty fleet, or one that is too large: the start is refused.
            Err(_) => End::Waits { from_s: self.now_s, wave: 0 },
        };
        (self.waves, end)
    }

    fn simulated(&mut self) -> Result<End, Rejected> {
        let unlisted: usize = self.facts.unlisted.iter().map(|group| group.devices).sum();
        let devices = unlisted + self.facts.listed.len();
        self.step(Event::Start { devices })?;
        let is_planned = self.facts.plan.is_some();
        for _ in 0..devices {
            self.step(Event::Added(if is_planned {
                Category::Pending
            } else {
                Category::Waiting
            }))?;
        }
        self.step(Event::Started)?;
        if !is_planned {
            self.begin_all();
        }
        for _ in 0..TIMES_MAX {
            self.open()?;
            if let Some(end) = self.ended() {
                return Ok(end);
            }
            let Some(next_s) = self.next_s() else {
                if self.waits_for_operator() {
                    self.step(Event::Next { over_gate: false })?;
                    continue;
                }
                let wave = self.wave();
                return Ok(End::Waits { from_s: self.now_s, wave });
            };
            self.now_s = next_s;
            self.happen()?;
        }
        Ok(End::TooLong { at_s: self.now_s })
    }

    fn wave(&self) -> u32 {
        self.header.waves.as_ref().map_or(0, |waves| waves.current)
    }

    /// Whether the rollout waits for `Next`.
    fn waits_for_operator(&self) -> bool {
        let is_due = self.header.waves.as_ref().is_some_and(|waves| waves.stage == Stage::Due);
        let wave = self.facts.plan.and_then(|plan| plan.waves.get(self.wave() as usize));
        self.header.phase == Phase::Running
            && is_due
            && wave.is_some_and(|wave| wave.start.is_by_people())
    }

    /// Everybody is offered the release at once.
    fn begin_all(&mut self) {
        self.waves.push(WaveForecast {
            size: Size::Percent { percent: 100 },
            is_by_hand: false,
            begins_s: self.now_s,
            expected: sums(self.facts.unlisted.iter().copied()),
        });
        for Group { expected, devices } in self.facts.unlisted.clone() {
            self.offered(None, expected, devices);
        }
    }

    /// How long a device takes that is offered the release now, and one that has floors on its way.
    fn updates_s(&mut self) -> (u64, u64) {
        let now_s = self.now_s;
        if let Some((_, one_s, all_s)) = self.done.filter(|(at_s, ..)| *at_s == now_s) {
            return (one_s, all_s);
        }
        let one_s = self.facts.done_s(now_s);
        // An update for each floor, and one more.
        let all_s = (0..self.facts.floors).fold(one_s, |at_s, _| self.facts.done_s(at_s));
        let (one_s, all_s) = (one_s.saturating_sub(now_s), all_s.saturating_sub(now_s));
        self.done = Some((now_s, one_s, all_s));
        (one_s, all_s)
    }

    /// What devices do that are offered the release now.
    fn offered(&mut self, wave: Option<u32>, expected: Expected, devices: usize) {
        let unreached_s = self.facts.plan.map(|plan| plan.unreached_s);
        let (update_s, by_floor_s) = self.updates_s();
        let (after_s, category) = match expected {
            Expected::Updates => (update_s, Category::Succeeded),
            Expected::ByFloor => (by_floor_s, Category::Succeeded),
            Expected::RunsIt => (0, Category::Succeeded),
            Expected::RolledBackBefore => (0, Category::Failed),
            Expected::TooOld
            | Expected::OtherLine
            | Expected::OnHold
            | Expected::Pinned
            | Expected::BlockedWay
            | Expected::InPenalty => (0, Category::Unreached),
            Expected::Offline | Expected::BelowLevel => match unreached_s {
                Some(unreached_s) => (unreached_s, Category::Unreached),
                None => return,
            },
        };
        let at_s = self.now_s.saturating_add(after_s);
        *self.later.entry((at_s, wave, category)).or_default() += devices;
    }

    /// Takes the next device that the current wave may have.
    fn take(&mut self) -> Option<Expected> {
        let wave = self.wave();
        let listed = self.listed.range_mut(..=wave).find_map(|(_, devices)| devices.pop());
        let of_list = self.facts.plan.and_then(|plan| plan.waves.get(wave as usize));
        let is_list = of_list.is_some_and(|wave| wave.size.until(0).is_none());
        listed.or_else(|| if is_list { None } else { self.unlisted.next() })
    }

    /// Offers the release to as many devices as there are places for.
    fn open(&mut self) -> Result<(), Rejected> {
        if self.facts.plan.is_none() {
            return Ok(());
        }
        loop {
            let ToOpen { new, .. } = header::to_open(&self.header, &self.ctx());
            if new == 0 {
                return Ok(());
            }
            let wave = self.wave();
            self.begun(wave);
            for _ in 0..new {
                let Some(expected) = self.take() else {
                    self.step(Event::Exhausted)?;
                    break;
                };
                self.step(Event::Opened(Category::Waiting))?;
                self.offered(Some(wave), expected, 1);
                self.count(expected);
                if self.header.phase != Phase::Running {
                    return Ok(());
                }
            }
        }
    }

    /// A wave begins, unless it has.
    fn begun(&mut self, wave: u32) {
        let waves = self.facts.plan.map_or(&[][..], |plan| &plan.waves);
        while self.waves.len() <= wave as usize
            && let Some(wave) = waves.get(self.waves.len())
        {
            self.waves.push(WaveForecast {
                size: wave.size.clone(),
                is_by_hand: wave.start.is_by_people(),
                begins_s: self.now_s,
                expected: Vec::new(),
            });
        }
    }

    fn count(&mut self, expected: Expected) {
        let Some(wave) = self.waves.last_mut() else { return };
        match wave.expected.iter_mut().find(|group| group.expected == expected) {
            Some(group) => group.devices += 1,
            None => wave.expected.push(Group { expected, devices: 1 }),
        }
        wave.expected.sort_by_key(|group| group.expected);
    }

    /// When something happens next, Unix seconds.
    fn next_s(&self) -> Option<u64> {
        let later = self.later.keys().next().map(|(at_s, ..)| *at_s);
        // What the search for silent devices finds is in `later`.
        let mut header = self.header.clone();
        header.waves.iter_mut().for_each(|waves| waves.checked_s = u64::MAX);
        let due = header::due_s(&header, &self.ctx()).filter(|due_s| *due_s < u64::MAX);
        [later, due.map(|due_s| due_s.max(self.now_s))].into_iter().flatten().min()
    }

    /// What happens now.
    fn happen(&mut self) -> Result<(), Rejected> {
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= self.now_s)
        {
            let ((_, wave, to), devices) = entry.remove_entry();
            for _ in 0..devices {
                if self.header.phase != Phase::Running {
                    return Ok(());
                }
                self.step(Event::Moved { wave, from: Category::Waiting, to })?;
            }
        }
        if self.header.phase == Phase::Running { self.step(Event::Tick) } else { Ok(()) }
    }

    fn ended(&self) -> Option<End> {
        let at_s = self.now_s;
        let Counts { failed, .. } = self.header.counts;
        match self.header.phase {
            Phase::Succeeded => Some(End::Succeeds { at_s }),
            Phase::Failed => Some(End::Fails { at_s }),
            Phase::Pausing | Phase::Aborting => {
                let errors = self.header.waves.as_ref().and_then(|waves| waves.errors);
                let finished = self.header.counts.finished();
                let errors = errors.unwrap_or(Errors { failed, finished });
                Some(End::Stops { at_s, wave: self.wave(), errors })
            }
            Phase::Ready | Phase::Starting | Phase::Running | Phase::Paused | Phase::Aborted => {
                None
            }
        }
    }
}
