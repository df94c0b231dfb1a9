//! Alerts: what raises and ends them, who is told how often, and what operators do.

use crate::accounts::{client, program, role};
use crate::contract::Row;
use crate::lifetimes;
use crate::pages::{Browser, OURS};
use crate::rollout::report_of;
use crate::world::{TestDevice, World};
use fleeti_client::ClientError;
use fleeti_control::accounts::actor::Actor;
use fleeti_control::devices::search::{self, Wanted};
use fleeti_control::{alerts, devices, history};
use fleeti_core::alert::state::State;
use fleeti_core::alert::{Kind, Severity};
use fleeti_core::id::DeviceId;
use fleeti_core::update;
use fleeti_core::wire::accounts::Role;
use fleeti_core::wire::alerts::{Alert, AlertMessage, AlertQuery, CreateSilence, SetRule, Silence};
use fleeti_core::wire::api::RevocationReason;
use fleeti_core::wire::device::Telemetry;
use fleeti_core::wire::history::HistoryQuery;
use fleeti_core::wire::mqtt::Up;
use fleeti_core::wire::updates::UpdateOrder;
use fleeti_store::{self as store, alerts::AlertRow};
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows for the contract of the API.
pub fn rows() -> Vec<Row> {
    let rule = |kind| json!({"kind": kind, "threshold": 80, "severity": "info", "enabled": true});
    let silence = |rule| json!({"rule": rule, "valid_s": 3600, "reason": "because"});
    vec![
        ("list_alerts", &[], None, 200),
        ("get_alert", &[], None, 200),
        ("acknowledge_alert", &[], Some(json!({"note": "mine"})), 200),
        ("acknowledge_alert", &[], Some(json!({})), 409),
        ("list_rules", &[], None, 200),
        ("set_rule", &[], Some(rule("disk")), 200),
        ("set_rule", &[], Some(rule("drift")), 409),
        ("get_rule", &[], None, 200),
        ("remove_rule", &[], None, 204),
        ("remove_rule", &[], None, 404),
        ("add_silence", &[], Some(silence("disk")), 201),
        ("add_silence", &[], Some(silence("nothing")), 404),
        ("list_silences", &[], None, 200),
        ("remove_silence", &[], None, 204),
    ]
}

/// An open alert `alert-a` and a silence `silence-a`, for requests that name one.
pub async fn plant(world: &World) {
    let cx = &world.server.control;
    let mut tx = cx.db.write().await.unwrap();
    let alert = Alert {
        id: "alert-a".into(),
        rule: "planted".into(),
        kind: Kind::Disk,
        severity: Severity::Info,
        device: Some("planted".parse().unwrap()),
        fleet: Some("demo".parse().unwrap()),
        state: State::Open,
        detail: "planted".into(),
        since_s: cx.now_s(),
        changed_s: cx.now_s(),
        times: 1,
        silenced_until_s: None,
    };
    store::alerts::insert(&mut tx, &AlertRow { alert, level: None }).await.unwrap();
    let silence = Silence {
        id: "silence-a".into(),
        rule: None,
        fleet: Some("spare".parse().unwrap()),
        device: None,
        from_s: 0,
        until_s: cx.now_s() + 3600,
        reason: "planted".into(),
        by: "nobody".into(),
    };
    store::alert_rules::add_silence(&mut tx, &silence, 0).await.unwrap();
    tx.commit().await.unwrap();
}

async fn open(world: &World) -> Vec<Alert> {
    world.client.alerts(&AlertQuery::default()).await.unwrap()
}

/// Active alerts about devices. Beside them is that of the CRL, which ends as the clock goes on.
async fn of_devices(world: &World) -> Vec<Alert> {
    open(world).await.into_iter().filter(|alert| alert.device.is_some()).collect()
}

async fn look(world: &World) {
    alerts::look(&world.server.control).await.unwrap();
}

/// The messages so far.
async fn told(world: &World) -> Vec<(String, AlertMessage)> {
    let records = store::domain_events::after(world.server.control.db.pool(), 0, 1000);
    let all = records.await.unwrap().into_iter().filter(|r| r.kind.starts_with("alerts."));
    all.map(|r| (r.kind, serde_json::from_str(&r.body).unwrap())).collect()
}

