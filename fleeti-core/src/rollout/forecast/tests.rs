use super::*;
use crate::attestation::Level;
use crate::attestation::policy::Policy;
use crate::rollout::gates::Paths;
use crate::rollout::plan::{ErrorsMax, Plan, Rate, Start, Wave};
use crate::rollout::waves::Errors;
use crate::windows::Windows;
use proptest::prelude::*;

/// When the rollouts start.
const T: u64 = 1_000_000;

fn release() -> ReleaseName {
    "kiosk@2".parse().unwrap()
}

fn plan(sizes: &[&str], soak_s: u64) -> Plan {
    let wave =
        |size: &&str| Wave { size: size.parse().unwrap(), start: Start::AfterSuccess, soak_s };
    Plan::of(sizes.iter().map(wave).collect())
}

fn groups(groups: &[(Expected, usize)]) -> Vec<Group> {
    groups
        .iter()
        .map(|(expected, devices)| Group { expected: *expected, devices: *devices })
        .collect()
}

fn forecast(plan: Option<&Plan>, of: &[(Expected, usize)]) -> Forecast {
    let release = release();
    let facts = Facts {
        release: &release,
        plan,
        is_urgent: false,
        unlisted: groups(of),
        listed: Vec::new(),
        now_s: T,
        duration: Duration { seconds: 300, measured: 7 },
        floors: 2,
        windows: &Windows::default(),
    };
    Forecast::of(&"lobby".parse().unwrap(), &facts)
}

#[test]
fn a_healthy_fleet_takes_its_updates_and_its_soak_times() {
    let plan = plan(&["1", "10%", "100%"], 600);
    let found = forecast(Some(&plan), &[(Expected::Updates, 100)]);
    let devices: Vec<usize> =
        found.waves.iter().map(|wave| wave.expected.iter().map(|g| g.devices).sum()).collect();
    assert_eq!(devices, [1, 9, 90]);
    let begins: Vec<u64> = found.waves.iter().map(|wave| wave.begins_s).collect();
    assert_eq!(begins, [T, T + 900, T + 1800]);
    assert_eq!(found.end, End::Succeeds { at_s: T + 2100 });
}

/// Nobody but the webhook knows what it will say.
#[test]
fn a_webhook_gate_is_planned_as_if_it_allowed_each_wave_at_once() {
    let mut free = plan(&["1", "10%", "100%"], 600);
    free.waves[1].start = Start::ByHand;
    let gated = Plan { gate: Some("hook-1".into()), ..free.clone() };
    let of = [(Expected::Updates, 100)];
    assert_eq!(forecast(Some(&gated), &of), forecast(Some(&free), &of));
}

#[test]
fn every_wave_has_offline_devices_in_proportion_and_goes_on_without_them() {
    let plan = plan(&["10%", "100%"], 0);
    let found = forecast(Some(&plan), &[(Expected::Updates, 80), (Expected::Offline, 20)]);
    assert_eq!(found.waves[0].expected, groups(&[(Expected::Updates, 10), (Expected::Offline, 2)]));
    // Others take the place of those that are unreached.
    let of_all: usize = found.waves.iter().flat_map(|wave| &wave.expected).map(|g| g.devices).sum();
    assert_eq!(of_all, 100);
    assert_eq!(found.end, End::Succeeds { at_s: T + 900 + 300 + 900 });
}

#[test]
fn devices_that_refuse_the_release_stop_the_plan_where_it_would_stop() {
    let plan = plan(&["50%", "100%"], 0);
    let found = forecast(Some(&plan), &[(Expected::Updates, 98), (Expected::RolledBackBefore, 2)]);
    let errors = Errors { failed: 1, finished: 1 };
    assert_eq!(found.end, End::Stops { at_s: T, wave: 0, errors });
    let accepted = Plan { errors_max: ErrorsMax::Count { devices: 2 }, ..plan };
    let found =
        forecast(Some(&accepted), &[(Expected::Updates, 98), (Expected::RolledBackBefore, 2)]);
    assert_eq!(found.end, End::Succeeds { at_s: T + 600 });
}

