//! Secrets of fleets and recovery keys of devices: which devices and operators get them, which do
//! not, and what is in the audit log. The TPM is swtpm.

use crate::machine::{Machine, question, send, world};
use crate::peer::Peer;
use crate::rollout::report_of;
use crate::world::{TestDevice, World};
use fleeti_control::devices::received;
use fleeti_core::attestation::Level;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::FleetId;
use fleeti_core::update::State;
use fleeti_core::wire::api::CreateCommand;
use fleeti_core::wire::attestation::{Evidence, Secret};
use fleeti_core::wire::device::{Command, CommandKind};
use fleeti_core::wire::mqtt::{Down, Up};
use fleeti_core::wire::vault::{
    FetchSecrets, RecoveryKey, SECRET_MAX, SECRETS_MAX, Secrets, SecretsTicket, ShowRecoveryKey,
};
use fleeti_store::sql;
use fleeti_testkit::tpm::Manufacturer;
use reqwest::StatusCode;
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use std::path::Path;

const RECOVERY_KEY: &str =
    "vkukefhi-jlicfclt-rkbghfcb-hjdlvvnt-hdkbkrvu-clchhtfj-njkeuivc-dlldkvkj";

fn demo() -> FleetId {
    "demo".parse().unwrap()
}

async fn ask_for_secrets(world: &World, level: Option<Level>) {
    let policy = Policy { secrets: level, ..Policy::usual() };
    world.client.set_attestation_policy(&demo(), &policy).await.unwrap();
}

/// Challenges the device, and answers for it.
async fn answer(
    world: &World,
    machine: &Machine,
    device: &TestDevice,
    peer: &mut Peer,
    change: impl Fn(&mut Evidence),
) {
    loop {
        world.client.challenge_device(&device.id).await.unwrap();
        let asked = question(peer, device).await;
        let mut evidence = machine.answer(world, device, &asked).await;
        change(&mut evidence);
        // A newer challenge makes the answer to the older one invalid.
        if send(peer, device, &evidence).await == PubAckReason::Success {
            return;
        }
    }
}

/// The next ticket; `None` if a command arrives first that was sent after the ticket would have
/// been.
async fn ticket(world: &World, device: &TestDevice, peer: &mut Peer) -> Option<SecretsTicket> {
    world
        .client
        .create_command(
            &device.id,
            &CreateCommand { kind: CommandKind::Report, valid_s: 60, confirm: None },
        )
        .await
        .unwrap();
    loop {
        let message = peer.message().await;
        if message.topic == Down::Secrets.topic(&device.id) {
            return Some(serde_json::from_slice(&message.payload).unwrap());
        }
        if message.topic == Down::Command.topic(&device.id) {
            return None;
        }
    }
}

async fn fetch(world: &World, device: &TestDevice, ticket: &Secret) -> Result<Secrets, StatusCode> {
    let http = world.https(device.tls.as_ref().clone());
    let response = http
        .post(world.url("/secrets"))
        .json(&FetchSecrets { ticket: ticket.clone() })
        .send()
        .await
        .unwrap();
    if response.status().is_success() {
        Ok(response.json().await.unwrap())
    } else {
        Err(response.status())
    }
}

/// The device reports whether its data partition is sealed.
async fn say_sealed(world: &World, device: &TestDevice, sealed: bool) {
    let mut report: serde_json::Value =
        serde_json::from_slice(&report_of("kiosk@1", State::Idle)).unwrap();
    report["boot"]["sealed_data"] = sealed.into();
    received(&world.server.control, &device.id, Up::Report, report.to_string().as_bytes())
        .await
        .unwrap();
}

/// Whether these bytes are in any file of the server.
fn is_kept(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            is_kept(&path, needle)
        } else {
            std::fs::read(&path).unwrap().windows(needle.len()).any(|w| w == needle)
        }
    })
}

