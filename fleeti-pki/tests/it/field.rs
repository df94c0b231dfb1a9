//! Endorsement certificates from the field, and variants of them: a device cannot change its
//! certificate, and a secret that only its TPM can decrypt proves the key.

use crate::issued::{
    ALWAYS, ANY_POLICY, Draft, EK, Issuer, attribute, basic_constraints, common_name,
    endorsement_key, extension, key_usage, name, new_key, oid, policies, purposes, rsa_key,
    sequence, tlv, tpm_name,
};
use crate::now_s;
use fleeti_pki::signer::{Algorithm, Signer};
use fleeti_pki::tpm::endorsement::{self, Kind, Makers, NotEndorsed};
use fleeti_pki::tpm::files;
use fleeti_pki::tpm::public::EndorsementKey;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/field/certificates").join(name)
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    files::certificates(&std::fs::read(folder.join(name)).unwrap()).unwrap().remove(0)
}

/// The endorsement key that a fixture's certificate is for: all have P-256 keys.
fn key_of(certificate: &[u8]) -> EndorsementKey {
    let begin = [0x03, 0x42, 0x00, 0x04];
    let at = certificate.windows(4).position(|w| w == begin).unwrap() + 3;
    endorsement_key(&certificate[at..at + 65])
}

fn believing(roots: &[Vec<u8>]) -> Makers {
    let mut makers = Makers::default();
    roots.iter().for_each(|root| makers.believe(root, Kind::Hardware).unwrap());
    makers
}

pub fn verify(
    root: &[u8],
    key: &EndorsementKey,
    certificates: &[Vec<u8>],
) -> Result<String, NotEndorsed> {
    believing(&[root.to_vec()]).verify(key, certificates, now_s()).map(|e| e.model)
}

#[test]
fn certificates_of_the_field_lead_to_their_manufacturers() {
    for (folder_name, leaf, between) in [
        ("name-with-an-unsorted-set", "ek.pem", None),
        ("critical-any-policy", "ek.pem", Some("between.pem")),
        ("critical-any-policy", "ek.pem", Some("between-not-critical.pem")),
        ("key-encipherment-for-an-elliptic-curve", "ek.pem", None),
        ("key-encipherment-for-an-elliptic-curve", "ek-key-agreement.pem", None),
    ] {
        let folder = folder(folder_name);
        let leaf = read(&folder, leaf);
        let chain: Vec<_> =
            [leaf.clone()].into_iter().chain(between.map(|name| read(&folder, name))).collect();
        let found = verify(&read(&folder, "manufacturer.pem"), &key_of(&leaf), &chain);
        assert_eq!(found.as_deref(), Ok("MODEL"), "{folder_name} by {between:?}");
        // An intermediate CA can be the trusted one.
        if let [leaf, between] = chain.as_slice() {
            assert_eq!(
                verify(between, &key_of(leaf), std::slice::from_ref(leaf)).as_deref(),
                Ok("MODEL"),
                "{folder_name}"
            );
        }
    }
}

/// The result for a certificate of a new issuer, after a change to both.
pub fn issued(change: impl FnOnce(&mut Draft, &mut Issuer)) -> Result<String, NotEndorsed> {
    let (key, mut issuer) = (new_key(Algorithm::P256), Issuer::new(&common_name("root")));
    let mut draft = Draft::endorsement(&key);
    change(&mut draft, &mut issuer);
    verify(&issuer.root(), &key, &[draft.by(&issuer)])
}

