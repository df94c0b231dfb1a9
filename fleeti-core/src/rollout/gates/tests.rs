use super::*;
use crate::attestation::Level;
use crate::attestation::policy::Policy;
use crate::id::ReleaseName;
use crate::rollout::budget::Room;
use crate::rollout::device::{self, Device, Event};
use crate::rollout::plan::Plan;
use crate::rollout::{Ctx, Limits};
use crate::update::{FailureCode, RollbackReason};
use crate::windows::{Job, Wait, WaitReason, Windows};
use proptest::prelude::*;

const NOW_S: u64 = 1_000;

fn named(name: &str) -> ReleaseName {
    name.parse().unwrap()
}

fn known(running: &str) -> Known {
    Known {
        is_revoked: false,
        running: Some(named(running)),
        desired: None,
        update: State::Idle,
        waits: None,
        time_zone: None,
        skip_windows_until_s: None,
        urgent_until_s: None,
        hold: None,
        pin: None,
        penalty: None,
        level: Level::Token,
    }
}

fn to(release: &str) -> Target {
    Target { release: named(release), source: Source::Channel }
}

fn facts<'a>(known: &'a Known, target: &'a Target, policy: &'a Policy) -> Facts<'a> {
    Facts {
        now_s: NOW_S,
        is_online: Some(true),
        known,
        target: Some(target),
        release: ReleaseFacts { is_good: true, is_proved: true },
        policy,
        paths: Paths::NONE,
        part: None,
    }
}

fn first(known: &Known, target: &str) -> Option<Gate> {
    let (target, policy) = (to(target), Policy::usual());
    first_closed(&facts(known, &target, &policy)).map(|(gate, _)| gate)
}

fn ordered(known: &Known, target: &str) -> Order {
    let (target, policy) = (to(target), Policy::usual());
    order(&facts(known, &target, &policy))
}

fn held(until_s: Option<u64>) -> Known {
    let hold = Some(Hold { reason: "exhibition".into(), until_s });
    Known { hold, ..known("kiosk@1") }
}

#[test]
fn only_a_way_back_and_a_downgrade_offer_a_lower_version() {
    let (device, policy) = (known("kiosk@2"), Policy::usual());
    for source in
        [Source::Rollout, Source::Channel, Source::Pin, Source::WayBack, Source::Downgrade]
    {
        let target = Target { source, ..to("kiosk@1") };
        let is_open = version(&facts(&device, &target, &policy)).is_none();
        assert_eq!(is_open, source.is_back(), "{source:?}");
    }
}

#[test]
fn a_downgrade_is_that_of_its_device_and_never_passes_a_floor() {
    let policy = Policy::usual();
    let pin = Pin { release: named("kiosk@1"), reason: "lab".into(), downgrade: true };
    let (found, _) = target(Some(&pin), None, &FleetTarget::default());
    let found = found.unwrap();
    assert_eq!(found.source, Source::Downgrade);
    let device = Known { pin: Some(pin), ..known("kiosk@3") };
    assert_eq!(order(&facts(&device, &found, &policy)), Order::Offer);
    let facts_of = |_: &ReleaseName| ReleaseFacts { is_good: true, is_proved: true };
    let path = ReleasePath { floor: Some("new data format".into()), blocked: vec![] };
    for (floor, is_passed) in
        [("kiosk@1", false), ("kiosk@2", true), ("kiosk@3", true), ("kiosk@4", false)]
    {
        let floor = named(floor);
        let paths = Paths::of(std::iter::once((&floor, &path)), facts_of);
        let facts = Facts { paths: &paths, ..facts(&device, &found, &policy) };
        let closed = first_closed(&facts).map(|(gate, _)| gate);
        assert_eq!(closed, is_passed.then_some(Gate::Version), "{floor}");
    }
    // The same holds as for every offer.
    let held = Known { hold: held(None).hold, ..device };
    assert_eq!(order(&facts(&held, &found, &policy)), Order::Keep);
}

