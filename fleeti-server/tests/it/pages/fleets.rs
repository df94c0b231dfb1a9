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
    let with =
        |reboot: &str| format!("{good}&reboot={reboot}&user_delay_min=60&download_kib_s=512");
    let wrong =
        browser.post("/fleets/demo/policy", &session, OURS, &with("sun%2002:00-02:00")).await;
    assert_eq!(wrong.status(), 422);
    let windows = with("sun%2002:00-05:00%0D%0A00:00-01:00%20Asia/Tokyo");
    browser.post("/fleets/demo/policy", &session, OURS, &windows).await;
    let policy = world.client.attestation_policy(&"demo".parse().unwrap()).await.unwrap();
    assert_eq!((policy.windows.reboot.len(), policy.windows.user_delay_min), (2, Some(60)));
    let page = browser.get("/fleets/demo", &session).await.text().await.unwrap();
    for shown in ["sun 02:00-05:00\n00:00-01:00 Asia/Tokyo\n", "value=\"512\""] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    let missing = browser.get("/fleets/nothing", &session).await;
    assert_eq!(missing.status(), 404);
}
