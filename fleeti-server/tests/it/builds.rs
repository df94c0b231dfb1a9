//! Builds: revisions are numbered by content, and the build of a killed worker is claimed again.

use crate::rollout::publish_release;
use crate::world::World;
use fleeti_client::ClientError;
use fleeti_control::builds::change::{self, Applied, Change, NotApplied};
use fleeti_core::build::{self, Ctx, Holder};
use fleeti_core::wire::api::{BuildPhase, CreateBuild};
use fleeti_store::builds::Texts;
use fleeti_store::{self as store, Db};

pub fn request(motd: &str) -> CreateBuild {
    let text = format!(
        "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n[[files]]\npath = \"/etc/motd\"\ncontent = \"{motd}\"\n"
    );
    CreateBuild {
        profile: fleeti_core::profile::check(&text).unwrap(),
        version: "1".parse().unwrap(),
        refresh_lock: false,
        refresh_packages: Vec::new(),
    }
}

fn holder(lease: &str) -> Holder {
    Holder { worker: String::new(), lease: lease.into() }
}

fn at(now_s: u64) -> Ctx {
    Ctx { now_s, lease_s: 60 }
}

async fn database(dir: &tempfile::TempDir) -> Db {
    let db = Db::open(&dir.path().join("x.db")).await.unwrap();
    let mut tx = db.write().await.unwrap();
    store::builds::insert(&mut tx, "build-1", 1, &request("a"), 0).await.unwrap();
    tx.commit().await.unwrap();
    db
}

/// Applies an event in a transaction of its own.
async fn apply(db: &Db, event: build::Event, now_s: u64) -> Result<Applied, NotApplied> {
    let mut tx = db.write().await.unwrap();
    let texts = Texts { directory: Some("/nowhere"), ..Texts::default() };
    let applied = Change { event, texts, ctx: at(now_s) }.apply_to(&mut tx, "build-1").await?;
    tx.commit().await.unwrap();
    Ok(applied)
}

fn finish(lease: &str) -> build::Event {
    build::Event::Finish { holder: holder(lease), outcome: build::Outcome::Succeeded }
}

async fn given_up(db: &Db, now_s: u64) -> Vec<String> {
    let mut tx = db.write().await.unwrap();
    let all = change::give_up(&mut tx, at(now_s)).await.unwrap();
    tx.commit().await.unwrap();
    all.into_iter().map(|applied| applied.id).collect()
}

async fn claim(db: &Db, lease: &str, now_s: u64) -> Option<String> {
    let mut tx = db.write().await.unwrap();
    let claimed = change::claim(&mut tx, &holder(lease), at(now_s)).await.unwrap();
    tx.commit().await.unwrap();
    claimed.map(|c| c.applied.id)
}

#[actix_web::test]
async fn a_build_is_taken_once_and_again_only_when_its_lease_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(&dir).await;
    assert_eq!(claim(&db, "one", 1000).await.as_deref(), Some("build-1"));
    assert_eq!(claim(&db, "two", 1059).await, None, "its worker holds the lease");
    apply(&db, build::Event::Renew(holder("one")), 1080).await.unwrap();
    assert_eq!(claim(&db, "two", 1100).await, None);
    // The worker was killed, so its lease is not renewed.
    assert_eq!(claim(&db, "two", 1201).await.as_deref(), Some("build-1"));
    let late = apply(&db, build::Event::Renew(holder("one")), 1202).await;
    assert!(matches!(late, Err(NotApplied::Rejected(build::Rejected::LeaseLost))), "{late:?}");
}

/// A build fails after its third worker has let the lease expire.
#[actix_web::test]
async fn a_build_that_kills_its_worker_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(&dir).await;
    for attempt in 1..=3 {
        assert_eq!(given_up(&db, attempt * 100).await, Vec::<String>::new());
        let lease = format!("lease-{attempt}");
        assert!(claim(&db, &lease, attempt * 100).await.is_some(), "attempt {attempt}");
    }
    assert!(claim(&db, "another", 400).await.is_none());
    assert_eq!(given_up(&db, 400).await, ["build-1"]);
    assert!(claim(&db, "another", 400).await.is_none());
    let build = store::builds::get(db.pool(), "build-1").await.unwrap().unwrap();
    assert_eq!(build.phase, BuildPhase::Failed);
    assert!(build.detail.starts_with("its worker ended before"), "{}", build.detail);
}

#[actix_web::test]
async fn a_signature_is_taken_once_given_up_after_three_tries_and_may_be_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(&dir).await;
    let request = || build::Event::RequestSignature;
    assert!(apply(&db, request(), 1).await.is_err(), "it is not built yet");
    assert!(claim(&db, "lease-1", 1).await.is_some());
    assert!(apply(&db, finish("another"), 2).await.is_err());
    apply(&db, finish("lease-1"), 2).await.unwrap();
    for _ in 0..2 {
        apply(&db, request(), 3).await.unwrap();
        assert!(apply(&db, request(), 3).await.is_err(), "it is requested already");
        for attempt in 1..=3 {
            let claimed = claim_signing(&db, attempt * 100).await;
            assert_eq!(claimed.map(u64::from), Some(attempt));
            let leased = claim_signing(&db, attempt * 100 + 59).await;
            assert!(leased.is_none(), "its signing job has the lease");
            if attempt < 3 {
                assert!(given_up(&db, attempt * 100 + 61).await.is_empty());
            }
        }
        assert_eq!(given_up(&db, 400).await, ["build-1"]);
        let build = store::builds::get(db.pool(), "build-1").await.unwrap().unwrap();
        assert_eq!(build.signing, Some(BuildPhase::Failed));
    }
}

