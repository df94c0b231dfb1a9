//! Certificates checked by three independent implementations: openssl (strict), certtool and
//! rustls-webpki.

use crate::{World, now_s, run};
use fleeti_pki::certificate::{self, Authority, Extras, Period, Protection, Purpose, Role};
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::signer::{Algorithm, Signer, SoftKey};
use std::time::Duration;
use x509_cert::Certificate;

#[derive(Clone, Copy)]
enum Usage {
    Client,
    Server,
}

/// The results of openssl, certtool and webpki for a leaf with its intermediates, under the world's
/// root.
fn judge(
    world: &World,
    leaf: &Certificate,
    intermediates: &[&Certificate],
    usage: Usage,
) -> [bool; 3] {
    let dir = world.dir.path();
    let pem = |cs: &[&Certificate]| {
        cs.iter().map(|c| certificate::to_pem(c).unwrap()).collect::<String>()
    };
    std::fs::write(dir.join("leaf.pem"), pem(&[leaf])).unwrap();
    std::fs::write(dir.join("untrusted.pem"), pem(intermediates)).unwrap();
    std::fs::write(dir.join("chain.pem"), pem(&[&[leaf], intermediates].concat())).unwrap();
    let (name, oid) = match usage {
        Usage::Client => ("sslclient", "1.3.6.1.5.5.7.3.2"),
        Usage::Server => ("sslserver", "1.3.6.1.5.5.7.3.1"),
    };
    let openssl = [
        "verify",
        "-x509_strict",
        "-purpose",
        name,
        "-CAfile",
        "public/root.pem",
        "-untrusted",
        "untrusted.pem",
        "leaf.pem",
    ];
    let certtool = [
        "--verify",
        "--verify-purpose",
        oid,
        "--load-ca-certificate",
        "public/root.pem",
        "--infile",
        "chain.pem",
    ];
    [
        run("openssl", &openssl, dir).0,
        run("certtool", &certtool, dir).0,
        webpki_accepts(world, leaf, intermediates, usage),
    ]
}

fn webpki_accepts(
    world: &World,
    leaf: &Certificate,
    intermediates: &[&Certificate],
    usage: Usage,
) -> bool {
    let der =
        |c: &Certificate| rustls_pki_types::CertificateDer::from(certificate::to_der(c).unwrap());
    let root = der(&world.certificate("root.pem"));
    let anchor = [webpki::anchor_from_trusted_cert(&root).unwrap().to_owned()];
    let leaf = der(leaf);
    let Ok(end) = webpki::EndEntityCert::try_from(&leaf) else { return false };
    let chain: Vec<_> = intermediates.iter().map(|c| der(c)).collect();
    let now = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now_s()));
    let usage = match usage {
        Usage::Client => webpki::KeyUsage::client_auth(),
        Usage::Server => webpki::KeyUsage::server_auth(),
    };
    end.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchor, &chain, now, usage, None, None)
        .is_ok()
}

struct Pair {
    key: SoftKey,
    certificate: Certificate,
}

impl Pair {
    fn authority(&self) -> Authority<'_> {
        Authority { certificate: &self.certificate, signer: &self.key }
    }
    fn issue(&self, role: Role, period: Period) -> Pair {
        let key = SoftKey::generate(Algorithm::P256).unwrap();
        let certificate =
            certificate::issue(role, period, key.public_key_der(), &self.authority()).unwrap();
        Pair { key, certificate }
    }
}

fn device() -> Role {
    Role::Device { id: "dev-1".parse().unwrap() }
}
fn server() -> Role {
    Role::Server { names: vec!["fleeti.example".into(), "192.0.2.1".into()] }
}
fn hour() -> Period {
    Period::starting(now_s(), 3600)
}
fn online(world: &World, name: &str, key_purpose: &str) -> Pair {
    Pair {
        key: world.key(&format!("online/{name}.key"), key_purpose),
        certificate: world.certificate(&format!("{name}.pem")),
    }
}

