use super::*;
use crate::id::{DeviceId, ReleaseName};
use crate::rollout::budget::Room;
use crate::rollout::cohort::cohort;
use crate::rollout::device::{self, Device, Reported};
use crate::rollout::header::{self, Event, Header};
use crate::rollout::plan::{OnError, Rate};
use crate::rollout::{Ctx, DevicePhase, Eligibility, Limits, Phase, Proof};
use crate::update::{self, State as U};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A server: rows and header in memory, one step for each thing that happens.
#[derive(Debug, Clone)]
struct Server {
    plan: Plan,
    is_urgent: bool,
    header: Header,
    rows: BTreeMap<DeviceId, Device>,
    now_s: u64,
    offers: Vec<u64>,
}

fn id(n: usize) -> DeviceId {
    format!("d{n}").parse().unwrap()
}

fn plan(sizes: &[&str]) -> Plan {
    let wave =
        |size: &&str| Wave { size: size.parse().unwrap(), start: Start::AfterSuccess, soak_s: 0 };
    Plan::of(sizes.iter().map(wave).collect())
}

fn usual() -> Eligibility {
    Eligibility {
        may_update: true,
        is_held: false,
        again_s: None,
        via: None,
        proof: Proof::NotAsked,
    }
}

impl Server {
    fn ctx<'a>(&'a self, release: &'a ReleaseName) -> Ctx<'a> {
        let (plan, limits) = (Some(&self.plan), Limits { devices_max: 1000 });
        let ctx = Ctx {
            now_s: self.now_s,
            release,
            limits,
            plan,
            is_urgent: self.is_urgent,
            may_offer: false,
            room: Room::Free,
        };
        Ctx { may_offer: header::may_offer(&self.header, &ctx) > 0, ..ctx }
    }

    fn start(plan: Plan, devices: usize) -> Self {
        Self::start_as(plan, devices, false)
    }

    fn start_as(plan: Plan, devices: usize, is_urgent: bool) -> Self {
        let (header, rows) = (Header::default(), BTreeMap::new());
        let (now_s, offers) = (1_000_000, Vec::new());
        let mut server = Self { plan, is_urgent, header, rows, now_s, offers };
        server.on(Event::Start { devices }).unwrap();
        (0..devices).for_each(|n| server.join(n));
        server.on(Event::Started).unwrap();
        server.work();
        server
    }

    fn on(&mut self, event: Event) -> Result<(), header::Rejected> {
        let release = "kiosk@2".parse().unwrap();
        let (header, _) = header::step(&self.header, event, &self.ctx(&release))?;
        self.header = header;
        Ok(())
    }

    fn join(&mut self, n: usize) {
        let release = "kiosk@2".parse().unwrap();
        let (device, _) = device::join(&usual(), &self.ctx(&release));
        let category = device.phase.category();
        if !self.rows.contains_key(&id(n)) && self.on(Event::Added(category)).is_ok() {
            self.rows.insert(id(n), device);
        }
    }

    fn device(&mut self, id: &DeviceId, event: device::Event) {
        let release = "kiosk@2".parse().unwrap();
        let Some(before) = self.rows.get(id).cloned() else { return };
        let Ok((after, effects)) = device::step(&before, event, &self.ctx(&release)) else {
            return;
        };
        let (from, to) = (before.phase.category(), after.phase.category());
        let event = if before.wave.is_none() && after.wave.is_some() {
            Event::Opened(to)
        } else {
            Event::Moved { wave: after.wave, from, to }
        };
        if self.on(event).is_ok() {
            if effects.contains(&device::Effect::Offer) {
                self.offers.push(self.now_s);
            }
            self.rows.insert(id.clone(), after);
        }
    }

    /// What the task of a server does until nothing is due.
    fn work(&mut self) {
        let release = "kiosk@2".parse().unwrap();
        for _ in 0..1000 {
            match self.header.phase {
                Phase::Pausing => return,
                Phase::Running if header::due_s(&self.header, &self.ctx(&release)).is_none() => {
                    return;
                }
                Phase::Running => {}
                _ => return,
            }
            if header::due_s(&self.header, &self.ctx(&release)).unwrap() > self.now_s {
                return;
            }
            self.on(Event::Tick).unwrap();
            self.open();
            if header::is_check_due(&self.header, self.now_s) {
                self.on(Event::Checked).unwrap();
            }
        }
        panic!("the server works for ever: {:?}", self.header);
    }

