//! Locks with packages that are gone, or for another profile.

use crate::{cache, profile};
use fleeti_build::build::{BuildError, lock_for, lock_into};
use fleeti_build::cache::Cache;
use fleeti_build::lock::{Lock, LockError};
use fleeti_core::profile::{Revision, Software};

fn lock() -> Lock {
    lock_for(&cache(), &Revision::new(1, profile("kiosk")).unwrap(), None, false).unwrap()
}

#[test]
fn packages_that_are_nowhere_to_be_had_are_named_with_the_remedy() {
    let mut lock = lock();
    let gone = &mut lock.sets.get_mut("device").unwrap()[0];
    gone.path = gone.path.replace(".deb", "-superseded.deb").parse().unwrap();
    let name = gone.name.clone();
    lock.sets.retain(|set, _| set == "device");
    lock.sets.get_mut("device").unwrap().truncate(2);
    let empty = tempfile::tempdir().unwrap();
    let error = lock.fetch(&Cache::at(empty.path()), &Software::default(), |_, _| {}).unwrap_err();
    assert!(
        matches!(&error, LockError::Gone(names) if names.len() == 1 && names[0].starts_with(&*name)),
        "{error}"
    );
    assert!(BuildError::from(error).hint().unwrap().contains("--refresh"));
}

#[test]
fn a_package_that_is_not_what_the_lock_says_is_refused() {
    let mut lock = lock();
    lock.sets.retain(|set, _| set == "device");
    let packages = lock.sets.get_mut("device").unwrap();
    packages.truncate(1);
    packages[0].sha256 = "0".repeat(64).parse().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let error = lock.fetch(&Cache::at(empty.path()), &Software::default(), |_, _| {}).unwrap_err();
    assert!(matches!(error, LockError::Digest { .. }), "{error}");
}

#[test]
fn a_lock_for_other_packages_is_stale() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock.json");
    lock().write(&path).unwrap();
    let other = Revision::new(1, profile("gateway")).unwrap();
    let error = lock_for(&cache(), &other, Some(&path), false).unwrap_err();
    assert!(matches!(&error, BuildError::StaleLock(p) if *p == path));
    assert!(error.hint().unwrap().contains("--refresh"));
}

#[test]
fn a_lock_file_that_is_not_there_is_made_by_who_asks_for_one_and_missed_by_who_builds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/lock.json");
    let revision = Revision::new(1, profile("kiosk")).unwrap();
    assert!(
        lock_for(&cache(), &revision, Some(&path), false)
            .unwrap_err()
            .to_string()
            .contains("lock.json")
    );
    let made = lock_into(&cache(), &revision, Some(&path), false).unwrap();
    assert_eq!(Lock::read(&path).unwrap(), made);
    // An existing file is kept.
    let before = std::fs::read(&path).unwrap();
    assert_eq!(lock_into(&cache(), &revision, Some(&path), false).unwrap(), made);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
