//! Floors, blocked ways and retries, one step after the other.

use super::plan;
use super::server::{FLOOR, RELEASE, Server, id};
use crate::attestation::policy::Policy;
use crate::rollout::gates::{
    Blocked, Facts, Gate, GateState, Paths, ReleaseFacts, ReleasePath, Source, Target,
    first_closed, list,
};
use crate::rollout::plan::{ErrorsMax, Plan};
use crate::rollout::{DevicePhase, Phase};
use crate::update::State as U;

#[test]
fn a_device_below_a_floor_gets_the_floor_first_and_goes_on_by_itself() {
    let mut server = Server::start(plan(&["100%"]), 1, true);
    let device = id(0);
    assert_eq!(server.known[&device].desired, Some(FLOOR.parse().unwrap()));
    let target = "2".parse().unwrap();
    server.report(&device, "kiosk@1", U::Armed { target });
    assert_eq!(server.rows[&device].phase, DevicePhase::Rebooting);
    let target = "2".parse().unwrap();
    server.report(&device, FLOOR, U::Trying { target });
    assert_eq!(server.rows[&device].phase, DevicePhase::Trying);
    server.report(&device, FLOOR, U::Idle);
    server.work();
    assert_eq!(server.known[&device].desired, Some(RELEASE.parse().unwrap()));
    assert_eq!(server.header.counts.succeeded, 0, "the floor is no success");
    server.report(&device, RELEASE, U::Idle);
    assert_eq!(server.header.phase, Phase::Succeeded);
    let offered: Vec<_> = server.offers.iter().map(|(_, _, offered)| offered.to_string()).collect();
    assert_eq!(offered, [FLOOR, RELEASE]);
}

#[test]
fn a_floor_that_fails_is_an_error_and_the_release_is_not_offered_instead() {
    let mut server = Server::start(plan(&["100%"]), 1, true);
    let target = "2".parse().unwrap();
    let code = crate::update::FailureCode::StageFailed;
    server.report(&id(0), "kiosk@1", U::Failed { target, code });
    server.now_s += 1_000_000;
    server.work();
    assert_eq!(server.header.phase, Phase::Pausing);
    assert_eq!(server.offers.len(), 1);
}

#[test]
fn a_floor_that_is_declared_meanwhile_takes_the_offer_back_first() {
    let mut server = Server::start(plan(&["100%"]), 1, false);
    assert_eq!(server.known[&id(0)].desired, Some(RELEASE.parse().unwrap()));
    server.act(&super::Act::Floor(true));
    server.report(&id(0), "kiosk@1", U::Idle);
    server.work();
    assert_eq!(server.known[&id(0)].desired, Some(FLOOR.parse().unwrap()));
}

fn way(is_good: bool) -> Paths {
    let blocked = vec![Blocked { from: "..1.4".parse().unwrap(), reason: "loses keys".into() }];
    let path = ReleasePath { floor: Some("new data format".into()), blocked };
    let facts = |_: &_| ReleaseFacts { is_good, is_proved: false };
    Paths::of(std::iter::once((&FLOOR.parse().unwrap(), &path)), facts)
}

#[test]
fn why_says_the_floor_the_blocked_way_and_their_reasons() {
    let server = Server::start(plan(&["100%"]), 1, false);
    let (target, policy) =
        (Target { release: RELEASE.parse().unwrap(), source: Source::Channel }, Policy::usual());
    let mut known = server.known[&id(0)].clone();
    let said = |known: &_, paths: &Paths, gate: Gate| {
        let facts = Facts { known, paths, ..server.facts(&id(0), &target, &policy) };
        let found = list(&facts).into_iter().find(|check| check.gate == gate).unwrap();
        (found.state, found.text)
    };
    let first = "it must run kiosk@2 first: new data format".to_owned();
    assert_eq!(said(&known, &way(true), Gate::Floor), (GateState::Waits, first));
    let blocked = "the way from kiosk@1 to kiosk@2 is blocked: loses keys".to_owned();
    assert_eq!(said(&known, &way(true), Gate::Edge), (GateState::Closed, blocked));
    let revoked = "it must run kiosk@2 first (new data format), which is revoked".to_owned();
    assert_eq!(said(&known, &way(false), Gate::Floor), (GateState::Closed, revoked));
    known.running = Some("kiosk@1.5".parse().unwrap());
    assert_eq!(said(&known, &way(true), Gate::Edge).0, GateState::Open);
    known.running = Some("kiosk@2".parse().unwrap());
    assert_eq!(said(&known, &way(true), Gate::Floor).0, GateState::Open);
    // Nothing is known of a device that has not reported.
    known.running = None;
    assert_eq!(said(&known, &way(true), Gate::Floor).0, GateState::Closed);
    // A way back passes no floor.
    known.running = Some("kiosk@4".parse().unwrap());
    let back = Target { release: "kiosk@1".parse().unwrap(), source: Source::WayBack };
    let facts = Facts {
        known: &known,
        paths: &way(true),
        target: Some(&back),
        ..server.facts(&id(0), &target, &policy)
    };
    assert_eq!(first_closed(&facts), None);
}