#[test]
fn caps_and_rates_make_it_longer() {
    let one_wave = plan(&["100%"], 0);
    let capped = Plan { moving_max: Some(10), ..one_wave.clone() };
    let found = forecast(Some(&capped), &[(Expected::Updates, 100)]);
    assert_eq!(found.end, End::Succeeds { at_s: T + 10 * 300 });
    let slow = Plan { rate: Some(Rate { devices: 10, per_s: 3600 }), ..one_wave };
    let found = forecast(Some(&slow), &[(Expected::Updates, 100)]);
    assert_eq!(found.end, End::Succeeds { at_s: T + 9 * 3600 + 300 });
}

#[test]
fn a_wave_by_hand_is_named_and_a_wave_that_reaches_nobody_waits() {
    let mut by_hand = plan(&["1", "100%"], 60);
    by_hand.waves[1].start = Start::ByHand;
    let found = forecast(Some(&by_hand), &[(Expected::Updates, 3)]);
    assert!(found.waves[1].is_by_hand && !found.waves[0].is_by_hand);
    assert_eq!(found.end, End::Succeeds { at_s: T + 660 });
    let nobody = forecast(Some(&by_hand), &[(Expected::Offline, 3)]);
    assert!(matches!(nobody.end, End::Waits { wave: 0, .. }), "{:?}", nobody.end);
}

#[test]
fn without_waves_everybody_is_offered_it_at_once() {
    let all = forecast(None, &[(Expected::Updates, 5), (Expected::RunsIt, 1)]);
    assert_eq!((all.waves.len(), all.end), (1, End::Succeeds { at_s: T + 300 }));
    let some = forecast(None, &[(Expected::Updates, 5), (Expected::BelowLevel, 1)]);
    assert_eq!(some.end, End::Waits { from_s: T + 300, wave: 0 });
    assert_eq!(forecast(None, &[]).end, End::Waits { from_s: T, wave: 0 });
}

#[test]
fn listed_devices_come_in_their_wave() {
    let (release, mut plan) = (release(), plan(&["devices:lab-1,lab-2", "100%"], 0));
    plan.waves[0].soak_s = 60;
    let facts = Facts {
        release: &release,
        plan: Some(&plan),
        is_urgent: false,
        unlisted: groups(&[(Expected::Updates, 8)]),
        listed: vec![(0, Expected::Updates), (0, Expected::RunsIt)],
        now_s: 0,
        duration: Duration::of(vec![]),
        floors: 0,
        windows: &Windows::default(),
    };
    let found = Forecast::of(&"lobby".parse().unwrap(), &facts);
    assert_eq!(found.waves[0].expected, groups(&[(Expected::Updates, 1), (Expected::RunsIt, 1)]));
    assert_eq!((found.devices, found.end), (10, End::Succeeds { at_s: 900 + 60 + 900 }));
    let urgent = Forecast::of(&"lobby".parse().unwrap(), &Facts { is_urgent: true, ..facts });
    assert_eq!(urgent.end, End::Succeeds { at_s: 900 + 900 });
}

/// T is in the afternoon, and the windows are at night.
#[test]
fn a_plan_knows_the_windows_of_the_fleet_and_an_urgent_one_skips_them() {
    let (release, plan) = (release(), plan(&["1", "100%"], 600));
    let day_s = 86_400;
    let night_s = T - T % day_s + 22 * 3600;
    let night_s = if night_s > T { night_s } else { night_s + day_s };
    let lines = vec!["22:00-05:00 Etc/UTC".parse().unwrap()];
    let windows = Windows { download: lines, ..Windows::default() };
    let reboot = vec!["03:00-03:05 Etc/UTC".parse().unwrap()];
    let facts = |windows, is_urgent| Facts {
        release: &release,
        plan: Some(&plan),
        is_urgent,
        unlisted: groups(&[(Expected::Updates, 8), (Expected::ByFloor, 2)]),
        listed: Vec::new(),
        now_s: T,
        duration: Duration { seconds: 300, measured: 7 },
        floors: 1,
        windows,
    };
    let of = |facts: &Facts<'_>| {
        let found = Forecast::of(&"lobby".parse().unwrap(), facts);
        (found.in_windows, found.end)
    };
    // The first wave ends and soaks; devices of the second have a floor on their way.
    let end = End::Succeeds { at_s: night_s + 300 + 600 + 600 };
    assert_eq!(of(&facts(&windows, false)), (true, end));
    let end = End::Succeeds { at_s: T + 300 + 600 };
    assert_eq!(of(&facts(&windows, true)), (false, end), "no soak, and at once");
    // A reboot a night: the first wave, then the floor, then the release.
    let both = Windows { reboot, ..windows.clone() };
    let end = End::Succeeds { at_s: night_s + 5 * 3600 + 2 * day_s };
    assert_eq!(of(&facts(&both, false)), (true, end));
}

