//! The form of logs, and their text: each limit and each field by itself.

use crate::attester::{DATA, Pieces, boot, meaning};
use crate::crafted::{ACTION, IPL, event_of};
use fleeti_core::canonical::sha256_hex;
use fleeti_pki::measured::explained;
use fleeti_pki::measured::log::FirmwareLog;
use fleeti_pki::measured::phases::{self, Measurement};
use fleeti_pki::tpm::Hash;
use fleeti_testkit::tpm::phases_log;
use std::collections::BTreeMap;

const SHA_256: (u16, u16) = (0x000b, 32);
const SHA_384: (u16, u16) = (0x000c, 48);

/// A first event, and bytes after it.
pub fn header(banks: &[(u16, u16)], behind: &[u8]) -> Vec<u8> {
    let count = u32::try_from(banks.len()).unwrap().to_le_bytes();
    let banks: Vec<u8> = banks
        .iter()
        .flat_map(|(id, length)| [id.to_le_bytes(), length.to_le_bytes()].concat())
        .collect();
    let inner =
        [&b"Spec ID Event03\0"[..], &[0; 4], &[0, 2, 0, 2], &count, &banks, behind].concat();
    [
        &[0; 4][..],
        &3u32.to_le_bytes(),
        &[0; 20],
        &u32::try_from(inner.len()).unwrap().to_le_bytes(),
        &inner,
    ]
    .concat()
}

fn reads(log: &[u8]) -> bool {
    FirmwareLog::parse(log).is_ok()
}

#[test]
fn a_log_begins_with_its_banks_each_once_and_of_its_length() {
    let good = header(&[SHA_256, SHA_384], &[0]);
    assert!(reads(&good));
    assert!(reads(&header(&[SHA_256], &[3, 7, 7, 7])), "vendor data");
    assert!(reads(&header(&[(0x0077, 64), SHA_256], &[0])), "an unknown bank");
    for (what, banks) in [
        ("twice", &[SHA_256, SHA_256][..]),
        ("no SHA-256", &[SHA_384]),
        ("none", &[]),
        ("with another length", &[(0x000b, 48)]),
        ("longer than any digest", &[SHA_256, (0x0077, 65)]),
    ] {
        assert!(!reads(&header(banks, &[0])), "{what}");
    }
    let many =
        |count: u16| (1..count).map(|id| (0x0100 + id, 32)).chain([SHA_256]).collect::<Vec<_>>();
    assert!(reads(&header(&many(8), &[0])) && !reads(&header(&many(9), &[0])), "more than eight");
    assert!(!reads(&header(&[SHA_256], &[0, 0])), "a trailing byte");
    assert!(!reads(&header(&[SHA_256], &[])), "no vendor data");
    for (what, at) in
        [("pcr", 0), ("kind", 4), ("digest", 8), ("signature", 32), ("major version", 53)]
    {
        let mut log = good.clone();
        log[at] ^= 1;
        assert!(!reads(&log), "{what}");
    }
}

#[test]
fn a_log_has_its_limits() {
    let with = |count: usize, data: &[u8]| {
        let mut pieces = boot();
        pieces.events.truncate(1);
        pieces.events.extend(std::iter::repeat_n(event_of(5, IPL, data), count));
        reads(&pieces.log())
    };
    assert!(with(4095, &[]) && !with(4096, &[]), "events");
    assert!(with(1, &[0; 500_000]) && !with(1, &[0; 530_000]), "bytes");
}

/// A record of the log of user space.
fn record(pcr: u8, digests: &[(&str, &str)], words: &str) -> String {
    let digests: Vec<_> = digests
        .iter()
        .map(|(name, digest)| serde_json::json!({"hashAlg": name, "digest": digest}))
        .collect();
    format!(
        "\u{1e}{}\n",
        serde_json::json!({"pcr": pcr, "digests": digests, "content": {"string": words}})
    )
}

/// A record with matching text.
pub fn measured(pcr: u8, words: &str) -> String {
    record(pcr, &[("sha256", &sha256_hex(words.as_bytes()))], words)
}

fn read(log: &str) -> Option<Vec<Measurement>> {
    phases::parse(log.as_bytes()).ok()
}

