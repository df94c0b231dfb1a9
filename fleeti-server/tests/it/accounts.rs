//! Accounts: what a credential is, when it ends, and that the audit log names who acted by it.

use crate::contract::Row;
use crate::lifetimes;
use crate::pages::{Browser, OURS};
use crate::world::World;
use fleeti_client::{Client, ClientError};
use fleeti_control::accounts::{links, sessions, sign_in};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::AccountName;
use fleeti_core::wire::accounts::{
    AccountKind, CreateAccount, CreateToken, CreatedToken, Grant, Permission, Role,
};
use fleeti_core::wire::problem::Code;
use fleeti_store::sql;
use serde_json::json;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

pub const PASSWORD: &str = "correct horse battery";

pub fn name(text: &str) -> AccountName {
    text.parse().unwrap()
}

pub fn role(role: Role, fleet: Option<&str>) -> Grant {
    Grant { role, fleet: fleet.map(|fleet| fleet.parse().unwrap()) }
}

fn from(address: &str) -> fleeti_control::places::Origin {
    address.parse::<IpAddr>().unwrap().into()
}

/// Adds a person, who sets [`PASSWORD`]. Returns the token of the session that this begins.
pub async fn person(world: &World, account: &str, grants: &[Grant]) -> String {
    let request =
        CreateAccount { name: name(account), kind: AccountKind::Person, grants: grants.to_vec() };
    let link = world.client.add_account(&request).await.unwrap().link.unwrap();
    let token = link.path.expose().strip_prefix("/join/").unwrap();
    let cx = &world.server.control;
    links::redeem(cx, from("127.0.0.1"), token, (None, PASSWORD)).await.unwrap()
}

/// Adds a program with a token.
pub async fn program(
    world: &World,
    account: &str,
    grants: &[Grant],
    permissions: Option<Vec<Permission>>,
) -> CreatedToken {
    let request =
        CreateAccount { name: name(account), kind: AccountKind::Service, grants: grants.to_vec() };
    world.client.add_account(&request).await.unwrap();
    let request = CreateToken {
        label: "ci".into(),
        valid_s: 3600,
        permissions,
        account: Some(name(account)),
    };
    world.client.create_token(&request).await.unwrap()
}

pub fn client(world: &World, token: &str) -> Client {
    Client::new(&format!("http://{}", world.server.addresses.api), token).unwrap()
}

/// A token that permits nothing: it is limited, and its account has lost its role.
pub async fn powerless(world: &World) -> String {
    let viewer = role(Role::Viewer, None);
    let only = Some(vec![Permission::View]);
    let made = program(world, "powerless", std::slice::from_ref(&viewer), only).await;
    world.client.remove_role(&name("powerless"), &viewer).await.unwrap();
    made.token.expose().to_owned()
}

/// The id of a session of the account `bootstrap`.
pub async fn session_id(world: &World) -> String {
    let token = std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
    sign_in::with_token(&world.server.control, token.trim()).await.unwrap();
    sessions::of(&world.server.control, &name("bootstrap")).await.unwrap()[0].id.clone()
}

/// Rows for the contract of the API.
pub fn rows() -> Vec<Row> {
    vec![
        ("get_me", &[], None, 200),
        ("list_accounts", &[], None, 200),
        ("add_account", &[], Some(json!({"name": "alice", "kind": "person"})), 201),
        ("add_account", &[], Some(json!({"name": "alice", "kind": "service"})), 409),
        ("add_account", &[], Some(json!({"name": "robot", "kind": "service"})), 201),
        ("get_account", &[], None, 200),
        ("grant_role", &[], Some(json!({"role": "viewer", "fleet": "demo"})), 200),
        ("grant_role", &[], Some(json!({"role": "builder", "fleet": "demo"})), 422),
        ("grant_role", &[("account", "bootstrap")], Some(json!({"role": "viewer"})), 409),
        ("remove_role", &[], Some(json!({"role": "viewer", "fleet": "demo"})), 200),
        ("remove_role", &[("account", "bootstrap")], Some(json!({"role": "admin"})), 409),
        ("create_link", &[], None, 201),
        ("create_link", &[("account", "robot")], None, 409),
        ("create_token", &[], Some(json!({"label": "ci", "valid_s": 60, "account": "robot"})), 201),
        ("create_token", &[], Some(json!({"label": "ci", "valid_s": 60, "account": "alice"})), 409),
        ("create_token", &[], Some(json!({"label": "ci", "valid_s": 60, "account": "zoe"})), 404),
        ("remove_token", &[], None, 204),
        ("list_tokens", &[], None, 200),
        ("list_passkeys", &[], None, 200),
        ("list_sessions", &[], None, 200),
        ("end_session", &[], None, 200),
        ("list_account_sessions", &[], None, 200),
        ("end_account_sessions", &[], None, 204),
        ("disable_account", &[], None, 200),
        ("disable_account", &[("account", "bootstrap")], None, 409),
        ("enable_account", &[], None, 200),
        ("offboard_account", &[], None, 200),
        ("offboard_account", &[("account", "bootstrap")], None, 409),
    ]
}