#[test]
fn a_certificate_may_look_as_its_issuer_wrote_it() {
    let unsorted = |first: &[u8], second: &[u8]| tlv(0x30, &tlv(0x31, &[first, second].concat()));
    let (o, c) =
        (attribute("2.5.4.10", 0x13, b"A maker of TPMs"), attribute("2.5.4.6", 0x13, b"TW"));
    let one = |tag: u8, text: &[u8]| tlv(0x30, &tlv(0x31, &attribute("2.5.4.3", tag, text)));
    let names = [
        unsorted(&o, &c),
        unsorted(&c, &o),
        one(0x14, b"M\xfcnchen"),
        one(0x1e, b"\0r\0o\0o\0t"),
        one(0x1c, b"\0\0\0r"),
        one(0x16, b"root"),
        one(0x0c, "Wurzel ü".as_bytes()),
        tlv(0x30, &[tlv(0x31, &c), tlv(0x31, &o), tlv(0x31, &o)].concat()),
    ];
    for name in &names {
        assert_eq!(
            issued(|_, issuer| issuer.name.clone_from(name)).as_deref(),
            Ok("MODEL"),
            "{}",
            hex::encode(name)
        );
    }
    for serial in [
        vec![0],
        vec![0xff, 0x7f],
        vec![0x80; 20],
        vec![0x7f; 21],
        [&[0][..], &[0xff; 20]].concat(),
        vec![0x11; 32],
    ] {
        assert_eq!(
            issued(|draft, _| draft.serial.clone_from(&serial)).as_deref(),
            Ok("MODEL"),
            "serial {}",
            hex::encode(&serial)
        );
    }
    let generalized = tlv(0x18, b"99991231235959Z");
    for validity in
        [[tlv(0x17, ALWAYS[0]), generalized.clone()], [tlv(0x18, b"20010101000000Z"), generalized]]
    {
        assert_eq!(
            issued(|draft, _| draft.validity = tlv(0x30, &validity.concat())).as_deref(),
            Ok("MODEL")
        );
    }
    assert_eq!(
        issued(|draft, _| draft.identifiers = [tlv(0x81, &[0, 1]), tlv(0x82, &[0, 2])].concat())
            .as_deref(),
        Ok("MODEL")
    );
    assert_eq!(issued(|draft, _| draft.subject = common_name("a TPM")).as_deref(), Ok("MODEL"));
    let shifted = |draft: &mut Draft, _: &mut Issuer| draft.extensions.rotate_left(2);
    assert_eq!(issued(shifted).as_deref(), Ok("MODEL"), "extensions in another order");
}

#[test]
fn issuers_names_are_the_same_if_they_say_the_same() {
    let of = |kind: &str, tag: u8, text: &[u8]| tlv(0x30, &tlv(0x31, &attribute(kind, tag, text)));
    let own = of("2.5.4.3", 0x13, b"Root CA 1");
    let by = |named: &[u8]| {
        let (key, issuer) = (new_key(Algorithm::P256), Issuer::new(&own));
        let leaf = Draft::endorsement(&key)
            .signed(named, &issuer.algorithm, |m| issuer.key.sign(m).unwrap());
        verify(&issuer.root(), &key, &[leaf])
    };
    for same in [
        of("2.5.4.3", 0x0c, b"Root CA 1"),
        of("2.5.4.3", 0x13, b"root  ca 1 "),
        of("2.5.4.3", 0x14, b"Root CA 1"),
    ] {
        assert_eq!(by(&same).as_deref(), Ok("MODEL"), "{}", hex::encode(same));
    }
    let two = tlv(0x30, &tlv(0x31, &attribute("2.5.4.3", 0x13, b"Root CA 1")).repeat(2));
    for other in [
        of("2.5.4.10", 0x13, b"Root CA 1"),
        of("2.5.4.3", 0x13, b"Root CA 2"),
        two,
        tlv(0x30, &[]),
        tlv(0x30, &[5, 0]),
    ] {
        let refused = by(&other).unwrap_err();
        assert!(matches!(refused, NotEndorsed::Chain(_)), "{}: {refused}", hex::encode(&other));
    }
}

/// The result for a path through one intermediate CA, with these additional extensions of it and of
/// the endorsement certificate.
pub fn through(between: &[Vec<u8>], leaf: &[Vec<u8>]) -> Result<String, NotEndorsed> {
    through_both(&[between], leaf)
}

/// The same through each of these intermediate CAs, the highest first.
fn through_both(between: &[&[Vec<u8>]], leaf: &[Vec<u8>]) -> Result<String, NotEndorsed> {
    let root = Issuer::new(&common_name("root"));
    let (key, root_certificate) = (new_key(Algorithm::P256), root.root());
    let (mut issuer, mut chain) = (root, vec![]);
    for (at, extensions) in between.iter().enumerate() {
        let next = Issuer::new(&common_name(&format!("between {at}")));
        let mut draft = Draft::authority(&next.name, next.key.public_key_der());
        draft.extensions.extend(extensions.iter().cloned());
        chain.insert(0, draft.by(&issuer));
        issuer = next;
    }
    let mut draft = Draft::endorsement(&key);
    draft.extensions.extend(leaf.iter().cloned());
    chain.insert(0, draft.by(&issuer));
    verify(&root_certificate, &key, &chain)
}

