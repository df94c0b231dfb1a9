//! Rollouts whose waves wait for a webhook: one that allows, one that does not, and attackers.

use crate::lifetimes;
use crate::pages::{Browser, OURS};
use crate::rollout::{publish_release, report, start};
use crate::second_person::{Two, ask, code};
use crate::trust::until;
use crate::webhooks::{Receiver, answer};
use crate::world::{World, write_keys};
use fleeti_control::clock::{Clock, now_s};
use fleeti_control::rollouts::{Question, gate};
use fleeti_core::approval::State as ActState;
use fleeti_core::rollout::asked::{AGAIN_S_MAX, ANSWER_S, Answer, Asked, Verdict};
use fleeti_core::rollout::gates::{Gate, GateState};
use fleeti_core::rollout::plan::{Plan, Start, Wave};
use fleeti_core::rollout::{DevicePhase, Phase};
use fleeti_core::update::State;
use fleeti_core::wire::api::{CreateRollout, NextWave, RolloutSummary, Urgent};
use fleeti_core::wire::approval::{ApprovalPolicy, AskedAct};
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::webhook::{CreateWebhook, CreatedWebhook, GATE_EVENT};
use fleeti_store::sql;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

async fn add_with(world: &World, url: &str, event: &str) -> CreatedWebhook {
    let request = CreateWebhook { url: url.to_owned(), events: vec![event.to_owned()] };
    world.client.add_webhook(&request).await.unwrap()
}

async fn add(world: &World, url: &str) -> CreatedWebhook {
    add_with(world, url, GATE_EVENT).await
}

fn gated(hook: &str) -> CreateRollout {
    let wave =
        |size: &str| Wave { size: size.parse().unwrap(), start: Start::AfterSuccess, soak_s: 0 };
    let plan = Plan { gate: Some(hook.to_owned()), ..Plan::of(["1", "100%"].map(wave).into()) };
    CreateRollout { plan: Some(plan), ..start("kiosk@2") }
}

fn over(reason: &str) -> NextWave {
    NextWave { reason: reason.into(), over_gate: true }
}

fn says(body: &Value) -> String {
    answer("200 OK", &body.to_string())
}

async fn asked(world: &World, rollout: &RolloutSummary) -> Asked {
    world.client.rollout(&rollout.id).await.unwrap().waves.unwrap().gate.unwrap()
}

/// The answer to a question, once it is stored.
async fn answered(world: &World, rollout: &RolloutSummary, question: u32) -> Answer {
    until("an answer", async || {
        let asked = asked(world, rollout).await;
        // On a slow machine the next one may have been asked already.
        asked.question > question || asked.question == question && !asked.is_open
    })
    .await;
    asked(world, rollout).await.answer.unwrap()
}

async fn offered(world: &World, rollout: &RolloutSummary) -> usize {
    let found = world.client.rollout(&rollout.id).await.unwrap();
    found.devices.iter().filter(|device| device.phase == DevicePhase::Offered).count()
}

/// A server that may reach this machine, with two devices and a release, and its clock.
async fn world() -> (World, Arc<AtomicU64>) {
    let (world, ahead) = lifetimes::world_with(|config| config.private_webhooks = true).await;
    publish_release(&world, "kiosk@2").await;
    for _ in 0..2 {
        let device = world.enroll().await;
        report(&world, &device, "kiosk@1", State::Idle).await;
    }
    (world, ahead)
}

