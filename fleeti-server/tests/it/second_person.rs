//! Acts of two people, and how one person tries to be two.

use crate::accounts::{client, name, person, program, role};
use crate::contract::Row;
use crate::lifetimes;
use crate::rollout::{publish_release, start};
use crate::world::{TestDevice, World};
use fleeti_client::{Client, ClientError};
use fleeti_control::accounts::{sessions, tokens};
use fleeti_control::second_person::expiry;
use fleeti_core::approval::State;
use fleeti_core::wire::accounts::{AccountKind, CreateAccount, CreateToken, Role};
use fleeti_core::wire::api::RevocationReason;
use fleeti_core::wire::approval::{Approval, ApprovalPolicy, AskedAct, RequestApproval};
use fleeti_core::wire::labels::{Change, ChangeDevices, revocation_phrase};
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::updates::{PinFleet, UpdateOrder};
use fleeti_core::wire::vault::ShowRecoveryKey;
use fleeti_store::sql;
use serde_json::json;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const DAY_S: u64 = 86_400;

/// Rows of the contract test.
pub fn rows() -> Vec<Row> {
    let asked = json!({"act": {"type": "set_policy", "policy": {}}, "reason": "because"});
    let none: &[(&str, &str)] = &[("approval", "nothing")];
    vec![
        (
            "set_approval_policy",
            &[],
            Some(json!({"rollout_fleets": [], "recovery_keys": false})),
            200,
        ),
        ("set_approval_policy", &[], Some(json!({"recovery_keys": true})), 409),
        ("get_approval_policy", &[], None, 200),
        ("request_approval", &[], Some(asked), 403),
        ("list_approvals", &[], None, 200),
        ("approve_act", none, Some(json!({"note": "noted"})), 404),
        ("deny_act", none, Some(json!({"note": "noted"})), 404),
    ]
}

pub fn code<T: Debug>(result: Result<T, ClientError>) -> Option<Code> {
    result.unwrap_err().code()
}

/// A client with an API token of the person that has this session.
async fn token_of(world: &World, session: &str) -> (Client, String) {
    let cx = &world.server.control;
    let by = sessions::actor(cx, session).await.unwrap().unwrap();
    let request = CreateToken {
        label: "laptop".into(),
        valid_s: 30 * 86_400,
        permissions: None,
        account: None,
    };
    let made = tokens::create(cx, &by, &request).await.unwrap();
    (client(world, made.token.expose()), made.about.id)
}

/// Alice and Bob administer a server whose policy names every act.
pub struct Two {
    pub world: World,
    ahead: Arc<AtomicU64>,
    pub alice: Client,
    /// Another token of Alice.
    other: Client,
    alice_token: String,
    pub bob: Client,
}

impl Two {
    pub async fn new() -> Self {
        let (world, ahead) = lifetimes::world().await;
        let admin = [role(Role::Admin, None)];
        let alice_session = person(&world, "alice", &admin).await;
        let (alice, alice_token) = token_of(&world, &alice_session).await;
        let other = token_of(&world, &alice_session).await.0;
        let bob = token_of(&world, &person(&world, "bob", &admin).await).await.0;
        let policy = ApprovalPolicy {
            revoked_max: Some(1),
            rollout_fleets: vec!["demo".parse().unwrap()],
            recovery_keys: true,
            ..ApprovalPolicy::default()
        };
        world.client.set_approval_policy(&policy).await.unwrap();
        let two = Self { world, ahead, alice, other, alice_token, bob };
        two.later(5 * DAY_S);
        two
    }

    fn later(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
    }

    async fn rollout(&self) -> Approval {
        let act = AskedAct::StartRollout { request: start("kiosk@1") };
        self.alice.request_approval(&ask(act)).await.unwrap()
    }

    /// A rollout that waits, of a release that is published.
    async fn waiting(&self) -> String {
        self.world.enroll().await;
        publish_release(&self.world, "kiosk@1").await;
        self.rollout().await.id
    }

    async fn state(&self, id: &str) -> State {
        self.alice.approval(id).await.unwrap().approval.state
    }

    async fn rollouts(&self) -> usize {
        self.world.client.rollouts().await.unwrap().len()
    }

