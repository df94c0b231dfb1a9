//! Logs as firmware in the field writes them, and variants of them: unknown events allow fewer
//! claims, and only what contradicts the measured bytes is a contradiction.

use crate::attester::{PHASES, Pieces, boot, known};
use crate::crafted::{
    ACTION, AUTHORITY, DRIVER_CONFIG, IPL, NO_ACTION, SEPARATOR, at, check, contradictions,
    data_of, event, event_of, meaning, sent,
};
use fleeti_core::attestation::policy::Firmware;
use fleeti_core::attestation::{Aspect, Claim, Level, Tier};
use fleeti_pki::attestation::appraisal::{FirmwareCode, Known, appraise};
use fleeti_pki::measured::boot::MeasuredBoot;
use fleeti_pki::measured::explained;
use fleeti_pki::measured::log::{FirmwareLog, extended};
use fleeti_pki::signer::Algorithm;
use fleeti_pki::tpm::Hash;
use fleeti_testkit::soft_tpm::SoftTpm;
use fleeti_testkit::tpm::phases_log;
use std::collections::BTreeMap;
use std::path::Path;

const APPLICATION: u32 = 0x8000_0003;
const DRIVER: u32 = 0x8000_0004;
const HCRTM: u32 = 0x8000_0010;
const GLOBAL: [u8; 16] = [
    0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
];

fn fixture(name: &str) -> FirmwareLog {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/field/logs").join(name);
    FirmwareLog::parse(&std::fs::read(path).unwrap()).unwrap()
}

fn variable(vendor: [u8; 16], name: &str, value: &[u8]) -> Vec<u8> {
    let length = |n: usize| (n as u64).to_le_bytes();
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    [&vendor[..], &length(name.len() / 2), &length(value.len()), &name, value].concat()
}

/// UEFI_IMAGE_LOAD_EVENT with the path of a file in a firmware volume.
fn image(file: u8) -> Vec<u8> {
    let path = [&[4, 7, 20, 0][..], &[0x11; 16], &[4, 6, 20, 0], &[file; 16], &[0x7f, 0xff, 4, 0]]
        .concat();
    [&[0; 24][..], &(path.len() as u64).to_le_bytes(), &path].concat()
}

/// Level and claims for a device of which the server knows what it knows of the plain boot, with
/// this firmware.
fn claims(pieces: &Pieces, code: Option<FirmwareCode>) -> (Level, Vec<Claim>) {
    let tpm = SoftTpm::new(Algorithm::P256).unwrap();
    let plain = known(&FirmwareLog::parse(&boot().log()).unwrap());
    let evidence = check(&tpm, &sent(&tpm, pieces.log(), phases_log(&PHASES)), None).unwrap();
    let code =
        code.unwrap_or_else(|| FirmwareCode { is_accepted: true, ..FirmwareCode::of(&evidence) });
    let result = appraise(&evidence, &Known { firmware_code: Some(code), ..plain });
    (result.level, result.claims)
}

fn of(claims: &[Claim], aspect: Aspect) -> &Claim {
    claims.iter().find(|c| c.aspect == aspect).unwrap()
}

/// Index of the separator of a PCR.
fn separator(pieces: &Pieces, pcr: u32) -> usize {
    *at(pieces, pcr).iter().find(|i| pieces.events[**i][4..8] == SEPARATOR.to_le_bytes()).unwrap()
}

#[test]
fn logs_of_the_field_mean_what_they_say() {
    let plain = MeasuredBoot::of(&fixture("plain.log")).unwrap();
    assert_eq!(
        (plain.secure_boot, plain.binaries.len(), plain.firmware_binaries.len()),
        (true, 2, 0)
    );
    assert_eq!(MeasuredBoot::of(&fixture("audit-and-deployed-mode-in-pcr-7.log")).unwrap(), plain);
    let applications =
        MeasuredBoot::of(&fixture("firmware-application-before-the-separator.log")).unwrap();
    assert_eq!(applications.binaries, plain.binaries);
    let own = &applications.firmware_binaries;
    assert_eq!(
        (own.len(), own[0].path.as_str(), &hex::encode(own[0].digest)[..8]),
        (1, "sysprep", "98f06304")
    );
    let hcrtm = fixture("hcrtm-without-startup-locality.log");
    assert_eq!(MeasuredBoot::of(&hcrtm).unwrap(), plain);
    let start: [u8; 32] = std::array::from_fn(|i| if i == 31 { 4 } else { 0 });
    assert_eq!(hcrtm.replay()[&0], hcrtm.of(0).fold(start, |pcr, e| extended(&pcr, &e.digest)));
    let swapped = fixture("digests-in-another-order.log");
    assert_eq!(swapped.events()[0].digest.as_slice(), Hash::Sha256.digest(&[b"v1\0\0"]));
}