#[test]
fn a_device_goes_back_from_the_version_that_failed_and_not_to_it() {
    let policy = Policy::usual();
    for (failed, is_open) in [("2", true), ("3", true), ("1", false)] {
        let penalty = Penalty { version: failed.parse().unwrap(), failures: 1, until_s: None };
        let device = Known { penalty: Some(penalty), ..known("kiosk@2") };
        let target = Target { source: Source::WayBack, ..to("kiosk@1") };
        let found = first_closed(&facts(&device, &target, &policy)).map(|(gate, _)| gate);
        assert_eq!(found, (!is_open).then_some(Gate::Penalty), "{failed}");
    }
}

#[test]
fn a_device_that_runs_a_lower_version_is_offered_what_its_fleet_should_run() {
    assert_eq!(ordered(&known("kiosk@1"), "kiosk@2"), Order::Offer);
    assert_eq!(ordered(&known("kiosk@2"), "kiosk@2"), Order::Keep);
    assert_eq!(ordered(&Known { running: None, ..known("kiosk@1") }, "kiosk@2"), Order::Offer);
}

#[test]
fn nothing_is_ever_a_downgrade_or_another_image_line() {
    assert_eq!(first(&known("kiosk@3"), "kiosk@2"), Some(Gate::Version));
    assert_eq!(first(&known("kiosk@10"), "kiosk@9"), Some(Gate::Version));
    assert_eq!(first(&known("signage@1"), "kiosk@2"), Some(Gate::Line));
    let (device, target, policy) = (known("signage@1"), to("kiosk@2"), Policy::usual());
    let (_, stop) = first_closed(&facts(&device, &target, &policy)).unwrap();
    assert_eq!(stop.change, "reinstall the device with kiosk@2");
}

#[test]
fn a_hold_ends_with_its_time() {
    assert_eq!(first(&held(None), "kiosk@2"), Some(Gate::Hold));
    assert_eq!(first(&held(Some(NOW_S + 1)), "kiosk@2"), Some(Gate::Hold));
    assert_eq!(first(&held(Some(NOW_S)), "kiosk@2"), None);
}

#[test]
fn a_hold_withdraws_an_offer_until_the_device_reboots_into_it() {
    let offered = |update| {
        let desired = Some(named("kiosk@2"));
        ordered(&Known { desired, update, ..held(None) }, "kiosk@2")
    };
    let target = || "2".parse().unwrap();
    assert_eq!(offered(State::Idle), Order::Withdraw);
    assert_eq!(offered(State::Staged { target: target(), arm_attempts: 0 }), Order::Withdraw);
    assert_eq!(offered(State::Armed { target: target() }), Order::Keep);
    assert_eq!(offered(State::Trying { target: target() }), Order::Keep);
}

#[test]
fn a_version_that_was_rolled_back_waits_for_an_operator_or_a_higher_version() {
    let update = State::RolledBack {
        target: "2".parse().unwrap(),
        reason: RollbackReason::Health { evidence: "no screen".into() },
    };
    let penalty = after_failure(None, &update, NOW_S);
    let device = Known { penalty, ..known("kiosk@1") };
    assert_eq!(first(&device, "kiosk@2"), Some(Gate::Penalty));
    assert_eq!(first(&device, "kiosk@3"), None);
    let (target, policy) = (to("kiosk@2"), Policy::usual());
    let much_later = Facts { now_s: u64::MAX, ..facts(&device, &target, &policy) };
    assert_eq!(first_closed(&much_later).map(|(gate, _)| gate), Some(Gate::Penalty));
}

