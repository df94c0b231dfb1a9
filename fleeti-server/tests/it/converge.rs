//! A fleet converges: what devices are offered that come later, return, are held, pinned or moved, and
//! why.

use crate::gateway::wait_for_ack;
use crate::peer::Peer;
use crate::rollout::{publish_release, report, report_of, start};
use crate::world::{TestDevice, World};
use fleeti_control::clock::{Clock, now_s};
use fleeti_control::devices::received;
use fleeti_core::rollout::Phase;
use fleeti_core::rollout::gates::{Gate, GateState, Source};
use fleeti_core::rollout::plan::{Plan, Start, Wave};
use fleeti_core::update::{FailureCode, RollbackReason, State};
use fleeti_core::wire::api::CreateRollout;
use fleeti_core::wire::mqtt::Up;
use fleeti_core::wire::updates::{PinFleet, UpdateOrder, Why};
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A server whose clock can be moved, with two releases, whose fleet runs the first one.
async fn world() -> (World, TestDevice, Arc<AtomicU64>) {
    let ahead = Arc::new(AtomicU64::new(0));
    let moved = ahead.clone();
    let world = World::with(move |config| {
        config.clock = Clock::of(move || now_s() + moved.load(Ordering::SeqCst));
    })
    .await;
    publish_release(&world, "kiosk@2").await;
    publish_release(&world, "kiosk@3").await;
    let first = world.enroll().await;
    world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    report(&world, &first, "kiosk@2", State::Idle).await;
    (world, first, ahead)
}

async fn why(world: &World, device: &TestDevice) -> Why {
    world.client.why(&device.id).await.unwrap()
}

async fn offered(world: &World, device: &TestDevice) -> Option<String> {
    world.client.device(&device.id).await.unwrap().desired.map(|release| release.to_string())
}

async fn order(world: &World, device: &TestDevice, order: UpdateOrder) -> Why {
    world.client.order_updates(&device.id, &order).await.unwrap()
}

fn rolled_back(version: &str) -> State {
    let reason = RollbackReason::Health { evidence: "no screen".into() };
    State::RolledBack { target: version.parse().unwrap(), reason }
}

#[actix_web::test]
async fn a_device_that_enrolls_or_returns_later_is_offered_what_its_fleet_runs() {
    let (world, first, _) = world().await;
    let late = world.enroll().await;
    assert_eq!(offered(&world, &late).await, None);
    report(&world, &late, "kiosk@1", State::Idle).await;
    assert_eq!(offered(&world, &late).await.as_deref(), Some("kiosk@2"));
    report(&world, &late, "kiosk@2", State::Idle).await;
    assert_eq!(why(&world, &late).await.first, Some(Gate::Runs));
    // It was no part of the rollout, and needs no row.
    let rollouts = world.client.rollouts().await.unwrap();
    assert_eq!((rollouts.len(), rollouts[0].counts.total), (1, 1));
    // One that comes back with an older version, as after a repair.
    report(&world, &first, "kiosk@1", State::Idle).await;
    assert_eq!(offered(&world, &first).await.as_deref(), Some("kiosk@2"));
    // Nothing is ever a downgrade, or another image line.
    for (running, gate) in [("kiosk@3", Gate::Version), ("signage@1", Gate::Line)] {
        let other = world.enroll().await;
        report(&world, &other, running, State::Idle).await;
        let why = why(&world, &other).await;
        assert_eq!((why.first, why.desired), (Some(gate), None), "{running}");
    }
}

#[actix_web::test]
async fn a_device_that_connects_is_offered_what_its_fleet_runs_before_it_reports() {
    let (world, _, _) = world().await;
    let late = world.enroll().await;
    let mut peer = Peer::session(&world, &late).await;
    assert_eq!(
        crate::rollout::next_desired(&mut peer).await.release,
        Some("kiosk@2".parse().unwrap())
    );
}

