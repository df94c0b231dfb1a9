//! Logs that do not lead to the quoted PCRs, or say something else than was measured.

use crate::attester::{Attester, DATA, PHASES, Pieces, asked_for, boot, challenge, check, meaning};
use fleeti_pki::attestation::evidence::Refused;
use fleeti_pki::measured::log::{EventKind, FirmwareLog};
use fleeti_pki::tpm::Hash;
use fleeti_testkit::tpm::phases_log;

#[test]
fn logs_that_do_not_lead_to_the_pcrs_are_refused() {
    let pieces = boot();
    let device = Attester::new(pieces.log(), &PHASES);
    let with = |firmware: Vec<u8>, phases: Vec<u8>| {
        let answer = device.answer_with(
            &challenge(1),
            (&firmware, &phases),
            &format!("sha256:{}", asked_for()),
        );
        check(&answer, 1, &device.key, None)
    };
    let phases = phases_log(&PHASES);
    with(pieces.log(), phases.clone()).unwrap();
    let mut shorter = boot();
    shorter.events.pop();
    assert_eq!(with(shorter.log(), phases.clone()).unwrap_err(), Refused::Replay(5));
    assert_eq!(with(pieces.log(), phases_log(&PHASES[..3])).unwrap_err(), Refused::Replay(11));
    assert_eq!(
        with(pieces.header.clone(), phases.clone()).unwrap_err(),
        Refused::Replay(0),
        "a value without an event"
    );
    // The last events of firmware PCRs, stated by the log of user space instead: nothing would
    // check what they are.
    for pcr in [4, 7] {
        let mut without = boot();
        let at = without.events.iter().rposition(|e| Pieces::pcr(e) == pcr).unwrap();
        let digest = hex::encode(&without.events.remove(at)[14..46]);
        let record = format!(
            "\u{1e}{{\"pcr\":{pcr},\"digests\":[{{\"hashAlg\":\"sha256\",\"digest\":\"{digest}\"}}]}}\n"
        );
        let phases_with_record = [record.into_bytes(), phases.clone()].concat();
        assert_eq!(
            with(without.log(), phases_with_record).unwrap_err().code(),
            "phases-unreadable",
            "PCR {pcr}"
        );
    }
    assert_eq!(with(b"no log".to_vec(), phases.clone()).unwrap_err().code(), "log-unreadable");
    assert_eq!(with(pieces.log(), b"no log".to_vec()).unwrap_err().code(), "phases-unreadable");
}

#[test]
fn a_log_that_replays_and_says_something_else_is_refused_by_its_own_check() {
    let unused = 0xa0u32.to_le_bytes();
    let of = |events: &[Vec<u8>], pcr: u32| -> Vec<usize> {
        (0..events.len()).filter(|i| Pieces::pcr(&events[*i]) == pcr).collect()
    };
    meaning(|_| {}).unwrap();
    let policy = of(&boot().events, 7);
    for at in &policy {
        let found = meaning(|events| events[*at][4..8].copy_from_slice(&unused)).unwrap_err();
        // Without the separator.
        assert!(
            ["log-kind", "log-separator"].contains(&found.as_str()),
            "retyped event {at}: {found}"
        );
    }
    type Change<'a> = dyn Fn(&mut Vec<Vec<u8>>) + 'a;
    let table: [(&str, &Change<'_>); 8] = [
        ("log-policy", &|e| e.swap(policy[1], policy[2])),
        ("log-policy", &|e| e.insert(policy[1], e[policy[0]].clone())),
        ("log-policy", &|e| drop(e.remove(policy[4]))),
        ("log-separator", &|e| e.insert(policy[5], e[policy[5]].clone())),
        ("log-separator", &|e| drop(e.remove(policy[5]))),
        ("log-policy", &|e| e.insert(policy[5] + 1, e[policy[1]].clone())),
        ("log-digest", &|e| *e[policy[0]].last_mut().unwrap() = 0),
        ("log-kind", &|e| {
            let binaries = of(e, 4);
            e[*binaries.last().unwrap()][4..8].copy_from_slice(&unused);
        }),
    ];
    for (at, (wanted, change)) in table.into_iter().enumerate() {
        assert_eq!(meaning(|events| change(events)).map(drop), Err(wanted.to_owned()), "{at}");
    }
    for pcr in 0..=6 {
        let is_separator = |e: &Vec<u8>| Pieces::pcr(e) == pcr && e[4..8] == 4u32.to_le_bytes();
        let at = boot().events.iter().position(is_separator).unwrap();
        let changes: [&Change<'_>; 3] =
            [&|e| e.insert(at, e[at].clone()), &|e| drop(e.remove(at)), &|e| e[at][DATA] = 1];
        for change in changes {
            assert_eq!(
                meaning(|events| change(events)).map(drop),
                Err("log-separator".to_owned()),
                "PCR {pcr}"
            );
        }
    }
    let action_of = |pcr: u32, text: &[u8]| {
        let digest = [&Hash::Sha256.digest(&[text])[..], &[0x0c, 0], &[0; 48]].concat();
        let head = [pcr.to_le_bytes(), 0x8000_0007u32.to_le_bytes(), 2u32.to_le_bytes()].concat();
        [&head[..], &[0x0b, 0], &digest, &u32::try_from(text.len()).unwrap().to_le_bytes(), text]
            .concat()
    };
    for text in [&b"UEFI Debug Mode"[..], b"DMA Protection Disabled"] {
        assert_eq!(
            meaning(|events| events.insert(0, action_of(7, text))).unwrap_err(),
            "log-weakened"
        );
    }
    // A visible EFI binary is measured by its data as well, which makes it no action.
    assert_eq!(
        meaning(|events| events.push(action_of(4, b"MZ, and what follows"))).unwrap_err(),
        "log-kind"
    );
    meaning(|events| events.push(action_of(4, b"Returning from EFI Application from Boot Option")))
        .unwrap();
    assert!(
        FirmwareLog::parse(&boot().log())
            .unwrap()
            .events()
            .iter()
            .any(|e| e.kind == EventKind::Application)
    );
}

#[test]
fn lengths_and_counts_of_a_log_are_not_believed() {
    let good = boot().log();
    let change = |at: usize, bytes: &[u8]| {
        let mut log = good.clone();
        log[at..at + bytes.len()].copy_from_slice(bytes);
        FirmwareLog::parse(&log).map(drop)
    };
    let head = 32 + 37;
    for (what, at, bytes) in [
        ("length of the first event", 28, &[0xff; 4][..]),
        ("count of banks", 56, &[0xff; 4]),
        ("no bank", 56, &[0; 4]),
        ("length of a digest", 62, &[0xff, 0xff]),
        ("vendor's length", 68, &[0xff]),
        ("pcr", head, &[0xff; 4]),
        ("count of digests", head + 8, &[0xff; 4]),
        ("algorithm of a digest", head + 12, &[0xff, 0xff]),
        ("length of an event", head + 12 + 34 + 50, &[0xff; 4]),
    ] {
        assert!(change(at, bytes).is_err(), "{what}");
    }
    let whole = boot().events.len();
    let read =
        (0..good.len()).filter(|length| FirmwareLog::parse(&good[..*length]).is_ok()).count();
    assert_eq!(read, whole, "only between events");
}
