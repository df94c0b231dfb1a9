//! Each row has the bytes of a packet and the expected result.

use super::*;
use proptest::prelude::*;

fn reason(bytes: &[u8]) -> Result<(), Reason> {
    let length = frame(bytes, 65 * 1024).map_err(|r| r.reason)?.expect("a whole packet");
    assert_eq!(length, bytes.len());
    read(bytes).map(drop).map_err(|r| r.reason)
}

/// A packet with its correct length.
fn packet(first: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let mut out = vec![first];
    let mut rest = body.len();
    while rest > 0x7f {
        out.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap());
    out.extend(body);
    out
}

const START: &[u8] = &[0, 4, b'M', b'Q', b'T', b'T', 5];

#[test]
fn what_mqtt_allows_is_read() {
    let connect = packet(
        0x10,
        &[
            START,
            &[
                0xc6, 0, 30, 5, 0x11, 0, 0, 0, 9, 0, 1, b'd', 0, 0, 1, b't', 0, 1, 0xff, 0, 1,
                b'u', 0, 1, 0,
            ],
        ],
    );
    let Ok(Packet::Connect(read)) = read(&connect) else { panic!() };
    assert_eq!(
        (read.client_id, read.clean_start, read.keep_alive_s, read.session_expiry_s),
        ("d", true, 30, 9)
    );
    assert_eq!(
        (read.receive_max, read.packet_max, read.will),
        (u16::MAX, None, Some(Will { topic: "t", qos: 0, retain: false }))
    );
    for bytes in [
        &[0xe0, 0][..],
        &[0xe0, 1, 0],
        &[0xe0, 1, 4],
        &[0xe0, 2, 0, 0],
        &[0xe0, 7, 0, 5, 0x11, 0, 0, 0, 1],
        &[0x40, 2, 0, 1],
        &[0x40, 3, 0, 1, 0x10],
        &[0x40, 4, 0, 1, 0, 0],
        &[0x30, 4, 0, 1, b't', 0],
        &[0x3b, 6, 0, 1, b't', 0, 1, 0],
        &[0x30, 6, 0, 3, 0xef, 0xbb, 0xbf, 0],
        &[0x82, 7, 0, 1, 0, 0, 1, b'#', 0x2e],
        &[0xa2, 6, 0, 1, 0, 0, 1, b't'],
    ] {
        assert_eq!(reason(bytes), Ok(()), "{bytes:x?}");
    }
}

