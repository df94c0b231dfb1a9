//! Releases signed by a server's own keys: requests, approvals, and what an attacker gets who can
//! write every row of the server's database.

use crate::world::{World, connect, files_of, write_keys};
use fleeti_client::ClientError;
use fleeti_control::builds::change;
use fleeti_core::build::{self, Ctx};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::api::{BuildPhase, CreateBuild, RequestSignature, SignedBy};
use fleeti_pki::approval::{Approver, Intent, KIND, Policy, Word};
use fleeti_pki::manifest::{PublicKey, ReleaseKeys};
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_store::{self as store, Tx, sql};
use fleeti_testkit::synthetic;
use std::time::{SystemTime, UNIX_EPOCH};

const ID: &str = "build-a";

/// A server with release keys, whose signing service requires `approvals`, and a build that has
/// succeeded.
pub async fn office(approvals: usize) -> (World, Vec<SoftKey>) {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let signing = dir.path().join("pki/signing");
    std::fs::create_dir_all(&signing).unwrap();
    for name in ["release", "openpgp", "db"] {
        std::fs::write(
            signing.join(format!("{name}.key")),
            files_of(&format!("offline/{name}.key")),
        )
        .unwrap();
    }
    let people: Vec<_> = (0..3).map(|_| SoftKey::generate(Algorithm::P384).unwrap()).collect();
    let approver = |(name, key): (&str, &SoftKey)| Approver {
        name: name.into(),
        key: PublicKey::of(key).unwrap(),
    };
    let approvers = ["alice", "bob", "carol"].into_iter().zip(&people).map(approver).collect();
    std::fs::write(
        signing.join("policy.toml"),
        Policy::new(approvals, false, approvers).unwrap().to_text().unwrap(),
    )
    .unwrap();
    let folder = dir.path().join("builds").join(ID);
    synthetic::build(&folder, &"kiosk@2".parse().unwrap()).unwrap();
    let db = connect(dir.path()).await;
    let text = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";
    let request = CreateBuild {
        profile: fleeti_core::profile::check(text).unwrap(),
        version: "2".parse().unwrap(),
        refresh_lock: false,
        refresh_packages: Vec::new(),
    };
    let mut tx = db.write().await.unwrap();
    store::builds::insert(&mut tx, ID, 1, &request, 1).await.unwrap();
    let directory = folder.display().to_string();
    synthetic::end_build(&mut tx, ID, Some(&directory)).await.unwrap();
    tx.commit().await.unwrap();
    db.close().await;
    (World::start(dir, |config| config.email = Some(crate::email::nowhere())).await, people)
}

pub async fn intent(world: &World, requester: &SoftKey) -> Intent {
    let created_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Intent {
        kind: KIND.into(),
        release: "kiosk@2".parse().unwrap(),
        build_sha256: sha256_hex(&world.client.build_record(ID).await.unwrap()),
        release_key: world.client.signature(ID).await.unwrap().release_key,
        requester: PublicKey::of(requester).unwrap().id(),
        created_s,
        expires_s: created_s + 3600,
    }
}

