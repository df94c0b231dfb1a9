//! Rollouts in waves, over the wire: who is offered the release, and when.

use crate::peer::Peer;
use crate::rollout::{next_desired, publish_release, report, start};
use crate::trust::until;
use crate::world::{TestDevice, World};
use fleeti_control::clock::{Clock, now_s};
use fleeti_core::rollout::cohort::cohort;
use fleeti_core::rollout::forecast::{End, Expected, Group};
use fleeti_core::rollout::plan::{ErrorsMax, OnError, Plan, Rate, Start, Wave};
use fleeti_core::rollout::waves::Stage;
use fleeti_core::rollout::{DevicePhase, Phase};
use fleeti_core::update::{FailureCode, State};
use fleeti_core::wire::api::{CreateRollout, RolloutSummary};
use fleeti_core::wire::updates::PinFleet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn in_waves(sizes: &[&str], soak_s: u64) -> CreateRollout {
    let wave =
        |size: &&str| Wave { size: size.parse().unwrap(), start: Start::AfterSuccess, soak_s };
    CreateRollout { plan: Some(Plan::of(sizes.iter().map(wave).collect())), ..start("kiosk@2") }
}

/// A server whose clock can be moved, with a release.
async fn world() -> (World, Arc<AtomicU64>) {
    let ahead = Arc::new(AtomicU64::new(0));
    let moved = ahead.clone();
    let world = World::with(move |config| {
        config.clock = Clock::of(move || now_s() + moved.load(Ordering::SeqCst));
    })
    .await;
    publish_release(&world, "kiosk@2").await;
    (world, ahead)
}

/// Three devices and a rollout to them, in the order of their cohorts.
async fn begun(world: &World, plan: &CreateRollout) -> (RolloutSummary, Vec<TestDevice>) {
    let mut devices = vec![world.enroll().await, world.enroll().await, world.enroll().await];
    let rollout = world.client.start_rollout(plan).await.unwrap();
    devices.sort_by_key(|device| cohort(&rollout.id, &device.id));
    (rollout, devices)
}

async fn is_offered(world: &World, device: &TestDevice) -> bool {
    world.client.device(&device.id).await.unwrap().desired.is_some()
}

async fn offered(world: &World, devices: &[TestDevice]) -> Vec<bool> {
    let mut offered = Vec::new();
    for device in devices {
        offered.push(is_offered(world, device).await);
    }
    offered
}

fn failed() -> State {
    State::Failed { target: "2".parse().unwrap(), code: FailureCode::StageFailed }
}

#[actix_web::test]
async fn the_second_wave_waits_until_the_first_device_has_succeeded_and_soaked() {
    let (world, ahead) = world().await;
    let (rollout, devices) = begun(&world, &in_waves(&["1", "100%"], 600)).await;
    assert_eq!((rollout.phase, rollout.counts.pending), (Phase::Running, 2));
    assert_eq!(offered(&world, &devices).await, [true, false, false]);
    report(&world, &devices[0], "kiosk@2", State::Idle).await;
    let soaks = world.client.rollout(&rollout.id).await.unwrap();
    assert!(matches!(soaks.waves.unwrap().stage, Stage::Soaking { .. }));
    assert_eq!(offered(&world, &devices[1..]).await, [false, false]);
    ahead.store(600, Ordering::SeqCst);
    // Any report wakes the server before its next look at the clock.
    report(&world, &devices[2], "kiosk@1", State::Idle).await;
    until("both are offered the release", async || offered(&world, &devices).await == [true; 3])
        .await;
    for device in &devices[1..] {
        report(&world, device, "kiosk@2", State::Idle).await;
    }
    let done = world.client.rollout(&rollout.id).await.unwrap();
    assert_eq!((done.phase, done.counts.succeeded), (Phase::Succeeded, 3));
    assert_eq!(done.devices.iter().filter(|d| d.wave == Some(1)).count(), 2);
}

