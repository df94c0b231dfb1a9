//! Relays of e-mail that hang, lie and flood, and attackers on the way to them.

use crate::email::{Relay, add, is_answered, login, of, until};
use crate::world::World;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_control::email_relay::{EmailRelay, EmailTls};
use fleeti_core::alert::Severity;
use fleeti_core::wire::webhook::DeliveryStatus;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A relay of lines: greets with the first answer, and answers each line with the next one. `{}` is
/// what it got. It keeps what it got.
pub struct Lying {
    pub port: u16,
    got: Arc<Mutex<Vec<u8>>>,
}

impl Lying {
    pub async fn new(answers: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let got = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&got);
        actix_web::rt::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                actix_web::rt::spawn(Self::converse(stream, answers, Arc::clone(&kept)));
            }
        });
        Self { port, got }
    }

    async fn converse(mut stream: TcpStream, answers: &[&str], got: Arc<Mutex<Vec<u8>>>) {
        let mut line = String::new();
        for answer in answers {
            let answer = answer.replace("{}", line.trim());
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            line.clear();
            while !line.ends_with('\n') {
                let Ok(byte) = stream.read_u8().await else { return };
                got.lock().unwrap().push(byte);
                line.push(char::from(byte));
            }
        }
        // Everything else, without an answer.
        let mut rest = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut rest).await {
            got.lock().unwrap().extend(&rest[..n]);
        }
    }

    pub fn got(&self) -> String {
        String::from_utf8_lossy(&self.got.lock().unwrap()).into_owned()
    }
}

/// What the first attempt through a relay ends with.
async fn fails(relay: EmailRelay) -> String {
    let world = World::with(|config| config.email = Some(relay)).await;
    let receiver = add(&world, "ops@ops.example", &[], Severity::Info).await;
    world.client.test_email_receiver(&receiver.id).await.unwrap();
    let email = until(&world, &receiver, is_answered).await.remove(0);
    assert_eq!(email.status, DeliveryStatus::Waiting, "{email:?}");
    email.answer
}

#[actix_web::test]
async fn without_the_tls_that_is_configured_a_relay_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let with_login = |port| EmailRelay {
        login: Some(login(dir.path(), "fleeti", "hunter2")),
        ..of(port, EmailTls::Starttls, None)
    };
    let plain = Lying::new(&["220 a\r\n", "250-a\r\n250 AUTH PLAIN LOGIN\r\n", "235 ok\r\n"]).await;
    let answer = fails(with_login(plain.port)).await;
    assert!(answer.contains("does not offer STARTTLS"), "{answer}");
    assert_eq!(plain.got().lines().count(), 1, "{}", plain.got());
    assert!(plain.got().starts_with("EHLO ["), "{}", plain.got());

    // Someone on the way refuses TLS, or says what the relay would say after it.
    let refusing =
        Lying::new(&["220 a\r\n", "250 STARTTLS\r\n", "454 later\r\n", "250 ok\r\n"]).await;
    let answer = fails(with_login(refusing.port)).await;
    assert!(answer.contains("454"), "{answer}");
    let injecting =
        Lying::new(&["220 a\r\n", "250 STARTTLS\r\n", "220 go\r\n250 AUTH PLAIN\r\n235 ok\r\n"])
            .await;
    let answer = fails(with_login(injecting.port)).await;
    assert!(answer.contains("TLS: "), "{answer}");
    for got in [plain.got(), refusing.got(), injecting.got()] {
        assert!(!got.contains("AUTH") && !got.contains("MAIL"), "{got}");
    }

    let named = Relay::start(EmailTls::Implicit, "other.example", &[]).await;
    let answer = fails(named.options()).await;
    assert!(answer.contains("TLS: ") && answer.contains("not valid for name"), "{answer}");
    let unknown = Relay::start(EmailTls::Starttls, "localhost", &[]).await;
    let answer = fails(EmailRelay { ca: None, ..unknown.options() }).await;
    assert!(answer.contains("TLS: "), "a certificate of an unknown CA: {answer}");
    let mut missing = unknown.options();
    missing.ca = Some("/nonexistent/ca.pem".into());
    assert!(fails(missing).await.contains("email_ca"));
}

