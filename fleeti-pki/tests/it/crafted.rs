//! Evidence that no TPM produces, signed nevertheless: each defect fails the check for it, and what
//! is only unusual passes.

use crate::attester::{PHASES, Pieces, boot, challenge, known};
use crate::logs::measured;
use fleeti_core::attestation::policy::Firmware;
use fleeti_core::attestation::{Aspect, Level, Tier};
use fleeti_pki::attestation::appraisal::{Known, appraise};
use fleeti_pki::attestation::evidence::{Before, Evidence, VerifiedEvidence, verify};
use fleeti_pki::attestation::key::{self, Certification, Purpose};
use fleeti_pki::attestation::{Challenge, PCRS};
use fleeti_pki::measured::boot::MeasuredBoot;
use fleeti_pki::measured::log::{FirmwareLog, Pcrs};
use fleeti_pki::measured::phases;
use fleeti_pki::signer::Algorithm;
use fleeti_pki::tpm::Hash;
use fleeti_pki::tpm::attest::{Attest, Clock};
use fleeti_pki::tpm::public::{AttestationKey, DeviceKey, Public};
use fleeti_testkit::soft_tpm::{RESTRICTED, SoftTpm, signature};
use fleeti_testkit::tpm::phases_log;

const SHA_1: u16 = 0x0004;
const SHA_256: u16 = 0x000b;
const SHA_384: u16 = 0x000c;

/// What a device sends.
pub struct Sent {
    quote: Vec<u8>,
    signature: Vec<u8>,
    pub pcrs: Pcrs,
    firmware: Vec<u8>,
    phases: Vec<u8>,
}

/// The PCR values that the logs lead to.
fn pcrs_of(firmware: &[u8], phases_log: &[u8]) -> Pcrs {
    let mut replayed = FirmwareLog::parse(firmware).unwrap().replay();
    phases::replay(&mut replayed, &phases::parse(phases_log).unwrap());
    PCRS.into_iter().map(|r| (r, replayed.get(&r).copied().unwrap_or_default())).collect()
}

pub fn sent(tpm: &SoftTpm, firmware: Vec<u8>, phases: Vec<u8>) -> Sent {
    let pcrs = pcrs_of(&firmware, &phases);
    let asked = challenge(1).qualifying_data(&firmware, &phases);
    let quote = tpm.good_quote(&asked, Challenge::selection(), pcrs.values());
    Sent { signature: tpm.sign(&quote).unwrap(), quote, pcrs, firmware, phases }
}

fn good(tpm: &SoftTpm) -> Sent {
    sent(tpm, boot().log(), phases_log(&PHASES))
}

pub fn check(
    tpm: &SoftTpm,
    sent: &Sent,
    before: Option<&Before>,
) -> Result<VerifiedEvidence, &'static str> {
    let evidence = Evidence {
        quote: &sent.quote,
        signature: &sent.signature,
        pcrs: &sent.pcrs,
        firmware_log: &sent.firmware,
        phases_log: &sent.phases,
    };
    verify(&evidence, &challenge(1), &tpm.attestation_key().unwrap(), before).map_err(|e| e.code())
}

/// The result for a quote about other data.
fn about(tpm: &SoftTpm, selections: &[(u16, u32)], digest: &[u8]) -> Result<(), &'static str> {
    let mut sent = good(tpm);
    let asked = challenge(1).qualifying_data(&sent.firmware, &sent.phases);
    sent.quote = tpm.quote(&[], &asked, selections, digest);
    sent.signature = tpm.sign(&sent.quote).unwrap();
    check(tpm, &sent, None).map(drop)
}