pub fn request(intent: &Intent, key: &SoftKey) -> RequestSignature {
    RequestSignature {
        intent: intent.to_text().unwrap(),
        by: Word::Request.sign(intent, key).unwrap(),
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (u16, String) {
    match result {
        Err(ClientError::Refused(p)) => (p.status, p.detail),
        other => panic!("{other:?}"),
    }
}

async fn ended(world: &World) -> (Option<BuildPhase>, String) {
    let mut events = world.client.events().await.unwrap();
    loop {
        let build = world.client.build(ID).await.unwrap();
        if matches!(build.signing, Some(BuildPhase::Succeeded | BuildPhase::Failed)) {
            return (build.signing, build.signing_detail);
        }
        events.wait_for(|_| true).await.unwrap();
    }
}

#[actix_web::test]
async fn a_build_is_released_with_the_last_approval_that_is_needed() {
    let (world, people) = office(2).await;
    let (code, detail) = refused(world.client.sign_build(ID).await);
    assert_eq!((code, detail.as_str()), (409, "this server signs only after 2 approvals"));
    assert_eq!(
        refused(
            world
                .client
                .approve_signature(
                    ID,
                    &SignedBy { key_id: String::new(), signature: String::new() }
                )
                .await
        )
        .0,
        409
    );
    let intent = intent(&world, &people[0]).await;
    let stranger = SoftKey::generate(Algorithm::P384).unwrap();
    assert_eq!(
        refused(world.client.request_signature(ID, &request(&intent, &stranger)).await).0,
        422
    );
    let status = world.client.request_signature(ID, &request(&intent, &people[0])).await.unwrap();
    assert_eq!((status.approvals_needed, status.approved_by.len()), (2, 0));
    let agree = |key: &SoftKey| Word::Approve.sign(&intent, key).unwrap();
    assert_eq!(refused(world.client.approve_signature(ID, &agree(&stranger)).await).0, 422);
    // The requester's own approval does not count, and no approver counts twice.
    assert!(
        refused(world.client.approve_signature(ID, &agree(&people[0])).await)
            .1
            .contains("the requester may not approve")
    );
    for _ in 0..2 {
        assert_eq!(
            world.client.approve_signature(ID, &agree(&people[1])).await.unwrap().approved_by,
            ["bob"]
        );
        assert_eq!(world.client.build(ID).await.unwrap().signing, None);
    }
    world.client.approve_signature(ID, &agree(&people[2])).await.unwrap();
    assert_eq!(ended(&world).await, (Some(BuildPhase::Succeeded), "published kiosk@2".into()));
    assert_eq!(world.client.releases().await.unwrap()[0].name.to_string(), "kiosk@2");
    let log = world.client.audit_entries(0).await.unwrap().join("\n");
    for (actor, action) in
        [("alice", "release.request"), ("bob", "release.approve"), ("carol", "release.approve")]
    {
        assert!(
            log.contains(&format!("\"action\":\"{action}\",\"actor\":\"{actor}\"")),
            "{actor} {action}"
        );
    }
    assert!(log.contains("release.sign") && log.contains("by bob, carol"));
}

async fn queue(tx: &mut Tx<'_>) {
    let ctx = Ctx { now_s: 1, lease_s: 60 };
    change::queue_signing(tx, ID, build::Event::RequestSignature, ctx).await.unwrap();
}

/// An attacker who can write every row of the server's database, but has no approver's key, gets no
/// release signed.
#[actix_web::test]
async fn an_attacker_who_writes_every_row_of_the_database_gets_no_release() {
    let (world, people) = office(2).await;
    let mallory = SoftKey::generate(Algorithm::P384).unwrap();
    // The attacker requests in Alice's name, and approves in all approvers' names.
    let intent = intent(&world, &people[0]).await;
    let ids: Vec<_> = people.iter().map(|k| PublicKey::of(k).unwrap().id()).collect();
    let forged = |word: Word, key_id: &str| SignedBy {
        key_id: key_id.to_owned(),
        ..word.sign(&intent, &mallory).unwrap()
    };
    let db = connect(world.dir.path()).await;
    let mut tx = db.write().await.unwrap();
    let asked =
        RequestSignature { intent: intent.to_text().unwrap(), by: forged(Word::Request, &ids[0]) };
    store::approvals::ask(&mut tx, ID, &asked, 1).await.unwrap();
    for id in &ids {
        store::approvals::approve(&mut tx, ID, &forged(Word::Approve, id)).await.unwrap();
    }
    // The row says that it is to be signed.
    queue(&mut tx).await;
    tx.commit().await.unwrap();
    world.server.control.build_queued.notify_one();
    let (phase, detail) = ended(&world).await;
    assert_eq!(phase, Some(BuildPhase::Failed));
    assert!(
        detail.contains("the signing service refuses: the request is not signed by an approver"),
        "{detail}"
    );
    // The attacker deletes the request, so that there is no requester.
    let mut tx = db.write().await.unwrap();
    sql::query("DELETE FROM signature_requests").execute(&mut *tx).await.unwrap();
    queue(&mut tx).await;
    tx.commit().await.unwrap();
    world.server.control.build_queued.notify_one();
    let (phase, detail) = ended(&world).await;
    assert_eq!(phase, Some(BuildPhase::Failed));
    assert!(detail.contains("the request is not signed by an approver"), "{detail}");
    assert!(world.client.releases().await.unwrap().is_empty());
}

/// With `approvals = 0` in its policy, the server signs without an approval.
#[actix_web::test]
async fn a_server_whose_policy_is_nobody_signs_alone() {
    let (world, _) = office(0).await;
    world.client.sign_build(ID).await.unwrap();
    assert_eq!(ended(&world).await.0, Some(BuildPhase::Succeeded));
}

#[actix_web::test]
async fn no_server_signs_where_devices_ask_for_more_keys_than_it_has() {
    for approvals in [0, 1] {
        let (world, people) = office(approvals).await;
        let asked = request(&intent(&world, &people[0]).await, &people[0]);
        let own = PublicKey::of(&crate::rollout::release_key()).unwrap();
        let keys = ReleaseKeys::new(vec![own, PublicKey::of(&people[2]).unwrap()], 2).unwrap();
        world.server.stop().await;
        std::fs::write(world.dir.path().join("pki/public/release.pem"), keys.to_pem().unwrap())
            .unwrap();
        let world = World::start(world.dir, |_| {}).await;
        let status = world.client.signature(ID).await.unwrap();
        assert_eq!((status.available, status.keys_needed), (false, 2));
        for (status, detail) in [
            refused(world.client.sign_build(ID).await),
            refused(world.client.request_signature(ID, &asked).await),
        ] {
            assert_eq!(status, 409);
            assert!(detail.contains("devices require signatures of 2 release keys"), "{detail}");
        }
        assert_eq!(
            world.client.build(ID).await.unwrap().signing,
            None,
            "nothing was signed, so nothing is lost"
        );
    }
}