#[actix_web::test]
async fn an_error_pauses_the_rollout_and_takes_the_offers_back_until_somebody_resumes_it() {
    let (world, _) = world().await;
    let (rollout, devices) = begun(&world, &in_waves(&["2", "100%"], 0)).await;
    assert_eq!(offered(&world, &devices).await, [true, true, false]);
    report(&world, &devices[0], "kiosk@1", failed()).await;
    let phase = async || world.client.rollout(&rollout.id).await.unwrap().phase;
    until("it is paused", async || phase().await == Phase::Paused).await;
    assert_eq!(offered(&world, &devices).await, [false; 3]);
    // A device that was offered the release and comes back does not get it.
    report(&world, &devices[1], "kiosk@1", State::Idle).await;
    assert_eq!(offered(&world, &devices).await, [false; 3]);
    let stopped = world.client.rollout(&rollout.id).await.unwrap();
    assert_eq!(stopped.waves.unwrap().errors.unwrap().failed, 1);
    assert!(world.client.pause_rollout(&rollout.id).await.is_err());
    world.client.resume_rollout(&rollout.id).await.unwrap();
    assert_eq!(offered(&world, &devices).await, [false, true, false]);
    report(&world, &devices[1], "kiosk@2", State::Idle).await;
    until("the last wave", async || is_offered(&world, &devices[2]).await).await;
    let log = world.audit().await;
    assert!(log.contains("rollout.resume") && log.contains("wave 2 devices"), "{log}");
}

#[actix_web::test]
async fn an_offline_canary_is_replaced_and_gets_the_release_when_it_returns() {
    let (world, ahead) = world().await;
    let (rollout, devices) = begun(&world, &in_waves(&["1", "100%"], 0)).await;
    ahead.store(900, Ordering::SeqCst);
    report(&world, &devices[2], "kiosk@1", State::Idle).await;
    until("another device takes its place", async || {
        offered(&world, &devices).await == [false, true, false]
    })
    .await;
    let found = world.client.rollout(&rollout.id).await.unwrap();
    assert_eq!((found.counts.unreached, found.phase), (1, Phase::Running));
    report(&world, &devices[0], "kiosk@1", State::Idle).await;
    assert_eq!(offered(&world, &devices).await, [true, true, false]);
}

#[actix_web::test]
async fn a_wave_by_hand_begins_with_a_reason_and_never_while_devices_update() {
    let (world, _) = world().await;
    let mut plan = in_waves(&["1", "100%"], 0);
    let waves = &mut plan.plan.as_mut().unwrap().waves;
    waves[1].start = Start::ByHand;
    let (rollout, devices) = begun(&world, &plan).await;
    let refused = world.client.next_wave(&rollout.id, "quick").await.unwrap_err().to_string();
    assert!(refused.contains("1 devices have not finished"), "{refused}");
    report(&world, &devices[0], "kiosk@2", State::Idle).await;
    assert_eq!(offered(&world, &devices[1..]).await, [false, false]);
    let refused = world.client.next_wave(&rollout.id, " ").await.unwrap_err().to_string();
    assert!(refused.contains("reason"), "{refused}");
    world.client.next_wave(&rollout.id, "seen in the lab").await.unwrap();
    assert_eq!(offered(&world, &devices[1..]).await, [true, true]);
    assert!(world.audit().await.contains("seen in the lab"));
}

#[actix_web::test]
async fn nobody_ends_the_last_wave_while_devices_wait_for_their_offer() {
    let (world, _) = world().await;
    let mut plan = in_waves(&["100%"], 0);
    plan.plan.as_mut().unwrap().rate = Some(Rate { devices: 1, per_s: 3600 });
    let (rollout, devices) = begun(&world, &plan).await;
    report(&world, &devices[0], "kiosk@2", State::Idle).await;
    let refused = world.client.next_wave(&rollout.id, "quick").await.unwrap_err().to_string();
    assert!(refused.contains("2 devices have not finished"), "{refused}");
    let found = world.client.rollout(&rollout.id).await.unwrap();
    assert_eq!((found.phase, found.counts.pending), (Phase::Running, 2));
}