    fn open(&mut self) {
        let release = "kiosk@2".parse().unwrap();
        let to_open = header::to_open(&self.header, &self.ctx(&release));
        let wave = self.header.waves.as_ref().unwrap().current;
        let mut pending: Vec<_> =
            self.rows.iter().filter(|(_, row)| row.phase == DevicePhase::Pending).collect();
        pending.sort_by_key(|(id, _)| cohort("r", id));
        let returned = pending.iter().filter(|(_, row)| row.wave.is_some()).take(to_open.returned);
        let returned: Vec<_> = returned.map(|(id, row)| ((*id).clone(), row.wave)).collect();
        let is_list = matches!(self.plan.waves[wave as usize].size, Size::List { .. });
        let new = pending.iter().filter(|(id, row)| {
            row.wave.is_none()
                && match self.plan.wave_of(id) {
                    Some(of) => of <= wave,
                    None => !is_list,
                }
        });
        let new: Vec<_> =
            new.take(to_open.new).map(|(id, _)| ((*id).clone(), Some(wave))).collect();
        let is_exhausted = new.len() < to_open.new;
        for (id, wave) in returned.into_iter().chain(new) {
            let event = device::Event::Opened { wave, eligibility: usual() };
            self.device(&id, event);
        }
        if is_exhausted {
            self.on(Event::Exhausted).ok();
        }
    }

    fn report(&mut self, id: &DeviceId, running: &str, update: U) {
        let report = Reported {
            running: running.parse().unwrap(),
            update,
            received_offer: true,
            eligibility: usual(),
        };
        self.device(id, device::Event::Reported(report));
    }

    fn succeed(&mut self, id: &DeviceId) {
        self.report(id, "kiosk@2", U::Idle);
        self.work();
    }

    fn fail(&mut self, id: &DeviceId) {
        let target = "2".parse().unwrap();
        self.report(id, "kiosk@1", U::Failed { target, code: update::FailureCode::StageFailed });
        self.work();
    }

    fn in_phase(&self, phase: &DevicePhase) -> Vec<DeviceId> {
        let rows = self.rows.iter().filter(|(_, row)| row.phase == *phase);
        rows.map(|(id, _)| id.clone()).collect()
    }

    fn offered(&self) -> Vec<DeviceId> {
        self.in_phase(&DevicePhase::Offered)
    }

    /// One chunk that has all devices.
    fn hold(&mut self) {
        if self.header.phase == Phase::Pausing {
            for n in self.rows.keys().cloned().collect::<Vec<_>>() {
                self.device(&n, device::Event::Paused);
            }
            self.on(Event::Paused).unwrap();
        }
    }

    fn check(&mut self, is_heard_of: impl Fn(&DeviceId) -> bool) {
        for id in self.rows.keys().cloned().collect::<Vec<_>>() {
            let seen_s = if is_heard_of(&id) { self.now_s } else { 0 };
            self.device(&id, device::Event::Checked { seen_s });
        }
        self.on(Event::Checked).ok();
        self.work();
    }

    fn wave(&self) -> (u32, Stage) {
        let waves = self.header.waves.as_ref().unwrap();
        (waves.current, waves.stage)
    }
}

#[test]
fn the_first_device_is_alone_until_it_has_succeeded_and_soaked() {
    let mut plan = plan(&["1", "50%", "100%"]);
    plan.waves[0].soak_s = 600;
    let mut server = Server::start(plan, 9);
    let first = server.offered();
    let lowest = server.rows.keys().min_by_key(|id| cohort("r", id)).unwrap().clone();
    assert_eq!(first, [lowest]);
    server.succeed(&first[0]);
    assert_eq!(server.wave(), (0, Stage::Soaking { until_s: server.now_s + 600 }));
    server.now_s += 599;
    server.work();
    assert_eq!(server.offered().len(), 0);
    server.now_s += 1;
    server.work();
    // Half of 9, rounded up, with the first.
    assert_eq!((server.wave().0, server.offered().len()), (1, 4));
    for id in server.offered() {
        server.succeed(&id);
    }
    assert_eq!((server.wave().0, server.offered().len()), (2, 4));
    for id in server.offered() {
        server.succeed(&id);
    }
    assert_eq!(server.header.phase, Phase::Succeeded);
}