#[test]
fn a_quote_is_of_the_hash_of_its_keys_scheme_over_the_pcrs_that_were_asked_for() {
    for algorithm in [Algorithm::P256, Algorithm::P384] {
        let tpm = SoftTpm::new(algorithm).unwrap();
        let sent = good(&tpm);
        check(&tpm, &sent, None).unwrap();
        let all = Challenge::selection().pcrs;
        let values: Vec<&[u8]> = sent.pcrs.values().map(|v| &v[..]).collect();
        let scheme = if algorithm == Algorithm::P384 { Hash::Sha384 } else { Hash::Sha256 };
        let digest = scheme.digest(&values);
        assert_eq!(about(&tpm, &[(SHA_256, all)], &digest), Ok(()));
        assert_eq!(about(&tpm, &[], &scheme.digest(&[])), Err("quote-selection"), "nothing");
        assert_eq!(
            about(&tpm, &[(SHA_256, 0)], &scheme.digest(&[])),
            Err("quote-selection"),
            "no PCR"
        );
        assert_eq!(about(&tpm, &[(SHA_1, all)], &digest), Err("quote-selection"), "another bank");
        assert_eq!(about(&tpm, &[(SHA_384, all)], &digest), Err("quote-selection"), "another bank");
        assert_eq!(
            about(&tpm, &[(SHA_256, all), (SHA_256, all)], &digest),
            Err("quote-selection"),
            "twice"
        );
        let other = if algorithm == Algorithm::P384 { Hash::Sha256 } else { Hash::Sha384 };
        assert_eq!(
            about(&tpm, &[(SHA_256, all)], &other.digest(&values)),
            Err("pcr-digest"),
            "by the bank's hash"
        );
    }
}

#[test]
fn what_was_asked_is_found_in_its_field_and_nowhere_else() {
    let tpm = SoftTpm::new(Algorithm::P256).unwrap();
    let mut sent = good(&tpm);
    let asked = challenge(1).qualifying_data(&sent.firmware, &sent.phases);
    let values: Vec<&[u8]> = sent.pcrs.values().map(|v| &v[..]).collect();
    let (selection, digest) =
        ([(SHA_256, Challenge::selection().pcrs)], Hash::Sha256.digest(&values));
    for (signer, extra) in
        [(&asked[..], &[][..]), (&asked[..], &asked[..31]), (&[], &[&asked[..], &[0]].concat())]
    {
        sent.quote = tpm.quote(signer, extra, &selection, &digest);
        sent.signature = tpm.sign(&sent.quote).unwrap();
        assert_eq!(check(&tpm, &sent, None).map(drop), Err("quote-challenge"));
    }
}

#[test]
fn a_signature_is_two_numbers_of_its_curve_however_short_they_are_written() {
    for algorithm in [Algorithm::P256, Algorithm::P384] {
        let tpm = SoftTpm::new(algorithm).unwrap();
        let (hash, length) =
            if algorithm == Algorithm::P384 { (SHA_384, 48) } else { (SHA_256, 32) };
        let mut sent = good(&tpm);
        // Both numbers with a leading zero are rare: each in turn.
        for which in 0..2 {
            let [r, s] = std::iter::repeat_with(|| tpm.numbers(&sent.quote).unwrap())
                .find(|n| n[which].len() < length)
                .unwrap();
            sent.signature = signature(hash, &r, &s);
            check(&tpm, &sent, None).unwrap();
            let padded = |n: &[u8]| [&vec![0; length - n.len()][..], n].concat();
            sent.signature = signature(hash, &padded(&r), &padded(&s));
            check(&tpm, &sent, None).unwrap();
        }
        let [r, s] = tpm.numbers(&sent.quote).unwrap();
        let long = |n: &[u8]| [&vec![0; length + 1 - n.len()][..], n].concat();
        for (r, s) in [
            (&vec![0; length], &s),
            (&r, &vec![0; length]),
            (&vec![], &s),
            (&r, &vec![]),
            (&vec![0xff; length], &s),
        ] {
            sent.signature = signature(hash, r, s);
            assert_eq!(
                check(&tpm, &sent, None).map(drop),
                Err("quote-signature"),
                "{} and {} bytes",
                r.len(),
                s.len()
            );
        }
        for (r, s) in
            [(long(&r), s.clone()), (r.clone(), long(&s)), (long(&r), s[..s.len() - 1].to_vec())]
        {
            sent.signature = signature(hash, &r, &s);
            let found = check(&tpm, &sent, None).map(drop).unwrap_err();
            assert!(
                ["quote-signature", "quote-unreadable"].contains(&found),
                "{found}: longer than its curve"
            );
        }
        for (what, bytes) in
            [("none", vec![0, 0x10]), ("empty", vec![]), ("SHA-1", signature(SHA_1, &r, &s))]
        {
            sent.signature = bytes;
            let found = check(&tpm, &sent, None).map(drop).unwrap_err();
            assert!(
                ["quote-unreadable", "quote-signature-hash"].contains(&found),
                "{what}: {found}"
            );
        }
    }
}

