//! Names, notes, labels, filters, saved views and changes of many devices, over the API.

use crate::accounts::{client, program, role};
use crate::contract::Row;
use crate::world::World;
use fleeti_client::{Client, ClientError};
use fleeti_core::id::LabelKey;
use fleeti_core::wire::accounts::Role;
use fleeti_core::wire::alerts::CreateSilence;
use fleeti_core::wire::api::RevocationReason;
use fleeti_core::wire::labels::{
    About, Change, ChangeDevices, ChangeLabels, ImportLabels, ImportRow, LABELS_MAX, LabelType,
};
use fleeti_core::wire::problem::{Code, Problem};
use fleeti_core::wire::updates::UpdateOrder;
use serde_json::json;
use std::collections::BTreeMap;

/// Rows of the contract test.
pub fn rows() -> Vec<Row> {
    let unlabel = json!({"type": "unlabel", "key": "site"});
    let change = json!({"filter": "site=bonn", "change": unlabel});
    let many = json!({"filter": "site=bonn", "change": unlabel, "expected": 7});
    let one = json!({"filter": "site=bonn", "change": unlabel, "expected": 1});
    let import = json!({"rows": [{"line": 2, "device": "desk", "labels": {"site": "bonn"}}]});
    vec![
        ("declare_label_key", &[], Some(json!({"of": {"type": "text"}})), 200),
        ("list_label_keys", &[], None, 200),
        ("describe_device", &[], Some(json!({"name": "desk"})), 200),
        ("change_labels", &[], Some(json!({"set": {"site": "berlin"}})), 200),
        ("declare_label_key", &[], Some(json!({"of": {"type": "number"}})), 409),
        ("remove_label_key", &[], None, 409),
        ("import_labels", &[], Some(import), 200),
        ("change_devices", &[], Some(change), 200),
        ("change_devices", &[], Some(many), 409),
        ("change_devices", &[], Some(one), 200),
        ("remove_label_key", &[], None, 204),
        ("save_view", &[], Some(json!({"filter": "desk"})), 200),
        ("get_view", &[], None, 200),
        ("list_views", &[], None, 200),
        ("remove_view", &[], None, 204),
        ("replace_device", &[], Some(json!({"with": "nobody"})), 404),
    ]
}

fn key(text: &str) -> LabelKey {
    text.parse().unwrap()
}