#[test]
fn what_is_issued_is_accepted_by_all_three_for_its_purpose_and_by_none_for_the_other() {
    let world = World::new();
    let (devices, servers) = (
        online(&world, "device-ca", purpose::DEVICE_CA),
        online(&world, "server-ca", purpose::SERVER_CA),
    );
    let (a_device, a_server) = (devices.issue(device(), hour()), servers.issue(server(), hour()));
    assert_eq!(
        judge(&world, &a_device.certificate, &[&devices.certificate], Usage::Client),
        [true; 3]
    );
    assert_eq!(
        judge(&world, &a_device.certificate, &[&devices.certificate], Usage::Server),
        [false; 3]
    );
    assert_eq!(
        judge(&world, &a_server.certificate, &[&servers.certificate], Usage::Server),
        [true; 3]
    );
    assert_eq!(
        judge(&world, &a_server.certificate, &[&servers.certificate], Usage::Client),
        [false; 3]
    );
    // With every extension that a leaf may have.
    let extras = Extras {
        protection: Some(Protection::Software),
        crl_url: Some("http://fleeti.example/pki/device.crl".into()),
    };
    let key = SoftKey::generate(Algorithm::P384).unwrap();
    let leaf = certificate::issue_with(
        device(),
        hour(),
        key.public_key_der(),
        &devices.authority(),
        &extras,
    )
    .unwrap();
    assert_eq!(judge(&world, &leaf, &[&devices.certificate], Usage::Client), [true; 3]);
    assert_eq!(Protection::of(&leaf).unwrap(), Some(Protection::Software));
    assert_eq!(Protection::of(&a_device.certificate).unwrap(), None);
}

#[test]
fn no_judge_accepts_a_chain_with_one_of_these_defects() {
    let world = World::new();
    let devices = online(&world, "device-ca", purpose::DEVICE_CA);
    let intermediate = || Role::Intermediate { purpose: Purpose::Device };
    let refused = |what: &str, leaf: &Certificate, chain: &[&Certificate], usage| {
        assert_eq!(judge(&world, leaf, chain, usage), [false; 3], "{what}");
    };
    let a_device = devices.issue(device(), hour());
    let by_leaf = a_device.issue(device(), hour());
    refused(
        "a leaf as an issuer",
        &by_leaf.certificate,
        &[&a_device.certificate, &devices.certificate],
        Usage::Client,
    );
    let of_devices = devices.issue(server(), hour());
    refused(
        "a server by the device intermediate",
        &of_devices.certificate,
        &[&devices.certificate],
        Usage::Server,
    );
    let ended = devices
        .issue(device(), Period { not_before_s: now_s() - 7200, not_after_s: now_s() - 3600 });
    refused("an expired one", &ended.certificate, &[&devices.certificate], Usage::Client);
    let early = devices
        .issue(device(), Period { not_before_s: now_s() + 3600, not_after_s: now_s() + 7200 });
    refused(
        "one that is not valid yet",
        &early.certificate,
        &[&devices.certificate],
        Usage::Client,
    );
    // The same name, another key: the issuer of the signature is not certified by the root.
    let stranger = Pair {
        key: SoftKey::generate(Algorithm::P384).unwrap(),
        certificate: devices.certificate.clone(),
    };
    let forged = stranger.issue(device(), hour());
    refused(
        "one by another key of the same name",
        &forged.certificate,
        &[&devices.certificate],
        Usage::Client,
    );
    let self_made = certificate::self_signed(intermediate(), hour(), &stranger.key).unwrap();
    let own = Pair {
        key: SoftKey::from_pkcs8_der(&stranger.key.to_pkcs8_der().unwrap()).unwrap(),
        certificate: self_made,
    };
    let by_own = own.issue(device(), hour());
    refused(
        "one by an uncertified intermediate",
        &by_own.certificate,
        &[&own.certificate],
        Usage::Client,
    );
}