#[test]
fn a_reset_ends_the_count_of_resumes() {
    let mut tpm = SoftTpm::new(Algorithm::P256).unwrap();
    let pcrs = good(&tpm).pcrs;
    let before =
        Before { clock: Clock { milliseconds: 9_000, resets: 3, restarts: 5, safe: true }, pcrs };
    let mut at = |resets, restarts, milliseconds| {
        tpm.clock = Clock { milliseconds, resets, restarts, safe: false };
        check(&tpm, &good(&tpm), Some(&before)).map(drop)
    };
    assert_eq!(at(4, 0, 100), Ok(()), "another reset, without resumes since");
    assert_eq!(at(3, 6, 100), Ok(()));
    assert_eq!(at(3, 5, 9_001), Ok(()));
    assert_eq!(at(3, 5, 9_000), Err("clock-still"));
    assert_eq!(at(3, 4, 10_000), Err("clock-past"));
    assert_eq!(at(2, 9, 10_000), Err("clock-past"));
}

#[test]
fn a_key_on_a_curve_that_is_weak_or_with_a_hash_that_is_not_its_own_attests_nothing() {
    let tpm = SoftTpm::new(Algorithm::P256).unwrap();
    tpm.attestation_key().unwrap();
    let of = |change: &dyn Fn(&mut fleeti_testkit::soft_tpm::Area)| {
        let mut area = tpm.area.clone();
        change(&mut area);
        Public::parse(&area.to_bytes()).map(|public| AttestationKey::new(public).is_ok())
    };
    assert!(of(&|a| a.curve = 0x0001).is_err(), "P-192");
    assert!(of(&|a| a.curve = 0x0010).is_err(), "BN-256");
    assert!(of(&|a| a.name_hash = SHA_1).is_err(), "a name by SHA-1");
    assert_eq!(of(&|a| a.scheme_hash = SHA_384), Ok(false), "P-256 with SHA-384");
    assert_eq!(of(&|a| a.scheme_hash = SHA_1), Ok(false), "SHA-1");
    assert_eq!(of(&|a| a.point[1][31] ^= 1), Ok(false), "a point that is not on its curve");
    for bit in [1 << 1, 1 << 4, 1 << 5, 1 << 16, 1 << 18] {
        assert_eq!(of(&|a| a.attributes = RESTRICTED & !bit), Ok(false), "without {bit:#x}");
    }
    assert_eq!(of(&|a| a.attributes = RESTRICTED | 1 << 17), Ok(false), "decrypts");
    let device = |attributes: u32| {
        let area = fleeti_testkit::soft_tpm::Area { attributes, ..tpm.area.clone() };
        DeviceKey::new(Public::parse(&area.to_bytes()).unwrap()).is_ok()
    };
    assert!(device(RESTRICTED & !(1 << 16)));
    assert!(!device(RESTRICTED), "restricted");
    assert!(!device(RESTRICTED & !(1 << 16) & !(1 << 1)), "can leave its TPM");
}

