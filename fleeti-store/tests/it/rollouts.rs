//! Headers and devices of rollouts.

use crate::databases::on_both;

on_both! {
    every_phase_comes_back_as_it_was_stored,
    pages_follow_one_another_and_another_rollout_has_its_own_rows,
    a_fleet_has_one_active_rollout_and_its_work_is_found_again,
    pending_devices_come_by_cohort_and_each_in_its_list,
    a_plan_and_its_waves_come_back_and_are_due_at_their_time,
    devices_that_are_not_heard_of_are_found_by_what_they_did_last,
    a_forecast_counts_devices_that_are_alike_and_measures_the_last_rollout,
    groups_of_a_budget_are_those_of_labels_and_their_devices_are_woken_in_order,
    pauses_end_at_their_time_and_what_a_device_ran_before_is_that_of_its_last_offer,
    floors_and_blocked_ways_of_a_line_come_back,
    an_urgent_rollout_keeps_its_reason_and_counts_its_devices,
    a_revoked_release_is_withdrawn_in_all_its_rollouts_from_the_devices_that_have_it,
}

mod test {
    use crate::databases::Place;
    use fleeti_core::id::{DeviceId, ReleaseName};
    use fleeti_core::rollout::budget::Group;
    use fleeti_core::rollout::device::Device;
    use fleeti_core::rollout::gates::{Blocked, Paths, ReleasePath};
    use fleeti_core::rollout::header::Header;
    use fleeti_core::rollout::plan::{Plan, Size, Start, Wave};
    use fleeti_core::rollout::waves::Waves;
    use fleeti_core::rollout::{Category, Counts, DevicePhase, Phase};
    use fleeti_core::update::{FailureCode, RollbackReason};
    use fleeti_core::wire::api::UrgentCounts;
    use fleeti_core::wire::labels::{LabelKeyInfo, LabelType};
    use fleeti_store::desired;
    use fleeti_store::devices::{self, Certified, WithCertificate};
    use fleeti_store::forecast::{self, Question};
    use fleeti_store::releases::NewRelease;
    use fleeti_store::rollout_devices::{
        Deadlines, Joining, Pending, after, insert, of, page, paused_until, pending, queued, set,
        unheard, urgent_counts,
    };
    use fleeti_store::rollouts::{self, StoredRollout};
    use fleeti_store::{Db, budgets, labels, release_paths, releases, sql};

    fn id(n: usize) -> DeviceId {
        format!("device-{n:03}").parse().unwrap()
    }

    fn at(phase: DevicePhase, since_s: u64) -> Device {
        Device::new(phase, since_s, None)
    }

    /// Devices that join a rollout without waves.
    fn joining(devices: &[(DeviceId, Device)]) -> Vec<Joining> {
        let one = |(id, device): &(DeviceId, Device)| Joining {
            id: id.clone(),
            device: device.clone(),
            cohort: None,
            listed: None,
        };
        devices.iter().map(one).collect()
    }

    fn rollout(id: &str) -> StoredRollout {
        StoredRollout {
            id: id.into(),
            fleet: "demo".parse().unwrap(),
            created_s: 1,
            release: "kiosk@2".parse().unwrap(),
            header: Header { phase: Phase::Starting, counts: Counts::default(), waves: None },
            reached: String::new(),
            appraised: None,
            withdrawn: None,
            plan: None,
            due_s: None,
            next: None,
            back_of: None,
            urgent: None,
        }
    }

    /// A database with these devices in fleet `demo`.
    async fn database(place: &Place, count: usize) -> Db {
        let db = place.open().await;
        let fleet = "demo".parse().unwrap();
        let certified: Vec<_> = (0..count)
            .map(|n| {
                let certified = Certified {
                    key_sha256: format!("{n:016x}{n:048x}"),
                    serial: format!("{n}"),
                    pem: String::new(),
                    certificate_sha256: format!("certificate-{n}"),
                    not_after_s: 9,
                    issuer: String::new(),
                    is_in_tpm: false,
                };
                (id(n), certified)
            })
            .collect();
        let rows: Vec<_> = certified
            .iter()
            .map(|(device, certificate)| WithCertificate { device, fleet: &fleet, certificate })
            .collect();
        let mut tx = db.write().await.unwrap();
        devices::upsert(&mut tx, &rows, 1).await.unwrap();
        tx.commit().await.unwrap();
        db
    }