#[test]
fn each_failure_of_a_version_doubles_its_wait_and_another_version_begins_anew() {
    let failed = |version: &str, code| State::Failed { target: version.parse().unwrap(), code };
    let mut penalty = None;
    let mut waits = Vec::new();
    for _ in 0..40 {
        penalty = after_failure(penalty.as_ref(), &failed("2", FailureCode::StageFailed), NOW_S);
        waits.push(penalty.as_ref().unwrap().until_s.unwrap() - NOW_S);
    }
    assert_eq!((&waits[..3], waits[39]), (&[600, 1200, 2400][..], LONGEST_S));
    let other = after_failure(penalty.as_ref(), &failed("3", FailureCode::StageFailed), NOW_S);
    assert_eq!(other.unwrap().failures, 1);
    let refused = after_failure(None, &failed("2", FailureCode::WrongImage), NOW_S).unwrap();
    assert_eq!(refused.until_s, None);
    assert_eq!(after_failure(None, &State::Idle, NOW_S), None);
}

#[test]
fn a_pin_goes_before_the_rollout_and_the_rollout_before_the_channel() {
    let pin =
        |release: &str| Pin { release: named(release), reason: "lab".into(), downgrade: false };
    let fleet = FleetTarget { channel: Some(named("kiosk@1")), pin: None };
    let active = |phase, has_waves, row| Active {
        rollout: "r".into(),
        release: named("kiosk@2"),
        phase,
        has_waves,
        is_back: false,
        is_urgent: false,
        row,
    };
    let of = |pin: Option<&Pin>, active: Option<&Active>, fleet: &FleetTarget| {
        let (found, part) = target(pin, active, fleet);
        found.map(|t| (t.release.to_string(), t.source, part.is_some()))
    };
    let is = |release: &str, source, part| Some((release.to_owned(), source, part));
    assert_eq!(of(None, None, &FleetTarget::default()), None);
    assert_eq!(of(None, None, &fleet), is("kiosk@1", Source::Channel, false));
    let pinned = FleetTarget { pin: Some(pin("kiosk@3")), ..fleet.clone() };
    assert_eq!(of(None, None, &pinned), is("kiosk@3", Source::FleetPin, false));
    assert_eq!(of(Some(&pin("kiosk@9")), None, &pinned), is("kiosk@9", Source::Pin, false));
    let row = Some((DevicePhase::Pending, None));
    let waves = active(Phase::Running, true, row.clone());
    assert_eq!(of(None, Some(&waves), &fleet), is("kiosk@2", Source::Rollout, true));
    assert_eq!(of(Some(&pin("kiosk@9")), Some(&waves), &fleet), is("kiosk@9", Source::Pin, false));
    assert_eq!(
        of(Some(&pin("kiosk@2")), Some(&waves), &fleet),
        is("kiosk@2", Source::Rollout, true)
    );
    // A device that came later: never before its fleet in waves, at once if everybody is.
    let late = active(Phase::Running, true, None);
    assert_eq!(of(None, Some(&late), &fleet), is("kiosk@1", Source::Channel, false));
    let for_all = active(Phase::Running, false, None);
    assert_eq!(of(None, Some(&for_all), &fleet), is("kiosk@2", Source::Rollout, false));
    let paused = active(Phase::Paused, false, None);
    assert_eq!(of(None, Some(&paused), &fleet), is("kiosk@1", Source::Channel, false));
}

#[test]
fn each_gate_has_a_place_and_says_what_would_change_it() {
    let device = Known {
        is_revoked: true,
        desired: Some(named("kiosk@2")),
        penalty: Some(Penalty { version: "2".parse().unwrap(), failures: 1, until_s: None }),
        level: Level::SelfReported,
        pin: Some(Pin { release: named("kiosk@1"), reason: "lab".into(), downgrade: false }),
        ..held(None)
    };
    let policy = Policy { proved_releases: true, ..Policy::usual() };
    let target = to("kiosk@2");
    let part = |phase| Part {
        rollout: "r".into(),
        rollout_phase: Phase::Paused,
        phase,
        wave: None,
        is_urgent: false,
        gate: Some(GateWait { wave: 1, said: "change freeze".into() }),
    };
    let release = ReleaseFacts { is_good: false, is_proved: false };
    let mut table = String::new();
    for phase in [DevicePhase::Pending, DevicePhase::Unreached, DevicePhase::Queued] {
        let facts = Facts {
            release,
            is_online: Some(false),
            part: Some(part(phase)),
            ..facts(&device, &target, &policy)
        };
        let checks = list(&facts);
        assert_eq!(checks.iter().map(|check| check.gate).collect::<Vec<_>>(), Gate::ALL);
        for Check { gate, state, text, change, .. } in checks {
            assert_eq!(change.is_none(), state == GateState::Open, "{gate:?}");
            table += &format!("{gate:?} {state:?}: {text}; {}\n", change.unwrap_or_default());
        }
        table += "\n";
    }
    insta::assert_snapshot!(table);
}