fn policy_constraints(explicit: Option<u8>, mapping: Option<u8>) -> Vec<u8> {
    let field = |tag: u8, n: Option<u8>| n.map(|n| tlv(tag, &[n])).unwrap_or_default();
    extension("2.5.29.36", true, &sequence(&[&field(0x80, explicit), &field(0x81, mapping)]))
}

fn mapping(from: &str, to: &str) -> Vec<u8> {
    extension("2.5.29.33", true, &sequence(&[&sequence(&[&oid(from), &oid(to)])]))
}

fn inhibit_any(after: u8) -> Vec<u8> {
    extension("2.5.29.54", true, &tlv(2, &[after]))
}

const ONE: &str = "1.3.6.1.4.1.5771.1";
const TWO: &str = "1.3.6.1.4.1.5771.2";

/// A name, the extensions of the intermediate CAs, and those of the certificate itself.
type Chain<'a> = (&'a str, &'a [&'a [Vec<u8>]], &'a [Vec<u8>]);

#[test]
fn policies_are_their_issuers_matter_until_one_asks_for_them() {
    let asks = |after: u8| policy_constraints(Some(after), None);
    let good: [Chain<'_>; 10] = [
        ("critical, any", &[&[policies(true, &[ANY_POLICY])]], &[]),
        (
            "critical, one, and another below it",
            &[&[policies(true, &[ONE])]],
            &[policies(true, &[TWO])],
        ),
        ("below a CA without", &[&[]], &[policies(true, &[ONE])]),
        ("asked for and there", &[&[policies(true, &[ONE]), asks(0)]], &[policies(false, &[ONE])]),
        (
            "asked for, any above and one below",
            &[&[policies(true, &[ANY_POLICY]), asks(0)]],
            &[policies(true, &[ONE])],
        ),
        (
            "asked for, one above and any below",
            &[&[policies(true, &[ONE]), asks(0)]],
            &[policies(true, &[ANY_POLICY])],
        ),
        (
            "mapped",
            &[&[policies(true, &[ONE]), mapping(ONE, TWO), asks(0)]],
            &[policies(true, &[TWO])],
        ),
        (
            "mapped of any",
            &[&[policies(true, &[ANY_POLICY]), mapping(ONE, TWO), asks(0)]],
            &[policies(true, &[TWO])],
        ),
        ("asked for later than it ends", &[&[asks(9)]], &[]),
        (
            "any is inhibited, and one is there",
            &[&[policies(true, &[ONE]), inhibit_any(0), asks(0)]],
            &[policies(true, &[ONE])],
        ),
    ];
    for (what, between, leaf) in good {
        assert_eq!(through_both(between, leaf).as_deref(), Ok("MODEL"), "{what}");
    }
    let bad: [Chain<'_>; 10] = [
        ("asked for, and none below", &[&[policies(true, &[ANY_POLICY]), asks(0)]], &[]),
        ("asked for, and none above", &[&[asks(0)]], &[policies(true, &[ONE])]),
        (
            "asked for, and another below",
            &[&[policies(true, &[ONE]), asks(0)]],
            &[policies(true, &[TWO])],
        ),
        (
            "asked for by the leaf itself",
            &[&[policies(true, &[ONE])]],
            &[policies(true, &[TWO]), asks(0)],
        ),
        (
            "mapped, and the old one below",
            &[&[policies(true, &[ONE]), mapping(ONE, TWO), asks(0)]],
            &[policies(true, &[ONE])],
        ),
        (
            "any is inhibited",
            &[&[policies(true, &[ONE]), inhibit_any(0), asks(0)]],
            &[policies(true, &[ANY_POLICY])],
        ),
        ("any is mapped", &[&[policies(true, &[ANY_POLICY]), mapping(ANY_POLICY, ONE)]], &[]),
        (
            "mapping is inhibited",
            &[
                &[policies(true, &[ONE]), policy_constraints(Some(0), Some(0))],
                &[policies(true, &[ONE]), mapping(ONE, TWO)],
            ],
            &[policies(true, &[TWO])],
        ),
        (
            "asked for after one more",
            &[&[policies(true, &[ANY_POLICY]), asks(1)], &[policies(true, &[ANY_POLICY])]],
            &[],
        ),
        ("unreadable", &[&[extension("2.5.29.32", true, &[0x30, 1])]], &[]),
    ];
    for (what, between, leaf) in bad {
        let refused = through_both(between, leaf).unwrap_err();
        assert!(
            matches!(&refused, NotEndorsed::Chain(e) if e.contains("polic")),
            "{what}: {refused}"
        );
    }
}

