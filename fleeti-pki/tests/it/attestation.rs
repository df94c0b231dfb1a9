//! Evidence of a real TPM (swtpm) with the measurements of a real boot (OVMF, systemd-boot 252, a
//! UKI), and every defect of evidence: each fails the one check for it.

use fleeti_core::attestation::policy::Firmware;
use fleeti_core::attestation::{Aspect, Level, Tier};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::boot::FirmwareKeys;
use fleeti_pki::attestation::appraisal::{FirmwareCode, Known, Reference, appraise};
use fleeti_pki::attestation::evidence::{Before, Evidence, Refused, VerifiedEvidence, verify};
use fleeti_pki::attestation::{Challenge, REGISTERS};
use fleeti_pki::measured::boot::MeasuredBoot;
use fleeti_pki::measured::log::{EventKind, FirmwareLog, Registers};
use fleeti_pki::measured::phases;
use fleeti_pki::measured::predicted::{Policy, after_phases, register_7};
use fleeti_pki::tpm::Hash;
use fleeti_pki::tpm::endorsement::Kind;
use fleeti_pki::tpm::public::{AttestationKey, Public};
use fleeti_pki::uefi;
use fleeti_testkit::tpm::{Maker, Tpm, phases_log};
use std::path::Path;

pub const PHASES: [&str; 4] = ["enter-initrd", "leave-initrd", "sysinit", "ready"];

fn captured(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/measured").join(name))
        .unwrap()
}

/// A log in parts: the first event, and each later one.
pub struct Pieces {
    header: Vec<u8>,
    pub events: Vec<Vec<u8>>,
}

impl Pieces {
    fn of(log: &[u8]) -> Self {
        let number = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
        let mut at = 32 + number(28);
        let header = log[..at].to_vec();
        let mut events = Vec::new();
        while at < log.len() {
            // Two banks: SHA-256 and SHA-384.
            let length = 12 + 2 + 32 + 2 + 48 + 4;
            let end = at + length + number(at + length - 4);
            events.push(log[at..end].to_vec());
            at = end;
        }
        Self { header, events }
    }
    pub fn register(event: &[u8]) -> u32 {
        u32::from_le_bytes(event[..4].try_into().unwrap())
    }
    pub fn log(&self) -> Vec<u8> {
        [&self.header[..], &self.events.concat()].concat()
    }
}

/// The captured boot, without the command line that version 252 measures into PCR 12.
pub fn boot() -> Pieces {
    let mut pieces = Pieces::of(&captured("ovmf-2022.11-systemd-252.log"));
    pieces.events.retain(|e| Pieces::register(e) != 12);
    pieces
}

/// A device: a TPM with the measurements of a boot, and an attestation key.
pub struct Attester {
    tpm: Tpm,
    pub key: AttestationKey,
    firmware: Vec<u8>,
    phases: Vec<u8>,
}

/// Its evidence.
pub struct Answer {
    quote: Vec<u8>,
    signature: Vec<u8>,
    registers: Registers,
    firmware: Vec<u8>,
    phases: Vec<u8>,
}

impl Answer {
    fn evidence(&self) -> Evidence<'_> {
        Evidence {
            quote: &self.quote,
            signature: &self.signature,
            registers: &self.registers,
            firmware_log: &self.firmware,
            phases_log: &self.phases,
        }
    }
}

pub fn challenge(nonce: u8) -> Challenge {
    Challenge { nonce: [nonce; 32], device: "dev-1".parse().unwrap() }
}

impl Attester {
    pub fn new(firmware: Vec<u8>, phases: &[&str]) -> Self {
        let tpm = Tpm::new(&Maker::new().unwrap()).unwrap();
        tpm.tools(
            "tpm2_createek -c ek.ctx -G ecc -u ek.pub
             tpm2_flushcontext -t
             tpm2_createak -C ek.ctx -c ak.ctx -G ecc256 -g sha256 -s ecdsa -u ak.pub -f tss
             tpm2_flushcontext -t
             tpm2_evictcontrol -C o -c ak.ctx 0x81010100",
        )
        .unwrap();
        let key = AttestationKey::new(Public::parse_sized(&tpm.file("ak.pub").unwrap()).unwrap())
            .unwrap();
        let attester = Self { tpm, key, firmware, phases: phases_log(phases) };
        attester.boot(phases);
        attester
    }

