//! A server in memory: what the gates read of each device, the rows, the header and the groups.

use crate::attestation::Level;
use crate::attestation::policy::Policy;
use crate::filter::{DeviceFacts, Filter};
use crate::id::{DeviceId, ReleaseName};
use crate::rollout::asked::Answer;
use crate::rollout::budget::{Group, Room};
use crate::rollout::cohort::cohort;
use crate::rollout::device::{self, Device, Effect, Reported};
use crate::rollout::gates::{
    self, Facts, Known, Paths, ReleaseFacts, ReleasePath, Source, Target, after_failure,
};
use crate::rollout::header::{self, Event, Header};
use crate::rollout::plan::{Plan, Rate, Start};
use crate::rollout::waves::{Stage, Waves};
use crate::rollout::{Category, Counts, Ctx, DevicePhase, Eligibility, Limits, Phase, Proof};
use crate::update::{FailureCode, RollbackReason, State as U};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

pub const RELEASE: &str = "kiosk@3";
pub const FLOOR: &str = "kiosk@2";
const RUNNING: [&str; 3] = ["kiosk@1", FLOOR, RELEASE];

#[derive(Debug, Clone)]
pub enum Act {
    Wait(u64),
    Report(usize, usize, usize),
    Check(u32),
    Revoke(usize),
    Pause,
    Hold,
    Resume,
    /// Whether over the webhook gate.
    Next(bool),
    /// The webhook answers: the number of questions before the last one, and whether it allows.
    Answer(usize, bool),
    Abort,
    /// An operator declares the floor, or ends it.
    Floor(bool),
    /// A device proves what its fleet asks for, or does not any more.
    Level(usize, bool),
}

#[derive(Debug, Clone)]
pub struct Server {
    pub plan: Plan,
    pub is_urgent: bool,
    pub header: Header,
    pub rows: BTreeMap<DeviceId, Device>,
    pub groups: BTreeMap<String, Group>,
    pub known: BTreeMap<DeviceId, Known>,
    pub paths: Paths,
    pub now_s: u64,
    /// When, to which device, what.
    pub offers: Vec<(u64, DeviceId, ReleaseName)>,
    /// Questions to the webhook gate: their numbers, and their waves.
    pub asked: Vec<(u32, u32)>,
    /// Waves that it allowed, or that an operator began over it.
    pub allowed: BTreeSet<u32>,
}

pub fn id(n: usize) -> DeviceId {
    format!("d{n}").parse().unwrap()
}

fn named(name: &str) -> ReleaseName {
    name.parse().unwrap()
}

fn release() -> ReleaseName {
    named(RELEASE)
}

fn floors(is_on: bool) -> Paths {
    let path = ReleasePath { floor: is_on.then(|| "new data format".into()), blocked: vec![] };
    let good = |_: &ReleaseName| ReleaseFacts { is_good: true, is_proved: true };
    Paths::of(std::iter::once((&named(FLOOR), &path)), good)
}

fn updates(n: usize) -> U {
    let target = |name: &str| named(name).version;
    match n {
        0 | 1 => U::Idle,
        2 => U::Staging { target: target(RELEASE), attempt: 1 },
        3 => U::Armed { target: target(RELEASE) },
        4 => U::Trying { target: target(FLOOR) },
        5 => Server::rolled_back(),
        6 => U::Failed { target: target(FLOOR), code: FailureCode::StageFailed },
        _ => Server::failed(),
    }
}

impl Server {
    pub fn failed() -> U {
        U::Failed { target: named(RELEASE).version, code: FailureCode::StageFailed }
    }

    pub fn refused() -> U {
        U::Failed { target: named(RELEASE).version, code: FailureCode::WrongImage }
    }

    pub fn armed() -> U {
        U::Armed { target: named(RELEASE).version }
    }

    pub fn rolled_back() -> U {
        let reason = RollbackReason::Health { evidence: "no screen".into() };
        U::RolledBack { target: named(RELEASE).version, reason }
    }

    /// Four racks.
    pub fn rack(id: &DeviceId) -> String {
        let n: usize = id.as_str()[1..].parse().unwrap();
        (n % 4).to_string()
    }

    pub fn start(plan: Plan, devices: usize, has_floor: bool) -> Self {
        Self::start_as(plan, devices, has_floor, false)
    }

