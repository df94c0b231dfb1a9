//! Answers of browsers and authenticators that are accepted, and each attack on one of them.

use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256};
use ciborium::Value;
use fleeti_pki::webauthn::{
    self, Assertion, CredentialKey, KnownCredential, NewCredential, NotAccepted, RelyingParty,
};
use fleeti_testkit::authenticator::{Answer, New, PRESENT, Passkey, SYNCED, Said, VERIFIED, cbor};
use serde_json::json;

const ORIGIN: &str = "https://fleet.example.com";
const CHALLENGE: &[u8] = b"a challenge of sixteen bytes or more";

fn party() -> RelyingParty {
    RelyingParty { origin: ORIGIN.into(), id: "fleet.example.com".into() }
}

fn said() -> Said {
    Said::at(ORIGIN, CHALLENGE)
}

fn add(new: &New) -> Result<NewCredential, NotAccepted> {
    webauthn::verify_new(&party(), CHALLENGE, &new.client_data, &new.attestation)
}

fn known(new: &NewCredential) -> KnownCredential {
    let NewCredential { key, counter, is_synced, .. } = new.clone();
    KnownCredential { key, counter, is_synced }
}

fn sign_in(known: &KnownCredential, answer: &Answer) -> Result<u32, NotAccepted> {
    let given = Assertion {
        client_data: &answer.client_data,
        authenticator_data: &answer.authenticator_data,
        signature: &answer.signature,
    };
    webauthn::verify_assertion(&party(), CHALLENGE, known, &given)
}

#[test]
fn a_passkey_is_added_and_signs_in() {
    let mut passkey = Passkey::new(b"user", 0);
    let new = add(&passkey.create(&said())).unwrap();
    assert_eq!((new.id.as_slice(), new.counter, new.is_synced), (passkey.id.as_slice(), 0, false));
    assert_eq!(new.key.as_bytes(), passkey.cose());
    assert_eq!(sign_in(&known(&new), &passkey.sign_in(&said())), Ok(0));
    let answer = passkey.sign_in(&said());
    assert_eq!(webauthn::claimed_challenge(&answer.client_data).unwrap(), CHALLENGE);
}

/// Each change of what browser and authenticator say is refused by the check that is for it, in both
/// ceremonies.
#[test]
fn an_answer_is_to_this_challenge_of_this_server_by_a_verified_user() {
    let mut passkey = Passkey::new(b"user", 0);
    let known = known(&add(&passkey.create(&said())).unwrap());
    let is_framed = |more: serde_json::Value| more.as_object().unwrap().clone();
    let cases: Vec<(&str, Said, NotAccepted)> = vec![
        ("replayed", Said { challenge: b"another".into(), ..said() }, NotAccepted::Challenge),
        ("no challenge", Said { challenge: vec![], ..said() }, NotAccepted::Challenge),
        (
            "other site",
            Said { origin: "https://evil.example".into(), ..said() },
            NotAccepted::Origin,
        ),
        (
            "plain",
            Said { origin: "http://fleet.example.com".into(), ..said() },
            NotAccepted::Origin,
        ),
        ("port", Said { origin: format!("{ORIGIN}:8443"), ..said() }, NotAccepted::Origin),
        (
            "below",
            Said { origin: "https://a.fleet.example.com".into(), ..said() },
            NotAccepted::Origin,
        ),
        (
            "framed",
            Said { more: is_framed(json!({"crossOrigin": true})), ..said() },
            NotAccepted::Origin,
        ),
        (
            "framed, with the outer page",
            Said { more: is_framed(json!({"topOrigin": "https://evil.example"})), ..said() },
            NotAccepted::Origin,
        ),
        ("other party", Said { party: "example.com".into(), ..said() }, NotAccepted::RelyingParty),
        ("no user", Said { flags: 0, ..said() }, NotAccepted::NotPresent),
        ("not verified", Said { flags: PRESENT, ..said() }, NotAccepted::NotVerified),
        (
            "a copy of what cannot be copied",
            Said { flags: VERIFIED | 0b1_0000, ..said() },
            NotAccepted::Malformed("the authenticator data"),
        ),
    ];
    for (name, said, expected) in cases {
        assert_eq!(add(&passkey.create(&said)).unwrap_err(), expected, "{name}");
        assert_eq!(sign_in(&known, &passkey.sign_in(&said)).unwrap_err(), expected, "{name}");
    }
    let other = Said { ceremony: Some("webauthn.get"), ..said() };
    assert_eq!(add(&passkey.create(&other)).unwrap_err(), NotAccepted::Ceremony);
    let other = Said { ceremony: Some("webauthn.create"), ..said() };
    assert_eq!(sign_in(&known, &passkey.sign_in(&other)).unwrap_err(), NotAccepted::Ceremony);
}