/// 2026-01-10 is a Saturday.
#[test]
fn the_window_gate_says_when_each_job_may_begin_and_never_withdraws_an_offer() {
    let line = |text: &str| vec![text.parse().unwrap()];
    let windows = Windows {
        download: line("01:00-02:00"),
        install: line("sun 03:00-04:00"),
        reboot: line("sun 05:00-06:00 Europe/Berlin"),
        ..Windows::default()
    };
    let (policy, target) = (Policy { windows, ..Policy::usual() }, to("kiosk@2"));
    let saturday_s = 1_768_003_200;
    let two = || "2".parse().unwrap();
    let of = |known: &Known| {
        let facts = Facts { now_s: saturday_s, ..facts(known, &target, &policy) };
        let (order, check) = (order(&facts), list(&facts));
        let check = check.into_iter().find(|c| c.gate == Gate::Window).unwrap();
        let hours = check.until_s.map(|until_s| (until_s - saturday_s) / 3600);
        (check.state, check.text, hours, order)
    };
    let desired = Some(named("kiosk@2"));
    let on = |update| Known { desired: desired.clone(), update, ..known("kiosk@1") };
    let tokyo = |update| Known { time_zone: Some("Asia/Tokyo".into()), ..on(update) };
    let mut table = String::new();
    for (name, device) in [
        ("idle", on(State::Idle)),
        ("idle in Tokyo", tokyo(State::Idle)),
        ("staged", on(State::Staged { target: two(), arm_attempts: 0 })),
        ("staged in Tokyo", tokyo(State::Staged { target: two(), arm_attempts: 0 })),
        ("armed", on(State::Armed { target: two() })),
        ("armed in Tokyo", tokyo(State::Armed { target: two() })),
        ("trying", on(State::Trying { target: two() })),
        ("staging", on(State::Staging { target: two(), attempt: 1 })),
    ] {
        let (state, text, hours, order) = of(&device);
        assert_eq!(order, Order::Keep);
        table += &format!("{name}: {state:?}, {text}, {hours:?}\n");
    }
    insta::assert_snapshot!(table);
    // What the device says of its users and its clock counts; a skip opens everything.
    let user =
        Wait { job: Job::Reboot, reason: WaitReason::User, until_s: Some(saturday_s + 3600) };
    let armed = Known { waits: Some(user), ..on(State::Armed { target: two() }) };
    assert!(of(&armed).1.contains("blocks shutdowns"), "{:?}", of(&armed));
    let skips = Known { skip_windows_until_s: Some(saturday_s + 1), ..armed.clone() };
    assert_eq!(of(&skips).0, GateState::Open);
    let over = Known { skip_windows_until_s: Some(saturday_s), ..armed };
    assert_eq!(of(&over).0, GateState::Waits);
    let runs = Known { running: Some(named("kiosk@2")), ..on(State::Idle) };
    assert_eq!(of(&runs).0, GateState::Open);
}

