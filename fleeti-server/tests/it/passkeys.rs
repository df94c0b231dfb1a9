//! Passkeys over the pages, with an authenticator in software: how one is added and signs in, and
//! what an attacker tries.

use crate::accounts::{PASSWORD, client, name, person, program, role};
use crate::lifetimes;
use crate::pages::{Browser, OURS};
use crate::world::World;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleeti_control::accounts::challenges::{ANSWERED_MAX, CHALLENGE_S};
use fleeti_control::accounts::passkeys::FRESH_S;
use fleeti_core::wire::accounts::{PASSKEYS_MAX, Role};
use fleeti_server::config::Config;
use fleeti_store::sql;
use fleeti_testkit::authenticator::{Answer, New, PRESENT, Passkey, Said};
use reqwest::Response;
use serde_json::Value;
use std::sync::atomic::Ordering;

const ORIGIN: &str = "https://fleet.example.com";

fn with_public_url(config: &mut Config) {
    config.public_url = Some(ORIGIN.parse().unwrap());
}

async fn world() -> World {
    World::with(with_public_url).await
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn bytes(value: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap()
}

fn set_cookie(response: &Response, name: &str) -> Option<String> {
    let all = response.headers().get_all("set-cookie").into_iter();
    let mut pairs = all.map(|value| value.to_str().unwrap().split(';').next().unwrap());
    pairs.find(|pair| pair.starts_with(&format!("{name}="))).map(str::to_owned)
}

/// A browser in which a person has signed in.
struct Desk<'a> {
    browser: Browser,
    cookie: String,
    world: &'a World,
}

impl<'a> Desk<'a> {
    async fn of(world: &'a World, account: &str) -> Self {
        let session = person(world, account, &[role(Role::Viewer, None)]).await;
        Self { browser: Browser::new(world), cookie: format!("fleeti_session={session}"), world }
    }

    /// What the server asks for a new passkey.
    async fn options(&self) -> Result<Value, (u16, String)> {
        let response = self.browser.post("/account/passkeys/options", &self.cookie, OURS, "").await;
        match response.status().as_u16() {
            200 => Ok(response.json().await.unwrap()),
            status => Err((status, response.text().await.unwrap())),
        }
    }

    async fn send(&self, new: &New) -> Response {
        let (data, attestation) = (text(&new.client_data), text(&new.attestation));
        let form = format!("label=a+key&client_data={data}&attestation={attestation}");
        self.browser.post("/account/passkeys", &self.cookie, OURS, &form).await
    }

    /// Adds a passkey whose counter begins at `counter`.
    async fn add(&self, counter: u32) -> Passkey {
        let options = self.options().await.unwrap();
        let passkey = Passkey::new(&bytes(&options["user"]["id"]), counter);
        let said = Said::at(ORIGIN, &bytes(&options["challenge"]));
        let added = self.send(&passkey.create(&said)).await;
        assert_eq!(added.status(), 303, "{}", added.text().await.unwrap());
        passkey
    }
}

/// A browser that asks to sign in: its cookie, and the challenge.
async fn ask(browser: &Browser) -> (String, Vec<u8>) {
    let response = browser.post("/signin/passkey/options", "", OURS, "").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["cache-control"], "no-store");
    let cookie = set_cookie(&response, "fleeti_ceremony").unwrap();
    let options: Value = response.json().await.unwrap();
    assert_eq!(options["userVerification"], "required");
    assert_eq!(options["rpId"], "fleet.example.com");
    (cookie, bytes(&options["challenge"]))
}

async fn answer(browser: &Browser, cookie: &str, answer: &Answer) -> Response {
    let form = [
        ("credential", &answer.credential),
        ("user", &answer.user),
        ("client_data", &answer.client_data),
        ("authenticator_data", &answer.authenticator_data),
        ("signature", &answer.signature),
    ]
    .map(|(name, bytes)| format!("{name}={}", text(bytes)));
    browser.post("/signin/passkey", cookie, OURS, &form.join("&")).await
}