#[test]
fn a_signature_is_by_the_key_over_all_that_was_said() {
    let mut passkey = Passkey::new(b"user", 0);
    let known = known(&add(&passkey.create(&said())).unwrap());
    let answer = passkey.sign_in(&said());
    let other = Passkey::new(b"user", 0).sign_in(&said());
    assert_eq!(sign_in(&known, &other), Err(NotAccepted::Signature));
    for position in [0, answer.signature.len() - 1] {
        let mut changed = answer.clone();
        changed.signature[position] ^= 1;
        assert_eq!(sign_in(&known, &changed), Err(NotAccepted::Signature));
    }
    let mut changed = answer.clone();
    changed.authenticator_data[36] ^= 1;
    assert_eq!(sign_in(&known, &changed), Err(NotAccepted::Signature), "the counter");
    let mut changed = answer.clone();
    let at = changed.client_data.iter().position(|b| *b == b'{').unwrap();
    changed.client_data.insert(at + 1, b' ');
    assert_eq!(sign_in(&known, &changed), Err(NotAccepted::Signature), "a space");
    let empty = Answer { signature: vec![], ..answer };
    assert_eq!(sign_in(&known, &empty), Err(NotAccepted::Signature));
}

#[test]
fn a_counter_grows_or_is_never_used() {
    let mut passkey = Passkey::new(b"user", 7);
    let mut known = known(&add(&passkey.create(&said())).unwrap());
    assert_eq!(known.counter, 7);
    known.counter = sign_in(&known, &passkey.sign_in(&said())).unwrap();
    assert_eq!(known.counter, 8);
    let mut copy = passkey.clone();
    known.counter = sign_in(&known, &passkey.sign_in(&said())).unwrap();
    assert_eq!(sign_in(&known, &copy.sign_in(&said())), Err(NotAccepted::Counter { known: 9 }));
    let mut silent = passkey.clone();
    silent.counter = 0;
    assert_eq!(sign_in(&known, &silent.sign_in(&said())), Err(NotAccepted::Counter { known: 9 }));
    passkey.counter = u32::MAX - 1;
    assert_eq!(sign_in(&known, &passkey.sign_in(&said())), Ok(u32::MAX));
}

#[test]
fn a_passkey_that_cannot_be_copied_stays_one() {
    let synced = Said { flags: VERIFIED | SYNCED, ..said() };
    let mut passkey = Passkey::new(b"user", 0);
    let bound = known(&add(&passkey.create(&said())).unwrap());
    let copied = known(&add(&passkey.create(&synced)).unwrap());
    assert!(copied.is_synced && !bound.is_synced);
    assert_eq!(sign_in(&bound, &passkey.sign_in(&synced)), Err(NotAccepted::Backup));
    assert_eq!(sign_in(&copied, &passkey.sign_in(&said())), Err(NotAccepted::Backup));
    assert_eq!(sign_in(&copied, &passkey.sign_in(&synced)), Ok(0));
}

fn entry(label: i64, value: impl Into<Value>) -> (Value, Value) {
    (Value::from(label), value.into())
}

fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(bytes.to_vec())
}

/// Keys of the three kinds, made by another library than the one that reads them.
#[test]
fn the_three_kinds_of_keys_verify() {
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    let cose = cbor(&Value::Map(vec![
        entry(1, 1),
        entry(3, -8),
        entry(-1, 6),
        entry(-2, bytes(ed25519.public_key().as_ref())),
    ]));
    let key = CredentialKey::read(&cose).unwrap();
    let signature = ed25519.sign(b"message");
    assert_eq!(key.verify(b"message", signature.as_ref()), Ok(()));
    assert_eq!(key.verify(b"massage", signature.as_ref()), Err(NotAccepted::Signature));

    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    // RSAPublicKey (RFC 8017, A.1.1) of 2048 bits: both lengths are known.
    let der = rsa.public_key().as_ref();
    let (n, e) = (&der[9..265], &der[267..]);
    let cose = |n: &[u8], e: &[u8]| {
        cbor(&Value::Map(vec![
            entry(1, 3),
            entry(3, -257),
            entry(-1, bytes(n)),
            entry(-2, bytes(e)),
        ]))
    };
    let key = CredentialKey::read(&cose(n, e)).unwrap();
    let mut signature = vec![0; rsa.public_modulus_len()];
    let random = aws_lc_rs::rand::SystemRandom::new();
    rsa.sign(&RSA_PKCS1_SHA256, &random, b"message", &mut signature).unwrap();
    assert_eq!(key.verify(b"message", &signature), Ok(()));
    assert_eq!(key.verify(b"massage", &signature), Err(NotAccepted::Signature));
    for (n, e) in
        [(&n[..128], e), (n, &[][..]), (&[&[0][..], n].concat()[..], e), (&[255; 513][..], e)]
    {
        assert_eq!(CredentialKey::read(&cose(n, e)), Err(NotAccepted::Key));
    }
}