    /// Extends the PCRs as the logs say.
    fn boot(&self, phases: &[&str]) {
        self.tpm.measure(&self.firmware, phases).unwrap();
    }

    /// A quote for these logs, whatever was measured.
    fn answer_with(
        &self,
        challenge: &Challenge,
        (firmware, phases): (&[u8], &[u8]),
        selection: &str,
    ) -> Answer {
        let asked = hex::encode(challenge.qualifying_data(firmware, phases));
        let quote = format!(
            "tpm2_quote -c 0x81010100 -l {selection} -q {asked} -m quote -s signature -o values -F values -g sha256"
        );
        self.tpm.tools(&format!("{quote}\n tpm2_flushcontext -t")).unwrap();
        let bytes = self.tpm.file("values").unwrap();
        let registers = REGISTERS
            .into_iter()
            .zip(bytes.chunks_exact(32).map(|v| v.try_into().unwrap()))
            .collect();
        Answer {
            quote: self.tpm.file("quote").unwrap(),
            signature: self.tpm.file("signature").unwrap(),
            registers,
            firmware: firmware.to_vec(),
            phases: phases.to_vec(),
        }
    }

    fn answer_about(&self, challenge: &Challenge, selection: &str) -> Answer {
        self.answer_with(challenge, (&self.firmware, &self.phases), selection)
    }

    pub fn answer(&self, challenge: &Challenge) -> Answer {
        self.answer_about(challenge, &format!("sha256:{}", asked_for()))
    }
}

/// The selected PCRs, in the syntax of tpm2-tools.
fn asked_for() -> String {
    REGISTERS.map(|r| r.to_string()).join(",")
}

pub fn check(
    answer: &Answer,
    nonce: u8,
    key: &AttestationKey,
    before: Option<&Before>,
) -> Result<VerifiedEvidence, Refused> {
    verify(&answer.evidence(), &challenge(nonce), key, before)
}

fn code(answer: &Answer, nonce: u8, key: &AttestationKey, before: Option<&Before>) -> &'static str {
    check(answer, nonce, key, before).unwrap_err().code()
}

/// What a server knows about a device that booted the captured boot.
pub fn known(log: &FirmwareLog) -> Known {
    let boot = MeasuredBoot::of(log).unwrap();
    let certificates = |name| {
        uefi::certificates(boot.variable(name))
            .unwrap()
            .iter()
            .map(|der| sha256_hex(der))
            .collect::<Vec<_>>()
    };
    let firmware_keys = FirmwareKeys {
        pk: certificates("PK").pop(),
        kek: certificates("KEK"),
        db: certificates("db"),
        ..Default::default()
    };
    let registers = log.replay();
    let reference = Reference {
        release: "kiosk@1".parse().unwrap(),
        kernel_image: boot.programs[1],
        register_9: None,
        register_11: after_phases(registers[&11], &PHASES.join(":")),
        is_revoked: false,
    };
    Known {
        maker: Some(Kind::Processor),
        firmware_keys: Some(firmware_keys),
        references: vec![reference],
        boot_loaders: vec![boot.programs[0]],
        firmware_code: Some(FirmwareCode { is_accepted: true, ..FirmwareCode::seen(&registers) }),
        firmware: Firmware::Pinned,
        ..Known::default()
    }
}

#[test]
fn the_captured_log_leads_to_what_the_tpm_held() {
    let log = FirmwareLog::parse(&captured("ovmf-2022.11-systemd-252.log")).unwrap();
    let text = String::from_utf8(captured("ovmf-2022.11-systemd-252.pcrs")).unwrap();
    let mut replayed = log.replay();
    // The capture has one measurement into PCR 10 after the log.
    for (register, value) in text.lines().filter_map(|l| l.strip_prefix("@@pcr ")?.split_once(' '))
    {
        let register: u8 = register.parse().unwrap();
        if register != 10 {
            assert_eq!(
                hex::encode_upper(replayed.remove(&register).unwrap_or_default()),
                value,
                "register {register}"
            );
        }
    }
    let boot = MeasuredBoot::of(&log).unwrap();
    assert!(boot.secure_boot);
    assert_eq!(boot.programs.len(), 2);
    assert_eq!(boot.authorities.len(), 1);
}

