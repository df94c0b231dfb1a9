//! Secure Boot keys of devices: what the signing service makes of them, and what it refuses to an
//! attacker who controls the server.

use crate::{World, one, refusal};
use base64::Engine;
use fleeti_core::manifest::Artifact;
use fleeti_core::wire::api::BootKeyChange;
use fleeti_pki::audit::{Act, Entry, Stage};
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_pki::{authenticode, certificate, manifest, sealed, uefi};
use fleeti_signer::keys;
use fleeti_signer::limits::Limits;
use fleeti_signer::service::SigningService;
use fleeti_signer_client::wire::{BootState, Request, Response};
use fleeti_testkit::synthetic::manifest_of;

const DIGEST: [u8; 32] = [0xab; 32];

fn decode(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

/// The state of a new device's keys, and the value of its db.
fn make(service: &mut SigningService, device: &str) -> (BootState, Vec<u8>) {
    let Response::Boot { state, writes } =
        one(service, Request::MakeBootKeys { device: device.parse().unwrap() })
    else {
        panic!()
    };
    let auth = decode(&writes[0].auth);
    let length = u32::from_le_bytes(auth[16..20].try_into().unwrap()) as usize;
    (state, auth[16 + length..].to_vec())
}

fn release(world: &World, authenticode: Option<String>) -> (String, SoftKey) {
    let path = "raw/kiosk_2.efi".to_owned();
    let artifact = Artifact { path, size: 1, sha256: "c".into(), authenticode };
    let manifest = manifest_of(&"kiosk@2".parse().unwrap(), vec![artifact]);
    let file = std::fs::read(world.path("pki/offline/release.key")).unwrap();
    let key =
        SoftKey::from_pkcs8_der(&sealed::open(&file, purpose::RELEASE, b"pass").unwrap()).unwrap();
    (String::from_utf8(manifest::to_bytes(&manifest).unwrap()).unwrap(), key)
}

fn sign(device: &str, state: &BootState, manifest: &str, key: &SoftKey) -> Request {
    let signature = manifest::sign(manifest.as_bytes(), key).unwrap();
    Request::SignBoot {
        device: device.parse().unwrap(),
        wrapped: state.wrapped.clone(),
        manifest: manifest.to_owned(),
        signatures: vec![(signature.key_id, fleeti_pki::base64_text(&signature.der))],
    }
}

#[test]
fn a_release_that_people_signed_is_signed_for_each_device_by_its_own_key() {
    let world = World::new();
    let mut service = world.service();
    let (manifest, key) = release(&world, Some(hex::encode(DIGEST)));
    let devices = ["dev-a", "dev-b"].map(|d| (d, make(&mut service, d)));
    let db = |value: &[u8]| certificate::from_der(&uefi::certificates(value).unwrap()[0]).unwrap();
    for (n, (device, (state, value))) in devices.iter().enumerate() {
        let Response::BootSignatures { signatures } =
            one(&mut service, sign(device, state, &manifest, &key))
        else {
            panic!()
        };
        let signature = decode(&signatures.binaries["raw/kiosk_2.efi"]);
        authenticode::verify(&signature, &DIGEST, &db(value)).unwrap();
        assert!(authenticode::verify(&signature, &DIGEST, &db(&devices[1 - n].1.1)).is_err());
    }
    let Response::Entries { lines } = one(&mut service, Request::Entries { from: 0, limit: 100 })
    else {
        panic!()
    };
    let log: Vec<_> = lines.iter().map(|l| Entry::parse(l.as_bytes()).unwrap()).collect();
    let signed: Vec<_> =
        log.iter().filter(|e| e.act.action == "boot.sign" && e.act.subject == "dev-a").collect();
    assert_eq!(signed.len(), 2);
    assert_eq!(
        signed[0].act.sha256,
        Some(fleeti_core::canonical::sha256_hex(manifest.as_bytes())),
        "the intent names the release"
    );
    assert_eq!(signed[1].stage, Stage::Outcome { intent: signed[0].number });
}

/// An attacker who can write every row of the server, and use the socket as the server does.
#[test]
fn the_server_gets_no_signature_over_a_binary_that_people_did_not_sign() {
    let world = World::new();
    let mut service = world.service();
    let (a, _) = make(&mut service, "dev-a");
    let (manifest, key) = release(&world, Some(hex::encode(DIGEST)));
    let thief = SoftKey::generate(Algorithm::P384).unwrap();
    let untrusted = |service: &mut SigningService, request| {
        let reason = refusal(service, request);
        assert!(reason.contains("0 of 1"), "{reason}");
    };
    untrusted(&mut service, sign("dev-a", &a, &manifest, &thief));
    // Sign the valid release first, so that the cache of the last release is filled.
    assert!(matches!(
        one(&mut service, sign("dev-a", &a, &manifest, &key)),
        Response::BootSignatures { .. }
    ));
    let Request::SignBoot { signatures, .. } = sign("dev-a", &a, &manifest, &key) else { panic!() };
    let other = manifest.replace(&hex::encode(DIGEST), &hex::encode([0xcd; 32]));
    let device = || "dev-a".parse().unwrap();
    untrusted(
        &mut service,
        Request::SignBoot {
            device: device(),
            wrapped: a.wrapped.clone(),
            manifest: other,
            signatures: signatures.clone(),
        },
    );
    untrusted(
        &mut service,
        Request::SignBoot {
            device: device(),
            wrapped: a.wrapped.clone(),
            manifest: manifest.clone(),
            signatures: vec![],
        },
    );
    // The keys of one device sign for no other device.
    let wrapped = a.wrapped.clone();
    let stolen = Request::SignBoot {
        device: "dev-b".parse().unwrap(),
        wrapped,
        manifest: manifest.clone(),
        signatures,
    };
    assert!(refusal(&mut service, stolen).contains("not the wrapped boot keys of this device"));
    let change = Request::ChangeBoot {
        device: "dev-b".parse().unwrap(),
        wrapped: a.wrapped.clone(),
        change: BootKeyChange::BeginEpoch,
        forbidden: vec![],
    };
    assert!(refusal(&mut service, change).contains("not the wrapped boot keys of this device"));
    let (silent, key) = release(&world, None);
    assert!(
        refusal(&mut service, sign("dev-a", &a, &silent, &key)).contains("no Authenticode digest")
    );
    let record = Request::Record { act: Act::new("server", "boot.sign", "dev-a") };
    assert!(refusal(&mut service, record).contains("only the signing service writes"));
}

#[test]
fn epochs_follow_one_another_and_bad_requests_change_nothing() {
    let world = World::new();
    let mut service = world.service();
    let (first, _) = make(&mut service, "dev-a");
    let change = |state: &BootState, change| Request::ChangeBoot {
        device: "dev-a".parse().unwrap(),
        wrapped: state.wrapped.clone(),
        change,
        forbidden: vec![],
    };
    let forbid = |change, forbidden| Request::ChangeBoot {
        device: "dev-a".parse().unwrap(),
        wrapped: first.wrapped.clone(),
        change,
        forbidden,
    };
    let release = BootKeyChange::Forbid { release: "kiosk@1".parse().unwrap() };
    assert!(
        refusal(&mut service, change(&first, BootKeyChange::EndEpoch)).contains("only one epoch")
    );
    for digests in [vec![], vec!["ab".into()], vec!["zz".repeat(32)], vec!["ab".repeat(32); 33]] {
        refusal(&mut service, forbid(release.clone(), digests));
    }
    let digests = vec!["ab".repeat(32)];
    assert!(
        refusal(&mut service, forbid(BootKeyChange::EndEpoch, digests)).contains("only `forbid`")
    );
    let Response::Boot { state: both, .. } =
        one(&mut service, change(&first, BootKeyChange::BeginEpoch))
    else {
        panic!()
    };
    assert_eq!(
        (both.epoch, both.expected.db.len(), &both.expected.db[0]),
        (2, 2, &first.expected.db[0])
    );
    let Response::Boot { state: second, .. } =
        one(&mut service, change(&both, BootKeyChange::EndEpoch))
    else {
        panic!()
    };
    assert_eq!((second.epoch, &second.expected.db[..]), (2, &both.expected.db[1..]));
    assert_eq!(
        (&second.expected.pk, &second.expected.kek),
        (&first.expected.pk, &first.expected.kek)
    );
}

#[test]
fn acts_beyond_the_limit_wait_and_an_old_hierarchy_says_what_is_missing() {
    let world = World::new();
    let open = || keys::open(&world.path("pki"), b"pass", None).unwrap();
    let limits = Limits { boot_per_minute: 1, ..Limits::default() };
    let mut service = SigningService::open(open(), &world.path("audit"), limits).unwrap();
    make(&mut service, "dev-a");
    let again = || Request::MakeBootKeys { device: "dev-b".parse().unwrap() };
    assert!(
        matches!(one(&mut service, again()), Response::Limited { reason } if reason.contains("--boot-per-minute"))
    );
    std::fs::remove_file(world.path("pki/online/boot-wrap.key")).unwrap();
    let mut service =
        SigningService::open(open(), &world.path("audit-2"), Limits::default()).unwrap();
    assert!(refusal(&mut service, again()).contains("boot-wrap.key"));
}