fn name_constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Vec<u8> {
    let subtrees = |tag: u8, bases: &[Vec<u8>]| match bases {
        [] => vec![],
        bases => tlv(tag, &bases.iter().flat_map(|base| sequence(&[base])).collect::<Vec<_>>()),
    };
    extension(
        "2.5.29.30",
        true,
        &[tlv(0x30, &[subtrees(0xa0, permitted), subtrees(0xa1, excluded)].concat())].concat(),
    )
}

#[test]
fn an_authority_certifies_the_names_that_it_may() {
    let directory = |parts: &[(&str, &str)]| tlv(0xa4, &name(parts));
    let (ours, other) = ([("2.23.133.2.1", "id:53544D20")], [("2.23.133.2.1", "id:00000000")]);
    type Constraints<'a> = (&'a [Vec<u8>], &'a [Vec<u8>]);
    let good: [Constraints<'_>; 5] = [
        (&[directory(&ours)], &[]),
        (&[directory(&other), directory(&ours)], &[]),
        (&[directory(&[])], &[]),
        (&[tlv(0x82, b"example.com")], &[tlv(0x86, b".example.com")]),
        (&[], &[directory(&other)]),
    ];
    for (permitted, excluded) in good {
        assert_eq!(through(&[name_constraints(permitted, excluded)], &[]).as_deref(), Ok("MODEL"));
    }
    for (permitted, excluded) in [
        (vec![directory(&other)], vec![]),
        (vec![], vec![directory(&ours)]),
        (vec![directory(&ours)], vec![directory(&[])]),
    ] {
        let refused = through(&[name_constraints(&permitted, &excluded)], &[]).unwrap_err();
        assert!(
            matches!(&refused, NotEndorsed::Chain(e) if e.contains("name constraints")),
            "{refused}"
        );
    }
    // Also those of the trusted certificate, and of a CA further up.
    let refused =
        through_both(&[&[name_constraints(&[directory(&other)], &[])], &[]], &[]).unwrap_err();
    assert!(
        matches!(&refused, NotEndorsed::Chain(e) if e.contains("name constraints")),
        "{refused}"
    );
}

#[test]
fn an_extension_is_known_or_harmless() {
    const PRIVATE: &str = "1.3.6.1.4.1.99999.1";
    let null = [5, 0];
    assert_eq!(
        through(&[extension(PRIVATE, false, &null)], &[extension(PRIVATE, false, &null)])
            .as_deref(),
        Ok("MODEL")
    );
    let uri = tlv(0x86, b"http://example.com/a list?x=%zz");
    let odd_points = [
        sequence(&[&sequence(&[&tlv(0xa0, &tlv(0xa0, &uri))])]),
        sequence(&[&sequence(&[&tlv(0xa0, &tlv(0xa1, &attribute("2.5.4.3", 0x13, b"x")))])]),
        sequence(&[]),
        null.to_vec(),
    ];
    for points in &odd_points {
        for critical in [false, true] {
            let list = extension("2.5.29.31", critical, points);
            assert_eq!(
                through(std::slice::from_ref(&list), std::slice::from_ref(&list)).as_deref(),
                Ok("MODEL")
            );
        }
    }
    for id in [
        "1.3.6.1.5.5.7.1.1",
        "2.5.29.9",
        "2.5.29.14",
        "2.5.29.35",
        "2.5.29.18",
        "2.5.29.46",
        "2.5.29.16",
    ] {
        assert_eq!(through(&[], &[extension(id, true, &null)]).as_deref(), Ok("MODEL"), "{id}");
    }
    for (between, leaf) in [
        (vec![extension(PRIVATE, true, &null)], vec![]),
        (vec![], vec![extension(PRIVATE, true, &null)]),
    ] {
        let refused = through(&between, &leaf).unwrap_err();
        assert!(matches!(&refused, NotEndorsed::Chain(e) if e.contains(PRIVATE)), "{refused}");
    }
    let twice = vec![extension(PRIVATE, false, &null); 2];
    assert!(matches!(through(&[], &twice).unwrap_err(), NotEndorsed::Unreadable(_)));
}

