//! Fleeti's output, checked by independent tools: openssl and sbverify.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::too_many_lines, reason = "a scenario or a table is read from its beginning")]

mod areas;
mod attestation;
mod attester;
mod backends;
mod chains;
mod crafted;
mod defects;
mod field;
mod field_forms;
mod field_keys;
mod field_logs;
mod field_paths;
mod issued;
mod logs;
mod oidc;
mod pcr_policy;
mod quotes;
mod secure_boot;
mod started;
#[cfg(feature = "pkcs11")]
mod token;
mod tpm;
mod webauthn;

use fleeti_core::wire::api::RevocationReason;
use fleeti_pki::certificate::{self, Authority, Period, Role};
use fleeti_pki::crl::{self, Revoked};
use fleeti_pki::hierarchy::{self, purpose};
use fleeti_pki::sealed::{self, Sealing};
use fleeti_pki::signer::{Algorithm, Signer, SoftKey};
use fleeti_pki::{authenticode, manifest};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn run(binary: &str, arguments: &[&str], dir: &Path) -> (bool, String) {
    let output = Command::new(binary).args(arguments).current_dir(dir).output().unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    )
}

struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for file in hierarchy::create(Sealing::for_tests(b"pass"), now_s()).unwrap() {
            let path = dir.path().join(&file.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file.bytes).unwrap();
        }
        Self { dir }
    }
    fn key(&self, path: &str, purpose: &str) -> SoftKey {
        let bytes = std::fs::read(self.dir.path().join(path)).unwrap();
        SoftKey::from_pkcs8_der(&sealed::open(&bytes, purpose, b"pass").unwrap()).unwrap()
    }
    fn certificate(&self, name: &str) -> x509_cert::Certificate {
        certificate::from_pem(
            &std::fs::read_to_string(self.dir.path().join("public").join(name)).unwrap(),
        )
        .unwrap()
    }
}

#[test]
fn openssl_verifies_the_chain_strictly_and_honours_the_crl() {
    let world = World::new();
    let (ca, ca_key) =
        (world.certificate("device-ca.pem"), world.key("online/device-ca.key", purpose::DEVICE_CA));
    let authority = Authority { certificate: &ca, signer: &ca_key };
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let role = Role::Device { id: "dev-1".parse().unwrap() };
    let leaf = certificate::issue(
        role,
        Period::starting(now_s(), 86_400),
        key.public_key_der(),
        &authority,
    )
    .unwrap();
    let write =
        |name: &str, bytes: &[u8]| std::fs::write(world.dir.path().join(name), bytes).unwrap();
    write("leaf.pem", certificate::to_pem(&leaf).unwrap().as_bytes());
    assert_eq!(certificate::device_of(&leaf).unwrap().as_str(), "dev-1");
    assert_eq!(certificate::serial(&leaf).len(), 32);

    let verify = [
        "verify",
        "-x509_strict",
        "-purpose",
        "sslclient",
        "-CAfile",
        "public/root.pem",
        "-untrusted",
        "public/issuers.pem",
        "leaf.pem",
    ];
    let (ok, text) = run("openssl", &verify, world.dir.path());
    assert!(ok, "{text}");
    let server = verify.map(|a| if a == "sslclient" { "sslserver" } else { a });
    assert!(
        !run("openssl", &server, world.dir.path()).0,
        "a device certificate is not a server certificate"
    );

    let revoked = [Revoked {
        serial: certificate::serial(&leaf),
        revoked_s: now_s(),
        reason: RevocationReason::KeyCompromise,
    }];
    for (list, expected) in [(&revoked[..0], true), (&revoked[..], false)] {
        let update = crl::Update { number: 1, this_s: now_s(), next_s: now_s() + 3600 };
        write("crl.der", &crl::create(&authority, list, update).unwrap());
        let (ok, text) = run(
            "openssl",
            &[
                "crl",
                "-inform",
                "der",
                "-in",
                "crl.der",
                "-CAfile",
                "public/issuers.pem",
                "-out",
                "crl.pem",
            ],
            world.dir.path(),
        );
        assert!(ok, "{text}");
        let mut check = verify.to_vec();
        check.splice(1..1, ["-crl_check", "-CRLfile", "crl.pem"]);
        let (ok, text) = run("openssl", &check, world.dir.path());
        assert_eq!(ok, expected, "{text}");
    }
}

