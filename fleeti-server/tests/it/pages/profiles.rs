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
        page.contains("id=\"architecture-error\" role=\"alert\"")
            && page.contains("id=\"software.packages-error\" role=\"alert\"")
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
    let shown = browser.get("/profiles/kiosk/1", &session).await.text().await.unwrap();
    assert!(shown.contains("Debian trixie gets security updates until 2028-08-09"), "{shown}");
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

#[actix_web::test]
async fn a_profile_from_a_template_is_edited_checked_saved_and_compared() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let text = |response: reqwest::Response| async { response.text().await.unwrap() };
    let start = text(browser.get("/profiles/new", &session).await).await;
    assert!(start.contains("value=\"template/web-server\""), "{start}");
    let new = "/profiles/new?name=shop&template=template%2Fweb-server";
    let editor = text(browser.get(new, &session).await).await;
    assert!(editor.contains("from services/web") && editor.contains("Ready to save"), "{editor}");

    let form = "in=form&schema=1&name=shop&architecture=x86_64&extends=template%2Fweb-server";
    let pressed = format!("{form}&override=security.ssh.attempts_max");
    let own = text(browser.post("/profiles/form", &session, OURS, &pressed).await).await;
    assert!(
        own.contains("name=\"security.ssh.attempts_max\" type=\"number\" value=\"4\""),
        "{own}"
    );
    let odd = format!("{form}&override=colours");
    assert_eq!(browser.post("/profiles/form", &session, OURS, &odd).await.status(), 422);

    let wrong = format!("{form}&users[0].name=Ada+B");
    let answer = text(browser.post("/profiles/check", &session, OURS, &wrong).await).await;
    assert!(answer.contains("data-at=\"users[0].name\"") && answer.contains("error"), "{answer}");
    let unreadable = "in=text&text=name+%3D";
    let answer = text(browser.post("/profiles/check", &session, OURS, unreadable).await).await;
    assert!(answer.contains("line 1"), "{answer}");

    // The largest document, twice.
    let most = "%23".repeat(fleeti_core::profile::TEXT_MAX);
    let large = format!("in=text&text={most}&source={most}");
    assert_eq!(browser.post("/profiles/check", &session, OURS, &large).await.status(), 200);

    let as_text = format!("{form}&view=text");
    let shown = text(browser.post("/profiles/form", &session, OURS, &as_text).await).await;
    assert!(shown.contains("extends = [") && shown.contains("name=\"text\""), "{shown}");

    assert_eq!(browser.post("/profiles", &session, OURS, form).await.status(), 303);
    let more = format!("{form}&software.packages=jq%0D%0Anano");
    let effect = text(browser.post("/profiles/check", &session, OURS, &more).await).await;
    assert!(effect.contains("devices reboot") && effect.contains("nano"), "{effect}");
    assert_eq!(browser.post("/profiles", &session, OURS, &more).await.status(), 303);
    let compared = text(browser.get("/profiles/shop/1/changes/2", &session).await).await;
    assert!(
        compared.contains("software.packages") && compared.contains("PCRs 4, 11"),
        "{compared}"
    );
    assert_eq!(browser.get("/profiles/shop/1/changes/9", &session).await.status(), 404);
}