async fn sends(world: &World, device: &DeviceId, up: Up, payload: &[u8]) {
    devices::received(&world.server.control, device, up, payload).await.unwrap();
}

async fn reports(world: &World, device: &TestDevice, sequence: u64, update: update::State) {
    let mut report: serde_json::Value =
        serde_json::from_slice(&report_of("kiosk@1", update)).unwrap();
    report["sequence"] = sequence.into();
    report["epoch"] = "e".into();
    sends(world, &device.id, Up::Report, report.to_string().as_bytes()).await;
}

fn later(ahead: &AtomicU64, s: u64) {
    ahead.fetch_add(s, Ordering::SeqCst);
}

#[actix_web::test]
async fn one_outage_sends_one_message_and_its_end_another_one() {
    let (world, ahead) = lifetimes::world().await;
    let mut site = Vec::new();
    for _ in 0..4 {
        site.push(world.enroll().await);
    }
    look(&world).await;
    assert_eq!(open(&world).await, [], "the server has only begun to listen");
    later(&ahead, 3700);
    look(&world).await;
    let alerts = open(&world).await;
    assert_eq!(alerts.len(), 4);
    assert!(alerts.iter().all(|a| a.kind == Kind::Offline && a.state == State::Open));
    assert_eq!(told(&world).await, [], "more of the site may follow");
    later(&ahead, 31);
    look(&world).await;
    look(&world).await;
    let first = told(&world).await;
    assert_eq!(first.len(), 1, "{first:?}");
    let (kind, message) = &first[0];
    assert_eq!((kind.as_str(), message.count, message.devices.len()), ("alerts.raised", 4, 4));
    assert_eq!(message.fleet.as_ref().unwrap().as_str(), "demo");

    later(&ahead, 600);
    for device in &site {
        reports(&world, device, 1, update::State::Idle).await;
    }
    assert_eq!(of_devices(&world).await, []);
    later(&ahead, 31);
    look(&world).await;
    let second = told(&world).await;
    assert_eq!(second.len(), 2, "{second:?}");
    assert_eq!((second[1].0.as_str(), second[1].1.count), ("alerts.resolved", 4));
}

#[actix_web::test]
async fn what_flaps_is_told_once() {
    let (world, ahead) = lifetimes::world().await;
    let device = world.enroll().await;
    let failed = || update::State::Failed {
        target: "2".parse().unwrap(),
        code: update::FailureCode::StageFailed,
    };
    for round in 0..5 {
        reports(&world, &device, 2 * round + 1, failed()).await;
        assert_eq!(open(&world).await.len(), 1);
        reports(&world, &device, 2 * round + 2, update::State::Idle).await;
        assert_eq!(of_devices(&world).await, []);
        later(&ahead, 400);
        look(&world).await;
    }
    let all = told(&world).await;
    let kinds: Vec<_> = all.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["alerts.raised", "alerts.resolved"]);
    assert_eq!(all[0].1.detail, "version 2 could not be installed: StageFailed");
    let query = AlertQuery { all: true, ..AlertQuery::default() };
    let listed = world.client.alerts(&query).await.unwrap();
    assert_eq!((listed.len(), listed[0].times), (1, 5));
}

#[actix_web::test]
async fn a_silence_tells_nobody_until_its_end_and_a_maintenance_window_begins_later() {
    let (world, ahead) = lifetimes::world().await;
    let device = world.enroll().await;
    let now_s = world.server.control.now_s();
    let window = CreateSilence {
        rule: Some("offline".into()),
        fleet: Some("demo".parse().unwrap()),
        device: None,
        from_s: Some(now_s + 1000),
        valid_s: 2 * 3600,
        reason: "power work".into(),
    };
    let made = world.client.add_silence(&window).await.unwrap();
    assert_eq!(world.client.silences().await.unwrap(), [made]);
    later(&ahead, 3700);
    look(&world).await;
    later(&ahead, 400);
    look(&world).await;
    let silenced = open(&world).await;
    assert!(silenced[0].silenced_until_s.is_some(), "{silenced:?}");
    assert_eq!(told(&world).await, []);
    later(&ahead, 2 * 3600);
    look(&world).await;
    later(&ahead, 31);
    look(&world).await;
    let messages = told(&world).await;
    assert_eq!(messages.len(), 1, "it still holds");
    assert_eq!(messages[0].1.devices, std::slice::from_ref(&device.id));
    assert_eq!(world.client.silences().await.unwrap(), []);
}