#[test]
fn a_critical_extension_that_nobody_knows_and_authorities_that_may_not_sign_are_refused() {
    let world = World::new();
    let dir = world.dir.path();
    let devices = online(&world, "device-ca", purpose::DEVICE_CA);
    let pkcs8 =
        |key: &SoftKey| der::Document::try_from(key.to_pkcs8_der().unwrap().as_slice()).unwrap();
    let write_key = |name: &str, key: &SoftKey| {
        std::fs::write(
            dir.join(name),
            pkcs8(key).to_pem("PRIVATE KEY", der::pem::LineEnding::LF).unwrap(),
        )
        .unwrap();
    };
    write_key("ca.key", &devices.key);
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    std::fs::write(dir.join("leaf.csr"), fleeti_pki::csr::create(&key).unwrap()).unwrap();
    let usual = "basicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n\
                 subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
    let make = |extensions: &str, ca: &str, ca_key: &str| {
        std::fs::write(dir.join("ext.cnf"), extensions).unwrap();
        let arguments = [
            "x509", "-req", "-in", "leaf.csr", "-CA", ca, "-CAkey", ca_key, "-days", "1",
            "-extfile", "ext.cnf", "-out", "made.pem",
        ];
        let (ok, text) = run("openssl", &arguments, dir);
        assert!(ok, "{text}");
        certificate::from_pem(&std::fs::read_to_string(dir.join("made.pem")).unwrap()).unwrap()
    };
    let good = make(usual, "public/device-ca.pem", "ca.key");
    assert_eq!(
        judge(&world, &good, &[&devices.certificate], Usage::Client),
        [true; 3],
        "each implementation refuses some"
    );
    let critical = make(
        &format!("{usual}1.3.6.1.3.70108.99=critical,ASN1:NULL\n"),
        "public/device-ca.pem",
        "ca.key",
    );
    assert_eq!(judge(&world, &critical, &[&devices.certificate], Usage::Client), [false; 3]);
    write_key("leaf.key", &key);
    // A CA below the device intermediate, which must not have any.
    let authority = "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
    let below = make(authority, "public/device-ca.pem", "ca.key");
    std::fs::write(dir.join("below.pem"), certificate::to_pem(&below).unwrap()).unwrap();
    let by_below = make(usual, "below.pem", "leaf.key");
    assert_eq!(
        judge(&world, &by_below, &[&below, &devices.certificate], Usage::Client),
        [false; 3]
    );
    // A CA certified by the root that may sign CRLs, but no certificates.
    let root = Pair {
        key: world.key("offline/root.key", purpose::ROOT),
        certificate: world.certificate("root.pem"),
    };
    write_key("root.key", &root.key);
    let no_signer = "basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
    let lists_only = make(no_signer, "public/root.pem", "root.key");
    std::fs::write(dir.join("lists.pem"), certificate::to_pem(&lists_only).unwrap()).unwrap();
    let leaf = make(usual, "lists.pem", "leaf.key");
    assert_eq!(judge(&world, &leaf, &[&lists_only], Usage::Client)[..2], [false; 2]);
    // webpki does not check keyUsage of a CA (as documented). Fleeti's trust anchors are the
    // intermediates themselves, so there is never another CA in between.
    let (ca, leaf_der) =
        (certificate::to_der(&devices.certificate).unwrap(), certificate::to_der(&leaf).unwrap());
    let anchor = [webpki::anchor_from_trusted_cert(&ca.as_slice().into()).unwrap().to_owned()];
    let leaf_der = leaf_der.as_slice().into();
    let end = webpki::EndEntityCert::try_from(&leaf_der).unwrap();
    let now = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now_s()));
    let between = [certificate::to_der(&lists_only).unwrap().into()];
    let verdict = end.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchor,
        &between,
        now,
        webpki::KeyUsage::client_auth(),
        None,
        None,
    );
    assert!(verdict.is_err());
}

#[test]
fn a_certificate_that_does_not_name_exactly_one_device_names_none() {
    let dir = tempfile::tempdir().unwrap();
    let named = |names: &str| {
        let new = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "key.pem",
            "-out",
            "c.pem",
        ];
        let subject = ["-subj", "/CN=dev-a", "-days", "1"];
        let names = [format!("subjectAltName={names}")];
        let names: Vec<&str> =
            if names[0].ends_with('=') { vec![] } else { vec!["-addext", &names[0]] };
        let (made, said) = run("openssl", &[&new[..], &subject, &names].concat(), dir.path());
        assert!(made, "{said}");
        let pem = std::fs::read_to_string(dir.path().join("c.pem")).unwrap();
        certificate::device_of(&certificate::from_pem(&pem).unwrap())
            .map(|id| id.to_string())
            .map_err(|e| e.to_string())
    };
    assert_eq!(named("URI:urn:fleeti:device:dev-a").unwrap(), "dev-a");
    for names in [
        "",
        "URI:urn:fleeti:device:dev-a,URI:urn:fleeti:device:dev-b",
        "URI:urn:fleeti:device:dev-a,URI:urn:fleeti:device:dev-a",
        "URI:urn:fleeti:device:dev-a,DNS:dev-b",
        "DNS:dev-a",
        "URI:dev-a",
        "URI:urn:fleeti:device:",
        "URI:urn:fleeti:device:dev-a/dev-b",
        "email:dev-a@example.org",
    ] {
        assert_eq!(
            named(names).unwrap_err(),
            "the certificate does not name one device",
            "{names}"
        );
    }
}