#[test]
fn pcr_0_begins_with_what_leads_to_the_quote() {
    let tpm = SoftTpm::new(Algorithm::P256).unwrap();
    let locality =
        |n: u8| event(0, NO_ACTION, &[0; 32], &[&b"StartupLocality\0"[..], &[n]].concat());
    // With an H-CRTM, with a log that states another locality, and with one that states none.
    for (before, start) in
        [(vec![], 0), (vec![], 3), (vec![], 4), (vec![locality(0)], 3), (vec![locality(3)], 4)]
    {
        for hcrtm in [false, true] {
            let mut pieces = boot();
            let first = hcrtm.then(|| event_of(0, HCRTM, b"HCRTM"));
            pieces.events.splice(0..0, before.iter().cloned().chain(first));
            let log = FirmwareLog::parse(&pieces.log()).unwrap();
            let begin: [u8; 32] = std::array::from_fn(|i| if i == 31 { start } else { 0 });
            let value = log.of(0).fold(begin, |pcr, e| extended(&pcr, &e.digest));
            assert_eq!(log.replay_to(&value)[&0], value, "{start} {hcrtm}");
            if before.is_empty() && hcrtm && start == 4 {
                check(&tpm, &sent(&tpm, pieces.log(), phases_log(&PHASES)), None).unwrap();
            }
        }
    }
    let log = FirmwareLog::parse(&boot().log()).unwrap();
    let others = [1, 2, 5].map(|n| {
        log.of(0).fold(std::array::from_fn(|i| if i == 31 { n } else { 0 }), |r, e| {
            extended(&r, &e.digest)
        })
    });
    assert!(
        others.iter().all(|other| log.replay_to(other)[&0] != *other),
        "no TPM starts from this locality"
    );
}

/// A log with one event, for these banks of the header and digests of the event.
fn with_digests(
    banks: &[(u16, u16)],
    digests: &[(u16, usize)],
    kind: u32,
) -> Result<FirmwareLog, String> {
    let mut log = crate::logs::header(banks, &[0]);
    log.extend(5u32.to_le_bytes());
    log.extend(kind.to_le_bytes());
    log.extend(u32::try_from(digests.len()).unwrap().to_le_bytes());
    for (id, length) in digests {
        log.extend(id.to_le_bytes());
        log.extend(vec![u8::try_from(*id & 0xff).unwrap(); *length]);
    }
    log.extend([0; 4]);
    FirmwareLog::parse(&log).map_err(|e| e.to_string())
}

#[test]
fn digests_are_found_by_their_algorithm() {
    let (sha_1, sha_256, sha_384, sm_3, private) =
        ((4, 20), (0x0b, 32), (0x0c, 48), (0x12, 32), (0x77, 17));
    let length = |(id, length): (u16, u16)| (id, usize::from(length));
    for banks in [
        vec![sha_1, sha_256],
        vec![sha_256, sm_3],
        vec![private, sha_384, sha_256],
        vec![(4, 0), sha_256],
    ] {
        let mut digests: Vec<_> = banks.iter().copied().map(length).collect();
        for _ in 0..digests.len() {
            digests.rotate_left(1);
            let log = with_digests(&banks, &digests, IPL).unwrap();
            assert_eq!(log.events()[0].digest, [0x0b; 32], "{digests:?}");
        }
        let fewer = [length(sha_256)];
        assert_eq!(with_digests(&banks, &fewer, IPL).unwrap().events()[0].digest, [0x0b; 32]);
        let more = [&digests[..], &[(0x0d, 64)]].concat();
        assert_eq!(
            with_digests(&banks, &more, IPL).unwrap().events()[0].digest,
            [0x0b; 32],
            "a bank that the header does not have"
        );
    }
    let banks = [sha_1, sha_256];
    for (what, digests) in [
        ("no SHA-256", vec![length(sha_1)]),
        ("none", vec![]),
        ("two", vec![length(sha_256), length(sha_256)]),
        ("of an unknown length", vec![length(sha_256), (0x99, 32)]),
    ] {
        assert!(with_digests(&banks, &digests, IPL).is_err(), "{what}");
    }
    // An event that is not measured needs no digest, anywhere in the log.
    assert!(with_digests(&banks, &[], NO_ACTION).unwrap().events().is_empty());
}