#[actix_web::test]
async fn a_plan_that_cannot_work_is_refused_before_anything_moves() {
    let (world, _) = world().await;
    let device = world.enroll().await;
    for (sizes, wanted) in [
        (&["1"][..], "100%"),
        (&["devices:nobody", "100%"], "nobody is not a device of fleet demo"),
        (&["5", "2", "100%"], "not larger"),
    ] {
        let refused = world.client.start_rollout(&in_waves(sizes, 0)).await.unwrap_err();
        assert!(refused.to_string().contains(wanted), "{refused}");
    }
    assert!(!is_offered(&world, &device).await);
    assert!(world.client.rollouts().await.unwrap().is_empty());
}

/// Without waves too.
#[actix_web::test]
async fn a_rollout_to_everybody_can_be_paused_and_resumed() {
    let (world, _) = world().await;
    let (rollout, devices) = begun(&world, &start("kiosk@2")).await;
    report(&world, &devices[0], "kiosk@2", State::Idle).await;
    world.client.pause_rollout(&rollout.id).await.unwrap();
    assert_eq!(offered(&world, &devices[1..]).await, [false, false]);
    let late = world.enroll().await;
    assert!(!is_offered(&world, &late).await);
    world.client.resume_rollout(&rollout.id).await.unwrap();
    assert_eq!(offered(&world, &devices[1..]).await, [true, true]);
    let found = world.client.rollout(&rollout.id).await.unwrap();
    let pending = found.devices.iter().filter(|d| d.phase == DevicePhase::Pending).count();
    assert_eq!((found.phase, pending), (Phase::Running, 0));
}

#[actix_web::test]
async fn accepted_errors_do_not_stop_a_rollout() {
    let (world, _) = world().await;
    let mut plan = in_waves(&["2", "100%"], 0);
    plan.plan.as_mut().unwrap().errors_max = ErrorsMax::Count { devices: 1 };
    let (rollout, devices) = begun(&world, &plan).await;
    report(&world, &devices[0], "kiosk@1", failed()).await;
    report(&world, &devices[1], "kiosk@2", State::Idle).await;
    until("the last wave", async || is_offered(&world, &devices[2]).await).await;
    report(&world, &devices[2], "kiosk@2", State::Idle).await;
    let done = world.client.rollout(&rollout.id).await.unwrap();
    assert_eq!((done.phase, done.counts.failed), (Phase::Succeeded, 1));
}

#[actix_web::test]
async fn a_plan_says_what_the_rollout_would_do_and_starts_nothing() {
    let (world, ahead) = world().await;
    let mut devices = Vec::new();
    for _ in 0..5 {
        devices.push(world.enroll().await);
    }
    let request = in_waves(&["1", "100%"], 600);
    // The last one is not heard of again.
    ahead.store(1000, Ordering::SeqCst);
    for (device, running) in devices.iter().zip(["kiosk@1", "kiosk@1", "kiosk@2", "kiosk@3"]) {
        report(&world, device, running, State::Idle).await;
    }
    let expected = |expected, devices| Group { expected, devices };
    let found = world.client.plan_rollout(&request).await.unwrap();
    let all = [
        expected(Expected::Updates, 2),
        expected(Expected::RunsIt, 1),
        expected(Expected::Offline, 1),
        expected(Expected::TooOld, 1),
    ];
    assert_eq!((found.devices, found.expected.as_slice()), (5, &all[..]));
    assert!(matches!(found.end, End::Succeeds { .. }), "{:?}", found.end);
    assert_eq!((found.duration.measured, found.active), (0, None));
    assert!(world.client.rollouts().await.unwrap().is_empty());
    // A device that a wave names is counted there, and only there.
    let named = format!("devices:{}", devices[2].id);
    let found = world.client.plan_rollout(&in_waves(&[&named, "100%"], 0)).await.unwrap();
    assert_eq!(found.waves[0].expected, [expected(Expected::RunsIt, 1)]);
    assert_eq!((found.devices, found.expected.as_slice()), (5, &all[..]));
    // What the last rollout took is what the next one is expected to take.
    let rollout = world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    ahead.store(1120, Ordering::SeqCst);
    report(&world, &devices[0], "kiosk@2", State::Idle).await;
    let found = world.client.plan_rollout(&request).await.unwrap();
    assert_eq!(found.duration.measured, 1, "the one that ran it before is left out");
    assert!((120..=150).contains(&found.duration.seconds), "{:?}", found.duration);
    assert_eq!(found.active, Some(rollout.id));
}