#[test]
fn a_key_is_certified_by_a_certification_and_by_nothing_else() {
    let (tpm, other) =
        (SoftTpm::new(Algorithm::P256).unwrap(), SoftTpm::new(Algorithm::P256).unwrap());
    let attestation = tpm.attestation_key().unwrap();
    let public = |tpm: &SoftTpm| {
        let area = fleeti_testkit::soft_tpm::Area {
            attributes: RESTRICTED & !(1 << 16),
            ..tpm.area.clone()
        };
        Public::parse(&area.to_bytes()).unwrap()
    };
    let (key, stranger) = (public(&SoftTpm::new(Algorithm::P256).unwrap()), public(&other));
    let spki = key.to_spki_der().unwrap();
    let purpose = Purpose::renewal(&"dev-1".parse().unwrap(), [7; 32]);
    let asked = purpose.qualifying_data(&spki);
    let verify = |key_area: &[u8], said: &[u8], by: &SoftTpm| {
        let signature = by.sign(said).unwrap();
        let sent = Certification { key: key_area, certification: said, signature: &signature };
        key::verify(&sent, &attestation, &purpose, &spki).map_err(|e| e.code())
    };
    let said = tpm.certification(&asked, &key.name());
    assert_eq!(verify(key.bytes(), &said, &tpm), Ok(()));
    assert_eq!(verify(key.bytes(), &said, &other), Err("certification"), "signed by another key");
    assert_eq!(verify(stranger.bytes(), &said, &tpm), Err("key-other"));
    assert_eq!(verify(&key.bytes()[1..], &said, &tpm), Err("key-unreadable"));
    assert_eq!(
        verify(&tpm.area.to_bytes(), &said, &tpm),
        Err("key-unfit"),
        "the attestation key itself"
    );
    assert_eq!(
        verify(key.bytes(), &tpm.certification(&asked, &stranger.name()), &tpm),
        Err("certification-name")
    );
    assert_eq!(
        verify(key.bytes(), &tpm.certification(&asked, &[]), &tpm),
        Err("certification-name")
    );
    let elsewhere = Purpose::renewal(&"dev-1".parse().unwrap(), [8; 32]).qualifying_data(&spki);
    assert_eq!(
        verify(key.bytes(), &tpm.certification(&elsewhere, &key.name()), &tpm),
        Err("certification-purpose")
    );
    let other = Purpose::renewal(&"dev-2".parse().unwrap(), [7; 32]).qualifying_data(&spki);
    assert_eq!(
        verify(key.bytes(), &tpm.certification(&other, &key.name()), &tpm),
        Err("certification-purpose")
    );
    let quote = tpm.quote(&[], &asked, &[(SHA_256, 1)], &[0; 32]);
    assert_eq!(
        verify(key.bytes(), &quote, &tpm),
        Err("certification"),
        "a quote is not a certification"
    );
    let signed = tpm.sign(&said).unwrap();
    assert!(
        Attest::quote(&said, &signed, &attestation).is_err(),
        "and a certification is not a quote"
    );
}

/// An event of a log with two banks; `digest` is SHA-256.
pub fn event(pcr: u32, kind: u32, digest: &[u8], data: &[u8]) -> Vec<u8> {
    let head = [pcr.to_le_bytes(), kind.to_le_bytes(), 2u32.to_le_bytes()].concat();
    let digests = [&[0x0b, 0][..], digest, &[0x0c, 0], &[0; 48]].concat();
    [&head[..], &digests, &u32::try_from(data.len()).unwrap().to_le_bytes(), data].concat()
}

pub fn event_of(pcr: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    event(pcr, kind, &Hash::Sha256.digest(&[data]), data)
}

pub const ACTION: u32 = 0x8000_0007;
pub const SEPARATOR: u32 = 0x0000_0004;
pub const NO_ACTION: u32 = 0x0000_0003;
pub const IPL: u32 = 0x0000_000d;
pub const DRIVER_CONFIG: u32 = 0x8000_0001;
pub const AUTHORITY: u32 = 0x8000_00e0;

pub fn data_of(event: &[u8]) -> &[u8] {
    &event[12 + 34 + 50 + 4..]
}

/// Indices of the events of a PCR.
pub fn at(pieces: &Pieces, pcr: u32) -> Vec<usize> {
    (0..pieces.events.len()).filter(|i| Pieces::pcr(&pieces.events[*i]) == pcr).collect()
}

pub fn meaning(pieces: &Pieces) -> Result<MeasuredBoot, &'static str> {
    MeasuredBoot::of(&FirmwareLog::parse(&pieces.log()).unwrap()).map_err(|e| e.code())
}

#[test]
fn a_binary_that_was_started_does_not_vanish_as_something_else() {
    let returned = b"Returning from EFI Application from Boot Option";
    for (kind, data) in
        [(ACTION, &returned[..]), (SEPARATOR, &[0; 4]), (0x0000_0012, b"BOOT ATTEMPTS OMITTED")]
    {
        let mut pieces = boot();
        let binary = *at(&pieces, 4).last().unwrap();
        let digest = pieces.events[binary][14..46].to_vec();
        pieces.events[binary] = event(4, kind, &digest, data);
        let found = meaning(&pieces).unwrap_err();
        // A second separator is an error before its contents are checked.
        assert_eq!(
            found,
            if kind == SEPARATOR { "log-separator" } else { "log-digest" },
            "{kind:#x}"
        );
    }
}