/// A device gets a ticket for secrets only over the session on which its TPM has just proved the
/// required level.
#[actix_web::test]
async fn secrets_are_for_devices_that_have_just_proved_enough_and_for_nobody_else() {
    let manufacturer = Manufacturer::new().unwrap();
    let (world, machine) = (world(&manufacturer, true).await, Machine::new(&manufacturer));
    let (device, other) = (world.enroll().await, world.enroll().await);
    machine.bind(&world, &device).await.unwrap();
    let mut peer = Peer::session(&world, &device).await;
    let (name, value) = ("wifi.psk".parse().unwrap(), b"correct horse battery staple");

    // The fleet has no secrets: no ticket is sent.
    ask_for_secrets(&world, Some(Level::ObservedBoot)).await;
    answer(&world, &machine, &device, &mut peer, |_| ()).await;
    assert_eq!(ticket(&world, &device, &mut peer).await, None);

    let listed = world.client.set_secret(&demo(), &name, value).await.unwrap();
    assert_eq!(listed.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["wifi.psk"]);
    assert!(!is_kept(world.dir.path(), value), "what is secret lies nowhere");

    // Below the required level.
    ask_for_secrets(&world, Some(Level::VerifiedBoot)).await;
    answer(&world, &machine, &device, &mut peer, |_| ()).await;
    assert_eq!(ticket(&world, &device, &mut peer).await, None);
    ask_for_secrets(&world, None).await;
    answer(&world, &machine, &device, &mut peer, |_| ()).await;
    assert_eq!(
        ticket(&world, &device, &mut peer).await,
        None,
        "a device that proves nothing gets no ticket"
    );

    // At the required level.
    ask_for_secrets(&world, Some(Level::ObservedBoot)).await;
    answer(&world, &machine, &device, &mut peer, |_| ()).await;
    let first = ticket(&world, &device, &mut peer).await.unwrap();
    assert_eq!(
        fetch(&world, &other, &first.ticket).await,
        Err(StatusCode::FORBIDDEN),
        "the ticket of another device"
    );
    assert_eq!(
        fetch(&world, &device, &Secret::new("0".repeat(64))).await,
        Err(StatusCode::FORBIDDEN),
        "a guess"
    );
    let given = fetch(&world, &device, &first.ticket).await.unwrap();
    assert_eq!(given.version, first.version);
    assert_eq!(given.secrets[&name].expose(), fleeti_pki::base64_text(value));
    assert_eq!(
        fetch(&world, &device, &first.ticket).await,
        Err(StatusCode::FORBIDDEN),
        "the same ticket again"
    );

    // A ticket counts only while its device meets the policy.
    answer(&world, &machine, &device, &mut peer, |_| ()).await;
    let second = ticket(&world, &device, &mut peer).await.unwrap();
    ask_for_secrets(&world, Some(Level::VerifiedBoot)).await;
    assert_eq!(
        fetch(&world, &device, &second.ticket).await,
        Err(StatusCode::FORBIDDEN),
        "the policy has changed since"
    );
    ask_for_secrets(&world, Some(Level::ObservedBoot)).await;

    // A device whose data partition was sealed and is reported as plain gets no secrets.
    assert_eq!(keep(&world, &device, RECOVERY_KEY).await, StatusCode::NO_CONTENT);
    let third = {
        answer(&world, &machine, &device, &mut peer, |_| ()).await;
        ticket(&world, &device, &mut peer).await.unwrap()
    };
    say_sealed(&world, &device, false).await;
    assert_eq!(
        fetch(&world, &device, &third.ticket).await,
        Err(StatusCode::FORBIDDEN),
        "not sealed any more"
    );
    answer(&world, &machine, &device, &mut peer, |_| ()).await;
    assert_eq!(ticket(&world, &device, &mut peer).await, None);

    // A device that fails attestation gets no ticket.
    answer(&world, &machine, &device, &mut peer, |e| drop(e.pcrs.insert(4, "00".repeat(32)))).await;
    assert_eq!(ticket(&world, &device, &mut peer).await, None);

    let audit = world.audit().await;
    assert_eq!(
        (audit.matches("\"secret.keep\"").count(), audit.matches("fleet.secret-set").count()),
        (2, 1),
        "{audit}"
    );
    assert_eq!(
        audit.matches("\"secret.give\"").count(),
        2,
        "intent and outcome of the one that was given: {audit}"
    );
    assert!(!audit.contains("battery"), "{audit}");
}

/// Secrets have a maximum size and number, and can be changed and removed.
#[actix_web::test]
async fn secrets_have_names_and_limits_and_go_as_they_came() {
    let world = World::new().await;
    let set = async |name: &str, value: &[u8]| {
        world.client.set_secret(&demo(), &name.parse().unwrap(), value).await
    };
    assert!(set("empty", b"").await.unwrap_err().to_string().contains("1 to 16384"));
    set("large", &[7; SECRET_MAX]).await.unwrap();
    assert!(set("larger", &[7; SECRET_MAX + 1]).await.unwrap_err().to_string().contains("16385"));
    for n in 1..SECRETS_MAX {
        set(&format!("s{n}"), b"x").await.unwrap();
    }
    assert!(set("more", b"x").await.unwrap_err().to_string().contains("already"));
    set("large", b"changed").await.unwrap();
    let left = world.client.remove_secret(&demo(), &"large".parse().unwrap()).await.unwrap();
    assert_eq!(left.len(), SECRETS_MAX - 1);
    assert!(world.client.remove_secret(&demo(), &"large".parse().unwrap()).await.is_err());
}

