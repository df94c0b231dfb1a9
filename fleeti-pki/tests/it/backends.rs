//! The crates without C, aws-lc and openssl agree on every key and signature.

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

fn openssl_verifies(dir: &Path, algorithm: Algorithm, public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    std::fs::write(dir.join("public.pem"), pem("PUBLIC KEY", public)).unwrap();
    std::fs::write(dir.join("message"), message).unwrap();
    std::fs::write(dir.join("signature"), signature).unwrap();
    run("openssl", &["dgst", digest(algorithm), "-verify", "public.pem", "-signature", "signature", "message"], dir).0
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
            let arguments = ["dgst", digest(algorithm), "-sign", "private.pem", "-out", "by-openssl", "message"];
            assert!(run("openssl", &arguments, dir.path()).0);
            let by_openssl = std::fs::read(dir.path().join("by-openssl")).unwrap();
            for signature in [soft.sign(&message).unwrap(), fast.sign(&message).unwrap(), by_openssl] {
                for (name, verify) in BACKENDS {
                    verify(soft.public_key_der(), &message, &signature).unwrap_or_else(|e| panic!("{name}: {e}"));
                }
                assert!(openssl_verifies(dir.path(), algorithm, soft.public_key_der(), &message, &signature));
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
        // r with a zero in front that DER does not allow.
        let mut parts: Vec<der::asn1::Int> = Vec::from_der(&good).unwrap();
        let (r, s) = (parts.remove(0).to_der().unwrap(), parts.remove(0).to_der().unwrap());
        let longer_r = [&[2, r[1] + 1, 0][..], &r[2..]].concat();
        let body = [longer_r, s].concat();
        bad.push(("r is not in its shortest form".into(), [&[0x30, u8::try_from(body.len()).unwrap()][..], &body].concat()));
        for (n, (what, signature)) in bad.iter().enumerate() {
            for (name, verify) in BACKENDS {
                assert!(matches!(verify(key.public_key_der(), b"message", signature), Err(Error::Refused(_))), "{name}: {what}");
            }
            // openssl is a process each time: every tenth, and all that is not a flipped bit. The tool reads no more of a
            // file than the longest signature, so it cannot see the byte more.
            if n % 10 == 0 || !what.starts_with("bit") && what != "one byte more" {
                assert!(!openssl_verifies(dir.path(), algorithm, key.public_key_der(), b"message", signature), "openssl: {what}");
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
