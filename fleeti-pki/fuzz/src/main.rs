//! Feeds every parser of untrusted bytes to libFuzzer: none may panic, and parsed values must
//! encode to the same bytes. The environment selects the parser, so that one program needs one
//! build.
#![no_main]

mod wire;

use fleeti_core::boot_proof::BootProof;
use fleeti_core::manifest::Manifest;
use fleeti_core::wire::boot::BootVariable;
use fleeti_core::wire::device::SignedBundle;
use fleeti_pki::approval::{Intent, Policy};
use fleeti_pki::attestation::key::{self, Certification, Purpose};
use fleeti_pki::audit::Entry;
use fleeti_pki::certificate::{self, Parsed, Period, Role, self_signed};
use fleeti_pki::crl::{self, VerifiedCrl};
use fleeti_pki::manifest::ReleaseKeys;
use fleeti_pki::measured::boot::MeasuredBoot;
use fleeti_pki::measured::log::{FirmwareLog, Pcrs};
use fleeti_pki::measured::{explained, phases, predicted};
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_pki::tpm::attest::Attest;
use fleeti_pki::tpm::credential;
use fleeti_pki::tpm::endorsement::{self, Manufacturers};
use fleeti_pki::tpm::public::{AttestationKey, EndorsementKey, Public};
use fleeti_pki::tpm::signature::Signature;
use fleeti_pki::transparency::note::LogKey;
use fleeti_pki::uefi::{self, AuthenticatedWrite};
use fleeti_pki::webauthn::{self, Assertion, CredentialKey, KnownCredential, RelyingParty};
use fleeti_pki::{authenticode, bundle, csr, manifest, pe};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The certificates and keys that parsers need. They are not in the corpus, so the tests cover
/// everything behind a signature, not the fuzzer.
struct Keys {
    certificate: Parsed,
    release: ReleaseKeys,
    log: LogKey,
    attestation: AttestationKey,
    endorsement: EndorsementKey,
    passkey: KnownCredential,
    party: RelyingParty,
}

const ATTESTATION_KEY: &[u8] = include_bytes!("../../tests/fixtures/tpm/ak.public");
const PASSKEY: &[u8] = include_bytes!("../../tests/fixtures/passkey/key.cose");
/// What a browser says beside an attestation object.
const CREATED: &[u8] = br#"{"type":"webauthn.create","challenge":"","origin":"https://fleet.example.com"}"#;
const SIGNED_IN: &[u8] = br#"{"type":"webauthn.get","challenge":"","origin":"https://fleet.example.com"}"#;
const ENDORSEMENT_KEY: &[u8] = include_bytes!("../../tests/fixtures/tpm/ek.public");

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let key = SoftKey::generate(Algorithm::P384).expect("a key");
    let period = Period::starting(1_800_000_000, 86_400);
    Keys {
        certificate: self_signed(Role::Root, period, &key).expect("a certificate"),
        release: ReleaseKeys::new(vec![manifest::PublicKey::of(&key).expect("a key")], 1).expect("a threshold"),
        attestation: AttestationKey::new(Public::parse(ATTESTATION_KEY).expect("captured")).expect("captured"),
        endorsement: EndorsementKey::new(Public::parse(ENDORSEMENT_KEY).expect("captured")).expect("captured"),
        passkey: KnownCredential {
            key: CredentialKey::read(PASSKEY).expect("a key"),
            counter: 0,
            is_synced: false,
        },
        party: RelyingParty { origin: "https://fleet.example.com".into(), id: "fleet.example.com".into() },
        log: LogKey::of("fleeti/fuzz/log", &SoftKey::generate(Algorithm::Ed25519).expect("a key")).expect("a log"),
    }
});

type Reader = fn(&[u8]);