    async fn change(&self, statement: &'static str, id: &str) {
        let mut tx = self.world.server.control.db.write().await.unwrap();
        sql::query(statement).bind(id).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn revoked(&self, device: &TestDevice) -> bool {
        self.world.client.device(&device.id).await.unwrap().revoked
    }
}

pub fn ask(act: AskedAct) -> RequestApproval {
    RequestApproval { act, reason: "quarterly update".into(), valid_s: None }
}

#[actix_web::test]
async fn a_person_is_no_second_person_for_the_own_act() {
    let two = Two::new().await;
    let id = two.waiting().await;
    assert_eq!(code(two.alice.start_rollout(&start("kiosk@1")).await), Some(Code::SecondPerson));
    assert_eq!(code(two.alice.approve_act(&id, "").await), Some(Code::Forbidden));
    assert_eq!(code(two.other.approve_act(&id, "").await), Some(Code::Forbidden), "another token");
    let admin = [role(Role::Admin, None)];
    two.later(DAY_S + 3 * 3600);
    let robot = program(&two.world, "robot", &admin, None).await;
    let again = two.rollout().await.id;
    let robot = client(&two.world, robot.token.expose());
    assert_eq!(code(robot.approve_act(&again, "").await), Some(Code::Forbidden), "a program");
    let bootstrap = &two.world.client;
    assert_eq!(code(bootstrap.approve_act(&again, "").await), Some(Code::Forbidden));
    let seen = two.alice.approval(&again).await.unwrap();
    assert!(seen.is_own && !seen.may_decide && seen.why_not.unwrap().contains("another person"));
    assert_eq!(two.rollouts().await, 0);
}

#[actix_web::test]
async fn an_approved_act_is_performed_once_and_the_audit_log_has_both_names() {
    let two = Two::new().await;
    let id = two.waiting().await;
    assert!(two.bob.approval(&id).await.unwrap().may_decide);
    let done = two.bob.approve_act(&id, "as planned").await.unwrap();
    assert_eq!(done.state, State::Done, "{done:?}");
    assert!(done.outcome.starts_with("started rollout-"), "{done:?}");
    assert_eq!(done.decided_by, Some(name("bob")));
    assert_eq!(code(two.bob.approve_act(&id, "").await), Some(Code::Conflict), "twice");
    assert_eq!(code(two.bob.deny_act(&id, "").await), Some(Code::Conflict));
    assert_eq!(two.rollouts().await, 1);
    let log = two.world.audit().await;
    let both = format!("alice (token {}, approved by bob (token ", two.alice_token);
    for entry in [
        format!("\"action\":\"approval.request\",\"actor\":\"alice (token {})\"", two.alice_token),
        "\"action\":\"approval.approve\",\"actor\":\"bob (token ".to_owned(),
        format!("\"action\":\"rollout.start\",\"actor\":\"{both}"),
        format!("\"action\":\"approval.done\",\"actor\":\"{both}"),
    ] {
        assert!(log.contains(&entry), "{entry} is not in {log}");
    }
    assert!(log.contains("requested by alice (token "), "{log}");
}

#[actix_web::test]
async fn two_approvals_at_once_start_one_rollout() {
    let two = Two::new().await;
    let id = two.waiting().await;
    let (one, other) = futures::join!(two.bob.approve_act(&id, ""), two.bob.approve_act(&id, ""));
    assert_eq!([&one, &other].into_iter().filter(|r| r.is_ok()).count(), 1, "{one:?} {other:?}");
    assert_eq!(two.rollouts().await, 1);
}

/// Everything that changes what a guarded fleet runs.
#[actix_web::test]
async fn nothing_leads_around_the_guard_of_a_fleet() {
    let two = Two::new().await;
    let device = two.world.enroll().await;
    publish_release(&two.world, "kiosk@1").await;
    let fleet = "demo".parse().unwrap();
    let pin = PinFleet { release: Some("kiosk@1".parse().unwrap()), reason: "because".into() };
    let refused = |code: Option<Code>| assert_eq!(code, Some(Code::SecondPerson));
    for by in [&two.alice, &two.world.client] {
        refused(code(by.start_rollout(&start("kiosk@1")).await));
        refused(code(by.supersede_rollout("rollout-1", &start("kiosk@1")).await));
        refused(code(by.pin_fleet(&fleet, &pin).await));
        for order in [
            UpdateOrder::Pin { release: "kiosk@1".parse().unwrap(), reason: "because".into() },
            UpdateOrder::Downgrade {
                release: "kiosk@1".parse().unwrap(),
                reason: "because".into(),
            },
            UpdateOrder::Move { fleet: "spare".parse().unwrap(), reason: "because".into() },
        ] {
            refused(code(by.order_updates(&device.id, &order).await));
        }
    }
    let hold = UpdateOrder::Hold { reason: "because".into(), until_s: None };
    two.alice.order_updates(&device.id, &hold).await.unwrap();
}

/// The act is a list of devices, and not a filter that matches others later.
#[actix_web::test]
async fn what_is_revoked_is_what_was_approved() {
    let two = Two::new().await;
    let devices = [two.world.enroll().await, two.world.enroll().await];
    let request = ChangeDevices {
        filter: "fleet=demo".into(),
        change: Change::Revoke { reason: RevocationReason::KeyCompromise },
        expected: Some(2),
        confirm: Some(revocation_phrase(2)),
    };
    assert_eq!(code(two.alice.change_devices(&request).await), Some(Code::SecondPerson));
    let asked = ask(AskedAct::RevokeDevices { request });
    let id = two.alice.request_approval(&asked).await.unwrap().id;
    let late = two.world.enroll().await;
    let done = two.bob.approve_act(&id, "").await.unwrap();
    assert_eq!((done.state, done.outcome.as_str()), (State::Done, "revoked 2 devices"));
    assert!(two.revoked(&devices[0]).await && two.revoked(&devices[1]).await);
    assert!(!two.revoked(&late).await);
    // One at a time is as much as many at once.
    let another = two.world.enroll().await;
    let reason = RevocationReason::Unspecified;
    two.alice.revoke_device(&late.id, reason).await.unwrap();
    let second = two.alice.revoke_device(&another.id, reason).await;
    assert_eq!(code(second), Some(Code::SecondPerson));
    assert!(!two.revoked(&another).await);
    two.later(3601);
    two.alice.revoke_device(&another.id, reason).await.unwrap();
}

#[actix_web::test]
async fn an_act_that_was_changed_in_the_database_does_not_count() {
    let two = Two::new().await;
    let id = two.waiting().await;
    two.change(
        "UPDATE pending_acts SET act = replace(act, 'kiosk@1', 'kiosk@2') WHERE id = $1",
        &id,
    )
    .await;
    assert_eq!(code(two.bob.approve_act(&id, "").await), Some(Code::Conflict));
    let other = two.rollout().await.id;
    two.change("UPDATE pending_acts SET requester = 'bob' WHERE id = $1", &other).await;
    assert_eq!(code(two.alice.approve_act(&other, "").await), Some(Code::Conflict));
    let third = two.rollout().await.id;
    two.bob.deny_act(&third, "no").await.unwrap();
    two.change("UPDATE pending_acts SET state = 'waiting' WHERE id = $1", &third).await;
    assert_eq!(code(two.bob.approve_act(&third, "").await), Some(Code::Conflict));
    assert_eq!(two.rollouts().await, 0);
}

#[actix_web::test]
async fn an_act_that_is_late_is_not_performed() {
    let two = Two::new().await;
    let id = two.waiting().await;
    two.later(DAY_S + 1);
    assert_eq!(code(two.bob.approve_act(&id, "").await), Some(Code::Conflict));
    expiry::look(&two.world.server.control).await.unwrap();
    assert_eq!(two.state(&id).await, State::Expired);
    let log = two.world.audit().await;
    assert!(log.contains("\"action\":\"approval.expire\",\"actor\":\"server\""), "{log}");
    assert_eq!(two.rollouts().await, 0);
}

#[actix_web::test]
async fn rights_count_when_an_act_is_performed() {
    let two = Two::new().await;
    let (id, admin) = (two.waiting().await, role(Role::Admin, None));
    two.world.client.remove_role(&name("bob"), &admin).await.unwrap();
    two.world.client.grant_role(&name("bob"), &role(Role::Viewer, None)).await.unwrap();
    assert_eq!(
        code(two.bob.approve_act(&id, "").await),
        Some(Code::Forbidden),
        "the second person"
    );
    two.world.client.grant_role(&name("bob"), &admin).await.unwrap();
    assert_eq!(
        code(two.bob.approve_act(&id, "").await),
        Some(Code::Forbidden),
        "a role since then"
    );
    two.later(4 * DAY_S + 60);
    let id = two.rollout().await.id;
    two.world.client.remove_role(&name("alice"), &admin).await.unwrap();
    assert_eq!(code(two.bob.approve_act(&id, "").await), Some(Code::Conflict), "the requester");
    assert_eq!(two.bob.approval(&id).await.unwrap().approval.state, State::Failed);
    assert_eq!(two.rollouts().await, 0);
}

#[actix_web::test]
async fn what_an_offboarded_person_or_a_removed_token_requested_is_not_performed() {
    let two = Two::new().await;
    let id = two.waiting().await;
    let other = &two.other;
    other.remove_token(&two.alice_token).await.unwrap();
    assert_eq!(code(two.bob.approve_act(&id, "").await), Some(Code::Conflict), "a removed token");
    let request = ask(AskedAct::StartRollout { request: start("kiosk@1") });
    let id = other.request_approval(&request).await.unwrap().id;
    two.world.client.offboard_account(&name("alice")).await.unwrap();
    assert_eq!(code(two.bob.approve_act(&id, "").await), Some(Code::Conflict), "offboarded");
    assert_eq!(two.bob.approval(&id).await.unwrap().approval.state, State::Failed);
    assert!(two.world.audit().await.contains("\"action\":\"approval.fail\",\"actor\":\"bob "));
    assert_eq!(two.rollouts().await, 0);
}

#[actix_web::test]
async fn people_of_other_fleets_and_without_the_role_decide_nothing() {
    let two = Two::new().await;
    let world = &two.world;
    let elsewhere = person(world, "eve", &[role(Role::Admin, Some("spare"))]).await;
    let viewer = person(world, "vera", &[role(Role::Viewer, Some("demo"))]).await;
    let here = person(world, "otto", &[role(Role::Operator, Some("demo"))]).await;
    let eve = token_of(world, &elsewhere).await.0;
    let vera = token_of(world, &viewer).await.0;
    let otto = token_of(world, &here).await.0;
    two.later(5 * DAY_S);
    let id = two.waiting().await;
    for refused in [eve.approve_act(&id, "").await, eve.deny_act(&id, "").await] {
        assert_eq!(code(refused), Some(Code::NotFound));
    }
    assert_eq!(code(eve.approval(&id).await), Some(Code::NotFound));
    assert!(eve.approvals().await.unwrap().is_empty());
    assert!(eve.approval_policy().await.unwrap().rollout_fleets.is_empty());
    assert_eq!(vera.approvals().await.unwrap().len(), 1);
    assert_eq!(code(vera.approve_act(&id, "").await), Some(Code::Forbidden));
    assert_eq!(code(vera.deny_act(&id, "").await), Some(Code::Forbidden));
    let request = ask(AskedAct::StartRollout { request: start("kiosk@1") });
    assert_eq!(code(vera.request_approval(&request).await), Some(Code::Forbidden));
    assert_eq!(otto.approve_act(&id, "").await.unwrap().state, State::Done);
}

/// An administrator who makes a second account, or takes one over, is still one person.
#[actix_web::test]
async fn an_account_that_the_requester_made_is_no_second_person() {
    let two = Two::new().await;
    let id = two.waiting().await;
    let admin = [role(Role::Admin, None)];
    let since = person(&two.world, "since", &admin).await;
    let since = token_of(&two.world, &since).await.0;
    assert_eq!(code(since.approve_act(&id, "").await), Some(Code::Forbidden), "made since then");
    // By the token that anybody may hold, before the request.
    two.later(60);
    let id = two.rollout().await.id;
    assert_eq!(code(since.approve_act(&id, "").await), Some(Code::Forbidden), "made by bootstrap");
    // By the requester, before the request.
    let request =
        CreateAccount { name: name("puppet"), kind: AccountKind::Person, grants: admin.to_vec() };
    let link = two.alice.add_account(&request).await.unwrap().link.unwrap();
    let token = link.path.expose().strip_prefix("/join/").unwrap().to_owned();
    let from = "127.0.0.1".parse::<std::net::IpAddr>().unwrap().into();
    let cx = &two.world.server.control;
    let password = crate::accounts::PASSWORD;
    let session = fleeti_control::accounts::links::redeem(cx, from, &token, (None, password));
    let puppet = token_of(&two.world, &session.await.unwrap()).await.0;
    two.later(60);
    let id = two.rollout().await.id;
    assert_eq!(code(puppet.approve_act(&id, "").await), Some(Code::Forbidden), "made by her");
    // The other way round: the puppet requests, and its maker approves.
    let request = ask(AskedAct::StartRollout { request: start("kiosk@1") });
    let theirs = puppet.request_approval(&request).await.unwrap().id;
    assert_eq!(code(two.alice.approve_act(&theirs, "").await), Some(Code::Forbidden));
    // A link for an account of another person takes that account over.
    two.alice.create_link(&name("bob")).await.unwrap();
    two.later(60);
    let id = two.rollout().await.id;
    assert_eq!(code(two.bob.approve_act(&id, "").await), Some(Code::Forbidden), "her link");
    two.later(5 * DAY_S);
    let id = two.rollout().await.id;
    assert_eq!(two.bob.approve_act(&id, "").await.unwrap().state, State::Done, "days later");
}

/// Whoever has made a token of a program may be that program, however long ago that was.
#[actix_web::test]
async fn what_a_program_requests_is_approved_by_nobody_who_has_a_token_of_it() {
    let two = Two::new().await;
    two.waiting().await;
    let request = CreateAccount {
        name: name("robot"),
        kind: AccountKind::Service,
        grants: vec![role(Role::Operator, None)],
    };
    two.alice.add_account(&request).await.unwrap();
    let request = CreateToken {
        label: "mine".into(),
        valid_s: 30 * 86_400,
        permissions: None,
        account: Some(name("robot")),
    };
    let kept = two.alice.create_token(&request).await.unwrap();
    two.later(10 * DAY_S);
    let robot_is_alice = client(&two.world, kept.token.expose());
    let request = ask(AskedAct::StartRollout { request: start("kiosk@1") });
    let id = robot_is_alice.request_approval(&request).await.unwrap().id;
    assert_eq!(code(two.alice.approve_act(&id, "").await), Some(Code::Forbidden));
    assert_eq!(two.bob.approve_act(&id, "").await.unwrap().state, State::Done);
    let bootstrap = two.world.client.request_approval(&request).await;
    assert_eq!(code(bootstrap), Some(Code::Forbidden), "its token is not of a person");
}

async fn keep_key(world: &World, device: &TestDevice, key: &str) {
    let sent = world.https((*device.tls).clone()).put(world.url("/recovery-key"));
    assert!(sent.json(&json!({"key": key})).send().await.unwrap().status().is_success());
}

#[actix_web::test]
async fn a_recovery_key_is_shown_once_to_the_person_who_asked() {
    let two = Two::new().await;
    let device = two.world.enroll().await;
    keep_key(&two.world, &device, "abc-def").await;
    let request = ShowRecoveryKey { reason: "repair".into(), previous: false };
    let refused = two.alice.show_recovery_key(&device.id, &request).await;
    assert_eq!(code(refused), Some(Code::SecondPerson));
    let asked =
        ask(AskedAct::ShowRecoveryKey { device: device.id.clone(), request: request.clone() });
    let id = two.alice.request_approval(&asked).await.unwrap().id;
    assert_eq!(code(two.alice.collect_recovery_key(&id).await), Some(Code::Conflict), "too early");
    assert_eq!(two.bob.approve_act(&id, "").await.unwrap().state, State::Approved);
    assert_eq!(code(two.bob.collect_recovery_key(&id).await), Some(Code::NotFound));
    assert_eq!(two.alice.collect_recovery_key(&id).await.unwrap().expose(), "abc-def");
    assert_eq!(code(two.alice.collect_recovery_key(&id).await), Some(Code::Conflict), "twice");
    let log = two.world.audit().await;
    assert!(log.contains(", approved by bob (token "), "{log}");

    let id = two.alice.request_approval(&asked).await.unwrap().id;
    two.bob.approve_act(&id, "").await.unwrap();
    two.later(600);
    keep_key(&two.world, &device, "ghi-jkl").await;
    assert_eq!(
        code(two.alice.collect_recovery_key(&id).await),
        Some(Code::Conflict),
        "another key"
    );
    let id = two.alice.request_approval(&asked).await.unwrap().id;
    two.bob.approve_act(&id, "").await.unwrap();
    two.later(60);
    two.world.client.disable_account(&name("bob")).await.unwrap();
    assert_eq!(code(two.alice.collect_recovery_key(&id).await), Some(Code::Forbidden), "bob left");
}

#[actix_web::test]
async fn the_policy_is_changed_by_two_people_and_never_shuts_everybody_out() {
    let world = World::new().await;
    let keys = ApprovalPolicy { recovery_keys: true, ..ApprovalPolicy::default() };
    assert_eq!(code(world.client.set_approval_policy(&keys).await), Some(Code::Conflict));
    let two = Two::new().await;
    let none = ApprovalPolicy::default();
    for by in [&two.alice, &two.world.client] {
        assert_eq!(code(by.set_approval_policy(&none).await), Some(Code::SecondPerson));
    }
    let id = two
        .alice
        .request_approval(&ask(AskedAct::SetPolicy { policy: keys.clone() }))
        .await
        .unwrap();
    assert_eq!(two.bob.approve_act(&id.id, "").await.unwrap().state, State::Done);
    assert_eq!(two.bob.approval_policy().await.unwrap(), keys);
    // One that another program wrote makes no act free.
    two.change("UPDATE approval_policy SET policy = '{}' WHERE seal <> $1", "").await;
    two.world.enroll().await;
    publish_release(&two.world, "kiosk@1").await;
    assert_eq!(code(two.alice.start_rollout(&start("kiosk@1")).await), Some(Code::SecondPerson));
    assert_eq!(code(two.alice.approval_policy().await), Some(Code::Conflict));
}

#[actix_web::test]
async fn an_act_is_denied_or_withdrawn_and_one_account_does_not_fill_the_list() {
    let two = Two::new().await;
    let id = two.waiting().await;
    assert_eq!(two.bob.deny_act(&id, "not today").await.unwrap().state, State::Denied);
    let id = two.rollout().await.id;
    let withdrawn = two.alice.deny_act(&id, "").await.unwrap();
    assert_eq!(withdrawn.state, State::Withdrawn);
    let log = two.world.audit().await;
    assert!(log.contains("approval.deny") && log.contains("not today"), "{log}");
    assert!(log.contains("\"action\":\"approval.withdraw\",\"actor\":\"alice "), "{log}");
    for _ in 0..fleeti_core::wire::approval::WAITING_MAX {
        two.rollout().await;
    }
    let request = ask(AskedAct::StartRollout { request: start("kiosk@1") });
    assert_eq!(code(two.alice.request_approval(&request).await), Some(Code::Conflict));
    two.bob.request_approval(&request).await.unwrap();
    let bad = RequestApproval { reason: "two\nlines".into(), ..request };
    assert_eq!(code(two.bob.request_approval(&bad).await), Some(Code::Invalid));
}

#[actix_web::test]
async fn a_person_ends_own_sessions_and_an_administrator_those_of_anybody() {
    let world = World::new().await;
    let session = person(&world, "alice", &[role(Role::Viewer, None)]).await;
    let other = person(&world, "bob", &[role(Role::Viewer, None)]).await;
    let alice = token_of(&world, &session).await.0;
    let (admin, cx) = (&world.client, &world.server.control);
    let own = alice.sessions().await.unwrap();
    assert_eq!(own, admin.sessions_of(&name("alice")).await.unwrap());
    let bobs = admin.sessions_of(&name("bob")).await.unwrap();
    assert_eq!(code(alice.sessions_of(&name("bob")).await), Some(Code::Forbidden));
    assert_eq!(code(alice.end_session(&bobs[0].id).await), Some(Code::NotFound));
    assert_eq!(code(alice.end_session_of(&name("bob"), &bobs[0].id).await), Some(Code::Forbidden));
    assert!(sessions::is_live(cx, &other).await.unwrap());
    assert!(alice.end_session(&own[0].id).await.unwrap().is_empty());
    assert!(!sessions::is_live(cx, &session).await.unwrap());
    let wrong = admin.end_session_of(&name("alice"), &bobs[0].id).await;
    assert_eq!(code(wrong), Some(Code::NotFound), "a session of another account");
    admin.end_session_of(&name("bob"), &bobs[0].id).await.unwrap();
    assert!(!sessions::is_live(cx, &other).await.unwrap());
    admin.end_sessions_of(&name("bob")).await.unwrap();
    assert_eq!(code(admin.end_sessions_of(&name("zoe")).await), Some(Code::NotFound));
    let log = world.audit().await;
    assert!(log.contains(&format!("{} of bob", bobs[0].id)), "{log}");
}
