//! Evidence of a real TPM (swtpm) with the measurements of a real boot (OVMF, systemd-boot 252, a
//! UKI), and every defect of evidence: each fails the one check for it.

mod logs;

use crate::attester::{Answer, Attester, PHASES, boot, captured, challenge, check, known};
use fleeti_core::attestation::{Aspect, Level, Tier};
use fleeti_pki::attestation::Challenge;
use fleeti_pki::attestation::appraisal::{Known, appraise};
use fleeti_pki::attestation::evidence::Before;
use fleeti_pki::measured::boot::MeasuredBoot;
use fleeti_pki::measured::log::FirmwareLog;
use fleeti_pki::measured::phases;
use fleeti_pki::measured::predicted::{Policy, pcr_7};
use fleeti_pki::tpm::endorsement::Kind;
use fleeti_pki::tpm::public::AttestationKey;

fn code(answer: &Answer, nonce: u8, key: &AttestationKey, before: Option<&Before>) -> &'static str {
    check(answer, nonce, key, before).unwrap_err().code()
}

#[test]
fn the_captured_log_leads_to_what_the_tpm_held() {
    let log = FirmwareLog::parse(&captured("ovmf-2022.11-systemd-252.log")).unwrap();
    let text = String::from_utf8(captured("ovmf-2022.11-systemd-252.pcrs")).unwrap();
    let mut replayed = log.replay();
    // The capture has one measurement into PCR 10 after the log.
    for (pcr, value) in text.lines().filter_map(|l| l.strip_prefix("@@pcr ")?.split_once(' ')) {
        let pcr: u8 = pcr.parse().unwrap();
        if pcr != 10 {
            assert_eq!(
                hex::encode_upper(replayed.remove(&pcr).unwrap_or_default()),
                value,
                "PCR {pcr}"
            );
        }
    }
    let boot = MeasuredBoot::of(&log).unwrap();
    assert!(boot.secure_boot);
    assert_eq!(boot.binaries.len(), 2);
    assert_eq!(boot.authorities.len(), 1);
}

#[test]
fn the_logs_of_a_boot_with_systemd_257_lead_to_what_its_tpm_quoted() {
    let log = FirmwareLog::parse(&captured("ovmf-2022.11-systemd-257.log")).unwrap();
    let measurements = phases::parse(&captured("ovmf-2022.11-systemd-257.phases")).unwrap();
    let words: Vec<_> =
        measurements.iter().filter(|m| m.pcr == 11).filter_map(|m| m.words.as_deref()).collect();
    assert_eq!(words, PHASES);
    let mut replayed = log.replay();
    phases::replay(&mut replayed, &measurements);
    let text = String::from_utf8(captured("ovmf-2022.11-systemd-257.pcrs")).unwrap();
    for (pcr, value) in text.lines().filter_map(|l| l.strip_prefix("@@pcr ")?.split_once(' ')) {
        let found = replayed.get(&pcr.parse().unwrap()).copied().unwrap_or_default();
        assert_eq!(hex::encode_upper(found), value, "PCR {pcr}");
    }
    assert!(!replayed.contains_key(&12), "this version measures no command line of its own there");
    let boot = MeasuredBoot::of(&log).unwrap();
    assert_eq!((boot.secure_boot, boot.binaries.len(), boot.authorities.len()), (true, 2, 1));

    // PCR 7 is computed from the variables and the keys that verified something, and from nothing
    // else.
    let policy = Policy {
        pk: boot.variable("PK"),
        kek: boot.variable("KEK"),
        db: boot.variable("db"),
        dbx: boot.variable("dbx"),
    };
    let at = policy
        .db
        .windows(boot.authorities[0].len())
        .position(|w| w == boot.authorities[0])
        .unwrap();
    let authority = [&policy.db[at - 16..at], &boot.authorities[0]].concat();
    assert_eq!(pcr_7(&policy, &[&authority]), replayed[&7]);
    let others = [
        pcr_7(&Policy { dbx: policy.db, ..policy }, &[&authority]),
        pcr_7(&Policy { pk: policy.kek, kek: policy.pk, ..policy }, &[&authority]),
        pcr_7(&policy, &[]),
        pcr_7(&policy, &[&authority, &authority]),
    ];
    assert!(others.iter().all(|other| *other != replayed[&7]));
}

