//! Update windows: how devices learn them, what `why` says, and which alerts they silence.

use crate::lifetimes;
use crate::peer::Peer;
use crate::rollout::{next_desired, publish_release, report, report_of, start};
use crate::world::{TestDevice, World};
use fleeti_control::{alerts, devices};
use fleeti_core::attestation::policy::Policy;
use fleeti_core::rollout::gates::{Gate, GateState};
use fleeti_core::update::State;
use fleeti_core::windows::{Job, Local, Opening, Windows};
use fleeti_core::wire::alerts::AlertQuery;
use fleeti_core::wire::mqtt::Up;
use fleeti_core::wire::updates::{SKIP_WINDOWS_S_MAX, UpdateOrder};
use serde_json::json;
use std::sync::atomic::Ordering;

/// A window that was closed a second ago, and opens in a day.
pub fn closed(world: &World) -> Windows {
    let minutes = world.server.control.now_s() / 60 % 1440;
    let text = |minutes: u64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
    let line =
        format!("{}-{} Etc/UTC", text((minutes + 1437) % 1440), text((minutes + 1438) % 1440));
    let lines = vec![line.parse().unwrap()];
    Windows { download: lines.clone(), install: lines.clone(), reboot: lines, ..Windows::default() }
}

pub async fn set(world: &World, fleet: &str, windows: Windows) {
    let policy = Policy { windows, ..Policy::usual() };
    world.client.set_attestation_policy(&fleet.parse().unwrap(), &policy).await.unwrap();
}

#[actix_web::test]
async fn a_device_learns_its_windows_when_they_change_when_it_connects_and_when_it_moves() {
    let world = World::new().await;
    let device = world.enroll().await;
    let mut peer = Peer::session(&world, &device).await;
    let first = next_desired(&mut peer).await;
    assert_eq!(
        (&first.windows, first.critical.as_slice()),
        (&Windows::default(), &["release".to_owned()][..])
    );
    let windows = closed(&world);
    set(&world, "demo", windows.clone()).await;
    let told = next_desired(&mut peer).await;
    assert_eq!(told.windows, windows);
    assert!(told.generation > first.generation);
    assert_eq!(told.critical, ["release"], "nothing is offered");
    drop(peer);
    let mut peer = Peer::session(&world, &device).await;
    // What the device has not acknowledged comes first.
    while next_desired(&mut peer).await.windows != windows {}
    let order = UpdateOrder::Move { fleet: "spare".parse().unwrap(), reason: "repair".into() };
    world.client.order_updates(&device.id, &order).await.unwrap();
    let mut moved = next_desired(&mut peer).await;
    while moved.windows == windows {
        moved = next_desired(&mut peer).await;
    }
    assert_eq!((moved.windows, moved.critical), (Windows::default(), vec!["release".to_owned()]));
    // They survive a restart: the policy has them.
    let stored = fleeti_store::policies::all(world.server.control.db.pool()).await.unwrap();
    assert_eq!(stored[&"demo".parse().unwrap()].windows, windows);
    assert!(world.audit().await.contains("fleet.attestation-policy"));
}

#[actix_web::test]
async fn a_wrong_window_is_refused_with_its_column_when_it_is_saved() {
    let world = World::new().await;
    let token = std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
    for (windows, expected) in [
        (json!({"reboot": ["mon 02:00-05:00 Europe/Berln"]}), "column 17 of the window"),
        (json!({"install": ["02:00-02:00"]}), "so it never opens"),
        (json!({"download": ["02:00-03:00 fits 2h"]}), "the window is shorter"),
        (json!({"user_delay_min": 0}), "windows.user_delay_min is 0"),
        (json!({"download": vec!["02:00-03:00"; 17]}), "windows.download: 17 windows"),
    ] {
        let body = json!({"windows": windows});
        let url =
            format!("http://{}/api/v1/fleets/demo/attestation-policy", world.server.addresses.api);
        let put = reqwest::Client::new().put(url).bearer_auth(token.trim()).json(&body);
        let answer = put.send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert!([400, 422].contains(&status) && text.contains(expected), "{status} {text}");
    }
}

pub async fn window_gate(
    world: &World,
    device: &TestDevice,
) -> (GateState, Option<u64>, Option<Gate>) {
    let why = world.client.why(&device.id).await.unwrap();
    let check = why.gates.iter().find(|check| check.gate == Gate::Window).unwrap();
    (check.state, check.until_s, why.first)
}

