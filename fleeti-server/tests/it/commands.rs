//! Commands to devices: progress, cancellation, results, many devices at once, and the attacks on
//! each of them. At the end the real agent runs them.

use crate::accounts::{client, program, role};
use crate::gateway::wait_for_ack;
use crate::pages::{Browser, OURS};
use crate::peer::Peer;
use crate::trust::until;
use crate::world::{TestDevice, World};
use fleeti_client::{Client, ClientError};
use fleeti_control::devices;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::accounts::{Permission, Role};
use fleeti_core::wire::api::{CommandStatus, CreateCommand};
use fleeti_core::wire::command::{
    Acknowledgement, Cancellation, Command, CommandKind, Outcome, RESULT_MAX,
};
use fleeti_core::wire::labels::{Change, ChangeDevices};
use fleeti_core::wire::mqtt::Up;
use fleeti_core::wire::problem::{Code, Problem};
use fleeti_testkit::host::{Host, Setup};
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use std::sync::Arc;
use tokio::task::JoinHandle;

fn request(kind: CommandKind) -> CreateCommand {
    CreateCommand { kind, valid_s: 600, confirm: None }
}

fn logs() -> CommandKind {
    CommandKind::Logs { unit: None }
}

async fn send(world: &World, device: &DeviceId, kind: CommandKind) -> CommandStatus {
    world.client.create_command(device, &request(kind)).await.unwrap()
}

/// The device answers, as over MQTT.
async fn answer(world: &World, device: &DeviceId, id: &str, outcome: Outcome, detail: &str) {
    let detail = Some(detail.to_owned()).filter(|text| !text.is_empty());
    let answer = Acknowledgement { command: id.to_owned(), outcome, detail };
    let payload = serde_json::to_vec(&answer).unwrap();
    let cx = &world.server.control;
    devices::received(cx, device, Up::Acknowledgement, &payload).await.unwrap();
}

/// A command that is done and has a result. Returns its id.
pub async fn ended_with_a_result(world: &World, device: &DeviceId) -> String {
    let id = send(world, device, logs()).await.id;
    fleeti_control::commands::keep_result(&world.server.control, device, &id, b"line\n")
        .await
        .unwrap();
    answer(world, device, &id, Outcome::Done, "1 line").await;
    id
}

async fn put(world: &World, device: &TestDevice, id: &str, result: Vec<u8>) -> u16 {
    let url = world.url(&format!("/commands/{id}/result"));
    let sent = world.https((*device.tls).clone()).put(url).body(result).send().await;
    sent.unwrap().status().as_u16()
}

async fn state(world: &World, id: &str) -> String {
    world.client.command(id).await.unwrap().status
}

