//! Devices, their reports, desired states, MQTT sessions and commands.

use crate::databases::on_both;
use fleeti_core::id::DeviceId;
use fleeti_store::Db;
use fleeti_store::devices::{self, Certified, WithCertificate};

on_both! {
    pages_sort_ids_by_their_bytes,
    a_report_counts_once_and_not_from_the_far_future,
    a_device_cannot_stop_the_database_with_a_null_character,
    a_hold_ends_and_a_revocation_stays,
    desired_states_of_many_devices_are_set_at_once,
    a_device_may_run_what_it_was_given,
    a_session_outlasts_its_connection,
    a_command_is_acknowledged_once,
    a_device_has_a_bounded_number_of_results_for_a_bounded_time,
}

pub fn id(text: &str) -> DeviceId {
    text.parse().unwrap()
}

/// SHA-256 of a key of a device.
pub fn key(device: &str, number: u64) -> &'static str {
    fleeti_core::canonical::sha256_hex(format!("key {number} of {device}").as_bytes()).leak()
}

/// The `number`th certificate of a device.
pub fn certified(device: &str, number: u64) -> Certified {
    Certified {
        key_sha256: key(device, number).to_owned(),
        serial: format!("serial-{device}-{number}"),
        pem: format!("PEM of serial-{device}-{number}"),
        certificate_sha256: format!("sha-{device}-{number}"),
        not_after_s: 1000 + number,
        issuer: "issuer".into(),
        is_in_tpm: number == 1,
    }
}

/// Enrolls devices into the fleet `bench`.
pub async fn enroll(db: &Db, names: &[&str]) {
    let fleet = "bench".parse().unwrap();
    let all: Vec<_> = names.iter().map(|name| (id(name), certified(name, 1))).collect();
    let rows: Vec<_> = all
        .iter()
        .map(|(device, certificate)| WithCertificate { device, fleet: &fleet, certificate })
        .collect();
    let mut tx = db.write().await.unwrap();
    devices::upsert(&mut tx, &rows, 10).await.unwrap();
    tx.commit().await.unwrap();
}

pub mod test {
    use super::key;
    use super::{enroll, id};
    use crate::databases::Place;
    use fleeti_core::command::{OVERDUE_S, State as CommandState};
    use fleeti_core::update::State;
    use fleeti_core::wire::api::RevocationReason;
    use fleeti_core::wire::boot::{BootSummary, Slot, Verity};
    use fleeti_core::wire::command::{
        Acknowledgement, Cancellation, Command, CommandKind, Outcome,
    };
    use fleeti_core::wire::device::{Progress, Report, SEQUENCE_JUMP_MAX, Telemetry};
    use fleeti_core::wire::mqtt::Down;
    use fleeti_store::commands::{Message, New};
    use fleeti_store::devices;
    use fleeti_store::mqtt_sessions::{self, Stored, Subscriptions};
    use fleeti_store::reports::{self, Taken};
    use fleeti_store::{admission, commands, desired};
    use std::collections::HashMap;

    pub fn report(sequence: u64, running: &str) -> Report {
        Report {
            sequence,
            epoch: Some("epoch-1".into()),
            generation: 0,
            boot: BootSummary {
                boot_id: "boot-1".into(),
                running: running.parse().unwrap(),
                slot: Slot::A,
                verity: Verity::Verified,
                secure_boot: true,
                pcr11: None,
                firmware: None,
                sealed_data: None,
                secrets: vec![],
            },
            trust_bundle: 0,
            clock_wrong_by_s: None,
            alarm: None,
            update: State::Idle,
            progress: None,
            waits: None,
            time_zone: None,
            detail: None,
        }
    }

