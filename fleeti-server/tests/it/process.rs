//! The server as a process: killed, and stopped.

use crate::peer::Peer;
use crate::rollout::report_of;
use crate::world::{World, database_url, write_keys};
use fleeti_client::Client;
use fleeti_core::update::State;
use fleeti_core::wire::mqtt::Up;
use fleeti_store::sql;
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Process {
    pub child: Child,
    pub api: String,
    pub https: SocketAddr,
    pub mqtt: SocketAddr,
}

impl Process {
    pub fn api_at(&self) -> SocketAddr {
        self.api.trim_start_matches("http://").parse().unwrap()
    }
}

const PORTS: [&str; 6] =
    ["--api", "127.0.0.1:0", "--https", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"];

/// Arguments for a database that is not in the data folder.
fn elsewhere(data: &Path) -> Vec<String> {
    let url = database_url(data).map(|url| ["--database".to_owned(), url]);
    url.into_iter().flatten().collect()
}

fn start(data: &Path) -> Process {
    start_with(data, "exec \"$0\" \"$@\"")
}

/// Starts the server by a line of shell, which gets the program and its arguments.
pub fn start_with(data: &Path, line: &str) -> Process {
    let mut child = Command::new("sh")
        .args(["-c", line, env!("CARGO_BIN_EXE_fleeti-server")])
        .arg("--data")
        .arg(data)
        .args(PORTS)
        .args(elsewhere(data))
        .env_remove("FLEETI_PASSPHRASE_FILE")
        .env_remove("CREDENTIALS_DIRECTORY")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (api, https, mqtt) = loop {
        let line = lines.next().expect("the server ended").unwrap();
        assert!(!line.contains('\u{1b}'), "no terminal, no colours: {line:?}");
        if let Some(rest) = line.split("API ").nth(1) {
            let mqtt = rest.split("MQTT ").nth(1).unwrap().trim().parse().unwrap();
            let https =
                rest.split("https://").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
            break (rest.split(',').next().unwrap().to_owned(), https, mqtt);
        }
    };
    std::thread::spawn(move || lines.for_each(drop));
    Process { child, api, https, mqtt }
}

fn client(data: &Path, process: &Process) -> Client {
    Client::new(&process.api, std::fs::read_to_string(data.join("admin.token")).unwrap().trim())
        .unwrap()
}

#[actix_web::test]
async fn what_was_acknowledged_survives_kill_9() {
    // A server in this process enrolls the device. Then a separate process uses the same data
    // folder, and is killed.
    let world = World::new().await;
    let device = world.enroll().await;
    let World { dir, server, .. } = world;
    server.stop().await;
    let mut process = start(dir.path());
    let mut peer = Peer::session_at(process.mqtt, &device).await;
    for n in 1..=20u16 {
        peer.publish(
            Up::Report.topic(&device.id),
            &report_of(&format!("kiosk@{n}"), State::Idle),
            n,
        )
        .await;
        crate::gateway::wait_for_ack(&mut peer, n, PubAckReason::Success).await;
    }
    process.child.kill().unwrap(); // SIGKILL
    process.child.wait().unwrap();
    let mut again = start(dir.path());
    let found = client(dir.path(), &again).device(&device.id).await.unwrap();
    assert_eq!(found.boot.unwrap().running.to_string(), "kiosk@20");
    again.child.kill().unwrap();
    again.child.wait().unwrap();
}

#[actix_web::test]
async fn a_second_server_names_the_active_one_and_starts_once_that_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let mut active = start(dir.path());
    let second = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleeti-server"));
        command.arg("--data").arg(dir.path()).args(PORTS).args(elsewhere(dir.path()));
        command.env_remove("FLEETI_PASSPHRASE_FILE").env_remove("CREDENTIALS_DIRECTORY");
        command.output().unwrap()
    };
    let refused = second();
    let text = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    let named =
        format!("another server is active on this database: process {} on", active.child.id());
    assert!(text.contains(&named), "{text}");
    assert!(client(dir.path(), &active).devices().await.unwrap().is_empty(), "it serves on");
    active.child.kill().unwrap(); // SIGKILL
    active.child.wait().unwrap();
    let mut next = start(dir.path());
    assert!(client(dir.path(), &next).devices().await.unwrap().is_empty());
    next.child.kill().unwrap();
    next.child.wait().unwrap();
}

#[actix_web::test]
async fn a_stopped_server_ends_cleanly_and_soon() {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let mut process = start(dir.path());
    assert!(client(dir.path(), &process).devices().await.unwrap().is_empty());
    let id = process.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let ended = tokio::task::spawn_blocking(move || process.child.wait().unwrap());
    let status = tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

#[actix_web::test]
async fn a_failure_of_a_background_task_is_one_line_of_the_log_with_its_cause() {
    let World { dir, server, .. } = World::new().await;
    let mut tx = server.control.db.write().await.unwrap();
    // Expired rows are deleted at every start.
    sql::query("ALTER TABLE domain_events RENAME TO gone").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    server.stop().await;
    let mut process = Command::new(env!("CARGO_BIN_EXE_fleeti-server"))
        .arg("--data")
        .arg(dir.path())
        .args(PORTS)
        .args(elsewhere(dir.path()))
        .env_remove("FLEETI_PASSPHRASE_FILE")
        .env_remove("CREDENTIALS_DIRECTORY")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut log: Vec<String> = Vec::new();
    let has = |log: &[String], text: &str| log.iter().any(|line| line.contains(text));
    while !has(&log, "cannot delete expired rows") || !has(&log, "MQTT ") {
        log.push(lines.next().expect("the server ended"));
    }
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    log.extend(lines);
    assert!(process.wait().unwrap().success());
    let told: Vec<_> = log.iter().filter(|line| line.contains("domain_events")).collect();
    let [told] = told.as_slice() else { panic!("{told:#?}") };
    assert!(told.contains(" WARN "), "{told}");
    assert!(told.contains("cannot delete expired rows: database: "), "{told}");
    assert!(!has(&log, "internal error"), "{log:#?}");
}

#[test]
fn a_database_on_another_machine_without_verified_tls_is_refused_at_the_start() {
    let data = tempfile::tempdir().unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_fleeti-server"))
        .arg("--data")
        .arg(data.path())
        .args(PORTS)
        .args(["--database", "postgres://fleeti:secret@db.example/fleeti?sslmode=require"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("\"db.example\"") && said.contains("sslmode=verify-full"), "{said}");
    assert!(!said.contains("secret"), "{said}");
}
