//! Headers and devices of rollouts.

use crate::databases::on_both;

on_both! {
    every_phase_comes_back_as_it_was_stored,
    pages_follow_one_another_and_another_rollout_has_its_own_rows,
    a_fleet_has_one_active_rollout_and_its_work_is_found_again,
    a_revoked_release_is_withdrawn_in_all_its_rollouts_from_the_devices_that_have_it,
}

mod test {
    use crate::databases::Place;
    use fleeti_core::id::DeviceId;
    use fleeti_core::rollout::device::Device;
    use fleeti_core::rollout::header::Header;
    use fleeti_core::rollout::{Category, Counts, DevicePhase, Phase};
    use fleeti_core::update::{FailureCode, RollbackReason};
    use fleeti_store::Db;
    use fleeti_store::desired;
    use fleeti_store::devices::{self, Certified, WithCertificate};
    use fleeti_store::rollout_devices::{after, insert, of, page, set};
    use fleeti_store::rollouts::{self, StoredRollout};

    fn id(n: usize) -> DeviceId {
        format!("device-{n:03}").parse().unwrap()
    }

    fn at(phase: DevicePhase, since_s: u64) -> Device {
        Device { phase, since_s }
    }

    fn rollout(id: &str) -> StoredRollout {
        StoredRollout {
            id: id.into(),
            fleet: "demo".parse().unwrap(),
            created_s: 1,
            release: "kiosk@2".parse().unwrap(),
            header: Header { phase: Phase::Starting, counts: Counts::default() },
            reached: String::new(),
            appraised: None,
            withdrawn: None,
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

    pub async fn every_phase_comes_back_as_it_was_stored(place: Place) {
        let phases = [
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
        insert(&mut tx, "r", &offered).await.unwrap();
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
        insert(&mut tx, "old", &all).await.unwrap();
        insert(&mut tx, "new", &all).await.unwrap();
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
        rollouts::next_with_work(&mut tx).await.unwrap().map(|rollout| rollout.id)
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
        first.header =
            Header { phase: Phase::Running, counts: Counts { total: 7, ..first.header.counts } };
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
            let next = rollouts::next_with_work(&mut tx).await.unwrap();
            assert_eq!(next.as_ref(), Some(&*rollout));
            assert!(rollout.has_work());
            rollout.withdrawn = None;
            rollouts::set(&mut tx, rollout).await.unwrap();
        }
        assert!(!old.has_work());
        assert_eq!(rollouts::next_to_withdraw(&mut tx, &revoked).await.unwrap(), None);
        assert_eq!(rollouts::next_with_work(&mut tx).await.unwrap().as_ref(), Some(&new));

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