async fn claim_signing(db: &Db, now_s: u64) -> Option<u8> {
    let mut tx = db.write().await.unwrap();
    let claimed = change::claim_signing(&mut tx, at(now_s)).await.unwrap();
    tx.commit().await.unwrap();
    claimed.map(|c| c.attempt)
}

/// An operator who requests the signature of a build whose files are gone gets an error, instead of
/// a signing job that fails.
#[actix_web::test]
async fn a_build_without_files_cannot_be_signed_and_files_that_are_signed_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(&dir).await;
    assert!(claim(&db, "lease-1", 1).await.is_some());
    apply(&db, finish("lease-1"), 2).await.unwrap();
    apply(&db, build::Event::RequestSignature, 3).await.unwrap();
    let removed = apply(&db, build::Event::RemoveFiles, 4).await;
    assert!(matches!(removed, Err(NotApplied::Rejected(build::Rejected::Signing { .. }))));
    assert_eq!(claim_signing(&db, 5).await, Some(1));
    let outcome = build::Outcome::Failed;
    apply(&db, build::Event::FinishSigning { attempt: 1, outcome }, 6).await.unwrap();
    let applied = apply(&db, build::Event::RemoveFiles, 7).await.unwrap();
    assert!(applied.effects.contains(&build::Effect::DeleteFiles));
    let refused = apply(&db, build::Event::RequestSignature, 8).await;
    assert!(matches!(refused, Err(NotApplied::Rejected(build::Rejected::FilesRemoved))));
    let build = store::builds::get(db.pool(), "build-1").await.unwrap().unwrap();
    assert_eq!(build.directory, None);
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
        numbers.push(
            store::revisions::number(&mut tx, &request(motd).profile, None, 1).await.unwrap(),
        );
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

#[actix_web::test]
async fn a_field_that_the_base_does_not_honour_is_refused_before_a_worker_hears_of_it() {
    let w = World::new().await;
    let mut wanted = request("a");
    wanted.profile.state.version = 2;
    wanted.profile.identity.keyboard = "de".into();
    let Err(ClientError::Refused(problem)) = w.client.create_build(&wanted).await else {
        panic!("the build was queued")
    };
    assert_eq!(problem.status, 422);
    let mut paths: Vec<_> = problem.errors.iter().map(|e| e.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["identity.keyboard", "state.version"]);
    assert_eq!(problem.errors[0].message, "the base debian does not honour this field yet");
}

#[actix_web::test]
async fn the_sizes_of_a_line_are_those_of_its_first_release() {
    let w = World::new().await;
    let with_root = |root_mib, version: &str| {
        let mut wanted = request("a");
        wanted.profile.storage.root_mib = root_mib;
        wanted.version = version.parse().unwrap();
        wanted
    };
    // A build that was not published fixes nothing.
    w.client.create_build(&with_root(1024, "1")).await.unwrap();
    w.client.create_build(&with_root(2048, "2")).await.unwrap();
    publish_release(&w, "kiosk@2").await;
    let Err(ClientError::Refused(problem)) = w.client.create_build(&with_root(1024, "3")).await
    else {
        panic!("the build was queued")
    };
    let found: Vec<_> =
        problem.errors.iter().map(|e| (e.path.as_str(), e.message.as_str())).collect();
    let message = "the disks of devices with kiosk@2 have 2048 MiB";
    assert_eq!((problem.status, found), (422, vec![("storage.root_mib", message)]));
    w.client.create_build(&with_root(2048, "3")).await.unwrap();
}

#[actix_web::test]
async fn a_refresh_of_the_lock_reaches_the_worker_and_the_audit_log() {
    let w = World::new().await;
    for refresh_lock in [false, true] {
        let wanted = CreateBuild { refresh_lock, ..request("a") };
        let build = w.client.create_build(&wanted).await.unwrap();
        let mut reader = w.server.control.db.reader().await.unwrap();
        let kept = store::builds::request(&mut reader, &build.id).await.unwrap().unwrap();
        assert_eq!(kept.request.refresh_lock, refresh_lock);
        let refreshes = w.audit().await.matches("lock.refresh").count();
        assert_eq!(refreshes > 0, refresh_lock);
    }
}

#[actix_web::test]
async fn a_build_is_signed_only_where_the_release_key_is() {
    let world = World::new().await;
    let text = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";
    let profile = fleeti_core::profile::check(text).unwrap();
    let request = fleeti_core::wire::api::CreateBuild {
        profile,
        version: "1".parse().unwrap(),
        refresh_lock: false,
        refresh_packages: Vec::new(),
    };
    let build = world.client.create_build(&request).await.unwrap();
    let refused = world.client.sign_build(&build.id).await.unwrap_err();
    assert!(refused.to_string().contains("the release key is not on this server"), "{refused}");
    assert!(refused.hint().unwrap().contains("fleeti release create"));
}