/// Signs in with a passkey in a new browser. Returns the status and the cookie of the session.
async fn sign_in(world: &World, passkey: &mut Passkey) -> (u16, Option<String>) {
    let browser = Browser::new(world);
    let (cookie, challenge) = ask(&browser).await;
    let said = Said::at(ORIGIN, &challenge);
    let response = answer(&browser, &cookie, &passkey.sign_in(&said)).await;
    (response.status().as_u16(), set_cookie(&response, "fleeti_session"))
}

#[actix_web::test]
async fn a_person_adds_a_passkey_signs_in_with_it_and_removes_it() {
    let world = world().await;
    let alice = Desk::of(&world, "alice").await;
    let options = alice.options().await.unwrap();
    assert_eq!(options["rp"]["id"], "fleet.example.com");
    assert_eq!(options["authenticatorSelection"]["residentKey"], "required");
    assert_eq!(options["authenticatorSelection"]["userVerification"], "required");
    assert!(!String::from_utf8_lossy(&bytes(&options["user"]["id"])).contains("alice"));
    let mut passkey = alice.add(0).await;
    let known = alice.options().await.unwrap()["excludeCredentials"][0]["id"].clone();
    assert_eq!(bytes(&known), passkey.id);

    let (status, session) = sign_in(&world, &mut passkey).await;
    assert_eq!(status, 303);
    let session = session.unwrap();
    let own = alice.browser.get("/account", &session).await.text().await.unwrap();
    assert!(own.contains("Settings of alice") && own.contains("a key"), "{own}");
    let kept = world.client.account(&name("alice")).await.unwrap().passkeys;
    assert_eq!((kept.len(), kept[0].label.as_str(), kept[0].is_synced), (1, "a key", false));
    assert!(kept[0].used_s.is_some());

    let remove = format!("/account/passkeys/{}/remove", kept[0].id);
    assert_eq!(alice.browser.post(&remove, &alice.cookie, OURS, "").await.status(), 303);
    assert_eq!(alice.browser.get("/", &session).await.status(), 303, "its session has ended");
    assert_eq!(alice.browser.get("/", &alice.cookie).await.status(), 200, "the other one has not");
    assert_eq!(sign_in(&world, &mut passkey).await, (401, None));
    let log = world.audit().await;
    for act in ["passkey.add", "passkey.remove", "session.refused"] {
        assert!(log.contains(act), "{act}: {log}");
    }
    assert!(log.contains(&format!("web by {}", kept[0].id)), "{log}");
    assert!(log.contains(&format!("{} of alice: a key", kept[0].id)), "{log}");
}

#[actix_web::test]
async fn a_challenge_is_answered_once_by_the_browser_that_asked_and_in_time() {
    let (world, ahead) = lifetimes::world_with(with_public_url).await;
    let alice = Desk::of(&world, "alice").await;
    let mut passkey = alice.add(0).await;
    let (mine, other) = (Browser::new(&world), Browser::new(&world));
    let (cookie, challenge) = ask(&mine).await;
    let (others, _) = ask(&other).await;
    let mine_answers = passkey.sign_in(&Said::at(ORIGIN, &challenge));
    for cookie in [others.as_str(), "", "fleeti_ceremony="] {
        let refused = answer(&other, cookie, &mine_answers).await;
        assert_eq!(refused.status(), 401, "of another browser");
        assert!(set_cookie(&refused, "fleeti_session").is_none());
    }
    let from_elsewhere =
        mine.post("/signin/passkey/options", "", Some(("sec-fetch-site", "cross-site")), "").await;
    assert_eq!(from_elsewhere.status(), 403);
    assert_eq!(answer(&mine, &cookie, &mine_answers).await.status(), 303);
    assert_eq!(answer(&mine, &cookie, &mine_answers).await.status(), 401, "replayed");

    // A challenge to add a passkey cannot be used to sign in, nor the reverse.
    let to_add = bytes(&alice.options().await.unwrap()["challenge"]);
    let crossed = passkey.sign_in(&Said::at(ORIGIN, &to_add));
    assert_eq!(answer(&mine, &alice.cookie, &crossed).await.status(), 401);
    let new = Passkey::new(b"", 0);
    let crossed = new.create(&Said::at(ORIGIN, &challenge));
    assert_eq!(alice.send(&crossed).await.status(), 401);
    // The challenge of another session adds nothing.
    let bob = Desk::of(&world, "bob").await;
    let crossed = new.create(&Said::at(ORIGIN, &to_add));
    assert_eq!(bob.send(&crossed).await.status(), 401);
    let made_up = new.create(&Said::at(ORIGIN, &[7; 56]));
    assert_eq!(alice.send(&made_up).await.status(), 401);
    assert_eq!(alice.send(&crossed).await.status(), 303);
    assert_eq!(alice.send(&crossed).await.status(), 401, "replayed");

    let (cookie, challenge) = ask(&mine).await;
    let late = passkey.sign_in(&Said::at(ORIGIN, &challenge));
    ahead.fetch_add(CHALLENGE_S + 1, Ordering::SeqCst);
    assert_eq!(answer(&mine, &cookie, &late).await.status(), 401, "too late");
}