#[actix_web::test]
async fn a_wave_begins_when_the_gate_allows_it_and_people_see_why_it_waits() {
    let (world, ahead) = world().await;
    let evil = "\u{1b}[2Jchange <b>freeze</b>\r\n until noon";
    let no = says(&json!({"allow": false, "reason": evil, "retry_after_s": 600}));
    let yes = says(&json!({"allow": true}));
    let mut receiver = Receiver::new(vec![no, yes.clone(), yes]).await;
    let hook = add(&world, &receiver.url).await;
    let rollout = world.client.start_rollout(&gated(&hook.webhook.id)).await.unwrap();

    let question = receiver.next().await;
    assert!(question.verify(hook.secret.expose()), "{:?}", question.headers);
    assert_eq!(question.id(), format!("{}.1", rollout.id));
    let body: Value = serde_json::from_str(&question.body).unwrap();
    let data = &body["data"];
    assert_eq!((&body["type"], &data["id"]), (&json!(GATE_EVENT), &json!(question.id())));
    assert_eq!((&data["rollout"], &data["release"]), (&json!(rollout.id), &json!("kiosk@2")));
    assert_eq!((&data["fleet"], &data["counts"]["total"]), (&json!("demo"), &json!(2)));
    assert_eq!((&data["wave"], &data["waves"]), (&json!(0), &json!(2)));

    let said = answered(&world, &rollout, 1).await;
    assert_eq!(said.verdict, Verdict::Denies { retry_after_s: Some(600) });
    assert!(!said.reason.contains(char::is_control), "{said:?}");
    assert_eq!(offered(&world, &rollout).await, 0);
    let device = world.client.rollout(&rollout.id).await.unwrap().devices[0].device.clone();
    let why = world.client.why(&device).await.unwrap();
    let check = why.gates.iter().find(|check| check.gate == Gate::Hook).unwrap();
    assert_eq!(check.state, GateState::Closed);
    assert!(check.text.contains("wave 1") && check.text.contains("freeze"), "{check:?}");
    let closed: Vec<_> = why.gates.iter().filter(|c| c.state == GateState::Closed).collect();
    assert_eq!(closed[0].gate, Gate::Hook, "the first no: {closed:?}");
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let page = browser.get(&format!("/rollouts/{}", rollout.id), &session).await;
    let page = page.text().await.unwrap();
    assert!(page.contains("waits for its gate") && page.contains("name=\"over_gate\""), "{page}");
    assert!(!page.contains("<b>freeze") && !page.contains('\u{1b}'), "{page}");

    // The server asks again at its time, not before.
    assert!(receiver.got.try_recv().is_err());
    ahead.fetch_add(601, Ordering::SeqCst);
    assert_eq!(receiver.next().await.id(), format!("{}.2", rollout.id));
    until("the first device", async || offered(&world, &rollout).await == 1).await;
    let found = world.client.rollout(&rollout.id).await.unwrap();
    let asked = found.waves.unwrap().gate.unwrap();
    assert_eq!((asked.question, asked.answer, asked.again_s), (2, None, None));
    let raw = hook.secret.expose().strip_prefix("whsec_").unwrap();
    assert!(!world.is_kept(raw).await, "the secret is sealed in the database");
    let log = world.audit().await;
    assert!(log.contains(&format!("gate {}", hook.webhook.id)), "{log}");
}