#[actix_web::test]
async fn why_names_the_closed_window_and_an_order_lets_a_device_skip_it() {
    let world = World::new().await;
    publish_release(&world, "kiosk@2").await;
    let device = world.enroll().await;
    report(&world, &device, "kiosk@1", State::Idle).await;
    world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    let windows = closed(&world);
    set(&world, "demo", windows.clone()).await;
    let mut peer = Peer::session(&world, &device).await;
    // What the device has not acknowledged comes first.
    let mut offered = next_desired(&mut peer).await;
    while offered.release.is_none() || offered.windows != windows {
        offered = next_desired(&mut peer).await;
    }
    assert_eq!(offered.skip_windows_until_s, None);
    // An agent that does not know windows must not update as if there were none.
    assert!(offered.critical.contains(&"windows".to_owned()), "{offered:?}");
    let now_s = world.server.control.now_s();
    let at = Local { now_s, zone: "Etc/UTC" };
    let Opening::Closed { opens_s } = windows.opening(Job::Download, at) else { panic!("open") };
    assert_eq!(window_gate(&world, &device).await, (GateState::Waits, opens_s, Some(Gate::Window)));
    let until_s = now_s + 3600;
    let order = UpdateOrder::SkipWindows { until_s, reason: "a hole".into() };
    let why = world.client.order_updates(&device.id, &order).await.unwrap();
    assert_eq!(why.skip_windows_until_s, Some(until_s));
    assert_eq!(window_gate(&world, &device).await.0, GateState::Open);
    // The windows themselves are told in the background.
    while next_desired(&mut peer).await.skip_windows_until_s != Some(until_s) {}
    world.client.order_updates(&device.id, &UpdateOrder::ObserveWindows {}).await.unwrap();
    assert_eq!(next_desired(&mut peer).await.skip_windows_until_s, None);
    assert_eq!(window_gate(&world, &device).await.0, GateState::Waits);
    for (until_s, reason) in
        [(now_s - 1, "late"), (now_s + SKIP_WINDOWS_S_MAX + 3600, "long"), (until_s, " ")]
    {
        let order = UpdateOrder::SkipWindows { until_s, reason: reason.into() };
        assert!(world.client.order_updates(&device.id, &order).await.is_err(), "{reason}");
    }
    let log = world.audit().await;
    assert!(log.contains("device.skip-windows") && log.contains("device.observe-windows"), "{log}");
}

#[actix_web::test]
async fn what_a_device_waits_for_and_its_zone_are_what_it_reports() {
    let world = World::new().await;
    publish_release(&world, "kiosk@2").await;
    let device = world.enroll().await;
    report(&world, &device, "kiosk@1", State::Idle).await;
    world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    let sends = async |update: State, waits: serde_json::Value, zone: &str| {
        let mut report: serde_json::Value =
            serde_json::from_slice(&report_of("kiosk@1", update)).unwrap();
        report["waits"] = waits;
        report["time_zone"] = zone.into();
        let bytes = report.to_string().into_bytes();
        devices::received(&world.server.control, &device.id, Up::Report, &bytes).await.unwrap();
    };
    let armed = || State::Armed { target: "2".parse().unwrap() };
    let until_s = world.server.control.now_s() + 600;
    let user = json!({"job": "reboot", "reason": "user", "until_s": until_s});
    sends(armed(), user, "Asia/Tokyo").await;
    let (state, until, _) = window_gate(&world, &device).await;
    assert_eq!((state, until), (GateState::Waits, Some(until_s)));
    // The zone of the device is that of a window without one.
    let windows = Windows { reboot: vec!["02:00-02:01".parse().unwrap()], ..Windows::default() };
    set(&world, "demo", windows.clone()).await;
    sends(armed(), json!(null), "Asia/Tokyo").await;
    let opens_s = |zone| {
        let at = Local { now_s: world.server.control.now_s(), zone };
        match windows.opening(Job::Reboot, at) {
            Opening::Open { .. } => None,
            Opening::Closed { opens_s } => opens_s,
        }
    };
    assert_eq!(window_gate(&world, &device).await.1, opens_s("Asia/Tokyo"));
    // A zone that does not exist is not kept: UTC counts.
    sends(armed(), json!(null), "Mars/Phobos").await;
    assert_eq!(window_gate(&world, &device).await.1, opens_s("Etc/UTC"));
}

#[actix_web::test]
async fn a_reboot_window_silences_what_a_reboot_causes() {
    let (world, ahead) = lifetimes::world().await;
    let device = world.enroll().await;
    let always =
        Windows { reboot: vec!["00:00-24:00 Etc/UTC".parse().unwrap()], ..Windows::default() };
    set(&world, "demo", always).await;
    ahead.fetch_add(3700, Ordering::SeqCst);
    alerts::look(&world.server.control).await.unwrap();
    let failed = State::Failed {
        target: "2".parse().unwrap(),
        code: fleeti_core::update::FailureCode::StageFailed,
    };
    let silenced = async |kind: &str| {
        let all = world.client.alerts(&AlertQuery::default()).await.unwrap();
        let of_device = all.into_iter().filter(|alert| alert.device.is_some());
        of_device
            .filter(|alert| alert.kind.code() == kind)
            .map(|alert| alert.silenced_until_s.is_some())
            .collect::<Vec<_>>()
    };
    assert_eq!(silenced("offline").await, [true]);
    let bytes = report_of("kiosk@1", failed);
    devices::received(&world.server.control, &device.id, Up::Report, &bytes).await.unwrap();
    assert_eq!(silenced("failed-update").await, [false], "what went wrong is told");
}