#[actix_web::test]
async fn a_full_disk_and_a_device_that_connects_again_and_again_raise_alerts_that_end() {
    let (world, ahead) = lifetimes::world().await;
    let device = world.enroll().await;
    let full = |used| Telemetry {
        uptime_s: 1,
        load_milli: 1,
        memory_used_kib: 1,
        memory_total_kib: 1,
        agent_memory_kib: 1,
        data_used_kib: used,
        data_total_kib: 100,
    };
    for (used, count) in [(89, 0), (91, 1), (88, 1), (84, 0)] {
        let payload = serde_json::to_vec(&full(used)).unwrap();
        sends(&world, &device.id, Up::Telemetry, &payload).await;
        assert_eq!(open(&world).await.len(), count, "{used} %");
    }
    for _ in 0..12 {
        alerts::connected(&world.server.control, &device.id).await.unwrap();
    }
    let flapping = open(&world).await;
    assert_eq!(flapping.len(), 1);
    assert_eq!(flapping[0].detail, "connected 12 times within an hour");
    look(&world).await;
    assert_eq!(open(&world).await.len(), 1);
    later(&ahead, 3600);
    reports(&world, &device, 1, update::State::Idle).await;
    look(&world).await;
    assert_eq!(of_devices(&world).await, []);
}

#[actix_web::test]
async fn rules_are_data_and_a_changed_rule_counts_for_the_whole_fleet() {
    let (world, ahead) = lifetimes::world().await;
    for _ in 0..3 {
        world.enroll().await;
    }
    look(&world).await;
    let rule = |threshold, enabled| SetRule {
        kind: Kind::Offline,
        threshold,
        severity: Severity::Critical,
        fleets: vec![],
        enabled,
    };
    world.client.set_alert_rule("offline", &rule(120, true)).await.unwrap();
    later(&ahead, 130);
    look(&world).await;
    let found = open(&world).await;
    assert_eq!(found.len(), 3, "the time of the devices is looked at again");
    assert!(found.iter().all(|a| a.severity == Severity::Critical));
    world.client.set_alert_rule("offline", &rule(120, false)).await.unwrap();
    look(&world).await;
    assert_eq!(of_devices(&world).await, []);
    world.client.remove_alert_rule("offline").await.unwrap();
    let rules = world.client.alert_rules().await.unwrap();
    assert!(rules.iter().all(|status| status.is_shipped));
    match world.client.set_alert_rule("offline", &rule(1, true)).await {
        Err(ClientError::Refused(problem)) => {
            assert_eq!(problem.status, 422);
            assert!(problem.detail.contains("threshold is 1, must be 120"), "{problem:?}");
        }
        other => panic!("{other:?}"),
    }
    let log = world.audit().await;
    assert!(log.contains("\"action\":\"alert-rule.set\""), "{log}");
    assert!(log.contains("\"action\":\"alert-rule.remove\""), "{log}");
}