#[test]
fn a_separator_is_one_that_says_that_all_went_well_and_ends_the_variables() {
    for pcr in [0, 4, 7] {
        let mut pieces = boot();
        let which = *at(&pieces, pcr)
            .iter()
            .find(|i| pieces.events[**i][4..8] == SEPARATOR.to_le_bytes())
            .unwrap();
        pieces.events[which] = event_of(pcr, SEPARATOR, &[1, 0, 0, 0]);
        assert_eq!(meaning(&pieces).unwrap_err(), "log-separator", "PCR {pcr}: an error");
        pieces.events[which] =
            event(pcr, SEPARATOR, &Hash::Sha256.digest(&[&[1, 0, 0, 0]]), &[0; 4]);
        assert_eq!(
            meaning(&pieces).unwrap_err(),
            "log-separator",
            "PCR {pcr}: an error event with another type"
        );
    }
    // What some firmware measures after dbx, measured after the separator.
    let mut pieces = boot();
    let policy = at(&pieces, 7);
    let dbx = data_of(&pieces.events[policy[4]]).to_vec();
    let mut dbt = dbx.clone();
    dbt[16..24].copy_from_slice(&3u64.to_le_bytes());
    let name: Vec<u8> = "dbt".encode_utf16().flat_map(u16::to_le_bytes).collect();
    dbt.splice(32..38, name);
    let mut before = boot();
    before.events.insert(policy[4] + 1, event_of(7, DRIVER_CONFIG, &dbt));
    meaning(&before).unwrap();
    pieces.events.insert(policy[5] + 1, event_of(7, DRIVER_CONFIG, &dbt));
    assert_eq!(meaning(&pieces).unwrap_err(), "log-policy");
}

#[test]
fn a_variable_is_read_to_its_last_byte_and_has_a_name_that_firmware_uses() {
    let which = at(&boot(), 7)[4];
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut pieces = boot();
        let mut data = data_of(&pieces.events[which]).to_vec();
        change(&mut data);
        pieces.events[which] = event_of(7, DRIVER_CONFIG, &data);
        meaning(&pieces).map(drop)
    };
    assert_eq!(with(&|_| {}), Ok(()));
    assert_eq!(with(&|data| data.push(0)), Err("log-event"), "a trailing byte");
    assert_eq!(with(&|data| data.truncate(data.len() - 1)), Err("log-event"));
    let named = |length: u64| {
        move |data: &mut Vec<u8>| {
            data[16..24].copy_from_slice(&length.to_le_bytes());
            data.splice(
                32..38,
                "x".repeat(usize::try_from(length).unwrap())
                    .encode_utf16()
                    .flat_map(u16::to_le_bytes),
            );
        }
    };
    assert_eq!(with(&named(64)), Err("log-policy"), "with another name");
    assert_eq!(with(&named(65)), Err("log-event"), "with a name that is too long");
}

/// The same event of a variable under another name of the same length.
fn renamed(event: &[u8], name: &str) -> Vec<u8> {
    let mut data = data_of(event).to_vec();
    let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    data[32..32 + units.len()].copy_from_slice(&units);
    data
}

#[test]
fn a_variable_is_one_of_the_policy_by_its_name_and_its_vendor() {
    let policy = at(&boot(), 7);
    let mut pieces = boot();
    pieces.events.insert(
        policy[4] + 1,
        event_of(7, DRIVER_CONFIG, &renamed(&pieces.events[policy[4]], "dbr")),
    );
    meaning(&pieces).unwrap();
    for event in [policy[0], policy[3], policy[4]] {
        let mut pieces = boot();
        let mut data = data_of(&pieces.events[event]).to_vec();
        data[0] ^= 1;
        pieces.events[event] = event_of(7, DRIVER_CONFIG, &data);
        assert_eq!(meaning(&pieces).unwrap_err(), "log-policy", "of another vendor");
    }
    let authority =
        *policy.iter().find(|i| boot().events[**i][4..8] == AUTHORITY.to_le_bytes()).unwrap();
    let mut foreign = data_of(&boot().events[authority]).to_vec();
    foreign[0] ^= 1;
    for data in [foreign, renamed(&boot().events[authority], "dc")] {
        let mut pieces = boot();
        pieces.events[authority] = event_of(7, AUTHORITY, &data);
        assert_eq!(meaning(&pieces).unwrap_err(), "log-policy", "no key of db");
    }
}

