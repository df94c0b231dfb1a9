//! Forms of endorsement certificates that no profile describes, and that a device cannot change: an
//! absent or unreadable extension restricts nothing, and other encodings mean the same.

use crate::field::{issued, verify};
use crate::field_paths::through;
use crate::issued::{
    ALWAYS, Draft, EK, Issuer, attribute, basic_constraints, common_name, extension, key_usage,
    name, new_key, oid, policies, purposes, rsa_key, sequence, tlv, tpm_name,
};
use fleeti_pki::signer::{Algorithm, Signer};
use fleeti_pki::tpm::endorsement::NotEndorsed;

/// The result with exactly these extensions.
fn with(extensions: &[Vec<u8>]) -> Result<String, NotEndorsed> {
    issued(|draft, _| draft.extensions = extensions.to_vec())
}

#[test]
fn an_absent_extension_restricts_nothing() {
    let usual = [tpm_name(), basic_constraints(false, None), purposes(&[EK]), key_usage(0x20)];
    for left_out in 0..16u8 {
        let extensions: Vec<_> =
            (0..4).filter(|i| left_out & 1 << i == 0).map(|i| usual[i].clone()).collect();
        let expected = if left_out & 1 == 0 { "MODEL" } else { "not named" };
        assert_eq!(with(&extensions).as_deref(), Ok(expected), "without {left_out:04b}");
        // Through an intermediate CA as well.
        let (root, between, key) = (
            Issuer::new(&common_name("root")),
            Issuer::new(&common_name("between")),
            new_key(Algorithm::P256),
        );
        let mut draft = Draft::endorsement(&key);
        draft.extensions = extensions;
        let above = Draft::authority(&between.name, between.key.public_key_der()).by(&root);
        assert_eq!(
            verify(&root.root(), &key, &[draft.by(&between), above]).as_deref(),
            Ok(expected),
            "without {left_out:04b}"
        );
    }
    assert_eq!(
        with(&[purposes(&["2.5.29.37.0"])]).as_deref(),
        Ok("not named"),
        "any purpose counts like no purpose"
    );
}

#[test]
fn a_purpose_that_is_there_is_one_of_an_endorsement_key() {
    for others in [
        &["1.3.6.1.5.5.7.3.1"][..],
        &["1.3.6.1.5.5.7.3.2"],
        &["2.23.133.8.3"],
        &["2.23.133.8.2", "1.3.6.1.5.5.7.3.4"],
    ] {
        assert!(
            matches!(with(&[tpm_name(), purposes(others)]).unwrap_err(), NotEndorsed::NotOne(_)),
            "{others:?}"
        );
        for own in [EK, "2.5.29.37.0"] {
            assert_eq!(
                with(&[tpm_name(), purposes(&[others, &[own]].concat())]).as_deref(),
                Ok("MODEL"),
                "{others:?} and {own}"
            );
        }
    }
    for empty in [sequence(&[]), vec![5, 0], vec![]] {
        let refused = with(&[tpm_name(), extension("2.5.29.37", false, &empty)]).unwrap_err();
        assert!(
            matches!(refused, NotEndorsed::Unreadable(_)),
            "{refused}: the extension is present, but empty"
        );
    }
}

#[test]
fn certificates_of_old_versions_have_no_extensions() {
    for version in [vec![], tlv(0xa0, &tlv(2, &[0])), tlv(0xa0, &tlv(2, &[1]))] {
        let found =
            issued(|draft, _| (draft.version, draft.extensions) = (version.clone(), vec![]));
        assert_eq!(found.as_deref(), Ok("not named"), "{}", hex::encode(&version));
        // Some issuers use them nevertheless.
        assert_eq!(
            issued(|draft, _| draft.version.clone_from(&version)).as_deref(),
            Ok("MODEL"),
            "{}",
            hex::encode(&version)
        );
    }
    assert!(matches!(
        issued(|draft, _| draft.version = tlv(0xa0, &tlv(2, &[3]))).unwrap_err(),
        NotEndorsed::Unreadable(_)
    ));
}

