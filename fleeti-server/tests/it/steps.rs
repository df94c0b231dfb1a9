//! Rollouts over the wire: floors, blocked ways, retries, budgets and waves by filter.

use crate::rollout::{publish_release, report, start};
use crate::trust::until;
use crate::world::{TestDevice, World};
use fleeti_client::ClientError;
use fleeti_control::clock::{Clock, now_s};
use fleeti_core::rollout::budget::Budget;
use fleeti_core::rollout::forecast::{Expected, Group};
use fleeti_core::rollout::gates::{Blocked, Gate, GateState, ReleasePath};
use fleeti_core::rollout::plan::{Plan, Start, Wave};
use fleeti_core::rollout::{DevicePhase, Phase};
use fleeti_core::update::{FailureCode, State};
use fleeti_core::wire::api::CreateRollout;
use fleeti_core::wire::labels::{ChangeLabels, LabelType};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn in_waves(sizes: &[&str]) -> Plan {
    let wave =
        |size: &&str| Wave { size: size.parse().unwrap(), start: Start::AfterSuccess, soak_s: 0 };
    Plan::of(sizes.iter().map(wave).collect())
}

fn rollout_of(plan: Plan) -> CreateRollout {
    CreateRollout { plan: Some(plan), ..start("kiosk@3") }
}

/// A server whose clock can be moved, with two releases, and devices that run an older one.
async fn world(devices: usize) -> (World, Vec<TestDevice>, Arc<AtomicU64>) {
    let ahead = Arc::new(AtomicU64::new(0));
    let moved = ahead.clone();
    let world = World::with(move |config| {
        config.clock = Clock::of(move || now_s() + moved.load(Ordering::SeqCst));
    })
    .await;
    publish_release(&world, "kiosk@2").await;
    publish_release(&world, "kiosk@3").await;
    let mut all = Vec::new();
    for _ in 0..devices {
        let device = world.enroll().await;
        report(&world, &device, "kiosk@1", State::Idle).await;
        all.push(device);
    }
    (world, all, ahead)
}

async fn offered(world: &World, device: &TestDevice) -> Option<String> {
    world.client.device(&device.id).await.unwrap().desired.map(|release| release.to_string())
}

async fn set_path(world: &World, release: &str, path: ReleasePath) -> ReleasePath {
    world.client.set_release_path(&release.parse().unwrap(), &path).await.unwrap()
}

fn floor() -> ReleasePath {
    ReleasePath { floor: Some("new data format".into()), blocked: vec![] }
}

/// The state of a gate, and what it says.
async fn gate(world: &World, device: &TestDevice, gate: Gate) -> (GateState, String) {
    let why = world.client.why(&device.id).await.unwrap();
    let check = why.gates.into_iter().find(|check| check.gate == gate).unwrap();
    (check.state, check.text)
}

async fn label(world: &World, device: &TestDevice, value: &str) {
    let key = "rack".parse().unwrap();
    let set = [(key, value.to_owned())].into_iter().collect();
    let change = ChangeLabels { set, remove: vec![] };
    world.client.change_labels(&device.id, &change).await.unwrap();
}

#[actix_web::test]
async fn a_device_below_a_floor_is_offered_the_floor_and_goes_on_by_itself() {
    let (world, devices, _) = world(1).await;
    let device = &devices[0];
    set_path(&world, "kiosk@2", floor()).await;
    let planned = world.client.plan_rollout(&start("kiosk@3")).await.unwrap();
    assert_eq!(planned.expected, [Group { expected: Expected::ByFloor, devices: 1 }]);
    let rollout = world.client.start_rollout(&rollout_of(in_waves(&["100%"]))).await.unwrap();
    assert_eq!(offered(&world, device).await.as_deref(), Some("kiosk@2"));
    let why = world.client.why(&device.id).await.unwrap();
    assert_eq!(why.via, Some("kiosk@2".parse().unwrap()));
    let (state, text) = gate(&world, device, Gate::Floor).await;
    assert_eq!(state, GateState::Waits);
    assert!(text.contains("kiosk@2 first: new data format"), "{text}");
    let found = world.client.rollout(&rollout.id).await.unwrap();
    assert_eq!(found.devices[0].via, Some("kiosk@2".parse().unwrap()));
    report(&world, device, "kiosk@2", State::Idle).await;
    until("it goes on", async || offered(&world, device).await.as_deref() == Some("kiosk@3")).await;
    assert_eq!(gate(&world, device, Gate::Floor).await.0, GateState::Open);
    report(&world, device, "kiosk@3", State::Idle).await;
    let found = world.client.rollout(&rollout.id).await.unwrap();
    assert_eq!((found.phase, found.counts.succeeded), (Phase::Succeeded, 1));
    assert!(world.audit().await.contains("release.path"));
}

