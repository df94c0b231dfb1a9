//! The pages of accounts: a link and a token are shown once, and open what they are for.

use super::{Browser, OURS};
use crate::accounts::{PASSWORD, client, name, person, role};
use crate::world::World;
use fleeti_core::wire::accounts::Role;

/// The text between two marks.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let rest = text.split_once(begin).unwrap_or_else(|| panic!("no {begin:?} in {text}")).1;
    rest.split_once(end).unwrap().0
}

#[actix_web::test]
async fn an_administrator_adds_a_person_who_joins_by_the_link() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let admin = browser.sign_in(&world).await;
    let form = "name=alice&kind=person&role=operator&fleet=demo";
    let added = browser.post("/users", &admin, OURS, form).await;
    assert_eq!(added.status(), 200);
    assert_eq!(added.headers()["cache-control"], "no-store");
    let text = added.text().await.unwrap();
    let path = between(&text, "<p><code>", "</code>").to_owned();
    assert!(path.starts_with("/join/"), "{path}");
    assert!(browser.get("/users", &admin).await.text().await.unwrap().contains("no password yet"));

    let page = browser.get(&path, "").await.text().await.unwrap();
    assert!(page.contains("Set the password of alice"), "{page}");
    let short = browser.post(&path, "", OURS, "password=short").await;
    assert_eq!(short.status(), 422);
    assert!(short.text().await.unwrap().contains("must have 12 to 256"));
    let foreign = browser.post(&path, "", None, "password=correct+horse+battery").await;
    assert_eq!(foreign.status(), 403, "another site");
    let joined = browser.post(&path, "", OURS, "password=correct+horse+battery").await;
    assert_eq!(joined.status(), 303);
    let cookie = joined.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap();
    let own = browser.get("/account", cookie).await.text().await.unwrap();
    assert!(own.contains("operator of demo"), "{own}");
    assert_eq!(browser.get(&path, "").await.status(), 404, "the link has been used");
    assert_eq!(browser.get("/users", cookie).await.status(), 403);

    let offboarded = browser.post("/users/alice/offboard", &admin, OURS, "").await;
    assert_eq!(offboarded.status(), 303);
    let text = browser.get("/users/alice", &admin).await.text().await.unwrap();
    assert!(text.contains("disabled") && text.contains("shares of the root CA"), "{text}");
}

#[actix_web::test]
async fn a_person_creates_a_token_and_changes_the_password() {
    let world = World::new().await;
    let session = person(&world, "alice", &[role(Role::Viewer, None)]).await;
    let (browser, cookie) = (Browser::new(&world), format!("fleeti_session={session}"));
    let form = "label=laptop&days=30&permission=";
    let made = browser.post("/account/tokens", &cookie, OURS, form).await.text().await.unwrap();
    let token = between(&made, "<p><code>", "</code>");
    assert_eq!(client(&world, token).me().await.unwrap().name, name("alice"));
    let own = browser.get("/account", &cookie).await.text().await.unwrap();
    assert!(own.contains("laptop") && !own.contains(token), "{own}");
    let id = world.client.account(&name("alice")).await.unwrap().tokens[0].id.clone();
    let removed = browser.post(&format!("/account/tokens/{id}/remove"), &cookie, OURS, "").await;
    assert_eq!(removed.status(), 303);
    assert!(client(&world, token).me().await.is_err());

    let form = format!("current={}&new=another+password", PASSWORD.replace(' ', "+"));
    let changed = browser.post("/account/password", &cookie, OURS, &form).await;
    assert_eq!(changed.status(), 303);
    assert_eq!(browser.get("/account", &cookie).await.status(), 303, "the old session has ended");
    let next = changed.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap();
    assert_eq!(browser.get("/account", next).await.status(), 200);
}
