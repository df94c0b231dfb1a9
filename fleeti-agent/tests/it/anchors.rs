//! State that was stored under an image's root and log key, when the next image has others.

use crate::announcements::signed_bundle;
use crate::bench::{Bench, now_s};
use crate::faulty_server::FaultyServer;
use fleeti_agent::announcements::Announcements;
use fleeti_agent::{anchors, kept, release_log};
use fleeti_core::update::FailureCode;
use fleeti_core::wire::device::{LogConsistency, Notice};
use fleeti_pki::audit::Act;
use fleeti_pki::base64_text;
use fleeti_pki::certificate::{Period, Role, fingerprint, self_signed, to_pem};
use fleeti_pki::openpgp::{self, OpenPgpKey};
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_pki::transition::{self, Change, KIND, Transition};
use fleeti_testkit::release_log::MemoryLog;
use std::fs;
use x509_cert::Certificate;

fn root(bench: &Bench) -> (Certificate, SoftKey) {
    let key = SoftKey::generate(Algorithm::P384).unwrap();
    let root = self_signed(Role::Root, Period::starting(now_s(), 86_400), &key).unwrap();
    brings_root(bench, &root);
    (root, key)
}

/// Gives the running image this root.
fn brings_root(bench: &Bench, root: &Certificate) {
    fs::write(bench.paths.lib.join("trust/root.pem"), to_pem(root).unwrap()).unwrap();
}

fn brings_log(bench: &Bench, log: &MemoryLog) {
    fs::write(bench.paths.lib.join("trust/audit.pub"), log.key.to_text()).unwrap();
}

/// How a device processes a bundle of this root.
async fn gets_notice(
    bench: &Bench,
    server: &FaultyServer,
    version: u64,
    (root, key): &(Certificate, SoftKey),
) -> (u64, Option<String>) {
    server.put("trust-bundle.json", signed_bundle(version, root, key));
    let notice = Notice {
        trust_bundle: version,
        root_sha256: Some(fingerprint(root).unwrap()),
        ..Notice::default()
    };
    let announcements = Announcements::open(&bench.paths).unwrap();
    announcements.listen(&notice, &reqwest::Client::new(), &server.url).await.unwrap();
    announcements.report()
}

#[tokio::test]
async fn a_bundle_of_another_root_is_that_roots_and_a_broken_one_stops_nobody() {
    let (bench, server) = (Bench::new(), FaultyServer::start());
    let old = root(&bench);
    assert_eq!(gets_notice(&bench, &server, 3, &old).await, (3, None));
    // The next image, and a server whose bundle versions start again.
    let new = root(&bench);
    assert_eq!(Announcements::open(&bench.paths).unwrap().report(), (0, None));
    fleeti_agent::server_trust::builder(&bench.paths).expect("TLS is set up");
    assert_eq!(
        gets_notice(&bench, &server, 3, &old).await,
        (0, None),
        "a bundle of the old root is refused"
    );
    assert_eq!(gets_notice(&bench, &server, 1, &new).await, (1, None), "and is not an older one");
    // The device rolls back: the state is still there.
    brings_root(&bench, &old.0);
    assert_eq!(Announcements::open(&bench.paths).unwrap().report(), (3, None));
    // As stored before bundles were named after their root.
    let named = |root: &Certificate| {
        bench.paths.state.join(format!("trust-bundle-{}.json", &fingerprint(root).unwrap()[..16]))
    };
    fs::rename(named(&old.0), bench.paths.state.join("trust-bundle.json")).unwrap();
    assert_eq!(Announcements::open(&bench.paths).unwrap().report(), (3, None));
    brings_root(&bench, &new.0);
    assert_eq!(
        Announcements::open(&bench.paths).unwrap().report(),
        (1, None),
        "it belongs to the old root"
    );
    // Truncated, and forged.
    for bad in [&b"{\"bundle\""[..], &signed_bundle(9, &old.0, &old.1)] {
        fs::write(named(&new.0), bad).unwrap();
        fleeti_agent::server_trust::builder(&bench.paths).expect("TLS is set up");
        let (version, alarm) = Announcements::open(&bench.paths).unwrap().report();
        assert_eq!(version, 0);
        assert!(alarm.unwrap().contains("trust-bundle-"), "the alarm is raised");
        assert_eq!(
            gets_notice(&bench, &server, 1, &new).await.0,
            1,
            "and the next one is accepted"
        );
    }
}

