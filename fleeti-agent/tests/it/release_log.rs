//! A device installs only releases in the audit log, and detects a log with two histories.

use crate::bench::{Bench, SmallRelease, now_s};
use crate::faulty_server::FaultyServer;
use fleeti_agent::release_log::seen;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::update::FailureCode;
use fleeti_core::wire::device::ReleaseProof;
use fleeti_pki::audit::Act;
use fleeti_testkit::release_log::MemoryLog;

const DAY_S: u64 = 86_400;

fn sha256(release: &SmallRelease) -> String {
    sha256_hex(release.manifest.as_bytes())
}

async fn refused(
    bench: &Bench,
    server: &FaultyServer,
    release: &SmallRelease,
    proof: Option<&ReleaseProof>,
    code: FailureCode,
) {
    let (found, detail) =
        bench.stage_with(release, proof, &server.proxy_like("r/raw")).await.unwrap_err();
    assert_eq!(found, code, "{detail}");
    assert!(server.requests().is_empty(), "systemd-sysupdate was not started");
    bench.assert_untouched();
}

#[tokio::test]
async fn a_release_that_the_log_does_not_publish_is_refused() {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let release = bench.publish(&server, "r", "2");
    refused(&bench, &server, &release, None, FailureCode::NotInLog).await;
    let other_digest = bench.log.publish("kiosk@2", &"0".repeat(64)).unwrap();
    let other_name = bench.log.publish("kiosk@3", &sha256(&release)).unwrap();
    let other_action =
        bench.log.enter(Act::new("admin", "release.sign", "kiosk@2").of(sha256(&release))).unwrap();
    for number in [other_digest, other_name, other_action] {
        let proof = bench.log.proof(number, 0, now_s()).unwrap();
        refused(&bench, &server, &release, Some(&proof), FailureCode::NotInLog).await;
    }
    // A different log with the same contents.
    let mut stranger = MemoryLog::new().unwrap();
    let number = stranger.publish("kiosk@2", &sha256(&release)).unwrap();
    refused(
        &bench,
        &server,
        &release,
        Some(&stranger.proof(number, 0, now_s()).unwrap()),
        FailureCode::NotInLog,
    )
    .await;
    assert_eq!(seen(&bench.paths).unwrap(), 0, "a refused checkpoint is not remembered");
}

#[tokio::test]
async fn an_old_checkpoint_is_refused_until_there_is_a_new_one() {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let release = bench.publish(&server, "r", "2");
    let old = bench.log.proof(release.number, 0, now_s() - 8 * DAY_S).unwrap();
    refused(&bench, &server, &release, Some(&old), FailureCode::LogStale).await;
    let new = bench.log.proof(release.number, 0, now_s() - 6 * DAY_S).unwrap();
    bench.stage_with(&release, Some(&new), &server.proxy_like("r/raw")).await.unwrap();
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_no_checkpoint_young() {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let release = bench.publish(&server, "r", "2");
    let (now, later) = (now_s(), now_s() + 20 * DAY_S);
    let check = |proof: &ReleaseProof, at_s| {
        let verified = fleeti_agent::image::release_keys(&bench.paths).unwrap();
        let signatures = fleeti_pki::manifest::Signature::all_of(&release.signatures);
        let verified =
            fleeti_pki::manifest::verify(release.manifest.as_bytes(), &signatures, &verified)
                .unwrap();
        fleeti_agent::release_log::check(&bench.paths, &verified, Some(proof), at_s)
            .map_err(|(code, _)| code)
    };
    check(&bench.log.proof(release.number, 0, later).unwrap(), later).unwrap();
    // The checkpoint proves that three weeks have passed, although the clock says otherwise.
    let old = bench.log.proof(release.number, 1, now).unwrap();
    assert_eq!(check(&old, now), Err(FailureCode::LogStale));
}

#[tokio::test]
async fn a_log_that_grew_is_believed_and_one_with_another_history_is_not() {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let release = bench.publish(&server, "r", "2");
    bench.stage(&release, &server.proxy_like("r/raw")).await.unwrap();
    assert_eq!(seen(&bench.paths).unwrap(), 1);
    bench.log.publish("kiosk@7", &"1".repeat(64)).unwrap();
    let next = bench.publish(&server, "next", "3");
    let grown = bench.log.proof(next.number, 1, now_s()).unwrap();
    let unproved = ReleaseProof { consistency: vec![], ..grown.clone() };
    let (code, _) =
        bench.stage_with(&next, Some(&unproved), &server.proxy_like("next/raw")).await.unwrap_err();
    assert_eq!(code, FailureCode::LogSplit);
    bench.stage_with(&next, Some(&grown), &server.proxy_like("next/raw")).await.unwrap();
    assert_eq!(seen(&bench.paths).unwrap(), 3);

    // The same key signs different histories: a shorter one, and one of the same length.
    let mut forged = std::mem::replace(&mut bench.log, MemoryLog::new().unwrap()).forget();
    let last = bench.publish(&server, "last", "4");
    let url = server.proxy_like("last/raw");
    let mut number = 0;
    for _ in 0..5 {
        number = forged.publish("kiosk@4", &sha256(&last)).unwrap();
        let proof = forged.proof(number, 3, now_s()).unwrap();
        let (code, detail) = bench.stage_with(&last, Some(&proof), &url).await.unwrap_err();
        assert_eq!(code, FailureCode::LogSplit, "{detail}");
        assert!(detail.contains("had 3 entries"), "{detail}");
    }
    assert_eq!((number, seen(&bench.paths).unwrap()), (4, 3));
}

#[tokio::test]
async fn a_profile_may_do_without_the_log() {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let release = bench.publish(&server, "r", "2");
    let facts = r#"{"minimum_version":"1","hostname":"x","health_checks":[],"release_log":{"optional":true}}"#;
    std::fs::write(bench.paths.lib.join("image.json"), facts).unwrap();
    bench.stage_with(&release, None, &server.proxy_like("r/raw")).await.unwrap();
}