#[test]
fn the_duration_is_that_of_nine_of_ten_devices() {
    assert_eq!(Duration::of((1..=10).rev().collect()), Duration { seconds: 9, measured: 10 });
    assert_eq!(Duration::of(vec![5]), Duration { seconds: 5, measured: 1 });
    assert_eq!(Duration::of(vec![]), Duration { seconds: UPDATE_S, measured: 0 });
}

#[test]
fn what_is_known_of_a_device_says_what_it_will_do() {
    let known = |running: &str| gates::Known {
        waits: None,
        time_zone: None,
        skip_windows_until_s: None,
        urgent_until_s: None,
        is_revoked: false,
        running: Some(running.parse().unwrap()),
        desired: None,
        update: crate::update::State::Idle,
        hold: None,
        pin: None,
        penalty: None,
        level: Level::Token,
    };
    let all = |known: &gates::Known, is_offline, has_rolled_back, paths: &Paths| {
        let (policy, release) = (Policy::usual(), release());
        let target = gates::Target { release, source: gates::Source::Rollout };
        let facts = gates::Facts {
            now_s: T,
            is_online: None,
            known,
            target: Some(&target),
            release: gates::ReleaseFacts { is_good: true, is_proved: true },
            policy: &policy,
            paths,
            part: None,
        };
        Known { facts, is_offline, has_rolled_back }.expected()
    };
    let expected = |known: &gates::Known| all(known, false, false, Paths::NONE);
    let one = known("kiosk@1");
    assert_eq!(expected(&one), Expected::Updates);
    assert_eq!(expected(&known("kiosk@2")), Expected::RunsIt);
    assert_eq!(expected(&known("kiosk@10")), Expected::TooOld);
    assert_eq!(expected(&known("gate@1")), Expected::OtherLine);
    assert_eq!(expected(&gates::Known { running: None, ..one.clone() }), Expected::Updates);
    assert_eq!(all(&known("kiosk@2"), true, false, Paths::NONE), Expected::Offline);
    let below = gates::Known { level: Level::SelfReported, ..one.clone() };
    assert_eq!(expected(&below), Expected::BelowLevel);
    assert_eq!(all(&one, false, true, Paths::NONE), Expected::RolledBackBefore);
    let hold = gates::Hold { reason: "r".into(), until_s: None };
    assert_eq!(expected(&gates::Known { hold: Some(hold), ..one.clone() }), Expected::OnHold);
    let pin =
        gates::Pin { release: "kiosk@1".parse().unwrap(), reason: "r".into(), downgrade: false };
    assert_eq!(expected(&gates::Known { pin: Some(pin), ..one.clone() }), Expected::Pinned);
    let penalty = |until_s| gates::Penalty { version: "2".parse().unwrap(), failures: 1, until_s };
    let failed = |until_s| gates::Known { penalty: Some(penalty(until_s)), ..one.clone() };
    assert_eq!(expected(&failed(None)), Expected::InPenalty);
    assert_eq!(expected(&failed(Some(T + 1))), Expected::InPenalty);
    assert_eq!(expected(&failed(Some(T))), Expected::Updates);
    let good = |_: &ReleaseName| gates::ReleaseFacts { is_good: true, is_proved: true };
    let path = gates::ReleasePath { floor: Some("r".into()), blocked: vec![] };
    let floor = Paths::of(std::iter::once((&"kiosk@1.5".parse().unwrap(), &path)), good);
    assert_eq!(all(&one, false, false, &floor), Expected::ByFloor);
    assert_eq!(all(&known("kiosk@1.5"), false, false, &floor), Expected::Updates);
    let blocked = vec![gates::Blocked { from: "1".parse().unwrap(), reason: "r".into() }];
    let path = gates::ReleasePath { floor: None, blocked };
    let blocked = Paths::of(std::iter::once((&release(), &path)), good);
    assert_eq!(all(&one, false, false, &blocked), Expected::BlockedWay);
}

