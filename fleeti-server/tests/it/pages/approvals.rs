//! The pages of acts that need a second person.

use super::{Browser, OURS};
use crate::accounts::{PASSWORD, person, role};
use crate::rollout::publish_release;
use crate::world::World;
use fleeti_core::wire::accounts::Role;
use fleeti_core::wire::approval::ApprovalPolicy;

async fn signed_in(browser: &Browser, name: &str) -> String {
    let form = format!("name={name}&password={}", PASSWORD.replace(' ', "+"));
    let begun = browser.post("/signin", "", OURS, &form).await;
    let cookie = begun.headers()["set-cookie"].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

#[actix_web::test]
async fn a_rollout_waits_in_the_inbox_until_another_person_approves_it() {
    let (world, ahead) = crate::lifetimes::world().await;
    let admin = [role(Role::Admin, None)];
    let [alice, bob] = ["alice", "bob"].map(|name| person(&world, name, &admin));
    let (alice, _) = (format!("fleeti_session={}", alice.await), bob.await);
    let browser = Browser::new(&world);
    let saved =
        browser.post("/approvals/policy", &alice, OURS, "fleets=demo&recovery_keys=on").await;
    assert_eq!(saved.status(), 303);
    let policy = world.client.approval_policy().await.unwrap();
    let demo = vec!["demo".parse().unwrap()];
    let wanted =
        ApprovalPolicy { rollout_fleets: demo, recovery_keys: true, ..ApprovalPolicy::default() };
    assert_eq!(policy, wanted);
    // Both were added by `bootstrap`, and count as two people some days later.
    ahead.store(5 * 86_400, std::sync::atomic::Ordering::SeqCst);
    let (alice, bob) = (signed_in(&browser, "alice").await, signed_in(&browser, "bob").await);
    world.enroll().await;
    publish_release(&world, "kiosk@1").await;
    let without = browser.post("/rollouts", &alice, OURS, "release=kiosk@1&fleet=demo&ask=").await;
    assert_eq!(without.status(), 403);
    assert!(without.text().await.unwrap().contains("second person"));
    let form = "release=kiosk@1&fleet=demo&ask=quarterly+update";
    let waits = browser.post("/rollouts", &alice, OURS, form).await;
    assert_eq!(waits.status(), 303);
    let path = waits.headers()["location"].to_str().unwrap().to_owned();
    assert!(path.starts_with("/approvals/approval-"), "{path}");
    let own = browser.get(&path, &alice).await.text().await.unwrap();
    assert!(own.contains("Withdraw") && !own.contains("/approve"), "{own}");
    let refused = browser.post(&format!("{path}/approve"), &alice, OURS, "note=").await;
    assert_eq!(refused.status(), 403);
    let inbox = browser.get("/approvals", &bob).await.text().await.unwrap();
    assert!(
        inbox.contains("start a rollout of kiosk@1 to demo") && inbox.contains(&path),
        "{inbox}"
    );
    let theirs = browser.get(&path, &bob).await.text().await.unwrap();
    assert!(theirs.contains("Approve") && theirs.contains("quarterly update"), "{theirs}");
    assert_eq!(browser.post(&format!("{path}/approve"), &bob, None, "note=").await.status(), 403);
    assert!(world.client.rollouts().await.unwrap().is_empty());
    let approved = browser.post(&format!("{path}/approve"), &bob, OURS, "note=fine").await;
    assert_eq!(approved.status(), 303);
    assert_eq!(world.client.rollouts().await.unwrap().len(), 1);
    let after = browser.get(&path, &alice).await.text().await.unwrap();
    assert!(after.contains("Decided by bob") && after.contains("started rollout-"), "{after}");
    // A change of the policy waits as well.
    let form = "fleets=&ask=no+longer+needed";
    let waits = browser.post("/approvals/policy", &alice, OURS, form).await;
    assert!(waits.headers()["location"].to_str().unwrap().starts_with("/approvals/approval-"));
    assert_eq!(world.client.approval_policy().await.unwrap(), wanted);
}

#[actix_web::test]
async fn an_administrator_ends_the_sessions_of_a_person() {
    let world = World::new().await;
    let session = person(&world, "alice", &[role(Role::Viewer, None)]).await;
    let (browser, cookie) = (Browser::new(&world), format!("fleeti_session={session}"));
    let admin = browser.sign_in(&world).await;
    let page = browser.get("/users/alice", &admin).await.text().await.unwrap();
    assert!(page.contains("End all sessions"), "{page}");
    let refused = browser.post("/users/bootstrap/sessions/end", &cookie, OURS, "").await;
    assert_eq!(refused.status(), 403);
    let ended = browser.post("/users/alice/sessions/end", &admin, OURS, "").await;
    assert_eq!(ended.status(), 303);
    assert_eq!(browser.get("/", &cookie).await.status(), 303, "signed out");
}