#[test]
fn a_device_is_left_out_in_the_words_of_the_specification() {
    for (text, expected) in
        [(&b"BOOT ATTEMPTS OMITTED"[..], Ok(())), (b"MZ, and what follows", Err("log-kind"))]
    {
        let mut pieces = boot();
        pieces.events.push(event_of(4, 0x0000_0012, text));
        assert_eq!(meaning(&pieces).map(drop), expected);
    }
}

#[test]
fn pcr_0_begins_with_the_locality_that_started_the_tpm() {
    let tpm = SoftTpm::new(Algorithm::P256).unwrap();
    let locality =
        |value: &[u8]| event(0, NO_ACTION, &[0; 32], &[&b"StartupLocality\0"[..], value].concat());
    let plain = good(&tpm).pcrs[&0];
    for value in [0u8, 3, 4] {
        let mut pieces = boot();
        pieces.events.insert(0, locality(&[value]));
        let sent = sent(&tpm, pieces.log(), phases_log(&PHASES));
        check(&tpm, &sent, None).unwrap();
        assert_eq!(sent.pcrs[&0] == plain, value == 0, "{value}");
    }
    for value in [&[1u8][..], &[255], &[], &[3, 0]] {
        let mut pieces = boot();
        pieces.events.insert(0, locality(value));
        assert!(FirmwareLog::parse(&pieces.log()).is_err(), "{value:?}");
    }
    let mut late = boot();
    let second = at(&late, 0)[1];
    late.events.insert(second, locality(&[3]));
    assert!(FirmwareLog::parse(&late.log()).is_err(), "late");
}

/// Codes of the contraindicated claims, for a device with this knowledge.
pub fn contradictions(
    tpm: &SoftTpm,
    pieces: &Pieces,
    phases: &[&str],
    known: &Known,
) -> (Level, Vec<String>) {
    let sent = sent(tpm, pieces.log(), phases_log(phases));
    let result = appraise(&check(tpm, &sent, None).unwrap(), known);
    let wrong =
        result.claims.into_iter().filter(|c| c.tier == Tier::Contraindicated).map(|c| c.code);
    (result.level, wrong.collect())
}

#[test]
fn a_release_that_only_the_device_names_is_distinguished_from_its_own() {
    let tpm = SoftTpm::new(Algorithm::P256).unwrap();
    let own = known(&FirmwareLog::parse(&boot().log()).unwrap());
    let (named, loader) = (own.references[0].clone(), own.boot_loaders[0]);
    let started = |known: &Known| {
        let appraisal = appraise(
            &check(&tpm, &sent(&tpm, boot().log(), phases_log(&PHASES)), None).unwrap(),
            known,
        );
        let claim = appraisal.claims.into_iter().find(|c| c.aspect == Aspect::Executables).unwrap();
        (appraisal.level, appraisal.release, claim.tier, claim.code)
    };
    let only_named = Known {
        references: vec![],
        boot_loaders: vec![],
        not_given: Some((named.clone(), Some(loader))),
        ..own.clone()
    };
    let expected = (Level::ObservedBoot, None, Tier::Warning, "release-not-given".to_owned());
    assert_eq!(started(&only_named), expected);
    // The boot loader of the unknown release comes with that release, or with none.
    let without = Known { not_given: Some((named.clone(), None)), ..only_named.clone() };
    assert_eq!(started(&without).3, "boot-loader-foreign");
    // The reported release is also one that it may run: that changes nothing.
    let both = Known { not_given: Some((named.clone(), None)), ..own.clone() };
    assert_eq!(started(&both).3, "release");
    // It counts only as a whole.
    let image =
        fleeti_pki::attestation::appraisal::Reference { kernel_image: [7; 32], ..named.clone() };
    let foreign = Known {
        boot_loaders: vec![loader],
        not_given: Some((image, Some(loader))),
        ..only_named.clone()
    };
    assert_eq!(started(&foreign).3, "kernel-image-foreign");
    let other = fleeti_pki::attestation::appraisal::Reference { pcr_11: [7; 32], ..named };
    let partly = Known { not_given: Some((other, Some(loader))), ..only_named };
    assert_eq!(started(&partly).3, "pcr-11");
}