#[actix_web::test]
async fn nothing_but_an_answer_to_the_question_begins_a_wave() {
    let (world, ahead) = world().await;
    let mut elsewhere = Receiver::new(vec![says(&json!({"allow": true}))]).await;
    let head = |more: &str| format!("HTTP/1.1 200 OK\r\n{more}\r\nconnection: close\r\n\r\n");
    let yes = r#"{"allow": true}"#;
    let answers = vec![
        format!(
            "HTTP/1.1 307 Elsewhere\r\nlocation: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            elsewhere.url
        ),
        answer("500 No", yes),
        // Blanks are JSON: only its length is wrong.
        format!("{}{yes}{}", head("content-length: 1000000000"), " ".repeat(1 << 20)),
        // The connection ends before the answer does.
        format!("{}{yes}", head("content-length: 100")),
        answer("200 OK", r#"{"allow": "true"}"#),
        answer("200 OK", ""),
        says(&json!({"allow": true, "id": "rollout-elsewhere.1"})),
        "\r\n".into(),
        says(&json!({"allow": true})),
    ];
    let mut receiver = Receiver::new(answers.clone()).await;
    let hook = add(&world, &receiver.url).await;
    let rollout = world.client.start_rollout(&gated(&hook.webhook.id)).await.unwrap();
    for (n, wrong) in (1..).zip(&answers[..answers.len() - 1]) {
        let question = receiver.next().await;
        assert_eq!(question.id(), format!("{}.{n}", rollout.id));
        let said = answered(&world, &rollout, n).await;
        let wrong: String = wrong.chars().take(120).collect();
        assert_eq!(said.verdict, Verdict::Failed, "{wrong}: {said:?}");
        assert!(!said.reason.is_empty(), "{wrong}");
        assert_eq!(offered(&world, &rollout).await, 0, "{wrong}");
        ahead.fetch_add(AGAIN_S_MAX + 1, Ordering::SeqCst);
    }
    assert!(elsewhere.got.try_recv().is_err(), "a redirect is not followed");
    until("the first device", async || offered(&world, &rollout).await == 1).await;
}

/// The server waits for an answer only so long.
#[actix_web::test]
async fn an_answer_that_does_not_end_in_time_does_not_count() {
    let (world, _) = world().await;
    let mut receiver = Receiver::new(vec![String::new()]).await;
    let hook = add(&world, &receiver.url).await;
    let rollout = world.client.start_rollout(&gated(&hook.webhook.id)).await.unwrap();
    receiver.next().await;
    let said = answered(&world, &rollout, 1).await;
    assert_eq!(said.verdict, Verdict::Failed, "{said:?}");
    assert_eq!(offered(&world, &rollout).await, 0);
}

/// Names that have only private addresses: `sender::tests`.
#[actix_web::test]
async fn a_gate_at_a_private_address_is_never_asked_and_a_person_may_pass_over_it() {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    // It was added when the server was allowed to reach it.
    let world = World::start(dir, |config| config.private_webhooks = true).await;
    publish_release(&world, "kiosk@2").await;
    world.enroll().await;
    let hooks = [
        add(&world, &format!("https://127.0.0.1:{port}/gate")).await,
        add(&world, &format!("https://localhost:{port}/gate")).await,
    ];
    let World { dir, server, .. } = world;
    server.stop().await;
    let world = World::start(dir, |_| {}).await;
    for hook in &hooks {
        let url = hook.webhook.url.clone();
        let request = CreateWebhook { url, events: vec![GATE_EVENT.into()] };
        assert_eq!(code(world.client.add_webhook(&request).await), Some(Code::Invalid));
    }
    let [hook, other] = &hooks;
    let rollout = world.client.start_rollout(&gated(&other.webhook.id)).await.unwrap();
    let said = answered(&world, &rollout, 1).await;
    assert!(said.reason.contains("private address"), "{said:?}");
    world.client.abort_rollout(&rollout.id).await.unwrap();
    let rollout = world.client.start_rollout(&gated(&hook.webhook.id)).await.unwrap();
    let said = answered(&world, &rollout, 1).await;
    assert_eq!(said.verdict, Verdict::Failed);
    assert!(said.reason.contains("private address"), "{said:?}");
    // A person who does not pass over it asks it again.
    world.client.next_wave(&rollout.id, "now").await.unwrap();
    assert_eq!(answered(&world, &rollout, 2).await.verdict, Verdict::Failed);
    assert_eq!(offered(&world, &rollout).await, 0);
    let nobody = listener.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock, "nothing was connected");
    world.client.begin_wave(&rollout.id, &over("the gate is broken")).await.unwrap();
    assert_eq!(offered(&world, &rollout).await, 1);
    let log = world.audit().await;
    let expected = format!("over gate {} (no answer that counts", hook.webhook.id);
    assert!(log.contains(&expected) && log.contains("the gate is broken"), "{log}");
    let back = world.client.roll_back_rollout(&rollout.id, "x").await;
    assert_eq!(code(back), Some(Code::Conflict), "no device ran an older release");
}

#[actix_web::test]
async fn only_a_webhook_that_was_added_for_it_is_a_gate() {
    let (world, _) = world().await;
    let mut receiver = Receiver::new(vec![says(&json!({"allow": true}))]).await;
    let other = add_with(&world, &receiver.url, "alerts.raised").await;
    for wrong in [other.webhook.id.as_str(), "hook-unknown", "", "https://ops.example/"] {
        let refused = world.client.start_rollout(&gated(wrong)).await;
        assert_eq!(code(refused), Some(Code::Invalid), "{wrong}");
    }
    // An attacker who writes the database makes no gate of another webhook, and moves none.
    let sql = "UPDATE webhooks SET kinds = $1";
    let kinds = json!([GATE_EVENT]).to_string();
    let pool = world.server.control.db.writer();
    sql::query(sql).bind(&kinds).execute(pool).await.unwrap();
    let rollout = world.client.start_rollout(&gated(&other.webhook.id)).await.unwrap();
    let said = answered(&world, &rollout, 1).await;
    assert!(said.reason.contains("changed by another program"), "{said:?}");
    assert_eq!((offered(&world, &rollout).await, said.verdict), (0, Verdict::Failed));
    world.client.abort_rollout(&rollout.id).await.unwrap();
    // A gate that is removed does not answer.
    let hook = add(&world, &receiver.url).await;
    world.client.remove_webhook(&hook.webhook.id).await.unwrap();
    let refused = world.client.start_rollout(&gated(&hook.webhook.id)).await;
    assert_eq!(code(refused), Some(Code::Invalid));
    assert!(receiver.got.try_recv().is_err(), "nothing was sent");
}

