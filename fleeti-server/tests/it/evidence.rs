//! The evidence of a release: complete, proved, and for those who may read the audit log.

use crate::accounts::{client, program, role};
use crate::approvals::{intent, office, request};
use crate::pages::Browser;
use crate::rollout::{publish_release, start};
use crate::world::World;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::accounts::Role;
use fleeti_core::wire::api::BuildPhase;
use fleeti_core::wire::evidence::{KIND, ReleaseEvidence};
use fleeti_core::wire::problem::Code;
use fleeti_pki::approval::Word;
use fleeti_pki::audit::{Entry, verify_proof};

/// Action and actor of each audit entry, which the log's key proves.
fn proved_acts(world: &World, found: &ReleaseEvidence) -> Vec<(String, String)> {
    let key = &world.server.control.pki.log;
    let act = |proof| verify_proof(proof, key).unwrap().entry().act.clone();
    found.entries.iter().map(act).map(|act| (act.action, act.actor)).collect()
}

#[actix_web::test]
async fn the_evidence_of_a_release_says_who_approved_it_and_when() {
    let (world, people) = office(1).await;
    let intent = intent(&world, &people[0]).await;
    world.client.request_signature("build-a", &request(&intent, &people[0])).await.unwrap();
    let approval = Word::Approve.sign(&intent, &people[1]).unwrap();
    let mut events = world.client.events().await.unwrap();
    world.client.approve_signature("build-a", &approval).await.unwrap();
    while world.client.build("build-a").await.unwrap().signing != Some(BuildPhase::Succeeded) {
        events.wait_for(|_| true).await.unwrap();
    }
    world.enroll().await;
    let rollout = world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    world.audit().await;
    let found = world.client.release_evidence(&"kiosk@2".parse().unwrap()).await.unwrap();
    assert_eq!((found.kind.as_str(), found.exported_by.as_str()), (KIND, "bootstrap"));
    assert_eq!(sha256_hex(found.manifest.as_bytes()), found.release.manifest_sha256);
    assert_eq!(found.signatures.len(), 1);
    let [build] = found.builds.as_slice() else { panic!("{:?}", found.builds) };
    assert_eq!(build.intent.as_deref(), Some(intent.to_text().unwrap().as_str()));
    assert_eq!(build.requested.as_ref().unwrap().name.as_deref(), Some("alice"));
    let names: Vec<_> = build.approvals.iter().map(|by| by.name.as_deref()).collect();
    assert_eq!((names.as_slice(), &build.approvals[0].by), ([Some("bob")].as_slice(), &approval));
    assert_eq!(found.rollouts.iter().map(|r| &r.id).collect::<Vec<_>>(), [&rollout.id]);
    assert_eq!((found.proved, found.devices.len()), (0, 0), "no device has a TPM");
    let acts = proved_acts(&world, &found);
    for (action, actor) in [
        ("release.request", "alice"),
        ("release.approve", "bob"),
        ("release.publish", "server"),
        ("rollout.start", "bootstrap"),
    ] {
        let is_there = acts.iter().any(|(a, by)| a == action && by.starts_with(actor));
        assert!(is_there, "{action} {actor}: {acts:?}");
    }
    let searched = found.searched;
    assert_eq!((searched.from, searched.left_out, searched.until), (0, 0, searched.size));
    let times: Vec<_> =
        found.entries.iter().map(|p| Entry::parse(p.entry.as_bytes()).unwrap().at_s).collect();
    assert!(times.is_sorted() && times[0] > 0, "{times:?}");
}

#[actix_web::test]
async fn evidence_is_of_one_release_and_for_those_who_may_read_the_audit_log() {
    let world = World::new().await;
    for release in ["kiosk@1", "kiosk@11"] {
        publish_release(&world, release).await;
    }
    let name = "kiosk@1".parse().unwrap();
    let found = world.client.release_evidence(&name).await.unwrap();
    assert!(found.builds.is_empty(), "it was not built here");
    let mut subjects = found.entries.iter().map(|p| p.entry.contains("kiosk@1\""));
    assert!(!found.entries.is_empty() && subjects.all(|is| is), "{:?}", found.entries);
    let unknown = world.client.release_evidence(&"kiosk@9".parse().unwrap()).await;
    assert_eq!(unknown.unwrap_err().code(), Some(Code::NotFound));
    // The log has entries of all fleets.
    let of_fleet = program(&world, "porter", &[role(Role::Operator, Some("demo"))], None).await;
    let refused = client(&world, of_fleet.token.expose()).release_evidence(&name).await;
    assert_eq!(refused.unwrap_err().code(), Some(Code::Forbidden));
    let viewer = program(&world, "auditor", &[role(Role::Viewer, None)], None).await;
    let viewer = client(&world, viewer.token.expose());
    assert!(viewer.release_evidence(&name).await.is_ok());
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let page = browser.get("/releases/kiosk@1", &session).await.text().await.unwrap();
    assert!(page.contains("href=\"/releases/kiosk@1/evidence\" download"), "{page}");
    let file = browser.get("/releases/kiosk@1/evidence", &session).await;
    let disposition = file.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert_eq!(disposition, "attachment; filename=\"kiosk@1-evidence.json\"");
    let found: ReleaseEvidence = file.json().await.unwrap();
    assert_eq!(found.release.name, name);
}