#[actix_web::test]
async fn a_rule_names_no_fleet_that_its_reader_may_not_see() {
    let world = World::new().await;
    for (id, fleets) in [("both", &["demo", "spare"][..]), ("theirs", &["spare"])] {
        let fleets = fleets.iter().map(|fleet| fleet.parse().unwrap()).collect();
        let (kind, severity) = (Kind::Disk, Severity::Info);
        let rule = SetRule { kind, threshold: 80, severity, fleets, enabled: true };
        world.client.set_alert_rule(id, &rule).await.unwrap();
    }
    let viewer = program(&world, "viewer", &[role(Role::Viewer, Some("demo"))], None).await;
    let rules = client(&world, viewer.token.expose()).alert_rules().await.unwrap();
    let named: Vec<_> = rules.iter().filter(|status| !status.rule.fleets.is_empty()).collect();
    assert_eq!(named.len(), 1, "{named:?}");
    assert_eq!((named[0].rule.id.as_str(), named[0].rule.fleets[0].as_str()), ("both", "demo"));
    assert_eq!(named[0].rule.fleets.len(), 1);
    assert!(rules.iter().any(|status| status.is_shipped), "rules of all fleets are seen");
    let api = world.server.addresses.api;
    let url = |id: &str| format!("http://{api}/api/v1/alert-rules/{id}");
    let get = |id: &str| reqwest::Client::new().get(url(id)).bearer_auth(viewer.token.expose());
    assert_eq!(get("theirs").send().await.unwrap().status(), 404);
    let both = get("both").send().await.unwrap().text().await.unwrap();
    assert!(both.contains("demo") && !both.contains("spare"), "{both}");
}

#[actix_web::test]
async fn an_operator_of_another_fleet_neither_sees_nor_changes_an_alert() {
    let world = World::new().await;
    plant(&world).await;
    let here = program(&world, "here", &[role(Role::Operator, Some("demo"))], None).await;
    let there = program(&world, "there", &[role(Role::Operator, Some("spare"))], None).await;
    let viewer = program(&world, "viewer", &[role(Role::Viewer, Some("demo"))], None).await;
    let status = |token: &str| {
        let client = client(&world, token);
        async move {
            match client.acknowledge_alert("alert-a", "mine").await {
                Err(ClientError::Refused(problem)) => problem.status,
                Ok(_) => 200,
                Err(other) => panic!("{other}"),
            }
        }
    };
    assert_eq!(status(there.token.expose()).await, 404);
    assert_eq!(status(viewer.token.expose()).await, 403);
    assert_eq!(status(here.token.expose()).await, 200);
    assert_eq!(status(here.token.expose()).await, 409);
    let silence = |fleet: Option<&str>| CreateSilence {
        rule: None,
        fleet: fleet.map(|f| f.parse().unwrap()),
        device: None,
        from_s: None,
        valid_s: 3600,
        reason: "because".into(),
    };
    let here = client(&world, here.token.expose());
    for (fleet, may) in [(Some("demo"), true), (Some("spare"), false), (None, false)] {
        assert_eq!(here.add_silence(&silence(fleet)).await.is_ok(), may, "{fleet:?}");
    }
    assert_eq!(here.silences().await.unwrap().len(), 1, "only those of its fleet");
    assert!(here.remove_silence("silence-a").await.is_err());
    let log = world.audit().await;
    assert!(log.contains("\"action\":\"alert.acknowledge\",\"actor\":\"here (token "), "{log}");
    assert!(log.contains("\"action\":\"silence.add\""), "{log}");
}

#[actix_web::test]
async fn an_alarm_of_the_server_is_an_alert_and_another_alarm_cannot_hide_behind_it() {
    let world = World::new().await;
    let device = world.enroll().await;
    let cx = &world.server.control;
    devices::received(cx, &device.id, Up::Report, b"{").await.unwrap_err();
    let raised = of_devices(&world).await.pop().unwrap();
    assert_eq!((raised.rule.as_str(), raised.state), ("alarm", State::Open));
    assert!(raised.detail.starts_with("reports_refused: "), "{raised:?}");
    world.client.acknowledge_alert(&raised.id, "a new agent").await.unwrap();
    let mut tx = cx.db.write().await.unwrap();
    alerts::alarmed(cx, &mut tx, &device.id, "certificate_shared: two clients").await.unwrap();
    tx.commit().await.unwrap();
    let now = of_devices(&world).await.pop().unwrap();
    assert_eq!((&now.id, now.state), (&raised.id, State::Open));
    assert!(now.detail.starts_with("certificate_shared: "), "{now:?}");
}