#[test]
fn room_that_firmware_left_is_no_event() {
    let log = boot().log();
    let whole = FirmwareLog::parse(&log).unwrap();
    for fill in [vec![0; 5], vec![0; 4096], vec![0xff; 1], vec![0xff; 999]] {
        assert_eq!(
            FirmwareLog::parse(&[&log[..], &fill].concat()).unwrap(),
            whole,
            "{} of {}",
            fill.len(),
            fill[0]
        );
    }
    for other in [vec![0, 0xff, 0, 0, 0, 0], [&[0; 40][..], &[1]].concat()] {
        assert!(FirmwareLog::parse(&[&log[..], &other].concat()).is_err());
    }
    // The log of coreboot: text in fields of fixed size.
    let mut pieces = boot();
    let text: Vec<u8> = b"FMAP: COREBOOT CBFS: bootblock".iter().copied().chain([0; 20]).collect();
    pieces.events.insert(0, event(2, 5, &[7; 32], &text));
    assert_eq!(claims(&pieces, None).0, Level::VerifiedFirmware);
}

#[test]
fn modes_of_secure_boot_are_measured_wherever_firmware_likes() {
    let plain = meaning(&boot()).unwrap();
    let modes = |names: &[(&str, u8)], place: usize| {
        let mut pieces = boot();
        let policy = at(&pieces, 7);
        let events = names
            .iter()
            .map(|(name, value)| event_of(7, DRIVER_CONFIG, &variable(GLOBAL, name, &[*value])));
        pieces.events.splice(policy[place]..policy[place], events);
        pieces
    };
    for place in 0..=5 {
        for names in [
            &[("AuditMode", 0), ("DeployedMode", 1)][..],
            &[("DeployedMode", 0)],
            &[("SetupMode", 0), ("AuditMode", 0), ("DeployedMode", 0)],
        ] {
            assert_eq!(
                meaning(&modes(names, place)).as_ref(),
                Ok(&plain),
                "{names:?} before {place}"
            );
        }
    }
    for name in ["SetupMode", "AuditMode"] {
        assert_eq!(meaning(&modes(&[(name, 1)], 5)), Err("log-weakened"), "{name}");
        is_weakened(&modes(&[(name, 1)], 5), name);
        // Secure Boot that is off is contraindicated, whatever the mode.
        let mut off = modes(&[(name, 1)], 5);
        let policy = at(&off, 7);
        off.events[policy[0]] = event_of(7, DRIVER_CONFIG, &variable(GLOBAL, "SecureBoot", &[0]));
        let (level, found) = claims(&off, None);
        assert_eq!(
            (level, of(&found, Aspect::Configuration).code.as_str()),
            (Level::SelfReported, "secure-boot-off"),
            "{name}"
        );
    }
}

/// The level is that of an observed boot, with a reason, and there is no contradiction.
fn is_weakened(pieces: &Pieces, what: &str) {
    let (level, found) = claims(pieces, None);
    let claim = of(&found, Aspect::Configuration);
    assert_eq!(
        (level, claim.tier, claim.code.as_str()),
        (Level::ObservedBoot, Tier::Warning, "log-weakened"),
        "{what}: {found:#?}"
    );
    assert!(
        claim.finding.starts_with("firmware says: ") && claim.raise.is_some(),
        "{what}: {}",
        claim.finding
    );
    assert!(found.iter().all(|c| c.tier != Tier::Contraindicated), "{what}: {found:#?}");
}

#[test]
fn what_firmware_says_of_its_weakness_lets_less_be_claimed() {
    for text in [&b"UEFI Debug Mode"[..], b"DMA Protection Disabled"] {
        let what = String::from_utf8_lossy(text);
        for place in [0, 3, 5] {
            let mut pieces = boot();
            let before = at(&pieces, 7)[place];
            pieces.events.insert(before, event_of(7, ACTION, text));
            is_weakened(&pieces, &what);
            // Also next to, and after, an unknown event.
            pieces.events.insert(before, event_of(7, ACTION, b"x"));
            is_weakened(&pieces, &what);
        }
        // With another digest it is not a statement of the firmware.
        let mut pieces = boot();
        pieces.events.push(event(7, ACTION, &[7; 32], text));
        let (level, found) = claims(&pieces, None);
        assert_eq!(
            (level, of(&found, Aspect::Configuration).code.as_str()),
            (Level::SelfReported, "log-digest"),
            "{what}"
        );
        // With other text it is an unknown event.
        let mut pieces = boot();
        pieces.events.push(event_of(7, ACTION, &[text, &[0]].concat()));
        let (level, found) = claims(&pieces, None);
        assert_eq!(
            (level, of(&found, Aspect::Configuration).code.as_str()),
            (Level::ObservedBoot, "log-kind"),
            "{what}"
        );
    }
}