#[test]
fn too_many_errors_pause_a_rollout_and_withdraw_its_offers_until_somebody_accepts_them() {
    let mut plan = plan(&["4", "100%"]);
    plan.errors_max = ErrorsMax::Count { devices: 1 };
    let mut server = Server::start(plan, 9);
    let offered = server.offered();
    server.fail(&offered[0]);
    assert_eq!(server.header.phase, Phase::Running, "one error is accepted");
    server.fail(&offered[1]);
    assert_eq!(server.header.phase, Phase::Pausing);
    server.hold();
    assert_eq!((server.header.phase, server.offered().len()), (Phase::Paused, 0));
    let errors = server.header.waves.as_ref().unwrap().errors;
    assert_eq!(errors, Some(Errors { failed: 2, finished: 2 }));
    // Devices that were offered the release and are back do not get it.
    server.report(&offered[2], "kiosk@1", U::Idle);
    assert_eq!(server.rows[&offered[2]].phase, DevicePhase::Pending);
    server.on(Event::Resume).unwrap();
    server.work();
    assert_eq!(server.offered(), offered[2..]);
    server.fail(&offered[2]);
    assert_eq!(server.header.phase, Phase::Running, "two errors are accepted, and one more");
    server.fail(&offered[3]);
    assert_eq!(server.header.phase, Phase::Pausing);
}

#[test]
fn a_percentage_counts_from_the_smallest_sample_on_or_when_the_wave_is_complete() {
    let mut large = plan(&["100%"]);
    (large.errors_max, large.sample_min) = (ErrorsMax::Percent { percent: 20 }, 5);
    let mut server = Server::start(large, 20);
    let offered = server.offered();
    server.fail(&offered[0]);
    server.fail(&offered[1]);
    server.succeed(&offered[2]);
    server.succeed(&offered[3]);
    assert_eq!(server.header.phase, Phase::Running, "2 of 4 is no sample yet");
    server.succeed(&offered[4]);
    assert_eq!(server.header.phase, Phase::Pausing, "2 of 5");

    let mut small = plan(&["1", "100%"]);
    small.errors_max = ErrorsMax::Percent { percent: 20 };
    small.on_error = OnError::Abort;
    let mut server = Server::start(small, 20);
    let offered = server.offered();
    server.fail(&offered[0]);
    assert_eq!(server.header.phase, Phase::Aborting, "the wave is complete: 1 of 1");
}

#[test]
fn an_unreached_device_stops_nobody_and_another_one_takes_its_place() {
    let mut server = Server::start(plan(&["1", "100%"]), 3);
    let first = server.offered();
    server.now_s += 900;
    server.check(|_| false);
    assert_eq!(server.in_phase(&DevicePhase::Unreached), first);
    let second = server.offered();
    assert!(second.len() == 1 && second != first);
    server.succeed(&second[0]);
    let third = server.offered();
    assert_eq!((server.wave().0, third.len()), (1, 1));
    server.succeed(&third[0]);
    assert_eq!(server.header.phase, Phase::Succeeded);
    assert_eq!(server.header.counts.unreached, 1);
}

#[test]
fn a_rollout_that_reaches_nobody_does_not_succeed() {
    let mut server = Server::start(plan(&["1", "100%"]), 3);
    for _ in 0..4 {
        server.now_s += 900;
        server.check(|_| false);
    }
    assert_eq!((server.header.phase, server.header.counts.unreached), (Phase::Running, 3));
    let back = id(1);
    server.report(&back, "kiosk@1", U::Idle);
    assert_eq!(server.offered(), std::slice::from_ref(&back));
    server.succeed(&back);
    assert_eq!(server.header.phase, Phase::Succeeded);
}

#[test]
fn a_device_that_falls_silent_after_it_started_is_an_error() {
    let mut plan = plan(&["2", "100%"]);
    plan.errors_max = ErrorsMax::Count { devices: 0 };
    let mut server = Server::start(plan, 4);
    let offered = server.offered();
    let target: crate::id::Version = "2".parse().unwrap();
    server.report(&offered[0], "kiosk@1", U::Armed { target });
    server.now_s += 3600;
    let other = offered[1].clone();
    server.check(|id| *id == other);
    assert_eq!(server.rows[&offered[0]].phase, DevicePhase::Silent);
    assert_eq!(server.header.phase, Phase::Pausing);
    server.hold();
    // It returns, and did what it was asked to.
    server.succeed(&offered[0]);
    assert_eq!((server.header.counts.succeeded, server.header.counts.failed), (1, 0));
}