fn status<T: std::fmt::Debug>(result: Result<T, ClientError>) -> u16 {
    match result {
        Err(ClientError::Refused(problem)) => problem.status,
        other => panic!("{other:?}"),
    }
}

#[actix_web::test]
async fn the_audit_log_names_the_account_and_its_credential() {
    let world = World::new().await;
    let session = person(&world, "alice", &[role(Role::Operator, None)]).await;
    let robot = program(&world, "robot", &[role(Role::Operator, Some("demo"))], None).await;
    let fleet = "demo".parse().unwrap();
    client(&world, robot.token.expose()).create_enrollment(&fleet, 60).await.unwrap();
    let device = world.enroll().await;
    let (browser, cookie) = (Browser::new(&world), format!("fleeti_session={session}"));
    let path = format!("/devices/{}/forgive", device.id);
    assert_eq!(browser.post(&path, &cookie, OURS, "version=7").await.status(), 303);
    let log = world.audit().await;
    let id = &robot.about.id;
    assert!(log.contains(&format!("\"actor\":\"robot (token {id})\"")), "{log}");
    assert!(log.contains("\"action\":\"device.forgive\",\"actor\":\"alice (session "), "{log}");
    assert!(log.contains("\"action\":\"enrollment.create\",\"actor\":\"bootstrap (admin.token)\""));
}

/// Nothing that opens a door is in the database or in the log, only digests of it.
#[actix_web::test]
async fn tokens_links_and_passwords_are_kept_as_digests() {
    let world = World::new().await;
    let request = CreateAccount { name: name("alice"), kind: AccountKind::Person, grants: vec![] };
    let link = world.client.add_account(&request).await.unwrap().link.unwrap();
    let token = link.path.expose().strip_prefix("/join/").unwrap().to_owned();
    assert!(world.is_kept(&sha256_hex(token.as_bytes())).await);
    let (cx, here) = (&world.server.control, from("127.0.0.1"));
    let session = links::redeem(cx, here, &token, (None, PASSWORD)).await.unwrap();
    let robot = program(&world, "robot", &[], None).await;
    let log = world.audit().await;
    for secret in [token.as_str(), PASSWORD, &session, robot.token.expose()] {
        assert!(!world.is_kept(secret).await && !log.contains(secret));
    }
    assert!(world.is_kept("$argon2id$v=19$").await);
    let again = links::redeem(cx, here, &token, (None, PASSWORD)).await;
    assert_eq!(again.unwrap_err().code(), Code::NotFound, "a link is used once");
}

#[actix_web::test]
async fn a_token_ends_by_the_clock_and_records_its_use_once_a_minute() {
    let (world, ahead) = lifetimes::world().await;
    let robot = program(&world, "robot", &[role(Role::Viewer, None)], None).await;
    let its = client(&world, robot.token.expose());
    let used = async || {
        let details = world.client.account(&name("robot")).await.unwrap();
        details.tokens.first().and_then(|token| token.used_s)
    };
    assert_eq!(used().await, None);
    its.fleets().await.unwrap();
    let first = used().await.unwrap();
    its.fleets().await.unwrap();
    assert_eq!(used().await, Some(first));
    ahead.store(120, Ordering::SeqCst);
    its.fleets().await.unwrap();
    assert!(used().await.unwrap() >= first + 60);
    ahead.store(3700, Ordering::SeqCst);
    assert_eq!(status(its.fleets().await), 401);
    assert_eq!(used().await, None, "an expired token is not listed");
}

#[actix_web::test]
async fn a_limited_token_does_what_it_is_limited_to() {
    let world = World::new().await;
    let only = Some(vec![Permission::Enroll]);
    let robot = program(&world, "robot", &[role(Role::Operator, None)], only).await;
    let its = client(&world, robot.token.expose());
    its.create_enrollment(&"demo".parse().unwrap(), 60).await.unwrap();
    assert_eq!(status(its.fleets().await), 403);
    let more = CreateToken { label: "more".into(), valid_s: 60, permissions: None, account: None };
    assert_eq!(status(its.create_token(&more).await), 403);
    assert_eq!(status(its.remove_token(&robot.about.id).await), 403);
    // What the account does not have, its token cannot have either.
    let request = CreateToken {
        permissions: Some(vec![Permission::Server]),
        account: Some(name("robot")),
        ..more
    };
    assert_eq!(status(world.client.create_token(&request).await), 422);
}