#[test]
fn binaries_of_the_firmwares_own_are_accepted_like_its_code() {
    let mut pieces = boot();
    let before = separator(&pieces, 4);
    let own =
        [event(4, APPLICATION, &[0xa1; 32], &image(0xaa)), event(4, DRIVER, &[0xa2; 32], b"")];
    pieces.events.splice(before..before, own);
    let meant = meaning(&pieces).unwrap();
    assert_eq!((meant.binaries.len(), meant.firmware_binaries.len()), (2, 2));
    let path =
        "Fv(11111111-1111-1111-1111-111111111111)/FvFile(aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa)";
    assert_eq!(meant.firmware_binaries[0].path, path);

    let (level, found) = claims(&pieces, None);
    assert_eq!(level, Level::VerifiedFirmware, "{found:#?}");
    let firmware = &of(&found, Aspect::Firmware).finding;
    assert!(
        firmware.contains(path)
            && firmware.contains(&"a1".repeat(32))
            && firmware.contains(&"a2".repeat(32)),
        "{firmware}"
    );
    let log = FirmwareLog::parse(&pieces.log()).unwrap();
    assert!(
        explained::events(4, Some(&log), &[], &BTreeMap::new())
            .iter()
            .any(|line| line.contains(path))
    );

    let tpm = SoftTpm::new(Algorithm::P256).unwrap();
    let evidence = check(&tpm, &sent(&tpm, pieces.log(), phases_log(&PHASES)), None).unwrap();
    let code = FirmwareCode::of(&evidence);
    assert_eq!(
        claims(&pieces, Some(code.clone())).0,
        Level::VerifiedBoot,
        "seen first, and not accepted"
    );
    let fewer = FirmwareCode { binaries: vec![], is_accepted: true, ..code.clone() };
    for (what, other) in [
        ("no EFI binaries before", fewer),
        (
            "another order",
            FirmwareCode {
                binaries: code.binaries.iter().rev().copied().collect(),
                ..code.clone()
            },
        ),
    ] {
        let (level, found) = claims(&pieces, Some(other));
        assert_eq!(level, Level::ObservedBoot, "{what}");
        assert_eq!(of(&found, Aspect::Firmware).code, "firmware-changed", "{what}");
        assert_eq!(of(&found, Aspect::Executables).code, "firmware-binaries-changed", "{what}");
    }
    // A policy that lists the firmware's PCRs but not its EFI binaries requires acceptance of
    // those.
    let plain = known(&FirmwareLog::parse(&boot().log()).unwrap());
    let pcrs = vec![code.pcrs.map(hex::encode)];
    let by_policy = |code: &FirmwareCode, named: &[[u8; 32]]| {
        let firmware = Firmware::Known {
            pcrs: pcrs.clone(),
            binaries: named.iter().map(hex::encode).collect(),
        };
        let known = Known { firmware, firmware_code: Some(code.clone()), ..plain.clone() };
        appraise(&evidence, &known).level
    };
    assert_eq!(by_policy(&code, &[]), Level::VerifiedBoot);
    assert_eq!(
        by_policy(&FirmwareCode { is_accepted: true, ..code.clone() }, &[]),
        Level::VerifiedFirmware
    );
    // If it lists them as well, no operator has to accept them, even after a change.
    let both = [[0xa1; 32], [0xa2; 32]];
    assert_eq!(by_policy(&code, &both), Level::VerifiedFirmware);
    assert_eq!(by_policy(&code, &both[..1]), Level::VerifiedBoot, "one of them is not listed");
    let before = FirmwareCode { binaries: vec![], ..code };
    assert_eq!(by_policy(&before, &both), Level::VerifiedFirmware);
    assert_eq!(by_policy(&before, &both[..1]), Level::ObservedBoot);
}