#[test]
fn a_good_device_reaches_the_level_that_what_is_known_of_it_allows() {
    let device = Attester::new(boot().log(), &PHASES);
    let evidence = check(&device.answer(&challenge(1)), 1, &device.key, None).unwrap();
    let full = known(evidence.firmware_log());
    let result = appraise(&evidence, &full);
    assert_eq!(
        (result.level, result.release.map(|r| r.to_string())),
        (Level::VerifiedFirmware, Some("kiosk@1".into())),
        "{:#?}",
        result.claims
    );

    let without = |change: &dyn Fn(&mut Known)| {
        let mut less = full.clone();
        change(&mut less);
        appraise(&evidence, &less)
    };
    let level = |change: &dyn Fn(&mut Known)| without(change).level;
    assert_eq!(level(&|k| k.firmware_code = None), Level::VerifiedBoot);
    assert_eq!(
        level(&|k| k.firmware_code.as_mut().unwrap().pcrs[0] = [1; 32]),
        Level::VerifiedBoot
    );
    assert_eq!(level(&|k| k.firmware_keys = None), Level::ObservedBoot);
    assert_eq!(
        level(&|k| k.firmware_keys.as_mut().unwrap().db = vec!["of the next epoch".into()]),
        Level::ObservedBoot
    );
    assert_eq!(
        level(&|k| k.wanted = Some("kiosk@2".parse().unwrap())),
        Level::VerifiedFirmware,
        "an update is pending"
    );
    assert_eq!(
        level(&|k| k.references[0].is_revoked = true),
        Level::ObservedBoot,
        "revoked, but genuine"
    );
    assert_eq!(level(&|k| k.wanted = Some("kiosk@1".parse().unwrap())), Level::VerifiedFirmware);
    assert_eq!(
        level(&|k| k.references.clear()),
        Level::ObservedBoot,
        "an empty list accepts nothing"
    );
    assert_eq!(level(&|k| k.manufacturer = None), Level::UnverifiedTpm);
    assert_eq!(
        level(&|k| k.manufacturer = Some(Kind::Hardware)),
        Level::VerifiedBoot,
        "a discrete chip"
    );
    assert_eq!(level(&|k| k.manufacturer = Some(Kind::Virtual)), Level::UnverifiedTpm);
    assert_eq!(
        level(&|k| {
            k.manufacturer = Some(Kind::Virtual);
            k.trusts_hypervisor = true;
        }),
        Level::VerifiedFirmware
    );
    assert_eq!(
        appraise(&evidence, &Known::default()).level,
        Level::UnverifiedTpm,
        "without knowledge, nothing is affirmed"
    );
    let forbidden = |k: &mut Known| k.firmware_keys.as_mut().unwrap().dbx = vec!["ab".repeat(32)];
    assert_eq!(level(&forbidden), Level::ObservedBoot);
    let says = |code: &str, change: &dyn Fn(&mut Known)| {
        without(change).claims.iter().any(|c| c.code == code)
    };
    assert!(says("dbx-old", &forbidden));
    assert!(says("firmware-chip", &|k| k.manufacturer = Some(Kind::Hardware)));
    assert!(says("release-other", &|k| k.wanted = Some("kiosk@2".parse().unwrap())));
    assert!(says("release", &|k| k.wanted = Some("kiosk@1".parse().unwrap())));
    assert!(says("release-unknown", &|k| k.references.clear()));
    assert!(
        without(&|k| k.manufacturer = None)
            .claims
            .iter()
            .any(|c| c.aspect == Aspect::Hardware && c.raise.is_some())
    );

    type Change = dyn Fn(&mut Known);
    let contradicted: [(&str, &Change); 6] = [
        ("boot-loader-foreign", &|k| k.boot_loaders = vec![[1; 32]]),
        ("kernel-image-foreign", &|k| k.references[0].kernel_image = [1; 32]),
        ("pcr-9", &|k| k.references[0].pcr_9 = Some([1; 32])),
        ("pcr-11", &|k| k.references[0].pcr_11 = [1; 32]),
        ("keys-foreign", &|k| k.firmware_keys.as_mut().unwrap().pk = Some("other".into())),
        ("keys-foreign", &|k| k.firmware_keys.as_mut().unwrap().kek.push("another".into())),
    ];
    for (code, change) in contradicted {
        let result = without(change);
        assert_eq!(result.level, Level::SelfReported, "{code}");
        let wrong: Vec<_> = result
            .claims
            .iter()
            .filter(|c| c.tier == Tier::Contraindicated)
            .map(|c| c.code.as_str())
            .collect();
        assert_eq!(wrong, [code]);
    }
}