#[test]
fn critical_or_not_says_nothing_of_an_extension_that_is_known() {
    let (no_authority, path) = (sequence(&[]), sequence(&[&tlv(1, &[0]), &tlv(2, &[1, 0])]));
    for critical in [false, true] {
        for constraints in [&no_authority, &path, &sequence(&[&tlv(1, &[0])])] {
            let all = [
                extension("2.5.29.19", critical, constraints),
                extension("2.5.29.15", critical, &tlv(3, &[5, 0x20])),
                extension("2.5.29.37", critical, &sequence(&[&oid(EK)])),
                extension(
                    "2.5.29.17",
                    critical,
                    &sequence(&[&tlv(0xa4, &name(&[("2.23.133.2.2", "MODEL")]))]),
                ),
            ];
            assert_eq!(with(&all).as_deref(), Ok("MODEL"), "{critical}");
        }
        // Attributes of the TCG (its specification, and security assertions), and those of its
        // first profile.
        let specification = sequence(&[
            &oid("2.23.133.2.16"),
            &tlv(0x31, &sequence(&[&tlv(0x0c, b"2.0"), &tlv(2, &[0]), &tlv(2, &[138])])),
        ]);
        let assertions =
            sequence(&[&oid("2.23.133.2.18"), &tlv(0x31, &sequence(&[&tlv(0x81, &[1])]))]);
        for value in [
            sequence(&[&specification]),
            sequence(&[&specification, &assertions]),
            sequence(&[]),
            vec![5, 0],
        ] {
            assert_eq!(
                through(&[], &[extension("2.5.29.9", critical, &value)]).as_deref(),
                Ok("MODEL"),
                "{critical}"
            );
        }
        let statements = sequence(&[&sequence(&[&oid("2.23.133.2.1"), &tlv(0x0c, b"x")])]);
        assert_eq!(
            through(&[], &[extension("1.3.6.1.5.5.7.1.3", critical, &statements)]).as_deref(),
            Ok("MODEL"),
            "{critical}"
        );
    }
}

#[test]
fn an_extension_of_the_tpms_own_that_cannot_be_read_says_nothing() {
    for value in [vec![], vec![5, 0], vec![0x30, 1], vec![0x30, 0x80], vec![0xff; 4]] {
        for id in [
            "2.5.29.19",
            "2.5.29.15",
            "2.5.29.17",
            "2.5.29.32",
            "2.5.29.36",
            "2.5.29.30",
            "2.5.29.35",
            "2.5.29.31",
        ] {
            for critical in [false, true] {
                let found = with(&[purposes(&[EK]), extension(id, critical, &value)]);
                assert_eq!(
                    found.as_deref(),
                    Ok("not named"),
                    "{id} {critical} {}",
                    hex::encode(&value)
                );
            }
        }
        // The extensions of a CA must be readable.
        for id in ["2.5.29.32", "2.5.29.36", "2.5.29.30"] {
            assert!(
                matches!(
                    through(&[extension(id, true, &value)], &[]).unwrap_err(),
                    NotEndorsed::Chain(_)
                ),
                "{id}"
            );
        }
    }
    // If a CA requires a policy, an unreadable extension names none.
    let asks = [
        policies(true, &["1.2.3.4"]),
        extension("2.5.29.36", true, &sequence(&[&tlv(0x80, &[0])])),
    ];
    assert!(matches!(
        through(&asks, &[extension("2.5.29.32", false, &[5, 0])]).unwrap_err(),
        NotEndorsed::Chain(_)
    ));
}

