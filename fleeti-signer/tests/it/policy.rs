//! What the signing service does, and what it refuses to any caller.

use crate::{NOW_S, World, csr, device, one, refusal};
use base64::Engine;
use fleeti_core::wire::api::RevocationReason;
use fleeti_pki::audit::{Act, Entry, Examination, Stage, verify_proof};
use fleeti_pki::certificate::{self, Protection};
use fleeti_pki::crl::VerifiedCrl;
use fleeti_signer::keys;
use fleeti_signer::lifetimes::{DEVICE_S_MAX, DEVICE_S_MIN};
use fleeti_signer::limits::Limits;
use fleeti_signer::service::SigningService;
use fleeti_signer_client::wire::{
    MESSAGE_MAX, Occasion, REVOKED_AT_ONCE, Request, Response, RevokedSerial,
};

const DAY_S: u64 = 86_400;

fn entries(service: &mut SigningService) -> Vec<Entry> {
    match one(service, Request::Entries { from: 0, limit: 1000 }) {
        Response::Entries { lines } => {
            lines.iter().map(|l| Entry::parse(l.as_bytes()).unwrap()).collect()
        }
        other => panic!("{other:?}"),
    }
}
fn der(response: &Response) -> Vec<u8> {
    let (Response::Certificate { der } | Response::Crl { der }) = response else {
        panic!("{response:?}")
    };
    base64::engine::general_purpose::STANDARD.decode(der).unwrap()
}

#[test]
fn a_batch_is_answered_in_order_with_each_intent_before_each_outcome() {
    let world = World::new();
    let mut service = world.service();
    let record = Request::Record { act: Act::new("admin", "session.begin", "web") };
    let answers = service
        .perform(NOW_S, vec![device("dev-a", 7 * DAY_S), record, device("dev-b", 30 * DAY_S)])
        .unwrap();
    let a = certificate::from_der(&der(&answers[0])).unwrap();
    assert_eq!(certificate::device_of(&a).unwrap().as_str(), "dev-a");
    assert_eq!(Protection::of(&a).unwrap(), Some(Protection::Software));
    assert_eq!(certificate::not_after_s(&a), NOW_S + 7 * DAY_S);
    assert_eq!(answers[1], Response::Recorded { number: 1 });
    let log = entries(&mut service);
    let shown: Vec<_> = log
        .iter()
        .map(|e| (e.act.action.as_str(), e.act.subject.as_str(), e.stage.clone()))
        .collect();
    assert_eq!(
        shown,
        [
            ("certificate.enroll", "dev-a", Stage::Intent),
            ("session.begin", "web", Stage::Done),
            ("certificate.enroll", "dev-b", Stage::Intent),
            ("certificate.enroll", "dev-a", Stage::Outcome { intent: 0 }),
            ("certificate.enroll", "dev-b", Stage::Outcome { intent: 2 }),
        ]
    );
    assert_eq!(log[3].act.sha256, Some(certificate::fingerprint(&a).unwrap()));
}

#[test]
fn what_the_policy_does_not_allow_is_refused_and_nothing_is_signed() {
    let world = World::new();
    let mut service = world.service();
    for valid_s in [0, DEVICE_S_MIN - 1, DEVICE_S_MAX + 1, u64::MAX] {
        assert!(
            refusal(&mut service, device("dev-a", valid_s))
                .contains("validity of a device certificate")
        );
    }
    let not_mine = csr().replacen("MI", "MJ", 1);
    let bad = Request::CertifyDevice {
        device: "dev-a".parse().unwrap(),
        csr_pem: not_mine,
        valid_s: DEVICE_S_MIN,
        protection: Protection::Tpm,
        occasion: Occasion::Renewal,
        issuer: None,
    };
    refusal(&mut service, bad);
    refusal(&mut service, Request::CertifyServer { names: vec![], csr_pem: csr(), issuer: None });
    refusal(
        &mut service,
        Request::CertifyServer { names: vec!["a".into(); 33], csr_pem: csr(), issuer: None },
    );
    refusal(&mut service, Request::Prove { number: 0 });
    refusal(&mut service, Request::Consistency { old: 0, new: 1 });
    assert!(entries(&mut service).is_empty());
}

#[test]
fn nobody_writes_the_signers_own_entries() {
    let world = World::new();
    let mut service = world.service();
    for action in ["certificate.device", "crl.sign", "signer.start"] {
        let reason = refusal(&mut service, Request::Record { act: Act::new("admin", action, "x") });
        assert!(reason.contains("only the signing service writes"), "{reason}");
    }
    let long = Request::Record { act: Act::new("admin", "session.begin", "x".repeat(10_000)) };
    assert!(refusal(&mut service, long).contains("10000 bytes"));
    assert!(entries(&mut service).is_empty());
}