#[test]
fn what_was_measured_beside_the_release_takes_every_level_away() {
    let tpm = SoftTpm::new(Algorithm::P256).unwrap();
    let all = known(&FirmwareLog::parse(&boot().log()).unwrap());
    assert_eq!(contradictions(&tpm, &boot(), &PHASES, &all), (Level::VerifiedFirmware, vec![]));
    let none = (Level::SelfReported, |code: &str| vec![code.to_owned()]);

    for (pcr, code) in [(12, "pcr-12"), (13, "pcr-13"), (14, "pcr-14")] {
        let mut pieces = boot();
        pieces.events.push(event_of(pcr, IPL, b"an addon"));
        assert_eq!(contradictions(&tpm, &pieces, &PHASES, &all), (none.0, none.1(code)));
    }
    for phases in [
        &PHASES[..3],
        &[&PHASES[..], &["shutdown"]].concat(),
        &[&PHASES[..], &["anything else"]].concat(),
    ] {
        assert_eq!(
            contradictions(&tpm, &boot(), phases, &all),
            (none.0, none.1("pcr-11")),
            "{phases:?}"
        );
    }
    let early = [phases_log(&PHASES[..3]), measured(15, "a volume").into_bytes()].concat();
    let sent = sent(&tpm, boot().log(), early);
    let claims = appraise(&check(&tpm, &sent, None).unwrap(), &all).claims;
    assert!(
        claims.iter().any(|c| c.code == "pcr-11" && c.finding.ends_with("measured last: sysinit")),
        "{claims:#?}"
    );
    let mut pieces = boot();
    let off = at(&pieces, 7)[0];
    let mut variable = data_of(&pieces.events[off]).to_vec();
    *variable.last_mut().unwrap() = 0;
    pieces.events[off] = event_of(7, DRIVER_CONFIG, &variable);
    assert_eq!(contradictions(&tpm, &pieces, &PHASES, &all), (none.0, none.1("secure-boot-off")));

    let mut pieces = boot();
    let authority = *at(&pieces, 7)
        .iter()
        .find(|i| pieces.events[**i][4..8] == AUTHORITY.to_le_bytes())
        .unwrap();
    let mut foreign = data_of(&pieces.events[authority]).to_vec();
    *foreign.last_mut().unwrap() ^= 1;
    pieces.events[authority] = event_of(7, AUTHORITY, &foreign);
    assert_eq!(contradictions(&tpm, &pieces, &PHASES, &all), (none.0, none.1("authority-foreign")));
    pieces.events.remove(authority);
    assert_eq!(
        contradictions(&tpm, &pieces, &PHASES, &all),
        (none.0, none.1("authority-foreign")),
        "no key verified it"
    );
}

#[test]
fn firmware_is_one_that_the_policy_names_and_an_empty_list_names_none() {
    let tpm = SoftTpm::new(Algorithm::P256).unwrap();
    let log = FirmwareLog::parse(&boot().log()).unwrap();
    let pcrs = log.replay();
    let mine = [0, 2].map(|r| hex::encode(pcrs[&r]));
    let level = |pcrs: Vec<[String; 2]>| {
        let known = Known { firmware: Firmware::Known { pcrs, binaries: vec![] }, ..known(&log) };
        contradictions(&tpm, &boot(), &PHASES, &known).0
    };
    assert_eq!(level(vec![]), Level::VerifiedBoot, "even if an operator accepted it");
    assert_eq!(level(vec![[mine[1].clone(), mine[0].clone()]]), Level::VerifiedBoot);
    assert_eq!(level(vec![["00".repeat(32), "00".repeat(32)], mine]), Level::VerifiedFirmware);
}
