//! SUBSCRIBE and UNSUBSCRIBE.

use super::Peer::{Apart, Ends, Same};
use super::{After, Expect, MALFORMED, Names, PROTOCOL, Row, ended, row};
use crate::raw::{packet, subscribe, text};

pub(super) fn subscriptions(n: &Names) -> Vec<Row> {
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
