use super::*;
use crate::devices::Certified;
use crate::rollout_headers::{self, StoredRollout};
use crate::{Db, devices};
use anyhow::Result;
use fleeti_core::rollout::header::Header;
use fleeti_core::rollout::{Counts, Phase};
use fleeti_core::update::{FailureCode, RollbackReason};

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
    }
}

/// A database with these devices in fleet `demo`.
async fn database(dir: &std::path::Path, count: usize) -> Result<Db> {
    let db = Db::open(&dir.join("fleeti.db")).await?;
    let fleet = "demo".parse()?;
    let certified: Vec<_> = (0..count)
        .map(|n| {
            let certified = Certified {
                key_sha256: format!("key-{n}"),
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
    let rows: Vec<_> = certified.iter().map(|(id, c)| (id, &fleet, c)).collect();
    let mut tx = db.write().await?;
    devices::upsert(&mut tx, &rows, 1).await?;
    tx.commit().await?;
    Ok(db)
}

#[tokio::test]
async fn every_phase_comes_back_as_it_was_stored() -> Result<()> {
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
    let dir = tempfile::tempdir()?;
    let db = database(dir.path(), phases.len()).await?;
    let mut tx = db.write().await?;
    rollout_headers::insert(&mut tx, &rollout("r")).await?;
    let offered: Vec<_> = (0..phases.len()).map(|n| (id(n), at(DevicePhase::Offered, 5))).collect();
    insert(&mut tx, "r", &offered).await?;
    assert_eq!(after(&mut tx, "r", "", 100).await?, offered);
    let moved: Vec<_> =
        phases.iter().enumerate().map(|(n, p)| (id(n), at(p.clone(), 6 + n as u64))).collect();
    set(&mut tx, "r", &moved).await?;
    tx.commit().await?;
    assert_eq!(page(db.pool(), "r", None, "", 100).await?, moved);
    for category in Category::ALL {
        let wanted: Vec<_> =
            moved.iter().filter(|(_, d)| d.phase.category() == category).cloned().collect();
        assert_eq!(page(db.pool(), "r", Some(category), "", 100).await?, wanted);
    }
    Ok(())
}

#[tokio::test]
async fn pages_follow_one_another_and_another_rollout_has_its_own_rows() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let db = database(dir.path(), 5).await?;
    let mut tx = db.write().await?;
    let mut over = rollout("old");
    rollout_headers::insert(&mut tx, &over).await?;
    over.header.phase = Phase::Aborted;
    rollout_headers::set(&mut tx, &over).await?;
    rollout_headers::insert(&mut tx, &rollout("new")).await?;
    let all: Vec<_> = (0..5).map(|n| (id(n), at(DevicePhase::Offered, 1))).collect();
    insert(&mut tx, "old", &all).await?;
    insert(&mut tx, "new", &all).await?;
    // Rows of one kind are stored by one statement; the others stay.
    let staging: Vec<_> = [1, 3].map(|n| (id(n), at(DevicePhase::Staging, 2))).into();
    set(&mut tx, "new", &staging).await?;
    assert_eq!(of(&mut tx, "old", &[&id(1)]).await?, [(id(1), at(DevicePhase::Offered, 1))]);
    assert_eq!(of(&mut tx, "new", &[&id(1), &id(9)]).await?, staging[..1]);
    let (found, device) =
        rollout_headers::active_with(&mut tx, &"demo".parse()?, &id(3)).await?.unwrap();
    assert_eq!((found.id.as_str(), device), ("new", at(DevicePhase::Staging, 2)));
    assert!(rollout_headers::active_with(&mut tx, &"demo".parse()?, &id(9)).await?.is_none());
    tx.commit().await?;
    let waiting = Some(Category::Waiting);
    let first = page(db.pool(), "new", waiting, "", 2).await?;
    let rest = page(db.pool(), "new", waiting, id(2).as_str(), 2).await?;
    let ids: Vec<_> = first.iter().chain(&rest).map(|(id, _)| id.clone()).collect();
    assert_eq!(ids, [0, 2, 4].map(id));
    Ok(())
}

#[tokio::test]
async fn a_fleet_has_one_active_rollout_and_its_work_is_found_again() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let db = database(dir.path(), 1).await?;
    let mut tx = db.write().await?;
    let mut first = rollout("first");
    rollout_headers::insert(&mut tx, &first).await?;
    tx.commit().await?;
    assert_eq!(rollout_headers::with_work(db.pool()).await?, ["first"]);
    let mut tx = db.write().await?;
    assert!(rollout_headers::insert(&mut tx, &rollout("second")).await.is_err());
    drop(tx);

    let mut tx = db.write().await?;
    first.header =
        Header { phase: Phase::Running, counts: Counts { total: 7, ..first.header.counts } };
    (first.reached, first.appraised) = ("device-000".into(), Some("device-003".into()));
    rollout_headers::set(&mut tx, &first).await?;
    assert_eq!(rollout_headers::active_in(&mut tx, &first.fleet).await?.as_ref(), Some(&first));
    assert_eq!(rollout_headers::active_of(&mut tx, &first.release).await?, [first.clone()]);
    tx.commit().await?;
    assert_eq!(rollout_headers::with_work(db.pool()).await?, ["first"]);
    let mut tx = db.write().await?;
    first.appraised = None;
    rollout_headers::set(&mut tx, &first).await?;
    tx.commit().await?;
    assert!(rollout_headers::with_work(db.pool()).await?.is_empty());
    assert_eq!(rollout_headers::get(db.pool(), "first").await?, Some(first));
    Ok(())
}