    pub fn start_as(plan: Plan, devices: usize, has_floor: bool, is_urgent: bool) -> Self {
        plan.check().unwrap();
        let mut server = Self {
            plan,
            is_urgent,
            header: Header::default(),
            rows: BTreeMap::new(),
            groups: BTreeMap::new(),
            known: BTreeMap::new(),
            paths: floors(has_floor),
            now_s: 1_000_000,
            offers: Vec::new(),
            asked: Vec::new(),
            allowed: BTreeSet::new(),
        };
        server.on(Event::Start { devices }).unwrap();
        (0..devices).for_each(|n| server.join(id(n)));
        server.on(Event::Started).unwrap();
        server.work();
        server
    }

    fn join(&mut self, id: DeviceId) {
        let known = Known {
            waits: None,
            time_zone: None,
            skip_windows_until_s: None,
            urgent_until_s: None,
            is_revoked: false,
            running: Some(named("kiosk@1")),
            desired: None,
            update: U::Idle,
            hold: None,
            pin: None,
            penalty: None,
            level: Level::Token,
        };
        self.known.insert(id.clone(), known);
        let (mut row, _) =
            self.with_ctx(None, |server, ctx| device::join(&server.eligibility(&id), ctx));
        row.group = self.plan.budget.is_some().then(|| Self::rack(&id));
        if let Some(group) = &row.group {
            self.groups.entry(group.clone()).or_default().total += 1;
        }
        self.on(Event::Added(row.phase.category())).unwrap();
        self.rows.insert(id, row);
    }

