//! Requests that are repeated: done once, and answered the same, by nobody else.

use crate::accounts::{program, role};
use crate::rollout::{publish_release, start};
use crate::world::World;
use fleeti_control::clock::Clock;
use fleeti_core::wire::accounts::Role;
use fleeti_store::sql;
use reqwest::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

struct Api {
    url: String,
    token: String,
    http: reqwest::Client,
}

impl Api {
    fn of(world: &World) -> Self {
        let token = std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
        Self::with(world, token.trim())
    }

    fn with(world: &World, token: &str) -> Self {
        let url = format!("http://{}/api/v1", world.server.addresses.api);
        Self { url, token: token.to_owned(), http: reqwest::Client::new() }
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> Response {
        let request = self.http.post(format!("{}/{path}", self.url)).bearer_auth(&self.token);
        request.header("idempotency-key", key).json(body).send().await.unwrap()
    }
}

async fn text(response: Response) -> (u16, String) {
    (response.status().as_u16(), response.text().await.unwrap())
}

const TOKENS: &str = "fleets/demo/enrollments";

fn minute() -> Value {
    json!({"valid_s": 60})
}

#[actix_web::test]
async fn a_repeated_request_is_done_once_and_gets_the_same_answer() {
    let world = World::new().await;
    let api = Api::of(&world);
    let first = api.post(TOKENS, "\"key-1\"", &minute()).await;
    assert!(!first.headers().contains_key("idempotency-replayed"));
    let kind = first.headers()["content-type"].clone();
    let first = text(first).await;
    assert!(first.0 < 300, "{first:?}");
    // Also without quotation marks, which is the same key.
    for key in ["\"key-1\"", "key-1"] {
        let again = api.post(TOKENS, key, &minute()).await;
        assert_eq!(again.headers()["idempotency-replayed"], "true");
        assert_eq!(again.headers()["content-type"], kind);
        assert_eq!(text(again).await, first);
    }
    let other = text(api.post(TOKENS, "key-2", &minute()).await).await;
    assert_ne!(other.1, first.1, "another key is another request");
    assert_eq!(world.audit().await.matches("enrollment.create").count(), 2);

    world.enroll().await;
    publish_release(&world, "kiosk@1").await;
    let request = serde_json::to_value(start("kiosk@1")).unwrap();
    let started = text(api.post("rollouts", "rollout", &request).await).await;
    assert_eq!(started.0, 201, "{started:?}");
    // Without the key, the active rollout is a conflict.
    assert_eq!(text(api.post("rollouts", "other", &request).await).await.0, 409);
    assert_eq!(text(api.post("rollouts", "rollout", &request).await).await, started);
    assert_eq!(world.client.rollouts().await.unwrap().len(), 1);
}

#[actix_web::test]
async fn a_key_is_for_one_request_and_for_its_account() {
    let world = World::new().await;
    world.enroll().await;
    let api = Api::of(&world);
    let first = text(api.post(TOKENS, "k", &minute()).await).await;
    for (path, body) in [
        (TOKENS, json!({"valid_s": 61})),
        ("fleets/spare/enrollments", minute()),
        ("fleets/demo/enrollments?x=1", minute()),
        ("rollouts", json!({"release": "kiosk@1", "fleet": "demo"})),
    ] {
        let (status, text) = text(api.post(path, "k", &body).await).await;
        assert_eq!(status, 422, "{path}: {text}");
        assert!(text.contains("another request"), "{text}");
    }
    // The same key of another account is another key, and gets nothing of the first answer.
    let grants = [role(Role::Operator, Some("demo"))];
    let robot = program(&world, "robot", &grants, None).await;
    let robot = Api::with(&world, robot.token.expose());
    let own = text(robot.post(TOKENS, "k", &minute()).await).await;
    assert!(own.0 < 300 && own.1 != first.1, "{own:?}");
    // An account without the permission gets no answer of anybody.
    let viewer = program(&world, "viewer", &[role(Role::Viewer, None)], None).await;
    let viewer = Api::with(&world, viewer.token.expose());
    assert_eq!(text(viewer.post(TOKENS, "k", &minute()).await).await.0, 403);
    // One that lost its role does not get the answer that it had.
    world.client.remove_role(&crate::accounts::name("robot"), &grants[0]).await.unwrap();
    assert_eq!(text(robot.post(TOKENS, "k", &minute()).await).await.0, 403);
    let long = "x".repeat(129);
    for malformed in ["", "\"", "\"\"", "a b", "a\"b", "a\\b", long.as_str()] {
        let (status, text) = text(api.post(TOKENS, malformed, &minute()).await).await;
        assert_eq!(status, 400, "{malformed:?}: {text}");
    }
}

#[actix_web::test]
async fn a_refused_request_is_tried_again() {
    let world = World::new().await;
    let api = Api::of(&world);
    let request = serde_json::to_value(start("kiosk@1")).unwrap();
    assert!(text(api.post("rollouts", "k", &request).await).await.0 >= 400);
    world.enroll().await;
    publish_release(&world, "kiosk@1").await;
    assert_eq!(text(api.post("rollouts", "k", &request).await).await.0, 201);
}

/// Of many at once one works; the others are told to wait, and then get its answer.
#[actix_web::test]
async fn requests_at_once_with_one_key_are_one_request() {
    let world = World::new().await;
    let api = Api::of(&world);
    let body = minute();
    let all = (0..8).map(|_| async { text(api.post(TOKENS, "k", &body).await).await });
    let all = futures::future::join_all(all).await;
    let done: std::collections::BTreeSet<_> =
        all.iter().filter(|(status, _)| *status < 300).map(|(_, text)| text).collect();
    assert_eq!(done.len(), 1, "{all:?}");
    for (status, text) in all.iter().filter(|(status, _)| *status >= 300) {
        assert!(*status == 409 && text.contains("in_progress"), "{status} {text}");
    }
    let client = world.client.with_idempotency_key("shared");
    let fleet = "demo".parse().unwrap();
    let one = client.create_enrollment(&fleet, 60).await.unwrap();
    let two = client.create_enrollment(&fleet, 60).await.unwrap();
    assert_ne!(one.record.token, two.record.token, "the second request of a client");
    let again = world.client.with_idempotency_key("shared");
    assert_eq!(again.create_enrollment(&fleet, 60).await.unwrap().record.token, one.record.token);
    assert_eq!(again.create_enrollment(&fleet, 60).await.unwrap().record.token, two.record.token);
}

/// The database has neither the one-time token of an answer, nor the key of the client.
#[actix_web::test]
async fn secrets_of_answers_and_keys_are_not_in_the_database() {
    let world = World::new().await;
    let api = Api::of(&world);
    let key = "a-key-that-is-found-nowhere";
    let (_, answer) = text(api.post(TOKENS, key, &minute()).await).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let token = answer["record"]["token"].as_str().unwrap();
    assert!(!world.is_kept(token).await && !world.is_kept(key).await);
    // What an attacker puts there is no answer, neither invented nor that of another key.
    api.post(TOKENS, "other", &minute()).await;
    let swap = "UPDATE idempotency_keys SET answer = (SELECT MAX(answer) FROM idempotency_keys) \
                WHERE answer <> (SELECT MAX(answer) FROM idempotency_keys)";
    let mut tx = world.server.control.db.write().await.unwrap();
    sql::query(swap).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let answers = [
        text(api.post(TOKENS, key, &minute()).await).await,
        text(api.post(TOKENS, "other", &minute()).await).await,
    ];
    assert_eq!(answers.iter().filter(|(status, _)| *status == 409).count(), 1, "{answers:?}");
}

/// The server ended after the act and before the answer was stored: nothing is done twice.
#[actix_web::test]
async fn an_act_without_an_answer_is_not_repeated() {
    let world = World::new().await;
    let api = Api::of(&world);
    text(api.post(TOKENS, "k", &minute()).await).await;
    let mut tx = world.server.control.db.write().await.unwrap();
    sql::query("UPDATE idempotency_keys SET answer = NULL").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let before = world.audit().await;
    let (status, said) = text(api.post(TOKENS, "k", &minute()).await).await;
    assert_eq!(status, 409);
    assert!(said.contains("was begun before") && !said.contains("in_progress"), "{said}");
    assert_eq!(world.audit().await, before);
}

/// The key is stored with the act: also of a revocation, which has a task of its own.
#[actix_web::test]
async fn a_key_is_stored_in_the_transaction_of_its_act() {
    let world = World::new().await;
    let device = world.enroll().await.id;
    let api = Api::of(&world);
    let count = || async {
        let sql = "SELECT COUNT(*) FROM idempotency_keys";
        let count: i64 =
            sql::query_scalar(sql).fetch_one(world.server.control.db.pool()).await.unwrap();
        count
    };
    let before = count().await;
    let path = format!("devices/{device}/revoke");
    let done = text(api.post(&path, "k", &json!({"reason": "cessation_of_operation"})).await).await;
    assert_eq!(done.0, 200, "{done:?}");
    assert_eq!(count().await, before + 1);
    let again =
        text(api.post(&path, "k", &json!({"reason": "cessation_of_operation"})).await).await;
    assert_eq!(again, done);
    assert_eq!(world.audit().await.matches("device.revoke").count(), 1);
}

#[actix_web::test]
async fn a_key_is_forgotten_after_a_day_and_an_account_has_at_most_a_thousand() {
    let now_s = Arc::new(AtomicU64::new(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
    ));
    let world = {
        let now_s = Arc::clone(&now_s);
        World::with(move |config| {
            config.clock = Clock::of(move || now_s.load(Ordering::SeqCst));
        })
        .await
    };
    let api = Api::of(&world);
    let first = text(api.post(TOKENS, "k", &minute()).await).await;
    now_s.fetch_add(24 * 3600 - 1, Ordering::SeqCst);
    assert_eq!(text(api.post(TOKENS, "k", &minute()).await).await, first);
    now_s.fetch_add(1, Ordering::SeqCst);
    let second = text(api.post(TOKENS, "k", &minute()).await).await;
    assert_ne!(second, first);
    assert_eq!(text(api.post(TOKENS, "k", &minute()).await).await, second);
    let mut tx = world.server.control.db.write().await.unwrap();
    for n in 0..1000 {
        let row = fleeti_store::idempotency::KeyRow {
            id: format!("id-{n}"),
            account: "bootstrap".into(),
            created_s: now_s.load(Ordering::SeqCst),
            request: "r".into(),
            answer: None,
        };
        fleeti_store::idempotency::put(&mut tx, &row).await.unwrap();
    }
    tx.commit().await.unwrap();
    text(api.post(TOKENS, "last", &minute()).await).await;
    let sql = "SELECT COUNT(*) FROM idempotency_keys";
    let pool = world.server.control.db.pool();
    let count: i64 = sql::query_scalar(sql).fetch_one(pool).await.unwrap();
    assert_eq!(count, 1000);
    now_s.fetch_add(24 * 3600 + 1, Ordering::SeqCst);
    fleeti_control::trust::revocation::prune_some(&world.server.control).await.unwrap();
    let count: i64 = sql::query_scalar(sql).fetch_one(pool).await.unwrap();
    assert_eq!(count, 0);
}

/// An API token is a credential of an account: it is shown once, whatever is repeated.
#[actix_web::test]
async fn an_answer_that_must_not_be_stored_is_not_given_again() {
    let world = World::new().await;
    program(&world, "robot", &[role(Role::Viewer, None)], None).await;
    let api = Api::of(&world);
    let body = json!({"label": "second", "valid_s": 60, "account": "robot"});
    let (status, made) = text(api.post("tokens", "k", &body).await).await;
    assert_eq!(status, 201, "{made}");
    let made: Value = serde_json::from_str(&made).unwrap();
    assert!(!world.is_kept(made["token"].as_str().unwrap()).await);
    let (status, said) = text(api.post("tokens", "k", &body).await).await;
    assert_eq!(status, 409, "{said}");
    assert!(!said.contains(made["token"].as_str().unwrap()), "{said}");
    // One is of the program itself.
    assert_eq!(world.audit().await.matches("\"token.create\"").count(), 2, "one token was made");
}

/// A request that only reads is processed each time, and stores no answer.
#[actix_web::test]
async fn a_request_that_does_nothing_is_not_kept() {
    let world = World::new().await;
    let api = Api::of(&world);
    let document = json!({"text": "schema = 1\nname = \"web\"\narchitecture = \"x86_64\"\n"});
    for document in [&document, &json!({"text": ""})] {
        let checked = api.post("profiles/check", "k", document).await;
        assert_eq!(checked.status(), 200);
        assert!(!checked.headers().contains_key("idempotency-replayed"));
    }
}