#[test]
fn a_device_below_floors_takes_an_update_for_each() {
    let found = forecast(None, &[(Expected::ByFloor, 3), (Expected::Pinned, 1)]);
    assert_eq!(found.end, End::Succeeds { at_s: T + 3 * 300 });
}

#[test]
fn every_prefix_of_a_mix_has_each_kind_in_proportion() {
    let mut seen = [0usize; 2];
    for (n, expected) in
        (1..).zip(mix::Mix::of(groups(&[(Expected::Updates, 70), (Expected::Offline, 30)])))
    {
        seen[usize::from(expected == Expected::Offline)] += 1;
        let due = n * 30 / 100;
        assert!(seen[1].abs_diff(due) <= 1, "{seen:?} of {n}");
    }
    assert_eq!(seen, [70, 30]);
}

fn plans() -> impl Strategy<Value = Plan> {
    let caps = (
        prop::option::of(1usize..20),
        prop::option::of((1usize..20, 1u64..4000)),
        prop_oneof![
            (0usize..5).prop_map(|devices| ErrorsMax::Count { devices }),
            (0u8..50).prop_map(|percent| ErrorsMax::Percent { percent })
        ],
    );
    (1u8..40, 0u64..5000, any::<bool>(), caps).prop_map(
        |(part, soak_s, by_hand, (moving_max, rate, errors_max))| {
            let mut plan = plan(&["1", &format!("{part}%"), "100%"], soak_s);
            if by_hand {
                plan.waves[2].start = Start::ByHand;
            }
            let rate = rate.map(|(devices, per_s)| Rate { devices, per_s });
            Plan { moving_max, rate, errors_max, ..plan }
        },
    )
}

proptest! {
    /// The forecast ends, counts no device twice, and does not say that it succeeds with more errors
    /// than the plan accepts.
    #[test]
    fn a_forecast_counts_each_device_once(
        plan in plans(),
        numbers in prop::collection::vec(0usize..40, Expected::ALL.len()),
    ) {
        let of: Vec<_> = Expected::ALL.into_iter().zip(numbers).collect();
        let found = forecast(Some(&plan), &of);
        let all: usize = of.iter().map(|(_, n)| n).sum();
        prop_assert_eq!(found.devices, all);
        for expected in Expected::ALL {
            let there = of.iter().find(|(e, _)| *e == expected).unwrap().1;
            let taken: usize = found.waves.iter().flat_map(|wave| &wave.expected)
                .filter(|group| group.expected == expected).map(|group| group.devices).sum();
            prop_assert!(taken <= there);
            if matches!(found.end, End::Succeeds { .. }) {
                prop_assert_eq!(taken, there);
            }
        }
        prop_assert!(found.waves.windows(2).all(|two| two[0].begins_s <= two[1].begins_s));
        let errors: usize = of.iter().filter(|(e, _)| e.is_error()).map(|(_, n)| n).sum();
        if let (ErrorsMax::Count { devices }, End::Succeeds { .. }) = (plan.errors_max, found.end) {
            prop_assert!(errors <= devices);
        }
        let is_odd = matches!(found.end, End::TooLong { .. } | End::Fails { .. });
        prop_assert!(!is_odd, "{:?}", found.end);
    }
}