const READERS: &[(&str, Reader)] = &[
    ("list", |data| {
        if let Ok(lists) = uefi::parse(data) {
            // Lists of other types are recognised, but their contents are not kept.
            let written = lists.iter().map(uefi::SignatureList::to_bytes).collect::<Result<Vec<_>, _>>();
            if let Ok(written) = written {
                assert_eq!(uefi::parse(&written.concat()).ok(), Some(lists), "owners are ours, the rest stays");
            }
        }
        let _ = uefi::certificates(data);
        let _ = uefi::digests(data);
    }),
    ("auth", |data| {
        for variable in [BootVariable::Db, BootVariable::Dbx, BootVariable::Pk] {
            if let Ok(write) = AuthenticatedWrite::verify(data, variable, false, &KEYS.certificate) {
                assert_eq!(uefi::value(data).ok(), Some(write.value));
            }
        }
        let _ = uefi::value(data);
    }),
    ("binary", |data| {
        let _ = authenticode::check_uki(data);
        let _ = authenticode::check_command_line(data, "");
        let _ = predicted::pcr_11(data, 257, "enter-initrd");
        let _ = predicted::pcr_9(data, 257);
        let digest = authenticode::digest(data);
        if let (Ok(more), Ok(_)) = (pe::with_section(data, ".fuzz", b"what is added"), &digest) {
            assert!(authenticode::digest(&more).is_ok(), "a section lies behind its neighbours");
        }
        if let (Ok(signatures), Ok(digest)) = (authenticode::signatures(data), digest) {
            for signature in &signatures {
                let _ = authenticode::verify(signature, &digest, &KEYS.certificate);
            }
            if let Ok(bare) = authenticode::stripped(data) {
                assert_eq!(authenticode::digest(&bare).ok(), Some(digest), "a signature is no part of what is signed");
            }
        }
    }),
    ("request", |data| {
        if let Ok(text) = std::str::from_utf8(data) {
            if let Ok(proved) = csr::check(text) {
                assert_eq!(csr::claimed_key(text).ok().as_deref(), Some(proved.public_key_der()));
            }
        }
        let _ = certificate::from_der(data).map(|c| certificate::device_of(&c));
    }),
    ("crl", |data| {
        let _ = VerifiedCrl::read(data, &KEYS.certificate);
        let _ = crl::entries(data);
        let _ = fleeti_pki::tpm::files::certificates(data);
        let _ = Manufacturers::default().believe(data, fleeti_pki::tpm::endorsement::Kind::Hardware);
        let mut manufacturers = Manufacturers::default();
        if manufacturers.look_at(data).is_ok() {
            let _ = manufacturers.lists().map(|(manufacturer, ends_s)| manufacturer.len() as u64 + ends_s).max();
            let _ = manufacturers.verify(&KEYS.endorsement, &[data.to_vec()], 1_800_000_000);
        }
    }),
    ("manifest", |data| {
        let _ = BootProof::parse(data);
        let _ = manifest::verify(data, &[], &KEYS.release);
        if let Ok(read) = Manifest::parse(data) {
            let again = manifest::to_bytes(&read).expect("what was read can be written");
            assert_eq!(Manifest::parse(&again).ok(), Some(read));
        }
    }),
    ("passkey", |data| {
        let _ = webauthn::claimed_challenge(data);
        if let Ok(key) = CredentialKey::read(data) {
            assert_eq!(key.as_bytes(), data, "a key is its bytes");
        }
        if let Ok(new) = webauthn::verify_new(&KEYS.party, b"", CREATED, data) {
            assert_eq!(CredentialKey::read(new.key.as_bytes()).ok(), Some(new.key), "what is stored can be read");
        }
        let given = Assertion { client_data: SIGNED_IN, authenticator_data: data, signature: data };
        assert!(webauthn::verify_assertion(&KEYS.party, b"", &KEYS.passkey, &given).is_err(), "nobody has signed");
    }),
    ("tpm", |data| {
        if let Ok(read) = Public::parse(data) {
            assert_eq!(read.bytes(), data, "a name is over the bytes that were read");
            let _ = read.to_spki_der();
            let _ = AttestationKey::new(read.clone());
            if let Ok(key) = EndorsementKey::new(read) {
                let _ = credential::make(&key, &KEYS.attestation.public().name(), &[7; 32]);
            }
        }
        // Everything after the signature is parsed before it is verified.
        let _ = Attest::quote(data, data, &KEYS.attestation);
        let _ = Attest::certification(data, data, &KEYS.attestation);
        let _ = Signature::parse(data).map(|signature| signature.to_der());
        let sent = Certification { key: data, certification: data, signature: data };
        let purpose = Purpose::enrollment("", [0; 32]);
        assert!(key::verify(&sent, &KEYS.attestation, &purpose, data).is_err(), "nothing has all properties at once");
        assert!(endorsement::each_of(data).map(<[u8]>::len).sum::<usize>() <= data.len());
        let _ = Manufacturers::default().verify(&KEYS.endorsement, &[data.to_vec()], 1_800_000_000);
    }),
    ("log", |data| {
        if let Ok(log) = FirmwareLog::parse(data) {
            let pcrs = log.replay();
            // PCRs from 16 on are parsed, but not replayed.
            assert!(log.events().iter().all(|e| pcrs.contains_key(&e.pcr) == (e.pcr < 16)));
            let _ = MeasuredBoot::of(&log);
            for pcr in 0..24 {
                let _ = explained::events(pcr, Some(&log), &[], &BTreeMap::new());
            }
        }
        if let Ok(measurements) = phases::parse(data) {
            phases::replay(&mut Pcrs::new(), &measurements);
        }
    }),
    ("packet", wire::packets),
    ("body", wire::bodies),
    ("text", |data| {
        let Ok(text) = std::str::from_utf8(data) else { return };
        if let Ok(intent) = Intent::parse(text) {
            assert_eq!(intent.to_text().ok().as_deref(), Some(text));
        }
        if let Ok(policy) = Policy::parse(text) {
            assert_eq!(Policy::parse(&policy.to_text().expect("what was read can be written")).ok(), Some(policy));
        }
        let _ = ReleaseKeys::from_pem(text);
        let _ = LogKey::from_text(text);
        let _ = KEYS.log.verify(text);
        let _ = Entry::parse(data);
        let _ = bundle::read(&SignedBundle { bundle: text.to_owned(), signature: String::new() }, &KEYS.certificate);
    }),
];

static READER: LazyLock<Reader> = LazyLock::new(|| {
    let wanted = std::env::var("FLEETI_FUZZ").unwrap_or_default();
    let found = READERS.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("FLEETI_FUZZ is {wanted:?}, not one of {:?}", READERS.iter().map(|r| r.0).collect::<Vec<_>>())).1
});

fuzz_target!(|data: &[u8]| READER(data));