/// What one side of the ceremony can claim wrongly. The check of each is tested in `fleeti-pki`; here,
/// that the server makes it.
#[actix_web::test]
async fn another_site_another_account_and_an_unverified_user_are_refused() {
    let world = world().await;
    let (alice, bob) = (Desk::of(&world, "alice").await, Desk::of(&world, "bob").await);
    let (mut passkey, mut other) = (alice.add(0).await, bob.add(0).await);
    let browser = Browser::new(&world);
    let (cookie, challenge) = ask(&browser).await;
    let said = Said::at(ORIGIN, &challenge);
    let evil = "https://evil.example".to_owned();
    let wrong = [
        Said { origin: evil, ..said.clone() },
        Said { party: "evil.example".into(), ..said.clone() },
        Said { flags: PRESENT, ..said.clone() },
        Said { ceremony: Some("webauthn.create"), ..said.clone() },
    ];
    for said in wrong {
        let new = Passkey::new(&passkey.user, 0);
        let options = alice.options().await.unwrap();
        let to_add = Said { challenge: bytes(&options["challenge"]), ..said.clone() };
        let is_create = to_add.ceremony == Some("webauthn.create");
        let added = alice.send(&new.create(&to_add)).await.status().as_u16();
        assert_eq!(added, if is_create { 303 } else { 422 });
        assert_eq!(answer(&browser, &cookie, &passkey.sign_in(&said)).await.status(), 401);
    }
    let right = passkey.sign_in(&said);
    let bobs = Answer { user: other.user.clone(), ..right.clone() };
    for _ in 0..3 {
        assert_eq!(answer(&browser, &cookie, &bobs).await.status(), 401, "of another account");
    }
    let nobodys = Answer { user: vec![], ..right.clone() };
    assert_eq!(answer(&browser, &cookie, &nobodys).await.status(), 401, "without an account");
    let unknown = Answer { credential: vec![7; 32], ..right.clone() };
    assert_eq!(answer(&browser, &cookie, &unknown).await.status(), 401, "unknown");
    let form = "credential=*&user=&client_data=&authenticator_data=&signature=";
    assert_eq!(browser.post("/signin/passkey", &cookie, OURS, form).await.status(), 422);
    assert_eq!(answer(&browser, &cookie, &right).await.status(), 429, "eight attempts failed");
    assert_eq!(sign_in(&world, &mut other).await.0, 303, "at one account");
}

#[actix_web::test]
async fn a_passkey_ends_with_its_account_and_is_of_one_account() {
    let world = world().await;
    let alice = Desk::of(&world, "alice").await;
    let mut passkey = alice.add(0).await;
    let (status, session) = sign_in(&world, &mut passkey).await;
    assert_eq!(status, 303);
    world.client.disable_account(&name("alice")).await.unwrap();
    assert_eq!(alice.browser.get("/", &session.unwrap()).await.status(), 303);
    assert_eq!(sign_in(&world, &mut passkey).await, (401, None), "disabled");
    world.client.enable_account(&name("alice")).await.unwrap();
    assert_eq!(sign_in(&world, &mut passkey).await.0, 303);

    // Another account cannot take the id of the credential over.
    let bob = Desk::of(&world, "bob").await;
    let options = bob.options().await.unwrap();
    let mut twin = Passkey::new(&bytes(&options["user"]["id"]), 0);
    twin.id.clone_from(&passkey.id);
    let said = Said::at(ORIGIN, &bytes(&options["challenge"]));
    assert_eq!(bob.send(&twin.create(&said)).await.status(), 409);
    assert_eq!(sign_in(&world, &mut twin).await.0, 401);

    let after = world.client.offboard_account(&name("alice")).await.unwrap();
    assert!(after.passkeys.is_empty());
    assert_eq!(sign_in(&world, &mut passkey).await, (401, None), "offboarded");
    world.client.enable_account(&name("alice")).await.unwrap();
    assert_eq!(sign_in(&world, &mut passkey).await, (401, None), "for ever");
    assert!(world.audit().await.contains("alice: 1 sessions, 1 passkeys, "));
}

