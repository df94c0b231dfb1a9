//! Webhooks against a receiver that verifies, refuses, redirects, hangs and sees repeats.

use crate::accounts::{client, program, role};
use crate::contract::Row;
use crate::lifetimes;
use crate::world::{World, write_keys};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use fleeti_client::ClientError;
use fleeti_control::clock::{Clock, now_s};
use fleeti_core::wire::accounts::Role;
use fleeti_core::wire::webhook::{
    ATTEMPTS_MAX, CreateWebhook, CreatedWebhook, Delivery, DeliveryStatus, delay_s,
};
use fleeti_server::webhooks::Sender;
use fleeti_store::sql;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Rows for the contract of the API.
pub fn rows() -> Vec<Row> {
    let to = |url| Some(json!({"url": url, "events": ["alerts.raised"]}));
    vec![
        ("add_webhook", &[], to("https://ops.invalid/in"), 201),
        ("list_webhooks", &[], None, 200),
        ("test_webhook", &[], None, 204),
        ("list_deliveries", &[], None, 200),
        ("remove_webhook", &[], None, 204),
    ]
}

/// A request as the receiver got it.
pub struct Got {
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Got {
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// Verifies it as Standard Webhooks says, with nothing of the server.
    pub fn verify(&self, secret: &str) -> bool {
        let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let text = format!("{}.{}.{}", self.id(), self.headers["webhook-timestamp"], self.body);
        let expected = format!("v1,{}", BASE64_STANDARD.encode(hmac(&key, text.as_bytes())));
        self.headers["webhook-signature"] == expected
    }
}

/// RFC 2104.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

/// A receiver, with the requests that it got.
pub struct Receiver {
    pub url: String,
    pub got: mpsc::UnboundedReceiver<Got>,
}

impl Receiver {
    /// `answers` has one answer for each request, and the last one for all that follow; an empty one
    /// is never sent.
    pub async fn new(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/in", listener.local_addr().unwrap());
        let (sender, got) = mpsc::unbounded_channel();
        actix_web::rt::spawn(async move {
            let mut open = Vec::new();
            for n in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(request) = read(&mut stream).await else { continue };
                let answer = &answers[n.min(answers.len() - 1)];
                stream.write_all(answer.as_bytes()).await.ok();
                sender.send(request).ok();
                if answer.is_empty() {
                    open.push(stream);
                }
            }
        });
        Self { url, got }
    }

    pub async fn next(&mut self) -> Got {
        tokio::time::timeout(Duration::from_secs(30), self.got.recv()).await.unwrap().unwrap()
    }
}

async fn read(stream: &mut tokio::net::TcpStream) -> Option<Got> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).await.ok()?;
        if n == 0 {
            return None;
        }
        bytes.extend(&chunk[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let headers: HashMap<_, _> = head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        if body.len() >= headers["content-length"].parse::<usize>().unwrap() {
            return Some(Got { headers, body: body.to_owned() });
        }
    }
}

pub fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

async fn add(world: &World, url: &str) -> CreatedWebhook {
    let request = CreateWebhook {
        url: url.to_owned(),
        events: vec!["alerts.raised".into(), "device.revoked".into()],
    };
    world.client.add_webhook(&request).await.unwrap()
}

async fn look(world: &World) {
    let cx = &world.server.control;
    Sender::new(cx).look(cx).await.unwrap();
}