    pub async fn an_urgent_rollout_keeps_its_reason_and_counts_its_devices(place: Place) {
        let db = database(&place, 5).await;
        let mut tx = db.write().await.unwrap();
        let urgent = StoredRollout { urgent: Some("a hole".into()), ..rollout("r") };
        rollouts::insert(&mut tx, &urgent).await.unwrap();
        let phases = [
            DevicePhase::Succeeded,
            DevicePhase::Held,
            DevicePhase::Blocked,
            DevicePhase::Unreached,
            DevicePhase::Offered,
        ];
        let rows: Vec<_> =
            phases.into_iter().enumerate().map(|(n, phase)| (id(n), at(phase, 1))).collect();
        insert(&mut tx, "r", &joining(&rows)).await.unwrap();
        tx.commit().await.unwrap();
        let stored = rollouts::get(db.pool(), "r").await.unwrap().unwrap();
        assert_eq!(stored.urgent.as_deref(), Some("a hole"));
        let summary = &rollouts::summaries(db.pool(), None, 9).await.unwrap()[0];
        assert_eq!(summary.urgent.as_ref().unwrap().reason, "a hole");
        let release = "kiosk@2".parse().unwrap();
        let counts = urgent_counts(db.pool(), "r", &release).await.unwrap();
        assert_eq!(counts, UrgentCounts { proved: 0, blocked: 2, unreached: 1 });
        let evidence = "INSERT INTO attestations (device, level, appraised_s, release_name, update_level, nonce, result, evidence) \
            SELECT id, 4, 1, 'kiosk@2', 4, '', '', '' FROM devices";
        let mut tx = db.write().await.unwrap();
        sql::query(evidence).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let counts = urgent_counts(db.pool(), "r", &release).await.unwrap();
        assert_eq!(counts.proved, 1, "only a device that has finished");
        let other = "kiosk@3".parse().unwrap();
        let counts = urgent_counts(db.pool(), "r", &other).await.unwrap();
        assert_eq!(counts.proved, 0);
    }

    pub async fn every_phase_comes_back_as_it_was_stored(place: Place) {
        let phases = [
            DevicePhase::Pending,
            DevicePhase::Queued,
            DevicePhase::Retrying { code: FailureCode::StageFailed, until_s: 7 },
            DevicePhase::Unreached,
            DevicePhase::Silent,
            DevicePhase::Blocked,
            DevicePhase::Offered,
            DevicePhase::Staging,
            DevicePhase::Staged,
            DevicePhase::Rebooting,
            DevicePhase::Trying,
            DevicePhase::Unconfirmed,
            DevicePhase::Proving,
            DevicePhase::Succeeded,
            DevicePhase::AttestationFailed,
            DevicePhase::RolledBack { reason: RollbackReason::Health { evidence: "\"x\"".into() } },
            DevicePhase::RolledBack { reason: RollbackReason::Verity { evidence: "y".into() } },
            DevicePhase::Revoked,
            DevicePhase::Failed { code: FailureCode::StageFailed },
        ];
        let db = database(&place, phases.len()).await;
        let mut tx = db.write().await.unwrap();
        rollouts::insert(&mut tx, &rollout("r")).await.unwrap();
        let offered: Vec<_> =
            (0..phases.len()).map(|n| (id(n), at(DevicePhase::Offered, 5))).collect();
        insert(&mut tx, "r", &joining(&offered)).await.unwrap();
        assert_eq!(after(&mut tx, "r", "", 100).await.unwrap(), offered);
        let moved: Vec<_> =
            phases.iter().enumerate().map(|(n, p)| (id(n), at(p.clone(), 6 + n as u64))).collect();
        set(&mut tx, "r", &moved).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(page(db.pool(), "r", None, "", 100).await.unwrap(), moved);
        for category in Category::ALL {
            let wanted: Vec<_> =
                moved.iter().filter(|(_, d)| d.phase.category() == category).cloned().collect();
            assert_eq!(page(db.pool(), "r", Some(category), "", 100).await.unwrap(), wanted);
        }
    }