#[test]
fn a_device_that_fails_is_tried_again_after_a_growing_pause_and_at_most_so_often() {
    let mut server = Server::start(Plan { retries: 2, ..plan(&["100%"]) }, 2, false);
    let device = id(0);
    let mut pauses = Vec::new();
    for n in 1..=2 {
        server.report(&device, "kiosk@1", Server::failed());
        server.work();
        let row = &server.rows[&device];
        let DevicePhase::Retrying { until_s, .. } = row.phase else { panic!("{row:?}") };
        assert_eq!((row.retries, &server.known[&device].desired), (n, &None));
        assert_eq!(server.header.phase, Phase::Running, "it is no error yet");
        pauses.push(until_s - server.now_s);
        server.now_s = until_s - 1;
        server.work();
        assert!(matches!(server.rows[&device].phase, DevicePhase::Retrying { .. }));
        server.now_s += 60;
        server.work();
        assert_eq!(server.rows[&device].phase, DevicePhase::Offered);
    }
    assert_eq!(pauses, [600, 1200]);
    server.report(&device, "kiosk@1", Server::failed());
    server.work();
    assert!(matches!(server.rows[&device].phase, DevicePhase::Failed { .. }));
    assert_eq!(server.header.phase, Phase::Pausing);
}

#[test]
fn a_wave_waits_for_the_next_attempt_and_the_second_one_can_succeed() {
    let mut server = Server::start(Plan { retries: 1, ..plan(&["1", "100%"]) }, 2, false);
    let device = server.in_phase(|phase| *phase == DevicePhase::Offered).remove(0);
    server.report(&device, "kiosk@1", Server::failed());
    server.work();
    assert_eq!(server.in_phase(|phase| *phase == DevicePhase::Offered), []);
    assert_eq!((server.header.counts.queued, server.header.counts.in_flight()), (1, 0));
    server.now_s += 660;
    server.work();
    server.obey(&device);
    server.work();
    assert_eq!(server.in_phase(|phase| *phase == DevicePhase::Offered).len(), 1);
}

#[test]
fn what_was_rolled_back_or_refused_for_good_is_not_tried_again() {
    for update in [Server::rolled_back(), Server::refused()] {
        let errors_max = ErrorsMax::Count { devices: 1 };
        let plan = Plan { retries: 5, errors_max, ..plan(&["100%"]) };
        let mut server = Server::start(plan, 2, false);
        server.report(&id(0), "kiosk@1", update);
        server.now_s += 10_000_000;
        server.work();
        assert!(server.rows[&id(0)].phase.is_finished());
        assert_eq!(server.offers.iter().filter(|(_, device, _)| *device == id(0)).count(), 1);
    }
}

#[test]
fn a_wave_by_filter_takes_the_devices_that_it_matched_and_no_other() {
    let mut server = Server::start(plan(&["filter:id~1", "100%"]), 12, false);
    let first = server.in_phase(|phase| *phase == DevicePhase::Offered);
    assert_eq!(first, [1, 10, 11].map(id));
    first.iter().for_each(|device| server.obey(device));
    server.work();
    assert_eq!(server.in_phase(|phase| *phase == DevicePhase::Offered).len(), 9);
}
