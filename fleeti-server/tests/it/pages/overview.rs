//! The overview, the page of enrollment, the timeline of a device, and what they offer to whom.

use super::{Browser, OURS};
use crate::accounts::{person, role};
use crate::lifetimes;
use crate::rollout::report_of;
use crate::trust::until;
use crate::world::World;
use fleeti_core::id::DeviceId;
use fleeti_core::update::State;
use fleeti_core::wire::accounts::{Grant, Role};
use fleeti_core::wire::mqtt::Up;
use std::sync::atomic::Ordering;

async fn reports(world: &World, device: &DeviceId, running: &str, boot: &str) {
    let mut report: serde_json::Value =
        serde_json::from_slice(&report_of(running, State::Idle)).unwrap();
    report["boot"]["boot_id"] = boot.into();
    let payload = serde_json::to_vec(&report).unwrap();
    let cx = &world.server.control;
    fleeti_control::devices::received(cx, device, Up::Report, &payload).await.unwrap();
}

async fn cookie(world: &World, name: &str, grants: &[Grant]) -> String {
    format!("fleeti_session={}", person(world, name, grants).await)
}

/// The forms of a page that change something.
fn forms(page: &str) -> Vec<String> {
    let posts = page
        .split("<form")
        .filter(|form| form.split('>').next().is_some_and(|tag| tag.contains("method=\"post\"")));
    posts
        .map(|form| {
            let action = form.split_once("action=\"").unwrap().1;
            action.split('"').next().unwrap().to_owned()
        })
        .collect()
}

#[actix_web::test]
async fn the_overview_counts_devices_and_links_to_their_lists() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let admin = browser.sign_in(&world).await;
    let empty = browser.get("/", &admin).await.text().await.unwrap();
    assert!(empty.contains("No device has enrolled yet") && empty.contains("href=\"/enroll\""));
    let (one, two) = (world.enroll().await, world.enroll().await);
    reports(&world, &one.id, "kiosk@1", "a").await;
    reports(&world, &two.id, "kiosk@2", "a").await;
    // The numbers are kept for a while, the longer the slower they are counted.
    let text = "aria-label=\"Releases: 1 kiosk@1, 1 kiosk@2\"";
    let has_numbers = async || browser.get("/", &admin).await.text().await.unwrap().contains(text);
    until("the numbers are counted again", has_numbers).await;
    let page = browser.get("/", &admin).await.text().await.unwrap();
    assert!(page.contains("Health: 2 healthy, 0 updating, 0 update failed, 0 alarm"), "{page}");
    let list = "/devices?filter=release%3Dkiosk%402%20and%20not%20revoked";
    assert!(page.contains(list), "{page}");
    let found = browser.get(list, &admin).await.text().await.unwrap();
    assert!(found.contains(two.id.as_str()) && !found.contains(one.id.as_str()), "{found}");
    for path in ["/devices?drifting=1", "/devices?drifting=1&fleet=demo", "/devices?trouble=1"] {
        assert_eq!(browser.get(path, &admin).await.status(), 200, "{path}");
    }
    // The search opens the only device that it finds.
    let found = browser.get(&format!("/devices?go=1&filter={}", one.id), &admin).await;
    assert_eq!(found.headers()["location"], format!("/devices/{}", one.id).as_str());
    assert_eq!(browser.get("/devices?go=1&filter=dev", &admin).await.status(), 200);
    // Who sees one fleet counts one fleet.
    let other = cookie(&world, "olga", &[role(Role::Operator, Some("other"))]).await;
    let drifting = browser.get("/devices?drifting=1&fleet=demo", &other).await;
    assert_eq!(drifting.status(), 403);
    let page = browser.get("/", &other).await.text().await.unwrap();
    assert!(!page.contains("kiosk@1") && !page.contains(one.id.as_str()), "{page}");
}