    pub async fn pages_follow_one_another_and_another_rollout_has_its_own_rows(place: Place) {
        let db = database(&place, 5).await;
        let mut tx = db.write().await.unwrap();
        let mut over = rollout("old");
        rollouts::insert(&mut tx, &over).await.unwrap();
        over.header.phase = Phase::Aborted;
        rollouts::set(&mut tx, &over).await.unwrap();
        rollouts::insert(&mut tx, &rollout("new")).await.unwrap();
        let all: Vec<_> = (0..5).map(|n| (id(n), at(DevicePhase::Offered, 1))).collect();
        insert(&mut tx, "old", &joining(&all)).await.unwrap();
        insert(&mut tx, "new", &joining(&all)).await.unwrap();
        // Rows of one kind are stored by one statement; the others stay.
        let staging: Vec<_> = [1, 3].map(|n| (id(n), at(DevicePhase::Staging, 2))).into();
        set(&mut tx, "new", &staging).await.unwrap();
        assert_eq!(
            of(&mut tx, "old", &[&id(1)]).await.unwrap(),
            [(id(1), at(DevicePhase::Offered, 1))]
        );
        assert_eq!(of(&mut tx, "new", &[&id(1), &id(9)]).await.unwrap(), staging[..1]);
        let (found, device) = rollouts::active_with(&mut tx, &"demo".parse().unwrap(), &id(3))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((found.id.as_str(), device), ("new", at(DevicePhase::Staging, 2)));
        assert!(
            rollouts::active_with(&mut tx, &"demo".parse().unwrap(), &id(9))
                .await
                .unwrap()
                .is_none()
        );
        tx.commit().await.unwrap();
        let waiting = Some(Category::Waiting);
        let first = page(db.pool(), "new", waiting, "", 2).await.unwrap();
        let rest = page(db.pool(), "new", waiting, id(2).as_str(), 2).await.unwrap();
        let ids: Vec<_> = first.iter().chain(&rest).map(|(id, _)| id.clone()).collect();
        assert_eq!(ids, [0, 2, 4].map(id));
    }

    async fn work(db: &Db) -> Option<String> {
        let mut tx = db.write().await.unwrap();
        rollouts::next_with_work(&mut tx, 0).await.unwrap().map(|rollout| rollout.id)
    }

    pub async fn a_fleet_has_one_active_rollout_and_its_work_is_found_again(place: Place) {
        let db = database(&place, 1).await;
        let mut tx = db.write().await.unwrap();
        let mut first = rollout("first");
        rollouts::insert(&mut tx, &first).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(work(&db).await.as_deref(), Some("first"));
        let mut tx = db.write().await.unwrap();
        assert!(rollouts::insert(&mut tx, &rollout("second")).await.is_err());
        drop(tx);

        let mut tx = db.write().await.unwrap();
        (first.header.phase, first.header.counts.total) = (Phase::Running, 7);
        (first.reached, first.appraised) = ("device-000".into(), Some("device-003".into()));
        first.withdrawn = Some("device-001".into());
        rollouts::set(&mut tx, &first).await.unwrap();
        assert_eq!(
            rollouts::active_in(&mut tx, &first.fleet).await.unwrap().as_ref(),
            Some(&first)
        );
        assert_eq!(rollouts::active_of(&mut tx, &first.release).await.unwrap(), [first.clone()]);
        tx.commit().await.unwrap();
        assert_eq!(work(&db).await.as_deref(), Some("first"));
        let mut tx = db.write().await.unwrap();
        (first.appraised, first.withdrawn) = (None, None);
        rollouts::set(&mut tx, &first).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(work(&db).await, None);
        assert_eq!(rollouts::get(db.pool(), "first").await.unwrap(), Some(first));
    }

