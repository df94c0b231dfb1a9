//! What fleets and devices should run.

use crate::databases::on_both;

on_both! {
    a_channel_moves_and_its_pin_goes_first,
    holds_pins_and_penalties_come_back_and_end,
    a_situation_has_the_row_of_the_active_rollout,
    windows_of_a_fleet_are_in_each_desired_state_and_only_those_of_the_fleet,
    an_urgent_offer_lets_windows_be_skipped_until_the_next_offer,
    a_downgrade_is_a_pin_to_what_the_device_was_given,
}

mod test {
    use crate::databases::Place;
    use fleeti_core::attestation::policy::Policy;
    use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
    use fleeti_core::rollout::device::Device;
    use fleeti_core::rollout::gates::{Hold, Penalty, Pin};
    use fleeti_core::rollout::header::Header;
    use fleeti_core::rollout::{Counts, DevicePhase, Phase};
    use fleeti_core::windows::Windows;
    use fleeti_core::wire::device::{DesiredState, Telemetry};
    use fleeti_store::devices::{self, Certified, WithCertificate};
    use fleeti_store::rollout_devices::Joining;
    use fleeti_store::rollouts::StoredRollout;
    use fleeti_store::{
        Db, channels, desired, known, policies, reports, rollout_devices, rollouts,
    };

    fn fleet() -> FleetId {
        "demo".parse().unwrap()
    }

    fn pin(release: &str) -> Pin {
        Pin { release: release.parse().unwrap(), reason: "lab".into(), downgrade: false }
    }

