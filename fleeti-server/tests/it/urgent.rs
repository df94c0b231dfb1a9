//! Urgent rollouts: what they skip, what they do not, and how people see them.

use crate::lifetimes;
use crate::pages::{Browser, OURS};
use crate::peer::Peer;
use crate::rollout::{next_desired, publish_release, report, start};
use crate::trust::until;
use crate::windows::{closed, set, window_gate};
use crate::world::{TestDevice, World};
use fleeti_client::ClientError;
use fleeti_core::id::DeviceId;
use fleeti_core::rollout::gates::{Gate, GateState};
use fleeti_core::rollout::plan::{Plan, Start, Wave};
use fleeti_core::rollout::{DevicePhase, Phase};
use fleeti_core::update::State;
use fleeti_core::windows::Windows;
use fleeti_core::wire::api::{CreateBuild, CreateRollout, Urgent, UrgentCounts};
use fleeti_core::wire::device::DesiredState;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::updates::{SKIP_WINDOWS_S_MAX, UpdateOrder};
use std::sync::atomic::Ordering;

fn urgent(release: &str) -> CreateRollout {
    CreateRollout { urgent: Some(Urgent { reason: "CVE-2026-1".into() }), ..start(release) }
}

fn in_waves(soak_s: u64) -> Plan {
    let wave =
        |size: &str| Wave { size: size.parse().unwrap(), start: Start::AfterSuccess, soak_s };
    Plan::of(["1", "100%"].map(wave).into())
}

/// The desired state that offers this release, or none.
async fn told(peer: &mut Peer, release: Option<&str>) -> DesiredState {
    loop {
        let desired = next_desired(peer).await;
        if desired.release.as_ref().map(ToString::to_string).as_deref() == release {
            return desired;
        }
    }
}

/// A device in a fleet whose windows are closed, and two releases.
async fn world() -> (World, TestDevice, Windows) {
    let world = World::new().await;
    publish_release(&world, "kiosk@2").await;
    publish_release(&world, "kiosk@3").await;
    let device = world.enroll().await;
    report(&world, &device, "kiosk@1", State::Idle).await;
    let windows = closed(&world);
    set(&world, "demo", windows.clone()).await;
    (world, device, windows)
}

#[actix_web::test]
async fn a_device_is_told_to_skip_its_windows_for_an_urgent_release_and_for_no_other() {
    let (world, device, windows) = world().await;
    let mut peer = Peer::session(&world, &device).await;
    let before_s = world.server.control.now_s();
    let rollout = world.client.start_rollout(&urgent("kiosk@2")).await.unwrap();
    assert_eq!(rollout.urgent, Some(Urgent { reason: "CVE-2026-1".into() }));
    let desired = told(&mut peer, Some("kiosk@2")).await;
    let until_s = desired.skip_windows_until_s.unwrap();
    assert!((before_s..before_s + 120).contains(&(until_s - SKIP_WINDOWS_S_MAX)), "{desired:?}");
    // The windows are there as ever: an agent that does not know them refuses the offer.
    assert_eq!(desired.windows, windows);
    assert_eq!(desired.critical, ["release", "windows"]);
    assert_eq!(window_gate(&world, &device).await.0, GateState::Open);
    world.client.abort_rollout(&rollout.id).await.unwrap();
    let withdrawn = told(&mut peer, None).await;
    assert_eq!(withdrawn.skip_windows_until_s, None);
    // The next rollout is not urgent.
    world.client.start_rollout(&start("kiosk@3")).await.unwrap();
    assert_eq!(told(&mut peer, Some("kiosk@3")).await.skip_windows_until_s, None);
    assert_eq!(window_gate(&world, &device).await.0, GateState::Waits);
    let log = world.audit().await;
    assert!(log.contains("urgent: CVE-2026-1"), "{log}");
}

#[actix_web::test]
async fn a_device_that_comes_later_is_urgent_too_where_the_rollout_is_for_everybody() {
    let (world, _, _) = world().await;
    world.client.start_rollout(&urgent("kiosk@2")).await.unwrap();
    let late = world.enroll().await;
    report(&world, &late, "kiosk@1", State::Idle).await;
    let mut peer = Peer::session(&world, &late).await;
    assert!(told(&mut peer, Some("kiosk@2")).await.skip_windows_until_s.is_some());
}

