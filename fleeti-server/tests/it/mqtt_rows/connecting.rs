//! CONNECT, and packets before it.

use super::Peer::{Apart, Ends, Same};
use super::{After, Expect, MALFORMED, Names, PROTOCOL, Row, What, row};
use crate::raw::{connect, connect_with, packet, publish, text};

/// CONNECT packets that are refused with a code.
pub(super) fn before(n: &Names) -> Vec<Row> {
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
