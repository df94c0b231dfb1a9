//! E-mail about alerts, with aiosmtpd as the relay.

use crate::accounts::{client, program, role};
use crate::contract::Row;
use crate::hostile_relays::Lying;
use crate::lifetimes;
use crate::pages::{Browser, OURS};
use crate::world::{World, write_keys};
use fleeti_client::ClientError;
use fleeti_control::alerts;
use fleeti_control::clock::{Clock, now_s};
use fleeti_control::email_relay::{EmailRelay, EmailTls, Login};
use fleeti_core::alert::Severity;
use fleeti_core::wire::accounts::Role;
use fleeti_core::wire::email::{AddReceiver, EmailDelivery, EmailReceiver};
use fleeti_core::wire::webhook::{ATTEMPTS_MAX, DeliveryStatus, delay_s};
use fleeti_pki::certificate::{self, Period};
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_server::email::Sender;
use fleeti_store::{self as store, sql};
use serde::Deserialize;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Rows for the contract of the API, of a server with [`nowhere`].
pub fn rows() -> Vec<Row> {
    let to = |address| Some(json!({"address": address, "severity": "info", "fleets": ["demo"]}));
    vec![
        ("add_receiver", &[], to("ops@ops.example"), 201),
        ("add_receiver", &[], to("OPS@ops.example"), 409),
        ("list_receivers", &[], None, 200),
        ("test_receiver", &[], None, 204),
        ("list_emails", &[], None, 200),
        ("disable_receiver", &[], None, 204),
        ("test_receiver", &[], None, 409),
        ("enable_receiver", &[], None, 204),
        ("remove_receiver", &[], None, 204),
    ]
}

/// A relay at a port where nothing listens.
pub fn nowhere() -> EmailRelay {
    of(1, EmailTls::None, None)
}

pub fn of(port: u16, tls: EmailTls, ca: Option<PathBuf>) -> EmailRelay {
    let from = "fleeti@ops.example".parse().unwrap();
    EmailRelay { host: "localhost".into(), port, tls, from, login: None, ca }
}

/// A relay that is aiosmtpd.
pub struct Relay {
    dir: tempfile::TempDir,
    port: u16,
    tls: EmailTls,
    lines: Lines<BufReader<ChildStdout>>,
    // Ended when it is dropped.
    _child: Child,
}

/// An e-mail as the relay got it.
#[derive(Debug, Deserialize)]
struct Got {
    from: String,
    to: Vec<String>,
    data: String,
    is_encrypted: bool,
    user: Option<String>,
}

impl Got {
    fn header(&self, name: &str) -> String {
        let (headers, _) = self.data.split_once("\r\n\r\n").unwrap();
        let begins = format!("{name}: ");
        let mut found = headers.split("\r\n").filter_map(|line| line.strip_prefix(&begins));
        let value = found.next().unwrap_or_else(|| panic!("{name}: {}", self.data)).to_owned();
        assert_eq!(found.next(), None, "{name}: {}", self.data);
        value
    }
}

impl Relay {
    pub async fn start(tls: EmailTls, name: &str, login: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = SoftKey::generate(Algorithm::P256).unwrap();
        let role = certificate::Role::Server { names: vec![name.to_owned()] };
        let issued =
            certificate::self_signed(role, Period::starting(now_s(), 86_400), &key).unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("relay.pem"), certificate::to_pem(&issued).unwrap()).unwrap();
        std::fs::write(at("key.pem"), crate::interop::key_pem(&key)).unwrap();
        let usual = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/smtp/bin/python").into();
        let python = std::env::var_os("FLEETI_SMTP_PYTHON").map_or(usual, PathBuf::from);
        let mut child = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/smtp_relay.py"))
            .args([tls.as_str().as_ref(), at("relay.pem").as_os_str(), at("key.pem").as_os_str()])
            .args(login)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("{python:?}: {e}; install it with `cargo xtask tools`"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().unwrap().parse().unwrap();
        Self { dir, port, tls, lines, _child: child }
    }