fn problem<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Problem {
    match result {
        Err(ClientError::Refused(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

fn is(problem: &Problem, code: Code) -> bool {
    problem.kind.ends_with(code.as_str())
}

/// The next message on the topic of commands.
async fn message(peer: &mut Peer) -> Vec<u8> {
    loop {
        let message = peer.message().await;
        if message.topic.ends_with(b"/command") {
            return message.payload.to_vec();
        }
    }
}

#[actix_web::test]
async fn a_command_tells_its_progress_and_its_result_is_stored_once() {
    let world = World::new().await;
    let device = world.enroll().await;
    let mut peer = Peer::session(&world, &device).await;
    let sent = send(&world, &device.id, logs()).await;
    // Pushed, not polled.
    let delivered: Command = serde_json::from_slice(&message(&mut peer).await).unwrap();
    assert_eq!((delivered.id.as_str(), delivered.kind), (sent.id.as_str(), logs()));
    answer(&world, &device.id, &sent.id, Outcome::Begun, "reading").await;
    let running = world.client.command(&sent.id).await.unwrap();
    assert_eq!((running.status.as_str(), running.detail.as_deref()), ("running", Some("reading")));
    for result in [&b"first"[..], b"again"] {
        assert_eq!(put(&world, &device, &sent.id, result.to_vec()).await, 204);
    }
    answer(&world, &device.id, &sent.id, Outcome::Done, "1 line\u{1b}[2J").await;
    // A replayed answer changes nothing, nor does a second result.
    answer(&world, &device.id, &sent.id, Outcome::Failed, "replayed").await;
    assert_eq!(put(&world, &device, &sent.id, b"replayed".to_vec()).await, 409);
    let done = world.client.command(&sent.id).await.unwrap();
    assert_eq!((done.status.as_str(), done.detail.as_deref()), ("done", Some("1 line [2J")));
    assert_eq!((done.result_bytes, done.device.clone()), (Some(5), device.id.clone()));
    assert_eq!(world.client.command_result(&sent.id).await.unwrap(), b"again");
    assert_eq!(world.client.commands(&device.id).await.unwrap(), [done]);
    let audit = world.audit().await;
    for act in ["command.create", "command.result"] {
        let entry = audit.lines().find(|line| line.contains(act)).unwrap();
        assert!(entry.contains(&sent.id), "{entry}");
    }
}

#[actix_web::test]
async fn a_cancellation_is_pushed_and_the_devices_answer_is_the_end() {
    let world = World::new().await;
    let device = world.enroll().await;
    let mut peer = Peer::session(&world, &device).await;
    let sent = send(&world, &device.id, logs()).await;
    message(&mut peer).await;
    let cancelled = world.client.cancel_command(&sent.id).await.unwrap();
    assert_eq!(cancelled.status, "cancelling");
    let pushed: Cancellation = serde_json::from_slice(&message(&mut peer).await).unwrap();
    assert_eq!(pushed.cancel, sent.id);
    world.client.cancel_command(&sent.id).await.unwrap();
    drop(peer);
    // On reconnect only the cancellation, not the command.
    let mut peer = Peer::session(&world, &device).await;
    let again: Cancellation = loop {
        if let Ok(again) = serde_json::from_slice(&message(&mut peer).await) {
            break again;
        }
    };
    assert_eq!(again.cancel, sent.id);
    answer(&world, &device.id, &sent.id, Outcome::Cancelled, "").await;
    assert_eq!(state(&world, &sent.id).await, "cancelled");
    let refused = problem(world.client.cancel_command(&sent.id).await);
    assert!(is(&refused, Code::Conflict), "{refused:?}");
    assert!(world.audit().await.contains("command.cancel"));
    // The device was faster.
    let fast = send(&world, &device.id, logs()).await;
    world.client.cancel_command(&fast.id).await.unwrap();
    answer(&world, &device.id, &fast.id, Outcome::Done, "").await;
    assert_eq!(state(&world, &fast.id).await, "done");
}

#[actix_web::test]
async fn a_device_says_that_a_command_came_too_late() {
    let world = World::new().await;
    let device = world.enroll().await;
    let sent = send(&world, &device.id, CommandKind::Reboot).await;
    answer(&world, &device.id, &sent.id, Outcome::Expired, "it arrived after its deadline").await;
    let expired = world.client.command(&sent.id).await.unwrap();
    assert_eq!(expired.status, "expired");
    assert_eq!(expired.detail.as_deref(), Some("it arrived after its deadline"));
}

#[actix_web::test]
async fn a_device_reaches_no_command_of_another_and_no_result_exceeds_its_limit() {
    let world = World::new().await;
    let (device, attacker) = (world.enroll().await, world.enroll().await);
    let sent = send(&world, &device.id, logs()).await;
    assert_eq!(put(&world, &attacker, &sent.id, b"forged".to_vec()).await, 404);
    assert_eq!(put(&world, &attacker, "cmd-nothing", b"forged".to_vec()).await, 404);
    for (outcome, detail) in [(Outcome::Done, "forged"), (Outcome::Cancelled, "forged")] {
        answer(&world, &attacker.id, &sent.id, outcome, detail).await;
    }
    let mut peer = Peer::session(&world, &attacker).await;
    let forged = serde_json::json!({"command": sent.id, "outcome": "done", "detail": "forged"});
    peer.publish(Up::Acknowledgement.topic(&attacker.id), forged.to_string().as_bytes(), 3).await;
    wait_for_ack(&mut peer, 3, PubAckReason::Success).await;
    let untouched = world.client.command(&sent.id).await.unwrap();
    assert_eq!((untouched.status.as_str(), untouched.detail), ("pending", None));
    let none = problem(world.client.command_result(&sent.id).await);
    assert!(is(&none, Code::NotFound), "{none:?}");
    // One byte more than the kind may have, and more than any may have.
    let max = logs().result_max();
    assert_eq!(put(&world, &device, &sent.id, vec![b'a'; max + 1]).await, 422);
    assert_eq!(put(&world, &device, &sent.id, vec![b'a'; RESULT_MAX + 1]).await, 413);
    assert_eq!(put(&world, &device, &sent.id, vec![]).await, 422);
    assert_eq!(put(&world, &device, &sent.id, vec![b'a'; max]).await, 204);
    let report = send(&world, &device.id, CommandKind::Report).await;
    assert_eq!(put(&world, &device, &report.id, b"a".to_vec()).await, 422, "it has no result");
    // An answer in an odd form ends nothing.
    let long =
        serde_json::json!({"command": sent.id, "outcome": "done", "detail": "x".repeat(5000)});
    peer.publish(Up::Acknowledgement.topic(&attacker.id), long.to_string().as_bytes(), 4).await;
    wait_for_ack(&mut peer, 4, PubAckReason::PayloadFormatInvalid).await;
}

async fn operator(world: &World, account: &str, fleet: &str) -> Client {
    let made = program(world, account, &[role(Role::Operator, Some(fleet))], None).await;
    client(world, made.token.expose())
}

#[actix_web::test]
async fn an_operator_of_another_fleet_sees_sends_and_cancels_nothing() {
    let world = World::new().await;
    let device = world.enroll().await;
    let (own, foreign) =
        (operator(&world, "own", "demo").await, operator(&world, "foreign", "other").await);
    let id = ended_with_a_result(&world, &device.id).await;
    for refused in [
        problem(foreign.create_command(&device.id, &request(logs())).await),
        problem(foreign.commands(&device.id).await),
        problem(foreign.command(&id).await),
        problem(foreign.cancel_command(&id).await),
        problem(foreign.command_result(&id).await),
    ] {
        assert!(is(&refused, Code::NotFound), "{refused:?}");
    }
    assert_eq!(own.command_result(&id).await.unwrap(), b"line\n");
    let viewer = program(&world, "viewer", &[role(Role::Viewer, None)], None).await;
    let viewer = client(&world, viewer.token.expose());
    assert_eq!(viewer.commands(&device.id).await.unwrap().len(), 1);
    for refused in [
        problem(viewer.command_result(&id).await),
        problem(viewer.create_command(&device.id, &request(logs())).await),
    ] {
        assert!(is(&refused, Code::Forbidden), "{refused:?}");
    }
    assert_eq!(own.create_command(&device.id, &request(logs())).await.unwrap().sent_by, "own");
}

#[actix_web::test]
async fn a_factory_reset_names_its_device_twice_and_needs_more_than_a_reboot() {
    let world = World::new().await;
    let (device, other) = (world.enroll().await, world.enroll().await);
    let reset = |of: &DeviceId, confirm: Option<&str>| CreateCommand {
        kind: CommandKind::FactoryReset { device: of.clone() },
        valid_s: 600,
        confirm: confirm.map(str::to_owned),
    };
    for wrong in [
        reset(&device.id, None),
        reset(&device.id, Some("yes")),
        reset(&device.id, Some(other.id.as_str())),
        reset(&other.id, Some(device.id.as_str())),
        reset(&other.id, Some(other.id.as_str())),
    ] {
        let refused = problem(world.client.create_command(&device.id, &wrong).await);
        assert!(is(&refused, Code::Invalid), "{refused:?}");
    }
    let right = reset(&device.id, Some(device.id.as_str()));
    let limited = Some(vec![Permission::View, Permission::Operate]);
    let grants = [role(Role::Operator, Some("demo"))];
    let limited = program(&world, "limited", &grants, limited).await;
    let limited = client(&world, limited.token.expose());
    limited.create_command(&device.id, &request(CommandKind::Reboot)).await.unwrap();
    let refused = problem(limited.create_command(&device.id, &right).await);
    assert!(is(&refused, Code::Forbidden), "{refused:?}");
    let own = operator(&world, "own", "demo").await;
    let sent = own.create_command(&device.id, &right).await.unwrap();
    assert!(world.audit().await.contains(&format!("factory-reset of {}", device.id)));
    assert_eq!(sent.status, "pending");
    let many = ChangeDevices {
        filter: "fleet=demo".into(),
        change: Change::Command { kind: right.kind, valid_s: 600 },
        expected: Some(2),
        confirm: Some("factory-reset 2 devices".into()),
    };
    let refused = problem(world.client.change_devices(&many).await);
    assert!(is(&refused, Code::Invalid), "{refused:?}");
}

#[actix_web::test]
async fn a_command_for_many_devices_has_a_preview_a_typed_phrase_and_one_audit_entry() {
    let world = World::new().await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    let mut peer = Peer::session(&world, &a).await;
    let change = |kind: CommandKind, expected, confirm: Option<&str>| ChangeDevices {
        filter: "fleet=demo".into(),
        change: Change::Command { kind, valid_s: 600 },
        expected,
        confirm: confirm.map(str::to_owned),
    };
    let preview = change(CommandKind::Reboot, None, None);
    let preview = world.client.change_devices(&preview).await.unwrap();
    assert_eq!((preview.devices, preview.done), (2, false));
    assert!(world.client.commands(&a.id).await.unwrap().is_empty());
    for (expected, confirm, code) in [
        (3, Some("reboot 3 devices"), Code::Conflict),
        (2, None, Code::Invalid),
        (2, Some("reboot 3 devices"), Code::Invalid),
    ] {
        let wrong = change(CommandKind::Reboot, Some(expected), confirm);
        let refused = problem(world.client.change_devices(&wrong).await);
        assert!(is(&refused, code), "{refused:?}");
    }
    let right = change(CommandKind::Reboot, Some(2), Some("reboot 2 devices"));
    assert!(world.client.change_devices(&right).await.unwrap().done);
    let delivered: Command = serde_json::from_slice(&message(&mut peer).await).unwrap();
    assert_eq!(delivered.kind, CommandKind::Reboot);
    let ids = [&a, &b].map(|device| device.id.clone());
    for id in &ids {
        let commands = world.client.commands(id).await.unwrap();
        assert_eq!((commands.len(), commands[0].status.as_str()), (1, "pending"));
    }
    // What disturbs nobody needs no phrase.
    world.client.change_devices(&change(logs(), Some(2), None)).await.unwrap();
    let odd = CommandKind::Diagnostic { name: "/bin/sh -c".into() };
    let refused = problem(world.client.change_devices(&change(odd, Some(2), None)).await);
    assert!(is(&refused, Code::Invalid), "{refused:?}");
    let audit = world.audit().await;
    let entries = audit.lines().filter(|line| line.contains("command reboot on 2 devices"));
    assert_eq!(entries.count(), 1, "{audit}");
    let reason = fleeti_core::wire::api::RevocationReason::CertificateHold;
    world.client.revoke_device(&b.id, reason).await.unwrap();
    let refused = problem(world.client.change_devices(&change(logs(), Some(2), None)).await);
    assert!(refused.detail.contains("is revoked"), "{refused:?}");
    let foreign = operator(&world, "foreign", "other").await;
    let refused = problem(foreign.change_devices(&right).await);
    assert!(is(&refused, Code::Conflict), "it sees no device: {refused:?}");
}

#[actix_web::test]
async fn the_page_of_a_device_sends_cancels_and_downloads_and_shows_no_markup_of_devices() {
    let world = World::new().await;
    let device = world.enroll().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let at = format!("/devices/{}/commands", device.id);
    let id = device.id.as_str();
    let named = format!("kind=factory_reset&confirm={id}");
    for (form, is_good) in [
        ("kind=logs&unit=a.service", true),
        ("kind=reboot", true),
        ("kind=logs&unit=-x", false),
        ("kind=shell", false),
        ("kind=factory_reset&confirm=yes", false),
        (&named, true),
    ] {
        let status = browser.post(&at, &session, OURS, form).await.status().as_u16();
        assert_eq!(status == 303, is_good, "{form:?}: {status}");
    }
    let newest = world.client.commands(&device.id).await.unwrap();
    assert_eq!(newest.len(), 3);
    let logs = newest.iter().find(|c| c.kind.as_str() == "logs").unwrap();
    let attack = "<script>alert(1)</script>";
    let cx = &world.server.control;
    fleeti_control::commands::keep_result(cx, &device.id, &logs.id, attack.as_bytes())
        .await
        .unwrap();
    answer(&world, &device.id, &logs.id, Outcome::Done, attack).await;
    let page = browser.get(&format!("/devices/{id}"), &session).await.text().await.unwrap();
    assert!(page.contains("logs of a.service") && page.contains("Download"), "{page}");
    assert!(!page.contains("<script>alert"), "{page}");
    let result = browser.get(&format!("/commands/{}/result", logs.id), &session).await;
    assert_eq!(result.headers()["content-type"], "application/octet-stream");
    assert!(result.headers()["content-disposition"].to_str().unwrap().starts_with("attachment"));
    assert_eq!(result.text().await.unwrap(), attack);
    let reboot = newest.iter().find(|c| c.kind == CommandKind::Reboot).unwrap();
    let cancel = format!("/commands/{}/cancel", reboot.id);
    assert_eq!(browser.post(&cancel, &session, OURS, "").await.status(), 303);
    assert_eq!(state(&world, &reboot.id).await, "cancelling");
}

/// The real agent on a simulated host.
struct Device {
    world: World,
    host: Arc<Host>,
    agent: JoinHandle<anyhow::Result<()>>,
    id: DeviceId,
    home: tempfile::TempDir,
}

impl Device {
    async fn new() -> Self {
        let world = World::new().await;
        let record =
            world.client.create_enrollment(&"demo".parse().unwrap(), 3600).await.unwrap().record;
        let home = tempfile::tempdir().unwrap();
        let setup = Setup {
            dir: home.path().into(),
            public: world.dir.path().join("pki/public"),
            running: "kiosk@1".parse().unwrap(),
            record,
            is_healthy: true,
        };
        let host = Host::new(setup).unwrap();
        let agent = run(&host);
        let online = async || world.client.devices().await.unwrap().pop().filter(|d| d.online);
        until("it enrolls", async || online().await.is_some()).await;
        let id = online().await.unwrap().id;
        Self { world, host, agent, id, home }
    }

    /// Sends a command and waits for its end.
    async fn ends(&self, kind: CommandKind) -> CommandStatus {
        let confirm = matches!(kind, CommandKind::FactoryReset { .. }).then(|| self.id.to_string());
        let request = CreateCommand { kind, valid_s: 600, confirm };
        let sent = self.world.client.create_command(&self.id, &request).await.unwrap();
        self.ended(&sent.id).await
    }

    async fn ended(&self, id: &str) -> CommandStatus {
        let is_open =
            |s: &CommandStatus| ["pending", "running", "cancelling"].contains(&&*s.status);
        let get = async || self.world.client.command(id).await.unwrap();
        until("the command ends", async || !is_open(&get().await)).await;
        get().await
    }

    async fn is(&self, id: &str, status: &str) {
        until(status, async || state(&self.world, id).await == status).await;
    }
}

fn run(host: &Arc<Host>) -> JoinHandle<anyhow::Result<()>> {
    let host = Arc::clone(host);
    tokio::spawn(async move { host.run().await })
}

fn diagnostic(name: &str) -> CommandKind {
    CommandKind::Diagnostic { name: name.into() }
}

#[actix_web::test]
async fn the_agent_runs_commands_of_its_image_and_no_others() {
    let device = Device::new().await;
    let client = &device.world.client;
    let hello = device.ends(diagnostic("hello")).await;
    assert_eq!(hello.status, "done", "{hello:?}");
    let text = client.command_result(&hello.id).await.unwrap();
    assert_eq!(text, b"exit status: 0\nhello\n");
    for (kind, why) in [
        (diagnostic("other"), "declares no diagnostic other"),
        (CommandKind::SupportBundle { key: "ours".into() }, "has no support key ours"),
        (CommandKind::Attest, "no TPM"),
    ] {
        let failed = device.ends(kind).await;
        assert_eq!(failed.status, "failed", "{failed:?}");
        assert!(failed.detail.as_ref().is_some_and(|d| d.contains(why)), "{failed:?}");
    }
    let report = device.ends(CommandKind::Report).await;
    assert_eq!((report.status.as_str(), report.result_bytes), ("done", None));
    let before = client.device(&device.id).await.unwrap();
    let rebooted = device.ends(CommandKind::Reboot).await;
    assert_eq!(rebooted.status, "done", "{rebooted:?}");
    let boot = |d: fleeti_core::wire::api::Device| d.boot.map(|b| b.boot_id);
    let before = boot(before);
    let after = async || boot(client.device(&device.id).await.unwrap());
    until("another boot", async || after().await != before).await;
    device.agent.abort();
}

#[actix_web::test]
async fn the_agent_stops_what_is_cancelled_and_repeats_nothing_after_it_was_killed() {
    let mut device = Device::new().await;
    let client = &device.world.client;
    let slow = send(&device.world, &device.id, diagnostic("slow")).await;
    device.is(&slow.id, "running").await;
    client.cancel_command(&slow.id).await.unwrap();
    assert_eq!(device.ended(&slow.id).await.status, "cancelled");
    let killed = send(&device.world, &device.id, diagnostic("slow")).await;
    device.is(&killed.id, "running").await;
    device.agent.abort();
    (&mut device.agent).await.ok();
    let offline = send(&device.world, &device.id, diagnostic("hello")).await;
    device.agent = run(&device.host);
    let killed = device.ended(&killed.id).await;
    assert_eq!(killed.status, "failed", "{killed:?}");
    assert!(killed.detail.is_some_and(|d| d.contains("interrupted")));
    assert_eq!(device.ended(&offline.id).await.status, "done");
    device.agent.abort();
}

#[actix_web::test]
async fn a_factory_reset_empties_the_named_directories_and_the_device_stays_enrolled() {
    let device = Device::new().await;
    let state = device.home.path().join("data/state");
    for folder in ["var+lib+app", "srv+kept"] {
        std::fs::create_dir_all(state.join(folder)).unwrap();
        std::fs::write(state.join(folder).join("file"), "x").unwrap();
    }
    let reset = device.ends(CommandKind::FactoryReset { device: device.id.clone() }).await;
    assert_eq!(reset.status, "done", "{reset:?}");
    assert!(!state.join("var+lib+app").exists() && state.join("srv+kept/file").exists());
    assert_eq!(device.world.client.devices().await.unwrap().len(), 1);
    device.agent.abort();
}

#[actix_web::test]
async fn a_device_replaces_its_key_when_it_is_told_to_and_not_otherwise() {
    let device = Device::new().await;
    let client = &device.world.client;
    let before = client.device(&device.id).await.unwrap().certificate_sha256;
    let rotated = device.ends(CommandKind::RotateKey).await;
    assert_eq!(rotated.status, "done", "{rotated:?}");
    let after = client.device(&device.id).await.unwrap().certificate_sha256;
    assert_ne!(before, after);
    // It is online with the new key, and renewal is not due.
    assert_eq!(device.ends(CommandKind::Report).await.status, "done");
    assert_eq!(client.device(&device.id).await.unwrap().certificate_sha256, after);
    device.agent.abort();
}