#[test]
fn a_certificate_says_that_it_is_for_an_endorsement_key() {
    let of = |extensions: Vec<Vec<u8>>| issued(|draft, _| draft.extensions = extensions);
    let usual = || vec![tpm_name(), purposes(&[EK])];
    // Issuers differ in the usage that they state: the secret that only the TPM can decrypt proves
    // the key.
    for usage in [0x20, 0x08, 0x28, 0xa0, 0x88, 0x30, 0x10] {
        let found = of([usual(), vec![basic_constraints(false, None), key_usage(usage)]].concat());
        assert_eq!(found.as_deref(), Ok("MODEL"), "{usage:#x}");
    }
    assert_eq!(of(usual()).as_deref(), Ok("MODEL"), "no basic constraints, no key usage");
    assert_eq!(
        of(vec![tpm_name(), purposes(&["1.3.6.1.5.5.7.3.2", EK])]).as_deref(),
        Ok("MODEL"),
        "one of several purposes"
    );
    assert_eq!(
        of(vec![tpm_name(), purposes(&["2.5.29.37.0"])]).as_deref(),
        Ok("MODEL"),
        "any purpose, of what is named as a TPM"
    );
    assert_eq!(of(vec![purposes(&[EK])]).as_deref(), Ok("not named"));
    let leaf_with_a_length =
        extension("2.5.29.19", true, &sequence(&[&tlv(1, &[0]), &tlv(2, &[0])]));
    assert_eq!(of([usual(), vec![leaf_with_a_length]].concat()).as_deref(), Ok("MODEL"));
    for (what, extensions) in [
        ("another purpose", vec![tpm_name(), purposes(&["1.3.6.1.5.5.7.3.2"])]),
        ("other purposes", vec![tpm_name(), purposes(&["2.23.133.8.3", "1.3.6.1.5.5.7.3.1"])]),
        ("signatures alone", [usual(), vec![key_usage(0x80)]].concat()),
        ("a CA", [usual(), vec![basic_constraints(true, None)]].concat()),
    ] {
        assert!(matches!(of(extensions).unwrap_err(), NotEndorsed::NotOne(_)), "{what}");
    }
}

#[test]
fn the_name_of_a_tpm_is_read_in_every_encoding() {
    for (tag, text) in [
        (0x13, &b"SLB 9670"[..]),
        (0x14, b"SLB 9670"),
        (0x1e, b"\x00S\x00L\x00B\x00 \x009\x006\x007\x000"),
        (0x16, b"SLB 9670"),
    ] {
        let part = tlv(
            0x31,
            &[attribute("2.23.133.2.2", tag, text), attribute("2.23.133.2.1", 0x0c, b"id:1")]
                .concat(),
        );
        let names = extension(
            "2.5.29.17",
            false,
            &sequence(&[&tlv(0x81, b"a@b"), &tlv(0xa4, &tlv(0x30, &part))]),
        );
        assert_eq!(
            issued(|draft, _| draft.extensions = vec![names, purposes(&[EK])]).as_deref(),
            Ok("SLB 9670"),
            "{tag:#x}"
        );
    }
}

#[test]
fn keys_and_signatures_are_of_each_kind_that_is_not_weak() {
    for (issuer, key) in [
        (Algorithm::P384, Algorithm::P256),
        (Algorithm::P256, Algorithm::P384),
        (Algorithm::Rsa2048, Algorithm::P384),
    ] {
        let (key, issuer) = (new_key(key), Issuer::of(issuer, &common_name("root")));
        assert_eq!(
            verify(&issuer.root(), &key, &[Draft::endorsement(&key).by(&issuer)]).as_deref(),
            Ok("MODEL")
        );
    }
    // Without NULL, or with one that ECDSA does not have.
    let other = |algorithm: Algorithm, id: Vec<u8>| {
        let (key, mut issuer) =
            (new_key(Algorithm::P256), Issuer::of(algorithm, &common_name("root")));
        issuer.algorithm = id;
        verify(&issuer.root(), &key, &[Draft::endorsement(&key).by(&issuer)])
    };
    assert_eq!(
        other(Algorithm::Rsa2048, sequence(&[&oid("1.2.840.113549.1.1.11")])).as_deref(),
        Ok("MODEL")
    );
    assert_eq!(
        other(Algorithm::P256, sequence(&[&oid("1.2.840.10045.4.3.2"), &[5, 0]])).as_deref(),
        Ok("MODEL")
    );
    for weak in ["1.2.840.113549.1.1.5", "1.2.840.113549.1.1.4", "1.2.840.10045.4.1"] {
        let refused = other(Algorithm::Rsa2048, sequence(&[&oid(weak), &[5, 0]])).unwrap_err();
        assert!(matches!(&refused, NotEndorsed::Chain(e) if e.contains("SHA-1")), "{refused}");
    }
    let refused = other(Algorithm::P256, sequence(&[&oid("1.2.3.4")])).unwrap_err();
    assert!(matches!(&refused, NotEndorsed::Chain(e) if e.contains("1.2.3.4")), "{refused}");
    // Another point, or the same on another curve.
    assert_eq!(
        issued(|draft, _| *draft.key.last_mut().unwrap() ^= 1).unwrap_err(),
        NotEndorsed::OtherKey
    );
    let curve = |draft: &mut Draft, _: &mut Issuer| {
        let at = draft
            .key
            .windows(8)
            .position(|w| w == [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7])
            .unwrap();
        draft.key[at + 7] = 1;
    };
    assert_eq!(issued(curve).unwrap_err(), NotEndorsed::OtherKey);
}

