//! The table of [`crate::mqtt_conformance`]: what is sent, and what has to come.

use crate::raw::{connect, connect_with, packet, publish, subscribe, text};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::mqtt::{Down, Up};

/// What was done before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Nothing,
    /// CONNECT with Clean Start, Session Expiry Interval 0, Keep Alive 60.
    Session,
}

/// What has to come; PUBLISH packets on the way are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// With 0x80 and above, followed by the end of the connection.
    Connack {
        code: u8,
        session: bool,
    },
    /// And the end of the connection.
    Disconnect(u8),
    /// These bytes.
    Answer(Vec<u8>),
    /// These bytes, then DISCONNECT.
    Answers(Vec<u8>, u8),
    Message,
    /// The end of the connection, and nothing before.
    Closed,
    /// The end, whatever is said before.
    Ended,
}

pub struct Row {
    pub id: &'static str,
    pub what: &'static str,
    pub after: After,
    pub send: Vec<u8>,
    pub expect: Expect,
    /// `None` where it has other limits than ours.
    pub mosquitto: Option<Expect>,
}

/// What the rows speak of.
pub struct Names {
    id: String,
    up: String,
    down: String,
    other: String,
}

impl Names {
    pub fn of(device: &DeviceId) -> Self {
        Self {
            id: device.to_string(),
            up: Up::Telemetry.topic(device),
            down: Down::Desired.topic(device),
            other: Down::Command.topic(device),
        }
    }
}

/// How mosquitto compares.
#[derive(Clone, Copy)]
enum Peer {
    Same,
    /// It ends the connection, with another reason or none.
    Ends,
    /// It has other limits, or says nothing where it may.
    Apart,
}
use Peer::{Apart, Ends, Same};

const MALFORMED: u8 = 0x81;
const PROTOCOL: u8 = 0x82;

pub fn rows(names: &Names) -> Vec<Row> {
    [before(names), flags_and_numbers(names), publishes(names), subscriptions(names), others(names)]
        .into_iter()
        .flatten()
        .collect()
}

/// Id, what it is about, what is sent, and how mosquitto compares.
type What = (&'static str, &'static str, Vec<u8>, Peer);

fn row(after: After, (id, what, send, peer): What, expect: Expect) -> Row {
    let mosquitto = match peer {
        Same => Some(expect.clone()),
        Ends => Some(Expect::Ended),
        Apart => None,
    };
    Row { id, what, after, send, expect, mosquitto }
}