#[test]
fn the_names_of_a_tpm_are_wherever_and_however_they_are_written() {
    let part = |tag: u8, text: &[u8]| tlv(0x31, &attribute("2.23.133.2.2", tag, text));
    let model = part(0x0c, b"MODEL");
    let directory = tlv(0xa4, &tlv(0x30, &model));
    for names in [
        sequence(&[&directory]),
        sequence(&[&tlv(0x82, b"example.com"), &directory]),
        sequence(&[&tlv(0xa0, &[oid("1.2.3"), tlv(0xa0, &tlv(0x0c, b"x"))].concat()), &directory]),
        sequence(&[&tlv(0xa4, &common_name("nobody")), &directory]),
        sequence(&[&tlv(0xa4, b"\x05\0"), &directory]),
    ] {
        for critical in [false, true] {
            assert_eq!(
                with(&[extension("2.5.29.17", critical, &names)]).as_deref(),
                Ok("MODEL"),
                "{}",
                hex::encode(&names)
            );
        }
    }
    // In the subject, in each encoding.
    for (tag, text) in [
        (0x0c, &b"MODEL"[..]),
        (0x13, b"MODEL"),
        (0x14, b"MODEL"),
        (0x16, b"MODEL"),
        (0x1e, b"\0M\0O\0D\0E\0L"),
    ] {
        let found = issued(|draft, _| {
            (draft.subject, draft.extensions) = (tlv(0x30, &part(tag, text)), vec![])
        });
        assert_eq!(found.as_deref(), Ok("MODEL"), "{tag:#x}");
    }
    for (subject, expected) in [
        (common_name("x"), "not named"),
        (tlv(0x30, &tlv(0x31, &[])), "not named"),
        (tlv(0x30, &[5, 0]), "not named"),
    ] {
        assert_eq!(
            issued(|draft, _| (draft.subject, draft.extensions) = (subject, vec![])).as_deref(),
            Ok(expected)
        );
    }
}

#[test]
fn a_time_is_read_in_every_form_of_its_type() {
    let (utc, generalized) =
        (|text: &str| tlv(0x17, text.as_bytes()), |text: &str| tlv(0x18, text.as_bytes()));
    let of =
        |from: Vec<u8>, to: Vec<u8>| issued(|draft, _| draft.validity = sequence(&[&from, &to]));
    let (first, last) = (tlv(0x17, ALWAYS[0]), tlv(0x17, ALWAYS[1]));
    for from in [
        utc("500101000000Z"),
        utc("690101000000Z"),
        utc("0101010000Z"),
        utc("010101000000+0100"),
        utc("0101010000-1130"),
        utc("010630235960Z"),
        generalized("00010101000000Z"),
        generalized("19000101000000Z"),
        generalized("19700101000000Z"),
        generalized("20010101000000.5Z"),
        generalized("20010101000000,000Z"),
        generalized("200101010000+0200"),
    ] {
        assert_eq!(
            of(from.clone(), last.clone()).as_deref(),
            Ok("MODEL"),
            "from {}",
            String::from_utf8_lossy(&from[2..])
        );
    }
    for to in [
        utc("4912312359Z"),
        utc("491231235959-0800"),
        generalized("99991231235959Z"),
        generalized("99991231235959.999Z"),
        generalized("999912312359Z"),
        generalized("99991231235959+0000"),
    ] {
        assert_eq!(
            of(first.clone(), to.clone()).as_deref(),
            Ok("MODEL"),
            "to {}",
            String::from_utf8_lossy(&to[2..])
        );
    }
    for expired in [
        utc("500101000000Z"),
        utc("991231235959Z"),
        generalized("19991231235959Z"),
        generalized("00000101000000Z"),
    ] {
        let refused = of(first.clone(), expired).unwrap_err();
        assert!(matches!(&refused, NotEndorsed::Chain(e) if e.contains("expired")), "{refused}");
    }
    for bad in [
        utc(""),
        utc("491231235959"),
        utc("49123123595Z"),
        utc("491331235959Z"),
        utc("491231235959.5Z"),
        utc("491231235959+01"),
        utc("491231235959+-100"),
        generalized("49"),
        generalized("2049123123Z"),
        generalized("2049123123595900Z"),
        tlv(0x0c, b"491231235959Z"),
        tlv(0x17, &[0xff; 13]),
    ] {
        assert!(
            matches!(of(first.clone(), bad.clone()).unwrap_err(), NotEndorsed::Unreadable(_)),
            "{}",
            hex::encode(bad)
        );
    }
}