#[actix_web::test]
async fn a_copied_authenticator_is_noticed() {
    let world = world().await;
    let alice = Desk::of(&world, "alice").await;
    let mut passkey = alice.add(5).await;
    let mut copy = passkey.clone();
    assert_eq!(sign_in(&world, &mut passkey).await.0, 303);
    assert_eq!(sign_in(&world, &mut passkey).await.0, 303);
    assert_eq!(sign_in(&world, &mut copy).await, (401, None));
    let log = world.audit().await;
    assert!(log.contains("\"action\":\"passkey.copied\""), "{log}");
    assert!(!log.contains("session.refused"), "{log}");
    assert_eq!(sign_in(&world, &mut passkey).await.0, 303, "the other one still counts");
}

/// Who finds a browser that a person left adds no passkey, and neither does a program.
#[actix_web::test]
async fn a_passkey_is_added_soon_after_signing_in_and_by_a_person() {
    let (world, ahead) = lifetimes::world_with(with_public_url).await;
    let alice = Desk::of(&world, "alice").await;
    let mut passkey = alice.add(0).await;
    ahead.fetch_add(FRESH_S + 1, Ordering::SeqCst);
    let (status, page) = alice.options().await.unwrap_err();
    assert!(status == 403 && page.contains("more than 10 minutes ago"), "{status} {page}");
    // A passkey is as good as a password to begin with.
    let fresh = sign_in(&world, &mut passkey).await.1.unwrap();
    let alice = Desk { cookie: fresh, ..alice };
    alice.add(0).await;
    let admin = Desk { cookie: alice.browser.sign_in(&world).await, ..alice };
    let (status, page) = admin.options().await.unwrap_err();
    assert!(status == 409 && page.contains("bootstrap is no person"), "{status} {page}");
    let robot = program(&world, "robot", &[role(Role::Viewer, None)], None).await;
    let its = client(&world, robot.token.expose());
    assert!(its.passkeys().await.unwrap().is_empty());
}

#[actix_web::test]
async fn an_account_has_a_limited_number_of_passkeys_and_of_uses() {
    let world = world().await;
    let alice = Desk::of(&world, "alice").await;
    let mut passkey = alice.add(0).await;
    for _ in 1..PASSKEYS_MAX {
        alice.add(0).await;
    }
    let (status, page) = alice.options().await.unwrap_err();
    assert!(status == 409 && page.contains("maximum of 10 passkeys"), "{status} {page}");
    let added = PASSKEYS_MAX;
    for _ in added..ANSWERED_MAX {
        assert_eq!(sign_in(&world, &mut passkey).await.0, 303);
    }
    assert_eq!(sign_in(&world, &mut passkey).await.0, 429);
    let mut bobs = Desk::of(&world, "bob").await.add(0).await;
    assert_eq!(sign_in(&world, &mut bobs).await.0, 303, "another account");
}

