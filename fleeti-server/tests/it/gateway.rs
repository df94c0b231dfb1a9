//! Attacks on the MQTT port. In each of them, the session of another device continues undisturbed.

use crate::peer::Peer;
use crate::world::World;
use bytes::Bytes;
use fleeti_core::wire::api::{CreateCommand, CreateRollout, RevocationReason};
use fleeti_core::wire::device::{Command, CommandKind};
use fleeti_core::wire::mqtt::{Down, Up};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, DisconnectReasonCode as Reason, LastWill, Packet, PubAck, PubAckReason,
};
use std::collections::HashSet;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[actix_web::test]
async fn foreign_and_odd_topics_end_the_session_of_the_one_who_tries() {
    let world = World::new().await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    let mut bystander = Peer::session(&world, &a).await;
    let foreign = Up::Report.topic(&a.id);
    for topic in
        [foreign.as_str(), &Down::Command.topic(&b.id), "#", "é/x", "", "$SYS/x", "a\u{0}b"]
    {
        let mut attacker = Peer::session(&world, &b).await;
        attacker.publish(Bytes::copy_from_slice(topic.as_bytes()), b"{}", 1).await;
        let reason = attacker.closed().await;
        let expected = match topic {
            "" => Reason::ProtocolError,
            "#" | "a\u{0}b" => Reason::MalformedPacket,
            _ => Reason::NotAuthorized,
        };
        assert_eq!(reason, Some(expected), "{topic:?}");
    }
    let wildcard = Reason::WildcardSubscriptionsNotSupported;
    for (filter, expected) in [
        (Down::Command.topic(&a.id).as_str(), Reason::NotAuthorized),
        ("$SYS/x", Reason::NotAuthorized),
        ("#", wildcard),
        ("fleeti/v1/+/down/command", wildcard),
        ("$SYS/#", wildcard),
        ("$share/g/#", Reason::SharedSubscriptionNotSupported),
    ] {
        let mut attacker = Peer::session(&world, &b).await;
        attacker.subscribe(filter).await;
        assert_eq!(attacker.closed().await, Some(expected), "{filter}");
    }
    // A topic that only a newer agent knows is refused, and nothing else of its session.
    let mut newer = Peer::session(&world, &b).await;
    newer.subscribe(&format!("{}weather", Down::prefix(&b.id))).await;
    newer.is_alive().await;
    bystander.is_alive().await;
}

#[actix_web::test]
async fn a_device_cannot_be_another_one_nor_leave_a_will() {
    let world = World::new().await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    let mut bystander = Peer::session(&world, &a).await;
    for id in [a.id.as_str(), "", "a/b", "#", "x"] {
        let (_, code) = Peer::connect_as(&world, &b, id, None).await;
        assert_eq!(code, Some(ConnectReturnCode::ClientIdentifierNotValid), "{id:?}");
    }
    let will = LastWill::new(Up::Report.topic(&a.id), "{}", QoS::AtLeastOnce, false, None);
    let (_, code) = Peer::connect_as(&world, &b, b.id.as_str(), Some(will)).await;
    assert_eq!(code, Some(ConnectReturnCode::NotAuthorized));
    bystander.is_alive().await;
    // A refused connection leaves no session, neither the attacker's nor one in place of the other
    // device's.
    assert!(!world.client.device(&b.id).await.unwrap().online);
    assert!(world.client.device(&a.id).await.unwrap().online);
}

#[actix_web::test]
async fn a_device_takes_over_its_own_session_and_nobody_elses() {
    let world = World::new().await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    let (mut bystander, mut old) =
        (Peer::session(&world, &a).await, Peer::session(&world, &b).await);
    let mut new = Peer::session(&world, &b).await;
    assert_eq!(old.closed().await, Some(Reason::SessionTakenOver));
    new.is_alive().await;
    bystander.is_alive().await;
}

