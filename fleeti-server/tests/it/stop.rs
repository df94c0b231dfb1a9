//! Stopping all rollouts at once, by API and page.

use crate::accounts::{client, program, role};
use crate::pages::{Browser, OURS};
use crate::rollout::{publish_release, report, start};
use crate::world::{TestDevice, World};
use fleeti_core::rollout::Phase;
use fleeti_core::update::State;
use fleeti_core::wire::accounts::Role;
use fleeti_core::wire::api::CreateRollout;
use fleeti_core::wire::problem::Code;
use fleeti_pki::signer::{Algorithm, SoftKey};

async fn enroll_in(world: &World, fleet: &str) -> TestDevice {
    let fleet = fleet.parse().unwrap();
    let token = world.client.create_enrollment(&fleet, 3600).await.unwrap().record.token;
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let response = world.try_enroll(&token, &key).await.json().await.unwrap();
    world.device_of(response, &key)
}

/// Devices of two fleets, to each of which `kiosk@2` is offered. Returns the ids of the rollouts.
async fn two_rollouts(world: &World) -> ([TestDevice; 2], [String; 2]) {
    publish_release(world, "kiosk@1").await;
    publish_release(world, "kiosk@2").await;
    let devices = [enroll_in(world, "demo").await, enroll_in(world, "lobby").await];
    for device in &devices {
        report(world, device, "kiosk@1", State::Idle).await;
    }
    let lobby = CreateRollout { fleet: "lobby".parse().unwrap(), ..start("kiosk@2") };
    let demo = world.client.start_rollout(&start("kiosk@2")).await.unwrap().id;
    let lobby = world.client.start_rollout(&lobby).await.unwrap().id;
    (devices, [demo, lobby])
}

async fn phases(world: &World, rollouts: &[String; 2]) -> [Phase; 2] {
    let [demo, lobby] = rollouts;
    let phase = async |id| world.client.rollout(id).await.unwrap().phase;
    [phase(demo).await, phase(lobby).await]
}

/// Audit entries of a pause, by their subjects.
async fn pauses(world: &World) -> Vec<String> {
    let log = world.audit().await;
    let entries = log.lines().filter_map(|line| {
        fleeti_pki::audit::Entry::parse(line.as_bytes()).ok().map(|entry| entry.act)
    });
    entries.filter(|act| act.action == "rollout.pause").map(|act| act.subject).collect()
}

#[actix_web::test]
async fn all_rollouts_of_an_operators_fleets_are_paused_at_once_and_no_others() {
    let world = World::new().await;
    let (devices, rollouts) = two_rollouts(&world).await;
    // An operator of one fleet stops that one only, and a viewer of it nothing.
    let of_lobby = program(&world, "porter", &[role(Role::Operator, Some("lobby"))], None).await;
    let viewer = program(&world, "guest", &[role(Role::Viewer, None)], None).await;
    let refused = client(&world, viewer.token.expose()).pause_all_rollouts("because").await;
    assert_eq!(refused.unwrap_err().code(), Some(Code::Forbidden));
    for reason in ["", "  ", &"x".repeat(201)] {
        let refused = world.client.pause_all_rollouts(reason).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::Invalid), "{reason:?}");
    }
    assert_eq!(phases(&world, &rollouts).await, [Phase::Running; 2]);
    let its = client(&world, of_lobby.token.expose());
    let paused = its.pause_all_rollouts("smoke in the lobby").await.unwrap();
    assert_eq!((paused.paused.len(), paused.left.len()), (1, 0));
    assert_eq!(paused.paused[0].id, rollouts[1]);
    assert_eq!(phases(&world, &rollouts).await, [Phase::Running, Phase::Paused]);
    // The administrator stops the rest. What is paused is no error, and has no second entry.
    let paused = world.client.pause_all_rollouts("a hole").await.unwrap();
    assert_eq!(paused.paused.iter().map(|r| &r.id).collect::<Vec<_>>(), [&rollouts[0]]);
    assert_eq!(phases(&world, &rollouts).await, [Phase::Paused; 2]);
    for device in &devices {
        assert_eq!(world.client.device(&device.id).await.unwrap().desired, None);
    }
    let nothing = world.client.pause_all_rollouts("again").await.unwrap();
    assert!(nothing.paused.is_empty() && nothing.left.is_empty());
    let [demo, lobby] = &rollouts;
    let wanted = [format!("{lobby} smoke in the lobby"), format!("{demo} a hole")];
    assert_eq!(pauses(&world).await, wanted);
    world.client.resume_rollout(demo).await.unwrap();
    assert_eq!(phases(&world, &rollouts).await, [Phase::Running, Phase::Paused]);
}

#[actix_web::test]
async fn the_overview_stops_all_rollouts_after_a_question_that_names_them() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let overview = async || browser.get("/", &session).await.text().await.unwrap();
    assert!(!overview().await.contains("Stop all rollouts"), "nothing runs");
    let (_, rollouts) = two_rollouts(&world).await;
    let shown = overview().await;
    for wanted in ["Stop all rollouts", "kiosk@2 to fleet demo", "kiosk@2 to fleet lobby"] {
        let question = shown.split("data-confirm=\"Pause every rollout that runs (").nth(1);
        let question = question.unwrap().split('>').next().unwrap();
        assert!(
            shown.contains(wanted) && (wanted.starts_with("Stop") || question.contains(wanted))
        );
    }
    let without = browser.post("/rollouts/pause", &session, OURS, "reason=").await;
    assert_eq!(without.status(), 422);
    let foreign = Some(("sec-fetch-site", "cross-site"));
    let forged = browser.post("/rollouts/pause", &session, foreign, "reason=because").await;
    assert_eq!(forged.status(), 403);
    assert_eq!(phases(&world, &rollouts).await, [Phase::Running; 2]);
    let stopped = browser.post("/rollouts/pause", &session, OURS, "reason=a+hole").await;
    assert_eq!(stopped.status(), 303);
    assert_eq!(phases(&world, &rollouts).await, [Phase::Paused; 2]);
    assert_eq!(pauses(&world).await.len(), 2);
    assert!(!overview().await.contains("Stop all rollouts"));
}
