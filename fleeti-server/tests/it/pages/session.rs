//! Login sessions, and requests that other sites cause.

use super::{Browser, OURS};
use crate::world::World;
use fleeti_store::sql;

const PAGES: &[&str] = &[
    "/",
    "/devices",
    "/enroll",
    "/profiles",
    "/profiles/new",
    "/profiles/search?of=package&q=a",
    "/builds",
    "/releases",
    "/rollouts",
    "/approvals",
    "/webhooks",
    "/webhooks/hook-1",
    "/releases/kiosk@1/evidence",
    "/live",
];

#[actix_web::test]
async fn nobody_sees_a_page_without_a_live_session() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    for cookie in ["", "fleeti_session=", "fleeti_session=00", "fleeti_session=x; fleeti_session=y"]
    {
        for page in PAGES {
            let response = browser.get(page, cookie).await;
            assert_eq!(
                (response.status().as_u16(), response.headers()["location"].to_str().unwrap()),
                (303, "/signin"),
                "{page} {cookie}"
            );
        }
        let refused = browser.post("/rollouts", cookie, OURS, "release=kiosk@1&fleet=demo").await;
        assert_eq!(refused.headers()["location"], "/signin");
    }
    let guessed = browser.post("/signin", "", OURS, "token=a-guess").await;
    assert_eq!(guessed.status(), 401);
    assert!(!guessed.headers().contains_key("set-cookie"), "a refused sign-in begins no session");
}

#[actix_web::test]
async fn a_session_survives_a_restart_and_ends_when_it_is_ended() {
    let world = World::new().await;
    let session = Browser::new(&world).sign_in(&world).await;
    world.server.stop().await;
    let world = World::start(world.dir, |_| {}).await;
    let browser = Browser::new(&world);
    assert_eq!(browser.get("/", &session).await.status(), 200);
    assert_eq!(browser.post("/signout", &session, OURS, "").await.status(), 303);
    assert_eq!(browser.get("/", &session).await.status(), 303);
}

/// A session row that an attacker writes into the database is not accepted.
#[actix_web::test]
async fn an_attacker_who_writes_the_database_gets_no_login_session() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let mut tx = world.server.control.db.write().await.unwrap();
    let sql = "INSERT INTO sessions (token_sha256, account, created_s, used_s, expires_s, credential_sha256) \
               SELECT $1, account, created_s, used_s, expires_s, credential_sha256 FROM sessions";
    sql::query(sql)
        .bind(fleeti_core::canonical::sha256_hex(b"mine"))
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(browser.get("/", "fleeti_session=mine").await.status(), 303);
    assert_eq!(browser.get("/", &session).await.status(), 200);
    for _ in 0..3 {
        assert_eq!(browser.post("/signin", "", OURS, "token=a-guess").await.status(), 401);
    }
    assert_eq!(world.audit().await.matches("session.refused").count(), 1);
}

#[actix_web::test]
async fn a_session_ends_when_the_token_that_began_it_is_replaced() {
    let world = World::new().await;
    let session = Browser::new(&world).sign_in(&world).await;
    world.server.stop().await;
    std::fs::remove_file(world.dir.path().join("admin.token")).unwrap();
    let world = World::start(world.dir, |_| {}).await;
    assert_eq!(Browser::new(&world).get("/", &session).await.status(), 303);
}

/// A request that another site causes in the operator's browser changes nothing.
#[actix_web::test]
async fn another_site_cannot_ask_for_anything() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let foreign = [
        None,
        Some(("sec-fetch-site", "cross-site")),
        Some(("sec-fetch-site", "same-site")),
        Some(("origin", "https://evil.example")),
        Some(("origin", "null")),
    ];
    for site in foreign {
        for path in [
            "/profiles",
            "/profiles/form",
            "/profiles/check",
            "/builds",
            "/rollouts",
            "/signin",
            "/signout",
        ] {
            assert_eq!(
                browser.post(path, &session, site, "token=x").await.status(),
                403,
                "{path} {site:?}"
            );
        }
    }
    let host = browser.url.trim_start_matches("http://").to_owned();
    let ours = format!("http://{host}");
    assert_eq!(
        browser.post("/signout", &session, Some(("origin", &ours)), "").await.status(),
        303,
        "a browser without fetch metadata"
    );
}