#[actix_web::test]
async fn a_device_that_comes_later_passes_the_floor_to_the_channel_of_its_fleet() {
    let (world, devices, _) = world(1).await;
    world.client.start_rollout(&start("kiosk@3")).await.unwrap();
    report(&world, &devices[0], "kiosk@3", State::Idle).await;
    set_path(&world, "kiosk@2", floor()).await;
    let late = world.enroll().await;
    // Nothing is known of it before.
    assert_eq!(offered(&world, &late).await, None);
    for (running, wanted) in [("kiosk@1", "kiosk@2"), ("kiosk@2", "kiosk@3")] {
        report(&world, &late, running, State::Idle).await;
        assert_eq!(offered(&world, &late).await.as_deref(), Some(wanted));
    }
}

#[actix_web::test]
async fn a_blocked_way_holds_devices_back_with_its_reason_until_it_is_open() {
    let (world, devices, _) = world(2).await;
    let device = &devices[0];
    let blocked = Blocked { from: "..1.4".parse().unwrap(), reason: "loses its keys".into() };
    let path = ReleasePath { floor: None, blocked: vec![blocked] };
    let rollout = world.client.start_rollout(&rollout_of(in_waves(&["100%"]))).await.unwrap();
    assert_eq!(offered(&world, device).await.as_deref(), Some("kiosk@3"));
    // Also what was offered already is taken back.
    set_path(&world, "kiosk@3", path).await;
    until("the offer is taken back", async || offered(&world, device).await.is_none()).await;
    let (state, text) = gate(&world, device, Gate::Edge).await;
    assert_eq!(state, GateState::Closed);
    assert!(text.contains("from kiosk@1 to kiosk@3 is blocked: loses its keys"), "{text}");
    report(&world, &devices[1], "kiosk@1.5", State::Idle).await;
    assert_eq!(offered(&world, &devices[1]).await.as_deref(), Some("kiosk@3"));
    set_path(&world, "kiosk@3", ReleasePath::default()).await;
    until("it is offered it", async || offered(&world, device).await.is_some()).await;
    let found = world.client.rollout(&rollout.id).await.unwrap();
    assert!(found.devices.iter().all(|d| d.phase == DevicePhase::Offered), "{found:?}");
    let wrong = Blocked { from: "1..3".parse().unwrap(), reason: "r".into() };
    let wrong = ReleasePath { floor: None, blocked: vec![wrong] };
    let release = "kiosk@3".parse().unwrap();
    let refused = world.client.set_release_path(&release, &wrong).await.unwrap_err();
    assert!(refused.to_string().contains("lower versions only"), "{refused}");
    let wrong = ReleasePath { floor: Some(" ".into()), blocked: vec![] };
    let refused = world.client.set_release_path(&release, &wrong).await.unwrap_err();
    assert!(refused.to_string().contains("reason"), "{refused}");
    world.client.revoke_release(&release).await.unwrap();
    let late = ReleasePath { floor: Some("new data".into()), blocked: vec![] };
    let Err(ClientError::Refused(problem)) = world.client.set_release_path(&release, &late).await
    else {
        panic!("a revoked release became a floor")
    };
    assert_eq!(problem.status, 409);
}