#[tokio::test]
async fn an_image_with_another_log_remembers_that_one_and_the_one_before_is_not_forgotten() {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let release = bench.publish(&server, "r", "2");
    bench.log.enter(Act::new("admin", "test", "x")).unwrap();
    bench.stage(&release, &server.proxy_like("r/raw")).await.unwrap();
    let old = std::mem::replace(&mut bench.log, MemoryLog::new().unwrap());
    // The old image's log does not contain the new releases.
    let next = bench.publish(&server, "next", "3");
    let proof = bench.log.proof(next.number, 0, now_s()).unwrap();
    let (code, _) =
        bench.stage_with(&next, Some(&proof), &server.proxy_like("next/raw")).await.unwrap_err();
    assert_eq!(code, FailureCode::NotInLog);
    // Until release keys introduce the new log key.
    let change = Change::LogKey { from: old.key.to_text(), to: bench.log.key.to_text() };
    let signed = |key: &SoftKey| {
        transition::sign(
            &Transition { kind: KIND.into(), issued_s: now_s(), change: change.clone() },
            &[key],
        )
        .unwrap()
    };
    let mallory = SoftKey::generate(Algorithm::P384).unwrap();
    assert!(!anchors::take(&bench.paths, &bench.paths.helper_state, &[signed(&mallory)]).unwrap());
    assert!(
        anchors::take(&bench.paths, &bench.paths.helper_state, &[signed(&bench.release)]).unwrap()
    );
    assert_eq!(
        release_log::seen(&bench.paths).unwrap(),
        0,
        "another log starts at its first entry"
    );
    bench.stage_with(&next, Some(&proof), &server.proxy_like("next/raw")).await.unwrap();
    // An image with the new log key continues with it, and needs no transition.
    fs::remove_file(bench.paths.helper_state.join("transitions.json")).unwrap();
    assert_eq!(release_log::seen(&bench.paths).unwrap(), 2, "the old image remembers the old log");
    brings_log(&bench, &bench.log);
    assert_eq!(release_log::seen(&bench.paths).unwrap(), 1);
    // An unreadable state file does not block the device.
    let entries = fs::read_dir(&bench.paths.helper_state).unwrap().map(|e| e.unwrap().path());
    for path in
        entries.filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with("checkpoint-"))
    {
        fs::write(path, "torn").unwrap();
    }
    assert_eq!(release_log::seen(&bench.paths).unwrap(), 0);
    assert_eq!(kept::unreported(&bench.paths.helper_state).len(), 1);
}

#[tokio::test]
async fn a_log_that_goes_on_from_a_backup_is_believed_after_a_signed_reset_and_a_cleared_alarm_is_not_enough()
 {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let http = reqwest::Client::new();
    let note = |bench: &Bench, seen: u64| {
        let proof = bench.log.proof(0, seen, now_s()).unwrap();
        let size = bench.log.key.verify(&proof.published.checkpoint).unwrap().checkpoint().size;
        let consistency = LogConsistency { hashes: proof.consistency };
        server.put(
            &format!("log/consistency.json?from={seen}&to={size}"),
            serde_json::to_vec(&consistency).unwrap(),
        );
        proof.published.checkpoint
    };
    let says = |note: &str| Notice { checkpoint: Some(note.to_owned()), ..Notice::default() };
    for _ in 0..5 {
        bench.log.enter(Act::new("admin", "test", "x")).unwrap();
    }
    let announcements = Announcements::open(&bench.paths).unwrap();
    announcements.listen(&says(&note(&bench, 0)), &http, &server.url).await.unwrap();
    // The restored log continues.
    bench.log = std::mem::replace(&mut bench.log, MemoryLog::new().unwrap()).forget();
    for _ in 0..7 {
        bench.log.enter(Act::new("admin", "test", "y")).unwrap();
    }
    let restored = note(&bench, 5);
    announcements.listen(&says(&restored), &http, &server.url).await.unwrap();
    assert!(announcements.report().1.is_some());
    announcements.clear_alarm().unwrap();
    announcements.listen(&says(&restored), &http, &server.url).await.unwrap();
    assert!(announcements.report().1.is_some(), "the alarm is raised again");

    let change = Change::LogReset { log: bench.log.key.to_text(), checkpoint: restored };
    let reset =
        transition::sign(&Transition { kind: KIND.into(), issued_s: 7, change }, &[&bench.release])
            .unwrap();
    server.put("transitions.json", serde_json::to_vec(&[reset]).unwrap());
    bench.log.enter(Act::new("admin", "test", "z")).unwrap();
    let notice = Notice { transitions: Some("1".into()), ..says(&note(&bench, 7)) };
    announcements.listen(&notice, &http, &server.url).await.unwrap();
    assert_eq!(announcements.report().1, None);
    let again = Announcements::open(&bench.paths).unwrap();
    assert_eq!(
        again.newest_checkpoint().map(|s| s.0),
        notice.checkpoint,
        "the reset is applied once, not at each start"
    );
    // A different history after the reset is a split again.
    bench.log = std::mem::replace(&mut bench.log, MemoryLog::new().unwrap()).forget();
    for _ in 0..9 {
        bench.log.enter(Act::new("mallory", "test", "m")).unwrap();
    }
    again.listen(&says(&note(&bench, 8)), &http, &server.url).await.unwrap();
    assert!(again.report().1.is_some());
}

