//! Rollouts, waves and floors that need a second person.

use crate::rollout::{publish_release, report, start};
use crate::second_person::{Two, ask, code};
use crate::trust::until;
use fleeti_core::approval::State;
use fleeti_core::id::ReleaseName;
use fleeti_core::rollout::DevicePhase;
use fleeti_core::rollout::gates::ReleasePath;
use fleeti_core::rollout::plan::{Plan, Start, Wave};
use fleeti_core::rollout::waves::Stage;
use fleeti_core::update::State as UpdateState;
use fleeti_core::wire::api::{CreateRollout, NextWave, Urgent};
use fleeti_core::wire::approval::{ApprovalPolicy, AskedAct};
use fleeti_core::wire::problem::Code;

/// A policy may name urgent rollouts to every fleet, and floors, which concern every fleet.
#[actix_web::test]
async fn urgent_rollouts_and_floors_need_a_second_person_where_the_policy_says_so() {
    let two = Two::new().await;
    let urgent = || CreateRollout {
        fleet: "spare".parse().unwrap(),
        urgent: Some(Urgent { reason: "a hole".into() }),
        ..start("kiosk@1")
    };
    let release: ReleaseName = "kiosk@1".parse().unwrap();
    let path = ReleasePath { floor: Some("new data format".into()), blocked: vec![] };
    publish_release(&two.world, "kiosk@1").await;
    // Fleet `spare` is not guarded, and the policy names neither.
    assert_eq!(code(two.alice.start_rollout(&urgent()).await), Some(Code::Conflict), "no device");
    let policy = ApprovalPolicy {
        urgent_rollouts: true,
        release_paths: true,
        ..two.alice.approval_policy().await.unwrap()
    };
    let asked = two.alice.request_approval(&ask(AskedAct::SetPolicy { policy })).await.unwrap();
    two.bob.approve_act(&asked.id, "").await.unwrap();
    for by in [&two.alice, &two.world.client] {
        assert_eq!(code(by.start_rollout(&urgent()).await), Some(Code::SecondPerson));
        assert_eq!(code(by.supersede_rollout("r", &urgent()).await), Some(Code::SecondPerson));
        assert_eq!(code(by.set_release_path(&release, &path).await), Some(Code::SecondPerson));
    }
    let calm = CreateRollout { urgent: None, ..urgent() };
    assert_eq!(code(two.alice.start_rollout(&calm).await), Some(Code::Conflict), "no device");
    let act = AskedAct::SetReleasePath { release: release.clone(), path: path.clone() };
    let asked = two.alice.request_approval(&ask(act)).await.unwrap();
    assert_eq!(asked.fleets, None, "it concerns every fleet");
    assert_eq!(two.bob.approve_act(&asked.id, "").await.unwrap().state, State::Done);
    assert_eq!(two.alice.release_path(&release).await.unwrap(), path);
    // An urgent rollout is another act than the same one without a reason.
    let act = AskedAct::StartRollout { request: urgent() };
    let asked = two.alice.request_approval(&ask(act)).await.unwrap();
    assert!(asked.act.starts_with("start an urgent rollout of kiosk@1 to spare"), "{asked:?}");
}

/// The approval is of one wave of one rollout.
#[actix_web::test]
async fn a_wave_that_waits_for_approval_is_begun_by_two_people_and_by_no_earlier_approval() {
    let two = Two::new().await;
    let devices = [two.world.enroll().await, two.world.enroll().await];
    publish_release(&two.world, "kiosk@1").await;
    publish_release(&two.world, "kiosk@2").await;
    let wave = |size: &str, start| Wave { size: size.parse().unwrap(), start, soak_s: 0 };
    let plan = Plan::of(vec![wave("1", Start::AfterSuccess), wave("100%", Start::ByApproval)]);
    let request = CreateRollout { plan: Some(plan), ..start("kiosk@2") };
    let asked = two.alice.request_approval(&ask(AskedAct::StartRollout { request })).await.unwrap();
    two.bob.approve_act(&asked.id, "").await.unwrap();
    let id = two.alice.rollouts().await.unwrap()[0].id.clone();
    let rollout = async || two.alice.rollout(&id).await.unwrap();
    let first = rollout().await.devices.into_iter().find(|d| d.phase == DevicePhase::Offered);
    let first = first.unwrap().device;
    let device = devices.iter().find(|device| device.id == first).unwrap();
    report(&two.world, device, "kiosk@2", UpdateState::Idle).await;
    until("the second wave is due", async || {
        rollout().await.waves.is_some_and(|waves| (waves.current, waves.stage) == (1, Stage::Due))
    })
    .await;
    for by in [&two.alice, &two.bob, &two.world.client] {
        assert_eq!(code(by.next_wave(&id, "looks good").await), Some(Code::SecondPerson));
    }
    let act = || AskedAct::NextWave {
        rollout: id.clone(),
        request: NextWave { reason: "looks good".into(), over_gate: false },
    };
    let asked = two.alice.request_approval(&ask(act())).await.unwrap();
    assert!(asked.act.starts_with("begin wave 2 of rollout-"), "{asked:?}");
    let again = two.alice.request_approval(&ask(act())).await.unwrap();
    assert_eq!(code(two.alice.approve_act(&asked.id, "").await), Some(Code::Forbidden));
    assert_eq!(rollout().await.counts.succeeded, 1);
    assert_eq!(two.bob.approve_act(&asked.id, "").await.unwrap().state, State::Done);
    let waves = rollout().await.waves.unwrap();
    assert_eq!((waves.current, waves.stage), (1, Stage::Open));
    // The other approval is of the same wave, which has begun.
    let late = two.bob.approve_act(&again.id, "").await.unwrap();
    assert!(late.state == State::Failed && late.outcome.contains("has gone on"), "{late:?}");
    let log = two.world.audit().await;
    assert!(log.contains("\"action\":\"rollout.next\",\"actor\":\"alice (token "), "{log}");
}
