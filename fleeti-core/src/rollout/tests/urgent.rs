//! An urgent rollout: how fast it is, and what it does not skip.

use super::plan;
use super::server::{Act, RELEASE, Server};
use crate::id::DeviceId;
use crate::rollout::cohort::cohort;
use crate::rollout::plan::{ErrorsMax, Plan};
use crate::rollout::{DevicePhase, Phase};
use crate::update::State as U;
use crate::windows::{Device, Job, Local, Windows};
use std::collections::BTreeMap;

const DEVICES: usize = 10_000;
/// Device time between two looks of the simulated devices, seconds.
const LOOK_S: u64 = 60;
const HOUR_S: u64 = 3600;

/// What a simulated device does next, and when the step before is done.
#[derive(Debug, Clone, Copy)]
struct Doing {
    job: Job,
    done_s: u64,
}

/// Devices that update as agents do: each job begins when their windows, and what their desired
/// state says of these, permit.
struct Fleet {
    server: Server,
    windows: Windows,
    doing: BTreeMap<DeviceId, Doing>,
}

/// A number of 0 to 99 that a device always has.
fn percent_of(id: &DeviceId) -> u64 {
    cohort("kind", id) % 100
}

fn is_offline(id: &DeviceId) -> bool {
    percent_of(id) < 3
}

fn is_broken(id: &DeviceId) -> bool {
    percent_of(id) == 99
}

impl Fleet {
    /// Windows that opened an hour ago, and open again in a day; waves that soak for a day.
    fn start(is_urgent: bool) -> Self {
        let mut plan = Plan {
            errors_max: ErrorsMax::Percent { percent: 5 },
            ..plan(&["1", "1%", "10%", "100%"])
        };
        plan.waves.iter_mut().for_each(|wave| wave.soak_s = 24 * HOUR_S);
        let lines = vec!["10:00-11:00".parse().unwrap()];
        let (download, install, reboot) = (lines.clone(), lines.clone(), lines);
        let windows = Windows { download, install, reboot, ..Windows::default() };
        let server = Server::start_as(plan, DEVICES, false, is_urgent);
        Self { server, windows, doing: BTreeMap::new() }
    }

    fn may(&self, id: &DeviceId, job: Job) -> bool {
        // What the server puts into the desired state with the offer of an urgent rollout.
        let is_urgent = self.server.is_urgent && self.server.known[id].desired.is_some();
        let at = Local { now_s: self.server.now_s, zone: "Etc/UTC" };
        let skip_until_s = is_urgent.then_some(u64::MAX);
        let device = Device { at, is_clock_right: true, blocked_since_s: None, skip_until_s };
        self.windows.wait(job, device).is_none()
    }

    /// How long a job takes on a device, seconds.
    fn takes_s(id: &DeviceId, job: Job) -> u64 {
        match job {
            Job::Download => 120 + percent_of(id) * 8,
            Job::Install => 30,
            // With the health checks.
            Job::Reboot => 300,
        }
    }

    fn begin(&mut self, id: &DeviceId, job: Job) {
        let done_s = self.server.now_s + Self::takes_s(id, job);
        self.doing.insert(id.clone(), Doing { job, done_s });
    }

    /// A device looks whether it may begin its next job.
    fn go_on(&mut self, id: &DeviceId) {
        let target = || RELEASE.parse::<crate::id::ReleaseName>().unwrap().version;
        let Some(doing) = self.doing.get(id).copied() else {
            if self.may(id, Job::Download) {
                self.begin(id, Job::Download);
                let update = U::Staging { target: target(), attempt: 1 };
                self.server.report(id, "kiosk@1", update);
            }
            return;
        };
        if doing.done_s > self.server.now_s {
            return;
        }
        match doing.job {
            Job::Download if self.may(id, Job::Install) => self.begin(id, Job::Install),
            Job::Install if self.may(id, Job::Reboot) => {
                self.server.report(id, "kiosk@1", U::Armed { target: target() });
                self.begin(id, Job::Reboot);
            }
            Job::Reboot if is_broken(id) => {
                self.server.report(id, "kiosk@1", Server::rolled_back());
            }
            Job::Reboot => self.server.report(id, RELEASE, U::Idle),
            Job::Download | Job::Install => {}
        }
    }

    /// Lets this much device time pass.
    fn pass(&mut self, seconds: u64) {
        let end_s = self.server.now_s + seconds;
        while self.server.now_s < end_s && self.server.header.phase == Phase::Running {
            self.server.now_s += LOOK_S;
            let moving = self.server.in_phase(|phase| {
                let offered = DevicePhase::Offered;
                *phase == offered || matches!(phase, DevicePhase::Staging | DevicePhase::Rebooting)
            });
            for id in moving.iter().filter(|id| !is_offline(id)) {
                self.go_on(id);
            }
            self.server.check(|id| !is_offline(id));
        }
    }

    fn succeeded(&self) -> usize {
        self.server.header.counts.succeeded
    }
}

#[test]
fn ninety_five_of_a_hundred_devices_run_an_urgent_release_within_two_hours() {
    let mut fleet = Fleet::start(true);
    fleet.pass(2 * HOUR_S);
    let counts = fleet.server.header.counts;
    assert_eq!(counts.total, DEVICES);
    assert!(fleet.succeeded() * 100 >= DEVICES * 95, "{counts:?}");
    assert!(counts.failed > 0, "broken devices are errors still: {counts:?}");
}

#[test]
fn without_urgency_the_same_devices_wait_for_their_windows() {
    let mut fleet = Fleet::start(false);
    fleet.pass(2 * HOUR_S);
    assert_eq!(fleet.succeeded(), 0, "{:?}", fleet.server.header.counts);
}

/// The first device is alone, and its failure stops an urgent rollout as any other.
#[test]
fn an_urgent_rollout_stops_at_the_first_device_that_fails() {
    let mut server = Server::start_as(plan(&["1", "100%"]), 12, false, true);
    let first = server.in_phase(|phase| *phase == DevicePhase::Offered);
    assert_eq!(first.len(), 1);
    server.report(&first[0], "kiosk@1", Server::rolled_back());
    server.now_s += 1_000_000;
    server.work();
    assert_eq!(server.header.phase, Phase::Pausing);
    assert_eq!(server.offers.len(), 1);
}

#[test]
fn an_urgent_rollout_does_not_soak_and_still_waits_for_what_people_begin() {
    let mut plan = plan(&["1", "2", "100%"]);
    plan.waves.iter_mut().for_each(|wave| wave.soak_s = 24 * HOUR_S);
    plan.waves[2].start = crate::rollout::plan::Start::ByApproval;
    let mut server = Server::start_as(plan, 12, false, true);
    for offers in [1, 2] {
        let offered = server.in_phase(|phase| *phase == DevicePhase::Offered);
        assert_eq!((offered.len(), server.offers.len()), (1, offers));
        server.obey(&offered[0]);
        server.work();
    }
    server.now_s += 1_000_000;
    server.work();
    assert_eq!(server.offers.len(), 2);
    server.act(&Act::Next(false));
    assert_eq!(server.offers.len(), 12);
}
