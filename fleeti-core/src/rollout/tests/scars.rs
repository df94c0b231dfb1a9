//! What went wrong in other systems, in public, and must not go wrong here.

use super::plan;
use super::server::{RELEASE, Server, id};
use crate::rollout::cohort::cohort;
use crate::rollout::header::Event;
use crate::rollout::plan::{ErrorsMax, Plan};
use crate::rollout::{DevicePhase, Phase};
use crate::update::State as U;

/// A second rollout of the release that a device has pending already was counted as a success at
/// once: nothing had to be sent. Here only the running release is one.
#[test]
fn a_device_that_has_the_release_pending_is_no_success_of_another_rollout() {
    let mut server = Server::start(plan(&["100%"]), 1, false);
    let target = "3".parse().unwrap();
    server.report(&id(0), "kiosk@1", U::Staged { target, arm_attempts: 0 });
    server.work();
    assert_eq!(server.rows[&id(0)].phase, DevicePhase::Staged);
    assert_eq!((server.header.phase, server.header.counts.succeeded), (Phase::Running, 0));
}

/// The commit of an update succeeded, its report was lost, and the device rebooted by itself: the
/// server took it for failed. Here the report that comes later, or twice, counts once.
#[test]
fn a_success_that_is_reported_late_and_twice_counts_once() {
    let errors_max = ErrorsMax::Count { devices: 1 };
    let mut server = Server::start(Plan { errors_max, ..plan(&["100%"]) }, 2, false);
    server.report(&id(0), "kiosk@1", Server::armed());
    server.now_s += 3600;
    server.check(|device| *device == id(1));
    assert_eq!(server.header.counts.failed, 1, "silent");
    for _ in 0..2 {
        server.report(&id(0), RELEASE, U::Idle);
        server.work();
    }
    assert_eq!((server.header.counts.succeeded, server.header.counts.failed), (1, 0));
}

/// A device that fell silent during its update was `running` for ever, and so was its rollout.
#[test]
fn a_device_that_falls_silent_ends_as_an_error_and_the_rollout_with_it() {
    let mut server = Server::start(plan(&["100%"]), 2, false);
    server.report(&id(0), "kiosk@1", Server::armed());
    server.report(&id(1), RELEASE, U::Idle);
    server.now_s += 3600;
    server.check(|_| false);
    assert_eq!(server.rows[&id(0)].phase, DevicePhase::Silent);
    assert_eq!(server.header.phase, Phase::Pausing);
}

/// Errors were a part of the whole group, so that a first group that was mostly offline stopped
/// nothing. Here they are a part of the devices that have finished.
#[test]
fn one_error_of_a_group_that_is_mostly_offline_stops_the_rollout() {
    let errors_max = ErrorsMax::Percent { percent: 20 };
    let plan = Plan { errors_max, sample_min: 1, ..plan(&["10", "100%"]) };
    let mut server = Server::start(plan, 12, false);
    let first = server.in_phase(|phase| *phase == DevicePhase::Offered);
    server.report(&first[0], "kiosk@1", Server::failed());
    server.work();
    assert_eq!(server.header.phase, Phase::Pausing, "1 of 1 has failed, not 1 of 10");
}

/// The same devices were first in every rollout, because their place was computed from their id
/// alone.
#[test]
fn another_rollout_begins_with_other_devices() {
    let first = |rollout: &str| (0..50).map(id).min_by_key(|id| cohort(rollout, id)).unwrap();
    let all: std::collections::BTreeSet<_> = (0..20).map(|n| first(&format!("r{n}"))).collect();
    assert!(all.len() > 10, "{all:?}");
}

/// A version that had failed was installed again and again. Here a device that rolled it back keeps
/// what it runs, also when the rollout is resumed or another wave begins.
#[test]
fn a_version_that_was_rolled_back_is_not_offered_again_by_the_same_rollout() {
    let mut server = Server::start(Plan { retries: 9, ..plan(&["100%"]) }, 2, false);
    server.report(&id(0), "kiosk@1", Server::rolled_back());
    server.hold();
    server.on(Event::Resume).unwrap();
    server.work();
    for _ in 0..3 {
        server.report(&id(0), "kiosk@1", Server::rolled_back());
        server.now_s += 100_000;
        server.work();
    }
    let offers = server.offers.iter().filter(|(_, device, _)| *device == id(0)).count();
    assert_eq!(offers, 1);
}

/// A rollout said that it had stopped, and devices that were offline updated when they came back.
#[test]
fn a_device_that_returns_to_a_paused_rollout_is_offered_nothing() {
    let mut server = Server::start(plan(&["100%"]), 2, false);
    server.on(Event::Pause).unwrap();
    server.hold();
    let before = server.offers.len();
    for _ in 0..2 {
        server.report(&id(0), "kiosk@1", U::Idle);
        server.work();
    }
    assert_eq!((server.offers.len(), server.header.phase), (before, Phase::Paused));
    assert_eq!(server.known[&id(0)].desired, None);
}