#[test]
fn more_than_the_limit_is_refused_until_the_next_minute() {
    let minute = NOW_S / 60 * 60;
    type Asked = fn(u64) -> Request;
    let asked: [(Limits, Asked); 3] = [
        (Limits { certificates_per_minute: 2, ..Limits::default() }, |i| {
            device(&format!("dev-{i}"), DEVICE_S_MIN)
        }),
        (Limits { lists_per_minute: 2, ..Limits::default() }, |_| Request::Crl {
            revoked: vec![],
            issuer: None,
            staged: None,
        }),
        (Limits { records_per_minute: 2, ..Limits::default() }, |i| Request::Record {
            act: Act::new("admin", "session.begin", i.to_string()),
        }),
    ];
    for (limits, request) in asked {
        let world = World::new();
        let keys = keys::open(&world.path("pki"), b"pass", None).unwrap();
        let mut service = SigningService::open(keys, &world.path("audit"), limits).unwrap();
        let mut done = |now_s, n| {
            let answers = service.perform(now_s, (0..n).map(request).collect()).unwrap();
            answers.iter().filter(|a| !matches!(a, Response::Limited { .. })).count()
        };
        assert_eq!(
            [done(minute, 3), done(minute + 59, 1), done(minute + 60, 1)],
            [2, 0, 1],
            "{limits:?}"
        );
    }
}

#[test]
fn a_signature_that_cannot_be_made_is_in_the_log_as_well() {
    let world = World::new();
    let mut service = world.service();
    let revoked = vec![RevokedSerial {
        serial: "no serial".into(),
        revoked_s: NOW_S,
        reason: RevocationReason::default(),
    }];
    refusal(&mut service, Request::Crl { revoked, issuer: None, staged: None });
    let log = entries(&mut service);
    assert_eq!(log[0].stage, Stage::Intent);
    assert!(matches!(&log[1].stage, Stage::Failed { intent: 0, .. }));
}

#[test]
fn lists_grow_in_number_and_hold_what_they_were_given() {
    let world = World::new();
    let mut service = world.service();
    let bad = certificate::from_der(&der(&one(&mut service, device("bad", DEVICE_S_MIN)))).unwrap();
    let ca = certificate::from_pem(
        &std::fs::read_to_string(world.path("pki/public/device-ca.pem")).unwrap(),
    )
    .unwrap();
    let first =
        der(&one(&mut service, Request::Crl { revoked: vec![], issuer: None, staged: None }));
    let revoked = vec![RevokedSerial {
        serial: certificate::serial(&bad),
        revoked_s: NOW_S,
        reason: RevocationReason::default(),
    }];
    let second = der(&one(&mut service, Request::Crl { revoked, issuer: None, staged: None }));
    let (first, second) =
        (VerifiedCrl::read(&first, &ca).unwrap(), VerifiedCrl::read(&second, &ca).unwrap());
    assert!(second.follows(&first) && !first.follows(&second));
    assert!(first.check(&bad, NOW_S).is_ok() && second.check(&bad, NOW_S).is_err());
}

#[test]
fn a_proof_is_verified_with_the_public_key_alone_and_a_checkpoint_never_goes_back() {
    let world = World::new();
    let mut service = world.service();
    let act = Act::new("admin", "release.publish", "kiosk@2").of("ab".repeat(32));
    one(&mut service, Request::Record { act: act.clone() });
    let Response::Proof { proof } = one(&mut service, Request::Prove { number: 0 }) else {
        panic!("no proof")
    };
    let proved = verify_proof(&proof, &world.log_key()).unwrap();
    assert_eq!((&proved.entry().act, proved.checkpoint().stated_s()), (&act, NOW_S));
    // Any reader of the file can check whether it leads to the checkpoint.
    let mut examination = Examination::default();
    for line in std::fs::read_to_string(world.path("audit/log")).unwrap().lines() {
        examination.line(line.as_bytes()).unwrap();
    }
    examination.compare(proved.checkpoint()).unwrap();
    drop(service);
    std::fs::write(world.path("audit/log"), "").unwrap();
    let keys = keys::open(&world.path("pki"), b"pass", None).unwrap();
    assert!(SigningService::open(keys, &world.path("audit"), Limits::default()).is_err());
}

