//! Pages of devices: text of devices is never markup.

use super::{Browser, OURS};
use crate::rollout::report_of;
use crate::world::World;
use fleeti_core::update::{FailureCode, RollbackReason, State};
use fleeti_core::wire::alarm::AlarmKind;

#[tokio::test]
async fn what_a_device_says_is_never_markup() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let device = world.enroll().await;
    let attack = "<script>alert(1)</script>\"'><img src=x>";
    let states = [
        State::RolledBack {
            target: "2".parse().unwrap(),
            reason: RollbackReason::Health { evidence: attack.into() },
        },
        State::Failed { target: "2".parse().unwrap(), code: FailureCode::StageFailed },
    ];
    for (sequence, state) in states.into_iter().enumerate() {
        let mut report: serde_json::Value =
            serde_json::from_slice(&report_of("kiosk@1", state)).unwrap();
        report["sequence"] = (sequence as u64 + 1).into();
        report["boot"]["boot_id"] = attack.into();
        report["boot"]["pcr11"] = attack.into();
        report["detail"] = attack.into();
        let payload = serde_json::to_vec(&report).unwrap();
        let kind = fleeti_core::wire::mqtt::Up::Report;
        fleeti_control::devices::received(&world.server.control, &device.id, kind, &payload)
            .await
            .unwrap();
        for page in [
            "/".to_owned(),
            "/devices".to_owned(),
            format!("/devices/{}", device.id),
            "/devices?trouble=1".to_owned(),
        ] {
            let response = browser.get(&page, &session).await;
            assert_eq!(response.status(), 200);
            let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
            assert!(
                policy.contains("default-src 'self'") && !policy.contains("unsafe"),
                "{policy}"
            );
            let body = response.text().await.unwrap();
            assert!(!body.contains("<script>alert") && !body.contains("<img src=x"), "{page}");
            assert!(body.contains(device.id.as_str()), "{page}");
        }
    }
}

#[tokio::test]
async fn the_page_of_a_device_says_what_to_do_about_its_kind_of_alarm() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let device = world.enroll().await;
    let mut report: serde_json::Value =
        serde_json::from_slice(&report_of("kiosk@1", State::Idle)).unwrap();
    let unknown = ("the fan stopped".to_owned(), "the fan stopped", None);
    let known = AlarmKind::ALL.map(|kind| (kind.text("it is so"), "it is so", Some(kind)));
    for (sequence, (alarm, words, kind)) in (1_u64..).zip(known.into_iter().chain([unknown])) {
        report["sequence"] = sequence.into();
        report["alarm"] = alarm.into();
        let payload = serde_json::to_vec(&report).unwrap();
        let report = fleeti_core::wire::mqtt::Up::Report;
        fleeti_control::devices::received(&world.server.control, &device.id, report, &payload)
            .await
            .unwrap();
        let page = browser.get(&format!("/devices/{}", device.id), &session).await;
        let page = page.text().await.unwrap();
        assert!(page.contains(&format!("There is an alarm: {words}.")), "{page}");
        for other in AlarmKind::ALL {
            let hint = other.hint().replace("DEVICE", device.id.as_str());
            assert_eq!(page.contains(&hint), kind == Some(other), "{other:?}: {page}");
        }
    }
}

#[tokio::test]
async fn the_list_shows_the_devices_of_a_filter_and_points_at_its_error() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    let post = async |path: &str, body: &str| {
        let response = browser.post(path, &session, OURS, body).await;
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let about = format!("/devices/{}/about", a.id);
    let (status, _) = post(&about, "name=%3Cb%3EDesk&note=two%0D%0Alines").await;
    assert_eq!(status, 303);
    let page = async |path: &str| browser.get(path, &session).await.text().await.unwrap();
    let found = page("/devices?filter=%3Cb%3Edesk").await;
    assert!(found.contains("a test is missing") && !found.contains("<b>desk"), "{found}");
    let found = page("/devices?filter=desk").await;
    assert!(found.contains(a.id.as_str()) && !found.contains(b.id.as_str()), "{found}");
    assert!(!found.contains("<b>Desk") && found.contains("1 device that you may change"));
    let wrong = page("/devices?filter=desk+and+versoin%3C2").await;
    assert!(wrong.contains("\n         ^</pre>") && wrong.contains("write version"), "{wrong}");
    assert!(!wrong.contains(a.id.as_str()), "{wrong}");
    assert_eq!(post("/devices/views", "name=desks&filter=desk").await.0, 303);
    assert!(page("/devices").await.contains("href=\"/devices?filter=desk\""));
    let change =
        |confirm: &str| format!("filter=desk&expected=1&reason=unspecified&confirm={confirm}");
    assert_eq!(post("/devices/change", &change("yes")).await.0, 422);
    assert!(!world.client.device(&a.id).await.unwrap().revoked);
    assert_eq!(post("/devices/change", &change("revoke+1+device")).await.0, 303);
    assert!(world.client.device(&a.id).await.unwrap().revoked);
    assert!(!world.client.device(&b.id).await.unwrap().revoked);
    assert_eq!(post("/devices/views/desks/remove", "").await.0, 303);
}

#[tokio::test]
async fn the_page_of_a_device_says_why_it_gets_no_release_and_takes_orders() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let device = world.enroll().await;
    let path = format!("/devices/{}", device.id);
    let shown = async || browser.get(&path, &session).await.text().await.unwrap();
    assert!(shown().await.contains("its fleet has no release to run"));
    let order = format!("{path}/updates");
    let body = "type=hold&reason=%3Cb%3Eexhibition";
    assert_eq!(browser.post(&order, &session, OURS, body).await.status(), 303);
    let page = shown().await;
    assert!(page.contains("exhibition") && !page.contains("<b>exhibition"), "{page}");
    assert!(page.contains("Resume updates"), "{page}");
    assert_eq!(browser.post(&order, &session, OURS, "type=unhold").await.status(), 303);
    assert!(!shown().await.contains("Resume updates"));
    let body = "type=move&fleet=shop&reason=sold";
    assert_eq!(browser.post(&order, &session, OURS, body).await.status(), 303);
    assert!(shown().await.contains("/fleets/shop"));
    assert_eq!(browser.post(&order, &session, None, body).await.status(), 403);
}