#[test]
fn an_rsa_key_is_its_numbers_whatever_it_is_said_to_be_for() {
    for bits in [2048, 3072] {
        let dir = tempfile::tempdir().unwrap();
        let made = crate::run(
            "openssl",
            &[
                "genpkey",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                &format!("rsa_keygen_bits:{bits}"),
                "-out",
                "k.pem",
            ],
            dir.path(),
        );
        assert!(made.0, "{}", made.1);
        assert!(
            crate::run(
                "openssl",
                &["pkey", "-in", "k.pem", "-pubout", "-outform", "DER", "-out", "k.der"],
                dir.path()
            )
            .0
        );
        let spki = std::fs::read(dir.path().join("k.der")).unwrap();
        let at = spki.windows(2).rposition(|w| w == [2, 3]).unwrap();
        let key = rsa_key(&spki[at - bits / 8..at]);
        let issuer = Issuer::new(&common_name("root"));
        for algorithm in [&[1u8, 5, 0][..], &[1], &[7, 0x30, 0], &[10], &[7]] {
            let id =
                [&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01][..], &algorithm[..1]].concat();
            let at = spki.windows(4).position(|w| w[..2] == [3, 0x82]).unwrap();
            let mut draft = Draft::endorsement(&key);
            draft.key = sequence(&[&sequence(&[&tlv(6, &id), &algorithm[1..]]), &spki[at..]]);
            assert_eq!(
                verify(&issuer.root(), &key, &[draft.by(&issuer)]).as_deref(),
                Ok("MODEL"),
                "{bits} {algorithm:?}"
            );
        }
    }
}

#[test]
fn rsassa_pss_is_read_however_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = Issuer::of(Algorithm::Rsa2048, &common_name("root"));
    std::fs::write(dir.path().join("key.der"), issuer.key.to_pkcs8_der().unwrap().as_slice())
        .unwrap();
    let key = new_key(Algorithm::P256);
    let by = |hash: &str, parameters: &[u8], salt: &str| {
        let algorithm = sequence(&[&oid("1.2.840.113549.1.1.10"), parameters]);
        let leaf = Draft::endorsement(&key).signed(&issuer.name, &algorithm, |message| {
            std::fs::write(dir.path().join("m"), message).unwrap();
            let line =
                format!("dgst -{hash} -sign key.der -keyform DER -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:{salt} -out s m");
            let (good, said) = crate::run("openssl", &line.split(' ').collect::<Vec<_>>(), dir.path());
            assert!(good, "{said}");
            std::fs::read(dir.path().join("s")).unwrap()
        });
        verify(&issuer.root(), &key, &[leaf])
    };
    let parameters = |hash: &str, null: &[u8], salt: u8, trailer: bool| {
        let hash = sequence(&[&oid(hash), null]);
        let mask = sequence(&[&oid("1.2.840.113549.1.1.8"), &hash]);
        let trailer = if trailer { tlv(0xa3, &tlv(2, &[1])) } else { vec![] };
        sequence(&[&tlv(0xa0, &hash), &tlv(0xa1, &mask), &tlv(0xa2, &tlv(2, &[salt])), &trailer])
    };
    let (sha_256, sha_384) = ("2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.2");
    for null in [&[5, 0][..], &[]] {
        for trailer in [false, true] {
            assert_eq!(
                by("sha256", &parameters(sha_256, null, 32, trailer), "32").as_deref(),
                Ok("MODEL")
            );
            assert_eq!(
                by("sha384", &parameters(sha_384, null, 48, trailer), "48").as_deref(),
                Ok("MODEL")
            );
        }
    }
    for wrong in [
        parameters(sha_256, &[], 20, false),
        sequence(&[]),
        vec![],
        parameters("1.3.14.3.2.26", &[5, 0], 20, false),
    ] {
        assert!(matches!(by("sha256", &wrong, "20").unwrap_err(), NotEndorsed::Chain(_)));
    }
}