fn asked(reason: &str) -> ShowRecoveryKey {
    ShowRecoveryKey { reason: reason.to_owned(), previous: false }
}

async fn keep(world: &World, device: &TestDevice, key: &str) -> StatusCode {
    let http = world.https(device.tls.as_ref().clone());
    let body = RecoveryKey { key: Secret::new(key.to_owned()) };
    http.put(world.url("/recovery-key")).json(&body).send().await.unwrap().status()
}

/// Showing a recovery key writes the reason to the audit log first; the device then makes a new
/// key.
#[actix_web::test]
async fn a_recovery_key_is_shown_for_a_reason_that_is_in_the_log_first_and_then_replaced() {
    let world = World::new().await;
    let (device, other) = (world.enroll().await, world.enroll().await);
    assert!(world.client.recovery_key(&device.id).await.is_err());
    assert!(world.client.show_recovery_key(&device.id, &asked("none yet")).await.is_err());
    for bad in ["", "no recovery key", "ABC", &"a".repeat(257)] {
        assert_eq!(keep(&world, &device, bad).await, StatusCode::UNPROCESSABLE_ENTITY, "{bad:?}");
    }
    assert_eq!(keep(&world, &device, RECOVERY_KEY).await, StatusCode::NO_CONTENT);
    assert_eq!(
        keep(&world, &device, RECOVERY_KEY).await,
        StatusCode::NO_CONTENT,
        "the answer was lost"
    );
    assert!(!is_kept(world.dir.path(), RECOVERY_KEY.as_bytes()));
    assert_eq!(world.client.recovery_key(&device.id).await.unwrap().shown_s, None);

    for bad in ["", "ab", &"x".repeat(161), "two\nlines"] {
        assert!(
            world
                .client
                .show_recovery_key(&device.id, &asked(bad))
                .await
                .unwrap_err()
                .to_string()
                .contains("reason"),
            "{bad:?}"
        );
    }
    assert!(!world.audit().await.contains("recovery-key.show"), "nobody has seen it");
    let shown =
        world.client.show_recovery_key(&device.id, &asked("mainboard replaced")).await.unwrap();
    assert_eq!(shown.expose(), RECOVERY_KEY);
    assert!(world.client.recovery_key(&device.id).await.unwrap().shown_s.is_some());
    let audit = world.audit().await;
    assert!(
        audit.contains("recovery-key.show")
            && audit.contains(&format!("{}: mainboard replaced", device.id)),
        "{audit}"
    );
    assert!(!audit.contains("vkukefhi"), "{audit}");

    // The device receives the command to make a new key.
    let mut peer = Peer::session(&world, &device).await;
    let command = loop {
        let message = peer.message().await;
        if message.topic == Down::Command.topic(&device.id) {
            break serde_json::from_slice::<Command>(&message.payload).unwrap().kind;
        }
    };
    assert_eq!(command, CommandKind::NewRecoveryKey);
    assert_eq!(keep(&world, &device, RECOVERY_KEY).await, StatusCode::NO_CONTENT, "the same again");
    assert!(
        world.client.recovery_key(&device.id).await.unwrap().shown_s.is_some(),
        "and it was seen all the same"
    );
    assert_eq!(keep(&world, &device, "abcdefgh-abcdefgh").await, StatusCode::NO_CONTENT);
    let status = world.client.recovery_key(&device.id).await.unwrap();
    assert_eq!((status.shown_s, status.has_previous), (None, true), "nobody has seen the new one");
    assert_eq!(
        keep(&world, &device, "bcdefghi-bcdefghi").await,
        StatusCode::SERVICE_UNAVAILABLE,
        "the next one at once"
    );
    assert_eq!(
        keep(&world, &device, "abcdefgh-abcdefgh").await,
        StatusCode::NO_CONTENT,
        "the same again"
    );
    // An attacker may speak for the device and send a false key: the previous key is kept as well.
    let before = ShowRecoveryKey { previous: true, ..asked("the newest does not open it") };
    assert_eq!(
        world.client.show_recovery_key(&device.id, &before).await.unwrap().expose(),
        RECOVERY_KEY
    );

    // An attacker who can write rows cannot get the key of one device as that of another.
    assert_eq!(keep(&world, &other, RECOVERY_KEY).await, StatusCode::NO_CONTENT);
    let sql = "UPDATE recovery_keys SET wrapped = (SELECT wrapped FROM recovery_keys WHERE device = $1) WHERE device = $2";
    sql::query(sql)
        .bind(device.id.as_str())
        .bind(other.id.as_str())
        .execute(world.server.control.db.writer())
        .await
        .unwrap();
    let refused = world
        .client
        .show_recovery_key(&other.id, &asked("swapped rows"))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("refuses"), "{refused}");
}