fn problem<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Problem {
    match result {
        Err(ClientError::Refused(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

fn is(problem: &Problem, code: Code) -> bool {
    problem.kind.ends_with(code.as_str())
}

fn set(labels: &[(&str, &str)]) -> ChangeLabels {
    let label = |(name, value): &(&str, &str)| (key(name), (*value).to_owned());
    ChangeLabels { set: labels.iter().map(label).collect(), remove: vec![] }
}

async fn declare(client: &Client) {
    let choice = LabelType::Choice { values: vec!["berlin".into(), "bonn".into()] };
    for (name, of) in [("site", choice), ("floor", LabelType::Number)] {
        client.declare_label_key(&key(name), of).await.unwrap();
    }
}

async fn ids(client: &Client, filter: &str) -> Vec<String> {
    let found = client.devices_of(filter).await.unwrap();
    found.into_iter().map(|device| device.id.to_string()).collect()
}

fn row(line: u32, device: &str, labels: &[(&str, &str)]) -> ImportRow {
    let ChangeLabels { set: labels, .. } = set(labels);
    ImportRow { line, device: device.to_owned(), name: None, note: None, labels }
}

fn change(filter: &str, change: Change, expected: Option<u64>) -> ChangeDevices {
    ChangeDevices { filter: filter.to_owned(), change, expected, confirm: None }
}

#[actix_web::test]
async fn a_label_is_refused_by_the_name_of_its_key_and_nothing_is_stored() {
    let world = World::new().await;
    let (client, device) = (&world.client, world.enroll().await);
    declare(client).await;
    for (labels, said) in [
        (&[("site", "berlin"), ("colour", "red")][..], "there is no label key colour"),
        (&[("site", "ulm")], "label site: \"ulm\" is not one of berlin, bonn"),
        (&[("floor", "03")], "label floor: \"03\" is not a whole number"),
        (&[("floor", "")], "label floor"),
    ] {
        let refused = problem(client.change_labels(&device.id, &set(labels)).await);
        assert!(is(&refused, Code::Invalid) && refused.detail.contains(said), "{refused:?}");
    }
    assert!(client.device(&device.id).await.unwrap().labels.is_empty());
    // A key that means something in the language is none.
    let taken = problem(client.declare_label_key(&key("version"), LabelType::Text).await);
    assert!(is(&taken, Code::Invalid), "{taken:?}");
    client.change_labels(&device.id, &set(&[("site", "bonn")])).await.unwrap();
    let smaller = LabelType::Choice { values: vec!["berlin".into()] };
    let used = problem(client.declare_label_key(&key("site"), smaller).await);
    assert!(is(&used, Code::Conflict) && used.detail.contains("bonn"), "{used:?}");
    let larger = LabelType::Choice { values: vec!["berlin".into(), "bonn".into(), "ulm".into()] };
    client.declare_label_key(&key("site"), larger).await.unwrap();
    client.change_labels(&device.id, &set(&[("site", "ulm")])).await.unwrap();
}

#[actix_web::test]
async fn a_device_has_a_bounded_number_of_labels() {
    let world = World::new().await;
    let (client, device) = (&world.client, world.enroll().await);
    let names: Vec<_> = (0..=LABELS_MAX).map(|n| format!("key{n}")).collect();
    for name in &names {
        client.declare_label_key(&key(name), LabelType::Text).await.unwrap();
    }
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), "a")).collect();
    let refused = problem(client.change_labels(&device.id, &set(&all)).await);
    assert!(is(&refused, Code::Conflict), "{refused:?}");
    assert!(client.device(&device.id).await.unwrap().labels.is_empty());
    client.change_labels(&device.id, &set(&all[1..])).await.unwrap();
    let one_more = Change::Label { key: key("key0"), value: "a".into() };
    let refused = problem(client.change_devices(&change("key1=a", one_more, Some(1))).await);
    assert!(is(&refused, Code::Conflict), "{refused:?}");
}

#[actix_web::test]
async fn a_filter_finds_devices_and_an_error_says_its_column() {
    let world = World::new().await;
    let client = &world.client;
    let (a, b) = (world.enroll().await, world.enroll().await);
    declare(client).await;
    client.change_labels(&a.id, &set(&[("site", "berlin"), ("floor", "3")])).await.unwrap();
    client.change_labels(&b.id, &set(&[("site", "bonn")])).await.unwrap();
    let about = About { name: Some("Front Desk".into()), note: Some("two\nlines".into()) };
    let shown = client.describe_device(&b.id, &about).await.unwrap();
    assert_eq!((shown.name, shown.note), (about.name, about.note));
    assert_eq!(ids(client, "site=berlin and floor<4").await, [a.id.to_string()]);
    assert_eq!(ids(client, "desk").await, [b.id.to_string()]);
    assert_eq!(ids(client, "site in (berlin, bonn) and not revoked").await.len(), 2);
    assert!(ids(client, "last_seen>1d").await.is_empty());
    for (filter, column, said) in [
        ("site=berlin version<2", 13, "and or or"),
        ("revoked or sitee=berlin", 12, "write site"),
        ("site=ulm", 1, "berlin, bonn"),
    ] {
        let refused = problem(client.devices_of(filter).await);
        assert!(is(&refused, Code::Invalid), "{refused:?}");
        assert!(refused.detail.starts_with(&format!("column {column} ")), "{refused:?}");
        assert!(refused.errors[0].remedy.contains(said), "{refused:?}");
        let saved = problem(client.save_view(&"mine".parse().unwrap(), filter).await);
        assert_eq!(saved.detail, refused.detail);
    }
    let view = client.save_view(&"mine".parse().unwrap(), " site=bonn ").await.unwrap();
    assert_eq!(client.views().await.unwrap(), std::slice::from_ref(&view));
    assert_eq!(ids(client, &view.filter).await, [b.id.to_string()]);
}

#[actix_web::test]
async fn an_account_of_one_fleet_finds_and_changes_no_device_of_another() {
    let world = World::new().await;
    let (client, device) = (&world.client, world.enroll().await);
    declare(client).await;
    client.change_labels(&device.id, &set(&[("site", "berlin")])).await.unwrap();
    for (name, fleet, found) in [("here", "demo", 1), ("there", "other", 0)] {
        let grants = [crate::accounts::role(Role::Operator, Some(fleet))];
        let made = crate::accounts::program(&world, name, &grants, None).await;
        let url = format!("http://{}", world.server.addresses.api);
        let scoped = Client::new(&url, made.token.expose()).unwrap();
        assert_eq!(ids(&scoped, "site=berlin or not site=berlin").await.len(), found, "{name}");
        let unlabel = Change::Unlabel { key: key("site") };
        let seen = scoped.change_devices(&change("site=berlin", unlabel, None)).await.unwrap();
        assert_eq!(seen.devices, found as u64, "{name}");
        let rows = vec![row(2, device.id.as_str(), &[("site", "bonn")])];
        let imported = scoped.import_labels(&ImportLabels { rows, dry_run: true }).await;
        assert_eq!(imported.is_ok(), found == 1, "{name}");
    }
}

#[actix_web::test]
async fn an_import_with_one_unknown_device_stores_nothing_and_names_it() {
    let world = World::new().await;
    let (client, device) = (&world.client, world.enroll().await);
    declare(client).await;
    let good = row(2, device.id.as_str(), &[("site", "berlin")]);
    let wrong = vec![
        good.clone(),
        row(3, "serial-4711", &[("site", "bonn")]),
        row(4, device.id.as_str(), &[("floor", "high")]),
    ];
    let refused =
        problem(client.import_labels(&ImportLabels { rows: wrong, dry_run: false }).await);
    let said: Vec<_> =
        refused.errors.iter().map(|e| format!("{}: {}", e.path, e.message)).collect();
    assert_eq!(
        said,
        [
            "line 3: there is no device \"serial-4711\"".to_owned(),
            format!("line 4: \"{}\" is in an earlier row", device.id),
            "line 4: label floor: \"high\" is not a whole number such as 12".to_owned(),
        ]
    );
    assert!(client.device(&device.id).await.unwrap().labels.is_empty());
    let mut rows = vec![ImportRow { name: Some("Desk".into()), ..good }];
    let dry = client.import_labels(&ImportLabels { rows: rows.clone(), dry_run: true }).await;
    let dry = dry.unwrap();
    assert_eq!((dry.devices, dry.changed, dry.stored), (1, 1, false));
    assert_eq!(client.device(&device.id).await.unwrap().name, None);
    let stored = client.import_labels(&ImportLabels { rows: rows.clone(), dry_run: false }).await;
    assert!(stored.unwrap().stored);
    let again = client.import_labels(&ImportLabels { rows: rows.clone(), dry_run: false }).await;
    assert_eq!(again.unwrap().changed, 0);
    // By its name; an empty value removes.
    rows[0] = row(2, "Desk", &[("site", "")]);
    client.import_labels(&ImportLabels { rows, dry_run: false }).await.unwrap();
    let shown = client.device(&device.id).await.unwrap();
    assert_eq!((shown.name.as_deref(), shown.labels), (Some("Desk"), BTreeMap::new()));
}

#[actix_web::test]
async fn a_change_of_all_devices_of_a_filter_needs_their_number_and_a_revocation_its_phrase() {
    let world = World::new().await;
    let client = &world.client;
    let (a, b) = (world.enroll().await, world.enroll().await);
    declare(client).await;
    client.change_labels(&a.id, &set(&[("site", "berlin")])).await.unwrap();
    let label = || Change::Label { key: key("floor"), value: "7".into() };
    let empty = problem(client.change_devices(&change(" ", label(), None)).await);
    assert!(is(&empty, Code::Invalid), "{empty:?}");
    let seen = client.change_devices(&change("site=berlin", label(), None)).await.unwrap();
    assert_eq!((seen.devices, seen.first.as_slice(), seen.done), (1, &[a.id.clone()][..], false));
    let other = problem(client.change_devices(&change("site=berlin", label(), Some(2))).await);
    assert!(is(&other, Code::Conflict) && other.detail.contains("1 device now, not 2"));
    assert!(ids(client, "floor=7").await.is_empty());
    client.change_devices(&change("site=berlin", label(), Some(1))).await.unwrap();
    assert_eq!(ids(client, "floor=7").await, [a.id.to_string()]);
    let revoke = Change::Revoke { reason: RevocationReason::CessationOfOperation };
    let mut request = change("site=berlin", revoke, Some(1));
    for confirm in [None, Some("revoke 2 devices"), Some("yes")] {
        request.confirm = confirm.map(str::to_owned);
        let refused = problem(client.change_devices(&request).await);
        assert!(is(&refused, Code::Invalid) && refused.detail.contains("revoke 1 device"));
    }
    request.confirm = Some("revoke 1 device".into());
    client.change_devices(&request).await.unwrap();
    assert_eq!(ids(client, "revoked").await, [a.id.to_string()]);
    assert_eq!(ids(client, "not revoked").await, [b.id.to_string()]);
    let http = world.https((*a.tls).clone());
    let asked = http.get(world.url("/desired")).send().await;
    assert!(!asked.is_ok_and(|response| response.status() == 200));
}

#[actix_web::test]
async fn new_hardware_takes_the_name_and_the_labels_and_nothing_that_was_proved() {
    let world = World::new().await;
    let client = &world.client;
    let (old, new, third) = (world.enroll().await, world.enroll().await, world.enroll().await);
    declare(client).await;
    client.change_labels(&old.id, &set(&[("site", "berlin")])).await.unwrap();
    client.change_labels(&new.id, &set(&[("floor", "1")])).await.unwrap();
    let about = About { name: Some("Desk".into()), note: None };
    client.describe_device(&old.id, &about).await.unwrap();
    let itself = problem(client.replace_device(&old.id, &old.id).await);
    assert!(is(&itself, Code::Conflict), "{itself:?}");
    let before = client.device(&new.id).await.unwrap();
    let after = client.replace_device(&old.id, &new.id).await.unwrap();
    assert_eq!(after.name.as_deref(), Some("Desk"));
    assert_eq!(after.labels, BTreeMap::from([(key("site"), "berlin".to_owned())]));
    assert_eq!(after.certificate_sha256, before.certificate_sha256);
    let gone = client.device(&old.id).await.unwrap();
    assert!(gone.revoked && gone.labels.is_empty() && gone.name.is_none());
    assert_eq!(gone.replaced_by.as_ref(), Some(&new.id));
    // Again is harmless, another one is refused.
    client.replace_device(&old.id, &new.id).await.unwrap();
    let other = problem(client.replace_device(&old.id, &third.id).await);
    assert!(is(&other, Code::Conflict) && other.detail.contains("already"), "{other:?}");
    let revoked = problem(client.replace_device(&third.id, &old.id).await);
    assert!(is(&revoked, Code::Conflict), "{revoked:?}");
}

#[actix_web::test]
async fn a_device_of_another_fleet_does_not_exist_for_whoever_may_not_see_it() {
    let world = World::new().await;
    let (old, other) = (world.enroll().await, world.enroll().await);
    let moved = UpdateOrder::Move { fleet: "spare".parse().unwrap(), reason: "sold".into() };
    world.client.order_updates(&other.id, &moved).await.unwrap();
    let here = [role(Role::Operator, Some("demo"))];
    let here = client(&world, program(&world, "here", &here, None).await.token.expose());
    let refused = problem(here.replace_device(&old.id, &other.id).await);
    assert!(is(&refused, Code::NotFound) && !refused.detail.contains("spare"), "{refused:?}");
    let silence = CreateSilence {
        rule: None,
        fleet: None,
        device: Some(other.id.clone()),
        from_s: None,
        valid_s: 3600,
        reason: "because".into(),
    };
    let refused = problem(here.add_silence(&silence).await);
    assert!(is(&refused, Code::NotFound) && !refused.detail.contains("spare"), "{refused:?}");
}