#[test]
fn a_binary_of_a_release_is_none_of_the_firmwares_own() {
    let plain = boot();
    let binaries: Vec<_> = at(&plain, 4)
        .into_iter()
        .filter(|i| plain.events[*i][4..8] == APPLICATION.to_le_bytes())
        .collect();
    for binary in binaries {
        let mut pieces = boot();
        let early = pieces.events[binary].clone();
        let before = separator(&pieces, 4);
        pieces.events.insert(before, early);
        let (level, found) = claims(&pieces, None);
        assert_eq!(
            (level, of(&found, Aspect::Executables).code.as_str()),
            (Level::SelfReported, "binaries")
        );
    }
    // After the separator, firmware has no EFI binaries of its own.
    for kind in [APPLICATION, DRIVER] {
        let mut pieces = boot();
        pieces.events.push(event(4, kind, &[0xa1; 32], &image(0xaa)));
        let (level, found) = claims(&pieces, None);
        assert_eq!(
            (level, of(&found, Aspect::Executables).code.as_str()),
            (Level::SelfReported, "binaries"),
            "{kind:#x}"
        );
    }
}

#[test]
fn what_nobody_knows_lets_less_be_claimed_and_contradicts_nothing() {
    type Change = dyn Fn(&mut Pieces);
    let push = |pcr: u32, kind: u32, data: &'static [u8]| {
        move |p: &mut Pieces| p.events.push(event_of(pcr, kind, data))
    };
    let shim = |name: &'static str| {
        move |p: &mut Pieces| {
            p.events.push(event_of(7, AUTHORITY, &variable([9; 16], name, b"sbat,1")))
        }
    };
    let failed = |pcr: u32| {
        move |p: &mut Pieces| {
            let which = separator(p, pcr);
            p.events[which] = event_of(pcr, SEPARATOR, &[1, 0, 0, 0]);
        }
    };
    let table: [(&str, Aspect, &str, &Change); 11] = [
        ("an unknown event", Aspect::Configuration, "log-kind", &push(7, 0x8000_00ff, b"x")),
        (
            "an unknown event among EFI binaries",
            Aspect::Executables,
            "log-kind",
            &push(4, 0x8000_00ff, b"x"),
        ),
        (
            "an action with other text",
            Aspect::Executables,
            "log-kind",
            &push(4, ACTION, b"Booting something"),
        ),
        ("an unknown action", Aspect::Configuration, "log-kind", &push(7, ACTION, b"x")),
        ("shim's", Aspect::Configuration, "log-policy", &shim("SbatLevel")),
        ("shim's keys", Aspect::Configuration, "log-policy", &shim("MokList")),
        ("a variable of a vendor", Aspect::Configuration, "log-policy", &|p| {
            let place = at(p, 7)[5];
            p.events
                .insert(place, event_of(7, DRIVER_CONFIG, &variable([9; 16], "vendor_db", b"")));
        }),
        ("a variable twice", Aspect::Configuration, "log-policy", &|p| {
            p.events.insert(at(p, 7)[4], p.events[at(p, 7)[4]].clone())
        }),
        ("firmware failed", Aspect::Configuration, "log-separator", &failed(1)),
        ("firmware failed before EFI binaries", Aspect::Executables, "log-separator", &failed(4)),
        ("no separator", Aspect::Configuration, "log-separator", &|p| {
            drop(p.events.remove(separator(p, 6)))
        }),
    ];
    for (what, aspect, code, change) in table {
        let mut pieces = boot();
        change(&mut pieces);
        let (level, found) = claims(&pieces, None);
        let claim = of(&found, aspect);
        assert_eq!(
            (level, claim.tier, claim.code.as_str()),
            (Level::ObservedBoot, Tier::Warning, code),
            "{what}: {found:#?}"
        );
        assert!(
            !claim.finding.contains("contradict") && claim.raise.is_some(),
            "{what}: {}",
            claim.finding
        );
    }
}

#[test]
fn events_of_newer_profiles_and_of_other_pcrs_change_nothing() {
    let mut pieces = boot();
    for (pcr, kind) in [
        (0, 0x8000_000a),
        (1, 0x8000_000c),
        (2, 0x8000_00e1),
        (3, 0x8000_00e2),
        (7, 0x8000_00e3),
        (7, 0x8000_00e4),
        (1, 0x8000_000b),
        (5, 0x8000_000d),
        (0, 0x13),
        (6, 0x0c),
        (1, 0x11),
        (2, 0x1234_5678),
        (16, 0x0d),
        (23, 0x0d),
    ] {
        pieces.events.insert(0, event_of(pcr, kind, b"whatever"));
        pieces.events.insert(0, event_of(pcr, kind, b""));
    }
    // Not measured, whatever PCR the event states.
    for pcr in [0, 6, 7, 24, u32::MAX] {
        pieces.events.insert(3, event(pcr, NO_ACTION, &[0; 32], b"H-CRTM CompMeas\0"));
    }
    let (level, found) = claims(&pieces, None);
    assert_eq!(level, Level::VerifiedFirmware, "{found:#?}");
    let mut beyond = boot();
    beyond.events.push(event_of(24, IPL, b""));
    assert!(FirmwareLog::parse(&beyond.log()).is_err());
}