#[actix_web::test]
async fn a_device_that_comes_during_a_rollout_never_gets_the_release_before_its_fleet() {
    let (world, first, _) = world().await;
    let wave = |size: &str, start| Wave { size: size.parse().unwrap(), start, soak_s: 0 };
    let plan = Plan::of(vec![wave("1", Start::ByHand), wave("100%", Start::AfterSuccess)]);
    let request = CreateRollout { plan: Some(plan), ..start("kiosk@3") };
    let rollout = world.client.start_rollout(&request).await.unwrap();
    let waits = why(&world, &first).await;
    assert_eq!(
        (waits.first, waits.desired.unwrap().to_string().as_str()),
        (Some(Gate::Wave), "kiosk@2")
    );
    let late = world.enroll().await;
    report(&world, &late, "kiosk@1", State::Idle).await;
    assert_eq!(offered(&world, &late).await.as_deref(), Some("kiosk@2"));
    world.client.abort_rollout(&rollout.id).await.unwrap();
    let channel = world.client.channel(&"demo".parse().unwrap()).await.unwrap();
    assert_eq!(channel.release.unwrap().to_string(), "kiosk@2");
    // A rollout without waves is for everybody, also for those that come later.
    world.client.start_rollout(&start("kiosk@3")).await.unwrap();
    let later = world.enroll().await;
    report(&world, &later, "kiosk@1", State::Idle).await;
    assert_eq!(offered(&world, &later).await.as_deref(), Some("kiosk@3"));
}

#[actix_web::test]
async fn a_held_device_is_offered_nothing_until_the_hold_ends() {
    let (world, _, ahead) = world().await;
    let device = world.enroll().await;
    report(&world, &device, "kiosk@1", State::Idle).await;
    let until_s = Some(now_s() + 600);
    let hold = UpdateOrder::Hold { reason: "exhibition".into(), until_s };
    let held = order(&world, &device, hold.clone()).await;
    assert_eq!((held.first, &held.desired), (Some(Gate::Hold), &None));
    assert!(held.deciding().unwrap().text.contains("exhibition"));
    // In a rollout nobody waits for it.
    report(&world, &device, "kiosk@1", State::Idle).await;
    let rollout = world.client.start_rollout(&start("kiosk@3")).await.unwrap();
    assert_eq!(rollout.counts.unreached, 1);
    world.client.abort_rollout(&rollout.id).await.unwrap();
    // Time alone is no event: telemetry is.
    ahead.store(601, Ordering::SeqCst);
    let mut peer = Peer::session(&world, &device).await;
    let telemetry = serde_json::json!({"uptime_s": 1, "load_milli": 1, "memory_used_kib": 1,
        "memory_total_kib": 1, "data_used_kib": 1, "data_total_kib": 1});
    let topic = Up::Telemetry.topic(&device.id);
    peer.publish(topic, telemetry.to_string().as_bytes(), 1).await;
    wait_for_ack(&mut peer, 1, PubAckReason::Success).await;
    assert_eq!(offered(&world, &device).await.as_deref(), Some("kiosk@2"));
    let past = UpdateOrder::Hold { reason: "late".into(), until_s };
    assert!(world.client.order_updates(&device.id, &past).await.is_err());
    let silent = UpdateOrder::Hold { reason: " ".into(), until_s: None };
    assert!(world.client.order_updates(&device.id, &silent).await.is_err());
    order(&world, &device, UpdateOrder::Hold { reason: "exhibition".into(), until_s: None }).await;
    assert_eq!(offered(&world, &device).await, None);
    let free = order(&world, &device, UpdateOrder::Unhold {}).await;
    assert_eq!(free.desired.unwrap().to_string(), "kiosk@2");
    let log = world.audit().await;
    assert!(log.contains("device.hold") && log.contains("device.unhold"), "{log}");
}

