//! The whole engine: gates, rows, header and budgets, as a server steps them.

mod asked;
mod scars;
mod server;
mod steps;
mod urgent;

use super::DevicePhase;
use super::budget::Budget;
use super::plan::{ErrorsMax, OnError, Plan, Rate, Start, Wave};
use proptest::prelude::*;
use server::{Act, RELEASE, Server};

fn plan(sizes: &[&str]) -> Plan {
    let wave =
        |size: &&str| Wave { size: size.parse().unwrap(), start: Start::AfterSuccess, soak_s: 0 };
    Plan::of(sizes.iter().map(wave).collect())
}

fn budget(text: &str) -> Option<Budget> {
    Some(text.parse().unwrap())
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0_u64..2000).prop_map(Act::Wait),
        14 => (0_usize..12, 0_usize..3, 0_usize..8).prop_map(|(n, r, u)| Act::Report(n, r, u)),
        2 => any::<u32>().prop_map(Act::Check),
        1 => (0_usize..12).prop_map(Act::Revoke),
        1 => Just(Act::Pause),
        2 => Just(Act::Hold),
        2 => Just(Act::Resume),
        1 => any::<bool>().prop_map(Act::Next),
        4 => (0_usize..3, any::<bool>()).prop_map(|(ago, may)| Act::Answer(ago, may)),
        1 => Just(Act::Abort),
        1 => any::<bool>().prop_map(Act::Floor),
        2 => (0_usize..12, any::<bool>()).prop_map(|(n, is_trusted)| Act::Level(n, is_trusted)),
    ]
}

/// When a wave starts, and how long it soaks, seconds. The rollout starts at 1,000,000.
fn starts() -> impl Strategy<Value = (Start, u64)> {
    let start = prop_oneof![
        4 => Just(Start::AfterSuccess),
        1 => (999_000_u64..1_010_000).prop_map(|time_s| Start::At { time_s }),
        1 => Just(Start::ByHand),
        1 => Just(Start::ByApproval),
    ];
    (start, prop_oneof![2 => Just(0), 1 => 1_u64..2000])
}

fn plans() -> impl Strategy<Value = Plan> {
    let sizes = prop_oneof![
        Just(&["100%"][..]),
        Just(&["1", "50%", "100%"][..]),
        Just(&["devices:d1,d7", "100%"][..]),
        Just(&["filter:id~1", "100%"][..]),
    ];
    let limits = (
        prop::option::of(1_usize..5),
        prop::option::of((1_usize..4, 1_u64..1000)),
        prop::option::of(prop::sample::select(vec!["rack:1", "rack:2", "rack:50%"])),
        0_u32..3,
        prop::option::of(Just("hook-1".to_owned())),
    );
    let errors = prop_oneof![
        (0_usize..4).prop_map(|devices| ErrorsMax::Count { devices }),
        (0_u8..60).prop_map(|percent| ErrorsMax::Percent { percent }),
    ];
    let stops = prop_oneof![Just(OnError::Pause), Just(OnError::Abort), Just(OnError::RollBack)];
    (sizes, limits, errors, stops, prop::array::uniform3(starts())).prop_map(
        |(sizes, (moving_max, rate, group, retries, gate), errors_max, on_error, starts)| {
            let rate = rate.map(|(devices, per_s)| Rate { devices, per_s });
            let budget = group.and_then(budget);
            let mut limited = Plan { moving_max, rate, budget, retries, ..plan(sizes) };
            for (wave, (start, soak_s)) in limited.waves.iter_mut().zip(starts) {
                (wave.start, wave.soak_s) = (start, soak_s);
            }
            Plan { errors_max, on_error, gate, ..limited }
        },
    )
}