#[test]
fn a_key_is_the_same_however_it_is_written() {
    // A point is compressed, hybrid or uncompressed, and a key may be restricted to ECDH or ECMQV
    // (RFC 5480, 2.1).
    for algorithm in ["1.2.840.10045.2.1", "1.3.132.1.12", "1.3.132.1.13", "1.2.840.10045.2.9"] {
        for form in [4u8, 2, 6, 5] {
            let found = issued(|draft, _| {
                let point = draft.key.split_off(draft.key.len() - 65);
                let odd = point[64] & 1;
                let written = match form {
                    4 => point.clone(),
                    2 => [&[2 + odd][..], &point[1..33]].concat(),
                    6 => [&[6 + odd][..], &point[1..]].concat(),
                    _ => [&[7 - odd][..], &point[1..]].concat(),
                };
                let id = sequence(&[&oid(algorithm), &oid("1.2.840.10045.3.1.7")]);
                draft.key = sequence(&[&id, &tlv(3, &[&[0][..], &written].concat())]);
            });
            let is_good = form != 5 && algorithm != "1.2.840.10045.2.9";
            assert_eq!(
                found,
                if is_good { Ok("MODEL".into()) } else { Err(NotEndorsed::OtherKey) },
                "{algorithm} {form}"
            );
        }
    }
    // A modulus without the leading zero, and one with several.
    let dir = tempfile::tempdir().unwrap();
    let openssl = |line: &str| {
        assert!(crate::run("openssl", &line.split(' ').collect::<Vec<_>>(), dir.path()).0, "{line}")
    };
    openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out k.pem");
    openssl("pkey -in k.pem -pubout -outform DER -out k.der");
    let spki = std::fs::read(dir.path().join("k.der")).unwrap();
    let at = spki.windows(2).rposition(|w| w == [2, 3]).unwrap();
    let modulus = spki[at - 256..at].to_vec();
    let (key, root) = (rsa_key(&modulus), Issuer::new(&common_name("root")));
    let written = |modulus: &[u8], exponent: &[u8]| {
        let mut draft = Draft::endorsement(&key);
        let numbers = sequence(&[&tlv(2, modulus), &tlv(2, exponent)]);
        draft.key = sequence(&[
            &sequence(&[&oid("1.2.840.113549.1.1.1"), &[5, 0]]),
            &tlv(3, &[&[0][..], &numbers].concat()),
        ]);
        verify(&root.root(), &key, &[draft.by(&root)])
    };
    for zeros in 0..3 {
        let padded = [vec![0; zeros], modulus.clone()].concat();
        assert_eq!(written(&padded, &[1, 0, 1]).as_deref(), Ok("MODEL"), "{zeros} zeros");
        assert_eq!(written(&padded, &[0, 1, 0, 1]).as_deref(), Ok("MODEL"), "{zeros} zeros");
        assert_eq!(written(&padded, &[3]).unwrap_err(), NotEndorsed::OtherKey, "another exponent");
    }
    let mut other = modulus;
    other[9] ^= 1;
    assert_eq!(written(&other, &[1, 0, 1]).unwrap_err(), NotEndorsed::OtherKey);
}

#[test]
fn serial_numbers_are_of_any_length_and_sign() {
    for serial in [
        vec![0],
        vec![0, 0],
        vec![0xff],
        vec![0x80; 21],
        vec![0x7f; 40],
        [&[0; 19][..], &[1, 2]].concat(),
    ] {
        assert_eq!(
            issued(|draft, _| draft.serial.clone_from(&serial)).as_deref(),
            Ok("MODEL"),
            "{}",
            hex::encode(&serial)
        );
    }
}