#[test]
fn an_attacker_with_the_device_ca_cannot_issue_a_server_certificate() {
    let world = World::new();
    let (ca, ca_key) =
        (world.certificate("device-ca.pem"), world.key("online/device-ca.key", purpose::DEVICE_CA));
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let role = Role::Server { names: vec!["fleeti.example".into()] };
    let authority = Authority { certificate: &ca, signer: &ca_key };
    let forged =
        certificate::issue(role, Period::starting(now_s(), 3600), key.public_key_der(), &authority)
            .unwrap();
    std::fs::write(world.dir.path().join("forged.pem"), certificate::to_pem(&forged).unwrap())
        .unwrap();
    let verify = [
        "verify",
        "-purpose",
        "sslserver",
        "-CAfile",
        "public/root.pem",
        "-untrusted",
        "public/issuers.pem",
        "forged.pem",
    ];
    let (ok, text) = run("openssl", &verify, world.dir.path());
    assert!(!ok && text.contains("unsuitable certificate purpose"), "{text}");
    // As an agent does, with rustls.
    let der = |c: &x509_cert::Certificate| certificate::to_der(c).unwrap();
    let root = der(&world.certificate("root.pem"));
    let anchor = [webpki::anchor_from_trusted_cert(&root.as_slice().into()).unwrap().to_owned()];
    let (leaf, intermediate) = (der(&forged), der(&ca));
    let leaf = leaf.as_slice().into();
    let end = webpki::EndEntityCert::try_from(&leaf).unwrap();
    let now = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(now_s()));
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    let chain = [intermediate.as_slice().into()];
    let verdict = end.verify_for_usage(
        algorithms,
        &anchor,
        &chain,
        now,
        webpki::KeyUsage::server_auth(),
        None,
        None,
    );
    assert!(verdict.is_err());
}

#[test]
fn openssl_verifies_the_signature_of_a_manifest() {
    let world = World::new();
    let key = world.key("offline/release.key", purpose::RELEASE);
    let bytes = br#"{"architecture":"x86_64","artifacts":[{"path":"raw/k_1.efi","sha256":"aa","size":1}],"created_s":0,"critical":[],"lock_digest":"","minimum_version":"1","reference_values":{"pcr11":{},"systemd_version":"257"},"release":"k@1","revision_digest":"","root_hash":"","type":"fleeti-release-manifest"}"#;
    std::fs::write(world.dir.path().join("manifest.json"), bytes).unwrap();
    std::fs::write(world.dir.path().join("m.sig"), manifest::sign(bytes, &key).unwrap().der)
        .unwrap();
    let dgst = [
        "dgst",
        "-sha384",
        "-verify",
        "public/release.pem",
        "-signature",
        "m.sig",
        "manifest.json",
    ];
    assert!(run("openssl", &dgst, world.dir.path()).0);
    std::fs::write(world.dir.path().join("manifest.json"), bytes.to_ascii_uppercase()).unwrap();
    assert!(!run("openssl", &dgst, world.dir.path()).0);
}

/// The smallest PE32+ file that the tools accept: headers and one section of code.
fn binary() -> Vec<u8> {
    let mut pe = vec![0u8; 0x400];
    pe[..2].copy_from_slice(b"MZ");
    pe[0x3c] = 0x80;
    pe[0x80..0x84].copy_from_slice(b"PE\0\0");
    let mut put = |at: usize, bytes: &[u8]| pe[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x84, &0x8664u16.to_le_bytes()); // machine
    put(0x86, &1u16.to_le_bytes()); // sections
    put(0x94, &240u16.to_le_bytes()); // size of the optional header
    put(0x96, &0x2022u16.to_le_bytes());
    put(0x98, &0x20bu16.to_le_bytes()); // PE32+
    put(0xa8, &0x1000u32.to_le_bytes()); // entry point
    put(0xb8, &0x1000u32.to_le_bytes()); // section alignment
    put(0xbc, &0x200u32.to_le_bytes()); // file alignment
    put(0xd0, &0x2000u32.to_le_bytes()); // size of image
    put(0xd4, &0x200u32.to_le_bytes()); // size of headers
    put(0xdc, &10u16.to_le_bytes()); // EFI application
    put(0x104, &16u32.to_le_bytes()); // data directories
    put(0x188, b".text\0\0\0");
    put(0x190, &0x200u32.to_le_bytes());
    put(0x194, &0x1000u32.to_le_bytes());
    put(0x198, &0x200u32.to_le_bytes());
    put(0x19c, &0x200u32.to_le_bytes());
    put(0x1ac, &0x6000_0020u32.to_le_bytes());
    put(0x200, &[0xc3]);
    pe
}

#[test]
fn sbverify_accepts_a_signed_binary_and_refuses_a_changed_one() {
    let world = World::new();
    let (db, key) = (world.certificate("db.pem"), world.key("offline/db.key", purpose::DB));
    let unsigned = binary();
    let mut signed = authenticode::sign(&unsigned, &db, &key).unwrap();
    assert_eq!(authenticode::digest(&signed).unwrap(), authenticode::digest(&unsigned).unwrap());
    assert!(authenticode::sign(&signed, &db, &key).is_err(), "one signature is enough");
    let verify = |bytes: &[u8], certificate: &str| {
        std::fs::write(world.dir.path().join("x.efi"), bytes).unwrap();
        run("sbverify", &["--cert", certificate, "x.efi"], world.dir.path())
    };
    let (ok, text) = verify(&signed, "public/db.pem");
    assert!(ok, "{text}");
    assert!(!verify(&signed, "public/KEK.pem").0, "another key does not verify it");
    signed[0x201] ^= 1;
    assert!(!verify(&signed, "public/db.pem").0);
}