    pub async fn pending_devices_come_by_cohort_and_each_in_its_list(place: Place) {
        let db = database(&place, 8).await;
        let mut tx = db.write().await.unwrap();
        rollouts::insert(&mut tx, &rollout("r")).await.unwrap();
        let pending_at = |n: usize, wave, listed| Joining {
            id: id(n),
            device: Device::new(DevicePhase::Pending, 1, wave),
            // The highest bit counts.
            cohort: Some(u64::MAX - n as u64),
            listed,
        };
        let mut all: Vec<_> = (0..4).map(|n| pending_at(n, None, None)).collect();
        all.extend([
            pending_at(4, None, Some(1)),
            pending_at(5, None, Some(2)),
            pending_at(6, Some(0), None),
        ]);
        let mut offered = pending_at(7, Some(0), None);
        offered.device.phase = DevicePhase::Offered;
        all.push(offered);
        insert(&mut tx, "r", &all).await.unwrap();
        let mut found = async |which, limit| {
            let rows = pending(&mut tx, "r", which, limit).await.unwrap();
            rows.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
        };
        assert_eq!(found(Pending::Unlisted, 3).await, [3, 2, 1].map(id));
        assert_eq!(found(Pending::Listed(0), 9).await, []);
        assert_eq!(found(Pending::Listed(1), 9).await, [id(4)]);
        assert_eq!(found(Pending::Listed(2), 9).await, [4, 5].map(id));
        assert_eq!(found(Pending::Returned, 9).await, [id(6)]);
        // A device that a wave took has its number.
        let taken = Device::new(DevicePhase::Offered, 2, Some(1));
        set(&mut tx, "r", &[(id(3), taken.clone())]).await.unwrap();
        assert_eq!(of(&mut tx, "r", &[&id(3)]).await.unwrap(), [(id(3), taken)]);
        let rows = pending(&mut tx, "r", Pending::Unlisted, 1).await.unwrap();
        assert_eq!(rows[0].0, id(2));
    }

    pub async fn a_plan_and_its_waves_come_back_and_are_due_at_their_time(place: Place) {
        let db = database(&place, 1).await;
        let mut tx = db.write().await.unwrap();
        let mut staged = rollout("staged");
        let size = Size::Percent { percent: 100 };
        staged.plan =
            Some(Plan::of(vec![Wave { size, start: Start::At { time_s: 9 }, soak_s: 7 }]));
        staged.header.waves = Some(Waves::default());
        (staged.header.counts.total, staged.header.counts.pending) = (3, 2);
        (staged.header.counts.unreached, staged.header.phase) = (1, Phase::Running);
        staged.due_s = Some(9);
        rollouts::insert(&mut tx, &staged).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(rollouts::get(db.pool(), "staged").await.unwrap().as_ref(), Some(&staged));
        assert!(!rollouts::is_due(db.pool(), 8).await.unwrap());
        assert!(rollouts::is_due(db.pool(), 9).await.unwrap());
        let mut tx = db.write().await.unwrap();
        assert_eq!(rollouts::next_with_work(&mut tx, 8).await.unwrap(), None);
        assert_eq!(rollouts::next_with_work(&mut tx, 9).await.unwrap(), Some(staged));
    }

    pub async fn devices_that_are_not_heard_of_are_found_by_what_they_did_last(place: Place) {
        // All were seen at second 1.
        let db = database(&place, 4).await;
        let mut tx = db.write().await.unwrap();
        rollouts::insert(&mut tx, &rollout("r")).await.unwrap();
        let phases = [
            (DevicePhase::Offered, 10),
            (DevicePhase::Staging, 20),
            (DevicePhase::Succeeded, 1),
            (DevicePhase::Unreached, 1),
        ];
        let rows: Vec<_> =
            (0..).zip(phases).map(|(n, (phase, since_s))| (id(n), at(phase, since_s))).collect();
        insert(&mut tx, "r", &joining(&rows)).await.unwrap();
        let mut found = async |silent_before_s, unreached_before_s| {
            let deadlines = Deadlines { silent_before_s, unreached_before_s };
            let rows = unheard(&mut tx, "r", deadlines, 9).await.unwrap();
            rows.into_iter().map(|(id, ..)| id).collect::<Vec<_>>()
        };
        assert_eq!(found(19, 9).await, []);
        assert_eq!(found(19, 10).await, [id(0)]);
        assert_eq!(found(20, 10).await, [1, 0].map(id));
    }