#[actix_web::test]
async fn nobody_is_offered_a_form_that_the_server_would_refuse() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let admin = browser.sign_in(&world).await;
    let device = world.enroll().await;
    reports(&world, &device.id, "kiosk@1", "a").await;
    let view = browser.post("/devices/views", &admin, OURS, "name=all&filter=dev").await;
    assert_eq!(view.status(), 303);
    let silence = "rule=&fleet=demo&device=&after_hours=0&hours=2&reason=test";
    assert_eq!(browser.post("/alerts/silences", &admin, OURS, silence).await.status(), 303);
    let pages = [
        "/".to_owned(),
        "/devices".to_owned(),
        "/devices?filter=dev".to_owned(),
        format!("/devices/{}", device.id),
        format!("/devices/{}/timeline", device.id),
        "/fleets/demo".to_owned(),
        "/alerts".to_owned(),
        "/profiles".to_owned(),
        "/builds".to_owned(),
        "/releases".to_owned(),
        "/rollouts".to_owned(),
        "/trust".to_owned(),
        "/audit".to_owned(),
        "/packages".to_owned(),
    ];
    let viewer = cookie(&world, "vera", &[role(Role::Viewer, None)]).await;
    for path in &pages {
        let page = browser.get(path, &viewer).await;
        assert_eq!(page.status(), 200, "{path}");
        let page = page.text().await.unwrap();
        assert_eq!(forms(&page), ["/signout"], "{path}");
        assert!(!page.contains("href=\"/users\"") && !page.contains("href=\"/enroll"), "{path}");
        let page = browser.get(path, &admin).await.text().await.unwrap();
        assert!(page.contains("href=\"/users\""), "{path}");
    }
    assert_eq!(browser.get("/enroll", &viewer).await.status(), 403);
    // An operator of the fleet is offered what this role permits, and nothing else.
    let operator = cookie(&world, "oscar", &[role(Role::Operator, Some("demo"))]).await;
    let path = format!("/devices/{}", device.id);
    let page = browser.get(&path, &operator).await.text().await.unwrap();
    let offered = forms(&page);
    for form in ["revoke", "updates", "about", "replace"] {
        assert!(offered.contains(&format!("{path}/{form}")), "{form} {offered:?}");
    }
    assert!(!offered.contains(&format!("{path}/recovery-key")), "{offered:?}");
    let fleet = browser.get("/fleets/demo", &operator).await.text().await.unwrap();
    assert!(fleet.contains("Set secret") && !fleet.contains("Save policy"), "{fleet}");
    assert!(fleet.contains(device.id.as_str()) && fleet.contains("Releases: 1 kiosk@1"), "{fleet}");
}

#[actix_web::test]
async fn a_record_is_created_for_a_fleet_that_the_operator_may_enroll_into() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let operator = cookie(&world, "oscar", &[role(Role::Operator, Some("demo"))]).await;
    let page = browser.get("/enroll?code=BCDF-GHJK&fleet=demo", &operator).await;
    let page = page.text().await.unwrap();
    assert!(page.contains("value=\"BCDF-GHJK\"") && page.contains("value=\"demo\""), "{page}");
    let attack = browser.get("/enroll?code=%22%3E%3Cscript%3E", &operator).await;
    assert!(!attack.text().await.unwrap().contains("<script>\""), "a code is never markup");
    let made = browser.post("/enroll", &operator, OURS, "fleet=demo&hours=1").await;
    assert_eq!(
        (made.status().as_u16(), &made.headers()["cache-control"]),
        (200, &"no-store".parse().unwrap())
    );
    let made = made.text().await.unwrap();
    assert!(made.contains("fleeti.enrollment=") && made.contains("class=\"qr\""), "{made}");
    for (form, site, status) in [
        ("fleet=other&hours=1", OURS, 403),
        ("fleet=demo&hours=0", OURS, 422),
        ("fleet=demo&hours=721", OURS, 422),
        ("fleet=demo&hours=1", None, 403),
    ] {
        let refused = browser.post("/enroll", &operator, site, form).await;
        assert_eq!(refused.status(), status, "{form}");
        assert!(!refused.text().await.unwrap().contains("fleeti.enrollment="), "{form}");
    }
}

#[actix_web::test]
async fn a_timeline_says_what_happened_newest_first() {
    let (world, ahead) = lifetimes::world().await;
    let browser = Browser::new(&world);
    let admin = browser.sign_in(&world).await;
    let device = world.enroll().await;
    let attack = "<script>alert(1)</script>";
    reports(&world, &device.id, "kiosk@1", attack).await;
    ahead.fetch_add(60, Ordering::SeqCst);
    reports(&world, &device.id, "kiosk@2", "b").await;
    ahead.fetch_add(60, Ordering::SeqCst);
    reports(&world, &device.id, "kiosk@2", "c").await;
    let path = format!("/devices/{}/timeline", device.id);
    let page = browser.get(&path, &admin).await.text().await.unwrap();
    let places: Vec<_> = ["Booted kiosk@2", "Runs kiosk@2", "First known state: kiosk@1"]
        .map(|text| page.find(text).unwrap_or_else(|| panic!("no {text:?} in {page}")))
        .into();
    assert!(places.is_sorted(), "{page}");
    assert!(!page.contains(attack), "{page}");
    let own = browser.get(&format!("/devices/{}", device.id), &admin).await.text().await.unwrap();
    assert!(own.contains("Runs kiosk@2"), "{own}");
    let older = browser.get(&format!("{path}?before=1"), &admin).await.text().await.unwrap();
    assert!(older.contains("Nothing older"), "{older}");
    assert_eq!(browser.get("/devices/dev-none/timeline", &admin).await.status(), 404);
    let other = cookie(&world, "olga", &[role(Role::Viewer, Some("other"))]).await;
    assert_eq!(browser.get(&path, &other).await.status(), 404);
}