/// CONNECT, refused with a code.
fn before(n: &Names) -> Vec<Row> {
    let with =
        |flags, properties: &[u8], behind: &[u8]| connect_with(&n.id, flags, properties, behind);
    let will = |topic: &str| [&[0][..], &text(topic), &text("x")].concat();
    let other =
        |name: &str, level| packet(0x10, &[&text(name), &[level, 2, 0, 60, 0], &text(&n.id)]);
    let refused: Vec<(u8, What)> = vec![
        (0x84, ("3.1.2-1", "another protocol", other("MQIsdp", 5), Ends)),
        (0x84, ("3.1.2-2", "MQTT 3.1.1", other("MQTT", 4), Apart)),
        (0x84, ("3.1.2-2", "a version to come", other("MQTT", 6), Ends)),
        (MALFORMED, ("3.1.2-3", "the reserved flag", with(0x03, &[], &[]), Ends)),
        (MALFORMED, ("3.1.2-11", "will QoS without a will", with(0x0a, &[], &[]), Ends)),
        (MALFORMED, ("3.1.2-12", "will QoS 3", with(0x1e, &[], &will("t")), Ends)),
        (MALFORMED, ("3.1.2-13", "will RETAIN without a will", with(0x22, &[], &[]), Ends)),
        (MALFORMED, ("3.1.2-9", "a will that is not there", with(0x06, &[], &[]), Ends)),
        (MALFORMED, ("3.1.2-17", "a user name that is not there", with(0x82, &[], &[]), Ends)),
        (MALFORMED, ("3.1.2-19", "a password that is not there", with(0x42, &[], &[]), Ends)),
        (
            MALFORMED,
            ("3.1.2-16", "a user name that is not announced", with(0x02, &[], &text("me")), Apart),
        ),
        (0x87, ("3.1.2-7", "a will, which is not offered", with(0x06, &[], &will(&n.up)), Apart)),
        (0x9b, ("3.2.2-12", "a will of QoS 2", with(0x16, &[], &will(&n.up)), Apart)),
        (0x9a, ("3.2.2-13", "a retained will", with(0x26, &[], &will(&n.up)), Apart)),
        (
            MALFORMED,
            (
                "3.1.3-11",
                "a will topic that is not UTF-8",
                with(0x06, &[], &[&[0][..], &text([0xff_u8]), &text("x")].concat()),
                Ends,
            ),
        ),
        (PROTOCOL, ("3.1.2.11.3", "Receive Maximum 0", with(2, &[0x21, 0, 0], &[]), Ends)),
        (
            PROTOCOL,
            ("3.1.2.11.3", "Receive Maximum twice", with(2, &[0x21, 0, 9, 0x21, 0, 9], &[]), Ends),
        ),
        (
            PROTOCOL,
            ("3.1.2.11.4", "Maximum Packet Size 0", with(2, &[0x27, 0, 0, 0, 0], &[]), Ends),
        ),
        (
            PROTOCOL,
            (
                "3.1.2.11.2",
                "Session Expiry twice",
                with(2, &[0x11, 0, 0, 0, 9, 0x11, 0, 0, 0, 9], &[]),
                Ends,
            ),
        ),
        (
            PROTOCOL,
            ("3.1.2.11.6", "Request Response Information 2", with(2, &[0x19, 2], &[]), Apart),
        ),
        (
            PROTOCOL,
            ("3.1.2.11.7", "Request Problem Information 2", with(2, &[0x17, 2], &[]), Apart),
        ),
        (
            PROTOCOL,
            ("3.1.2.11.10", "authentication data alone", with(2, &[0x16, 0, 1, 9], &[]), Apart),
        ),
        (0x8c, ("4.12.0-1", "an authentication method", with(2, &[0x15, 0, 1, b'x'], &[]), Ends)),
        (MALFORMED, ("2.2.2.2", "a property of PUBLISH", with(2, &[0x23, 0, 1], &[]), Ends)),
        (MALFORMED, ("2.2.2.2", "a property that there is not", with(2, &[0x7e, 0], &[]), Ends)),
        (MALFORMED, ("2.2.2.2", "a property that is cut off", with(2, &[0x27, 0, 0], &[]), Ends)),
        (
            MALFORMED,
            (
                "1.5.7-1",
                "a user property with U+0000",
                with(2, &[0x26, 0, 1, 0, 0, 1, b'v'], &[]),
                Ends,
            ),
        ),
        (
            MALFORMED,
            ("1.5.4-2", "a client identifier with U+0000", connect_with("a\0b", 2, &[], &[]), Ends),
        ),
        (
            MALFORMED,
            (
                "3.1.3-4",
                "a client identifier that is not UTF-8",
                packet(0x10, &[&text("MQTT"), &[5, 2, 0, 60, 0, 0, 1, 0xff]]),
                Ends,
            ),
        ),
        (
            MALFORMED,
            (
                "3.1.3-3",
                "no client identifier",
                packet(0x10, &[&text("MQTT"), &[5, 2, 0, 60, 0]]),
                Ends,
            ),
        ),
        (MALFORMED, ("3.1.3-1", "bytes behind the packet", with(2, &[], &[7]), Apart)),
        (
            0x85,
            (
                "3.1.3-8",
                "the client identifier of another",
                connect_with("dev-another", 2, &[], &[]),
                Apart,
            ),
        ),
        (
            0x85,
            ("3.1.3-6", "no client identifier is assigned", connect_with("", 2, &[], &[]), Apart),
        ),
        (
            0x85,
            (
                "1.5.4-3",
                "U+FEFF is part of a text",
                connect_with(&format!("\u{feff}{}", n.id), 2, &[], &[]),
                Apart,
            ),
        ),
        (0x95, ("3.2.2-15", "a CONNECT of 256 MiB", vec![0x10, 0xff, 0xff, 0xff, 0x7f], Apart)),
        (
            MALFORMED,
            ("1.5.5-1", "a length with more bytes than it needs", vec![0x10, 0x85, 0x00], Apart),
        ),
    ];
    let mut rows: Vec<_> = refused
        .into_iter()
        .map(|(code, what)| row(After::Nothing, what, Expect::Connack { code, session: false }))
        .collect();
    let accepted = Expect::Connack { code: 0, session: false };
    for what in [
        ("3.1.2-4", "Clean Start", connect(&n.id, true, 0), Same),
        ("3.1.2-6", "no session to take up", connect(&n.id, false, 0), Same),
        (
            "3.1.2-17",
            "a user name and a password",
            with(0xc2, &[], &[text("me"), text("secret")].concat()),
            Same,
        ),
        (
            "3.1.2.11.8",
            "user properties twice",
            with(2, &[0x26, 0, 1, b'a', 0, 0, 0x26, 0, 1, b'a', 0, 0], &[]),
            Same,
        ),
    ] {
        rows.push(row(After::Nothing, what, accepted.clone()));
    }
    for what in [
        ("3.1.0-1", "PINGREQ comes first", vec![0xc0, 0], Same),
        ("3.1.0-1", "PUBLISH comes first", publish(0, n.up.as_bytes(), None, &[], b"{}"), Same),
        ("3.1.0-1", "CONNECT with reserved flags is none", vec![0x11, 0], Same),
    ] {
        rows.push(row(After::Nothing, what, Expect::Closed));
    }
    rows
}

