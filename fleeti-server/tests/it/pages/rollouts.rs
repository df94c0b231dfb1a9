//! Pages of rollouts.

use super::Browser;
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
        Counts { total: 2, succeeded: 1, failed: 0, moving: 0, unconfirmed: 1 }
    );
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    for page in ["/rollouts", &format!("/rollouts/{}", rollout.id)] {
        let text = browser.get(page, &session).await.text().await.unwrap();
        assert!(text.contains("1 of 2 succeeded, 1 unconfirmed"), "{page}: {text}");
    }
}