/// A CSR contributes its key only: the signing service sets everything else. openssl verifies the
/// result.
#[test]
fn a_request_that_asks_for_more_gets_what_every_device_gets() {
    let world = World::new();
    let mut service = world.service();
    let openssl = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl")
            .args(arguments)
            .current_dir(world.path(""))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "greedy.key"]);
    let asked = [
        "basicConstraints=critical,CA:TRUE",
        "keyUsage=critical,keyCertSign,cRLSign",
        "extendedKeyUsage=serverAuth,codeSigning",
    ];
    let mut request = vec![
        "req",
        "-new",
        "-key",
        "greedy.key",
        "-subj",
        "/CN=dev-other/O=root",
        "-out",
        "greedy.csr",
    ];
    request.extend(["-addext", "subjectAltName=URI:urn:fleeti:device:dev-other,DNS:localhost"]);
    for extension in &asked {
        request.extend(["-addext", extension]);
    }
    openssl(&request);
    let csr_pem = std::fs::read_to_string(world.path("greedy.csr")).unwrap();
    let Request::CertifyDevice { device, valid_s, protection, occasion, issuer, .. } =
        device("dev-a", 7 * DAY_S)
    else {
        unreachable!()
    };
    let answer = one(
        &mut service,
        Request::CertifyDevice { device, csr_pem, valid_s, protection, occasion, issuer },
    );
    std::fs::write(world.path("greedy.der"), der(&answer)).unwrap();
    let text = openssl(&["x509", "-inform", "DER", "-in", "greedy.der", "-noout", "-text"]);
    for has in [
        "CN = dev-a",
        "CA:FALSE",
        "URI:urn:fleeti:device:dev-a",
        "TLS Web Client Authentication",
        "Digital Signature",
    ] {
        assert!(text.contains(has), "{has}: {text}");
    }
    for lacks in [
        "dev-other",
        "O = root",
        "CA:TRUE",
        "localhost",
        "Server Authentication",
        "Code Signing",
        "Certificate Sign",
        "CRL Sign",
    ] {
        assert!(!text.contains(lacks), "{lacks}: {text}");
    }
}

/// A CRL that is larger than a message arrives and leaves in parts, and a part of one is never
/// signed.
#[test]
fn a_list_of_a_hundred_thousand_certificates_comes_and_goes_in_parts() {
    const MANY: usize = 100_000;
    let world = World::new();
    let mut service = world.service();
    let all: Vec<RevokedSerial> = (0..MANY as u64)
        .map(|i| RevokedSerial {
            serial: hex::encode([&[0x5a; 11][..], &i.to_be_bytes()].concat()),
            revoked_s: NOW_S,
            reason: RevocationReason::KeyCompromise,
        })
        .collect();
    for (n, some) in all.chunks(REVOKED_AT_ONCE).enumerate() {
        let request = Request::StageRevoked { name: "list-1".into(), revoked: some.to_vec() };
        assert!(serde_json::to_vec(&request).unwrap().len() < MESSAGE_MAX);
        let entries = ((n + 1) * REVOKED_AT_ONCE) as u64;
        assert_eq!(one(&mut service, request), Response::Staged { entries });
    }
    let sign =
        |staged: &str| Request::Crl { revoked: vec![], issuer: None, staged: Some(staged.into()) };
    refusal(&mut service, sign("list-2"));
    let Response::LargeCrl { name, bytes } = one(&mut service, sign("list-1")) else {
        panic!("expected a large CRL")
    };
    refusal(&mut service, sign("list-1"));
    let mut whole = Vec::new();
    while (whole.len() as u64) < bytes {
        let Response::CrlPart { der } =
            one(&mut service, Request::CrlPart { name: name.clone(), from: whole.len() as u64 })
        else {
            panic!("a part is missing")
        };
        assert!(der.len() < MESSAGE_MAX);
        whole.extend(base64::engine::general_purpose::STANDARD.decode(der).unwrap());
    }
    refusal(&mut service, Request::CrlPart { name, from: 0 });
    assert_eq!(fleeti_pki::crl::entries(&whole).unwrap().len(), MANY);
    let ca = certificate::from_pem(
        &std::fs::read_to_string(world.path("pki/public/device-ca.pem")).unwrap(),
    )
    .unwrap();
    VerifiedCrl::read(&whole, &ca).unwrap();
    // A refused part drops the other parts.
    let bad = RevokedSerial { serial: "no serial".into(), ..all[0].clone() };
    one(&mut service, Request::StageRevoked { name: "list-3".into(), revoked: all[..10].to_vec() });
    refusal(&mut service, Request::StageRevoked { name: "list-3".into(), revoked: vec![bad] });
    refusal(&mut service, sign("list-3"));
}

#[test]
fn what_devices_ask_for_leaves_the_servers_certificate_alone() {
    let world = World::new();
    let keys = keys::open(&world.path("pki"), b"pass", None).unwrap();
    let limits = Limits { certificates_per_minute: 1, ..Limits::default() };
    let mut service = SigningService::open(keys, &world.path("audit"), limits).unwrap();
    one(&mut service, device("dev-a", DEVICE_S_MIN));
    assert!(matches!(one(&mut service, device("dev-b", DEVICE_S_MIN)), Response::Limited { .. }));
    let server =
        Request::CertifyServer { names: vec!["localhost".into()], csr_pem: csr(), issuer: None };
    assert!(matches!(one(&mut service, server), Response::Certificate { .. }));
}