fn ended(rows: Vec<(u8, What)>) -> impl Iterator<Item = Row> {
    rows.into_iter().map(|(code, what)| row(After::Session, what, Expect::Disconnect(code)))
}

fn flags_and_numbers(n: &Names) -> Vec<Row> {
    ended(vec![
        (PROTOCOL, ("3.1.0-2", "a second CONNECT", connect(&n.id, true, 0), Ends)),
        (MALFORMED, ("2.1.2", "packet type 0", vec![0x00, 0], Ends)),
        (MALFORMED, ("2.1.3-1", "PINGREQ with a flag", vec![0xc1, 0], Apart)),
        (MALFORMED, ("2.1.3-1", "PUBACK with a flag", vec![0x41, 2, 0, 1], Apart)),
        (
            MALFORMED,
            (
                "3.8.1-1",
                "SUBSCRIBE without its flag",
                [&[0x80][..], &subscribe(5, &n.down, 0)[1..]].concat(),
                Ends,
            ),
        ),
        (
            MALFORMED,
            ("3.10.1-1", "UNSUBSCRIBE without its flag", vec![0xa0, 6, 0, 1, 0, 0, 1, b't'], Ends),
        ),
        (MALFORMED, ("3.14.1-1", "DISCONNECT with a flag", vec![0xe1, 0], Ends)),
        (MALFORMED, ("3.6.1-1", "PUBREL without its flag", vec![0x60, 2, 0, 1], Ends)),
        (
            MALFORMED,
            ("1.5.5", "a length of five bytes", vec![0x30, 0xff, 0xff, 0xff, 0xff, 1], Ends),
        ),
        (
            MALFORMED,
            ("1.5.5-1", "a length with more bytes than it needs", vec![0xc0, 0x80, 0], Apart),
        ),
        (
            MALFORMED,
            (
                "1.5.5-1",
                "a property length likewise",
                packet(0x30, &[&text(&n.up), &[0x80, 0]]),
                Apart,
            ),
        ),
        (
            0x95,
            (
                "3.2.2-15",
                "a packet above our Maximum Packet Size",
                vec![0x30, 0x81, 0x88, 0x04],
                Apart,
            ),
        ),
        (0x95, ("3.2.2-15", "a packet of 256 MiB", vec![0x30, 0xff, 0xff, 0xff, 0x7f], Apart)),
        (MALFORMED, ("3.12.2", "PINGREQ with a payload", vec![0xc0, 1, 0], Apart)),
        (PROTOCOL, ("2.1.2", "CONNACK from a client", vec![0x20, 3, 0, 0, 0], Ends)),
        (PROTOCOL, ("2.1.2", "SUBACK from a client", vec![0x90, 4, 0, 1, 0, 0], Apart)),
        (PROTOCOL, ("2.1.2", "UNSUBACK from a client", vec![0xb0, 4, 0, 1, 0, 0], Apart)),
        (PROTOCOL, ("2.1.2", "PINGRESP from a client", vec![0xd0, 0], Apart)),
        (PROTOCOL, ("4.12.0-6", "AUTH without a method", vec![0xf0, 0], Ends)),
        (PROTOCOL, ("4.12.0-6", "AUTH with a reason", vec![0xf0, 2, 0x18, 0], Ends)),
    ])
    .collect()
}

