//! The page of a fleet.

use super::{Browser, OURS};
use crate::world::World;
use fleeti_core::attestation::Level;

#[actix_web::test]
async fn a_policy_is_set_by_its_form_and_a_wrong_one_changes_nothing() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    world.enroll().await;
    let good = "update=L3&success=&secrets=L4&firmware=pinned&pcrs=&proved_releases=1";
    let saved = browser.post("/fleets/demo/policy", &session, OURS, good).await;
    assert_eq!(
        (saved.status().as_u16(), saved.headers()["location"].to_str().unwrap()),
        (303, "/fleets/demo")
    );
    for wrong in [
        "update=L9&success=&secrets=&firmware=pinned&pcrs=",
        "update=&success=&secrets=&firmware=known&pcrs=one%20two%20three",
    ] {
        let refused = browser.post("/fleets/demo/policy", &session, OURS, wrong).await;
        assert_eq!(refused.status(), 422, "{wrong}");
    }
    let policy = world.client.attestation_policy(&"demo".parse().unwrap()).await.unwrap();
    assert_eq!(
        (policy.update, policy.success, policy.secrets, policy.proved_releases),
        (Some(Level::ObservedBoot), None, Some(Level::VerifiedBoot), true)
    );
    let page = browser.get("/fleets/demo", &session).await.text().await.unwrap();
    for chosen in ["<option value=\"L3\" selected>", "<option value=\"L4\" selected>"] {
        assert_eq!(page.matches(chosen).count(), 1, "{chosen} in {page}");
    }
    let missing = browser.get("/fleets/nothing", &session).await;
    assert_eq!(missing.status(), 404);
}
