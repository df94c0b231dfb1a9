//! Pages of webhooks and of the e-mails of a receiver.

use super::{Browser, OURS};
use crate::accounts::{person, role};
use crate::webhooks::{Receiver, answer};
use crate::world::World;
use fleeti_core::wire::accounts::Role;

/// The text between two marks.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    text.split(before).nth(1).unwrap_or_default().split(after).next().unwrap_or_default()
}

#[actix_web::test]
async fn a_webhook_is_added_tested_and_removed_and_what_it_answers_is_never_markup() {
    let world = World::with(|config| config.private_webhooks = true).await;
    let attack = "<script>alert(1)</script>";
    let mut receiver = Receiver::new(vec![answer("500 Oh", attack)]).await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let text = async |path: &str| browser.get(path, &session).await.text().await.unwrap();
    assert!(text("/webhooks").await.contains("No webhook yet"));
    let form = |url: &str, events: &str| format!("url={}{events}", url.replace(':', "%3A"));
    let without = browser.post("/webhooks", &session, OURS, &form(&receiver.url, "")).await;
    assert_eq!(without.status(), 422);
    let two = "&events=alerts.raised&events=device.revoked";
    let added = browser.post("/webhooks", &session, OURS, &form(&receiver.url, two)).await;
    assert_eq!(added.status(), 200);
    assert_eq!(added.headers()["cache-control"], "no-store");
    let added = added.text().await.unwrap();
    let secret = between(&added, "<code id=\"secret\">", "<").to_owned();
    assert!(secret.starts_with("whsec_"), "{added}");
    let listed = world.client.webhooks().await.unwrap();
    assert_eq!(listed[0].events, ["alerts.raised", "device.revoked"]);
    let page = format!("/webhooks/{}", listed[0].id);
    assert!(text(&page).await.contains("Nothing yet"));
    let sent = browser.post(&format!("{page}/test"), &session, OURS, "").await;
    assert_eq!(sent.status(), 303);
    let got = receiver.next().await;
    assert!(got.verify(&secret));
    let mut shown = text(&page).await;
    for _ in 0..600 {
        if shown.contains("500") {
            break;
        }
        tokio::task::yield_now().await;
        shown = text(&page).await;
    }
    for wanted in ["webhook.test", "waiting", "500", "next attempt", "&#60;script&#62;"] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    let all = text("/webhooks").await;
    for page in [&shown, &all] {
        assert!(!page.contains("<script>alert") && !page.contains(&secret), "{page}");
    }
    let removed = browser.post(&format!("{page}/remove"), &session, OURS, "").await;
    assert_eq!(removed.status(), 303);
    assert!(world.client.webhooks().await.unwrap().is_empty());
    assert_eq!(browser.get(&page, &session).await.status(), 404);
}

#[actix_web::test]
async fn only_those_who_may_see_them_open_the_pages_of_webhooks_and_receivers() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let operator = person(&world, "olga", &[role(Role::Operator, None)]).await;
    let operator = format!("fleeti_session={operator}");
    for path in ["/webhooks", "/webhooks/hook-1", "/alerts/email/email-1"] {
        assert_eq!(browser.get(path, &operator).await.status(), 403, "{path}");
    }
    for path in ["/webhooks", "/webhooks/hook-1/test", "/webhooks/hook-1/remove"] {
        let sent = browser.post(path, &operator, OURS, "url=x&events=alerts.raised").await;
        assert_eq!(sent.status(), 403, "{path}");
    }
    let session = browser.sign_in(&world).await;
    for path in ["/webhooks/hook-1", "/alerts/email/email-1"] {
        assert_eq!(browser.get(path, &session).await.status(), 404, "{path}");
    }
}