proptest! {
    /// Limits, budgets, levels, floors and webhook gates are never passed, terminal states absorb, a report that is
    /// sent again is harmless, and a paused rollout moves nobody, whatever happens, also if the rollout
    /// is urgent.
    #[test]
    fn nothing_is_exceeded_whatever_happens(
        plan in plans(), has_floor: bool, is_urgent: bool,
        acts in prop::collection::vec(acts(), 0..60),
    ) {
        let mut server = Server::start_as(plan, 12, has_floor, is_urgent);
        for act in acts {
            let before = server.clone();
            server.act(&act);
            server.judge(&before)?;
            let mut again = server.clone();
            // A report that brought a device back is about another offer the second time.
            if again.act_again(&act, &before) {
                prop_assert_eq!(&again.rows, &server.rows, "{:?} once more", act);
                prop_assert_eq!(&again.groups, &server.groups);
            }
            again.judge(&server)?;
        }
    }

    /// A budget, a cap or a rate makes a rollout longer, and never stops it.
    #[test]
    fn a_healthy_fleet_always_gets_the_release(
        plan in plans(), has_floor: bool, is_urgent: bool,
    ) {
        let mut server = Server::start_as(plan, 12, has_floor, is_urgent);
        for _ in 0..100 {
            server.begin_by_hand();
            server.act(&Act::Answer(0, true));
            for device in server.in_phase(|phase| *phase == DevicePhase::Offered) {
                server.obey(&device);
            }
            server.now_s += 600;
            server.work();
        }
        prop_assert_eq!(server.header.phase, super::Phase::Succeeded, "{:?}", server.header);
        prop_assert_eq!(server.header.counts.succeeded, 12);
    }
}

#[test]
fn a_budget_moves_as_many_of_a_group_as_it_permits_and_then_the_next() {
    // d0, d4, d8 are in rack 0, and so on: 4 racks of 3 devices.
    let mut server = Server::start(Plan { budget: budget("rack:2"), ..plan(&["100%"]) }, 12, false);
    let first = server.in_phase(|phase| *phase == DevicePhase::Offered);
    let racks: std::collections::BTreeSet<_> = first.iter().map(Server::rack).collect();
    assert_eq!((first.len(), racks.len()), (4, 4), "one of each rack");
    assert_eq!(server.header.counts.queued, 8);
    let rack = Server::rack(&first[0]);
    server.obey(&first[0]);
    server.work();
    let now = server.in_phase(|phase| *phase == DevicePhase::Offered);
    let next: Vec<_> = now.iter().filter(|device| !first.contains(device)).collect();
    assert_eq!(next.iter().map(|device| Server::rack(device)).collect::<Vec<_>>(), [rack]);
}

#[test]
fn a_device_that_fails_leaves_its_place_and_one_that_is_silent_keeps_it() {
    let errors_max = ErrorsMax::Count { devices: 9 };
    let plan = Plan { budget: budget("rack:2"), errors_max, ..plan(&["100%"]) };
    let mut server = Server::start(plan, 3, false);
    // Three racks of one device each could never move: they are held, and nobody waits for them.
    assert_eq!(server.in_phase(|phase| *phase == DevicePhase::Held).len(), 3);

    let plan = Plan { budget: budget("rack:1"), errors_max, ..server.plan.clone() };
    server = Server::start(plan, 8, false);
    let moving = server.in_phase(|phase| *phase == DevicePhase::Offered);
    assert_eq!(moving.len(), 4);
    server.report(&moving[0], RELEASE, Server::armed());
    server.report(&moving[0], "kiosk@1", Server::rolled_back());
    server.work();
    assert_eq!(server.in_phase(|phase| *phase == DevicePhase::Offered).len(), 4);
    server.report(&moving[1], "kiosk@1", Server::armed());
    server.now_s += 3600;
    server.check(|_| false);
    assert_eq!(server.rows[&moving[1]].phase, DevicePhase::Silent);
    let other = server
        .rows
        .iter()
        .find(|(id, _)| Server::rack(id) == Server::rack(&moving[1]) && **id != moving[1]);
    assert_eq!(other.unwrap().1.phase, DevicePhase::Queued);
}