/// An urgent rollout opens the window gate, and no other.
#[test]
fn a_device_of_an_urgent_rollout_is_not_held_by_its_windows_and_by_nothing_else_less() {
    let monday_s = 1_767_571_200;
    let lines = vec!["sat 02:00-05:00".parse().unwrap()];
    let windows = Windows {
        download: lines.clone(),
        install: lines.clone(),
        reboot: lines,
        ..Windows::default()
    };
    let policy = Policy { windows, ..Policy::usual() };
    let target = Target { source: Source::Rollout, ..to("kiosk@2") };
    let part = |is_urgent| Part {
        rollout: "r".into(),
        rollout_phase: Phase::Running,
        phase: DevicePhase::Pending,
        wave: None,
        is_urgent,
        gate: None,
    };
    let of = |known: &Known, is_urgent: bool| {
        let facts = Facts {
            now_s: monday_s,
            part: Some(part(is_urgent)),
            ..facts(known, &target, &policy)
        };
        list(&facts)
    };
    let window = |known: &Known, is_urgent: bool| {
        of(known, is_urgent).into_iter().find(|check| check.gate == Gate::Window).unwrap().state
    };
    let waits = known("kiosk@1");
    assert_eq!(window(&waits, false), GateState::Waits);
    assert_eq!(window(&waits, true), GateState::Open);
    // It is offered the release: what its desired state says counts.
    let offered = Known { desired: Some(named("kiosk@2")), ..waits.clone() };
    assert_eq!(window(&offered, true), GateState::Waits);
    let told = Known { urgent_until_s: Some(monday_s + 1), ..offered.clone() };
    assert_eq!(window(&told, true), GateState::Open);
    let over = Known { urgent_until_s: Some(monday_s), ..offered };
    assert_eq!(window(&over, true), GateState::Waits);
    // What it was told for another release does not count.
    let other = Known { urgent_until_s: Some(monday_s + 1), ..waits };
    assert_eq!(window(&other, false), GateState::Waits);
    let bad = Known { level: Level::SelfReported, ..held(None) };
    for (calm, urgent) in of(&bad, false).into_iter().zip(of(&bad, true)) {
        assert!(calm == urgent || calm.gate == Gate::Window, "{urgent:?}");
    }
}

fn release_names() -> impl Strategy<Value = ReleaseName> {
    prop::sample::select(vec!["kiosk@1", "kiosk@2", "kiosk@3", "signage@2"]).prop_map(named)
}

fn updates() -> impl Strategy<Value = State> {
    let target = || "2".parse().unwrap();
    prop::sample::select(vec![
        State::Idle,
        State::Staging { target: target(), attempt: 1 },
        State::Staged { target: target(), arm_attempts: 0 },
        State::Armed { target: target() },
        State::Trying { target: target() },
        State::Failed { target: target(), code: FailureCode::StageFailed },
    ])
}

fn devices() -> impl Strategy<Value = Known> {
    let until = || prop::option::of(NOW_S - 1..NOW_S + 2);
    (
        (prop::option::of(release_names()), prop::option::of(release_names()), updates()),
        prop::option::weighted(0.2, until()),
        prop::option::weighted(0.2, release_names()),
        prop::option::weighted(0.2, (prop::sample::select(vec!["1", "2", "3"]), until())),
        prop::sample::select(vec![Level::SelfReported, Level::Token, Level::Token]),
        prop::bool::weighted(0.05),
        prop::option::weighted(0.3, NOW_S - 1..NOW_S + 2),
    )
        .prop_map(
            |((running, desired, update), hold, pin, penalty, level, is_revoked, urgent)| Known {
                is_revoked,
                running,
                desired,
                update,
                waits: None,
                time_zone: None,
                skip_windows_until_s: None,
                urgent_until_s: urgent,
                hold: hold.map(|until_s| Hold { reason: "r".into(), until_s }),
                pin: pin.map(|release| Pin { release, reason: "r".into(), downgrade: false }),
                penalty: penalty.map(|(version, until_s)| Penalty {
                    version: version.parse().unwrap(),
                    failures: 1,
                    until_s,
                }),
                level,
            },
        )
}