#[actix_web::test]
async fn a_relay_that_hangs_or_floods_costs_a_few_seconds_and_no_memory() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let answer = fails(of(port, EmailTls::None, None)).await;
    assert!(answer.ends_with("no answer within 30 seconds"), "{answer}");

    for flood in ["220 ", "220-x\r\n", "\0\0\0\0"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = actix_web::rt::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let chunk = flood.repeat(1000);
            let mut sent = 0;
            while stream.write_all(chunk.as_bytes()).await.is_ok() {
                sent += chunk.len();
            }
            sent
        });
        let answer = fails(of(port, EmailTls::None, None)).await;
        assert!(!answer.is_empty(), "{flood:?}");
        let sent = tokio::time::timeout(Duration::from_secs(30), task).await.unwrap().unwrap();
        assert!(sent < 32 << 20, "{flood:?}: the server read on: {sent} bytes");
    }
}

#[actix_web::test]
async fn a_relay_that_repeats_the_password_does_not_get_it_into_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let lying = Lying::new(&["220 a\r\n", "250-a\r\n250 AUTH PLAIN\r\n", "535 no: {}\r\n"]).await;
    let relay = EmailRelay {
        login: Some(login(dir.path(), "fleeti", "hunter2")),
        ..of(lying.port, EmailTls::None, None)
    };
    let answer = fails(relay).await;
    assert!(answer.ends_with("the relay refused the user name or password (535)"), "{answer}");
    // NUL, fleeti, NUL, hunter2, in base64.
    let plain = format!("AUTH PLAIN {}", STANDARD.encode("\0fleeti\0hunter2"));
    assert!(lying.got().contains(&plain), "{}", lying.got());
    let none = Lying::new(&["220 a\r\n", "250 a\r\n"]).await;
    let relay = EmailRelay {
        login: Some(login(dir.path(), "fleeti", "hunter2")),
        ..of(none.port, EmailTls::None, None)
    };
    let answer = fails(relay).await;
    assert!(answer.contains("neither AUTH PLAIN nor AUTH LOGIN"), "{answer}");
    let readable = login(dir.path(), "fleeti", "hunter2");
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&readable.password_file, mode).unwrap();
    let offering = Lying::new(&["220 a\r\n", "250 AUTH PLAIN\r\n", "235 ok\r\n"]).await;
    let relay = EmailRelay { login: Some(readable), ..of(offering.port, EmailTls::None, None) };
    let answer = fails(relay).await;
    assert!(answer.contains("chmod 600"), "{answer}");
    assert!(!offering.got().contains("AUTH"), "{}", offering.got());
}

#[actix_web::test]
async fn a_refusal_that_an_operator_repairs_ends_no_attempts() {
    let relay = Relay::start(EmailTls::None, "localhost", &[]).await;
    let options = relay.options();
    let world = World::with(|config| config.email = Some(options)).await;
    for (address, says) in
        [("denied@ops.example", "554"), ("policy@ops.example", "may not send as this sender")]
    {
        let receiver = add(&world, address, &[], Severity::Info).await;
        world.client.test_email_receiver(&receiver.id).await.unwrap();
        let email = until(&world, &receiver, is_answered).await.remove(0);
        assert!(email.answer.contains(says), "{email:?}");
        assert_eq!(email.status, DeliveryStatus::Waiting, "{email:?}");
        assert!(email.attempts > 0 && email.next_s.is_some(), "{email:?}");
    }
}

#[actix_web::test]
async fn a_relay_that_is_down_is_asked_seldom_and_takes_no_attempts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = of(listener.local_addr().unwrap().port(), EmailTls::None, None);
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    actix_web::rt::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    let world = World::with(|config| config.email = Some(relay)).await;
    let mut receivers = Vec::new();
    for n in 0..8 {
        let receiver = add(&world, &format!("ops{n}@ops.example"), &[], Severity::Info).await;
        world.client.test_email_receiver(&receiver.id).await.unwrap();
        receivers.push(receiver);
    }
    for receiver in &receivers {
        until(&world, receiver, is_answered).await;
    }
    // Three looks at eight receivers each.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let asked = asked.load(Ordering::SeqCst);
    assert!((1..=4).contains(&asked), "one connection, and the next ones later: {asked}");
    for receiver in &receivers {
        let email = world.client.emails(&receiver.id).await.unwrap().remove(0);
        assert_eq!((email.status, email.attempts), (DeliveryStatus::Waiting, 0), "{email:?}");
        assert!(!email.answer.is_empty(), "{email:?}");
    }
}