#[test]
fn what_mqtt_forbids_is_refused_with_its_reason() {
    use Reason::{
        MalformedPacket as Malformed, PacketTooLarge, ProtocolError as Protocol, TopicAliasInvalid,
        UnsupportedProtocolVersion,
    };
    for (bytes, expected) in [
        (&[0x00, 0][..], Malformed),
        (&[0xc1, 0], Malformed),
        (&[0x80, 7, 0, 1, 0, 0, 1, b't', 0], Malformed),
        (&[0x36, 0], Malformed),
        (&[0x38, 0], Malformed),
        (&[0xf0, 0], Protocol),
        (&[0x20, 0], Protocol),
        (&[0x62, 2, 0, 1], Protocol),
        (&[0x30, 0xff, 0xff, 0xff, 0xff], Malformed),
        (&[0x30, 0xff, 0xff, 0xff, 0x7f], PacketTooLarge),
        (&[0xc0, 0x80, 0x00], Malformed),
        (&[0xc0, 1, 0], Malformed),
        (&[0x40, 2, 0, 0], Protocol),
        (&[0x40, 1, 0], Malformed),
        (&[0x40, 3, 0, 1, 1], Protocol),
        (&[0x30, 3, 0, 0, 0], Protocol),
        (&[0x30, 4, 0, 1, b'#', 0], Malformed),
        (&[0x30, 4, 0, 1, 0, 0], Malformed),
        (&[0x30, 6, 0, 3, 0xed, 0xa0, 0x80, 0], Malformed),
        (&[0x32, 6, 0, 1, b't', 0, 0, 0], Protocol),
        (&[0x30, 7, 0, 1, b't', 3, 0x23, 0, 1], TopicAliasInvalid),
        (&[0x30, 7, 0, 1, b't', 3, 0x23, 0, 0], TopicAliasInvalid),
        (&[0x30, 6, 0, 1, b't', 2, 0x0b, 1], Protocol),
        (&[0x30, 7, 0, 1, b't', 2, 0x01, 1, 0xff], Reason::PayloadFormatInvalid),
        (&[0x30, 6, 0, 1, b't', 2, 0x01, 2], Protocol),
        (&[0x30, 8, 0, 1, b't', 4, 0x01, 1, 0x01, 1], Protocol),
        (&[0x30, 6, 0, 1, b't', 2, 0x11, 1], Malformed),
        (&[0x82, 3, 0, 1, 0], Protocol),
        (&[0x82, 7, 0, 0, 0, 0, 1, b't', 0], Protocol),
        (&[0x82, 7, 0, 1, 0, 0, 1, b't', 0x43], Malformed),
        (&[0x82, 7, 0, 1, 0, 0, 1, b't', 3], Protocol),
        (&[0x82, 7, 0, 1, 0, 0, 1, b't', 0x30], Protocol),
        (&[0x82, 9, 0, 1, 2, 0x0b, 0, 0, 1, b't', 0], Protocol),
        (&[0x82, 8, 0, 1, 0, 0, 2, b't', b'#', 0], Malformed),
        (&[0x82, 6, 0, 1, 0, 0, 0, 0], Malformed),
        (&[0xa2, 3, 0, 1, 0], Protocol),
        (&[0xe0, 1, 1], Protocol),
        (&[0xe1, 0], Malformed),
    ] {
        assert_eq!(reason(bytes), Err(expected), "{bytes:x?}");
    }
    let connects: [(&[u8], Reason); 9] = [
        (&[0x03, 0, 0, 0, 0, 0], Malformed),
        (&[0x08, 0, 0, 0, 0, 0], Malformed),
        (&[0x20, 0, 0, 0, 0, 0], Malformed),
        (&[0x1c, 0, 0, 0, 0, 0], Malformed),
        (&[0, 0, 0, 3, 0x21, 0, 0, 0, 0], Protocol),
        (&[0, 0, 0, 5, 0x27, 0, 0, 0, 0, 0, 0], Protocol),
        (&[0, 0, 0, 3, 0x16, 0, 0, 0, 0], Protocol),
        (&[0, 0, 0, 0, 0, 0, 1], Malformed),
        (&[0x80, 0, 0, 0, 0, 0], Malformed),
    ];
    for (rest, expected) in connects {
        assert_eq!(reason(&packet(0x10, &[START, rest])), Err(expected), "{rest:x?}");
    }
    assert_eq!(
        reason(&packet(0x10, &[&[0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 0]])),
        Err(UnsupportedProtocolVersion)
    );
    assert_eq!(
        reason(&packet(0x10, &[&[0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, 2, 0, 0, 0, 0]])),
        Err(UnsupportedProtocolVersion)
    );
}

#[test]
fn the_rest_of_a_packet_is_waited_for() {
    let whole = packet(0x32, &[&[0, 1, b't', 0, 7, 0], &[0; 300]]);
    for length in 0..whole.len() {
        assert_eq!(frame(&whole[..length], 1024), Ok(None), "{length}");
    }
    assert_eq!(frame(&[whole.clone(), whole.clone()].concat(), 1024), Ok(Some(whole.len())));
    assert_eq!(frame(&whole, whole.len() - 1).unwrap_err().reason, Reason::PacketTooLarge);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some(length)) = frame(&bytes, 150) {
            prop_assert!(length <= bytes.len().min(150));
            drop(read(&bytes[..length]));
        }
        drop(read(&bytes));
    }

    #[test]
    fn what_is_written_is_read(topic in "[a-z/]{1,20}", id in 1_u16.., duplicate: bool, payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = write::publish(&topic, Some(id), duplicate, &payload);
        let expected = Publish { topic: &topic, qos: 1, id, is_duplicate: duplicate, retain: false, payload: &payload };
        prop_assert_eq!(frame(&bytes, 1024), Ok(Some(bytes.len())));
        prop_assert_eq!(read(&bytes), Ok(Packet::Publish(expected)));
        let bytes = write::publish(&topic, None, duplicate, &payload);
        prop_assert_eq!(read(&bytes), Ok(Packet::Publish(Publish { qos: 0, id: 0, is_duplicate: false, ..expected })));
    }
}