/// Devices that run kiosk@1, and a rollout of kiosk@2 to them, in the order of their cohorts.
async fn updating(world: &World, plan: &CreateRollout) -> (RolloutSummary, Vec<TestDevice>) {
    publish_release(world, "kiosk@1").await;
    let mut devices = vec![world.enroll().await, world.enroll().await, world.enroll().await];
    for device in &devices {
        report(world, device, "kiosk@1", State::Idle).await;
    }
    let rollout = world.client.start_rollout(plan).await.unwrap();
    devices.sort_by_key(|device| cohort(&rollout.id, &device.id));
    (rollout, devices)
}

async fn way_back(world: &World, of: &RolloutSummary) -> Option<RolloutSummary> {
    let all = world.client.rollouts().await.unwrap();
    all.into_iter().find(|rollout| rollout.back_of.as_ref() == Some(&of.id))
}

#[actix_web::test]
async fn too_many_errors_take_devices_back_to_what_they_ran_before() {
    let (world, _) = world().await;
    let mut request = in_waves(&["2", "100%"], 0);
    request.plan.as_mut().unwrap().on_error = OnError::RollBack;
    let (rollout, devices) = updating(&world, &request).await;
    report(&world, &devices[0], "kiosk@2", State::Idle).await;
    assert_eq!(way_back(&world, &rollout).await, None);
    report(&world, &devices[1], "kiosk@1", failed()).await;
    let is_running =
        async || way_back(&world, &rollout).await.is_some_and(|back| back.phase == Phase::Running);
    until("the way back begins", is_running).await;
    let back = way_back(&world, &rollout).await.unwrap();
    assert_eq!((back.release.to_string().as_str(), back.counts.total), ("kiosk@1", 2));
    let stopped = world.client.rollout(&rollout.id).await.unwrap();
    assert_eq!((stopped.phase, stopped.follows), (Phase::Aborted, Some(back.id.clone())));
    // The device may go down, and only because the desired state says that it goes back.
    let mut peer = Peer::session(&world, &devices[0]).await;
    // The session goes on, so what the device has not acknowledged in it comes first (MQTT-4.4.0-1):
    // older desired states, which a device tells by their generation.
    let mut desired = next_desired(&mut peer).await;
    while desired.release != Some("kiosk@1".parse().unwrap()) {
        let next = next_desired(&mut peer).await;
        assert!(next.generation > desired.generation, "{next:?} after {desired:?}");
        desired = next;
    }
    assert!(desired.back && desired.critical.contains(&"back".to_owned()), "{desired:?}");
    drop(peer);
    assert!(!is_offered(&world, &devices[2]).await, "it was not offered the release");
    for device in &devices[..2] {
        report(&world, device, "kiosk@1", State::Idle).await;
    }
    let ended = world.client.rollout(&back.id).await.unwrap();
    assert_eq!((ended.phase, ended.counts.succeeded), (Phase::Succeeded, 2));
    let refused = world.client.roll_back_rollout(&back.id, "again").await.unwrap_err();
    assert!(refused.to_string().contains("older release"), "{refused}");
    let log = world.audit().await;
    assert!(log.contains("rollout.roll-back"), "{log}");
}