fn publishes(n: &Names) -> Vec<Row> {
    let with = |flags, topic: &str, id, properties: &[u8]| {
        publish(flags, topic.as_bytes(), id, properties, b"{}")
    };
    let mut rows: Vec<_> = ended(vec![
        (MALFORMED, ("3.3.1-4", "QoS 3", with(6, &n.up, Some(1), &[]), Ends)),
        (MALFORMED, ("3.3.1-2", "DUP with QoS 0", with(8, &n.up, None, &[]), Apart)),
        (PROTOCOL, ("2.2.1-3", "packet identifier 0", with(2, &n.up, Some(0), &[]), Ends)),
        (
            MALFORMED,
            (
                "2.2.1-2",
                "a packet that ends before its identifier",
                packet(0x32, &[&text(&n.up)]),
                Ends,
            ),
        ),
        (0x9b, ("3.2.2-11", "QoS 2, which CONNACK rules out", with(4, &n.up, Some(1), &[]), Apart)),
        (0x9a, ("3.2.2-14", "RETAIN, which CONNACK rules out", with(1, &n.up, None, &[]), Apart)),
        (MALFORMED, ("3.3.2-2", "`#` in a topic name", with(0, "fleeti/#", None, &[]), Ends)),
        (MALFORMED, ("3.3.2-2", "`+` in a topic name", with(0, "fleeti/+/up", None, &[]), Ends)),
        (
            MALFORMED,
            (
                "3.3.2-1",
                "a topic that is not UTF-8",
                publish(0, &[b'a', 0xff], None, &[], b""),
                Ends,
            ),
        ),
        (
            MALFORMED,
            (
                "1.5.4-1",
                "a topic with a surrogate",
                publish(0, &[0xed, 0xa0, 0x80], None, &[], b""),
                Ends,
            ),
        ),
        (MALFORMED, ("4.7.3-2", "a topic with U+0000", with(0, "a\0b", None, &[]), Ends)),
        (PROTOCOL, ("4.7.3-1", "an empty topic without an alias", with(0, "", None, &[]), Ends)),
        (0x94, ("3.3.2-8", "topic alias 0", with(0, &n.up, None, &[0x23, 0, 0]), Ends)),
        (
            0x94,
            (
                "3.3.2-9",
                "a topic alias above our maximum",
                with(0, &n.up, None, &[0x23, 0, 1]),
                Apart,
            ),
        ),
        (0x94, ("3.3.2-9", "an alias instead of a topic", with(0, "", None, &[0x23, 0, 1]), Apart)),
        (
            PROTOCOL,
            (
                "3.3.2-14",
                "a wildcard in the response topic",
                with(0, &n.up, None, &[0x08, 0, 1, b'#']),
                Apart,
            ),
        ),
        (
            MALFORMED,
            (
                "3.3.2-13",
                "a response topic that is not UTF-8",
                with(0, &n.up, None, &[0x08, 0, 1, 0xff]),
                Ends,
            ),
        ),
        (
            MALFORMED,
            (
                "3.3.2-19",
                "a content type that is not UTF-8",
                with(0, &n.up, None, &[0x03, 0, 1, 0xff]),
                Ends,
            ),
        ),
        (
            PROTOCOL,
            (
                "3.3.4-6",
                "a subscription identifier from a client",
                with(0, &n.up, None, &[0x0b, 1]),
                Apart,
            ),
        ),
        (
            0x99,
            (
                "3.3.2-4",
                "a payload that is not the UTF-8 it is said to be",
                publish(0, n.up.as_bytes(), None, &[1, 1], &[0xff]),
                Apart,
            ),
        ),
        (
            PROTOCOL,
            ("3.3.2.3.2", "Payload Format Indicator 2", with(0, &n.up, None, &[1, 2]), Apart),
        ),
        (
            PROTOCOL,
            (
                "3.3.2.3.3",
                "Message Expiry twice",
                with(0, &n.up, None, &[2, 0, 0, 0, 9, 2, 0, 0, 0, 9]),
                Ends,
            ),
        ),
        (
            MALFORMED,
            ("2.2.2.2", "a property of CONNECT", with(0, &n.up, None, &[0x21, 0, 9]), Ends),
        ),
        (
            MALFORMED,
            (
                "2.2.2.2",
                "properties longer than the packet",
                packet(0x30, &[&text(&n.up), &[9, 2, 0]]),
                Ends,
            ),
        ),
        (
            MALFORMED,
            (
                "1.5.7-1",
                "a user property that is not UTF-8",
                with(0, &n.up, None, &[0x26, 0, 1, b'a', 0, 1, 0xff]),
                Ends,
            ),
        ),
        (
            0x87,
            (
                "3.3.5-2",
                "a topic of another device",
                with(0, "fleeti/v1/dev-x/up/report", None, &[]),
                Apart,
            ),
        ),
        (
            0x87,
            (
                "1.5.4-3",
                "U+FEFF is part of a text",
                with(0, &format!("\u{feff}{}", n.up), None, &[]),
                Apart,
            ),
        ),
    ])
    .collect();
    let puback = |id: u16, reason: &[u8]| packet(0x40, &[&id.to_be_bytes(), reason]);
    for (what, expect) in [
        (
            (
                "4.3.2-4",
                "a payload that is not understood is answered with its identifier",
                with(2, &n.up, Some(7), &[]),
                Apart,
            ),
            puback(7, &[0x99]),
        ),
        (
            ("3.3.1-1", "DUP with QoS 1", with(10, &n.up, Some(0x0102), &[]), Apart),
            puback(0x0102, &[0x99]),
        ),
        (("2.2.1-5", "QoS 1", with(2, &n.up, Some(0xffff), &[]), Same), puback(0xffff, &[0x10])),
    ] {
        let expect = Expect::Answer(expect);
        let ours = if what.0 == "2.2.1-5" {
            Expect::Answer(puback(0xffff, &[0x99]))
        } else {
            expect.clone()
        };
        rows.push(Row { expect: ours, ..row(After::Session, what, expect) });
    }
    rows
}