    async fn enrolled(db: &Db) -> DeviceId {
        let id: DeviceId = "device-1".parse().unwrap();
        let certificate = Certified {
            key_sha256: "ab".repeat(32),
            serial: "01".into(),
            pem: "pem".into(),
            certificate_sha256: "cert".into(),
            not_after_s: 1_000,
            issuer: "ca".into(),
            is_in_tpm: false,
        };
        let new = WithCertificate { device: &id, fleet: &fleet(), certificate: &certificate };
        let mut tx = db.write().await.unwrap();
        devices::insert_new(&mut tx, &[new], 1).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    pub async fn windows_of_a_fleet_are_in_each_desired_state_and_only_those_of_the_fleet(
        place: Place,
    ) {
        let db = place.open().await;
        let device = enrolled(&db).await;
        let ids = [device.clone()];
        let reboot = vec!["sun 02:00-03:00 Europe/Berlin".parse().unwrap()];
        let windows = Windows { reboot, ..Windows::default() };
        let policy = Policy { windows: windows.clone(), ..Policy::usual() };
        let mut tx = db.write().await.unwrap();
        policies::set(&mut tx, &"other".parse().unwrap(), &policy).await.unwrap();
        let before = desired::renew(&mut tx, &ids).await.unwrap().remove(0).1;
        assert_eq!((before.windows, before.critical.len()), (Windows::default(), 1));
        policies::set(&mut tx, &fleet(), &policy).await.unwrap();
        known::set_skip_windows(&mut tx, &device, Some(7)).await.unwrap();
        assert_eq!(desired::next_of(&mut tx, &fleet(), "", 9).await.unwrap(), ids);
        assert_eq!(desired::next_of(&mut tx, &fleet(), device.as_str(), 9).await.unwrap(), []);
        let release = "kiosk@2".parse().unwrap();
        let set = desired::set_desired(&mut tx, &ids, Some(&release)).await.unwrap().remove(0).1;
        assert_eq!(set.generation, before.generation + 1);
        let withdrawn = desired::withdraw(&mut tx, &ids, &release).await.unwrap().remove(0).1;
        let renewed = desired::renew(&mut tx, &ids).await.unwrap().remove(0).1;
        tx.commit().await.unwrap();
        let read = desired::desired(db.pool(), &device).await.unwrap().unwrap();
        for state in [&set, &withdrawn, &renewed, &read] {
            assert_eq!((&state.windows, state.skip_windows_until_s), (&windows, Some(7)));
            // An agent that knows no windows takes a withdrawal, and no offer.
            let critical: &[&str] =
                if state.release.is_some() { &["release", "windows"] } else { &["release"] };
            assert_eq!(state.critical, critical);
        }
        let all = policies::all(db.pool()).await.unwrap();
        assert_eq!(all[&fleet()], policy);
        let mut tx = db.write().await.unwrap();
        policies::set(&mut tx, &fleet(), &Policy::usual()).await.unwrap();
        let without = desired::renew(&mut tx, &ids).await.unwrap().remove(0).1;
        assert_eq!(without.windows, Windows::default());
    }

    pub async fn an_urgent_offer_lets_windows_be_skipped_until_the_next_offer(place: Place) {
        let db = place.open().await;
        let device = enrolled(&db).await;
        let ids = [device.clone()];
        let release = "kiosk@2".parse().unwrap();
        let mut tx = db.write().await.unwrap();
        let skips = |all: Vec<(DeviceId, DesiredState)>| all[0].1.skip_windows_until_s;
        let urgent = desired::set_urgent(&mut tx, &ids, &release, 100).await.unwrap();
        assert_eq!(
            (urgent[0].1.release.as_ref(), skips(urgent.clone())),
            (Some(&release), Some(100))
        );
        let known = known::situation(&mut tx, &device, 1).await.unwrap().unwrap().device.known;
        assert_eq!((known.urgent_until_s, known.skip_windows_until_s), (Some(100), None));
        // The later of what an operator ordered and of the rollout.
        known::set_skip_windows(&mut tx, &device, Some(50)).await.unwrap();
        assert_eq!(skips(desired::renew(&mut tx, &ids).await.unwrap()), Some(100));
        known::set_skip_windows(&mut tx, &device, Some(150)).await.unwrap();
        assert_eq!(skips(desired::renew(&mut tx, &ids).await.unwrap()), Some(150));
        known::set_skip_windows(&mut tx, &device, None).await.unwrap();
        assert_eq!(skips(desired::withdraw(&mut tx, &ids, &release).await.unwrap()), None);
        desired::set_urgent(&mut tx, &ids, &release, 100).await.unwrap();
        let calm = desired::set_desired(&mut tx, &ids, Some(&release)).await.unwrap();
        assert_eq!(skips(calm), None);
        desired::set_urgent(&mut tx, &ids, &release, 100).await.unwrap();
        assert_eq!(skips(desired::set_back(&mut tx, &ids, &release).await.unwrap()), None);
    }

    pub async fn a_downgrade_is_a_pin_to_what_the_device_was_given(place: Place) {
        let db = place.open().await;
        let device = enrolled(&db).await;
        let ids = [device.clone()];
        let [one, two]: [ReleaseName; 2] = ["kiosk@1", "kiosk@2"].map(|name| name.parse().unwrap());
        let mut tx = db.write().await.unwrap();
        assert!(!desired::was_given(&mut tx, &device, &one).await.unwrap());
        desired::set_desired(&mut tx, &ids, Some(&one)).await.unwrap();
        // What is offered now has not been left.
        assert!(!desired::was_given(&mut tx, &device, &one).await.unwrap());
        desired::set_desired(&mut tx, &ids, Some(&two)).await.unwrap();
        assert!(desired::was_given(&mut tx, &device, &one).await.unwrap());
        assert!(!desired::was_given(&mut tx, &device, &two).await.unwrap());
        let back = Pin { downgrade: true, ..pin("kiosk@1") };
        known::set_pin(&mut tx, &device, Some(&back)).await.unwrap();
        let found = known::of(&mut tx, &[&device], 1).await.unwrap().remove(0).1.known;
        assert_eq!(found.pin, Some(back.clone()));
        let found = known::after(&mut tx, &fleet(), ("", 9), 1).await.unwrap().remove(0).1.known;
        assert_eq!(found.pin, Some(back));
        known::set_pin(&mut tx, &device, Some(&pin("kiosk@1"))).await.unwrap();
        let found = known::situation(&mut tx, &device, 1).await.unwrap().unwrap().device.known;
        assert_eq!(found.pin, Some(pin("kiosk@1")));
    }

    /// Whether telemetry found the end of a hold or of a penalty.
    fn is_due(stored: Option<(fleeti_core::id::FleetId, bool)>) -> bool {
        stored.is_some_and(|(_, is_due)| is_due)
    }

    pub async fn a_channel_moves_and_its_pin_goes_first(place: Place) {
        let db = place.open().await;
        let empty = channels::get(db.pool(), &fleet()).await.unwrap();
        assert_eq!((empty.release, empty.pin), (None, None));
        let mut tx = db.write().await.unwrap();
        channels::set_pin(&mut tx, &fleet(), Some(&pin("kiosk@5")), 3).await.unwrap();
        assert_eq!(channels::pin(&mut tx, &fleet()).await.unwrap(), Some(pin("kiosk@5")));
        for (release, at_s) in [("kiosk@1", 5), ("kiosk@2", 7)] {
            let release = release.parse().unwrap();
            channels::moved(&mut tx, &fleet(), &release, "rollout-1", at_s).await.unwrap();
        }
        tx.commit().await.unwrap();
        let moved = channels::get(db.pool(), &fleet()).await.unwrap();
        assert_eq!(
            (moved.release.unwrap().to_string().as_str(), moved.since_s),
            ("kiosk@2", Some(7))
        );
        assert_eq!(
            (moved.rollout.as_deref(), moved.pin),
            (Some("rollout-1"), Some(pin("kiosk@5")))
        );
        let mut tx = db.write().await.unwrap();
        channels::set_pin(&mut tx, &fleet(), None, 9).await.unwrap();
        assert_eq!(channels::pin(&mut tx, &fleet()).await.unwrap(), None);
    }

    pub async fn holds_pins_and_penalties_come_back_and_end(place: Place) {
        let db = place.open().await;
        let id = enrolled(&db).await;
        let hold = Hold { reason: "exhibition".into(), until_s: Some(100) };
        let version = "2".parse().unwrap();
        let penalty = Penalty { version, failures: 3, until_s: Some(200) };
        let telemetry = Telemetry {
            uptime_s: 1,
            load_milli: 1,
            memory_used_kib: 1,
            memory_total_kib: 1,
            agent_memory_kib: 1,
            data_used_kib: 1,
            data_total_kib: 1,
        };
        let mut tx = db.write().await.unwrap();
        assert!(!is_due(reports::telemetry(&mut tx, &id, &telemetry, 99).await.unwrap()));
        known::set_hold(&mut tx, &id, Some(&hold)).await.unwrap();
        known::set_pin(&mut tx, &id, Some(&pin("kiosk@2"))).await.unwrap();
        known::set_penalty(&mut tx, &id, &penalty).await.unwrap();
        let (of, found) = known::get(&mut tx, &id, 1).await.unwrap().unwrap();
        assert_eq!((of, found.known.hold), (fleet(), Some(hold)));
        assert_eq!((found.known.pin, found.known.penalty), (Some(pin("kiosk@2")), Some(penalty)));
        for (now_s, is_due) in [(99, false), (100, true)] {
            assert_eq!(
                self::is_due(reports::telemetry(&mut tx, &id, &telemetry, now_s).await.unwrap()),
                is_due
            );
        }
        known::end_due(&mut tx, &id, 100).await.unwrap();
        assert!(!is_due(reports::telemetry(&mut tx, &id, &telemetry, 101).await.unwrap()));
        assert!(is_due(reports::telemetry(&mut tx, &id, &telemetry, 200).await.unwrap()));
        known::end_due(&mut tx, &id, 200).await.unwrap();
        let after = known::after(&mut tx, &fleet(), ("", 10), 201).await.unwrap();
        let found = &after[0].1.known;
        assert_eq!((&found.hold, found.penalty.as_ref().unwrap().failures), (&None, 3));
        assert!(!is_due(reports::telemetry(&mut tx, &id, &telemetry, 300).await.unwrap()));
        desired::forgive(&mut tx, &id, &"1".parse().unwrap()).await.unwrap();
        assert!(known::of(&mut tx, &[&id], 1).await.unwrap()[0].1.known.penalty.is_some());
        desired::forgive(&mut tx, &id, &"2".parse().unwrap()).await.unwrap();
        assert_eq!(known::of(&mut tx, &[&id], 1).await.unwrap()[0].1.known.penalty, None);
        known::set_pin(&mut tx, &id, None).await.unwrap();
        known::set_fleet(&mut tx, &id, &"other".parse().unwrap()).await.unwrap();
        let (of, found) = known::get(&mut tx, &id, 1).await.unwrap().unwrap();
        assert_eq!((of.as_str(), found.known.pin), ("other", None));
    }

    pub async fn a_situation_has_the_row_of_the_active_rollout(place: Place) {
        let db = place.open().await;
        let id = enrolled(&db).await;
        let mut tx = db.write().await.unwrap();
        let nobody = "nobody".parse().unwrap();
        assert!(known::situation(&mut tx, &nobody, 1).await.unwrap().is_none());
        assert_eq!(known::situation(&mut tx, &id, 1).await.unwrap().unwrap().active, None);
        let rollout = StoredRollout {
            id: "r".into(),
            fleet: fleet(),
            created_s: 1,
            release: "kiosk@2".parse().unwrap(),
            header: Header { phase: Phase::Running, counts: Counts::default(), waves: None },
            reached: String::new(),
            appraised: None,
            withdrawn: None,
            plan: None,
            due_s: None,
            next: None,
            back_of: None,
            urgent: Some("a hole".into()),
        };
        rollouts::insert(&mut tx, &rollout).await.unwrap();
        let active = known::situation(&mut tx, &id, 1).await.unwrap().unwrap().active.unwrap();
        assert_eq!((active.row, active.has_waves, active.phase), (None, false, Phase::Running));
        assert!(active.is_urgent);
        let device = Device::new(DevicePhase::Held, 1, Some(4));
        let joining = Joining { id: id.clone(), device, cohort: Some(1), listed: None };
        rollout_devices::insert(&mut tx, "r", &[joining]).await.unwrap();
        let active = known::situation(&mut tx, &id, 1).await.unwrap().unwrap().active.unwrap();
        assert_eq!(active.row, Some((DevicePhase::Held, Some(4))));
    }
}