#[test]
fn an_authority_between_is_one() {
    let path = |change: &dyn Fn(&mut Draft)| {
        let (root, between, key) = (
            Issuer::new(&common_name("root")),
            Issuer::new(&common_name("between")),
            new_key(Algorithm::P256),
        );
        let mut draft = Draft::authority(&between.name, between.key.public_key_der());
        change(&mut draft);
        verify(&root.root(), &key, &[Draft::endorsement(&key).by(&between), draft.by(&root)])
    };
    assert_eq!(path(&|_| {}).as_deref(), Ok("MODEL"));
    assert_eq!(
        path(&|d| d.extensions = vec![basic_constraints(true, Some(0))]).as_deref(),
        Ok("MODEL"),
        "no key usage"
    );
    assert_eq!(path(&|d| d.extensions.push(purposes(&[EK]))).as_deref(), Ok("MODEL"));
    assert_eq!(path(&|d| d.extensions.push(purposes(&["2.5.29.37.0"]))).as_deref(), Ok("MODEL"));
    type Change = dyn Fn(&mut Draft);
    let bad: [(&str, &Change); 6] = [
        ("not a CA", &|d| d.extensions = vec![basic_constraints(false, None)]),
        ("nothing says so", &|d| d.extensions.clear()),
        ("may not sign certificates", &|d| {
            d.extensions = vec![basic_constraints(true, None), key_usage(0x80)]
        }),
        ("for other purposes", &|d| d.extensions.push(purposes(&["1.3.6.1.5.5.7.3.1"]))),
        ("expired", &|d| {
            d.validity = sequence(&[&tlv(0x17, ALWAYS[0]), &tlv(0x17, b"020101000000Z")])
        }),
        ("of version 1", &|d| d.version.clear()),
    ];
    for (what, change) in bad {
        assert!(matches!(path(change).unwrap_err(), NotEndorsed::Chain(_)), "{what}");
    }
    let length = [basic_constraints(true, Some(0)), key_usage(4)];
    let refused = {
        let (root, first, second) = (
            Issuer::new(&common_name("r")),
            Issuer::new(&common_name("a")),
            Issuer::new(&common_name("b")),
        );
        let key = new_key(Algorithm::P256);
        let mut draft = Draft::authority(&first.name, first.key.public_key_der());
        draft.extensions = length.to_vec();
        let below = Draft::authority(&second.name, second.key.public_key_der()).by(&first);
        verify(&root.root(), &key, &[Draft::endorsement(&key).by(&second), below, draft.by(&root)])
            .unwrap_err()
    };
    assert!(matches!(&refused, NotEndorsed::Chain(e) if e.contains("more CAs")), "{refused}");
}

#[test]
fn a_way_that_leads_nowhere_keeps_no_other_from_being_found() {
    let (root, key) = (Issuer::new(&common_name("root")), new_key(Algorithm::P256));
    let between = Issuer::new(&common_name("between"));
    let usual = Draft::authority(&between.name, between.key.public_key_der());
    let expired = Draft {
        validity: sequence(&[&tlv(0x17, ALWAYS[0]), &tlv(0x17, b"020101000000Z")]),
        ..usual.clone()
    };
    let stranger = Issuer::new(&between.name);
    let leaf = Draft::endorsement(&key).by(&between);
    let chain = [leaf.clone(), stranger.root(), expired.by(&root), vec![0x30, 0], usual.by(&root)];
    assert_eq!(verify(&root.root(), &key, &chain).as_deref(), Ok("MODEL"));
    // Nor through other manufacturers with the same name; and a cycle of issuers leads nowhere.
    let makers = believing(&[Issuer::new(&root.name).root(), root.root()]);
    assert!(makers.verify(&key, &chain, now_s()).is_ok());
    let (a, b) = (Issuer::new(&common_name("a")), Issuer::new(&common_name("b")));
    let circle = [
        Draft::endorsement(&key).by(&a),
        Draft::authority(&a.name, a.key.public_key_der()).by(&b),
        Draft::authority(&b.name, b.key.public_key_der()).by(&a),
    ];
    let refused = makers.verify(&key, &circle, now_s()).unwrap_err();
    assert!(
        matches!(&refused, NotEndorsed::Chain(e) if e.contains("no certificate of its issuer is known")),
        "{refused}"
    );
}