fn subscriptions(n: &Names) -> Vec<Row> {
    let mut rows: Vec<_> = ended(vec![
        (PROTOCOL, ("3.8.3-2", "no filter", vec![0x82, 3, 0, 1, 0], Ends)),
        (PROTOCOL, ("2.2.1-3", "packet identifier 0", subscribe(0, &n.down, 0), Ends)),
        (MALFORMED, ("3.8.3-5", "reserved options", subscribe(1, &n.down, 0x41), Ends)),
        (PROTOCOL, ("3.8.3.1", "QoS 3", subscribe(1, &n.down, 3), Ends)),
        (PROTOCOL, ("3.8.3.1", "Retain Handling 3", subscribe(1, &n.down, 0x30), Ends)),
        (
            PROTOCOL,
            (
                "3.8.3-4",
                "No Local with a shared subscription",
                subscribe(1, "$share/g/t", 4),
                Apart,
            ),
        ),
        (
            PROTOCOL,
            (
                "3.8.2.1.2",
                "subscription identifier 0",
                packet(0x82, &[&[0, 1, 2, 0x0b, 0], &text(&n.down), &[0]]),
                Ends,
            ),
        ),
        (
            0xa1,
            (
                "3.2.2.3.12",
                "a subscription identifier",
                packet(0x82, &[&[0, 1, 2, 0x0b, 5], &text(&n.down), &[0]]),
                Apart,
            ),
        ),
        (
            0x9e,
            (
                "3.2.2.3.13",
                "a shared subscription",
                subscribe(1, &format!("$share/g/{}", n.down), 1),
                Apart,
            ),
        ),
        (0xa2, ("3.2.2.3.11", "a wildcard", subscribe(1, "fleeti/#", 1), Apart)),
        (
            0xa2,
            (
                "3.2.2.3.11",
                "a wildcard of one level",
                subscribe(1, "fleeti/v1/+/down/desired", 1),
                Apart,
            ),
        ),
        (MALFORMED, ("4.7.1-1", "`#` before the end", subscribe(1, "a/#/b", 0), Ends)),
        (MALFORMED, ("4.7.1-1", "`#` within a level", subscribe(1, "a/b#", 0), Ends)),
        (MALFORMED, ("4.7.1-2", "`+` within a level", subscribe(1, "a+/b", 0), Ends)),
        (MALFORMED, ("4.7.3-1", "an empty filter", subscribe(1, "", 0), Ends)),
        (MALFORMED, ("4.7.3-2", "a filter with U+0000", subscribe(1, "a\0", 0), Ends)),
        (
            MALFORMED,
            (
                "3.8.3-1",
                "a filter that is not UTF-8",
                packet(0x82, &[&[0, 1, 0, 0, 1, 0xff, 0]]),
                Ends,
            ),
        ),
        (MALFORMED, ("4.8.2-1", "no share name", subscribe(1, "$share//t", 0), Apart)),
        (
            MALFORMED,
            ("4.8.2-2", "a share name with a wildcard", subscribe(1, "$share/a+/t", 0), Ends),
        ),
        (
            MALFORMED,
            (
                "3.8.3",
                "a filter without options",
                packet(0x82, &[&[0, 1, 0], &text(&n.down)]),
                Ends,
            ),
        ),
        (
            MALFORMED,
            (
                "2.2.2.2",
                "a property of PUBLISH",
                packet(0x82, &[&[0, 1, 2, 1, 1], &text(&n.down), &[0]]),
                Ends,
            ),
        ),
        (PROTOCOL, ("3.10.3-2", "UNSUBSCRIBE without a filter", vec![0xa2, 3, 0, 1, 0], Ends)),
        (
            PROTOCOL,
            (
                "2.2.1-3",
                "UNSUBSCRIBE with identifier 0",
                packet(0xa2, &[&[0, 0, 0], &text(&n.down)]),
                Ends,
            ),
        ),
        (
            MALFORMED,
            (
                "3.10.3-1",
                "UNSUBSCRIBE of what is not UTF-8",
                packet(0xa2, &[&[0, 1, 0, 0, 1, 0xff]]),
                Ends,
            ),
        ),
        (
            MALFORMED,
            (
                "2.2.2.2",
                "UNSUBSCRIBE with a subscription identifier",
                packet(0xa2, &[&[0, 1, 2, 0x0b, 1], &text(&n.down)]),
                Ends,
            ),
        ),
    ])
    .collect();
    let two = packet(0x82, &[&[1, 2, 0], &text(&n.down), &[0], &text(&n.other), &[1]]);
    let unknown = packet(0xa2, &[&[3, 4, 0], &text(&n.down), &text(&n.other)]);
    for (what, expect) in [
        (
            ("3.9.3-2", "a code for each filter in its order, QoS as asked", two, Same),
            vec![0x90, 5, 1, 2, 0, 0, 1],
        ),
        (
            ("3.8.4-8", "QoS 2 is granted as QoS 1", subscribe(9, &n.down, 2), Apart),
            vec![0x90, 4, 0, 9, 0, 1],
        ),
        (
            ("3.8.4-6", "options that change nothing here", subscribe(9, &n.down, 0x2d), Same),
            vec![0x90, 4, 0, 9, 0, 1],
        ),
        (
            (
                "3.8.4-1",
                "what this server does not know",
                subscribe(9, &format!("{}x", n.down), 1),
                Apart,
            ),
            vec![0x90, 4, 0, 9, 0, 0x87],
        ),
        (
            ("3.11.3-2", "a code for each filter that was not subscribed", unknown, Same),
            vec![0xb0, 5, 3, 4, 0, 0x11, 0x11],
        ),
    ] {
        rows.push(row(After::Session, what, Expect::Answer(expect)));
    }
    let foreign = (
        "3.9.3",
        "a filter of another device",
        subscribe(9, "fleeti/v1/dev-x/down/command", 1),
        Apart,
    );
    rows.push(row(After::Session, foreign, Expect::Answers(vec![0x90, 4, 0, 9, 0, 0x87], 0x87)));
    let delivered = ("3.8.4-4", "what is subscribed comes", subscribe(9, &n.down, 1), Apart);
    rows.push(row(After::Session, delivered, Expect::Message));
    rows
}