#[actix_web::test]
async fn a_late_or_replayed_answer_changes_nothing() {
    let (world, ahead) = world().await;
    let no = says(&json!({"allow": false, "reason": "freeze", "retry_after_s": 3600}));
    let mut receiver = Receiver::new(vec![no]).await;
    let hook = add(&world, &receiver.url).await;
    let rollout = world.client.start_rollout(&gated(&hook.webhook.id)).await.unwrap();
    receiver.next().await;
    answered(&world, &rollout, 1).await;
    let cx = &world.server.control;
    let replay = async |rollout: &str, number: u32| {
        let webhook = hook.webhook.id.clone();
        let question = Question { rollout: rollout.to_owned(), number, webhook };
        gate::answered(cx, &question, Answer::allows("")).await.unwrap();
    };
    for number in [0, 1, u32::MAX] {
        replay(&rollout.id, number).await;
    }
    replay("rollout-elsewhere", 1).await;
    assert_eq!(offered(&world, &rollout).await, 0);
    // A question that is open when the rollout is aborted has no rollout any more.
    ahead.fetch_add(3601, Ordering::SeqCst);
    receiver.next().await;
    let aborted = world.client.abort_rollout(&rollout.id).await.unwrap();
    replay(&rollout.id, 2).await;
    let now = world.client.rollout(&rollout.id).await.unwrap();
    assert_eq!((now.phase, now.counts), (Phase::Aborted, aborted.counts));
    assert_eq!(offered(&world, &rollout).await, 0);
}

#[actix_web::test]
async fn a_restart_keeps_the_answer_and_asks_a_question_without_one_again() {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let no = says(&json!({"allow": false, "reason": "freeze", "retry_after_s": 3600}));
    let answers = vec![no, String::new(), says(&json!({"allow": true}))];
    let mut receiver = Receiver::new(answers).await;
    let at = |ahead_s: u64| Clock::of(move || now_s() + ahead_s);
    let world = World::start(dir, |config| config.private_webhooks = true).await;
    publish_release(&world, "kiosk@2").await;
    world.enroll().await;
    let hook = add(&world, &receiver.url).await;
    let rollout = world.client.start_rollout(&gated(&hook.webhook.id)).await.unwrap();
    receiver.next().await;
    let said = answered(&world, &rollout, 1).await;
    let World { dir, server, .. } = world;
    server.stop().await;

    let world = World::start(dir, |config| {
        (config.private_webhooks, config.clock) = (true, at(1800));
    })
    .await;
    let kept = asked(&world, &rollout).await;
    assert_eq!((kept.question, kept.answer), (1, Some(said)));
    let World { dir, server, .. } = world;
    server.stop().await;
    assert!(receiver.got.try_recv().is_err(), "it is not asked for nothing");

    let start_at = |ahead_s| {
        move |config: &mut fleeti_server::config::Config| {
            (config.private_webhooks, config.clock) = (true, at(ahead_s));
        }
    };
    let world = World::start(dir, start_at(3700)).await;
    assert_eq!(receiver.next().await.id(), format!("{}.2", rollout.id));
    // It is killed before the answer.
    let World { dir, server, .. } = world;
    server.stop().await;
    let world = World::start(dir, start_at(3700 + ANSWER_S + 5)).await;
    assert_eq!(receiver.next().await.id(), format!("{}.3", rollout.id));
    until("the first device", async || offered(&world, &rollout).await == 1).await;
}

#[actix_web::test]
async fn a_gate_of_a_guarded_fleet_is_passed_over_by_two_people() {
    let two = Two::new().await;
    two.world.enroll().await;
    publish_release(&two.world, "kiosk@2").await;
    let hook = add(&two.world, "https://localhost.localdomain/gate").await;
    let act = AskedAct::StartRollout { request: gated(&hook.webhook.id) };
    let asked = two.alice.request_approval(&ask(act)).await.unwrap();
    two.bob.approve_act(&asked.id, "").await.unwrap();
    let rollout = two.alice.rollouts().await.unwrap().remove(0);
    answered(&two.world, &rollout, 1).await;
    for by in [&two.alice, &two.bob, &two.world.client] {
        let refused = by.begin_wave(&rollout.id, &over("broken")).await;
        assert_eq!(code(refused), Some(Code::SecondPerson));
    }
    assert_eq!(offered(&two.world, &rollout).await, 0);
    let act = AskedAct::NextWave { rollout: rollout.id.clone(), request: over("broken") };
    let asked = two.alice.request_approval(&ask(act)).await.unwrap();
    assert!(asked.act.contains("over its webhook gate"), "{asked:?}");
    assert_eq!(two.bob.approve_act(&asked.id, "").await.unwrap().state, ActState::Done);
    assert_eq!(offered(&two.world, &rollout).await, 1);
}