/// Connections that send nothing, or only half a handshake, do not keep a device out.
#[actix_web::test]
async fn idle_connections_and_half_handshakes_keep_nobody_out() {
    let world = World::with(|c| c.limits.handshake_ms = 3000).await;
    let a = world.enroll().await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        let mut tcp = TcpStream::connect(world.server.addresses.mqtt).await.unwrap();
        // The first bytes of a handshake, and no more.
        tcp.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
        silent.push(tcp);
    }
    let mut mute = Peer::tls(&world, &a.tls).await.unwrap(); // a handshake, and no CONNECT
    let mut session = Peer::session(&world, &a).await;
    assert_eq!(mute.closed().await, None);
    session.is_alive().await;
}

#[actix_web::test]
async fn sessions_beyond_the_limit_are_refused_with_a_reason_and_room_comes_back() {
    let world = World::with(|c| c.limits.connections = 2).await;
    let (a, b, c) = (world.enroll().await, world.enroll().await, world.enroll().await);
    let (mut first, second) = (Peer::session(&world, &a).await, Peer::session(&world, &b).await);
    let connect = || async { Peer::connect_as(&world, &c, c.id.as_str(), None).await.1 };
    assert_eq!(connect().await, Some(ConnectReturnCode::ServerBusy));
    drop(second);
    let admitted = async { while connect().await != Some(ConnectReturnCode::Success) {} };
    tokio::time::timeout(Duration::from_secs(60), admitted).await.unwrap();
    first.is_alive().await;
}

#[actix_web::test]
async fn malformed_and_misplaced_packets_end_one_session() {
    let world = World::new().await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    let mut bystander = Peer::session(&world, &a).await;
    let attacks: [&[u8]; 7] = [
        &[0xb7, 0x02, 0x00, 0x01],       // UNSUBACK, which only a server sends
        &[0x20, 0x03, 0x00, 0x00, 0x00], // CONNACK
        &[0x00, 0x00],                   // no packet type
        &[0x30, 0xff, 0xff, 0xff, 0x7f], // a packet of 256 MiB
        &[0x30, 0xff, 0xff, 0xff, 0xff, 0x01], // a length that does not end
        &[0x10, 0x02, 0x00, 0x00],       // a second CONNECT, cut off
        &[0x62, 0x02, 0x00, 0x01],       // PUBREL of nothing
    ];
    for bytes in attacks {
        let mut attacker = Peer::session(&world, &b).await;
        attacker.raw(bytes).await;
        let reason = attacker.closed().await;
        let expected = match bytes {
            [0x30, _, _, _, 0x7f] => Reason::PacketTooLarge,
            [0xb7, ..] | [0x00, ..] | [0x30, ..] => Reason::MalformedPacket,
            _ => Reason::ProtocolError,
        };
        assert_eq!(reason, Some(expected), "{bytes:x?}");
        bystander.is_alive().await;
    }
}

/// Valid reports to the device's own topic, each with one feature that the server does not offer.
#[actix_web::test]
async fn what_was_not_granted_ends_the_session_of_the_one_who_uses_it() {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};
    let world = World::new().await;
    let device = world.enroll().await;
    let good = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: Up::Report.topic(&device.id).into(),
        pkid: 5,
        payload: crate::rollout::report_of("kiosk@1", fleeti_core::update::State::Idle).into(),
        properties: None,
    };
    let alias = PublishProperties { topic_alias: Some(1), ..PublishProperties::default() };
    let table = [
        (Publish { retain: true, ..good.clone() }, Reason::RetainNotSupported),
        (Publish { qos: QoS::ExactlyOnce, ..good.clone() }, Reason::QoSNotSupported),
        (Publish { properties: Some(alias), ..good.clone() }, Reason::TopicAliasInvalid),
    ];
    for (bad, expected) in table {
        let mut peer = Peer::session(&world, &device).await;
        peer.send(&Packet::Publish(bad)).await;
        assert_eq!(peer.closed().await, Some(expected));
    }
    assert!(
        world.client.device(&device.id).await.unwrap().boot.is_none(),
        "none of them was taken"
    );
    let mut peer = Peer::session(&world, &device).await;
    peer.send(&Packet::Publish(good)).await;
    wait_for_ack(&mut peer, 5, PubAckReason::Success).await;
}

