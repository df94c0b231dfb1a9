//! The event stream: what a client that was away gets, and what it does not.

use crate::accounts::{client, name, program, role};
use crate::world::World;
use fleeti_control::changes::streams::STREAMS_MAX;
use fleeti_core::wire::accounts::Role;
use fleeti_core::wire::api::RevocationReason;
use fleeti_core::wire::labels::About;
use fleeti_store::sql;
use reqwest::{Response, StatusCode};
use std::time::{Duration, Instant};

/// An open stream, and what was read of it.
struct Stream {
    response: Response,
    text: String,
}

/// A message: its id, its type, its data.
type Message = (Option<String>, String, String);

impl Stream {
    async fn open(world: &World, token: &str, last: Option<&[u8]>) -> Self {
        let url = format!("http://{}/api/v1/events", world.server.addresses.api);
        let mut request = reqwest::Client::new().get(url).bearer_auth(token);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Self { response, text: String::new() }
    }

    /// The next message that is not a comment; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Message> {
        loop {
            while let Some((message, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let mut lines = message.lines();
                    lines.find_map(|line| line.strip_prefix(name).map(str::to_owned))
                };
                let found = (
                    field("id: "),
                    field("event: ").unwrap_or_default(),
                    field("data: ").unwrap_or_default(),
                );
                self.text = rest.to_owned();
                if found.0.is_some() || !found.2.is_empty() {
                    return Some(found);
                }
            }
            let chunk = tokio::time::timeout(Duration::from_secs(60), self.response.chunk());
            let chunk = chunk.await.unwrap().unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The id of the first message.
    async fn position(&mut self) -> String {
        self.next().await.unwrap().0.unwrap()
    }

    /// Reads until an event about this object.
    async fn until(&mut self, about: &str) -> Vec<Message> {
        let mut read = Vec::new();
        loop {
            let message = self.next().await.unwrap_or_else(|| panic!("{about}: {read:?}"));
            read.push(message);
            if read.last().unwrap().2.contains(about) {
                return read;
            }
        }
    }
}

fn token(world: &World) -> String {
    let token = std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
    token.trim().to_owned()
}

async fn rename(world: &World, device: &fleeti_core::id::DeviceId, to: &str) {
    let about = About { name: Some(to.into()), note: None };
    world.client.describe_device(device, &about).await.unwrap();
}

#[actix_web::test]
async fn a_client_that_was_away_gets_every_stored_change_since_its_last_event() {
    let world = World::new().await;
    let device = world.enroll().await.id;
    let mut stream = Stream::open(&world, &token(&world), None).await;
    let begin = stream.position().await;
    rename(&world, &device, "one").await;
    let seen = stream.until(device.as_str()).await;
    let last = seen.last().unwrap().0.clone().expect("a stored change has an id");
    drop(stream);

    rename(&world, &device, "two").await;
    let other = world.enroll().await.id;
    world.client.revoke_device(&other, RevocationReason::CessationOfOperation).await.unwrap();
    let mut resumed = Stream::open(&world, &token(&world), Some(last.as_bytes())).await;
    assert_eq!(resumed.position().await, last);
    let missed = resumed.until(other.as_str()).await;
    assert!(missed.iter().any(|(_, _, data)| data.contains(device.as_str())), "{missed:?}");
    assert!(missed.iter().all(|(id, kind, _)| id.is_some() && kind.is_empty()), "{missed:?}");
    // And from the begin, in order.
    let mut whole = Stream::open(&world, &token(&world), Some(begin.as_bytes())).await;
    let all = whole.until(other.as_str()).await;
    let numbers: Vec<i64> = all
        .iter()
        .map(|(id, _, _)| id.as_ref().unwrap().split_once('-').unwrap().0.parse().unwrap())
        .collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
}

/// Ids that the server never made, or made for another database: a gap, and no replay.
#[actix_web::test]
async fn a_forged_unknown_or_huge_id_is_a_gap_and_replays_nothing() {
    let world = World::new().await;
    let device = world.enroll().await.id;
    let newest = Stream::open(&world, &token(&world), None).await.position().await;
    let (number, at_s) = newest.split_once('-').unwrap();
    let later = format!("{}-{at_s}", number.parse::<i64>().unwrap() + 1);
    let of_another_time = format!("{number}-{}", at_s.parse::<u64>().unwrap() - 1);
    let huge = "9".repeat(4000);
    for forged in [
        "",
        "0",
        "-1",
        "1",
        "x",
        "1-0",
        "-1-0",
        "1 OR 1=1",
        "9223372036854775807-0",
        "99999999999999999999-1",
        later.as_str(),
        of_another_time.as_str(),
        huge.as_str(),
    ] {
        let mut stream = Stream::open(&world, &token(&world), Some(forged.as_bytes())).await;
        let gap = (Some(newest.clone()), "gap".to_owned(), "{}".to_owned());
        assert_eq!(stream.next().await.unwrap(), gap, "{forged:?}");
    }
    let mut stream = Stream::open(&world, &token(&world), Some(b"\xff\xfe")).await;
    assert_eq!(stream.next().await.unwrap().1, "gap");
    // The stream goes on from there.
    rename(&world, &device, "one").await;
    assert_eq!(stream.until(device.as_str()).await.len(), 1);
}

/// The outbox keeps the newest records only.
#[actix_web::test]
async fn an_id_that_the_outbox_does_not_have_any_more_is_a_gap() {
    let world = World::new().await;
    let device = world.enroll().await.id;
    let first = Stream::open(&world, &token(&world), None).await.position().await;
    rename(&world, &device, "one").await;
    let mut tx = world.server.control.db.write().await.unwrap();
    let sql = "DELETE FROM domain_events WHERE number < (SELECT MAX(number) FROM domain_events)";
    sql::query(sql).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    for old in [first.as_str(), "0-0"] {
        let mut stream = Stream::open(&world, &token(&world), Some(old.as_bytes())).await;
        assert_eq!(stream.next().await.unwrap().1, "gap", "{old}");
    }
}

/// A role for one fleet: neither the replay nor the live stream has anything of another one, also
/// of a device that has left the fleet.
#[actix_web::test]
async fn nothing_of_a_foreign_fleet_is_replayed_or_told() {
    let world = World::new().await;
    let here = world.enroll().await.id;
    let robot = |account: &'static str, fleet: &'static str| {
        let grants = [role(Role::Viewer, Some(fleet))];
        let world = &world;
        async move { program(world, account, &grants, None).await.token.expose().to_owned() }
    };
    let (member, stranger) = (robot("member", "demo").await, robot("stranger", "spare").await);
    rename(&world, &here, "one").await;
    for (token, sees) in [(&member, true), (&stranger, false)] {
        let mut stream = Stream::open(&world, token, Some(b"0-0")).await;
        assert_eq!(stream.position().await, "0-0");
        rename(&world, &here, "two").await;
        // A change of what belongs to no fleet ends the wait.
        let line = if sees { "kiosk" } else { "panel" };
        let profile = format!("schema = 1\nname = \"{line}\"\narchitecture = \"x86_64\"\n");
        world.client.save_profile_text(&profile).await.unwrap();
        let read = stream.until(line).await;
        let has = read.iter().any(|(_, _, data)| data.contains(here.as_str()));
        assert_eq!(has, sees, "{read:?}");
        // It can continue all the same.
        assert!(sees || read.iter().all(|(id, _, _)| id.is_some()), "{read:?}");
    }
}

/// A credential that ended, or lost its role, gets nothing more, neither live nor by its last id.
#[actix_web::test]
async fn a_credential_that_ended_does_not_continue() {
    let world = World::new().await;
    let device = world.enroll().await.id;
    let viewer = role(Role::Viewer, None);
    for (account, is_offboarded) in [("gone", true), ("demoted", false)] {
        let made = program(&world, account, std::slice::from_ref(&viewer), None).await;
        let token = made.token.expose().to_owned();
        let mut stream = Stream::open(&world, &token, None).await;
        let last = stream.position().await;
        if is_offboarded {
            world.client.offboard_account(&name(account)).await.unwrap();
        } else {
            world.client.remove_role(&name(account), &viewer).await.unwrap();
        }
        // It ends with the first change after the next look at the credential, a second later.
        let begun = Instant::now();
        loop {
            rename(&world, &device, &format!("{account} {}", begun.elapsed().as_micros())).await;
            let Some(_) = stream.next().await else { break };
            assert!(begun.elapsed() < Duration::from_secs(30), "{account}");
        }
        assert!(client(&world, &token).events().await.is_err());
        let url = format!("http://{}/api/v1/events", world.server.addresses.api);
        let again = reqwest::Client::new().get(url).bearer_auth(&token);
        let status = again.header("last-event-id", last).send().await.unwrap().status();
        assert_eq!(status.as_u16(), if is_offboarded { 401 } else { 403 }, "{account}");
    }
}

#[actix_web::test]
async fn a_client_far_behind_gets_every_page() {
    let world = World::new().await;
    let device = world.enroll().await.id;
    let first = Stream::open(&world, &token(&world), None).await.position().await;
    let mut tx = world.server.control.db.write().await.unwrap();
    let records: Vec<_> =
        (0..3000).map(|n| ("changed", format!(r#"{{"type":"rollout","id":"r-{n}"}}"#))).collect();
    fleeti_store::domain_events::insert(&mut tx, 1, &records).await.unwrap();
    tx.commit().await.unwrap();
    rename(&world, &device, "one").await;
    let mut stream = Stream::open(&world, &token(&world), Some(first.as_bytes())).await;
    let all = stream.until(device.as_str()).await;
    let rollouts = all.iter().filter(|(_, _, data)| data.contains("rollout")).count();
    assert_eq!(rollouts, 3000);
}

/// One account cannot take the connections of all others.
#[actix_web::test]
async fn an_account_has_a_limited_number_of_streams() {
    let world = World::new().await;
    let token = token(&world);
    let mut open = Vec::new();
    for _ in 0..STREAMS_MAX {
        open.push(Stream::open(&world, &token, None).await);
    }
    let url = format!("http://{}/api/v1/events", world.server.addresses.api);
    let one_more = || reqwest::Client::new().get(&url).bearer_auth(&token).send();
    let refused = one_more().await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "30");
    // Another account has its own.
    let viewer = role(Role::Viewer, None);
    let other = program(&world, "other", std::slice::from_ref(&viewer), None).await;
    Stream::open(&world, other.token.expose(), None).await.position().await;
    // A place is free again once the server notices that a client has gone: at its next write.
    open.pop();
    let device = world.enroll().await.id;
    let begun = Instant::now();
    while one_more().await.unwrap().status() != StatusCode::OK {
        rename(&world, &device, &format!("{}", begun.elapsed().as_micros())).await;
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}

/// A change of more devices than are named tells a client to read all of them again, also one that
/// was away.
#[actix_web::test]
async fn a_change_of_many_devices_tells_to_read_everything() {
    let world = World::new().await;
    let device = world.enroll().await.id;
    let last = Stream::open(&world, &token(&world), None).await.position().await;
    let mut tx = world.server.control.db.write().await.unwrap();
    let many = [("changed_many", "{}".to_owned())];
    fleeti_store::domain_events::insert(&mut tx, 1, &many).await.unwrap();
    tx.commit().await.unwrap();
    rename(&world, &device, "after").await;
    let mut stream = Stream::open(&world, &token(&world), Some(last.as_bytes())).await;
    assert_eq!(stream.position().await, last);
    let mut events = stream.until(device.as_str()).await;
    events.push(stream.next().await.unwrap());
    let lagged: Vec<_> = events.iter().filter(|(_, event, _)| event == "lagged").collect();
    assert!(matches!(lagged.as_slice(), [(Some(_), _, data)] if data == "{}"), "{events:?}");
}