#[actix_web::test]
async fn the_alerts_of_a_device_move_with_it() {
    let world = World::new().await;
    let device = world.enroll().await;
    let cx = &world.server.control;
    devices::received(cx, &device.id, Up::Report, b"{").await.unwrap_err();
    let moved = UpdateOrder::Move { fleet: "spare".parse().unwrap(), reason: "sold".into() };
    world.client.order_updates(&device.id, &moved).await.unwrap();
    let mut tx = cx.db.write().await.unwrap();
    alerts::alarmed(cx, &mut tx, &device.id, "reports_refused: again").await.unwrap();
    tx.commit().await.unwrap();
    let now = of_devices(&world).await.pop().unwrap();
    assert_eq!(now.fleet, Some("spare".parse().unwrap()));
}

#[actix_web::test]
async fn a_revoked_device_raises_no_alerts_and_its_alerts_end() {
    let (world, ahead) = lifetimes::world().await;
    let device = world.enroll().await;
    later(&ahead, 3700);
    look(&world).await;
    assert_eq!(open(&world).await.len(), 1);
    world.client.revoke_device(&device.id, RevocationReason::KeyCompromise).await.unwrap();
    assert_eq!(of_devices(&world).await, []);
    later(&ahead, 8 * 86_400);
    look(&world).await;
    assert_eq!(of_devices(&world).await, []);
}

#[actix_web::test]
async fn the_pages_show_alerts_and_take_what_an_operator_does() {
    let world = World::new().await;
    let device = world.enroll().await;
    plant(&world).await;
    let browser = Browser::new(&world);
    let admin = browser.sign_in(&world).await;
    let page = browser.get("/alerts", &admin).await.text().await.unwrap();
    assert!(page.contains("Data partition full") && page.contains("Save rule"), "{page}");
    let acknowledged = browser.post("/alerts/alert-a/acknowledge", &admin, OURS, "note=mine").await;
    assert_eq!(acknowledged.status(), 303);
    let page = browser.get("/alerts/alert-a", &admin).await.text().await.unwrap();
    assert!(page.contains("acknowledged") && page.contains("mine"), "{page}");
    let form = "kind=disk&threshold=70&severity=critical&fleets=demo&enabled=1";
    assert_eq!(browser.post("/alerts/rules/disk", &admin, OURS, form).await.status(), 303);
    let rules = world.client.alert_rules().await.unwrap();
    let disk = rules.iter().find(|status| status.rule.id == "disk").unwrap();
    assert_eq!((disk.rule.threshold, disk.rule.fleets.len()), (70, 1));
    assert_eq!(browser.post("/alerts/rules/disk/reset", &admin, OURS, "").await.status(), 303);
    let form = format!("rule=&fleet=&device={}&after_hours=1&hours=2&reason=moving", device.id);
    assert_eq!(browser.post("/alerts/silences", &admin, OURS, &form).await.status(), 303);
    let page = browser.get("/alerts", &admin).await.text().await.unwrap();
    assert!(page.contains(&format!("every rule of device {}", device.id)), "{page}");
    let remove = "/alerts/silences/silence-a/remove";
    assert_eq!(browser.post(remove, &admin, OURS, "").await.status(), 303);
    assert_eq!(world.client.silences().await.unwrap().len(), 1);
}

