//! Keys in a real token (SoftHSM), compared with openssl and the backends in memory.

use crate::run;
use fleeti_pki::certificate::{
    Authority, Period, Purpose, Role, issue, public_key_der, self_signed, to_pem,
};
use fleeti_pki::openpgp::OpenPgpKey;
use fleeti_pki::signer::token::{TokenKey, TokenUri};
use fleeti_pki::signer::{
    Algorithm, Signer, SoftKey, fast, keyfile, verify, verify_ed25519, verify_rsa,
};
use fleeti_testkit::token::{MODULE, PIN, with_token};
use std::path::Path;

fn uri(object: &str) -> TokenUri {
    format!("pkcs11:token=fleeti;object={object}?module-path={MODULE}").parse().unwrap()
}

fn openssl_verifies(public: &[u8], algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let pem = der::Document::try_from(public)
        .unwrap()
        .to_pem("PUBLIC KEY", der::pem::LineEnding::LF)
        .unwrap();
    for (name, bytes) in
        [("public.pem", pem.as_bytes()), ("message", message), ("signature", signature)]
    {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let arguments: &[&str] = match algorithm {
        Algorithm::P384 => {
            &["dgst", "-sha384", "-verify", "public.pem", "-signature", "signature", "message"]
        }
        Algorithm::P256 | Algorithm::Rsa2048 => {
            &["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "message"]
        }
        Algorithm::Ed25519 => &[
            "pkeyutl",
            "-verify",
            "-pubin",
            "-inkey",
            "public.pem",
            "-rawin",
            "-in",
            "message",
            "-sigfile",
            "signature",
        ],
    };
    run("openssl", arguments, dir.path()).0
}

#[test]
fn a_token_signs_as_the_keys_in_memory_do_and_openssl_agrees() {
    with_token("token::a_token_signs_as_the_keys_in_memory_do_and_openssl_agrees", || {
        for (object, algorithm) in [
            ("a", Algorithm::P256),
            ("b", Algorithm::P384),
            ("c", Algorithm::Rsa2048),
            ("d", Algorithm::Ed25519),
        ] {
            let made = TokenKey::generate(&uri(object), PIN, algorithm).unwrap();
            let opened = TokenKey::open(&uri(object), PIN).unwrap();
            assert_eq!(
                (opened.algorithm(), opened.public_key_der()),
                (algorithm, made.public_key_der())
            );
            for i in 1..9u32 {
                let message = i.to_be_bytes().repeat(i as usize);
                let signature = opened.sign(&message).unwrap();
                let public = opened.public_key_der();
                match algorithm {
                    Algorithm::P256 | Algorithm::P384 => {
                        verify(public, &message, &signature).unwrap();
                        fast::verify(public, &message, &signature).unwrap();
                        assert!(verify(public, b"another", &signature).is_err());
                    }
                    Algorithm::Rsa2048 => verify_rsa(public, &message, &signature).unwrap(),
                    Algorithm::Ed25519 => {
                        verify_ed25519(public.last_chunk().unwrap(), &message, &signature).unwrap()
                    }
                }
                assert!(openssl_verifies(public, algorithm, &message, &signature), "{algorithm:?}");
            }
        }
    });
}

#[test]
fn a_key_is_opened_for_its_purpose_by_its_pin_and_never_overwritten() {
    with_token("token::a_key_is_opened_for_its_purpose_by_its_pin_and_never_overwritten", || {
        TokenKey::generate(&uri("device-ca"), PIN, Algorithm::P384).unwrap();
        let refusal = |r: Result<TokenKey, fleeti_pki::Error>| r.err().unwrap().to_string();
        assert!(
            refusal(TokenKey::generate(&uri("device-ca"), PIN, Algorithm::P384))
                .contains("never overwritten")
        );
        assert!(refusal(TokenKey::open(&uri("server-ca"), PIN)).contains("0 objects"));
        let elsewhere: TokenUri =
            format!("pkcs11:token=other;object=device-ca?module-path={MODULE}").parse().unwrap();
        assert!(refusal(TokenKey::open(&elsewhere, PIN)).contains("no token \"other\""));
        let file = format!("pkcs11:token=fleeti;object=device-ca?module-path={MODULE}\n");
        assert!(keyfile::open(file.as_bytes(), "device-ca", PIN).is_ok());
        let error = keyfile::open(file.as_bytes(), "server-ca", PIN).err().unwrap().to_string();
        assert!(error.contains("a key for something else"), "{error}");
    });
}

#[test]
fn a_wrong_pin_opens_nothing() {
    with_token("token::a_wrong_pin_opens_nothing", || {
        let error = TokenKey::open(&uri("device-ca"), b"wrong pin").err().unwrap().to_string();
        assert!(error.contains("does not accept this PIN"), "{error}");
    });
}

/// An attacker who can write to the token imports a key that is known outside.
#[test]
fn a_key_that_was_not_made_in_the_token_is_refused() {
    with_token("token::a_key_that_was_not_made_in_the_token_is_refused", || {
        let dir = tempfile::tempdir().unwrap();
        let arguments = [
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-384",
            "-out",
            "key.pem",
        ];
        assert!(run("openssl", &arguments, dir.path()).0);
        let import = [
            "--import",
            "key.pem",
            "--token",
            "fleeti",
            "--label",
            "device-ca",
            "--id",
            "0a",
            "--pin",
            "12345678",
        ];
        assert!(run("softhsm2-util", &import, dir.path()).0);
        let error = TokenKey::open(&uri("device-ca"), PIN).err().unwrap().to_string();
        assert!(error.contains("not generated in the token"), "{error}");
    });
}

#[test]
fn certificates_and_openpgp_signatures_come_out_of_a_token() {
    with_token("token::certificates_and_openpgp_signatures_come_out_of_a_token", || {
        let dir = tempfile::tempdir().unwrap();
        let root = TokenKey::generate(&uri("root"), PIN, Algorithm::P384).unwrap();
        let period = Period::starting(1_700_000_000, 20 * 365 * 86_400);
        let certificate = self_signed(Role::Root, period, &root).unwrap();
        let device_ca = TokenKey::generate(&uri("device-ca"), PIN, Algorithm::P384).unwrap();
        let authority = Authority { certificate: &certificate, signer: &root };
        let role = Role::Intermediate { purpose: Purpose::Device };
        let intermediate = issue(role, period, device_ca.public_key_der(), &authority).unwrap();
        assert_eq!(public_key_der(&intermediate).unwrap(), device_ca.public_key_der());
        let authority = Authority { certificate: &intermediate, signer: &device_ca };
        let key = SoftKey::generate(Algorithm::P256).unwrap();
        let leaf = issue(
            Role::Device { id: "dev-a".parse().unwrap() },
            period,
            key.public_key_der(),
            &authority,
        )
        .unwrap();
        for (name, certificate) in
            [("root.pem", &certificate), ("ca.pem", &intermediate), ("leaf.pem", &leaf)]
        {
            std::fs::write(dir.path().join(name), to_pem(certificate).unwrap()).unwrap();
        }
        let arguments =
            ["verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "ca.pem", "leaf.pem"];
        assert!(run("openssl", &arguments, dir.path()).0);

        let openpgp = OpenPgpKey::new(Box::new(
            TokenKey::generate(&uri("openpgp"), PIN, Algorithm::P256).unwrap(),
        ))
        .unwrap();
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
        write("ring.gpg", &openpgp.keyring().unwrap());
        write("sums", b"sums");
        write("sums.gpg", &openpgp.sign(b"sums").unwrap());
        assert!(gpgv(dir.path()));
        write("sums", b"sumz");
        assert!(!gpgv(dir.path()));
    });
}

fn gpgv(dir: &Path) -> bool {
    run("gpgv", &["--keyring", "./ring.gpg", "sums.gpg", "sums"], dir).0
}