#[actix_web::test]
async fn a_pin_goes_before_fleet_and_rollout_and_its_end_takes_its_offer_back() {
    let (world, _, _) = world().await;
    let device = world.enroll().await;
    report(&world, &device, "kiosk@1", State::Idle).await;
    let pin = |release: &str| UpdateOrder::Pin {
        release: release.parse().unwrap(),
        reason: "lab".into(),
    };
    let pinned = order(&world, &device, pin("kiosk@3")).await;
    assert_eq!(pinned.target.unwrap().source, Source::Pin);
    assert_eq!(pinned.desired.unwrap().to_string(), "kiosk@3");
    assert!(world.client.order_updates(&device.id, &pin("kiosk@9")).await.is_err());
    let free = order(&world, &device, UpdateOrder::Unpin {}).await;
    assert_eq!(free.desired.unwrap().to_string(), "kiosk@2");
    // A rollout of another release does not move it, and does not wait for it.
    order(&world, &device, pin("kiosk@2")).await;
    let rollout = world.client.start_rollout(&start("kiosk@3")).await.unwrap();
    assert_eq!(rollout.counts.unreached, 1);
    assert_eq!(offered(&world, &device).await.as_deref(), Some("kiosk@2"));
    world.client.abort_rollout(&rollout.id).await.unwrap();
    assert_eq!(offered(&world, &device).await.as_deref(), Some("kiosk@2"));
}

#[actix_web::test]
async fn a_fleet_that_is_pinned_starts_no_rollout() {
    let (world, _, _) = world().await;
    let fleet = "demo".parse().unwrap();
    let pin = PinFleet { release: Some("kiosk@3".parse().unwrap()), reason: "leave 2".into() };
    world.client.pin_fleet(&fleet, &pin).await.unwrap();
    let late = world.enroll().await;
    report(&world, &late, "kiosk@1", State::Idle).await;
    assert_eq!(why(&world, &late).await.target.unwrap().source, Source::FleetPin);
    assert_eq!(offered(&world, &late).await.as_deref(), Some("kiosk@3"));
    let refused = world.client.start_rollout(&start("kiosk@2")).await.unwrap_err().to_string();
    assert!(refused.contains("is pinned to kiosk@3"), "{refused}");
    let end = PinFleet { release: None, reason: "done".into() };
    let channel = world.client.pin_fleet(&fleet, &end).await.unwrap();
    assert_eq!((channel.pin, channel.release.unwrap().to_string().as_str()), (None, "kiosk@2"));
    world.client.start_rollout(&start("kiosk@2")).await.unwrap();
}

#[actix_web::test]
async fn a_version_that_failed_waits_in_the_penalty_box() {
    let (world, _, ahead) = world().await;
    let device = world.enroll().await;
    report(&world, &device, "kiosk@1", State::Idle).await;
    let failed = State::Failed { target: "2".parse().unwrap(), code: FailureCode::StageFailed };
    report(&world, &device, "kiosk@1", failed.clone()).await;
    assert_eq!(offered(&world, &device).await, None);
    report(&world, &device, "kiosk@1", failed).await;
    let boxed = why(&world, &device).await;
    assert_eq!((boxed.first, boxed.penalty.unwrap().failures), (Some(Gate::Penalty), 1));
    ahead.store(601, Ordering::SeqCst);
    report(&world, &device, "kiosk@1", State::Idle).await;
    assert_eq!(offered(&world, &device).await.as_deref(), Some("kiosk@2"));
    // What was rolled back waits for an operator, however long.
    report(&world, &device, "kiosk@1", rolled_back("2")).await;
    ahead.store(2_000_000, Ordering::SeqCst);
    report(&world, &device, "kiosk@1", rolled_back("2")).await;
    assert_eq!(offered(&world, &device).await, None);
    assert_eq!(why(&world, &device).await.penalty.unwrap().failures, 2);
    world.client.forgive_device(&device.id, &"2".parse().unwrap()).await.unwrap();
    assert_eq!(offered(&world, &device).await.as_deref(), Some("kiosk@2"));
    // A higher version is offered at once.
    report(&world, &device, "kiosk@1", rolled_back("2")).await;
    let rollout = world.client.start_rollout(&start("kiosk@3")).await.unwrap();
    assert_eq!(offered(&world, &device).await.as_deref(), Some("kiosk@3"));
    assert_eq!(rollout.phase, Phase::Running);
}