/// The deliveries of a webhook, once they are so: the server's own task may have sent them, and
/// stores an answer after the receiver gave it.
async fn until(
    world: &World,
    webhook: &CreatedWebhook,
    are_so: impl Fn(&[Delivery]) -> bool,
) -> Vec<Delivery> {
    let wait = async {
        loop {
            let found = world.client.deliveries(&webhook.webhook.id).await.unwrap();
            if are_so(&found) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap()
}

fn all_done(deliveries: &[Delivery]) -> bool {
    !deliveries.is_empty() && deliveries.iter().all(|d| d.next_s.is_none())
}

#[actix_web::test]
async fn a_receiver_verifies_an_event_and_gets_it_once() {
    let world = World::with(|config| config.private_webhooks = true).await;
    let mut receiver = Receiver::new(vec![answer("200 OK", "thanks")]).await;
    let made = add(&world, &receiver.url).await;
    world.client.test_webhook(&made.webhook.id).await.unwrap();
    look(&world).await;
    let got = receiver.next().await;
    let secret = made.secret.expose();
    assert!(got.verify(secret), "{:?}", got.headers);
    let changed = Got { body: got.body.replace("test", "best"), headers: got.headers.clone() };
    assert!(!changed.verify(secret));
    let body: Value = serde_json::from_str(&got.body).unwrap();
    assert_eq!(body["type"], "webhook.test");
    assert_eq!(body["data"]["webhook"], made.webhook.id.as_str());

    let device = world.enroll().await;
    let reason = fleeti_core::wire::api::RevocationReason::KeyCompromise;
    world.client.revoke_device(&device.id, reason).await.unwrap();
    look(&world).await;
    look(&world).await;
    let revoked = receiver.next().await;
    assert!(revoked.verify(secret) && revoked.id() != got.id());
    assert!(revoked.body.contains(device.id.as_str()), "{}", revoked.body);
    assert!(receiver.got.try_recv().is_err(), "each event is sent once, and only those asked for");
    let deliveries = until(&world, &made, all_done).await;
    assert_eq!(deliveries.len(), 2);
    assert!(deliveries.iter().all(|d| d.status == DeliveryStatus::Delivered && d.attempts == 1));
    assert_eq!(deliveries[0].answer, "200 thanks");
    assert_eq!(deliveries[0].id, revoked.id());

    let raw = secret.strip_prefix("whsec_").unwrap();
    assert!(!world.is_kept(raw).await, "the secret is sealed in the database");
    let listed = serde_json::to_string(&world.client.webhooks().await.unwrap()).unwrap();
    assert!(!listed.contains(raw));
    let log = world.audit().await;
    assert!(log.contains("\"action\":\"webhook.add\"") && !log.contains(raw), "{log}");
}

#[actix_web::test]
async fn a_server_that_is_killed_before_the_answer_sends_the_event_again_under_its_id() {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let mut receiver = Receiver::new(vec![String::new(), answer("204 No Content", "")]).await;
    let world = World::start(dir, |config| config.private_webhooks = true).await;
    let made = add(&world, &receiver.url).await;
    world.client.test_webhook(&made.webhook.id).await.unwrap();
    let first = receiver.next().await;
    let World { dir, server, .. } = world;
    server.stop().await;
    let world = World::start(dir, |config| {
        config.private_webhooks = true;
        config.clock = Clock::of(|| now_s() + fleeti_control::webhooks::LOST_S + 5);
    })
    .await;
    let again = receiver.next().await;
    assert_eq!(again.id(), first.id(), "a receiver can drop what it had");
    assert_eq!(again.body, first.body);
    assert_ne!(again.headers["webhook-timestamp"], first.headers["webhook-timestamp"]);
    assert!(again.verify(made.secret.expose()));
    let delivery = &until(&world, &made, all_done).await[0];
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Delivered, 2));
}