#[test]
fn user_space_shows_words_only_where_it_measured_them() {
    let words = |log: &str| read(log).unwrap().pop().unwrap().words;
    assert_eq!(words(&measured(11, "ready")).as_deref(), Some("ready"));
    assert_eq!(
        words(&record(11, &[("sha256", &sha256_hex(b"ready"))], "sysinit")),
        None,
        "other text"
    );
    assert_eq!(words(&measured(11, &"x".repeat(128))).map(|w| w.len()), Some(128));
    assert_eq!(words(&measured(11, &"x".repeat(129))), None, "too long");
    assert_eq!(words(&measured(11, "rea\u{7}dy")), None, "a control character");
    let both =
        record(11, &[("sha384", &"00".repeat(48)), ("sha256", &sha256_hex(b"ready"))], "ready");
    assert_eq!(words(&both).as_deref(), Some("ready"), "beside another bank");
}

#[test]
fn user_spaces_log_is_whole_records_of_its_own_pcrs() {
    let good = measured(11, "ready");
    assert!(
        read(&good).is_some() && read(&measured(15, "id")).is_some() && read("") == Some(vec![])
    );
    assert!(read(&format!("x{good}")).is_none(), "leading bytes");
    assert!(read(&record(11, &[("sha256", "00")], "ready")).is_none(), "half a digest");
    assert!(
        read(&record(11, &[("sha384", &"00".repeat(48))], "ready")).is_none(),
        "no digest of the bank"
    );
    let twice = [("sha256", sha256_hex(b"ready")), ("sha256", sha256_hex(b"ready"))];
    assert!(
        read(&record(11, &twice.each_ref().map(|(name, digest)| (*name, &**digest)), "ready"))
            .is_none()
    );
    for pcr in [0, 4, 7, 9, 12] {
        assert!(read(&measured(pcr, "ready")).is_none(), "PCR {pcr} is not extended by user space");
    }
    let count = 32 * 1024 / good.len();
    assert!(
        read(&good.repeat(count)).is_some() && read(&good.repeat(count + 1)).is_none(),
        "more than 32 KiB"
    );
}

#[test]
fn what_is_explained_of_a_pcr_is_its_own_and_can_be_read() {
    let mut pieces = boot();
    pieces.events.push(event_of(4, ACTION, b"a\x1b[31m b\n"));
    let log = FirmwareLog::parse(&pieces.log()).unwrap();
    let phases =
        [phases::parse(&phases_log(&["ready"])).unwrap(), read(&measured(15, "volume")).unwrap()]
            .concat();
    let explained_of = |pcr| explained::events(pcr, Some(&log), &phases, &BTreeMap::new());
    assert_eq!(explained_of(4).last().unwrap(), "firmware: a[31m b");
    // An attacker who writes the log controls an event's text; the quote covers only its digest.
    let mut changed = event_of(5, IPL, b"loader.conf");
    *changed.last_mut().unwrap() = b'g';
    pieces.events.push(changed);
    let log = FirmwareLog::parse(&pieces.log()).unwrap();
    let words = explained::events(5, Some(&log), &[], &BTreeMap::new()).pop().unwrap();
    let digest = &sha256_hex(b"loader.conf")[..16];
    assert_eq!(words, format!("boot loader: loader.cong (unverified text; digest {digest})"));
    assert_eq!(
        explained_of(11).iter().filter(|t| t.starts_with("user space")).collect::<Vec<_>>(),
        ["user space: ready"]
    );
    assert_eq!(explained_of(15), ["user space: volume"]);
}

#[test]
fn lengths_within_a_variable_are_not_believed_though_they_were_measured() {
    let at = boot().events.iter().position(|e| Pieces::pcr(e) == 7).unwrap();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        meaning(|events| {
            let mut data = events[at].split_off(DATA);
            change(&mut data);
            events[at][14..46].copy_from_slice(&Hash::Sha256.digest(&[&data]));
            events[at][DATA - 4..]
                .copy_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
            events[at].extend(data);
        })
    };
    // SecureBoot: a vendor, the lengths of its name and of its value, ten letters, and one byte.
    with(&|_| {}).unwrap();
    let lengths: [(usize, u64); 7] =
        [(16, u64::MAX), (16, 65), (16, 11), (16, 9), (24, u64::MAX), (24, 2), (24, 0)];
    for (offset, length) in lengths {
        let refused = with(&|data| data[offset..offset + 8].copy_from_slice(&length.to_le_bytes()))
            .unwrap_err();
        assert_eq!(refused, "log-event", "{length} at {offset}");
    }
    assert_eq!(with(&|data| data.truncate(31)).unwrap_err(), "log-event");
    assert_eq!(with(&|data| data.push(0)).unwrap_err(), "log-event");
    // Half of a surrogate pair, which is not a character.
    assert_eq!(
        with(&|data| data[32..34].copy_from_slice(&0xd800u16.to_le_bytes())).unwrap_err(),
        "log-event"
    );
}