#[test]
fn waves_start_at_their_time_or_by_hand_and_never_while_devices_update() {
    let mut plan = plan(&["1", "2", "100%"]);
    plan.waves[1].start = Start::At { time_s: 2_000_000 };
    plan.waves[2].start = Start::ByHand;
    let mut server = Server::start(plan, 5);
    let first = server.offered();
    assert_eq!(
        server.on(Event::Next { over_gate: false }),
        Err(header::Rejected::NotDue { devices: 1 })
    );
    server.succeed(&first[0]);
    assert_eq!(server.wave(), (1, Stage::Due));
    server.now_s = 2_000_000;
    server.work();
    let second = server.offered();
    assert_eq!(second.len(), 1);
    server.succeed(&second[0]);
    server.now_s += 1_000_000;
    server.work();
    assert_eq!((server.wave(), server.offered().len()), ((2, Stage::Due), 0));
    server.on(Event::Next { over_gate: false }).unwrap();
    server.work();
    assert_eq!(server.offered().len(), 3);
}

#[test]
fn listed_devices_come_in_their_wave_and_in_no_earlier_one() {
    let mut server = Server::start(plan(&["2", "devices:d0,d1,d2,d9", "100%"]), 6);
    let first = server.offered();
    assert!(first.len() == 2 && first.iter().all(|id| ![0, 1, 2].map(self::id).contains(id)));
    first.iter().for_each(|id| server.succeed(id));
    assert_eq!(server.offered(), [0, 1, 2].map(id));
    [0, 1, 2].map(id).iter().for_each(|id| server.succeed(id));
    assert_eq!((server.wave().0, server.offered().len()), (2, 1));
}

#[test]
fn a_device_that_enrolls_later_joins_the_wave_that_is_current_then() {
    let mut server = Server::start(plan(&["1", "100%"]), 2);
    let first = server.offered();
    server.succeed(&first[0]);
    server.join(7);
    server.work();
    assert_eq!(server.rows[&id(7)].wave, Some(1));
    assert!(server.offered().contains(&id(7)));
}

#[derive(Debug, Clone)]
enum Act {
    Wait(u64),
    Join(usize),
    Report(usize, bool, usize),
    Check(u32),
    Pause,
    Hold,
    Resume,
    Next,
    Abort,
}

fn updates(n: usize) -> U {
    let target: crate::id::Version = "2".parse().unwrap();
    let reason = update::RollbackReason::Health { evidence: "x".into() };
    match n {
        0 => U::Idle,
        1 => U::Staging { target, attempt: 1 },
        2 => U::Armed { target },
        3 => U::Trying { target },
        4 => U::RolledBack { target, reason },
        _ => U::Failed { target, code: update::FailureCode::StageFailed },
    }
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0u64..2000).prop_map(Act::Wait),
        1 => (0usize..16).prop_map(Act::Join),
        14 => (0usize..16, any::<bool>(), 0usize..6).prop_map(|(n, new, u)| Act::Report(n, new, u)),
        2 => any::<u32>().prop_map(Act::Check),
        1 => Just(Act::Pause),
        2 => Just(Act::Hold),
        2 => Just(Act::Resume),
        1 => Just(Act::Next),
        1 => Just(Act::Abort),
    ]
}

fn plans() -> impl Strategy<Value = Plan> {
    let sizes = prop_oneof![
        Just(&["100%"][..]),
        Just(&["1", "100%"][..]),
        Just(&["1", "30%", "4", "100%"][..]),
        Just(&["devices:d1,d14", "50%", "100%"][..]),
    ];
    let limits = (prop::option::of(1usize..4), prop::option::of((1usize..4, 1u64..1000)));
    let errors = prop_oneof![
        (0usize..3).prop_map(|devices| ErrorsMax::Count { devices }),
        (0u8..60).prop_map(|percent| ErrorsMax::Percent { percent }),
    ];
    let stops = prop_oneof![Just(OnError::Pause), Just(OnError::Abort), Just(OnError::RollBack)];
    let errors = (errors, stops);
    (sizes, limits, errors, 1usize..4, 0u64..300, any::<bool>()).prop_map(
        |(sizes, (moving_max, rate), (errors_max, on_error), sample_min, soak_s, is_by_hand)| {
            let mut plan = plan(sizes);
            plan.waves[0].soak_s = soak_s;
            if is_by_hand && let Some(last) = plan.waves.last_mut() {
                last.start =
                    if soak_s.is_multiple_of(2) { Start::ByHand } else { Start::ByApproval };
            }
            let rate = rate.map(|(devices, per_s)| Rate { devices, per_s });
            Plan { errors_max, on_error, sample_min, moving_max, rate, ..plan }
        },
    )
}