/// The policy names urgent rollouts, and not their fleet.
#[actix_web::test]
async fn the_gate_of_an_urgent_rollout_is_passed_over_by_as_many_people_as_start_one() {
    let two = Two::new().await;
    two.world.enroll().await;
    publish_release(&two.world, "kiosk@2").await;
    let policy = ApprovalPolicy { urgent_rollouts: true, ..ApprovalPolicy::default() };
    let asked = two.alice.request_approval(&ask(AskedAct::SetPolicy { policy })).await.unwrap();
    two.bob.approve_act(&asked.id, "").await.unwrap();
    let hook = add(&two.world, "https://localhost.localdomain/gate").await;
    let urgent = Some(Urgent { reason: "a hole".into() });
    let request = CreateRollout { urgent, ..gated(&hook.webhook.id) };
    let asked = two.alice.request_approval(&ask(AskedAct::StartRollout { request })).await.unwrap();
    assert!(asked.act.ends_with(&format!("with gate {}", hook.webhook.id)), "{asked:?}");
    two.bob.approve_act(&asked.id, "").await.unwrap();
    let rollout = two.alice.rollouts().await.unwrap().remove(0);
    answered(&two.world, &rollout, 1).await;
    for by in [&two.alice, &two.bob, &two.world.client] {
        let refused = by.begin_wave(&rollout.id, &over("broken")).await;
        assert_eq!(code(refused), Some(Code::SecondPerson));
    }
    assert_eq!(offered(&two.world, &rollout).await, 0);
    let act = AskedAct::NextWave { rollout: rollout.id.clone(), request: over("broken") };
    let asked = two.alice.request_approval(&ask(act)).await.unwrap();
    assert_eq!(two.bob.approve_act(&asked.id, "").await.unwrap().state, ActState::Done);
    assert_eq!(offered(&two.world, &rollout).await, 1);
}

#[actix_web::test]
async fn the_pages_start_a_rollout_with_a_gate_and_pass_over_it() {
    let (world, _) = world().await;
    let mut receiver = Receiver::new(vec![says(&json!({"allow": false}))]).await;
    let hook = add(&world, &receiver.url).await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    // Without waves there is no plan that could have them: they are refused, and not left out.
    for field in [&format!("gate={}", hook.webhook.id), "budget=rack:2", "retries=2"] {
        let form = format!("release=kiosk%402&fleet=demo&waves=&soak_minutes=60&{field}");
        for answer in [
            browser.get(&format!("/rollouts/plan?{form}"), &session).await,
            browser.post("/rollouts", &session, OURS, &form).await,
        ] {
            assert_eq!(answer.status(), 422, "{field}");
            let text = answer.text().await.unwrap();
            assert!(text.contains("needs waves: 100% is one wave"), "{text}");
        }
    }
    assert!(world.client.rollouts().await.unwrap().is_empty());
    let form = format!("release=kiosk%402&fleet=demo&waves=1%2C+100%25&gate={}", hook.webhook.id);
    let plan = browser.get(&format!("/rollouts/plan?{form}"), &session).await;
    let plan = plan.text().await.unwrap();
    assert!(plan.contains(&format!("when webhook {} allows it", hook.webhook.id)), "{plan}");
    assert_eq!(browser.post("/rollouts", &session, OURS, &form).await.status(), 303);
    receiver.next().await;
    let rollout = world.client.rollouts().await.unwrap().remove(0);
    answered(&world, &rollout, 1).await;
    let next = format!("/rollouts/{}/next", rollout.id);
    assert_eq!(browser.post(&next, &session, OURS, "reason=now").await.status(), 303);
    assert_eq!(receiver.next().await.id(), format!("{}.2", rollout.id), "it is asked at once");
    assert_eq!(offered(&world, &rollout).await, 0);
    let over = "reason=now&over_gate=true";
    assert_eq!(browser.post(&next, &session, OURS, over).await.status(), 303);
    assert_eq!(offered(&world, &rollout).await, 1);
}