fn phases() -> impl Strategy<Value = DevicePhase> {
    prop::sample::select(vec![
        DevicePhase::Pending,
        DevicePhase::Queued,
        DevicePhase::Retrying { code: FailureCode::StageFailed, until_s: NOW_S + 1 },
        DevicePhase::Blocked,
        DevicePhase::Held,
        DevicePhase::Offered,
        DevicePhase::Unreached,
        DevicePhase::Staging,
        DevicePhase::Staged,
        DevicePhase::Unconfirmed,
    ])
}

proptest! {
    /// What the explanation says is what the server does: a device that no rollout updates.
    #[test]
    fn a_release_is_offered_exactly_if_no_gate_is_closed(
        known in devices(), release in release_names(), is_good: bool,
    ) {
        let (target, policy) = (Target { release, source: Source::Channel }, Policy::usual());
        let of = |known: &Known| -> (Order, Option<Gate>, bool) {
            let facts = Facts {
                release: ReleaseFacts { is_good, is_proved: false },
                ..facts(known, &target, &policy)
            };
            let closed = list(&facts).into_iter().find(|c| c.state == GateState::Closed);
            (order(&facts), closed.map(|c| c.gate), known.desired == known.running)
        };
        let (first, closed, _) = of(&known);
        let desired = match first {
            Order::Keep => known.desired.clone(),
            Order::Offer => Some(target.release.clone()),
            Order::Withdraw => None,
        };
        let after = Known { desired, ..known };
        let (second, closed_after, has_what_it_runs) = of(&after);
        prop_assert_eq!(second, Order::Keep);
        prop_assert_eq!(closed, closed_after);
        let is_offered = after.desired.as_ref() == Some(&target.release);
        let is_starting = matches!(after.update, State::Armed { .. } | State::Trying { .. });
        match closed {
            None => prop_assert!(is_offered),
            Some(Gate::Revoked) => {}
            Some(gate) => prop_assert!(!is_offered || has_what_it_runs || is_starting, "{gate:?}"),
        }
    }

    /// The same for a device that is part of a rollout: its row has an offer exactly if no gate is
    /// closed.
    #[test]
    fn a_row_has_an_offer_exactly_if_no_gate_is_closed(
        known in devices(), phase in phases(), wave in prop::option::of(0_u32..2), may_offer: bool,
        is_opened: bool, is_full: bool, is_urgent: bool,
    ) {
        let release = named("kiosk@2");
        let (target, policy) = (Target { release: release.clone(), source: Source::Rollout }, Policy::usual());
        let known = Known { is_revoked: false, ..known };
        let plan = Plan::of(Vec::new());
        let room = if is_full { Room::Full } else { Room::Free };
        let ctx = Ctx {
            now_s: NOW_S, release: &release, limits: Limits::default(), plan: Some(&plan),
            is_urgent, may_offer, room,
        };
        let eligibility = eligibility(&facts(&known, &target, &policy), Proof::Missing);
        let is_opened = is_opened && may_offer && phase == DevicePhase::Pending;
        let event = if is_opened {
            Event::Opened { wave: wave.or(Some(0)), eligibility }
        } else {
            Event::Appraised(eligibility)
        };
        let row = Device::new(phase, 0, wave);
        let (after, _) = device::step(&row, event, &ctx).unwrap();
        let part = Part {
            rollout: "r".into(), rollout_phase: Phase::Running, phase: after.phase.clone(), wave: after.wave, is_urgent,
            gate: None,
        };
        let facts = Facts { part: Some(part), ..facts(&known, &target, &policy) };
        // Whoever runs the release is offered it, too: it must prove it.
        let closed = closed_in(&facts, |gate| gate != Gate::Runs).map(|(gate, _)| gate);
        let has_offer = matches!(
            after.phase,
            DevicePhase::Offered | DevicePhase::Staging | DevicePhase::Staged | DevicePhase::Unconfirmed
        );
        prop_assert_eq!(has_offer, closed.is_none(), "{:?} {:?}", after, closed);
    }
}