#[actix_web::test]
async fn a_device_that_fails_is_offered_the_release_again_after_its_pause() {
    let (world, devices, ahead) = world(1).await;
    let device = &devices[0];
    let failed = || State::Failed { target: "3".parse().unwrap(), code: FailureCode::StageFailed };
    let plan = Plan { retries: 1, ..in_waves(&["100%"]) };
    let rollout = world.client.start_rollout(&rollout_of(plan)).await.unwrap();
    report(&world, device, "kiosk@1", failed()).await;
    let found = world.client.rollout(&rollout.id).await.unwrap();
    assert!(matches!(found.devices[0].phase, DevicePhase::Retrying { .. }), "{found:?}");
    assert_eq!((found.phase, found.counts.queued), (Phase::Running, 1));
    assert_eq!(offered(&world, device).await, None);
    // The pause, and the time until the server looks.
    ahead.store(700, Ordering::SeqCst);
    until("it is offered it again", async || offered(&world, device).await.is_some()).await;
    report(&world, device, "kiosk@1", failed()).await;
    let found = world.client.rollout(&rollout.id).await.unwrap();
    assert!(matches!(found.devices[0].phase, DevicePhase::Failed { .. }), "{found:?}");
    assert!(matches!(found.phase, Phase::Pausing | Phase::Paused), "{found:?}");
}

#[actix_web::test]
async fn a_budget_leaves_devices_of_each_group_alone_and_is_refused_if_it_can_never_move() {
    let (world, devices, _) = world(4).await;
    let rack = "rack".parse().unwrap();
    let with = |budget: &str| {
        let budget: Budget = budget.parse().unwrap();
        rollout_of(Plan { budget: Some(budget), ..in_waves(&["100%"]) })
    };
    let refused = world.client.start_rollout(&with("rack:1")).await.unwrap_err();
    assert!(refused.to_string().contains("no label key rack"), "{refused}");
    world.client.declare_label_key(&rack, LabelType::Text).await.unwrap();
    for (device, value) in devices.iter().zip(["a", "a", "b", "b"]) {
        label(&world, device, value).await;
    }
    let refused = world.client.start_rollout(&with("rack:2")).await.unwrap_err();
    assert!(refused.to_string().contains("none of them ever could"), "{refused}");
    let rollout = world.client.start_rollout(&with("rack:50%")).await.unwrap();
    let of_racks = async || {
        let mut found = [0, 0];
        for (n, device) in devices.iter().enumerate() {
            found[n / 2] += usize::from(offered(&world, device).await.is_some());
        }
        found
    };
    assert_eq!(of_racks().await, [1, 1]);
    let waiting = world.client.rollout(&rollout.id).await.unwrap();
    assert_eq!(waiting.counts.queued, 2);
    let queued = waiting.devices.iter().find(|d| d.phase == DevicePhase::Queued).unwrap();
    let queued = devices.iter().find(|device| device.id == queued.device).unwrap();
    assert_eq!(gate(&world, queued, Gate::Budget).await.0, GateState::Closed);
    for _ in 0..2 {
        for device in &devices {
            if offered(&world, device).await.is_some() {
                report(&world, device, "kiosk@3", State::Idle).await;
            }
        }
        until("the next ones", async || {
            let found = world.client.rollout(&rollout.id).await.unwrap();
            found.counts.queued + found.counts.pending == 0
        })
        .await;
    }
    let done = world.client.rollout(&rollout.id).await.unwrap();
    assert_eq!((done.phase, done.counts.succeeded), (Phase::Succeeded, 4), "{done:?}");
}

#[actix_web::test]
async fn a_wave_by_filter_has_the_devices_that_it_matches_at_the_start() {
    let (world, devices, _) = world(3).await;
    let rack = "rack".parse().unwrap();
    let plan = || rollout_of(in_waves(&["filter:rack=lab", "100%"]));
    let refused = world.client.start_rollout(&plan()).await.unwrap_err();
    assert!(refused.to_string().contains("filter of wave 1"), "{refused}");
    world.client.declare_label_key(&rack, LabelType::Text).await.unwrap();
    let refused = world.client.start_rollout(&plan()).await.unwrap_err();
    assert!(refused.to_string().contains("no device of fleet demo matches"), "{refused}");
    label(&world, &devices[1], "lab").await;
    let planned = world.client.plan_rollout(&plan()).await.unwrap();
    assert_eq!(planned.waves[0].expected, [Group { expected: Expected::Updates, devices: 1 }]);
    world.client.start_rollout(&plan()).await.unwrap();
    // A label that changes later changes nothing.
    label(&world, &devices[2], "lab").await;
    let found = [offered(&world, &devices[0]).await, offered(&world, &devices[2]).await];
    assert_eq!((found, offered(&world, &devices[1]).await.is_some()), ([None, None], true));
    report(&world, &devices[1], "kiosk@3", State::Idle).await;
    until("the last wave", async || offered(&world, &devices[0]).await.is_some()).await;
}
