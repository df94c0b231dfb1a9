//! Pages of rollouts.

use super::{Browser, OURS};
use crate::rollout::{publish_release, report, start};
use crate::world::World;
use fleeti_core::rollout::Counts;
use fleeti_core::update::{Contact, State};

#[actix_web::test]
async fn devices_of_an_outage_are_counted_beside_the_others() {
    let world = World::new().await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    publish_release(&world, "kiosk@2").await;
    let rollout = world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    let unconfirmed =
        State::Unconfirmed { target: "2".parse().unwrap(), trials: 0, contact: Contact::Waiting };
    report(&world, &a, "kiosk@1", unconfirmed).await;
    report(&world, &b, "kiosk@2", State::Idle).await;
    let listed = world.client.rollouts().await.unwrap();
    assert_eq!(
        listed[0].counts,
        Counts { total: 2, succeeded: 1, unconfirmed: 1, ..Counts::default() }
    );
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    for page in ["/rollouts", &format!("/rollouts/{}", rollout.id)] {
        let text = browser.get(page, &session).await.text().await.unwrap();
        assert!(text.contains("1 of 2 succeeded, 1 unconfirmed"), "{page}: {text}");
    }
}

#[actix_web::test]
async fn an_operator_starts_waves_from_a_release_and_pauses_and_resumes_them() {
    let world = World::new().await;
    world.enroll().await;
    let device = world.enroll().await;
    publish_release(&world, "kiosk@2").await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let form = |waves: &str| {
        format!("release=kiosk%402&fleet=demo&waves={waves}&soak_minutes=60&errors_max=2%25")
    };
    let planned = browser.get(&format!("/rollouts/plan?{}", form("1,100%25")), &session).await;
    let planned = planned.text().await.unwrap();
    for wanted in ["Plan: kiosk@2 to fleet demo", "wave-2", "2</dt><dd>update", "Start rollout"] {
        assert!(planned.contains(wanted), "{wanted}: {planned}");
    }
    assert!(world.client.rollouts().await.unwrap().is_empty(), "a plan starts nothing");
    let refused = browser.get(&format!("/rollouts/plan?{}", form("lots")), &session).await;
    assert_eq!(refused.status(), 422);
    let refused = browser.post("/rollouts", &session, OURS, &form("1,lots")).await;
    assert_eq!(refused.status(), 422);
    assert!(refused.text().await.unwrap().contains("lots"));
    let started = browser.post("/rollouts", &session, OURS, &form("1%2C+100%25")).await;
    assert_eq!(started.status(), 303);
    let page = started.headers()["location"].to_str().unwrap().to_owned();
    let text = async || browser.get(&page, &session).await.text().await.unwrap();
    let planned = browser.get(&format!("/rollouts/plan?{}", form("1")), &session).await;
    assert_eq!(planned.status(), 422, "the last wave is not everybody");
    let planned = browser.get(&format!("/rollouts/plan?{}", form("1,100%25")), &session).await;
    let planned = planned.text().await.unwrap();
    assert!(planned.contains("must end") && !planned.contains("Start rollout"), "{planned}");
    let shown = text().await;
    for wanted in ["wave-2", "0 of 1 succeeded", "after the success of the wave before"] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    assert!(!shown.contains("Begin next wave"), "the first device updates: {shown}");
    let paused = browser.post(&format!("{page}/pause"), &session, OURS, "").await;
    assert_eq!(paused.status(), 303);
    let shown = text().await;
    assert!(shown.contains("Resume rollout") && !shown.contains("Pause rollout"), "{shown}");
    let desired = async || world.client.device(&device.id).await.unwrap().desired;
    assert_eq!(desired().await, None);
    let resumed = browser.post(&format!("{page}/resume"), &session, OURS, "").await;
    assert_eq!(resumed.status(), 303);
    let next = browser.post(&format!("{page}/next"), &session, OURS, "reason=because").await;
    assert_eq!(next.status(), 409);
}