    pub fn options(&self) -> EmailRelay {
        of(self.port, self.tls, Some(self.dir.path().join("relay.pem")))
    }

    fn with_login(&self, user: &str, password: &str) -> EmailRelay {
        EmailRelay { login: Some(login(self.dir.path(), user, password)), ..self.options() }
    }

    async fn next(&mut self) -> Got {
        let line = tokio::time::timeout(Duration::from_secs(120), self.lines.next_line()).await;
        serde_json::from_str(&line.unwrap().unwrap().unwrap()).unwrap()
    }
}

pub fn login(dir: &Path, user: &str, password: &str) -> Login {
    let password_file = dir.join("password");
    std::fs::write(&password_file, format!("{password}\n")).unwrap();
    std::fs::set_permissions(&password_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    Login { user: user.to_owned(), password_file }
}

pub async fn add(
    world: &World,
    address: &str,
    fleets: &[&str],
    severity: Severity,
) -> EmailReceiver {
    let fleets = fleets.iter().map(|fleet| fleet.parse().unwrap()).collect();
    let request = AddReceiver { address: address.parse().unwrap(), fleets, severity };
    world.client.add_email_receiver(&request).await.unwrap()
}

/// Puts a message into the outbox, as the alerts do.
async fn tell(world: &World, kind: &str, fleet: Option<&str>, severity: &str, detail: &str) {
    let mut body = json!({
        "rule": "disk",
        "kind": "disk",
        "severity": severity,
        "count": 1,
        "devices": ["device-1"],
        "detail": detail,
        "since_s": 1_796_083_200,
    });
    if let Some(fleet) = fleet {
        body["fleet"] = json!(fleet);
    }
    let cx = &world.server.control;
    let mut tx = cx.db.write().await.unwrap();
    store::domain_events::insert(&mut tx, cx.now_s(), &[(kind, body.to_string())]).await.unwrap();
    tx.commit().await.unwrap();
}

async fn look(world: &World) {
    let cx = &world.server.control;
    Sender::new(cx).unwrap().look(cx).await.unwrap();
}

/// The e-mails to a receiver, once they are so: the server's own task may have sent them.
pub async fn until(
    world: &World,
    receiver: &EmailReceiver,
    are_so: impl Fn(&[EmailDelivery]) -> bool,
) -> Vec<EmailDelivery> {
    let wait = async {
        loop {
            let found = world.client.emails(&receiver.id).await.unwrap();
            if are_so(&found) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), wait).await.unwrap()
}

fn all_done(emails: &[EmailDelivery]) -> bool {
    !emails.is_empty() && emails.iter().all(|e| e.next_s.is_none())
}

pub fn is_answered(emails: &[EmailDelivery]) -> bool {
    emails.first().is_some_and(|e| e.answered_s.is_some())
}

#[actix_web::test]
async fn an_outage_is_told_once_with_its_devices_and_what_to_do() {
    let mut relay = Relay::start(EmailTls::Starttls, "localhost", &["fleeti", "hunter2 x"]).await;
    let options = relay.with_login("fleeti", "hunter2 x");
    let (world, ahead) = lifetimes::world_with(|config| {
        config.email = Some(options);
        config.public_url = Some("https://fleet.example".parse().unwrap());
    })
    .await;
    let receiver = add(&world, "ops@ops.example", &["demo"], Severity::Warning).await;
    let (one, two) = (world.enroll().await, world.enroll().await);
    ahead.fetch_add(3700, Ordering::SeqCst);
    alerts::look(&world.server.control).await.unwrap();
    ahead.fetch_add(31, Ordering::SeqCst);
    alerts::look(&world.server.control).await.unwrap();
    let got = relay.next().await;
    assert!(got.is_encrypted);
    assert_eq!(
        (got.from.as_str(), &*got.to),
        ("fleeti@ops.example", &["ops@ops.example".into()][..])
    );
    assert_eq!(got.user.as_deref(), Some("fleeti"));
    assert_eq!(got.header("Subject"), "[Fleeti] demo: Device offline, 2 alerts");
    assert_eq!(got.header("To"), "ops@ops.example");
    assert_eq!(got.header("Auto-Submitted"), "auto-generated");
    for says in [
        one.id.as_str(),
        two.id.as_str(),
        "Severity: warning",
        "Since: 20",
        "What to do: Check power",
        "https://fleet.example/alerts?fleet=3Ddemo",
        &receiver.id,
    ] {
        let is_said = got.data.replace("=\r\n", "").contains(says);
        assert!(is_said || got.data.contains(&says.replace("=3D", "=")), "{says}: {}", got.data);
    }
    look(&world).await;
    look(&world).await;
    let emails = until(&world, &receiver, all_done).await;
    assert_eq!(emails.len(), 1, "{emails:?}");
    assert_eq!((emails[0].status, emails[0].attempts), (DeliveryStatus::Delivered, 1));
    assert_eq!(emails[0].answer, "250 2.0.0 kept");
    assert_eq!(got.header("Message-ID"), format!("<{}@ops.example>", emails[0].id));
    assert!(!world.is_kept("hunter2").await);
    let log = world.audit().await;
    assert!(log.contains("\"action\":\"email.add\"") && !log.contains("hunter2"), "{log}");
}

#[actix_web::test]
async fn a_receiver_of_one_fleet_gets_nothing_of_other_fleets_nor_of_the_server() {
    let mut relay = Relay::start(EmailTls::Implicit, "localhost", &["fleeti", "hunter2"]).await;
    let options = relay.with_login("fleeti", "hunter2");
    let world = World::with(|config| config.email = Some(options)).await;
    let of_demo = add(&world, "demo@ops.example", &["demo"], Severity::Warning).await;
    let of_all = add(&world, "all@ops.example", &[], Severity::Info).await;
    for (kind, fleet, severity) in [
        ("alerts.raised", Some("spare"), "critical"),
        ("alerts.raised", None, "critical"),
        ("alerts.raised", Some("demo"), "info"),
        ("alerts.raised", Some("demo"), "critical"),
        ("alerts.resolved", Some("demo"), "critical"),
    ] {
        tell(&world, kind, fleet, severity, "secret of its fleet").await;
    }
    let subjects = |emails: Vec<EmailDelivery>| -> Vec<_> {
        emails.into_iter().map(|email| email.subject).rev().collect()
    };
    let all = until(&world, &of_all, |e| e.len() == 5 && all_done(e)).await;
    let disk = "Data partition full, 1";
    assert_eq!(
        subjects(all),
        [
            format!("[Fleeti] spare: {disk} alert"),
            format!("[Fleeti] server: {disk} alert"),
            format!("[Fleeti] demo: {disk} alert"),
            format!("[Fleeti] demo: {disk} alert"),
            format!("[Fleeti] demo: {disk} resolved"),
        ]
    );
    let own = until(&world, &of_demo, |e| e.len() == 2 && all_done(e)).await;
    let own = subjects(own);
    assert_eq!(
        own,
        [format!("[Fleeti] demo: {disk} alert"), format!("[Fleeti] demo: {disk} resolved")]
    );
    let mut to = Vec::new();
    for _ in 0..7 {
        let got = relay.next().await;
        assert!(got.is_encrypted && got.to.len() == 1, "{got:?}");
        to.push((got.to[0].clone(), got.header("Message-ID")));
    }
    assert_eq!(to.iter().filter(|(to, _)| to == "demo@ops.example").count(), 2);
    to.sort_unstable();
    to.dedup();
    assert_eq!(to.len(), 7, "every e-mail has an id of its own");
}

#[actix_web::test]
async fn a_relay_that_refuses_some_receivers_serves_the_others() {
    let mut relay = Relay::start(EmailTls::None, "localhost", &[]).await;
    let options = relay.options();
    let (world, ahead) = lifetimes::world_with(|config| config.email = Some(options)).await;
    let mut receivers = Vec::new();
    for address in
        ["slow@ops.example", "refused@ops.example", "later@ops.example", "ops@ops.example"]
    {
        receivers.push(add(&world, address, &[], Severity::Info).await);
    }
    tell(&world, "alerts.raised", Some("demo"), "info", "d").await;
    let got = relay.next().await;
    let slow = world.client.emails(&receivers[0].id).await.unwrap();
    assert!(!is_answered(&slow), "nobody waits for the slow one: {slow:?}");
    assert_eq!(got.to, ["ops@ops.example"]);
    assert!(!got.is_encrypted);

    let refused = until(&world, &receivers[1], all_done).await;
    assert_eq!((refused[0].status, refused[0].attempts), (DeliveryStatus::Failed, 1));
    assert!(refused[0].answer.contains("550") && refused[0].answer.contains("no such receiver"));
    let later = until(&world, &receivers[2], is_answered).await;
    assert!(later[0].answer.contains("451") || later[0].attempts > 1, "{later:?}");
    ahead.fetch_add(delay_s(1).unwrap() + 1, Ordering::SeqCst);
    let got = relay.next().await;
    assert_eq!(got.to, ["later@ops.example"]);
    let later = until(&world, &receivers[2], all_done).await;
    assert!(later[0].status == DeliveryStatus::Delivered && later[0].attempts > 1, "{later:?}");
    let slow = until(&world, &receivers[0], is_answered).await;
    assert_eq!(slow[0].status, DeliveryStatus::Waiting);
    assert_eq!(slow[0].answer, "no answer within 30 seconds");
}

#[actix_web::test]
async fn a_server_that_ends_before_the_answer_sends_the_same_email_again() {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    // It takes the e-mail, and never says so.
    let lying =
        Lying::new(&["220 a\r\n", "250 a\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"]).await;
    let relay = of(lying.port, EmailTls::None, None);
    let world = World::start(dir, |config| config.email = Some(relay)).await;
    let receiver = add(&world, "ops@ops.example", &[], Severity::Info).await;
    tell(&world, "alerts.raised", Some("demo"), "info", "full").await;
    let wait = async {
        while !lying.got().ends_with("\r\n.\r\n") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
    let World { dir, server, .. } = world;
    server.stop().await;
    let mut relay = Relay::start(EmailTls::None, "localhost", &[]).await;
    let options = relay.options();
    let world = World::start(dir, |config| {
        config.email = Some(options);
        config.clock = Clock::of(|| now_s() + fleeti_control::email::LOST_S + 5);
    })
    .await;
    let got = relay.next().await;
    let first = lying.got();
    let first = &first[first.find("From: ").unwrap()..];
    assert_eq!(got.data.trim_end(), first.trim_end_matches("\r\n.\r\n").trim_end());
    let emails = until(&world, &receiver, all_done).await;
    assert_eq!(got.header("Message-ID"), format!("<{}@ops.example>", emails[0].id));
    assert_eq!(emails.len(), 1);
    assert!(emails[0].status == DeliveryStatus::Delivered && emails[0].attempts > 1, "{emails:?}");
}

#[actix_web::test]
async fn attempts_back_off_and_end_and_what_became_old_is_not_sent() {
    let lying = Lying::new(&["220 a\r\n", "250 a\r\n", "451 not now\r\n"]).await;
    let relay = of(lying.port, EmailTls::None, None);
    let (world, ahead) = lifetimes::world_with(|config| config.email = Some(relay)).await;
    let receiver = add(&world, "ops@ops.example", &[], Severity::Info).await;
    world.client.test_email_receiver(&receiver.id).await.unwrap();
    for attempt in 1..=ATTEMPTS_MAX {
        look(&world).await;
        let has_attempt = |e: &[EmailDelivery]| {
            e.first().is_some_and(|e| {
                e.attempts == attempt && e.next_s.is_none_or(|s| s > e.answered_s.unwrap_or(s))
            })
        };
        let found = until(&world, &receiver, has_attempt).await;
        assert!(found[0].answer.contains("451"), "{found:?}");
        ahead.fetch_add(delay_s(attempt).unwrap_or(100_000) + 1, Ordering::SeqCst);
    }
    look(&world).await;
    let found = world.client.emails(&receiver.id).await.unwrap();
    assert_eq!((found[0].status, found[0].next_s), (DeliveryStatus::Failed, None));
    assert_eq!(found[0].attempts, ATTEMPTS_MAX);

    // E-mail that did not work for days does not send everything at once.
    let cx = &world.server.control;
    let old = json!({"rule": "disk", "kind": "disk", "severity": "critical", "count": 1,
        "devices": [], "detail": "d"});
    let mut tx = cx.db.write().await.unwrap();
    let rows = [("alerts.raised", old.to_string())];
    store::domain_events::insert(&mut tx, cx.now_s() - 3 * 86_400, &rows).await.unwrap();
    let broken = [("alerts.raised", "{}".to_owned()), ("alerts.raised", "[".to_owned())];
    store::domain_events::insert(&mut tx, cx.now_s(), &broken).await.unwrap();
    tx.commit().await.unwrap();
    tell(&world, "alerts.raised", None, "critical", "new").await;
    look(&world).await;
    let found = until(&world, &receiver, |e| e.len() == 2).await;
    assert_eq!(found[0].subject, "[Fleeti] server: Data partition full, 1 alert");
}

#[actix_web::test]
async fn nobody_but_an_administrator_of_all_fleets_sends_alerts_anywhere() {
    let mut relay = Relay::start(EmailTls::None, "localhost", &[]).await;
    let options = relay.options();
    let world = World::with(|config| config.email = Some(options)).await;
    let receiver = add(&world, "ops@ops.example", &["demo"], Severity::Info).await;
    let request = |address: &str| json!({"address": address, "severity": "info"});
    for (role_, fleet) in [
        (Role::Operator, None),
        (Role::Viewer, None),
        (Role::Operator, Some("demo")),
        (Role::Admin, Some("demo")),
    ] {
        let name = format!("{role_:?}-{}", fleet.unwrap_or("all")).to_lowercase();
        let token = program(&world, &name, &[role(role_, fleet)], None).await;
        let other = client(&world, token.token.expose());
        let wanted: AddReceiver = serde_json::from_value(request("me@evil.example")).unwrap();
        assert!(other.add_email_receiver(&wanted).await.is_err(), "{name}");
        assert!(other.email_receivers().await.is_err(), "{name}: addresses are of people");
        assert!(other.emails(&receiver.id).await.is_err(), "{name}");
        assert!(other.remove_email_receiver(&receiver.id).await.is_err(), "{name}");
        assert!(other.test_email_receiver(&receiver.id).await.is_err(), "{name}");
    }
    // An address is one word, whatever would be made of it.
    let token = std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
    let url = format!("http://{}/api/v1/email-receivers", world.server.addresses.api);
    for evil in ["ops@ops.example\r\nBcc: all@evil.example", "Ops <ops@evil.example>", "a@b,c@d"] {
        let sent = reqwest::Client::new().post(&url).bearer_auth(token.trim());
        let status = sent.json(&request(evil)).send().await.unwrap().status();
        assert_eq!(status, 422, "{evil:?}");
    }
    // An attacker who writes the database leads e-mail nowhere.
    let pool = world.server.control.db.writer();
    for (column, value) in
        [("address", "me@evil.example"), ("fleets", "[]"), ("severity", "critical")]
    {
        let fresh = add(&world, &format!("{column}@ops.example"), &["demo"], Severity::Info).await;
        let sql = format!("UPDATE email_receivers SET {column} = $1 WHERE id = $2");
        let query = sql::query(sql::AssertSqlSafe(sql)).bind(value).bind(&fresh.id);
        query.execute(pool).await.unwrap();
        tell(&world, "alerts.raised", Some("demo"), "critical", "d").await;
        let failed = until(&world, &fresh, all_done).await;
        assert_eq!(failed[0].status, DeliveryStatus::Failed, "{column}");
        assert!(failed[0].answer.contains("changed by another program"), "{failed:?}");
        assert_eq!(relay.next().await.to, ["ops@ops.example"], "{column}");
    }
}

#[actix_web::test]
async fn a_disabled_receiver_gets_nothing_and_later_only_what_is_new() {
    let mut relay = Relay::start(EmailTls::None, "localhost", &[]).await;
    let options = relay.options();
    let world = World::with(|config| config.email = Some(options)).await;
    let receiver = add(&world, "ops@ops.example", &[], Severity::Info).await;
    world.client.disable_email_receiver(&receiver.id).await.unwrap();
    assert!(!world.client.email_receivers().await.unwrap()[0].enabled);
    tell(&world, "alerts.raised", Some("spare"), "critical", "d").await;
    look(&world).await;
    assert_eq!(world.client.emails(&receiver.id).await.unwrap(), []);
    world.client.enable_email_receiver(&receiver.id).await.unwrap();
    tell(&world, "alerts.raised", Some("demo"), "critical", "d").await;
    let got = relay.next().await;
    assert_eq!(got.header("Subject"), "[Fleeti] demo: Data partition full, 1 alert");
    assert_eq!(until(&world, &receiver, all_done).await.len(), 1);
}

#[actix_web::test]
async fn receivers_are_managed_on_the_page_of_alerts_and_only_with_a_relay() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let admin = browser.sign_in(&world).await;
    let page = browser.get("/alerts", &admin).await.text().await.unwrap();
    assert!(page.contains("E-mail is not configured") && !page.contains("Add receiver"), "{page}");
    let form = "address=ops%40ops.example&fleets=demo%2C+spare&severity=warning";
    assert_eq!(browser.post("/alerts/email", &admin, OURS, form).await.status(), 409);
    assert!(Sender::new(&world.server.control).is_none());
    let request: AddReceiver =
        serde_json::from_value(json!({"address": "a@b.example", "severity": "info"})).unwrap();
    match world.client.add_email_receiver(&request).await {
        Err(ClientError::Refused(problem)) => {
            assert_eq!(problem.status, 409);
            assert!(problem.detail.contains("not configured"), "{problem:?}");
        }
        other => panic!("{other:?}"),
    }

    let world = World::with(|config| config.email = Some(nowhere())).await;
    let browser = Browser::new(&world);
    let admin = browser.sign_in(&world).await;
    assert_eq!(browser.post("/alerts/email", &admin, OURS, form).await.status(), 303);
    let evil = "address=ops%40ops.example%0d%0aBcc%3a+x&severity=warning";
    assert_eq!(browser.post("/alerts/email", &admin, OURS, evil).await.status(), 422);
    let receiver = world.client.email_receivers().await.unwrap().remove(0);
    assert_eq!(receiver.fleets.len(), 2);
    let page = browser.get("/alerts", &admin).await.text().await.unwrap();
    for text in ["ops@ops.example", "warning and above, demo, spare", "localhost:1 (none)"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let act = async |what: &str| {
        let path = format!("/alerts/email/{}/{what}", receiver.id);
        assert_eq!(browser.post(&path, &admin, OURS, "").await.status(), 303, "{what}");
    };
    act("test").await;
    until(&world, &receiver, is_answered).await;
    let page = browser.get("/alerts", &admin).await.text().await.unwrap();
    assert!(page.contains("badge busy\">waiting"), "{page}");
    let path = format!("/alerts/email/{}", receiver.id);
    let page = browser.get(&path, &admin).await.text().await.unwrap();
    for text in ["E-mail to ops@ops.example", "warning and above, demo, spare", "next attempt"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    act("disable").await;
    let page = browser.get("/alerts", &admin).await.text().await.unwrap();
    assert!(page.contains("Enable ops@ops.example"), "{page}");
    act("enable").await;
    act("remove").await;
    assert_eq!(world.client.email_receivers().await.unwrap(), []);
    let log = world.audit().await;
    for action in ["add", "test", "disable", "enable", "remove"] {
        assert!(log.contains(&format!("\"action\":\"email.{action}\"")), "{action}: {log}");
    }
}