impl Server {
    fn act(&mut self, act: &Act) {
        match act {
            Act::Wait(s) => self.now_s += s,
            Act::Join(n) => self.join(*n),
            Act::Report(n, is_new, update) => {
                let running = if *is_new { "kiosk@2" } else { "kiosk@1" };
                self.report(&id(*n), running, updates(*update));
            }
            Act::Check(mask) => {
                let heard = *mask;
                self.check(move |id| (cohort("heard", id) ^ u64::from(heard)) & 1 == 1);
            }
            Act::Pause => drop(self.on(Event::Pause)),
            Act::Hold => self.hold(),
            Act::Resume => drop(self.on(Event::Resume)),
            Act::Next => drop(self.on(Event::Next { over_gate: false })),
            Act::Abort => drop(self.on(Event::Abort)),
        }
        self.work();
    }

    fn counted<'a>(rows: impl Iterator<Item = &'a Device> + Clone) -> Counts {
        let of = |c| rows.clone().filter(|row| row.phase.category() == c).count();
        Counts {
            total: rows.clone().count(),
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
    fn judge(&self, before: &Self, errors_at_resume: usize) -> Result<(), TestCaseError> {
        let waves = self.header.waves.as_ref().unwrap();
        prop_assert_eq!(self.header.counts, Self::counted(self.rows.values()));
        for (n, counts) in (0u32..).zip(&waves.counts) {
            let rows = self.rows.values().filter(|row| row.wave == Some(n));
            prop_assert_eq!(*counts, Self::counted(rows), "wave {}", n);
        }
        let new = self.offers.len() - before.offers.len();
        let in_flight = self.header.counts.in_flight();
        if let Some(max) = self.plan.moving_max {
            prop_assert!(new == 0 || in_flight <= max, "{} at the same time", in_flight);
        }
        if let Some(Rate { devices, per_s }) = self.plan.rate {
            for from_s in &self.offers {
                let period = *from_s..from_s + per_s;
                let offers = self.offers.iter().filter(|at_s| period.contains(at_s)).count();
                prop_assert!(offers <= 2 * devices, "{} offers in a period", offers);
            }
        }
        if let ErrorsMax::Count { devices } = self.plan.errors_max
            && matches!(self.header.phase, Phase::Running | Phase::Succeeded)
        {
            let errors = self.header.counts.failed.saturating_sub(errors_at_resume);
            prop_assert!(errors <= devices, "{} errors", errors);
        }
        if matches!(before.header.phase, Phase::Paused) && self.header.phase == Phase::Paused {
            prop_assert_eq!(new, 0, "a paused rollout moves nobody");
        }
        if self.header.phase.is_terminal() {
            prop_assert!(new == 0 || !before.header.phase.is_terminal());
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn limits_budgets_and_thresholds_hold_whatever_happens(
        plan in plans(),
        is_urgent: bool,
        acts in prop::collection::vec(acts(), 0..60),
    ) {
        let mut server = Server::start_as(plan, 12, is_urgent);
        let mut errors_at_resume = 0;
        for act in acts {
            let before = server.clone();
            server.act(&act);
            if matches!(act, Act::Resume) && before.header.phase == Phase::Paused {
                errors_at_resume = before.header.counts.failed;
            }
            errors_at_resume = errors_at_resume.min(server.header.counts.failed);
            server.judge(&before, errors_at_resume)?;
            if before.header.phase.is_terminal() {
                prop_assert_eq!(&server.header, &before.header);
                prop_assert_eq!(&server.rows, &before.rows);
            }
            // The task runs again after a crash: nothing happens twice.
            let again = { let mut again = server.clone(); again.work(); again };
            prop_assert_eq!(&again.rows, &server.rows);
        }
    }
}
