//! MQTT 5 sessions over time: how long they last, what is sent again, and the limits of one device.

use crate::peer::Peer;
use crate::raw::{Raw, connect, connect_with, puback, publish, subscribe};
use crate::world::{TestDevice, World};
use fleeti_core::wire::api::CreateCommand;
use fleeti_core::wire::device::{CommandKind, TEXT_MAX};
use fleeti_core::wire::mqtt::{Down, Up};
use std::time::{Duration, Instant};

const COMMAND: CreateCommand =
    CreateCommand { kind: CommandKind::Report, valid_s: 600, confirm: None };
const TELEMETRY: &[u8] = br#"{"uptime_s":1,"load_milli":1,"memory_used_kib":1,"memory_total_kib":1,"data_used_kib":1,"data_total_kib":1}"#;

/// Connects without Clean Start; also returns whether a session was present.
async fn resume(world: &World, device: &TestDevice, session_expiry_s: u32) -> (Raw, bool) {
    let mut raw = Raw::device(world, device).await;
    raw.send(&connect(device.id.as_str(), false, session_expiry_s)).await;
    let connack = raw.next().await.expect("CONNACK");
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:x?}");
    (raw, connack[2] == 1)
}

async fn subscribed(raw: &mut Raw, device: &TestDevice, kind: Down, qos: u8) {
    raw.send(&subscribe(1, &kind.topic(&device.id), qos)).await;
    assert_eq!(raw.next_of(9).await, [0x90, 4, 0, 1, 0, qos]);
}

/// Checks that nothing precedes the response to a PINGREQ.
async fn is_quiet(raw: &mut Raw) {
    raw.send(&[0xc0, 0]).await;
    assert_eq!(raw.next().await.as_deref(), Some(&[0xd0, 0][..]));
}

#[actix_web::test]
async fn a_stopped_server_says_that_it_stops() {
    let world = World::new().await;
    let device = world.enroll().await;
    let (mut raw, _) = resume(&world, &device, 0).await;
    world.server.stop().await;
    assert_eq!(raw.reason().await, Some(0x8b));
}

