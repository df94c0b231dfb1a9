//! The Rust crates, aws-lc and openssl agree on every key and signature.

use crate::run;
use der::{Decode, Encode};
use fleeti_pki::Error;
use fleeti_pki::signer::fast::{self, FastKey};
use fleeti_pki::signer::{Algorithm, Signer, SoftKey, verify};
use std::path::Path;

type Verify = fn(&[u8], &[u8], &[u8]) -> Result<(), Error>;

const BACKENDS: [(&str, Verify); 2] = [("without C", verify), ("aws-lc", fast::verify)];

fn pem(label: &'static str, der: &[u8]) -> String {
    der::Document::from_der(der).unwrap().to_pem(label, der::pem::LineEnding::LF).unwrap()
}

fn openssl_verifies(
    dir: &Path,
    algorithm: Algorithm,
    public: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    std::fs::write(dir.join("public.pem"), pem("PUBLIC KEY", public)).unwrap();
    std::fs::write(dir.join("message"), message).unwrap();
    std::fs::write(dir.join("signature"), signature).unwrap();
    run(
        "openssl",
        &["dgst", digest(algorithm), "-verify", "public.pem", "-signature", "signature", "message"],
        dir,
    )
    .0
}

fn digest(algorithm: Algorithm) -> &'static str {
    if algorithm == Algorithm::P384 { "-sha384" } else { "-sha256" }
}

#[test]
fn every_backend_makes_signatures_that_every_other_one_accepts() {
    let dir = tempfile::tempdir().unwrap();
    for algorithm in [Algorithm::P256, Algorithm::P384] {
        let soft = SoftKey::generate(algorithm).unwrap();
        let pkcs8 = soft.to_pkcs8_der().unwrap();
        let fast = FastKey::from_pkcs8_der(&pkcs8).unwrap();
        assert_eq!((fast.algorithm(), fast.public_key_der()), (algorithm, soft.public_key_der()));
        std::fs::write(dir.path().join("private.pem"), pem("PRIVATE KEY", &pkcs8)).unwrap();
        for i in 0..32u32 {
            let message = i.to_be_bytes().repeat(i as usize);
            std::fs::write(dir.path().join("message"), &message).unwrap();
            let arguments = [
                "dgst",
                digest(algorithm),
                "-sign",
                "private.pem",
                "-out",
                "by-openssl",
                "message",
            ];
            assert!(run("openssl", &arguments, dir.path()).0);
            let by_openssl = std::fs::read(dir.path().join("by-openssl")).unwrap();
            for signature in
                [soft.sign(&message).unwrap(), fast.sign(&message).unwrap(), by_openssl]
            {
                for (name, verify) in BACKENDS {
                    verify(soft.public_key_der(), &message, &signature)
                        .unwrap_or_else(|e| panic!("{name}: {e}"));
                }
                assert!(openssl_verifies(
                    dir.path(),
                    algorithm,
                    soft.public_key_der(),
                    &message,
                    &signature
                ));
            }
        }
    }
}

#[test]
fn no_backend_accepts_a_changed_signature_or_another_form_of_a_good_one() {
    let dir = tempfile::tempdir().unwrap();
    for algorithm in [Algorithm::P256, Algorithm::P384] {
        let key = SoftKey::generate(algorithm).unwrap();
        let good = key.sign(b"message").unwrap();
        let mut bad: Vec<(String, Vec<u8>)> = (0..good.len() * 8)
            .map(|bit| {
                let mut signature = good.clone();
                signature[bit / 8] ^= 1 << (bit % 8);
                (format!("bit {bit}"), signature)
            })
            .collect();
        bad.push(("one byte more".into(), [&good[..], &[0]].concat()));
        bad.push(("one byte less".into(), good[..good.len() - 1].to_vec()));
        bad.push(("nothing".into(), vec![]));
        let zero = vec![0x30, 6, 2, 1, 0, 2, 1, 0];
        bad.push(("r and s are zero".into(), zero));
        // r with a leading zero that DER does not allow.
        let mut parts: Vec<der::asn1::Int> = Vec::from_der(&good).unwrap();
        let (r, s) = (parts.remove(0).to_der().unwrap(), parts.remove(0).to_der().unwrap());
        let longer_r = [&[2, r[1] + 1, 0][..], &r[2..]].concat();
        let body = [longer_r, s].concat();
        bad.push((
            "r is not in its shortest form".into(),
            [&[0x30, u8::try_from(body.len()).unwrap()][..], &body].concat(),
        ));
        for (n, (what, signature)) in bad.iter().enumerate() {
            for (name, verify) in BACKENDS {
                assert!(
                    matches!(
                        verify(key.public_key_der(), b"message", signature),
                        Err(Error::Refused(_))
                    ),
                    "{name}: {what}"
                );
            }
            // openssl needs a process for each check: only every tenth case, and all that are not a
            // flipped bit. The tool reads no more of a file than the longest signature, so it
            // cannot detect the additional byte.
            if n % 10 == 0 || !what.starts_with("bit") && what != "one byte more" {
                assert!(
                    !openssl_verifies(
                        dir.path(),
                        algorithm,
                        key.public_key_der(),
                        b"message",
                        signature
                    ),
                    "openssl: {what}"
                );
            }
        }
    }
}