#[actix_web::test]
async fn a_device_is_moved_and_offered_what_its_new_fleet_runs() {
    let (world, first, _) = world().await;
    let to =
        |fleet: &str| UpdateOrder::Move { fleet: fleet.parse().unwrap(), reason: "sold".into() };
    let device = world.enroll().await;
    report(&world, &device, "kiosk@1", State::Idle).await;
    let moved = order(&world, &device, to("shop")).await;
    assert_eq!((moved.fleet.as_str(), &moved.desired), ("shop", &None));
    assert_eq!(moved.first, Some(Gate::Target));
    let back = order(&world, &device, to("demo")).await;
    assert_eq!(back.desired.unwrap().to_string(), "kiosk@2");
    assert!(world.client.order_updates(&device.id, &to("demo")).await.is_err());
    let rollout = world.client.start_rollout(&start("kiosk@3")).await.unwrap();
    let refused = world.client.order_updates(&first.id, &to("shop")).await.unwrap_err().to_string();
    assert!(refused.contains(&rollout.id), "{refused}");
    assert!(world.audit().await.contains("device.move"));
}

/// Numbers that look random, and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// One act on the fleet, or on one device. Acts that are refused change nothing.
async fn act(world: &World, device: &TestDevice, dice: &mut Dice) {
    let release = ["kiosk@1", "kiosk@2", "kiosk@3"][usize::try_from(dice.below(3)).unwrap()];
    let order = match dice.below(10) {
        0 | 1 => UpdateOrder::Hold { reason: "r".into(), until_s: None },
        2 | 3 => UpdateOrder::Unhold {},
        4 => UpdateOrder::Pin { release: release.parse().unwrap(), reason: "r".into() },
        5 => UpdateOrder::Unpin {},
        n => {
            let active = world.client.rollouts().await.unwrap();
            let active = active.iter().find(|rollout| !rollout.phase.is_terminal());
            match (n, active) {
                (6 | 7, None) => drop(world.client.start_rollout(&start(release)).await),
                (6 | 7, Some(active)) => drop(world.client.pause_rollout(&active.id).await),
                (8, Some(active)) => drop(world.client.resume_rollout(&active.id).await),
                (9, Some(active)) => drop(world.client.abort_rollout(&active.id).await),
                _ => drop(world.client.forgive_device(&device.id, &"2".parse().unwrap()).await),
            }
            return;
        }
    };
    drop(world.client.order_updates(&device.id, &order).await);
}

/// The explanation is what happens: after any acts, a device that reported is offered its target exactly
/// if no gate is closed.
#[actix_web::test]
async fn why_never_differs_from_what_is_offered() {
    let (world, first, _) = world().await;
    publish_release(&world, "kiosk@1").await;
    let devices = [first, world.enroll().await];
    let (mut dice, mut closed, mut open) = (Dice(7), 0, 0);
    for step in 0..60 {
        let device = &devices[usize::try_from(dice.below(2)).unwrap()];
        act(&world, device, &mut dice).await;
        let running = ["kiosk@1", "kiosk@1", "kiosk@2"][usize::try_from(dice.below(3)).unwrap()];
        let update = match dice.below(6) {
            0 => rolled_back("2"),
            1 => State::Staging { target: "3".parse().unwrap(), attempt: 1 },
            _ => State::Idle,
        };
        let payload = report_of(running, update);
        received(&world.server.control, &device.id, Up::Report, &payload).await.unwrap();
        let why = why(&world, device).await;
        let Some(target) = &why.target else { continue };
        let stop = why.gates.iter().find(|c| c.state == GateState::Closed && c.gate != Gate::Runs);
        let is_offered = why.desired.as_ref() == Some(&target.release);
        let runs_it = why.running.as_ref() == Some(&target.release);
        match stop {
            None => {
                open += 1;
                assert!(is_offered || runs_it, "{step}: {why:?}");
            }
            Some(_) => {
                closed += 1;
                assert!(!is_offered || runs_it, "{step}: {why:?}");
            }
        }
    }
    assert!(closed > 5 && open > 5, "{closed} closed, {open} open");
}