#[actix_web::test]
async fn an_operator_rolls_back_what_has_ended_and_not_twice() {
    let (world, _) = world().await;
    let (rollout, devices) = updating(&world, &start("kiosk@2")).await;
    for device in &devices {
        report(&world, device, "kiosk@2", State::Idle).await;
    }
    let back = world.client.roll_back_rollout(&rollout.id, "seen in the field").await.unwrap();
    assert_eq!((back.phase, back.counts.total), (Phase::Running, 3));
    let refused = world.client.roll_back_rollout(&rollout.id, "again").await.unwrap_err();
    assert!(refused.to_string().contains("follows"), "{refused}");
    // A later offer of the newer release is an ordinary one.
    world.client.abort_rollout(&back.id).await.unwrap();
    world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    let mut peer = Peer::session(&world, &devices[0]).await;
    let desired = next_desired(&mut peer).await;
    assert!(!desired.back && desired.critical == ["release"], "{desired:?}");
}

#[actix_web::test]
async fn devices_that_got_something_else_since_do_not_go_back() {
    let (world, _) = world().await;
    publish_release(&world, "kiosk@3").await;
    let (old, devices) = updating(&world, &start("kiosk@2")).await;
    for device in &devices {
        report(&world, device, "kiosk@2", State::Idle).await;
    }
    world.client.start_rollout(&start("kiosk@3")).await.unwrap();
    for device in &devices {
        report(&world, device, "kiosk@3", State::Idle).await;
    }
    let refused = world.client.roll_back_rollout(&old.id, "late").await.unwrap_err();
    assert!(refused.to_string().contains("older release"), "{refused}");
}

#[actix_web::test]
async fn a_fleet_that_goes_back_leaves_the_channel_and_its_pin_forbids_it() {
    let (world, _) = world().await;
    let (rollout, devices) = updating(&world, &start("kiosk@2")).await;
    for device in &devices {
        report(&world, device, "kiosk@2", State::Idle).await;
    }
    let fleet = rollout.fleet.clone();
    let release = async || world.client.channel(&fleet).await.unwrap().release;
    assert_eq!(release().await, Some("kiosk@2".parse().unwrap()));
    let pin = |release: Option<&str>| PinFleet {
        release: release.map(|name| name.parse().unwrap()),
        reason: "fair".into(),
    };
    world.client.pin_fleet(&fleet, &pin(Some("kiosk@2"))).await.unwrap();
    let refused = world.client.roll_back_rollout(&rollout.id, "seen").await.unwrap_err();
    assert!(refused.to_string().contains("is pinned to kiosk@2"), "{refused}");
    world.client.pin_fleet(&fleet, &pin(None)).await.unwrap();
    world.client.roll_back_rollout(&rollout.id, "seen").await.unwrap();
    assert_eq!(release().await, Some("kiosk@1".parse().unwrap()));
    report(&world, &devices[0], "kiosk@1", State::Idle).await;
    let desired = world.client.device(&devices[0].id).await.unwrap().desired;
    assert_ne!(desired, Some("kiosk@2".parse().unwrap()), "the channel left it, too");
}

#[actix_web::test]
async fn a_rollout_supersedes_another_one_and_offers_its_devices_the_newer_release() {
    let (world, _) = world().await;
    publish_release(&world, "kiosk@3").await;
    let (old, devices) = updating(&world, &start("kiosk@2")).await;
    let staging = State::Staging { target: "2".parse().unwrap(), attempt: 1 };
    report(&world, &devices[0], "kiosk@1", staging).await;
    assert!(world.client.start_rollout(&start("kiosk@3")).await.is_err());
    let new = world.client.supersede_rollout(&old.id, &start("kiosk@3")).await.unwrap();
    assert_eq!((new.phase, new.counts.total), (Phase::Running, 3));
    let ended = world.client.rollout(&old.id).await.unwrap();
    assert_eq!((ended.phase, ended.follows), (Phase::Aborted, Some(new.id.clone())));
    for device in &devices {
        let desired = world.client.device(&device.id).await.unwrap().desired;
        assert_eq!(desired, Some("kiosk@3".parse().unwrap()));
    }
    let refused = world.client.supersede_rollout(&old.id, &start("kiosk@3")).await.unwrap_err();
    assert!(refused.to_string().contains("nothing to supersede"), "{refused}");
}