#[actix_web::test]
async fn waves_of_an_urgent_rollout_do_not_soak_and_its_first_failure_stops_it() {
    let (world, one, _) = world().await;
    let devices = [one, world.enroll().await];
    let of = |id: &DeviceId| devices.iter().find(|device| device.id == *id).unwrap();
    let plan = Some(in_waves(86_400));
    let started = CreateRollout { plan, ..urgent("kiosk@2") };
    let rollout = world.client.start_rollout(&started).await.unwrap();
    let offered = async || {
        let found = world.client.rollout(&rollout.id).await.unwrap();
        let is_offered = |phase: &DevicePhase| *phase == DevicePhase::Offered;
        found
            .devices
            .into_iter()
            .filter(|d| is_offered(&d.phase))
            .map(|d| d.device)
            .collect::<Vec<_>>()
    };
    let first = offered().await;
    assert_eq!(first.len(), 1);
    report(&world, of(&first[0]), "kiosk@2", State::Idle).await;
    until("the second wave", async || offered().await.len() == 1).await;
    let second = offered().await;
    let reason = fleeti_core::update::RollbackReason::Health { evidence: "no screen".into() };
    let update = State::RolledBack { target: "2".parse().unwrap(), reason };
    assert_ne!(first, second);
    report(&world, of(&second[0]), "kiosk@1", update).await;
    let phase = async || world.client.rollout(&rollout.id).await.unwrap().phase;
    until("the pause", async || phase().await == Phase::Paused).await;
}

/// Holds, and levels that are too low, are no windows.
#[actix_web::test]
async fn an_urgent_rollout_passes_no_hold_and_its_page_counts_who_is_held() {
    let (world, device, _) = world().await;
    let other = world.enroll().await;
    let hold = UpdateOrder::Hold { reason: "exhibition".into(), until_s: None };
    world.client.order_updates(&device.id, &hold).await.unwrap();
    let rollout = world.client.start_rollout(&urgent("kiosk@2")).await.unwrap();
    assert_eq!(world.client.device(&device.id).await.unwrap().desired, None);
    let why = world.client.why(&device.id).await.unwrap();
    assert_eq!(why.first, Some(Gate::Hold));
    report(&world, &other, "kiosk@2", State::Idle).await;
    let shown = world.client.rollout(&rollout.id).await.unwrap();
    // It reported, and proved nothing.
    let counts = UrgentCounts { proved: 0, blocked: 1, unreached: 0 };
    assert_eq!((shown.counts.succeeded, shown.urgent_counts), (1, Some(counts)));
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let page = browser.get(&format!("/rollouts/{}", rollout.id), &session).await;
    let page = page.text().await.unwrap();
    for wanted in ["CVE-2026-1", "0 h 00 min", "id=\"urgent-blocked\">1<"] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    let calm = world.client.rollouts().await.unwrap();
    assert!(calm.iter().all(|r| r.urgent.is_some()));
}

#[actix_web::test]
async fn the_page_of_an_urgent_rollout_counts_hours_since_it_began() {
    let (world, ahead) = lifetimes::world().await;
    publish_release(&world, "kiosk@2").await;
    world.enroll().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let form = "release=kiosk%402&fleet=demo&waves=1%2C+100%25&soak_minutes=60&urgent=a+hole";
    let planned = browser.get(&format!("/rollouts/plan?{form}"), &session).await;
    assert!(planned.text().await.unwrap().contains("<b>Urgent:</b> a hole"));
    let started = browser.post("/rollouts", &session, OURS, form).await;
    assert_eq!(started.status(), 303);
    ahead.fetch_add(2 * 3600 + 5 * 60, Ordering::SeqCst);
    let page = started.headers()["location"].to_str().unwrap().to_owned();
    let session = browser.sign_in(&world).await;
    let text = browser.get(&page, &session).await.text().await.unwrap();
    assert!(text.contains("2 h 05 min") && text.contains("a hole"), "{text}");
}

#[actix_web::test]
async fn an_urgent_rollout_has_a_reason() {
    let (world, _, _) = world().await;
    for reason in ["", " ", &"x".repeat(201)] {
        let urgent = Some(Urgent { reason: reason.to_owned() });
        let request = CreateRollout { urgent, ..start("kiosk@2") };
        let code = world.client.start_rollout(&request).await.unwrap_err().code();
        assert_eq!(code, Some(Code::Invalid), "{reason:?}");
    }
    assert!(world.client.rollouts().await.unwrap().is_empty());
}

#[actix_web::test]
async fn a_build_names_the_packages_that_it_refreshes() {
    let world = World::new().await;
    let text = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";
    let request = |packages: &[&str], refresh_lock| CreateBuild {
        profile: fleeti_core::profile::check(text).unwrap(),
        version: "2".parse().unwrap(),
        refresh_lock,
        refresh_packages: packages.iter().map(|name| (*name).to_owned()).collect(),
    };
    let fixed = ["openssl>=3.5.1-1+deb13u2", "libssl3t64"];
    let build = world.client.create_build(&request(&fixed, false)).await.unwrap();
    assert_eq!(build.refreshed, fixed);
    assert!(world.audit().await.contains("kiosk openssl>=3.5.1-1+deb13u2 libssl3t64"));
    let many: Vec<String> = (0..51).map(|n| format!("package-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for wrong in [
        request(&["open ssl"], false),
        request(&["openssl; rm"], false),
        request(&[""], false),
        request(&["openssl"], true),
        request(&many, false),
    ] {
        let refused: ClientError = world.client.create_build(&wrong).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::Invalid), "{:?}", wrong.refresh_packages);
    }
    assert!(world.client.create_build(&request(&[], false)).await.unwrap().refreshed.is_empty());
}