#[test]
fn a_key_of_another_kind_or_form_is_refused() {
    let good = Passkey::new(b"user", 0).cose();
    assert!(CredentialKey::read(&good).is_ok());
    let Value::Map(parts) = ciborium::from_reader(good.as_slice()).unwrap() else { panic!() };
    let with = |n: usize, value: (Value, Value)| {
        let mut parts = parts.clone();
        parts[n] = value;
        cbor(&Value::Map(parts))
    };
    let but = |n: usize| {
        let mut parts = parts.clone();
        parts.remove(n);
        cbor(&Value::Map(parts))
    };
    let also = |value: (Value, Value)| {
        cbor(&Value::Map([parts.as_slice(), std::slice::from_ref(&value)].concat()))
    };
    let refused = [
        ("of another type", with(0, entry(1, 1))),
        ("of another algorithm", with(1, entry(3, -35))),
        ("of RSA with a point", with(1, entry(3, -257))),
        ("on another curve", with(2, entry(-1, 2))),
        ("no point of the curve", with(3, entry(-2, bytes(&[7; 32])))),
        ("short", with(3, entry(-2, bytes(&[7; 31])))),
        ("compressed", with(4, (Value::from(-3), Value::Bool(true)))),
        ("without an algorithm", but(1)),
        ("without y", but(4)),
        ("twice", also(entry(3, -7))),
        ("with a private part", also(entry(-4, bytes(&[1; 32])))),
        ("with more behind it", [good.as_slice(), &[0]].concat()),
        ("nothing", vec![]),
        ("too long", vec![0x40; 9000]),
    ];
    for (name, cose) in refused {
        assert_eq!(CredentialKey::read(&cose), Err(NotAccepted::Key), "{name}");
    }
}

#[test]
fn a_new_passkey_has_an_id_and_a_key_and_nothing_behind_them() {
    let passkey = Passkey::new(b"user", 0);
    let new = passkey.create(&said());
    let Value::Map(parts) = ciborium::from_reader(new.attestation.as_slice()).unwrap() else {
        panic!()
    };
    let data = parts[2].1.as_bytes().unwrap().clone();
    let made = |parts: Vec<(Value, Value)>| New {
        client_data: new.client_data.clone(),
        attestation: cbor(&Value::Map(parts)),
    };
    let with_data = |data: &[u8]| {
        made(vec![parts[0].clone(), parts[1].clone(), (parts[2].0.clone(), bytes(data))])
    };
    let text = |text: &str| Value::Text(text.into());
    let attested = (text("attStmt"), Value::Map(vec![(text("sig"), bytes(&[1; 64]))]));
    let packed = vec![(text("fmt"), text("packed")), attested, parts[2].clone()];
    assert!(add(&made(packed)).is_ok(), "a statement of attestation is not looked at");
    let mut with_extensions =
        [&data[..], &cbor(&Value::Map(vec![(text("credProtect"), 2.into())]))].concat();
    assert!(add(&with_data(&with_extensions)).is_err(), "bytes that no flag announces");
    with_extensions[32] |= 1 << 7;
    assert!(add(&with_data(&with_extensions)).is_ok());
    with_extensions.push(0);
    assert!(add(&with_data(&with_extensions)).is_err());
    let no_credential = [&data[..32], &[VERIFIED], &data[33..37]].concat();
    assert_eq!(add(&with_data(&no_credential)).unwrap_err(), NotAccepted::Key);
    let mut no_id = data.clone();
    no_id.drain(55..87);
    (no_id[53], no_id[54]) = (0, 0);
    assert!(add(&with_data(&no_id)).is_err());
    for parts in [&parts[..2], &parts[1..], &[&parts[..], &parts[..1]].concat()] {
        assert!(add(&made(parts.to_vec())).is_err());
    }
    for end in 0..new.attestation.len() {
        let cut = New {
            client_data: new.client_data.clone(),
            attestation: new.attestation[..end].into(),
        };
        assert!(add(&cut).is_err(), "{end}");
    }
}

#[test]
fn client_data_are_an_object_with_each_field_once() {
    let passkey = Passkey::new(b"user", 0);
    let new = passkey.create(&said());
    let text = String::from_utf8(new.client_data).unwrap();
    let twice = text.replacen('{', "{\"origin\":\"https://evil.example\",", 1);
    for data in [twice.as_str(), "", "[]", "{}", "null", "[\"webauthn.create\",\"\",\"\"]"] {
        let result = webauthn::verify_new(&party(), CHALLENGE, data.as_bytes(), &new.attestation);
        assert_eq!(result, Err(NotAccepted::Malformed("the client data")), "{data}");
    }
    let padded = format!("{text}{}", " ".repeat(9000));
    assert!(webauthn::claimed_challenge(padded.as_bytes()).is_err());
    let more = Said {
        more: json!({"other_keys_can_be_added_here": "x"}).as_object().unwrap().clone(),
        ..said()
    };
    assert!(add(&passkey.create(&more)).is_ok(), "browsers may add fields");
}
