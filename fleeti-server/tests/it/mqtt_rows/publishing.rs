//! PUBLISH.

use super::Peer::{Apart, Ends, Same};
use super::{After, Expect, MALFORMED, Names, PROTOCOL, Row, ended, row};
use crate::raw::{packet, publish, text};

pub(super) fn publishes(n: &Names) -> Vec<Row> {
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