#[actix_web::test]
async fn attempts_back_off_and_end() {
    let (world, ahead) = lifetimes::world_with(|config| config.private_webhooks = true).await;
    let large = "x".repeat(1 << 20);
    let mut receiver = Receiver::new(vec![answer("500 No", &large)]).await;
    let made = add(&world, &receiver.url).await;
    world.client.test_webhook(&made.webhook.id).await.unwrap();
    let mut answered_s = 0;
    for attempt in 1..=ATTEMPTS_MAX {
        look(&world).await;
        receiver.next().await;
        let is_answered = |d: &Delivery| d.answered_s.is_some_and(|s| s > answered_s);
        answered_s = until(&world, &made, |all| is_answered(&all[0])).await[0].answered_s.unwrap();
        look(&world).await;
        assert!(receiver.got.try_recv().is_err(), "attempt {attempt}: not before its time");
        ahead.fetch_add(delay_s(attempt).unwrap_or(1_000_000) + 1, Ordering::SeqCst);
    }
    look(&world).await;
    assert!(receiver.got.try_recv().is_err(), "no attempt after the last one");
    let delivery = &world.client.deliveries(&made.webhook.id).await.unwrap()[0];
    assert_eq!((delivery.status, delivery.next_s), (DeliveryStatus::Failed, None));
    assert!(delivery.answer.starts_with("500 xxx") && delivery.answer.len() <= 204);
}

#[actix_web::test]
async fn a_receiver_leads_the_server_nowhere_else() {
    let world = World::with(|config| config.private_webhooks = true).await;
    let mut elsewhere = Receiver::new(vec![answer("200 OK", "")]).await;
    let redirect = format!(
        "HTTP/1.1 307 Elsewhere\r\nlocation: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        elsewhere.url
    );
    let mut receiver = Receiver::new(vec![redirect]).await;
    let made = add(&world, &receiver.url).await;
    world.client.test_webhook(&made.webhook.id).await.unwrap();
    look(&world).await;
    receiver.next().await;
    let delivery = &until(&world, &made, |all| !all[0].answer.is_empty()).await[0];
    assert!(elsewhere.got.try_recv().is_err(), "a redirect is not followed");
    assert_eq!((delivery.status, delivery.answer.as_str()), (DeliveryStatus::Waiting, "307"));

    // An attacker who writes the database does not send events elsewhere.
    let pool = world.server.control.db.writer();
    let sql = "UPDATE webhooks SET url = $1";
    sql::query(sql).bind(&elsewhere.url).execute(pool).await.unwrap();
    let sql = "UPDATE webhook_deliveries SET next_s = 0";
    sql::query(sql).execute(pool).await.unwrap();
    look(&world).await;
    let delivery = &until(&world, &made, all_done).await[0];
    assert!(elsewhere.got.try_recv().is_err());
    assert_eq!(delivery.status, DeliveryStatus::Failed);
    assert!(delivery.answer.contains("changed by another program"), "{}", delivery.answer);
}

#[actix_web::test]
async fn a_private_address_is_refused_unless_the_server_permits_it() {
    let world = World::new().await;
    for url in ["http://127.0.0.1:1/in", "https://10.0.0.1/in", "https://localhost/in"] {
        let request = CreateWebhook { url: url.into(), events: vec!["alerts.raised".into()] };
        match world.client.add_webhook(&request).await {
            Err(ClientError::Refused(problem)) => assert_eq!(problem.status, 422, "{url}"),
            other => panic!("{url}: {other:?}"),
        }
    }
    // A name that has only private addresses is found out when it is resolved.
    let made = add(&world, "https://localhost.localdomain/in").await;
    world.client.test_webhook(&made.webhook.id).await.unwrap();
    look(&world).await;
    let is_answered = |all: &[Delivery]| all.first().is_some_and(|d| !d.answer.is_empty());
    let delivery = &until(&world, &made, is_answered).await[0];
    assert_eq!(delivery.status, DeliveryStatus::Waiting);
    assert!(!delivery.answer.is_empty() && !delivery.answer.starts_with('2'), "{delivery:?}");
    let request = CreateWebhook { url: "https://ops.invalid/".into(), events: vec!["x".into()] };
    assert!(world.client.add_webhook(&request).await.is_err(), "an unknown event");
    let operator = program(&world, "op", &[role(Role::Operator, None)], None).await;
    let operator = client(&world, operator.token.expose());
    assert!(operator.webhooks().await.is_err(), "a URL may contain a token");
}