#[test]
fn whatever_is_no_answer_to_this_challenge_by_this_tpm_is_refused_by_its_own_check() {
    let device = Attester::new(boot().log(), &PHASES);
    let other = Attester::new(boot().log(), &PHASES);
    let answer = || device.answer(&challenge(1));
    check(&answer(), 1, &device.key, None).unwrap();
    assert_eq!(code(&answer(), 2, &device.key, None), "quote-challenge", "replayed");
    assert_eq!(
        code(&other.answer(&challenge(1)), 1, &device.key, None),
        "quote-signature",
        "of another device"
    );
    let theirs = Challenge { device: "dev-2".parse().unwrap(), ..challenge(1) };
    assert_eq!(
        code(&device.answer(&theirs), 1, &device.key, None),
        "quote-challenge",
        "for another device"
    );
    type Change = dyn Fn(&mut Answer);
    let table: [(&str, &Change); 14] = [
        ("quote-magic", &|a| a.quote[0] ^= 1),
        ("quote-kind", &|a| a.quote[5] = 0x17),
        ("quote-unreadable", &|a| a.quote.push(0)),
        ("quote-unreadable", &|a| a.quote.truncate(a.quote.len() - 1)),
        ("quote-unreadable", &|a| a.signature.push(0)),
        ("quote-unreadable", &|a| a.signature[1] = 0x14),
        ("quote-signature-hash", &|a| a.signature[3] = 0x0c),
        ("quote-signature", &|a| *a.signature.last_mut().unwrap() ^= 1),
        ("quote-signature", &|a| *a.quote.last_mut().unwrap() ^= 1),
        ("quote-challenge", &|a| a.firmware.push(0)),
        ("quote-challenge", &|a| a.phases.push(b'\n')),
        ("pcr-selection", &|a| a.pcrs.retain(|r, _| *r != 15)),
        ("pcr-selection", &|a| a.pcrs.extend([(10, [0; 32])])),
        ("pcr-digest", &|a| a.pcrs.get_mut(&4).unwrap()[0] ^= 1),
    ];
    for (wanted, change) in table {
        let mut changed = answer();
        change(&mut changed);
        assert_eq!(code(&changed, 1, &device.key, None), wanted);
    }
    for selection in
        ["sha256:0,1,2,3,4,5,6,7,9,11,12,13,14", "sha1:0+sha256:0,1,2,3,4,5,6,7,9,11,12,13,14,15"]
    {
        assert_eq!(
            code(&device.answer_about(&challenge(1), selection), 1, &device.key, None),
            "quote-selection",
            "{selection}"
        );
    }
    // Truncated at every byte.
    let whole = answer();
    for length in 0..whole.quote.len() {
        let cut = Answer { quote: whole.quote[..length].to_vec(), ..answer_of(&whole) };
        assert!(matches!(code(&cut, 1, &device.key, None), "quote-unreadable"), "{length}");
    }
}

fn answer_of(a: &Answer) -> Answer {
    Answer {
        quote: a.quote.clone(),
        signature: a.signature.clone(),
        pcrs: a.pcrs.clone(),
        firmware: a.firmware.clone(),
        phases: a.phases.clone(),
    }
}

#[test]
fn the_clock_goes_on_through_power_cuts_and_restarts_and_never_back() {
    let mut device = Attester::new(boot().log(), &PHASES);
    let accepted = |device: &Attester, nonce, before: Option<&Before>| {
        let evidence =
            check(&device.answer(&challenge(nonce)), nonce, &device.key, before).unwrap();
        Before { clock: evidence.clock(), pcrs: evidence.pcrs().clone() }
    };
    let first = accepted(&device, 1, None);
    let old = device.answer(&challenge(2));
    let second = accepted(&device, 3, Some(&first));
    assert_eq!(
        code(&old, 2, &device.key, Some(&second)),
        "clock-still",
        "older than the accepted one"
    );
    // PCRs of the firmware do not change while a system runs.
    device.tpm.tool(&format!("tpm2_pcrextend 5:sha256={}", "11".repeat(32))).unwrap();
    assert_eq!(code(&device.answer(&challenge(4)), 4, &device.key, Some(&second)), "pcr-moved");

    device.tpm.cut_power().unwrap();
    device.boot(&PHASES);
    let third = accepted(&device, 5, Some(&second));
    assert!(
        third.clock.resets > second.clock.resets && !third.clock.safe,
        "{:?}: a power cut is no fault",
        third.clock
    );
    assert_eq!(code(&old, 2, &device.key, Some(&third)), "clock-past");
    device.tpm.restart().unwrap();
    device.boot(&PHASES);
    let fourth = accepted(&device, 6, Some(&third));
    assert!(fourth.clock.resets > third.clock.resets && fourth.clock.restarts == 0);
}
