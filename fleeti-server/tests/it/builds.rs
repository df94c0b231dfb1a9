//! Builds: revisions are numbered by content, and the build of a killed worker is claimed again.

use crate::world::World;
use fleeti_client::ClientError;
use fleeti_core::wire::api::{BuildPhase, CreateBuild};
use fleeti_store::builds::{Ended, Lease};
use fleeti_store::{self as store, Db};

pub fn request(motd: &str) -> CreateBuild {
    let text = format!(
        "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n[[files]]\npath = \"/etc/motd\"\ncontent = \"{motd}\"\n"
    );
    CreateBuild {
        profile: fleeti_core::profile::check(&text).unwrap(),
        version: "1".parse().unwrap(),
    }
}

fn lease(now_s: u64) -> Lease<'static> {
    Lease { worker: "", id: "lease-1", until_s: now_s + 60 }
}

#[actix_web::test]
async fn a_build_is_taken_once_and_again_only_when_its_lease_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("x.db")).await.unwrap();
    let claim = |now_s| {
        let db = db.clone();
        async move {
            let mut tx = db.write().await.unwrap();
            let claimed = store::builds::claim(&mut tx, now_s, lease(now_s)).await.unwrap();
            tx.commit().await.unwrap();
            claimed.map(|c| c.id)
        }
    };
    let mut tx = db.write().await.unwrap();
    store::builds::insert(&mut tx, "build-1", 1, &request("a"), 1000).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(claim(1000).await.as_deref(), Some("build-1"));
    assert_eq!(claim(1059).await, None, "its worker holds the lease");
    assert!(
        store::builds::renew(db.writer(), "build-1", lease(1140), Some("still at it"))
            .await
            .unwrap()
    );
    assert_eq!(claim(1100).await, None);
    // The worker was killed, so its lease is not renewed.
    assert_eq!(claim(1201).await.as_deref(), Some("build-1"));
}

/// A build fails after its third worker has let the lease expire.
#[actix_web::test]
async fn a_build_that_kills_its_worker_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("x.db")).await.unwrap();
    let mut tx = db.write().await.unwrap();
    store::builds::insert(&mut tx, "build-1", 1, &request("a"), 0).await.unwrap();
    for attempt in 1..=3 {
        assert_eq!(
            store::builds::give_up(&mut tx, attempt * 100).await.unwrap(),
            Vec::<String>::new()
        );
        assert!(
            store::builds::claim(&mut tx, attempt * 100, lease(attempt * 100))
                .await
                .unwrap()
                .is_some(),
            "attempt {attempt}"
        );
    }
    assert_eq!(store::builds::give_up(&mut tx, 400).await.unwrap(), ["build-1"]);
    assert!(store::builds::claim(&mut tx, 400, lease(400)).await.unwrap().is_none());
    tx.commit().await.unwrap();
    let build = store::builds::get(db.pool(), "build-1").await.unwrap().unwrap();
    assert_eq!(build.phase, BuildPhase::Failed);
}

#[actix_web::test]
async fn a_signature_is_taken_once_given_up_after_three_tries_and_may_be_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("x.db")).await.unwrap();
    let mut tx = db.write().await.unwrap();
    store::builds::insert(&mut tx, "build-1", 1, &request("a"), 0).await.unwrap();
    assert!(!store::builds::ask_to_sign(&mut tx, "build-1").await.unwrap(), "it is not built yet");
    tx.commit().await.unwrap();
    let mut tx = db.write().await.unwrap();
    assert!(store::builds::claim(&mut tx, 1, lease(1)).await.unwrap().is_some());
    tx.commit().await.unwrap();
    let ended = Ended { phase: BuildPhase::Succeeded, detail: "done", directory: Some("/nowhere") };
    assert!(
        !store::builds::finish(db.writer(), "build-1", Lease { id: "another", ..lease(1) }, ended)
            .await
            .unwrap()
    );
    assert!(store::builds::finish(db.writer(), "build-1", lease(1), ended).await.unwrap());
    let mut tx = db.write().await.unwrap();
    for _ in 0..2 {
        assert!(store::builds::ask_to_sign(&mut tx, "build-1").await.unwrap());
        assert!(
            !store::builds::ask_to_sign(&mut tx, "build-1").await.unwrap(),
            "it is asked for already"
        );
        for attempt in 1..=3 {
            assert!(
                store::builds::claim_signing(&mut tx, attempt * 100, 60).await.unwrap().is_some()
            );
            assert!(
                store::builds::claim_signing(&mut tx, attempt * 100 + 59, 60)
                    .await
                    .unwrap()
                    .is_none(),
                "its signer holds the lease"
            );
            if attempt < 3 {
                assert!(
                    store::builds::give_up(&mut tx, attempt * 100 + 61).await.unwrap().is_empty()
                );
            }
        }
        assert_eq!(store::builds::give_up(&mut tx, 400).await.unwrap(), ["build-1"]);
    }
}

/// After a kill, unfinished temporary folders are removed, and a release that was being verified
/// can be published again.
#[test]
fn what_a_killed_server_left_in_the_middle_is_cleared_up_and_an_upload_is_an_upload_again() {
    let dir = tempfile::tempdir().unwrap();
    let staging = dir.path().join(".staging");
    let make = |name: &str| std::fs::create_dir_all(staging.join(name)).unwrap();
    for name in ["signing-a", ".tmpb", "verifying-without-manifest", "gateway@7", "signing-tool@1"]
    {
        make(name);
    }
    crate::rollout::make_release(
        &staging.join("verifying-c"),
        &"kiosk@3".parse().unwrap(),
        &crate::rollout::release_key(),
    );
    fleeti_control::releases::sweep(dir.path()).unwrap();
    let mut left: Vec<_> = std::fs::read_dir(&staging)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["gateway@7", "kiosk@3", "signing-tool@1"]);
    fleeti_control::releases::sweep(&dir.path().join("nowhere")).unwrap();
}

#[actix_web::test]
async fn the_same_document_is_the_same_revision_and_a_changed_one_is_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("x.db")).await.unwrap();
    let mut tx = db.write().await.unwrap();
    let mut numbers = Vec::new();
    for motd in ["a", "a", "b", "a", "c"] {
        numbers.push(store::revisions::number(&mut tx, &request(motd).profile, 1).await.unwrap());
    }
    assert_eq!(numbers, [1, 1, 2, 1, 3]);
}

#[actix_web::test]
async fn a_profile_that_breaks_a_rule_is_refused_before_it_is_queued() {
    let world = World::new().await;
    let mut bad = request("x");
    bad.profile.kernel.arguments.push("init=/bin/sh".into());
    let refused = world.client.create_build(&bad).await.unwrap_err();
    assert!(
        matches!(&refused, ClientError::Refused(p) if p.status == 422 && p.detail.contains("kernel.arguments[0]")),
        "{refused}"
    );
}