    pub async fn a_forecast_counts_devices_that_are_alike_and_measures_the_last_rollout(
        place: Place,
    ) {
        let db = database(&place, 3).await;
        let (fleet, release) = ("demo".parse().unwrap(), "kiosk@2".parse().unwrap());
        let question = |offline_before_s| Question {
            fleet: &fleet,
            release: &release,
            offline_before_s,
            expired_before_s: 0,
            now_s: 1,
        };
        let mut reader = db.reader().await.unwrap();
        let counted = forecast::counted(&mut reader, question(0)).await.unwrap();
        let [all] = counted.as_slice() else { panic!("{counted:?}") };
        assert_eq!((all.devices, all.is_offline, all.has_rolled_back), (3, false, false));
        assert!(forecast::counted(&mut reader, question(1)).await.unwrap()[0].is_offline);
        let (here, nobody) = (id(1), "nobody".parse().unwrap());
        let named = forecast::named(&mut reader, question(0), &[&here, &nobody]).await.unwrap();
        assert_eq!(named.iter().map(|a| (&a.device, a.devices)).collect::<Vec<_>>(), [(&id(1), 1)]);
        drop(reader);

        let mut tx = db.write().await.unwrap();
        let mut done = rollout("r");
        rollouts::insert(&mut tx, &done).await.unwrap();
        let offered: Vec<_> = (0..2).map(|n| (id(n), at(DevicePhase::Offered, 5))).collect();
        insert(&mut tx, "r", &joining(&offered)).await.unwrap();
        insert(&mut tx, "r", &joining(&[(id(2), at(DevicePhase::Pending, 5))])).await.unwrap();
        set(&mut tx, "r", &[(id(2), at(DevicePhase::Offered, 7))]).await.unwrap();
        let ended: Vec<_> = [0, 2].map(|n| (id(n), at(DevicePhase::Succeeded, 15))).into();
        set(&mut tx, "r", &ended).await.unwrap();
        done.header.counts = Counts { total: 3, succeeded: 2, ..Counts::default() };
        rollouts::set(&mut tx, &done).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(forecast::durations(db.pool(), &fleet).await.unwrap(), [10, 8]);
    }