#[test]
fn the_authority_of_code_on_a_card_is_measured_before_the_separator() {
    let mut pieces = boot();
    let policy = at(&pieces, 7);
    let authority =
        *policy.iter().find(|i| pieces.events[**i][4..8] == AUTHORITY.to_le_bytes()).unwrap();
    let own = pieces.events[authority].clone();
    pieces.events.insert(policy[5], own);
    assert_eq!(claims(&pieces, None).0, Level::VerifiedFirmware);
    let mut foreign = data_of(&boot().events[authority]).to_vec();
    *foreign.last_mut().unwrap() ^= 1;
    pieces.events[policy[5]] = event_of(7, AUTHORITY, &foreign);
    let (level, found) = claims(&pieces, None);
    assert_eq!(
        (level, of(&found, Aspect::Configuration).code.as_str()),
        (Level::SelfReported, "authority-foreign")
    );
}

#[test]
fn firmware_that_does_not_measure_its_variables_contradicts_nothing() {
    let without = |names: &[usize]| {
        let mut pieces = boot();
        let policy = at(&pieces, 7);
        names.iter().rev().for_each(|n| drop(pieces.events.remove(policy[*n])));
        claims(&pieces, None)
    };
    for (missing, names) in [
        (&[0, 1, 2, 3, 4][..], "SecureBoot, PK, KEK, db, dbx"),
        (&[1, 2], "PK, KEK"),
        (&[4], "dbx"),
        (&[0], "SecureBoot"),
    ] {
        let (level, found) = without(missing);
        let claim = of(&found, Aspect::Configuration);
        assert_eq!(claim.finding, format!("firmware does not measure its variables: {names}"));
        assert_eq!((level, claim.tier), (Level::ObservedBoot, Tier::Warning), "{names}");
    }
    // Measured events still decide.
    let mut pieces = boot();
    let policy = at(&pieces, 7);
    pieces.events[policy[0]] = event_of(7, DRIVER_CONFIG, &variable(GLOBAL, "SecureBoot", &[0]));
    pieces.events.remove(policy[1]);
    let tpm = SoftTpm::new(Algorithm::P256).unwrap();
    let all = known(&FirmwareLog::parse(&boot().log()).unwrap());
    assert_eq!(
        contradictions(&tpm, &pieces, &PHASES, &all),
        (Level::SelfReported, vec!["secure-boot-off".to_owned()])
    );
}

#[test]
fn what_shows_other_bytes_than_were_measured_contradicts() {
    type Change = dyn Fn(&mut Pieces);
    let table: [(&str, &Change); 5] = [
        ("log-kind", &|p| {
            let pk = at(p, 7)[1];
            p.events[pk][4..8].copy_from_slice(&0x8000_00ffu32.to_le_bytes());
        }),
        ("log-kind", &|p| p.events.push(event(4, 0x8000_00ff, &[7; 32], &image(1)))),
        ("log-separator", &|p| {
            let which = separator(p, 3);
            p.events[which][4..8].copy_from_slice(&0x8000_00ffu32.to_le_bytes());
        }),
        ("log-digest", &|p| {
            p.events.push(event(
                4,
                ACTION,
                &[7; 32],
                b"Returning from EFI Application from Boot Option",
            ))
        }),
        ("log-policy", &|p| {
            p.events.push(event_of(7, DRIVER_CONFIG, data_of(&p.events[at(p, 7)[3]])))
        }),
    ];
    let tpm = SoftTpm::new(Algorithm::P256).unwrap();
    let all = known(&FirmwareLog::parse(&boot().log()).unwrap());
    for (code, change) in table {
        let mut pieces = boot();
        change(&mut pieces);
        assert_eq!(
            contradictions(&tpm, &pieces, &PHASES, &all),
            (Level::SelfReported, vec![code.to_owned()])
        );
    }
}