/// The OpenPGP key that every image trusts is lost, so `SHA256SUMS` cannot be signed with it any
/// more.
#[tokio::test]
async fn release_keys_introduce_another_openpgp_key_to_devices_whose_images_know_only_the_lost_one()
{
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let of_image = fs::read(&bench.paths.keyrings[0]).unwrap();
    bench.openpgp = OpenPgpKey::new(Box::new(SoftKey::generate(Algorithm::P256).unwrap())).unwrap();
    let release = bench.publish(&server, "r", "2");
    let (code, _) = bench.stage(&release, &server.proxy_like("r/raw")).await.unwrap_err();
    assert_eq!(code, FailureCode::StageFailed, "systemd-sysupdate trusts another key");
    bench.assert_untouched();

    let signed = |from: &[u8], to: &[u8], key: &SoftKey| {
        let change = Change::OpenpgpKeys {
            from_sha256: openpgp::choices(&[from.to_vec()]).unwrap(),
            to_base64: base64_text(to),
        };
        transition::sign(&Transition { kind: KIND.into(), issued_s: 7, change }, &[key]).unwrap()
    };
    let next = bench.openpgp.keyring().unwrap();
    let mallory = SoftKey::generate(Algorithm::P384).unwrap();
    let take = |bench: &Bench, given| {
        anchors::take(&bench.paths, &bench.paths.helper_state, &[given]).unwrap()
    };
    assert!(!take(&bench, signed(&of_image, &next, &mallory)));
    assert!(
        !take(&bench, signed(&next, &next, &bench.release)),
        "it is for images with another keyring"
    );
    assert!(take(&bench, signed(&of_image, &next, &bench.release)));
    bench.stage(&release, &server.proxy_like("r/raw")).await.unwrap();
    bench.assert_staged(&release, "2");
    assert_eq!(
        fs::read(&bench.paths.keyrings[0]).unwrap(),
        of_image,
        "other processes do not see it"
    );
}

/// The next image has a keyring of its own; the helper still stores the earlier transition.
#[tokio::test]
async fn an_image_with_a_newer_keyring_is_not_led_back_by_an_older_transition() {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let of_image = fs::read(&bench.paths.keyrings[0]).unwrap();
    let middle = OpenPgpKey::new(Box::new(SoftKey::generate(Algorithm::P256).unwrap())).unwrap();
    let change = Change::OpenpgpKeys {
        from_sha256: openpgp::choices(&[of_image]).unwrap(),
        to_base64: base64_text(&middle.keyring().unwrap()),
    };
    let signed = transition::sign(
        &Transition { kind: KIND.into(), issued_s: now_s(), change },
        &[&bench.release],
    )
    .unwrap();
    assert!(anchors::take(&bench.paths, &bench.paths.helper_state, &[signed]).unwrap());
    let newest = OpenPgpKey::new(Box::new(SoftKey::generate(Algorithm::P256).unwrap())).unwrap();
    fs::write(&bench.paths.keyrings[0], newest.keyring().unwrap()).unwrap();
    bench.openpgp = middle;
    let old = bench.publish(&server, "old", "2");
    let (code, _) = bench.stage(&old, &server.proxy_like("old/raw")).await.unwrap_err();
    assert_eq!(
        code,
        FailureCode::StageFailed,
        "the key in the middle signs nothing for this image"
    );
    bench.openpgp = newest;
    let release = bench.publish(&server, "r", "3");
    bench.stage(&release, &server.proxy_like("r/raw")).await.unwrap();
    bench.assert_staged(&release, "3");
}