/// It would get a session without limits, by an account of its own or by that of somebody else.
#[actix_web::test]
async fn a_token_that_is_limited_to_accounts_makes_no_administrator() {
    let world = World::new().await;
    let only = Some(vec![Permission::Accounts]);
    let admin = role(Role::Admin, None);
    let robot = program(&world, "robot", std::slice::from_ref(&admin), only).await;
    person(&world, "alice", std::slice::from_ref(&admin)).await;
    person(&world, "bob", &[]).await;
    let its = client(&world, robot.token.expose());
    let request = |grants| CreateAccount { name: name("eve"), kind: AccountKind::Person, grants };
    assert_eq!(status(its.add_account(&request(vec![admin.clone()])).await), 403);
    assert_eq!(status(its.grant_role(&name("bob"), &admin).await), 403);
    assert_eq!(status(its.create_link(&name("alice")).await), 403);
    assert_eq!(status(its.create_link(&name("bob")).await), 403);
    its.add_account(&request(vec![])).await.unwrap();
}

#[actix_web::test]
async fn the_first_link_makes_no_second_administrator() {
    let world = World::new().await;
    let cx = &world.server.control;
    let link = links::first(cx).await.unwrap().unwrap();
    let token = link.path.expose().strip_prefix("/join/").unwrap().to_owned();
    person(&world, "alice", &[role(Role::Admin, None)]).await;
    let late =
        links::redeem(cx, from("127.0.0.1"), &token, (Some(name("mallory")), PASSWORD)).await;
    assert_eq!(late.unwrap_err().code(), Code::NotFound);
}

/// Wrong passwords, unknown names and disabled accounts look the same.
#[actix_web::test]
async fn a_person_signs_in_with_a_password_and_guessing_ends() {
    let world = World::new().await;
    person(&world, "alice", &[role(Role::Viewer, None)]).await;
    let browser = Browser::new(&world);
    let form =
        |name: &str, password: &str| format!("name={name}&password={}", password.replace(' ', "+"));
    let begun = browser.post("/signin", "", OURS, &form("alice", PASSWORD)).await;
    assert_eq!(begun.status(), 303);
    let cookie = begun.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(browser.get("/", cookie).await.status(), 200);
    assert_eq!(
        browser.post("/rollouts", cookie, OURS, "release=k@1&fleet=demo").await.status(),
        403
    );

    world
        .client
        .add_account(&CreateAccount {
            name: name("robot"),
            kind: AccountKind::Service,
            grants: vec![],
        })
        .await
        .unwrap();
    let mut said = Vec::new();
    for (name, password) in
        [("alice", "a guess at this"), ("nobody", PASSWORD), ("bootstrap", PASSWORD), ("robot", "")]
    {
        let refused = browser.post("/signin", "", OURS, &form(name, password)).await;
        assert_eq!(refused.status(), 401, "{name}");
        said.push(refused.text().await.unwrap());
    }
    world.client.disable_account(&name("alice")).await.unwrap();
    assert_eq!(browser.get("/", cookie).await.status(), 303, "the session has ended");
    let refused = browser.post("/signin", "", OURS, &form("alice", PASSWORD)).await;
    said.push(refused.text().await.unwrap());
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");

    world.client.enable_account(&name("alice")).await.unwrap();
    let mut last = 0;
    for _ in 0..10 {
        last = browser
            .post("/signin", "", OURS, &form("alice", "a guess at this"))
            .await
            .status()
            .as_u16();
    }
    assert_eq!(last, 429);
    // Another address is not locked out.
    let (cx, elsewhere) = (&world.server.control, from("192.0.2.7"));
    sign_in::with_password(cx, elsewhere, "alice", PASSWORD).await.unwrap();
    assert_eq!(world.audit().await.matches("session.refused").count(), 4, "once for each account");
}