#[test]
fn a_root_of_version_1_is_one_if_it_signed_itself() {
    let (root, key) = (Issuer::new(&common_name("root")), new_key(Algorithm::P256));
    let mut old = Draft::new(&root.name, root.key.public_key_der(), &[]);
    old.version.clear();
    assert_eq!(
        verify(&old.by(&root), &key, &[Draft::endorsement(&key).by(&root)]).as_deref(),
        Ok("MODEL")
    );
    let stranger = Issuer::new(&root.name);
    assert!(
        Makers::default().believe(&old.by(&stranger), Kind::Hardware).is_err(),
        "by another key"
    );
    assert!(
        Makers::default()
            .believe(
                &Draft::new(&root.name, root.key.public_key_der(), &[]).by(&root),
                Kind::Hardware
            )
            .is_err()
    );
}

#[test]
fn what_fills_the_memory_of_a_tpm_is_no_part_of_a_certificate() {
    let (root, key) = (Issuer::new(&common_name("root")), new_key(Algorithm::P256));
    let (leaf, above) = (Draft::endorsement(&key).by(&root), root.root());
    for fill in [0x00, 0xff] {
        let padded = [&leaf[..], &[fill; 700]].concat();
        assert_eq!(endorsement::unpadded(&padded), leaf);
        let both = [&padded[..], &above, &[fill; 3]].concat();
        assert_eq!(endorsement::each_of(&both).collect::<Vec<_>>(), [&leaf[..], &above]);
    }
    let other = [&leaf[..], &[0, 1]].concat();
    assert_eq!(endorsement::unpadded(&other), other, "anything else is kept, and refused");
    assert_eq!(endorsement::unpadded(b"none"), b"none");
}

#[test]
fn a_manufacturers_file_has_each_form_in_which_they_are_published() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    let (first, second) =
        (Issuer::new(&common_name("first")).root(), Issuer::new(&common_name("second")).root());
    let pem = |der: &[u8]| fleeti_pki::certificate::der_to_pem(der).unwrap();
    let both = [first.clone(), second.clone()];
    let read = |bytes: &[u8]| files::certificates(bytes).ok();
    assert_eq!(read(&first), Some(vec![first.clone()]));
    assert_eq!(read(&both.concat()), Some(both.to_vec()), "DER, one behind the other");
    assert_eq!(read(&[&first[..], &[0xff; 9]].concat()), Some(vec![first.clone()]));
    let text = format!(
        "\u{feff}subject=x\r\n{}\r\n# and\n{}",
        pem(&first).replace('\n', "\r\n"),
        pem(&second)
    );
    assert_eq!(read(text.as_bytes()), Some(both.to_vec()));
    write("both.pem", text.as_bytes());
    for (form, name) in [("PEM", "m.pem"), ("DER", "m.der")] {
        let made = crate::run(
            "openssl",
            &["crl2pkcs7", "-nocrl", "-certfile", "both.pem", "-outform", form, "-out", name],
            dir.path(),
        );
        assert!(made.0, "{}", made.1);
        assert_eq!(
            read(&std::fs::read(dir.path().join(name)).unwrap()),
            Some(both.to_vec()),
            "{form}"
        );
    }
    for (what, bytes) in [
        ("nothing", vec![]),
        ("a text", b"<html>not found</html>".to_vec()),
        ("half a PEM", pem(&first).as_bytes()[..200].to_vec()),
        ("a key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_vec()),
        ("something behind it", [&first[..], b"x"].concat()),
        ("cut off", first[..first.len() - 1].to_vec()),
    ] {
        assert!(files::certificates(&bytes).is_err(), "{what}");
    }
}