fn others(_: &Names) -> Vec<Row> {
    let mut rows: Vec<_> = ended(vec![
        (PROTOCOL, ("2.2.1-5", "PUBACK of nothing", vec![0x40, 2, 3, 0xe7], Apart)),
        (PROTOCOL, ("2.2.1-3", "PUBACK with identifier 0", vec![0x40, 2, 0, 0], Ends)),
        (
            PROTOCOL,
            (
                "3.4.2-1",
                "PUBACK with a reason that it does not have",
                vec![0x40, 3, 0, 1, 0x01],
                Apart,
            ),
        ),
        (MALFORMED, ("3.4.2.1", "PUBACK of one byte", vec![0x40, 1, 0], Ends)),
        (PROTOCOL, ("3.5", "PUBREC, where no QoS 2 is sent", vec![0x50, 2, 0, 1], Apart)),
        (PROTOCOL, ("3.6", "PUBREL, where no QoS 2 is taken", vec![0x62, 2, 0, 1], Apart)),
        (PROTOCOL, ("3.7", "PUBCOMP, where no QoS 2 is taken", vec![0x70, 2, 0, 1], Apart)),
        (PROTOCOL, ("3.14.2-1", "DISCONNECT with a reason of servers", vec![0xe0, 1, 0x8e], Ends)),
        (
            PROTOCOL,
            (
                "3.14.2-1",
                "DISCONNECT with a reason that it does not have",
                vec![0xe0, 2, 1, 0],
                Ends,
            ),
        ),
        (
            PROTOCOL,
            (
                "3.14.2.2.5",
                "DISCONNECT with a server reference",
                vec![0xe0, 6, 0, 4, 0x1c, 0, 1, b'x'],
                Ends,
            ),
        ),
        (
            PROTOCOL,
            (
                "3.14.2.2.2",
                "DISCONNECT keeps a session that was to end",
                vec![0xe0, 7, 0, 5, 0x11, 0, 0, 0, 9],
                Ends,
            ),
        ),
        (MALFORMED, ("3.14.2.2.1", "bytes behind DISCONNECT", vec![0xe0, 3, 0, 0, 7], Apart)),
        (
            MALFORMED,
            (
                "3.14.2-3",
                "DISCONNECT with a reason that is not UTF-8",
                vec![0xe0, 6, 0, 4, 0x1f, 0, 1, 0xff],
                Ends,
            ),
        ),
    ])
    .collect();
    rows.push(row(
        After::Session,
        ("3.12.4-1", "PINGREQ", vec![0xc0, 0], Same),
        Expect::Answer(vec![0xd0, 0]),
    ));
    for what in [
        ("3.14.4-1", "DISCONNECT without a reason", vec![0xe0, 0], Same),
        ("3.14.2.1", "DISCONNECT with a reason alone", vec![0xe0, 1, 0], Same),
        ("3.14.2.2.1", "DISCONNECT with no properties", vec![0xe0, 2, 0, 0], Same),
        ("3.14.2.1", "DISCONNECT with the will", vec![0xe0, 2, 4, 0], Same),
        ("3.14.4-1", "nothing is taken behind DISCONNECT", vec![0xe0, 0, 0xc0, 0], Same),
        ("3.14.2.2.3", "DISCONNECT with words", vec![0xe0, 6, 0, 4, 0x1f, 0, 1, b'x'], Same),
    ] {
        rows.push(row(After::Session, what, Expect::Closed));
    }
    rows
}
