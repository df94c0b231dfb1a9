//! The pages: login, refused requests, and that text of devices is never markup. Their use by a
//! person is tested in a real browser (`fleeti-browser`).

use crate::rollout::{publish_release, report, report_of, start};
use crate::world::World;
use fleeti_core::id::Line;
use fleeti_core::rollout::Counts;
use fleeti_core::update::{Contact, FailureCode, RollbackReason, State};
use fleeti_core::wire::alarm::AlarmKind;
use fleeti_store::sql;
use reqwest::{Client, Response, redirect};

struct Browser {
    http: Client,
    url: String,
}

impl Browser {
    fn new(world: &World) -> Self {
        let http = Client::builder().redirect(redirect::Policy::none()).build().unwrap();
        Self { http, url: format!("http://{}", world.server.addresses.api) }
    }
    async fn get(&self, path: &str, cookie: &str) -> Response {
        self.http.get(format!("{}{path}", self.url)).header("cookie", cookie).send().await.unwrap()
    }
    async fn post(
        &self,
        path: &str,
        cookie: &str,
        site: Option<(&str, &str)>,
        body: &str,
    ) -> Response {
        let mut request = self.http.post(format!("{}{path}", self.url)).header("cookie", cookie);
        request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.to_owned());
        if let Some((name, value)) = site {
            request = request.header(name, value);
        }
        request.send().await.unwrap()
    }
    async fn sign_in(&self, world: &World) -> String {
        let token = std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
        let response = self.post("/signin", "", OURS, &format!("token={}", token.trim())).await;
        assert_eq!(response.status(), 303);
        let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        cookie.split(';').next().unwrap().to_owned()
    }
}

const OURS: Option<(&str, &str)> = Some(("sec-fetch-site", "same-origin"));
const PAGES: &[&str] =
    &["/", "/devices", "/profiles", "/profiles/new", "/builds", "/releases", "/rollouts", "/live"];

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
async fn whoever_writes_the_database_begins_no_session() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let mut tx = world.server.control.db.write().await.unwrap();
    let sql = "INSERT INTO sessions (token_sha256, created_s, expires_s, credential_sha256) \
               SELECT $1, created_s, expires_s, credential_sha256 FROM sessions";
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