#[actix_web::test]
async fn a_device_has_a_past_and_its_drift_is_shown_until_it_ends() {
    let (world, ahead) = lifetimes::world().await;
    let device = world.enroll().await;
    let begin_s = world.server.control.now_s();
    reports(&world, &device, 1, update::State::Idle).await;
    reports(&world, &device, 2, update::State::Idle).await;
    let states = |from_s, until_s| {
        let query = HistoryQuery { from_s: Some(from_s), until_s };
        let world = &world;
        let id = device.id.clone();
        async move { world.client.history(&id, &query).await.unwrap().states }
    };
    assert_eq!(states(0, None).await.len(), 1, "a row only for a change");
    later(&ahead, 1000);
    let mut tx = world.server.control.db.write().await.unwrap();
    let release = "kiosk@2".parse().unwrap();
    store::desired::set_desired(&mut tx, std::slice::from_ref(&device.id), Some(&release))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    reports(&world, &device, 3, update::State::Idle).await;
    let drift = world.client.drift(&device.id).await.unwrap();
    assert_eq!(drift.severity, Some(Severity::Warning), "{drift:?}");
    assert_eq!(drift.differences[0].expected, "kiosk@2");
    assert!(drift.since_s.unwrap() >= begin_s + 1000);
    let found = async |filter: &str, fleet: &str| {
        let (filter, fleet) = (filter.to_owned(), fleet.parse().unwrap());
        let cx = &world.server.control;
        let wanted =
            Wanted { fleet: Some(&fleet), filter: &filter, is_drifting: true, after: "", limit: 9 };
        search::list(cx, &Actor::of_process("test"), wanted).await.unwrap().len()
    };
    assert_eq!((found("", "demo").await, found("version<2", "demo").await), (1, 1));
    assert_eq!((found("version=2", "demo").await, found("version<2", "other").await), (0, 0));
    let browser = Browser::new(&world);
    let admin = browser.sign_in(&world).await;
    let page = browser.get(&format!("/devices/{}", device.id), &admin).await.text().await.unwrap();
    assert!(page.contains("expected kiosk@2, found kiosk@1"), "{page}");
    later(&ahead, 7 * 86_400 + 1);
    look(&world).await;
    assert!(open(&world).await.iter().any(|alert| alert.kind == Kind::Drift));

    let mut report: serde_json::Value =
        serde_json::from_slice(&report_of("kiosk@2", update::State::Idle)).unwrap();
    (report["sequence"], report["epoch"]) = (4.into(), "e".into());
    sends(&world, &device.id, Up::Report, report.to_string().as_bytes()).await;
    assert_eq!(of_devices(&world).await, []);
    assert_eq!(world.client.drift(&device.id).await.unwrap().since_s, None);
    let all = states(0, None).await;
    let ran: Vec<_> = all.iter().map(|s| s.running.as_ref().unwrap().to_string()).collect();
    assert_eq!(ran, ["kiosk@2", "kiosk@1"]);
    let tuesday = states(begin_s + 500, Some(begin_s + 600)).await;
    assert_eq!(tuesday, all[1..], "what it ran then");

    for (n, used) in [(0, 10), (1, 30)] {
        let telemetry = json!({"uptime_s": n, "load_milli": 100, "memory_used_kib": used,
            "memory_total_kib": 100, "data_used_kib": 5, "data_total_kib": 10});
        sends(&world, &device.id, Up::Telemetry, telemetry.to_string().as_bytes()).await;
        later(&ahead, 60);
    }
    let query = HistoryQuery::default();
    let metrics = world.client.history(&device.id, &query).await.unwrap().metrics;
    let samples: u64 = metrics.iter().map(|hour| hour.samples).sum();
    assert_eq!(samples, 2);
    assert!(metrics.iter().all(|hour| hour.data_percent == 50 && !hour.points.is_empty()));
    // The login session ended days ago.
    let admin = browser.sign_in(&world).await;
    let page = browser.get(&format!("/devices/{}", device.id), &admin).await.text().await.unwrap();
    assert!(page.contains("<polyline") && page.contains("Whole timeline"), "{page}");

    later(&ahead, 2 * 86_400);
    history::tidy(&world.server.control).await.unwrap();
    let metrics = world.client.history(&device.id, &query).await.unwrap().metrics;
    assert!(metrics.iter().all(|hour| hour.points.is_empty() && hour.span_s == 3600));
    later(&ahead, 31 * 86_400);
    history::tidy(&world.server.control).await.unwrap();
    let metrics = world.client.history(&device.id, &query).await.unwrap().metrics;
    assert!(metrics.iter().all(|day| day.span_s == 86_400) && !metrics.is_empty());
    assert_eq!(metrics.iter().map(|day| day.samples).sum::<u64>(), 2);
    assert_eq!(metrics.iter().map(|day| day.memory_percent_max).max(), Some(30));
    later(&ahead, 400 * 86_400);
    history::tidy(&world.server.control).await.unwrap();
    assert_eq!(world.client.history(&device.id, &query).await.unwrap().metrics, []);
}