#[actix_web::test]
async fn a_new_password_ends_all_other_sessions() {
    let world = World::new().await;
    let (cx, here) = (&world.server.control, from("127.0.0.1"));
    let first = person(&world, "alice", &[role(Role::Viewer, None)]).await;
    let second = sign_in::with_password(cx, here, "alice", PASSWORD).await.unwrap();
    let alice = sessions::actor(cx, &second).await.unwrap().unwrap();
    let change =
        async |current, new| sign_in::change_password(cx, &alice, here, (current, new)).await;
    assert_eq!(
        change("not the password", "twelve-chars").await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(change(PASSWORD, "too short").await.unwrap_err().code(), Code::Invalid);
    let third = change(PASSWORD, "twelve-chars").await.unwrap();
    for (session, is_live) in [(&first, false), (&second, false), (&third, true)] {
        assert_eq!(sessions::is_live(cx, session).await.unwrap(), is_live);
    }
    assert!(sign_in::with_password(cx, here, "alice", PASSWORD).await.is_err());
    let all = sessions::of(cx, &name("alice")).await.unwrap();
    assert_eq!(all.len(), 1);
    sessions::end_own(cx, &alice, &all[0].id).await.unwrap();
    assert!(!sessions::is_live(cx, &third).await.unwrap());
}

#[actix_web::test]
async fn offboarding_ends_everything_of_a_person() {
    let world = World::new().await;
    let session = person(&world, "alice", &[role(Role::Operator, None)]).await;
    let cx = &world.server.control;
    let alice = sessions::actor(cx, &session).await.unwrap().unwrap();
    let request =
        CreateToken { label: "laptop".into(), valid_s: 3600, permissions: None, account: None };
    let token = fleeti_control::accounts::tokens::create(cx, &alice, &request).await.unwrap();
    let its = client(&world, token.token.expose());
    let enrollment = its.create_enrollment(&"demo".parse().unwrap(), 3600).await.unwrap();
    let before = world.client.account(&name("alice")).await.unwrap();
    assert_eq!((before.sessions.len(), before.tokens.len(), before.open_enrollments), (1, 1, 1));
    let after = world.client.offboard_account(&name("alice")).await.unwrap();
    assert_eq!((after.sessions.len(), after.tokens.len(), after.open_enrollments), (0, 0, 0));
    assert!(after.account.grants.is_empty() && after.account.disabled_s.is_some());
    assert_eq!(after.elsewhere.len(), 3, "approver keys, release keys, root shares");
    assert_eq!(status(its.fleets().await), 401);
    assert!(!sessions::is_live(cx, &session).await.unwrap());
    let key = fleeti_pki::signer::SoftKey::generate(fleeti_pki::signer::Algorithm::P256).unwrap();
    assert!(!world.try_enroll(&enrollment.record.token, &key).await.status().is_success());
    // The name stays hers in the log.
    let again = CreateAccount { name: name("alice"), kind: AccountKind::Person, grants: vec![] };
    assert_eq!(status(world.client.add_account(&again).await), 409);
    assert!(
        world
            .audit()
            .await
            .contains("alice: 1 sessions, 0 passkeys, 1 API tokens, 1 enrollment tokens")
    );
}

#[actix_web::test]
async fn the_last_administrator_stays_and_a_new_token_of_the_machine_regains_access() {
    let world = World::new().await;
    let (bootstrap, cx) = (name("bootstrap"), &world.server.control);
    let admin = role(Role::Admin, None);
    assert_eq!(status(world.client.disable_account(&bootstrap).await), 409);
    let link = links::first(cx).await.unwrap().unwrap();
    let token = link.path.expose().strip_prefix("/join/").unwrap();
    let here = from("127.0.0.1");
    let session = links::redeem(cx, here, token, (Some(name("root")), PASSWORD)).await.unwrap();
    assert!(links::first(cx).await.unwrap().is_none(), "there is an administrator");
    let cookie = format!("fleeti_session={session}");
    assert_eq!(Browser::new(&world).get("/", &cookie).await.status(), 200);
    world.client.disable_account(&bootstrap).await.unwrap();
    assert_eq!(status(world.client.fleets().await), 401);
    let root = sessions::actor(cx, &session).await.unwrap().unwrap();
    let people = fleeti_control::accounts::people::ungrant;
    let last = people(cx, &root, &name("root"), &admin).await.unwrap_err();
    assert_eq!(last.code(), Code::Conflict);
    // The same token stays disabled after a restart, another one does not.
    world.server.stop().await;
    let world = World::start(world.dir, |_| {}).await;
    assert_eq!(status(world.client.fleets().await), 401);
    world.server.stop().await;
    std::fs::remove_file(world.dir.path().join("admin.token")).unwrap();
    let world = World::start(world.dir, |_| {}).await;
    world.client.fleets().await.unwrap();
    assert!(world.audit().await.contains("bootstrap: admin.token was replaced"));
}

/// An attacker who can only write the database gets no account, role, token, link or password.
#[actix_web::test]
async fn rows_that_only_the_database_has_do_not_count() {
    let world = World::new().await;
    let viewer =
        program(&world, "robot", &[role(Role::Viewer, None)], Some(vec![Permission::View])).await;
    let session = person(&world, "alice", &[role(Role::Viewer, None)]).await;
    let cx = &world.server.control;
    let write = async |statement: &'static str| {
        let mut tx = cx.db.write().await.unwrap();
        sql::query(statement).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    };
    let its = client(&world, viewer.token.expose());
    its.fleets().await.unwrap();
    write("UPDATE api_tokens SET permissions = NULL").await;
    assert_eq!(status(its.fleets().await), 401, "a changed token does not count");
    write("UPDATE accounts SET grants = '[{\"role\":\"admin\"}]' WHERE name = 'alice'").await;
    assert!(!sessions::is_live(cx, &session).await.unwrap(), "a changed account does not count");
    assert_eq!(world.client.accounts().await.unwrap().len(), 2, "bootstrap and robot");
}