#[test]
fn no_backend_takes_another_kind_of_key() {
    let rsa = SoftKey::generate(Algorithm::Rsa2048).unwrap();
    let mut off_the_curve = SoftKey::generate(Algorithm::P256).unwrap().public_key_der().to_vec();
    let last = off_the_curve.len() - 1;
    off_the_curve[last] ^= 1;
    for (name, verify) in BACKENDS {
        for key in [rsa.public_key_der(), &off_the_curve, b"nothing"] {
            assert!(matches!(verify(key, b"m", b"s"), Err(Error::Malformed { .. })), "{name}");
        }
    }
    assert!(FastKey::from_pkcs8_der(&rsa.to_pkcs8_der().unwrap()).is_err());
}

/// The result of both backends for a request, which must be the same.
fn both_say(request: &str, what: &str) -> Result<Vec<u8>, String> {
    let said = BACKENDS.map(|(_, verify)| {
        let proved = fleeti_pki::csr::check_with(request, verify);
        proved.map(|key| key.public_key_der().to_vec()).map_err(|e| e.to_string())
    });
    assert_eq!(said[0], said[1], "{what}");
    said[0].clone()
}

#[test]
fn a_request_has_its_key_in_one_form_and_both_backends_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |line: &str| {
        let (good, said) = run("openssl", &line.split(' ').collect::<Vec<_>>(), dir.path());
        assert!(good, "openssl {line}: {said}");
    };
    for (curve, digest) in [("prime256v1", "sha256"), ("secp384r1", "sha384")] {
        for (encoding, form, is_taken) in [
            ("named_curve", "uncompressed", true),
            ("named_curve", "compressed", false),
            ("named_curve", "hybrid", false),
            ("explicit", "uncompressed", false),
            ("explicit", "compressed", false),
            ("explicit", "hybrid", false),
        ] {
            openssl(&format!("ecparam -name {curve} -genkey -noout -out plain.pem"));
            openssl(&format!(
                "ec -in plain.pem -param_enc {encoding} -conv_form {form} -out key.pem"
            ));
            openssl(&format!("req -new -{digest} -key key.pem -subj /CN=device -out request.pem"));
            let what = format!("{curve} {encoding} {form}");
            let request = std::fs::read_to_string(dir.path().join("request.pem")).unwrap();
            let said = both_say(&request, &what);
            assert_eq!(said.is_ok(), is_taken, "{what}: {said:?}");
            assert_eq!(
                fleeti_pki::csr::claimed_key(&request).map_err(|e| e.to_string()),
                said,
                "{what}"
            );
            assert!(
                is_taken || said.unwrap_err().contains("named curve with an uncompressed point"),
                "{what}"
            );
        }
    }
    for other in ["secp256k1", "secp521r1", "prime192v1"] {
        openssl(&format!("ecparam -name {other} -genkey -noout -out key.pem"));
        openssl("req -new -key key.pem -subj /CN=device -out request.pem");
        assert!(
            both_say(&std::fs::read_to_string(dir.path().join("request.pem")).unwrap(), other)
                .is_err()
        );
    }
    for other in ["RSA -pkeyopt rsa_keygen_bits:2048", "ED25519"] {
        openssl(&format!("genpkey -algorithm {other} -out key.pem"));
        openssl("req -new -key key.pem -subj /CN=device -out request.pem");
        assert!(
            both_say(&std::fs::read_to_string(dir.path().join("request.pem")).unwrap(), other)
                .is_err()
        );
    }
}

#[test]
fn whatever_is_changed_in_a_key_both_backends_say_the_same() {
    for algorithm in [Algorithm::P256, Algorithm::P384] {
        let key = SoftKey::generate(algorithm).unwrap();
        let signature = key.sign(b"message").unwrap();
        let good = key.public_key_der();
        let say = |changed: &[u8]| {
            BACKENDS.map(|(_, verify)| {
                verify(changed, b"message", &signature).map_err(|e| e.to_string())
            })
        };
        assert_eq!(say(good), [Ok(()), Ok(())]);
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut changed = good.to_vec();
                changed[at] ^= 1 << bit;
                let [first, second] = say(&changed);
                assert!(first.is_err() && first == second, "{at}.{bit}: {first:?}, {second:?}");
            }
            let [first, second] = say(&good[..at]);
            assert!(first.is_err() && first == second, "cut at {at}");
        }
        let [first, second] = say(&[good, &[0]].concat());
        assert!(first.is_err() && first == second, "a trailing byte");
    }
}

#[test]
fn a_request_is_what_was_signed_whatever_the_order_of_its_attributes() {
    use crate::issued::{common_name, oid, sequence, tlv};
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let attribute = |id: &str, text: &[u8]| sequence(&[&oid(id), &tlv(0x31, &tlv(0x0c, text))]);
    let (short, long) = (
        attribute("1.2.840.113549.1.9.2", b"a"),
        attribute("1.2.840.113549.1.9.7", b"something longer"),
    );
    for attributes in [[&short[..], &long].concat(), [&long[..], &short].concat()] {
        let message = sequence(&[
            &[2, 1, 0],
            &common_name("device"),
            key.public_key_der(),
            &tlv(0xa0, &attributes),
        ]);
        let signature = tlv(3, &[&[0][..], &key.sign(&message).unwrap()].concat());
        let request = sequence(&[&message, &sequence(&[&oid("1.2.840.10045.4.3.2")]), &signature]);
        let request = pem("CERTIFICATE REQUEST", &request);
        assert_eq!(both_say(&request, "attributes").as_deref(), Ok(key.public_key_der()));
    }
}