    pub async fn groups_of_a_budget_are_those_of_labels_and_their_devices_are_woken_in_order(
        place: Place,
    ) {
        let db = database(&place, 4).await;
        let key = "rack".parse().unwrap();
        let mut tx = db.write().await.unwrap();
        let info = LabelKeyInfo { key, of: LabelType::Text };
        labels::declare(&mut tx, &info, 1).await.unwrap();
        let key = &info.key;
        let label = |device, value| labels::Label { device, key, value, number: None };
        let ids: Vec<_> = (0..4).map(id).collect();
        let all = [label(&ids[0], "a"), label(&ids[1], "a"), label(&ids[2], "b")];
        labels::set(&mut tx, &all).await.unwrap();
        let fleet = "demo".parse().unwrap();
        let sizes = budgets::sizes(&mut tx, &fleet, key, 9).await.unwrap();
        let named = |name: &str, n| (name.to_owned(), n);
        assert_eq!(sizes, [named("", 1), named("b", 1), named("a", 2)]);
        assert_eq!(budgets::sizes(&mut tx, &fleet, key, 2).await.unwrap().len(), 2);

        rollouts::insert(&mut tx, &rollout("r")).await.unwrap();
        let joined: Vec<_> = ids
            .iter()
            .zip(0_u64..)
            .map(|(device, n)| Joining {
                id: device.clone(),
                device: at(DevicePhase::Pending, 1),
                cohort: Some(9 - n),
                listed: None,
            })
            .collect();
        insert(&mut tx, "r", &joined).await.unwrap();
        let refs: Vec<_> = ids.iter().collect();
        budgets::assign(&mut tx, "r", key, &refs).await.unwrap();
        budgets::begin(&mut tx, "r").await.unwrap();
        let found = budgets::of(&mut tx, "r", &["a", "", "nothing"]).await.unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found["a"], Group { total: 2, in_use: 0 });
        let group = of(&mut tx, "r", &[&ids[3]]).await.unwrap().remove(0).1.group;
        assert_eq!(group.as_deref(), Some(""));
        budgets::set(&mut tx, "r", "a", Group { total: 2, in_use: 1 }).await.unwrap();
        assert_eq!(budgets::of(&mut tx, "r", &["a"]).await.unwrap()["a"].in_use, 1);
        // A new row keeps its group.
        let waiting = Device::new(DevicePhase::Queued, 2, Some(0));
        let rows: Vec<_> = ids.iter().take(3).map(|id| (id.clone(), waiting.clone())).collect();
        set(&mut tx, "r", &rows).await.unwrap();
        let next = queued(&mut tx, "r", "a", 9).await.unwrap();
        let next: Vec<_> = next.into_iter().map(|(id, _)| id).collect();
        assert_eq!(next, [id(1), id(0)]);
        assert_eq!(queued(&mut tx, "r", "a", 1).await.unwrap().len(), 1);
    }

    pub async fn pauses_end_at_their_time_and_what_a_device_ran_before_is_that_of_its_last_offer(
        place: Place,
    ) {
        let db = database(&place, 2).await;
        let mut tx = db.write().await.unwrap();
        rollouts::insert(&mut tx, &rollout("r")).await.unwrap();
        let via = Some("kiosk@1.5".parse().unwrap());
        let code = FailureCode::StageFailed;
        let failed =
            Device { via, retries: 2, ..at(DevicePhase::Retrying { code, until_s: 50 }, 5) };
        insert(&mut tx, "r", &joining(&[(id(0), failed.clone())])).await.unwrap();
        set(&mut tx, "r", &[(id(0), failed.clone())]).await.unwrap();
        assert_eq!(of(&mut tx, "r", &[&id(0)]).await.unwrap(), [(id(0), failed.clone())]);
        assert_eq!(paused_until(&mut tx, "r", 49, 9).await.unwrap(), []);
        assert_eq!(paused_until(&mut tx, "r", 50, 9).await.unwrap(), [(id(0), failed.clone())]);
        let again = Device { phase: DevicePhase::Pending, ..failed };
        set(&mut tx, "r", &[(id(0), again)]).await.unwrap();
        assert_eq!(paused_until(&mut tx, "r", 90, 9).await.unwrap(), []);
    }

    pub async fn floors_and_blocked_ways_of_a_line_come_back(place: Place) {
        let db = database(&place, 1).await;
        let mut tx = db.write().await.unwrap();
        let named = |name: &str| name.parse::<ReleaseName>().unwrap();
        let line = named("kiosk@1").line;
        for name in ["kiosk@2", "kiosk@3", "kiosk-x@2"] {
            let name = named(name);
            let release = NewRelease {
                name: &name,
                manifest_sha256: "",
                manifest: "{}",
                signatures: "[]",
                published_s: 1,
            };
            releases::insert(&mut tx, &release).await.unwrap();
        }
        let blocked = vec![Blocked { from: "..1.4".parse().unwrap(), reason: "r".into() }];
        let floor = ReleasePath { floor: Some("data".into()), blocked };
        assert_eq!(release_paths::of_line(&mut tx, &line).await.unwrap(), Paths::default());
        release_paths::set(&mut tx, &named("kiosk@2"), &floor).await.unwrap();
        release_paths::set(&mut tx, &named("kiosk-x@2"), &floor).await.unwrap();
        let version = |text: &str| named(&format!("kiosk@{text}")).version;
        let paths = release_paths::of_line(&mut tx, &line).await.unwrap();
        let found = paths.floor(Some(&version("1")), &version("3")).unwrap();
        assert_eq!((&found.release, found.reason.as_str()), (&named("kiosk@2"), "data"));
        assert!(found.facts.is_good && !found.facts.is_proved);
        assert!(paths.blocked(&version("1"), &version("2")).is_some());
        assert_eq!(paths.floors(None, &version("9")), 1, "another line is another way");
        releases::revoke(&mut tx, &named("kiosk@2"), 5).await.unwrap();
        let paths = release_paths::of_line(&mut tx, &line).await.unwrap();
        assert!(!paths.floor(None, &version("3")).unwrap().facts.is_good);
        // A rollout of a higher version looks again at its devices.
        let mut active = rollout("r");
        active.header.phase = Phase::Running;
        rollouts::insert(&mut tx, &active).await.unwrap();
        release_paths::changed(&mut tx, &line).await.unwrap();
        let found = rollouts::load(&mut tx, "r").await.unwrap().unwrap();
        assert_eq!(found.appraised.as_deref(), Some(""));
        release_paths::set(&mut tx, &named("kiosk@2"), &ReleasePath::default()).await.unwrap();
        assert_eq!(
            release_paths::get(&mut tx, &named("kiosk@2")).await.unwrap(),
            ReleasePath::default()
        );
    }

    pub async fn a_revoked_release_is_withdrawn_in_all_its_rollouts_from_the_devices_that_have_it(
        place: Place,
    ) {
        let db = database(&place, 3).await;
        let (revoked, other) = ("kiosk@2".parse().unwrap(), "kiosk@3".parse().unwrap());
        let mut tx = db.write().await.unwrap();
        let mut old = rollout("old");
        rollouts::insert(&mut tx, &old).await.unwrap();
        old.header.phase = Phase::Aborted;
        rollouts::set(&mut tx, &old).await.unwrap();
        let mut new = rollout("new");
        rollouts::insert(&mut tx, &new).await.unwrap();
        desired::set_desired(&mut tx, &[id(0), id(1)], Some(&revoked)).await.unwrap();
        desired::set_desired(&mut tx, &[id(2)], Some(&other)).await.unwrap();
        rollouts::withdraw_release(&mut tx, &other).await.unwrap();
        assert_eq!(rollouts::next_to_withdraw(&mut tx, &other).await.unwrap(), None);

        rollouts::withdraw_release(&mut tx, &revoked).await.unwrap();
        for rollout in [&mut new, &mut old] {
            rollout.withdrawn = Some(String::new());
            let next = rollouts::next_to_withdraw(&mut tx, &revoked).await.unwrap();
            assert_eq!(next.as_ref(), Some(&*rollout));
            // Before the active rollout, which has work of its own.
            let next = rollouts::next_with_work(&mut tx, 0).await.unwrap();
            assert_eq!(next.as_ref(), Some(&*rollout));
            assert!(rollout.has_work());
            rollout.withdrawn = None;
            rollouts::set(&mut tx, rollout).await.unwrap();
        }
        assert!(!old.has_work());
        assert_eq!(rollouts::next_to_withdraw(&mut tx, &revoked).await.unwrap(), None);
        assert_eq!(rollouts::next_with_work(&mut tx, 0).await.unwrap().as_ref(), Some(&new));

        let both = [id(0), id(2)];
        let withdrawn = desired::withdraw(&mut tx, &both, &revoked).await.unwrap();
        let [(device, state)] = withdrawn.as_slice() else { panic!("{withdrawn:?}") };
        assert_eq!((device, state.generation, &state.release), (&id(0), 2, &None));
        assert!(desired::withdraw(&mut tx, &both, &revoked).await.unwrap().is_empty());
        tx.commit().await.unwrap();
        let release = async |n| desired::desired(db.pool(), &id(n)).await.unwrap().unwrap().release;
        assert_eq!((release(1).await, release(2).await), (Some(revoked), Some(other)));
    }
}
