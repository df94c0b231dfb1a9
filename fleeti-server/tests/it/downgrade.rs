//! The downgrade of one device: an act of its own, back to what its other slot has, never below a floor.

use crate::pages::{Browser, OURS};
use crate::peer::Peer;
use crate::rollout::{next_desired, publish_release, report, start};
use crate::world::{TestDevice, World};
use fleeti_client::ClientError;
use fleeti_core::id::ReleaseName;
use fleeti_core::rollout::Phase;
use fleeti_core::rollout::gates::{Gate, ReleasePath, Source};
use fleeti_core::update::State;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::updates::{UpdateOrder, Why};

fn to(release: &str) -> UpdateOrder {
    UpdateOrder::Downgrade { release: release.parse().unwrap(), reason: "loses sound".into() }
}

async fn order(world: &World, device: &TestDevice, order: UpdateOrder) -> Result<Why, ClientError> {
    world.client.order_updates(&device.id, &order).await
}

/// Why an order is refused.
async fn refused(
    world: &World,
    device: &TestDevice,
    wanted: UpdateOrder,
) -> (Option<Code>, String) {
    let e = order(world, device, wanted).await.unwrap_err();
    (e.code(), e.to_string())
}

async fn floor(world: &World, is_on: bool) {
    let path = ReleasePath { floor: is_on.then(|| "new data format".into()), blocked: vec![] };
    let release: ReleaseName = "kiosk@2".parse().unwrap();
    world.client.set_release_path(&release, &path).await.unwrap();
}

/// A device that came with `kiosk@1`, and runs `kiosk@2` by a rollout.
async fn world() -> (World, TestDevice) {
    let world = World::new().await;
    for release in ["kiosk@1", "kiosk@1.5", "kiosk@2", "kiosk@3"] {
        publish_release(&world, release).await;
    }
    let device = world.enroll().await;
    report(&world, &device, "kiosk@1", State::Idle).await;
    let rollout = world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    report(&world, &device, "kiosk@2", State::Idle).await;
    let ended = world.client.rollout(&rollout.id).await.unwrap();
    assert_eq!(ended.phase, Phase::Succeeded);
    (world, device)
}

#[actix_web::test]
async fn a_device_goes_back_by_this_act_alone_and_its_fleet_stays() {
    let (world, device) = world().await;
    // A pin is no way down.
    let pin = UpdateOrder::Pin { release: "kiosk@1".parse().unwrap(), reason: "lab".into() };
    let pinned = order(&world, &device, pin).await.unwrap();
    assert_eq!(
        (pinned.first, pinned.desired),
        (Some(Gate::Version), Some("kiosk@2".parse().unwrap()))
    );
    let why = order(&world, &device, to("kiosk@1")).await.unwrap();
    assert_eq!(why.target.unwrap().source, Source::Downgrade);
    assert_eq!(why.desired, Some("kiosk@1".parse().unwrap()));
    let mut peer = Peer::session(&world, &device).await;
    let mut desired = next_desired(&mut peer).await;
    while desired.release != Some("kiosk@1".parse().unwrap()) {
        desired = next_desired(&mut peer).await;
    }
    // An agent that knows no way back does nothing.
    assert!(desired.back && desired.critical.contains(&"back".to_owned()), "{desired:?}");
    drop(peer);
    report(&world, &device, "kiosk@1", State::Idle).await;
    let there = world.client.why(&device.id).await.unwrap();
    assert_eq!((there.first, there.desired), (Some(Gate::Runs), Some("kiosk@1".parse().unwrap())));
    let channel = world.client.channel(&"demo".parse().unwrap()).await.unwrap();
    assert_eq!(channel.release, Some("kiosk@2".parse().unwrap()));
    // The end of the pin is the end of the downgrade.
    let free = order(&world, &device, UpdateOrder::Unpin {}).await.unwrap();
    assert_eq!(free.desired, Some("kiosk@2".parse().unwrap()));
    let log = world.audit().await;
    assert!(log.contains("device.downgrade") && log.contains("loses sound"), "{log}");
}

#[actix_web::test]
async fn a_downgrade_is_refused_to_what_the_device_never_ran_or_must_not_run() {
    let (world, device) = world().await;
    for (release, code, text) in [
        ("kiosk@3", Code::Conflict, "is no lower version of its line"),
        ("kiosk@2", Code::Conflict, "is no lower version of its line"),
        ("kiosk@1.5", Code::Conflict, "never ran kiosk@1.5"),
        ("kiosk@0.1", Code::NotFound, "kiosk@0.1"),
    ] {
        let (found, said) = refused(&world, &device, to(release)).await;
        assert!(found == Some(code) && said.contains(text), "{release}: {said}");
    }
    let silent = UpdateOrder::Downgrade { release: "kiosk@1".parse().unwrap(), reason: " ".into() };
    assert_eq!(refused(&world, &device, silent).await.0, Some(Code::Invalid));
    floor(&world, true).await;
    let (_, said) = refused(&world, &device, to("kiosk@1")).await;
    assert!(said.contains("kiosk@1 is below kiosk@2, a floor: new data format"), "{said}");
    floor(&world, false).await;
    // A rollout has the device.
    world.client.start_rollout(&start("kiosk@3")).await.unwrap();
    let (_, said) = refused(&world, &device, to("kiosk@1")).await;
    assert!(said.contains("which has not ended"), "{said}");
    let revoked: ReleaseName = "kiosk@1".parse().unwrap();
    world.client.revoke_release(&revoked).await.unwrap();
    assert!(refused(&world, &device, to("kiosk@1")).await.1.contains("is revoked"));
}

/// A floor that is declared after the act stands as well.
#[actix_web::test]
async fn a_floor_that_is_declared_later_takes_the_downgrade_back() {
    let (world, device) = world().await;
    order(&world, &device, to("kiosk@1")).await.unwrap();
    floor(&world, true).await;
    report(&world, &device, "kiosk@2", State::Idle).await;
    let why = world.client.why(&device.id).await.unwrap();
    assert_eq!((why.first, why.desired), (Some(Gate::Version), None));
}

/// What the page of the device offers.
async fn offered(browser: &Browser, session: &str, device: &TestDevice) -> Option<String> {
    let page = browser.get(&format!("/devices/{}", device.id), session).await;
    let text = page.text().await.unwrap();
    let button = text.split("Put back to ").nth(1)?;
    Some(button.split('<').next().unwrap().to_owned())
}

#[actix_web::test]
async fn the_page_of_a_device_offers_the_way_back_that_is_not_refused() {
    let (world, device) = world().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    // Not kiosk@1.5, which it never ran.
    assert_eq!(offered(&browser, &session, &device).await.as_deref(), Some("kiosk@1"));
    floor(&world, true).await;
    assert_eq!(offered(&browser, &session, &device).await, None, "it is below a floor");
    floor(&world, false).await;
    let path = format!("/devices/{}/updates", device.id);
    let back = "type=downgrade&release=kiosk%401&reason=loses+sound";
    let sent = browser.post(&path, &session, OURS, back).await;
    assert_eq!(sent.status(), 303);
    let why = world.client.why(&device.id).await.unwrap();
    assert_eq!(why.target.unwrap().source, Source::Downgrade);
    assert_eq!(offered(&browser, &session, &device).await, None, "it goes back");
    order(&world, &device, UpdateOrder::Unpin {}).await.unwrap();
    world.client.revoke_release(&"kiosk@1".parse().unwrap()).await.unwrap();
    assert_eq!(offered(&browser, &session, &device).await, None, "kiosk@1 is revoked");
}