/// A new event stream begins with all events, so that its page refreshes; a logout ends the stream.
#[actix_web::test]
async fn whoever_begins_to_listen_looks_again_and_whoever_signs_out_hears_nothing_more() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let mut live = browser.get("/live", &session).await;
    let first = String::from_utf8(live.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    for name in ["device", "rollout", "build", "release", "profile"] {
        assert!(first.contains(&format!("event: {name}\n")), "{first}");
    }
    world.enroll().await;
    let next = String::from_utf8(live.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert_eq!(next, "event: device\ndata: changed\n\n");
    browser.post("/signout", &session, OURS, "").await;
    world.enroll().await;
    assert_eq!(live.chunk().await.unwrap(), None);
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
        for path in ["/profiles", "/builds", "/rollouts", "/signin", "/signout"] {
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

#[actix_web::test]
async fn what_a_device_says_is_never_markup() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let device = world.enroll().await;
    let attack = "<script>alert(1)</script>\"'><img src=x>";
    let states = [
        State::RolledBack {
            target: "2".parse().unwrap(),
            reason: RollbackReason::Health { evidence: attack.into() },
        },
        State::Failed { target: "2".parse().unwrap(), code: FailureCode::StageFailed },
    ];
    for (sequence, state) in states.into_iter().enumerate() {
        let mut report: serde_json::Value =
            serde_json::from_slice(&report_of("kiosk@1", state)).unwrap();
        report["sequence"] = (sequence as u64 + 1).into();
        report["boot"]["boot_id"] = attack.into();
        report["boot"]["pcr11"] = attack.into();
        report["detail"] = attack.into();
        let payload = serde_json::to_vec(&report).unwrap();
        let kind = fleeti_core::wire::mqtt::Up::Report;
        fleeti_control::devices::received(&world.server.control, &device.id, kind, &payload)
            .await
            .unwrap();
        for page in [
            "/".to_owned(),
            "/devices".to_owned(),
            format!("/devices/{}", device.id),
            "/devices?trouble=1".to_owned(),
        ] {
            let response = browser.get(&page, &session).await;
            assert_eq!(response.status(), 200);
            let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
            assert!(
                policy.contains("default-src 'self'") && !policy.contains("unsafe"),
                "{policy}"
            );
            let body = response.text().await.unwrap();
            assert!(!body.contains("<script>alert") && !body.contains("<img src=x"), "{page}");
            assert!(body.contains(device.id.as_str()), "{page}");
        }
    }
}

#[actix_web::test]
async fn the_page_of_a_device_says_what_to_do_about_its_kind_of_alarm() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let device = world.enroll().await;
    let mut report: serde_json::Value =
        serde_json::from_slice(&report_of("kiosk@1", State::Idle)).unwrap();
    let unknown = ("the fan stopped".to_owned(), "the fan stopped", None);
    let known = AlarmKind::ALL.map(|kind| (kind.text("it is so"), "it is so", Some(kind)));
    for (sequence, (alarm, words, kind)) in (1_u64..).zip(known.into_iter().chain([unknown])) {
        report["sequence"] = sequence.into();
        report["alarm"] = alarm.into();
        let payload = serde_json::to_vec(&report).unwrap();
        let report = fleeti_core::wire::mqtt::Up::Report;
        fleeti_control::devices::received(&world.server.control, &device.id, report, &payload)
            .await
            .unwrap();
        let page = browser.get(&format!("/devices/{}", device.id), &session).await;
        let page = page.text().await.unwrap();
        assert!(page.contains(&format!("There is an alarm: {words}.")), "{page}");
        for other in AlarmKind::ALL {
            let hint = other.hint().replace("DEVICE", device.id.as_str());
            assert_eq!(page.contains(&hint), kind == Some(other), "{other:?}: {page}");
        }
    }
}

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

#[actix_web::test]
async fn a_build_is_signed_only_where_the_release_key_is() {
    let world = World::new().await;
    let text = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";
    let profile = fleeti_core::profile::check(text).unwrap();
    let request = fleeti_core::wire::api::CreateBuild { profile, version: "1".parse().unwrap() };
    let build = world.client.create_build(&request).await.unwrap();
    let refused = world.client.sign_build(&build.id).await.unwrap_err();
    assert!(refused.to_string().contains("the release key is not on this server"), "{refused}");
    assert!(refused.hint().unwrap().contains("fleeti release create"));
}

#[actix_web::test]
async fn the_api_document_is_the_one_that_is_checked_in() {
    let path = format!("{}/openapi.json", env!("CARGO_MANIFEST_DIR"));
    let now = format!("{}\n", fleeti_server::api::openapi::document().to_pretty_json().unwrap());
    if std::env::var_os("INSTA_UPDATE").is_some_and(|v| v == "always") {
        std::fs::write(&path, &now).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(
        kept == now,
        "the API changed: run this test with INSTA_UPDATE=always, and look at the difference"
    );
    let world = World::new().await;
    let served = reqwest::get(format!("http://{}/api/v1/openapi.json", world.server.addresses.api))
        .await
        .unwrap();
    assert_eq!(
        served.json::<serde_json::Value>().await.unwrap(),
        serde_json::from_str::<serde_json::Value>(&now).unwrap()
    );
}

#[actix_web::test]
async fn a_wrong_profile_is_refused_with_every_error_at_its_path() {
    let world = World::new().await;
    let text = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";
    let mut profile = fleeti_core::profile::check(text).unwrap();
    profile.kernel.arguments.push("init=/bin/sh".into());
    profile.software.packages.push("No Such".into());
    let Err(fleeti_client::ClientError::Refused(problem)) =
        world.client.save_profile(&profile).await
    else {
        panic!("accepted")
    };
    let paths: Vec<_> = problem.errors.iter().map(|e| e.path.as_str()).collect();
    assert_eq!((problem.status, paths), (422, vec!["software.packages[0]", "kernel.arguments[0]"]));
}

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