#[test]
fn the_logs_of_a_boot_with_systemd_257_lead_to_what_its_tpm_quoted() {
    let log = FirmwareLog::parse(&captured("ovmf-2022.11-systemd-257.log")).unwrap();
    let measurements = phases::parse(&captured("ovmf-2022.11-systemd-257.phases")).unwrap();
    let words: Vec<_> = measurements
        .iter()
        .filter(|m| m.register == 11)
        .filter_map(|m| m.words.as_deref())
        .collect();
    assert_eq!(words, PHASES);
    let mut replayed = log.replay();
    phases::replay(&mut replayed, &measurements);
    let text = String::from_utf8(captured("ovmf-2022.11-systemd-257.pcrs")).unwrap();
    for (register, value) in text.lines().filter_map(|l| l.strip_prefix("@@pcr ")?.split_once(' '))
    {
        let found = replayed.get(&register.parse().unwrap()).copied().unwrap_or_default();
        assert_eq!(hex::encode_upper(found), value, "register {register}");
    }
    assert!(!replayed.contains_key(&12), "this version measures no command line of its own there");
    let boot = MeasuredBoot::of(&log).unwrap();
    assert_eq!((boot.secure_boot, boot.programs.len(), boot.authorities.len()), (true, 2, 1));

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
    let voucher = [&policy.db[at - 16..at], &boot.authorities[0]].concat();
    assert_eq!(register_7(&policy, &[&voucher]), replayed[&7]);
    let others = [
        register_7(&Policy { dbx: policy.db, ..policy }, &[&voucher]),
        register_7(&Policy { pk: policy.kek, kek: policy.pk, ..policy }, &[&voucher]),
        register_7(&policy, &[]),
        register_7(&policy, &[&voucher, &voucher]),
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
        level(&|k| k.firmware_code.as_mut().unwrap().registers[0] = [1; 32]),
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
        "on its way to another one"
    );
    assert_eq!(
        level(&|k| k.references[0].is_revoked = true),
        Level::ObservedBoot,
        "revoked, and no lie"
    );
    assert_eq!(level(&|k| k.wanted = Some("kiosk@1".parse().unwrap())), Level::VerifiedFirmware);
    assert_eq!(
        level(&|k| k.references.clear()),
        Level::ObservedBoot,
        "an empty list accepts nothing"
    );
    assert_eq!(level(&|k| k.maker = None), Level::UnverifiedTpm);
    assert_eq!(level(&|k| k.maker = Some(Kind::Hardware)), Level::VerifiedBoot, "a discrete chip");
    assert_eq!(level(&|k| k.maker = Some(Kind::Virtual)), Level::UnverifiedTpm);
    assert_eq!(
        level(&|k| {
            k.maker = Some(Kind::Virtual);
            k.trusts_hypervisor = true;
        }),
        Level::VerifiedFirmware
    );
    assert_eq!(
        appraise(&evidence, &Known::default()).level,
        Level::UnverifiedTpm,
        "nothing known, nothing affirmed"
    );
    let forbidden = |k: &mut Known| k.firmware_keys.as_mut().unwrap().dbx = vec!["ab".repeat(32)];
    assert_eq!(level(&forbidden), Level::ObservedBoot);
    let says = |code: &str, change: &dyn Fn(&mut Known)| {
        without(change).claims.iter().any(|c| c.code == code)
    };
    assert!(says("dbx-old", &forbidden));
    assert!(says("firmware-chip", &|k| k.maker = Some(Kind::Hardware)));
    assert!(says("release-other", &|k| k.wanted = Some("kiosk@2".parse().unwrap())));
    assert!(says("release", &|k| k.wanted = Some("kiosk@1".parse().unwrap())));
    assert!(says("release-unknown", &|k| k.references.clear()));
    assert!(
        without(&|k| k.maker = None)
            .claims
            .iter()
            .any(|c| c.aspect == Aspect::Hardware && c.raise.is_some())
    );

    type Change = dyn Fn(&mut Known);
    let contradicted: [(&str, &Change); 6] = [
        ("boot-loader-foreign", &|k| k.boot_loaders = vec![[1; 32]]),
        ("kernel-image-foreign", &|k| k.references[0].kernel_image = [1; 32]),
        ("register-9", &|k| k.references[0].register_9 = Some([1; 32])),
        ("register-11", &|k| k.references[0].register_11 = [1; 32]),
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
        "another device's"
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
        ("registers-selection", &|a| a.registers.retain(|r, _| *r != 15)),
        ("registers-selection", &|a| a.registers.extend([(10, [0; 32])])),
        ("registers-digest", &|a| a.registers.get_mut(&4).unwrap()[0] ^= 1),
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
        registers: a.registers.clone(),
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
        Before { clock: evidence.clock(), registers: evidence.registers().clone() }
    };
    let first = accepted(&device, 1, None);
    let old = device.answer(&challenge(2));
    let second = accepted(&device, 3, Some(&first));
    assert_eq!(
        code(&old, 2, &device.key, Some(&second)),
        "clock-still",
        "made before the one that was accepted"
    );
    // PCRs of the firmware do not change while a system runs.
    device.tpm.tool(&format!("tpm2_pcrextend 5:sha256={}", "11".repeat(32))).unwrap();
    assert_eq!(
        code(&device.answer(&challenge(4)), 4, &device.key, Some(&second)),
        "registers-moved"
    );

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

#[test]
fn logs_that_do_not_lead_to_the_registers_are_refused() {
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
    for register in [4, 7] {
        let mut without = boot();
        let at = without.events.iter().rposition(|e| Pieces::register(e) == register).unwrap();
        let digest = hex::encode(&without.events.remove(at)[14..46]);
        let record = format!(
            "\u{1e}{{\"pcr\":{register},\"digests\":[{{\"hashAlg\":\"sha256\",\"digest\":\"{digest}\"}}]}}\n"
        );
        let told = [record.into_bytes(), phases.clone()].concat();
        assert_eq!(
            with(without.log(), told).unwrap_err().code(),
            "phases-unreadable",
            "register {register}"
        );
    }
    assert_eq!(with(b"no log".to_vec(), phases.clone()).unwrap_err().code(), "log-unreadable");
    assert_eq!(with(pieces.log(), b"no log".to_vec()).unwrap_err().code(), "phases-unreadable");
}

/// Offset of an event's data: after PCR, type, count, a digest of SHA-256 and one of SHA-384, and
/// the length.
pub const DATA: usize = 12 + 34 + 50 + 4;

/// The interpretation of a log, or the code of the failed check.
pub fn meaning(events: impl FnOnce(&mut Vec<Vec<u8>>)) -> Result<MeasuredBoot, String> {
    let mut pieces = boot();
    events(&mut pieces.events);
    let log = FirmwareLog::parse(&pieces.log()).map_err(|_| "log-unreadable".to_owned())?;
    MeasuredBoot::of(&log).map_err(|e| e.code().to_owned())
}

#[test]
fn a_log_that_replays_and_says_something_else_is_refused_by_its_own_check() {
    let unused = 0xa0u32.to_le_bytes();
    let of = |events: &[Vec<u8>], register: u32| -> Vec<usize> {
        (0..events.len()).filter(|i| Pieces::register(&events[*i]) == register).collect()
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
            let programs = of(e, 4);
            e[*programs.last().unwrap()][4..8].copy_from_slice(&unused);
        }),
    ];
    for (at, (wanted, change)) in table.into_iter().enumerate() {
        assert_eq!(meaning(|events| change(events)).map(drop), Err(wanted.to_owned()), "{at}");
    }
    for register in 0..=6 {
        let is_separator =
            |e: &Vec<u8>| Pieces::register(e) == register && e[4..8] == 4u32.to_le_bytes();
        let at = boot().events.iter().position(is_separator).unwrap();
        let changes: [&Change<'_>; 3] =
            [&|e| e.insert(at, e[at].clone()), &|e| drop(e.remove(at)), &|e| e[at][DATA] = 1];
        for change in changes {
            assert_eq!(
                meaning(|events| change(events)).map(drop),
                Err("log-separator".to_owned()),
                "register {register}"
            );
        }
    }
    let action_of = |register: u32, text: &[u8]| {
        let digest = [&Hash::Sha256.digest(&[text])[..], &[0x0c, 0], &[0; 48]].concat();
        let head =
            [register.to_le_bytes(), 0x8000_0007u32.to_le_bytes(), 2u32.to_le_bytes()].concat();
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
        ("register", head, &[0xff; 4]),
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
