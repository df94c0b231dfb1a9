//! Every MUST of MQTT 5 that one exchange of packets can test with this server's limits, by its id
//! or, where it has none, by its section. Each row runs against the server over TLS, and against
//! mosquitto where that has the same limits.

use crate::mqtt_rows::{After, Expect, Names, Row, rows};
use crate::raw::{Raw, connect};
use crate::world::World;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;

#[actix_web::test]
async fn the_server_answers_every_row_as_mqtt_5_says() {
    let world = World::new().await;
    let device = world.enroll().await;
    let mut bystander = crate::peer::Peer::session(&world, &world.enroll().await).await;
    let rows = rows(&Names::of(&device.id));
    assert!(rows.len() > 100, "{}", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let found =
            run(Raw::device(&world, &device).await, row, device.id.as_str(), &row.expect).await;
        wrong.extend(found.err().map(|found| {
            format!("{}: {}: expected {:x?}, found {found}", row.id, row.what, row.expect)
        }));
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    bystander.is_alive().await;
}

#[actix_web::test]
async fn mosquitto_answers_the_rows_that_concern_it_likewise() {
    let mosquitto = Mosquitto::start().await;
    let names = Names::of(&"dev-mosquitto".parse().unwrap());
    let (mut wrong, mut count) = (Vec::new(), 0);
    for row in rows(&names) {
        let Some(expect) = &row.mosquitto else { continue };
        count += 1;
        let found = run(Raw::tcp(mosquitto.address).await, &row, "dev-mosquitto", expect).await;
        wrong.extend(
            found.err().map(|found| {
                format!("{}: {}: expected {expect:x?}, found {found}", row.id, row.what)
            }),
        );
    }
    assert!(count > 50, "{count}");
    assert!(wrong.is_empty(), "{} of {count} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// Runs a row; the error says what was received instead.
async fn run(raw: Raw, row: &Row, client_id: &str, expect: &Expect) -> Result<(), String> {
    let run = run_row(raw, row, client_id, expect);
    tokio::time::timeout(Duration::from_secs(10), run)
        .await
        .unwrap_or_else(|_| Err("nothing within ten seconds".to_owned()))
}

async fn run_row(mut raw: Raw, row: &Row, client_id: &str, expect: &Expect) -> Result<(), String> {
    if row.after == After::Session {
        raw.send(&connect(client_id, true, 0)).await;
        let connack = raw.next().await.ok_or("no CONNACK")?;
        if connack[0] != 0x20 || connack[3] != 0 {
            return Err(format!("CONNACK {connack:x?}"));
        }
    }
    raw.send(&row.send).await;
    let mut first = raw.next().await;
    let passed_over = if *expect == Expect::Message { 9 } else { 3 };
    while first.as_ref().is_some_and(|p| p[0] >> 4 == passed_over) {
        first = raw.next().await;
    }
    let is_right = match (expect, &first) {
        (Expect::Connack { code, session }, Some(p)) => {
            p[0] == 0x20 && p[3] == *code && p[2] == u8::from(*session)
        }
        (Expect::Disconnect(code), Some(p)) => p[0] == 0xe0 && p.get(2) == Some(code),
        (Expect::Answer(bytes), Some(p)) => p == bytes,
        (Expect::Answers(bytes, code), Some(p)) => p == bytes && raw.reason().await == Some(*code),
        (Expect::Message, Some(p)) => p[0] >> 4 == 3,
        (Expect::Closed | Expect::Ended, None) => true,
        (Expect::Ended, Some(p)) => matches!((p[0], p.get(3)), (0x20, Some(1..))) || p[0] == 0xe0,
        _ => false,
    };
    if !is_right {
        return Err(format!("{first:x?}"));
    }
    // A refusal also ends the connection.
    let is_end = matches!(expect, Expect::Disconnect(_) | Expect::Connack { code: 0x80.., .. })
        || (*expect == Expect::Ended && first.is_some());
    if is_end && let Some(more) = raw.next().await {
        return Err(format!("the right answer, and then {more:x?}"));
    }
    Ok(())
}

/// Debian's mosquitto broker.
struct Mosquitto {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Mosquitto {
    async fn start() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("mosquitto.conf");
        std::fs::write(
            &config,
            format!(
                "user root\nlistener {} 127.0.0.1\nallow_anonymous true\nlog_type none\n",
                address.port()
            ),
        )
        .unwrap();
        let child = Command::new("/usr/sbin/mosquitto")
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.expect("/usr/sbin/mosquitto; install it with `cargo xtask setup`");
        let mosquitto = Self { child, address, _dir: dir };
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), listens)
            .await
            .expect("mosquitto does not listen");
        mosquitto
    }
}
