//! Pages of profiles.

use super::{Browser, OURS};
use crate::world::World;
use fleeti_core::id::Line;

#[actix_web::test]
async fn a_profile_is_saved_by_its_form_and_a_wrong_one_is_shown_again() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let wrong = browser
        .post(
            "/profiles",
            &session,
            OURS,
            "schema=1&name=kiosk&architecture=aarch64&software.packages=jq%0D%0Ajq",
        )
        .await;
    assert_eq!(wrong.status(), 422);
    let page = wrong.text().await.unwrap();
    assert!(
        page.contains("id=\"architecture-error\"")
            && page.contains("id=\"software.packages-error\"")
            && page.contains("jq\njq"),
        "{page}"
    );
    let saved = browser
        .post(
            "/profiles",
            &session,
            OURS,
            "schema=1&name=kiosk&architecture=x86_64&software.packages=jq",
        )
        .await;
    assert_eq!(
        (saved.status().as_u16(), saved.headers()["location"].to_str().unwrap()),
        (303, "/profiles/kiosk/1")
    );
    let line: Line = "kiosk".parse().unwrap();
    let kept = fleeti_control::profiles::get(&world.server.control, &line, 1).await.unwrap();
    assert_eq!(kept.profile.software.packages, ["jq"]);
    // htmx gets a fragment, every other client the whole page.
    let fragment = browser
        .http
        .get(format!("{}/profiles/kiosk/1", browser.url))
        .header("cookie", &session)
        .header("hx-request", "true");
    let fragment = fragment.send().await.unwrap().text().await.unwrap();
    assert!(
        fragment.trim_start().starts_with("<main") && !fragment.contains("<html"),
        "{fragment}"
    );
}