/// A device that sends nothing is offline after one and a half times its Keep Alive, although the
/// server sends it messages.
#[actix_web::test]
async fn what_the_server_sends_keeps_no_silent_device_online() {
    let world = World::new().await;
    let device = world.enroll().await;
    let mut raw = Raw::device(&world, &device).await;
    let mut silent = connect(device.id.as_str(), true, 0);
    silent[11] = 1; // Keep Alive of one second
    raw.send(&silent).await;
    assert_eq!(raw.next_of(2).await[3], 0);
    subscribed(&mut raw, &device, Down::Notice, 0).await;
    let (begun, mut tick, mut notices) =
        (Instant::now(), tokio::time::interval(Duration::from_millis(100)), 0);
    loop {
        tokio::select! {
            packet = raw.next() => match packet.expect("a reason").as_slice() {
                [0xe0, _, reason, ..] => {
                    assert_eq!(*reason, 0x8d);
                    break;
                }
                _ => notices += 1,
            },
            _ = tick.tick() => world.server.control.hub.notice_all(),
        }
    }
    assert!(notices > 3, "{notices}");
    assert!((1400..10_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert!(!world.client.device(&device.id).await.unwrap().online);
}

#[actix_web::test]
async fn connack_names_what_this_server_does_not_support() {
    let world = World::new().await;
    let device = world.enroll().await;
    for (keep_alive, server_keep_alive) in
        [(60, None), (0, Some(300_u16)), (300, None), (301, Some(300))]
    {
        let mut raw = Raw::device(&world, &device).await;
        let mut packet = connect(device.id.as_str(), true, 0);
        packet[10..12].copy_from_slice(&u16::to_be_bytes(keep_alive));
        raw.send(&packet).await;
        let connack = raw.next().await.unwrap();
        let mut expected = vec![
            0x21, 0, 16, 0x24, 1, 0x25, 0, 0x27, 0, 1, 4, 0, 0x22, 0, 0, 0x28, 0, 0x29, 0, 0x2a, 0,
        ];
        expected.extend(
            server_keep_alive.into_iter().flat_map(|s| [&[0x13][..], &s.to_be_bytes()].concat()),
        );
        assert_eq!(connack[5..], expected, "{keep_alive}");
    }
}

/// A report with a text that is too long is refused (0x99), and the text is not stored.
#[actix_web::test]
async fn no_text_of_a_device_is_longer_than_it_may_be() {
    let world = World::new().await;
    let device = world.enroll().await;
    let (mut raw, _) = resume(&world, &device, 0).await;
    let report = crate::rollout::report_of("kiosk@1", fleeti_core::update::State::Idle);
    let mut report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    for (id, length, reason) in
        [(1, 60_000, Some(0x99)), (2, TEXT_MAX + 1, Some(0x99)), (3, TEXT_MAX, None)]
    {
        report["alarm"] = "x".repeat(length).into();
        raw.send(&publish(
            2,
            Up::Report.topic(&device.id).as_bytes(),
            Some(id),
            &[],
            report.to_string().as_bytes(),
        ))
        .await;
        assert_eq!(raw.next_of(4).await.get(4).copied(), reason, "{length}");
        let kept = world.client.device(&device.id).await.unwrap().alarm;
        assert_eq!(kept.map(|a| a.len()), reason.is_none().then_some(length));
    }
}

#[actix_web::test]
async fn a_takeover_waits_for_no_peer_that_does_not_read() {
    let world =
        World::with(|c| (c.limits.write_ms, c.limits.messages_burst) = (600_000, u32::MAX)).await;
    let device = world.enroll().await;
    let (mut mute, _) = resume(&world, &device, 0).await;
    // Responses pile up until the server's writes block, and so its reads.
    let ping = [0xc0, 0x00].repeat(4096);
    while tokio::time::timeout(Duration::from_secs(2), mute.send(&ping)).await.is_ok() {}
    let begun = Instant::now();
    let mut new = Peer::session(&world, &device).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    new.is_alive().await;
}

/// The server sends no more unacknowledged messages than the device's Receive Maximum.
#[actix_web::test]
async fn no_more_is_on_its_way_than_the_device_takes() {
    let world = World::new().await;
    let device = world.enroll().await;
    for _ in 0..5 {
        world.client.create_command(&device.id, &COMMAND).await.unwrap();
    }
    let mut raw = Raw::device(&world, &device).await;
    raw.send(&connect_with(device.id.as_str(), 2, &[0x21, 0, 2], &[])).await;
    assert_eq!(raw.next_of(2).await[3], 0);
    subscribed(&mut raw, &device, Down::Command, 1).await;
    let (first, second) = (raw.message().await, raw.message().await);
    is_quiet(&mut raw).await;
    raw.send(&puback(first.id)).await;
    let third = raw.message().await;
    assert!(third.id != second.id && third.payload != first.payload);
    is_quiet(&mut raw).await;
    // QoS 0 does not count.
    raw.send(&subscribe(2, &Down::Notice.topic(&device.id), 0)).await;
    assert_eq!(raw.message().await.qos, 0);
}

/// The server sends no packet above the device's Maximum Packet Size.
#[actix_web::test]
async fn what_is_larger_than_the_device_takes_is_not_sent() {
    let world = World::new().await;
    let device = world.enroll().await;
    let mut raw = Raw::device(&world, &device).await;
    raw.send(&connect_with(device.id.as_str(), 2, &[0x27, 0, 0, 0, 80], &[])).await;
    assert_eq!(raw.next_of(2).await[3], 0);
    for kind in [Down::Desired, Down::Notice] {
        subscribed(&mut raw, &device, kind, 1).await;
    }
    is_quiet(&mut raw).await;
}

#[actix_web::test]
async fn a_session_lasts_as_long_as_it_was_asked_for() {
    let world = World::new().await;
    let (device, clock) = (world.enroll().await, world.enroll().await);
    let (first, present) = resume(&world, &device, 0).await;
    assert!(!present);
    drop(first);
    // With interval 0, the session ended with its connection.
    let (second, present) = resume(&world, &device, 3600).await;
    assert!(!present);
    drop(second);
    let (mut third, present) = resume(&world, &device, 3600).await;
    assert!(present);
    // DISCONNECT may shorten the interval.
    third.send(&[0xe0, 7, 0, 5, 0x11, 0, 0, 0, 0]).await;
    assert_eq!(third.next().await, None);
    let (fourth, present) = resume(&world, &device, 1).await;
    assert!(!present);
    drop(fourth);
    // Another device's timeout, one and a half times its Keep Alive, is longer than the interval.
    let mut silent = Raw::device(&world, &clock).await;
    let mut packet = connect(clock.id.as_str(), true, 0);
    packet[11] = 2;
    silent.send(&packet).await;
    assert_eq!(silent.reason().await, Some(0x8d));
    assert!(!resume(&world, &device, 0).await.1);
}

#[actix_web::test]
async fn clean_start_ends_the_session_that_there_was() {
    let world = World::new().await;
    let device = world.enroll().await;
    let (mut raw, _) = resume(&world, &device, 3600).await;
    subscribed(&mut raw, &device, Down::Command, 1).await;
    let mut clean = Raw::device(&world, &device).await;
    clean.send(&connect(device.id.as_str(), true, 3600)).await;
    assert_eq!(clean.next().await.unwrap()[2..4], [0, 0]);
    drop(clean);
    world.client.create_command(&device.id, &COMMAND).await.unwrap();
    let (mut raw, present) = resume(&world, &device, 3600).await;
    assert!(present);
    is_quiet(&mut raw).await;
}

/// A resumed session has its subscriptions and its unacknowledged messages.
#[actix_web::test]
async fn a_session_goes_on_with_what_it_subscribed_and_with_nothing_else() {
    let world = World::new().await;
    let device = world.enroll().await;
    let (mut raw, _) = resume(&world, &device, 3600).await;
    for kind in [Down::Desired, Down::Command] {
        subscribed(&mut raw, &device, kind, 1).await;
    }
    raw.send(&[&[0xa2][..], &subscribe(3, &Down::Desired.topic(&device.id), 0)[1..]].concat())
        .await;
    assert_eq!(raw.reason().await, Some(0x81), "UNSUBSCRIBE has no options");
    let (mut raw, present) = resume(&world, &device, 3600).await;
    assert!(present);
    let desired = raw.message().await;
    assert!(
        desired.topic.ends_with("desired") && desired.is_duplicate && desired.id == 1,
        "{desired:?}"
    );
    raw.send(&puback(1)).await;
    is_quiet(&mut raw).await;
    let sent = world.client.create_command(&device.id, &COMMAND).await.unwrap();
    let command = raw.message().await;
    assert!(command.topic.ends_with("command") && !command.is_duplicate);
    // Neither acknowledged by MQTT nor answered: sent again as the same message, and after a
    // restart of the server as a new one.
    drop(raw);
    let (mut raw, _) = resume(&world, &device, 3600).await;
    let again = [raw.message().await, raw.message().await];
    assert!(
        again.iter().any(|m| m.is_duplicate && m.id == command.id && m.payload == command.payload),
        "{again:?}"
    );
    assert_eq!(again.iter().filter(|m| m.topic.ends_with("command")).count(), 1);
    drop(raw);
    let World { dir, server, .. } = world;
    server.stop().await;
    let world = World::start(dir, |_| {}).await;
    let (mut raw, present) = resume(&world, &device, 3600).await;
    assert!(present);
    let mut kinds = Vec::new();
    while !kinds.iter().any(|k: &String| k.ends_with("command")) {
        let message = raw.message().await;
        kinds.push(message.topic);
        if kinds.len() == 2 {
            assert!(String::from_utf8(message.payload).unwrap().contains(&sent.id));
        }
    }
    assert!(kinds.iter().all(|k| k.ends_with("desired") || k.ends_with("command")), "{kinds:?}");
}

/// Messages have the QoS that SUBACK granted.
#[actix_web::test]
async fn the_quality_of_service_that_was_granted_is_the_one_that_comes() {
    let world = World::new().await;
    let device = world.enroll().await;
    let (mut raw, _) = resume(&world, &device, 3600).await;
    subscribed(&mut raw, &device, Down::Desired, 0).await;
    let desired = raw.message().await;
    assert_eq!((desired.qos, desired.id, desired.is_duplicate), (0, 0, false));
    // The second subscription replaces the first (MQTT-3.8.4-3).
    subscribed(&mut raw, &device, Down::Command, 0).await;
    subscribed(&mut raw, &device, Down::Command, 1).await;
    world.client.create_command(&device.id, &COMMAND).await.unwrap();
    assert_eq!(raw.message().await.qos, 1);
}

#[actix_web::test]
async fn a_device_beyond_its_quota_waits_and_loses_nothing() {
    let world =
        World::with(|c| (c.limits.messages_burst, c.limits.message_interval_ms) = (5, 100)).await;
    let (device, other) = (world.enroll().await, world.enroll().await);
    let mut bystander = Peer::session(&world, &other).await;
    let (mut raw, _) = resume(&world, &device, 0).await;
    let begun = Instant::now();
    let topic = Up::Telemetry.topic(&device.id);
    let all: Vec<u8> =
        (1..=20).flat_map(|id| publish(2, topic.as_bytes(), Some(id), &[], TELEMETRY)).collect();
    raw.send(&all).await;
    for id in 1..=20 {
        assert_eq!(raw.next_of(4).await, puback(id));
        if id == 6 {
            bystander.is_alive().await;
        }
    }
    assert!(begun.elapsed() >= Duration::from_millis(1400), "{:?}", begun.elapsed());
    // A second connection does not raise the quota.
    let begun = Instant::now();
    let (mut raw, _) = resume(&world, &device, 0).await;
    raw.send(&all).await;
    assert_eq!(raw.next_of(4).await, puback(1));
    assert_eq!(raw.next_of(4).await, puback(2));
    assert_eq!(raw.next_of(4).await, puback(3));
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
}

#[actix_web::test]
async fn a_device_that_sends_garbage_is_ended_and_waits_before_it_is_back() {
    let world = World::with(|c| (c.limits.invalid_messages, c.limits.penalty_ms) = (3, 2000)).await;
    let (device, other) = (world.enroll().await, world.enroll().await);
    let mut bystander = Peer::session(&world, &other).await;
    let (mut raw, _) = resume(&world, &device, 0).await;
    let topic = Up::Report.topic(&device.id);
    let garbage: Vec<u8> =
        (1..=9).flat_map(|id| publish(2, topic.as_bytes(), Some(id), &[], b"\nnot json")).collect();
    raw.send(&garbage).await;
    for id in 1..=3 {
        assert_eq!(raw.next().await.unwrap(), [0x40, 3, 0, id, 0x99]);
    }
    assert_eq!(raw.reason().await, Some(0x99));
    let begun = Instant::now();
    bystander.is_alive().await;
    assert!(!Peer::session_refused(&world, &world.enroll().await).await);
    let (mut raw, _) = resume(&world, &device, 0).await;
    assert!(begun.elapsed() >= Duration::from_millis(1900), "{:?}", begun.elapsed());
    raw.send(&publish(2, Up::Telemetry.topic(&device.id).as_bytes(), Some(1), &[], TELEMETRY))
        .await;
    assert_eq!(raw.next().await.unwrap(), puback(1));
}