/// Others see and remove only what they may: an administrator any passkey, a person the own ones.
#[actix_web::test]
async fn a_passkey_is_removed_by_its_person_or_an_administrator() {
    let world = world().await;
    let (alice, bob) = (Desk::of(&world, "alice").await, Desk::of(&world, "bob").await);
    let mut passkey = alice.add(0).await;
    let id = world.client.account(&name("alice")).await.unwrap().passkeys[0].id.clone();
    let remove = format!("/account/passkeys/{id}/remove");
    assert_eq!(bob.browser.post(&remove, &bob.cookie, OURS, "").await.status(), 404);
    let of_alice = format!("/users/alice/passkeys/{id}/remove");
    assert_eq!(bob.browser.post(&of_alice, &bob.cookie, OURS, "").await.status(), 403);
    let elsewhere = Some(("sec-fetch-site", "cross-site"));
    assert_eq!(alice.browser.post(&remove, &alice.cookie, elsewhere, "").await.status(), 403);
    assert_eq!(sign_in(&world, &mut passkey).await.0, 303);
    let admin = bob.browser.sign_in(&world).await;
    let page = bob.browser.get("/users/alice", &admin).await.text().await.unwrap();
    assert!(page.contains(&of_alice), "{page}");
    assert_eq!(bob.browser.post(&of_alice, &admin, OURS, "").await.status(), 303);
    assert_eq!(sign_in(&world, &mut passkey).await.0, 401);
    alice.add(0).await;
    let id = world.client.account(&name("alice")).await.unwrap().passkeys[0].id.clone();
    world.client.remove_passkey(&id).await.unwrap();
    assert!(world.client.remove_passkey(&id).await.is_err());
}

/// An attacker who can only write the database gets no passkey, and puts no counter back.
#[actix_web::test]
async fn passkeys_that_only_the_database_has_do_not_count() {
    let world = world().await;
    let (alice, bob) = (Desk::of(&world, "alice").await, Desk::of(&world, "bob").await);
    let mut passkey = alice.add(5).await;
    let cx = &world.server.control;
    let write = async |statement: &'static str| {
        let mut tx = cx.db.write().await.unwrap();
        sql::query(statement).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    };
    let (_, session) = sign_in(&world, &mut passkey).await;
    let session = session.unwrap();
    assert_eq!(alice.browser.get("/", &session).await.status(), 200);
    let mut copy = passkey.clone();
    assert_eq!(sign_in(&world, &mut passkey).await.0, 303);
    write("UPDATE passkeys SET counter = 6").await;
    assert_eq!(sign_in(&world, &mut copy).await.0, 401, "an older counter");
    write("UPDATE passkeys SET counter = 7").await;
    assert_eq!(sign_in(&world, &mut passkey).await.0, 303, "as it was");
    write("UPDATE passkeys SET account = 'bob'").await;
    let mut bobs = passkey.clone();
    bobs.user = bytes(&bob.options().await.unwrap()["user"]["id"]);
    assert_eq!(sign_in(&world, &mut bobs).await.0, 401, "of another account");
    assert_eq!(alice.browser.get("/", &session).await.status(), 303, "nor does its session");
    write("UPDATE passkeys SET account = 'alice'").await;
    assert_eq!(alice.browser.get("/", &session).await.status(), 200);
    write("UPDATE sessions SET passkey = NULL").await;
    assert_eq!(alice.browser.get("/", &session).await.status(), 303, "as if by the password");
}

#[actix_web::test]
async fn a_new_password_ends_the_sessions_of_passkeys() {
    let world = world().await;
    let alice = Desk::of(&world, "alice").await;
    let mut passkey = alice.add(0).await;
    let session = sign_in(&world, &mut passkey).await.1.unwrap();
    let form = format!("current={}&new=another+password", PASSWORD.replace(' ', "+"));
    let changed = alice.browser.post("/account/password", &session, OURS, &form).await;
    assert_eq!(changed.status(), 303);
    assert_eq!(alice.browser.get("/", &session).await.status(), 303);
    assert_eq!(sign_in(&world, &mut passkey).await.0, 303, "the passkey itself stays");
}

#[actix_web::test]
async fn a_server_without_a_public_url_has_no_passkeys_and_says_so() {
    let world = World::new().await;
    let alice = Desk::of(&world, "alice").await;
    let (status, page) = alice.options().await.unwrap_err();
    assert!(status == 409 && page.contains("--public-url"), "{status} {page}");
    let refused = alice.browser.post("/signin/passkey/options", "", OURS, "").await;
    assert_eq!(refused.status(), 409);
    let own = alice.browser.get("/account", &alice.cookie).await.text().await.unwrap();
    assert!(own.contains("--public-url") && !own.contains("data-passkey"), "{own}");
    let page = alice.browser.get("/signin", "").await.text().await.unwrap();
    assert!(!page.contains("passkey"), "{page}");
    let kept = alice.world.client.account(&name("alice")).await.unwrap().passkeys;
    assert!(kept.is_empty());
}
