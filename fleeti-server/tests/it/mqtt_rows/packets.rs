//! Fixed headers, and packets that neither publish nor subscribe.

use super::Peer::{Apart, Ends, Same};
use super::{After, Expect, MALFORMED, Names, PROTOCOL, Row, ended, row};
use crate::raw::{connect, packet, subscribe, text};

pub(super) fn flags_and_numbers(n: &Names) -> Vec<Row> {
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

pub(super) fn others(_: &Names) -> Vec<Row> {
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