    pub async fn pages_sort_ids_by_their_bytes(place: Place) {
        let db = place.open().await;
        enroll(&db, &["a1", "a-2", "b", "a"]).await;
        let page = async |fleet, after| {
            let devices = devices::page(db.pool(), fleet, after, 3).await.unwrap();
            devices.into_iter().map(|device| device.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(page(None, "").await, ["a", "a-2", "a1"]);
        assert_eq!(page(None, "a-2").await, ["a1", "b"]);
        let (bench, other) = ("bench".parse().unwrap(), "other".parse().unwrap());
        assert_eq!(page(Some(&bench), "a").await, ["a-2", "a1", "b"]);
        assert!(page(Some(&other), "").await.is_empty());
        let fleets = devices::fleets(db.pool()).await.unwrap();
        assert_eq!((fleets.len(), fleets[0].devices, fleets[0].revoked), (1, 4, 0));
        let mut tx = db.write().await.unwrap();
        let ids = devices::ids_of_fleet(&mut tx, &bench).await.unwrap();
        assert_eq!(ids, ["a", "a-2", "a1", "b"].map(id));
        let existing = devices::existing(&mut tx, &[&id("a"), &id("z")]).await.unwrap();
        assert_eq!(existing["a"], (key("a", 1).to_owned(), false));
        assert_eq!(existing.len(), 1);
    }

    pub async fn a_report_counts_once_and_not_from_the_far_future(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1"]).await;
        let device = id("dev-1");
        let mut tx = db.write().await.unwrap();
        let mut first = report(5, "kiosk@1");
        first.progress = Some(Progress { done: 1, total: 2 });
        let taken = reports::report(&mut tx, &device, &first, 100).await.unwrap();
        assert!(matches!(taken, Taken::New(t) if t.fleet.as_str() == "bench" && t.generation == 0));
        let again = reports::report(&mut tx, &device, &first, 100).await.unwrap();
        assert!(matches!(again, Taken::Again));
        let far = report(6 + SEQUENCE_JUMP_MAX, "kiosk@1");
        let jumped = reports::report(&mut tx, &device, &far, 100).await.unwrap();
        assert!(matches!(jumped, Taken::Jumped(5)));
        assert!(reports::refuse_report(&mut tx, &device, "too far").await.unwrap());
        assert!(!reports::refuse_report(&mut tx, &device, "too far").await.unwrap());
        let telemetry = Telemetry {
            uptime_s: 1,
            load_milli: 2,
            memory_used_kib: 3,
            memory_total_kib: 4,
            agent_memory_kib: 5,
            data_used_kib: 6,
            data_total_kib: 7,
        };
        reports::telemetry(&mut tx, &device, &telemetry, 101).await.unwrap();
        tx.commit().await.unwrap();
        let found = devices::get(db.pool(), "dev-1").await.unwrap().unwrap();
        assert_eq!((found.alarm.as_deref(), found.last_seen_s), (Some("too far"), 101));
        assert_eq!((found.telemetry, found.progress), (Some(telemetry), first.progress));
        let troubled = devices::in_trouble(db.pool(), "", 10).await.unwrap();
        assert_eq!(troubled.len(), 1);
        assert_eq!(devices::by_update(db.pool()).await.unwrap(), [("alarm".to_owned(), 1)]);
        // Another epoch begins anew, and ends the refusal.
        let mut tx = db.write().await.unwrap();
        let next = Report { epoch: Some("epoch-2".into()), ..report(1, "kiosk@1") };
        let taken = reports::report(&mut tx, &device, &next, 102).await.unwrap();
        assert!(matches!(taken, Taken::New(..)));
        tx.commit().await.unwrap();
        assert_eq!(devices::by_update(db.pool()).await.unwrap(), [("idle".to_owned(), 1)]);
    }

    pub async fn a_device_cannot_stop_the_database_with_a_null_character(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1"]).await;
        let mut tx = db.write().await.unwrap();
        let alarmed = Report { alarm: Some("a\0b".into()), ..report(1, "kiosk@1") };
        let taken = reports::report(&mut tx, &id("dev-1"), &alarmed, 100).await.unwrap();
        assert!(matches!(taken, Taken::New(..)));
        tx.commit().await.unwrap();
        let found = devices::get(db.pool(), "dev-1").await.unwrap().unwrap();
        let expected = if place.is_postgres() { "a\u{fffd}b" } else { "a\0b" };
        assert_eq!(found.alarm.as_deref(), Some(expected));
    }

    pub async fn a_hold_ends_and_a_revocation_stays(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1", "dev-2"]).await;
        let device = id("dev-1");
        let (hold, stolen) = (RevocationReason::CertificateHold, RevocationReason::KeyCompromise);
        let mut tx = db.write().await.unwrap();
        assert!(devices::revoke(&mut tx, &device, hold, 50).await.unwrap());
        assert!(!devices::revoke(&mut tx, &device, hold, 51).await.unwrap());
        assert!(devices::release_hold(&mut tx, &device).await.unwrap());
        assert!(!devices::release_hold(&mut tx, &device).await.unwrap());
        assert!(devices::revoke(&mut tx, &device, hold, 60).await.unwrap());
        assert!(devices::revoke(&mut tx, &device, stolen, 70).await.unwrap());
        assert!(!devices::release_hold(&mut tx, &device).await.unwrap());
        let fleet = devices::fleet_of_revoked(&mut tx, &device).await.unwrap();
        assert_eq!(fleet.unwrap().as_str(), "bench");
        assert!(devices::fleet_of_revoked(&mut tx, &id("dev-2")).await.unwrap().is_none());
        devices::set_clone_alarm(&mut tx, &id("dev-2"), "two clients").await.unwrap();
        tx.commit().await.unwrap();
        let revoked = devices::revoked(db.pool()).await.unwrap();
        assert_eq!(revoked.into_iter().collect::<Vec<_>>(), std::slice::from_ref(&device));
        let found = devices::get(db.pool(), "dev-1").await.unwrap().unwrap();
        assert_eq!((found.revoked, found.revocation_reason), (true, Some(stolen)));
        let other = devices::get(db.pool(), "dev-2").await.unwrap().unwrap();
        assert_eq!(other.alarm.as_deref(), Some("two clients"));
        let fleets = devices::fleets(db.pool()).await.unwrap();
        assert_eq!((fleets[0].devices, fleets[0].revoked), (1, 1));
    }

    pub async fn desired_states_of_many_devices_are_set_at_once(place: Place) {
        let db = place.open().await;
        let names: Vec<String> = (0..300).map(|n| format!("dev-{n}")).collect();
        enroll(&db, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let ids: Vec<_> = names.iter().map(|name| id(name)).collect();
        let release = "kiosk@2".parse().unwrap();
        let mut tx = db.write().await.unwrap();
        assert!(desired::set_desired(&mut tx, &[], Some(&release)).await.unwrap().is_empty());
        let set = desired::set_desired(&mut tx, &ids, Some(&release)).await.unwrap();
        assert_eq!(set.len(), 300);
        assert!(set.iter().all(|(_, d)| d.generation == 1 && d.release == Some(release.clone())));
        let none = desired::set_desired(&mut tx, &ids[..2], None).await.unwrap();
        assert!(none.iter().all(|(_, d)| d.generation == 2 && d.release.is_none()));
        let version = "2".parse().unwrap();
        let forgiven = desired::forgive(&mut tx, &ids[0], &version).await.unwrap().unwrap();
        assert_eq!(forgiven.forgiven.unwrap().number, 1);
        assert!(desired::forgive(&mut tx, &id("unknown"), &version).await.unwrap().is_none());
        let changed = desired::set_boot_change(&mut tx, &ids[0], 4).await.unwrap().unwrap();
        assert_eq!((changed.boot_change, changed.generation), (Some(4), 4));
        tx.commit().await.unwrap();
        let found = desired::desired(db.pool(), &ids[0]).await.unwrap().unwrap();
        assert_eq!((found.generation, found.boot_change), (4, Some(4)));
        assert!(desired::desired(db.pool(), &id("unknown")).await.unwrap().is_none());
    }

    pub async fn a_device_may_run_what_it_was_given(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1"]).await;
        let device = id("dev-1");
        let running = async || desired::running_as_given(db.pool(), &device).await.unwrap();
        assert_eq!(running().await, None, "it has not reported yet");
        let mut tx = db.write().await.unwrap();
        reports::report(&mut tx, &device, &report(1, "kiosk@1"), 100).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(running().await, Some("kiosk@1".parse().unwrap()), "it came with it");
        let mut tx = db.write().await.unwrap();
        reports::report(&mut tx, &device, &report(2, "kiosk@2"), 100).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(running().await, None, "nobody gave it that");
        for release in ["kiosk@2", "kiosk@3"] {
            let mut tx = db.write().await.unwrap();
            let release = release.parse().unwrap();
            let ids = std::slice::from_ref(&device);
            desired::set_desired(&mut tx, ids, Some(&release)).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(running().await, Some("kiosk@2".parse().unwrap()));
        }
    }

    pub async fn a_session_outlasts_its_connection(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1", "dev-2"]).await;
        let mut subscriptions = Subscriptions::default();
        subscriptions.set(Down::Command, Some(1));
        let stored = Stored { until_s: 500, subscriptions };
        let mut tx = db.write().await.unwrap();
        let sessions = HashMap::from([(id("dev-1"), stored), (id("dev-2"), Stored::default())]);
        mqtt_sessions::set(&mut tx, &sessions).await.unwrap();
        tx.commit().await.unwrap();
        let found = admission::admission(db.pool(), &id("dev-1")).await.unwrap().unwrap();
        assert_eq!((found.session(), found.key_sha256.as_str()), (stored, key("dev-1", 1)));
        assert_eq!(found.desired().unwrap().generation, 0);
        assert!(admission::admission(db.pool(), &id("dev-3")).await.unwrap().is_none());
    }

    pub async fn a_command_is_acknowledged_once(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1"]).await;
        let device = id("dev-1");
        let command =
            |id: &str| Command { id: id.into(), kind: CommandKind::Reboot, deadline_s: 200 };
        let mut tx = db.write().await.unwrap();
        for name in ["c-1", "c-2", "c-3"] {
            let new = New { device: &device, command: &command(name), sent_by: "alice" };
            commands::insert(&mut tx, new, 100).await.unwrap();
        }
        assert_eq!(commands::pending_count(&mut tx, &device, 150).await.unwrap(), 3);
        assert!(
            commands::has_command_since(&mut tx, &device, CommandKind::Reboot, 100).await.unwrap()
        );
        assert!(
            !commands::has_command_since(&mut tx, &device, CommandKind::Reboot, 101).await.unwrap()
        );
        let answer = |id: &str, outcome| Acknowledgement {
            command: id.into(),
            outcome,
            detail: Some(format!("{outcome:?}")),
        };
        for (outcome, is_new) in
            [(Outcome::Begun, true), (Outcome::Done, true), (Outcome::Expired, false)]
        {
            let answer = answer("c-1", outcome);
            let changed = commands::acknowledge(&mut tx, &device, &answer, 150).await.unwrap();
            assert_eq!(changed, is_new, "{outcome:?}");
        }
        let foreign = answer("c-2", Outcome::Done);
        assert!(!commands::acknowledge(&mut tx, &id("dev-2"), &foreign, 150).await.unwrap());
        tx.commit().await.unwrap();
        let status =
            async |id, now_s| commands::get(db.pool(), id, now_s).await.unwrap().map(|c| c.status);
        assert_eq!(status("c-1", 150).await.as_deref(), Some("done"));
        assert_eq!(status("c-2", 150).await.as_deref(), Some("pending"));
        assert_eq!(status("c-2", 201).await.as_deref(), Some("expired"));
        assert_eq!(status("c-9", 150).await, None);
        let mut tx = db.write().await.unwrap();
        assert_eq!(
            commands::cancel(&mut tx, "c-1", 150).await.unwrap(),
            Some(Err(CommandState::Done))
        );
        assert_eq!(
            commands::cancel(&mut tx, "c-3", 150).await.unwrap(),
            Some(Ok(CommandState::Cancelling))
        );
        assert_eq!(commands::cancel(&mut tx, "c-9", 150).await.unwrap(), None);
        tx.commit().await.unwrap();
        let pending = commands::pending(db.pool(), &device, 200).await.unwrap();
        let cancellation = Message::Cancellation(Cancellation { cancel: "c-3".into() });
        assert_eq!(pending, [Message::Command(command("c-2")), cancellation]);
        let mut tx = db.write().await.unwrap();
        assert_eq!(commands::expire_all(&mut tx, 201).await.unwrap(), 1, "one is cancelled");
        assert_eq!(commands::pending_count(&mut tx, &device, 201).await.unwrap(), 1);
        assert_eq!(commands::expire_all(&mut tx, 201 + OVERDUE_S).await.unwrap(), 1);
        let late = answer("c-2", Outcome::Done);
        let late = commands::acknowledge(&mut tx, &device, &late, 300).await.unwrap();
        assert!(late, "the device began in time and came back late");
        tx.commit().await.unwrap();
        let newest = commands::of_device(db.pool(), &device, 2, 300).await.unwrap();
        let seen = newest.iter().map(|c| (c.id.as_str(), c.status.as_str()));
        assert_eq!(seen.collect::<Vec<_>>(), [("c-3", "expired"), ("c-2", "done")]);
        assert_eq!(newest[1].detail.as_deref(), Some("Done"));
        assert_eq!((newest[1].sent_by.as_str(), newest[1].created_s), ("alice", 100));
    }

    pub async fn a_device_has_a_bounded_number_of_results_for_a_bounded_time(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1"]).await;
        let device = id("dev-1");
        let mut tx = db.write().await.unwrap();
        let results = u64::try_from(commands::RESULTS_MAX).unwrap() + 2;
        for n in 0..results {
            let command = Command {
                id: format!("c-{n:02}"),
                kind: CommandKind::Logs { unit: None },
                deadline_s: 200,
            };
            let new = New { device: &device, command: &command, sent_by: "alice" };
            commands::insert(&mut tx, new, 100 + n).await.unwrap();
            for bytes in [&b"first"[..], b"again"] {
                let at = (bytes, 100 + n);
                commands::put_result(&mut tx, &device, &command.id, at).await.unwrap();
            }
        }
        tx.commit().await.unwrap();
        let all = commands::of_device(db.pool(), &device, 50, 150).await.unwrap();
        let kept = all.iter().filter(|c| c.result_bytes == Some(5)).count();
        assert_eq!(kept, usize::try_from(commands::RESULTS_MAX).unwrap());
        assert_eq!(commands::result(db.pool(), "c-00").await.unwrap(), None);
        let newest = commands::result(db.pool(), "c-09").await.unwrap();
        assert_eq!(newest.as_deref(), Some(&b"again"[..]));
        let mut tx = db.write().await.unwrap();
        let later = 120 + commands::RESULT_S;
        assert_eq!(commands::prune(&mut tx, later, 3).await.unwrap(), 3, "a few at once");
        assert_eq!(commands::prune(&mut tx, later, 100).await.unwrap(), 5);
        commands::expire_all(&mut tx, later).await.unwrap();
        assert_eq!(
            commands::prune(&mut tx, 120 + commands::COMMAND_S, 100).await.unwrap(),
            results
        );
        tx.commit().await.unwrap();
        assert!(commands::of_device(db.pool(), &device, 50, later).await.unwrap().is_empty());
    }
}
