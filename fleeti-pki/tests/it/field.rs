//! Endorsement certificates from the field, and variants of them: a device cannot change its
//! certificate, and a secret that only its TPM can decrypt proves the key.

use crate::issued::{
    ALWAYS, Draft, EK, Issuer, attribute, basic_constraints, common_name, endorsement_key,
    extension, key_usage, new_key, purposes, sequence, tlv, tpm_name,
};
use crate::now_s;
use fleeti_pki::signer::{Algorithm, Signer};
use fleeti_pki::tpm::endorsement::{self, Kind, Manufacturers, NotEndorsed};
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

pub fn believing(roots: &[Vec<u8>]) -> Manufacturers {
    let mut manufacturers = Manufacturers::default();
    roots.iter().for_each(|root| manufacturers.believe(root, Kind::Hardware).unwrap());
    manufacturers
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
        "any purpose, for a named TPM"
    );
    assert_eq!(of(vec![purposes(&[EK])]).as_deref(), Ok("not named"));
    let leaf_with_a_length =
        extension("2.5.29.19", true, &sequence(&[&tlv(1, &[0]), &tlv(2, &[0])]));
    assert_eq!(of([usual(), vec![leaf_with_a_length]].concat()).as_deref(), Ok("MODEL"));
    for (what, extensions) in [
        ("another purpose", vec![tpm_name(), purposes(&["1.3.6.1.5.5.7.3.2"])]),
        ("other purposes", vec![tpm_name(), purposes(&["2.23.133.8.3", "1.3.6.1.5.5.7.3.1"])]),
        ("only signatures", [usual(), vec![key_usage(0x80)]].concat()),
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
    assert_eq!(endorsement::unpadded(&other), other, "other trailing bytes are kept, and refused");
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
    assert_eq!(read(&both.concat()), Some(both.to_vec()), "concatenated DER");
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
        ("trailing bytes", [&first[..], b"x"].concat()),
        ("truncated", first[..first.len() - 1].to_vec()),
    ] {
        assert!(files::certificates(&bytes).is_err(), "{what}");
    }
}