#[actix_web::test]
async fn an_acknowledgement_of_nothing_ends_the_session() {
    let world = World::new().await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    let (mut bystander, mut attacker) =
        (Peer::session(&world, &a).await, Peer::session(&world, &b).await);
    attacker.send(&Packet::PubAck(PubAck::new(999, None))).await;
    assert_eq!(attacker.closed().await, Some(Reason::ProtocolError));
    bystander.is_alive().await;
}

#[actix_web::test]
async fn a_device_that_does_not_read_is_cut_off_and_can_come_back() {
    let world =
        World::with(|c| (c.limits.write_ms, c.limits.messages_burst) = (500, u32::MAX)).await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    let (mut bystander, mut slow) =
        (Peer::session(&world, &a).await, Peer::session(&world, &b).await);
    // Responses pile up for a peer that only writes, until the server's writes block.
    let ping = [0xc0, 0x00].repeat(4096);
    let flood = async { while slow.stream.write_all(&ping).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), flood)
        .await
        .expect("the server should have cut it off");
    bystander.is_alive().await;
    Peer::session(&world, &b).await.is_alive().await;
}

#[actix_web::test]
async fn a_revoked_device_is_cut_off_live_and_refused_anew_and_resumed() {
    let world = World::new().await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    let (mut bystander, mut live) =
        (Peer::session(&world, &a).await, Peer::session(&world, &b).await);
    // The client keeps tickets in `b.tls`, so its next handshake would resume.
    world.client.revoke_device(&b.id, RevocationReason::Unspecified).await.unwrap();
    assert_eq!(live.closed().await, Some(Reason::NotAuthorized));
    for _ in 0..2 {
        // In TLS 1.3 the refusal may arrive after the client has finished the handshake.
        let refused = match Peer::tls(&world, &b.tls).await {
            Err(_) => true,
            Ok(mut peer) => {
                let connect = rumqttc::v5::mqttbytes::v5::Connect {
                    keep_alive: 30,
                    client_id: b.id.to_string(),
                    clean_start: false,
                    properties: None,
                };
                peer.send(&Packet::Connect(connect, None, None)).await;
                peer.receive().await.is_none()
            }
        };
        assert!(refused);
    }
    bystander.is_alive().await;
    assert!(world.client.device(&b.id).await.unwrap().revoked);
}

#[actix_web::test]
async fn without_a_certificate_of_the_device_authority_there_is_no_session() {
    let (world, other) = (World::new().await, World::new().await);
    let anonymous = std::sync::Arc::new(world.anonymous());
    let refused = match Peer::tls(&world, &anonymous).await {
        Err(_) => true,
        Ok(mut peer) => peer.receive().await.is_none(),
    };
    assert!(refused);
    // Certified by the same CA, but not in this server's database.
    let stranger = other.enroll().await;
    let (_, code) = Peer::connect_as(&world, &stranger, stranger.id.as_str(), None).await;
    assert_eq!(code, Some(ConnectReturnCode::NotAuthorized));
}

#[actix_web::test]
async fn a_command_sent_while_the_device_is_offline_arrives_when_it_is_back() {
    let world = World::new().await;
    let a = world.enroll().await;
    let command = CreateCommand { kind: CommandKind::Report, valid_s: 600, confirm: None };
    let status = world.client.create_command(&a.id, &command).await.unwrap();
    let mut peer = Peer::session(&world, &a).await;
    let delivered = next_command(&mut peer).await;
    assert_eq!(delivered.id, status.id);
    drop(peer);
    // The device has not answered the command: it is delivered again, with the same id.
    let mut peer = Peer::session(&world, &a).await;
    assert_eq!(next_command(&mut peer).await.id, status.id);
    let answer = serde_json::json!({"command": status.id, "outcome": "done"});
    peer.publish(Up::Acknowledgement.topic(&a.id), answer.to_string().as_bytes(), 3).await;
    wait_for_ack(&mut peer, 3, PubAckReason::Success).await;
    assert_eq!(world.client.command(&status.id).await.unwrap().status, "done");
}

