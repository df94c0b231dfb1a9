//! Keys and signatures of TPM certificates: each kind that is not weak, in every encoding.

use crate::field::{issued, verify};
use crate::issued::{Draft, Issuer, common_name, new_key, oid, rsa_key, sequence, tlv};
use fleeti_pki::signer::Algorithm;
use fleeti_pki::tpm::endorsement::NotEndorsed;

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