    fn with_ctx<T>(&self, group: Option<&String>, act: impl FnOnce(&Self, &Ctx<'_>) -> T) -> T {
        let (release, limits) = (release(), Limits { devices_max: 10_000 });
        let room = match (&self.plan.budget, group.and_then(|group| self.groups.get(group))) {
            (Some(budget), Some(group)) => group.room(budget),
            (Some(_) | None, _) => Room::Free,
        };
        let plan = Some(&self.plan);
        let ctx = Ctx {
            now_s: self.now_s,
            release: &release,
            limits,
            plan,
            is_urgent: self.is_urgent,
            may_offer: false,
            room,
        };
        act(self, &Ctx { may_offer: header::may_offer(&self.header, &ctx) > 0, ..ctx })
    }

    pub fn on(&mut self, event: Event) -> Result<(), header::Rejected> {
        let (header, effects) =
            self.with_ctx(None, |server, ctx| header::step(&server.header, event, ctx))?;
        self.header = header;
        for effect in effects {
            if let header::Effect::Ask { question } = effect {
                self.asked.push((question, self.wave()));
            }
        }
        Ok(())
    }

    fn wave(&self) -> u32 {
        self.header.waves.as_ref().map_or(0, |waves| waves.current)
    }

    /// An operator begins the next wave.
    fn next(&mut self, over_gate: bool) {
        let wave = self.header.waves.as_ref().map_or(0, Waves::next);
        if self.on(Event::Next { over_gate }).is_ok() && over_gate {
            self.allowed.insert(wave);
        }
    }

    /// What the gate allowed before a pause does not count after it.
    fn resume(&mut self) {
        let is_due = self.header.waves.as_ref().is_some_and(|waves| waves.stage == Stage::Due);
        if self.on(Event::Resume).is_ok() && is_due {
            self.allowed.remove(&self.wave());
        }
    }

    /// A person begins a wave that waits for one.
    pub fn begin_by_hand(&mut self) {
        let is_due = self.header.waves.as_ref().is_some_and(|waves| waves.stage == Stage::Due);
        let wave = self.plan.waves.get(self.wave() as usize);
        let waits = wave.is_some_and(|w| matches!(w.start, Start::ByHand | Start::ByApproval));
        if is_due && waits {
            self.act(&Act::Next(false));
        }
    }

    /// The webhook answers one of the last questions. An answer counts only if it is the first to the last
    /// question, about the wave that is current, of a rollout that runs.
    pub fn answer(&mut self, ago: usize, may_begin: bool) {
        let Some(n) = self.asked.len().checked_sub(ago + 1) else { return };
        let (question, wave) = self.asked[n];
        let answer =
            if may_begin { Answer::allows("") } else { Answer::failed("no answer in time") };
        let (before, current) = (self.header.clone(), self.wave());
        let is_taken = self.on(Event::Answered { question, answer }).is_ok();
        if !is_taken {
            assert_eq!(self.header, before);
            return;
        }
        assert_eq!((ago, wave, before.phase), (0, current, Phase::Running), "{before:?}");
        if may_begin {
            self.allowed.insert(wave);
        }
    }

    pub fn facts<'a>(&'a self, id: &DeviceId, target: &'a Target, policy: &'a Policy) -> Facts<'a> {
        Facts {
            now_s: self.now_s,
            is_online: None,
            known: &self.known[id],
            target: Some(target),
            release: ReleaseFacts { is_good: true, is_proved: true },
            policy,
            paths: &self.paths,
            part: None,
        }
    }

    fn eligibility(&self, id: &DeviceId) -> Eligibility {
        let target = Target { release: release(), source: Source::Rollout };
        gates::eligibility(&self.facts(id, &target, &Policy::usual()), Proof::NotAsked)
    }

    fn device(&mut self, id: &DeviceId, event: device::Event) {
        let Some(before) = self.rows.get(id).cloned() else { return };
        let stepped =
            self.with_ctx(before.group.as_ref(), |_, ctx| device::step(&before, event, ctx));
        let Ok((after, effects)) = stepped else { return };
        let (from, to) = (before.phase.category(), after.phase.category());
        let event = if before.wave.is_none() && after.wave.is_some() {
            Event::Opened(to)
        } else {
            Event::Moved { wave: after.wave, from, to }
        };
        if after != before && self.on(event).is_err() {
            return;
        }
        let known = self.known.get_mut(id).unwrap();
        for effect in &effects {
            match effect {
                Effect::Offer => {
                    let offered = after.via.clone().unwrap_or_else(release);
                    known.desired = Some(offered.clone());
                    self.offers.push((self.now_s, id.clone(), offered));
                }
                Effect::Withdraw => known.desired = None,
                Effect::Challenge | Effect::Publish => {}
            }
        }
        if let Some(group) = after.group.as_ref().and_then(|group| self.groups.get_mut(group)) {
            *group = group.moved(&before.phase, &after.phase);
        }
        let group = after.group.clone();
        let is_freed = before.phase != after.phase;
        self.rows.insert(id.clone(), after);
        if let Some(group) = group.filter(|_| is_freed) {
            self.wake(&group);
        }
    }

    /// As many queued devices of a group as it has places.
    fn wake(&mut self, group: &str) {
        let Some(budget) = &self.plan.budget else { return };
        let free = self.groups[group].free(budget);
        let mut queued: Vec<_> = self
            .rows
            .iter()
            .filter(|(_, row)| row.phase == DevicePhase::Queued)
            .filter(|(_, row)| row.group.as_deref() == Some(group))
            .map(|(id, _)| id.clone())
            .collect();
        queued.sort_by_key(|id| cohort("r", id));
        for id in queued.into_iter().take(free) {
            let Some(before) = self.rows.get(&id).cloned() else { return };
            let (after, _) = self
                .with_ctx(None, |_, ctx| device::step(&before, device::Event::Freed, ctx))
                .unwrap();
            let (from, to) = (before.phase.category(), after.phase.category());
            if self.on(Event::Moved { wave: after.wave, from, to }).is_ok() {
                self.rows.insert(id, after);
            }
        }
    }

    /// What the task of a server does until nothing is due.
    pub fn work(&mut self) {
        for _ in 0..1000 {
            let due_s = self.with_ctx(None, |server, ctx| header::due_s(&server.header, ctx));
            if due_s.is_none_or(|due_s| due_s > self.now_s) {
                return;
            }
            if header::is_check_due(&self.header, self.now_s) {
                self.check_retries();
                self.on(Event::Checked).ok();
            }
            if self.on(Event::Tick).is_ok() {
                self.open();
            }
        }
        panic!("the server works for ever: {:?}", self.header);
    }

    /// Devices that are heard of: only a pause can have ended.
    fn check_retries(&mut self) {
        for id in self.in_phase(|phase| matches!(phase, DevicePhase::Retrying { .. })) {
            let seen_s = self.now_s;
            self.device(&id, device::Event::Checked { seen_s });
        }
    }

    fn wave_of(&self, id: &DeviceId) -> Option<u32> {
        let facts = DeviceFacts {
            id,
            fleet: &"lobby".parse().unwrap(),
            name: None,
            note: None,
            running: None,
            state: "idle",
            is_revoked: false,
            has_alarm: false,
            last_seen_s: 0,
            labels: &BTreeMap::new(),
        };
        let by_filter = || {
            let fits = |text: &str| text.parse::<Filter>().unwrap().matches(&facts, self.now_s);
            self.plan.filters().find(|(_, text)| fits(text)).map(|(n, _)| n)
        };
        self.plan.wave_of(id).or_else(by_filter)
    }

    fn open(&mut self) {
        let to_open = self.with_ctx(None, |server, ctx| header::to_open(&server.header, ctx));
        let wave = self.header.waves.as_ref().unwrap().current;
        let mut pending = self.in_phase(|phase| *phase == DevicePhase::Pending);
        pending.sort_by_key(|id| cohort("r", id));
        let (returned, new): (Vec<_>, Vec<_>) =
            pending.into_iter().partition(|id| self.rows[id].wave.is_some());
        let is_closed = self.plan.waves[wave as usize].size.until(0).is_none();
        let mut new: Vec<_> = new
            .into_iter()
            .filter(|id| self.wave_of(id).map_or(!is_closed, |of| of <= wave))
            .collect();
        new.truncate(to_open.new);
        let is_exhausted = new.len() < to_open.new;
        for id in returned.into_iter().take(to_open.returned).chain(new) {
            let wave = self.rows[&id].wave.or(Some(wave));
            let eligibility = self.eligibility(&id);
            self.device(&id, device::Event::Opened { wave, eligibility });
        }
        if is_exhausted {
            self.on(Event::Exhausted).ok();
        }
    }

    pub fn report(&mut self, id: &DeviceId, running: &str, update: U) {
        self.report_with(id, running, update, true);
    }

    fn report_with(&mut self, id: &DeviceId, running: &str, update: U, received_offer: bool) {
        let now_s = self.now_s;
        let Some(known) = self.known.get_mut(id) else { return };
        (known.running, known.update) = (Some(named(running)), update.clone());
        let is_of_offer = known.desired.as_ref().is_some_and(|desired| {
            Some(&desired.version) == update.target() && *desired != named(running)
        });
        let penalty = after_failure(known.penalty.as_ref(), &update, now_s);
        if received_offer && is_of_offer && penalty.is_some() {
            known.penalty = penalty;
        }
        let eligibility = self.eligibility(id);
        let running = named(running);
        let report = Reported { running, update, received_offer, eligibility };
        self.device(id, device::Event::Reported(report));
    }

    /// It installs what it is offered.
    pub fn obey(&mut self, id: &DeviceId) {
        let desired = self.known[id].desired.clone().unwrap();
        self.report(id, &desired.to_string(), U::Idle);
    }

    pub fn in_phase(&self, which: impl Fn(&DevicePhase) -> bool) -> Vec<DeviceId> {
        self.rows.iter().filter(|(_, row)| which(&row.phase)).map(|(id, _)| id.clone()).collect()
    }

    /// One chunk that has all devices.
    pub fn hold(&mut self) {
        if self.header.phase == Phase::Pausing {
            for id in self.rows.keys().cloned().collect::<Vec<_>>() {
                self.device(&id, device::Event::Paused);
            }
            self.on(Event::Paused).unwrap();
        }
    }

    pub fn check(&mut self, is_heard_of: impl Fn(&DeviceId) -> bool) {
        for id in self.rows.keys().cloned().collect::<Vec<_>>() {
            let seen_s = if is_heard_of(&id) { self.now_s } else { 0 };
            self.device(&id, device::Event::Checked { seen_s });
        }
        self.work();
    }

    pub fn act(&mut self, act: &Act) {
        match act {
            Act::Wait(s) => self.now_s += s,
            Act::Report(n, running, update) => {
                self.report(&id(*n), RUNNING[*running], updates(*update));
            }
            Act::Check(heard) if self.header.phase == Phase::Running => {
                let heard = u64::from(*heard);
                self.check(move |id| (cohort("heard", id) ^ heard) & 1 == 1);
            }
            Act::Check(_) => {}
            Act::Revoke(n) => self.device(&id(*n), device::Event::Revoked),
            Act::Pause => drop(self.on(Event::Pause)),
            Act::Hold => self.hold(),
            Act::Resume => self.resume(),
            Act::Next(over_gate) => self.next(*over_gate),
            Act::Answer(ago, may_begin) => self.answer(*ago, *may_begin),
            Act::Abort => drop(self.on(Event::Abort)),
            Act::Floor(is_on) => self.declare(*is_on),
            Act::Level(n, is_trusted) => self.appraise(&id(*n), *is_trusted),
        }
        self.work();
    }

    /// A report arrives twice. Returns whether its device was offered nothing meanwhile, and must run
    /// the same release next: the second is about another one otherwise.
    pub fn act_again(&mut self, act: &Act, before: &Self) -> bool {
        let mut is_same = true;
        if let Act::Report(n, running, update) = act {
            let offered = &self.offers[before.offers.len()..];
            let via = |of: &Self| of.rows.get(&id(*n)).map(|row| row.via.clone());
            is_same =
                offered.iter().all(|(_, device, _)| *device != id(*n)) && via(before) == via(self);
            self.report_with(&id(*n), RUNNING[*running], updates(*update), is_same);
        }
        self.work();
        is_same
    }

    /// Declares the floor, or ends it, and compares all devices with it.
    fn declare(&mut self, is_on: bool) {
        self.paths = floors(is_on);
        if matches!(self.header.phase, Phase::Running | Phase::Paused) {
            for id in self.rows.keys().cloned().collect::<Vec<_>>() {
                let eligibility = self.eligibility(&id);
                self.device(&id, device::Event::Appraised(eligibility));
            }
        }
    }

    fn appraise(&mut self, id: &DeviceId, is_trusted: bool) {
        let Some(known) = self.known.get_mut(id) else { return };
        known.level = if is_trusted { Level::Token } else { Level::SelfReported };
        if matches!(self.header.phase, Phase::Running | Phase::Paused) {
            let eligibility = self.eligibility(id);
            self.device(id, device::Event::Appraised(eligibility));
        }
    }

    fn counted(&self) -> Counts {
        let of = |c| self.rows.values().filter(|row| row.phase.category() == c).count();
        Counts {
            total: self.rows.len(),
            succeeded: of(Category::Succeeded),
            failed: of(Category::Failed),
            moving: of(Category::Moving),
            unconfirmed: of(Category::Unconfirmed),
            pending: of(Category::Pending),
            queued: of(Category::Queued),
            unreached: of(Category::Unreached),
        }
    }

    /// What must be true whatever happened.
    pub fn judge(&self, before: &Self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.header.counts, self.counted());
        let new = &self.offers[before.offers.len()..];
        for (group, counted) in &self.groups {
            let in_use = self.rows.values().filter(|row| row.group.as_ref() == Some(group));
            let in_use = in_use.filter(|row| row.phase.uses_place()).count();
            prop_assert_eq!(counted.in_use, in_use, "rack {}", group);
            let budget = self.plan.budget.as_ref().unwrap();
            let is_offered = new.iter().any(|(_, device, _)| Self::rack(device) == *group);
            prop_assert!(!is_offered || in_use <= budget.capacity(counted.total), "rack {group}");
        }
        for (_, device, offered) in new {
            let known = &self.known[device];
            let floor = self
                .paths
                .floor(known.running.as_ref().map(|running| &running.version), &release().version);
            let next = floor.map_or_else(release, |floor| floor.release.clone());
            prop_assert_eq!(offered, &next, "{} runs {:?}", device, known.running);
            prop_assert!(Policy::usual().may_update(known.level), "{device} is not trusted");
        }
        let taken: BTreeSet<_> = self.rows.values().filter_map(|row| row.wave).collect();
        prop_assert!(
            self.plan.gate.is_none() || taken.is_subset(&self.allowed),
            "waves {taken:?} have devices, and the gate allowed {:?}",
            self.allowed
        );
        if let Some(max) = self.plan.moving_max {
            prop_assert!(new.is_empty() || self.header.counts.in_flight() <= max);
        }
        if let Some(Rate { devices, per_s }) = self.plan.rate {
            for (from_s, ..) in &self.offers {
                let period = *from_s..from_s + per_s;
                let offers = self.offers.iter().filter(|(at_s, ..)| period.contains(at_s)).count();
                prop_assert!(offers <= 2 * devices, "{} offers in a period", offers);
            }
        }
        for row in self.rows.values() {
            prop_assert!(row.retries <= self.plan.retries);
        }
        let is_stopped = matches!(before.header.phase, Phase::Paused)
            && matches!(self.header.phase, Phase::Paused);
        prop_assert!(!is_stopped || new.is_empty(), "a paused rollout moves nobody");
        if before.header.phase.is_terminal() {
            prop_assert_eq!(&self.header, &before.header);
            prop_assert_eq!(&self.rows, &before.rows);
            prop_assert!(new.is_empty());
        }
        for (id, row) in &before.rows {
            prop_assert!(!row.phase.is_finished() || *row == self.rows[id]);
        }
        Ok(())
    }
}