#[actix_web::test]
async fn every_command_of_a_full_mailbox_arrives_in_one_session() {
    let world = World::new().await;
    let a = world.enroll().await;
    let command = CreateCommand { kind: CommandKind::Report, valid_s: 600, confirm: None };
    let mut sent = HashSet::new();
    for _ in 0..64 {
        sent.insert(world.client.create_command(&a.id, &command).await.unwrap().id);
    }
    assert!(world.client.create_command(&a.id, &command).await.is_err(), "the mailbox is full");
    let mut peer = Peer::session(&world, &a).await;
    // Acknowledged by MQTT, not yet answered by the device.
    while !sent.is_empty() {
        assert!(sent.remove(&next_command(&mut peer).await.id), "twice in one session");
    }
}

#[actix_web::test]
async fn a_head_request_says_the_size_that_a_get_then_brings() {
    let world = World::new().await;
    let a = world.enroll().await;
    crate::rollout::publish_release(&world, "kiosk@2").await;
    let request = CreateRollout {
        release: "kiosk@2".parse().unwrap(),
        fleet: "demo".parse().unwrap(),
        plan: None,
        urgent: None,
    };
    world.client.start_rollout(&request).await.unwrap();
    let release = world.client.releases().await.unwrap().remove(0);
    let artifact = &release.artifacts[0];
    let https = world.https((*a.tls).clone());
    let url = world.url(&format!("/releases/kiosk/2/{}", artifact.path));
    let head = https.head(&url).send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()),
        (200, artifact.size.to_string().as_str())
    );
    assert_eq!(
        https.get(&url).send().await.unwrap().bytes().await.unwrap().len() as u64,
        artifact.size
    );
}

#[actix_web::test]
async fn a_device_cannot_answer_the_command_of_another() {
    let world = World::new().await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    let command = CreateCommand { kind: CommandKind::Report, valid_s: 600, confirm: None };
    let status = world.client.create_command(&a.id, &command).await.unwrap();
    let mut attacker = Peer::session(&world, &b).await;
    let answer = serde_json::json!({"command": status.id, "outcome": "done"});
    attacker.publish(Up::Acknowledgement.topic(&b.id), answer.to_string().as_bytes(), 3).await;
    wait_for_ack(&mut attacker, 3, PubAckReason::Success).await;
    assert_eq!(world.client.command(&status.id).await.unwrap().status, "pending");
}

#[actix_web::test]
async fn a_payload_that_is_not_understood_is_acknowledged_with_the_reason() {
    let world = World::new().await;
    let a = world.enroll().await;
    let mut peer = Peer::session(&world, &a).await;
    peer.publish(Up::Report.topic(&a.id), b"not json", 5).await;
    wait_for_ack(&mut peer, 5, PubAckReason::PayloadFormatInvalid).await;
    peer.is_alive().await;
}

async fn next_command(peer: &mut Peer) -> Command {
    loop {
        let message = peer.message().await;
        if message.topic.ends_with(b"/command") {
            return serde_json::from_slice(&message.payload).unwrap();
        }
    }
}

pub async fn wait_for_ack(peer: &mut Peer, id: u16, expected: PubAckReason) {
    loop {
        if let Packet::PubAck(ack) = peer.receive().await.expect("closed")
            && ack.pkid == id
        {
            assert_eq!(ack.reason, expected);
            return;
        }
    }
}
