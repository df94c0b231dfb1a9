//! Builds with refreshed packages by a schedule.

use crate::audit::entries_with;
use crate::builds::request;
use crate::contract::Row;
use crate::pages::{Browser, OURS};
use crate::world::World;
use fleeti_control::builds::schedule::look;
use fleeti_control::clock::{Clock, now_s};
use fleeti_core::id::Line;
use fleeti_core::windows::Window;
use fleeti_core::wire::api::{Build, CreateBuild};
use fleeti_store::{self as store, sql};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows of the contract test.
pub fn rows() -> Vec<Row> {
    let window = json!({"window": "sat 02:00-05:00"});
    vec![
        ("get_refresh_schedule", &[], None, 404),
        ("set_refresh_schedule", &[], Some(window.clone()), 200),
        ("get_refresh_schedule", &[], None, 200),
        ("set_refresh_schedule", &[], Some(json!({"window": "saturday"})), 422),
        ("remove_refresh_schedule", &[], None, 204),
        ("remove_refresh_schedule", &[], None, 404),
        ("set_refresh_schedule", &[("line", "nothing")], Some(window), 404),
    ]
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// A server whose clock stands at a time of day, and the profile of a line.
async fn world() -> (World, Arc<AtomicU64>, Line) {
    let midnight = now_s() / DAY * DAY;
    let clock = Arc::new(AtomicU64::new(midnight + 12 * HOUR));
    let read = clock.clone();
    let world = World::with(move |config| {
        config.clock = Clock::of(move || read.load(Ordering::SeqCst));
    })
    .await;
    let profile = world.client.save_profile(&request("a").profile).await.unwrap();
    (world, clock, profile.line)
}

fn at_night() -> Window {
    "02:00-05:00".parse().unwrap()
}

async fn all(world: &World) -> Vec<Build> {
    world.client.builds().await.unwrap()
}

/// Ends a build, as its worker would.
async fn fail(world: &World, id: &str) {
    let mut tx = world.server.control.db.write().await.unwrap();
    let sql = "UPDATE builds SET phase = 'failed' WHERE id = $1";
    sql::query(sql).bind(id).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

#[actix_web::test]
async fn a_build_begins_once_each_time_that_the_window_opens() {
    let (world, clock, line) = world().await;
    let (cx, noon) = (&world.server.control, clock.load(Ordering::SeqCst));
    let set = world.client.set_refresh_schedule(&line, &at_night()).await.unwrap();
    assert_eq!((set.next_s, set.last), (noon + 14 * HOUR, None));
    look(cx).await.unwrap();
    assert!(all(&world).await.is_empty(), "nothing is due at noon");

    clock.store(set.next_s + 60, Ordering::SeqCst);
    look(cx).await.unwrap();
    look(cx).await.unwrap();
    let found = all(&world).await;
    let [build] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((build.release.to_string().as_str(), build.revision), ("kiosk@1", 1));
    let mut reader = cx.db.reader().await.unwrap();
    let asked = store::builds::request(&mut reader, &build.id).await.unwrap().unwrap();
    assert!(asked.request.refresh_lock);
    drop(reader);
    let next = world.client.refresh_schedule(&line).await.unwrap();
    assert_eq!(next.next_s, set.next_s + DAY);
    assert_eq!(next.last.unwrap().build.as_ref(), Some(&build.id));

    // The next one has the newest revision, and the next version.
    fail(&world, &build.id).await;
    world.client.save_profile(&request("b").profile).await.unwrap();
    clock.store(next.next_s, Ordering::SeqCst);
    look(cx).await.unwrap();
    let newest = all(&world).await.remove(0);
    assert_eq!((newest.release.to_string().as_str(), newest.revision), ("kiosk@2", 2));
    let log = entries_with(&world, "refresh-schedule.begin").await;
    let begun = log.iter().find(|e| e.act.action == "refresh-schedule.begin").unwrap();
    assert!(begun.act.actor.contains("server"), "{begun:?}");
    assert!(begun.act.subject.starts_with(&format!("kiosk {}", build.id)), "{begun:?}");
    assert!(log.iter().any(|e| e.act.action == "refresh-schedule.set"));
}

/// The reason why no build began the last time.
async fn problem(world: &World, line: &Line) -> String {
    let schedule = world.client.refresh_schedule(line).await.unwrap();
    schedule.last.and_then(|last| last.problem).unwrap_or_default()
}

#[actix_web::test]
async fn what_keeps_a_build_from_beginning_is_said_and_the_next_one_follows() {
    let (world, clock, line) = world().await;
    let cx = &world.server.control;
    let set = world.client.set_refresh_schedule(&line, &at_night()).await.unwrap();

    // The server did not run at night.
    clock.store(set.next_s + 12 * HOUR, Ordering::SeqCst);
    look(cx).await.unwrap();
    assert!(all(&world).await.is_empty());
    assert_eq!(problem(&world, &line).await, "no build could begin while the window was open");
    let next = world.client.refresh_schedule(&line).await.unwrap();
    assert_eq!(next.next_s, set.next_s + DAY);

    // The last build has not ended.
    clock.store(next.next_s, Ordering::SeqCst);
    look(cx).await.unwrap();
    let first = all(&world).await.remove(0).id;
    clock.store(next.next_s + DAY, Ordering::SeqCst);
    look(cx).await.unwrap();
    assert_eq!(problem(&world, &line).await, format!("{first} has not ended"));
    assert_eq!(all(&world).await.len(), 1);
    // What is said of the last time does not hide that the build runs still.
    clock.store(next.next_s + 2 * DAY, Ordering::SeqCst);
    look(cx).await.unwrap();
    assert_eq!(all(&world).await.len(), 1);
    fail(&world, &first).await;
    clock.store(next.next_s + 3 * DAY, Ordering::SeqCst);
    look(cx).await.unwrap();
    assert_eq!(all(&world).await.len(), 2);
}

#[actix_web::test]
async fn a_schedule_that_changed_meanwhile_begins_nothing() {
    let (world, clock, line) = world().await;
    let cx = &world.server.control;
    let set = world.client.set_refresh_schedule(&line, &at_night()).await.unwrap();
    clock.store(set.next_s, Ordering::SeqCst);
    let (one, two) = tokio::join!(look(cx), look(cx));
    one.and(two).unwrap();
    assert_eq!(all(&world).await.len(), 1, "two looks at the same time");

    let later: Window = "06:00-07:00".parse().unwrap();
    let moved = world.client.set_refresh_schedule(&line, &later).await.unwrap();
    assert_eq!(moved.last.unwrap().build, Some(all(&world).await.remove(0).id));
    world.client.remove_refresh_schedule(&line).await.unwrap();
    clock.store(moved.next_s, Ordering::SeqCst);
    look(cx).await.unwrap();
    assert_eq!(all(&world).await.len(), 1);
}

#[actix_web::test]
async fn what_is_due_stays_due_when_the_same_window_is_set_again() {
    let (world, clock, line) = world().await;
    let set = world.client.set_refresh_schedule(&line, &at_night()).await.unwrap();
    clock.store(set.next_s + 10, Ordering::SeqCst);
    let again = world.client.set_refresh_schedule(&line, &at_night()).await.unwrap();
    assert_eq!(again.next_s, set.next_s);
    look(&world.server.control).await.unwrap();
    assert_eq!(all(&world).await.len(), 1);
    let window = "02:00-05:00 fits 3h".parse().unwrap();
    let fits = world.client.set_refresh_schedule(&line, &window);
    assert!(fits.await.unwrap_err().to_string().contains("`fits`"));
}

#[actix_web::test]
async fn the_next_version_is_the_highest_with_its_last_number_one_higher() {
    let (world, clock, line) = world().await;
    let mut next_s = world.client.set_refresh_schedule(&line, &at_night()).await.unwrap().next_s;
    for (built, next) in [
        ("2026.12.1", Some("2026.12.2")),
        ("2027", Some("2028")),
        ("1.5", Some("2029")),
        ("999999999999", None),
    ] {
        let asked = CreateBuild { version: built.parse().unwrap(), ..request("a") };
        let by_hand = world.client.create_build(&asked).await.unwrap();
        fail(&world, &by_hand.id).await;
        clock.store(next_s, Ordering::SeqCst);
        look(&world.server.control).await.unwrap();
        let schedule = world.client.refresh_schedule(&line).await.unwrap();
        let last = schedule.last.unwrap();
        match next {
            Some(next) => {
                let build = world.client.build(&last.build.unwrap()).await.unwrap();
                assert_eq!(build.release.version.as_str(), next, "after {built}");
                fail(&world, &build.id).await;
            }
            None => assert!(last.problem.unwrap().contains("no version of kiosk is higher")),
        }
        next_s = schedule.next_s;
    }
}

#[actix_web::test]
async fn the_page_of_a_profile_shows_and_changes_the_schedule() {
    let world = World::new().await;
    let line = world.client.save_profile(&request("a").profile).await.unwrap().line;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let send = async |path: &str, form: &str| browser.post(path, &session, OURS, form).await;
    let wrong = send("/profiles/kiosk/refresh", "revision=1&window=saturday").await;
    assert_eq!(wrong.status(), 422);
    let window = "revision=1&window=sat+02%3A00-05%3A00+Europe%2FBerlin";
    let set = send("/profiles/kiosk/refresh", window).await;
    assert_eq!(set.status().as_u16(), 303);
    assert_eq!(set.headers()["location"], "/profiles/kiosk/1");
    let shown = browser.get("/profiles/kiosk/1", &session).await.text().await.unwrap();
    assert!(shown.contains("value=\"sat 02:00-05:00 Europe/Berlin\""), "{shown}");
    assert!(shown.contains("Remove schedule"), "{shown}");
    send("/profiles/kiosk/refresh/remove", "revision=1").await;
    assert!(world.client.refresh_schedule(&line).await.is_err());
}
