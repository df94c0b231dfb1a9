//! Locks with packages of several sources: Debian's suites, a further repository, one's own.

use crate::cache;
use fleeti_build::cache::Cache;
use fleeti_build::lock::{Lock, LockError};
use fleeti_build::refresh::{add_security, changes};
use fleeti_build::resolve::{Wanted, resolve};
use fleeti_core::profile::{OwnPackage, Repository, Software};
use fleeti_testkit::apt_repository::{AptRepository, Said};
use std::collections::BTreeMap;

/// A lock of some packages of the device.
fn locked(
    cache: &Cache,
    software: &Software,
    names: &[&str],
    earlier: Option<(&Lock, &[String])>,
) -> Result<Lock, LockError> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let requested = BTreeMap::from([("device".to_owned(), names)]);
    let wanted = Wanted {
        requested: &requested,
        software,
        base: &["base-files"],
        earlier: earlier.map(|(lock, _)| lock),
        only: earlier.map_or(&[], |(_, only)| only),
        allow_older: false,
    };
    resolve(cache, &wanted, &mut |_| {})
}

fn version<'a>(lock: &'a Lock, name: &str) -> &'a str {
    lock.set("device").iter().find(|p| &*p.name == name).map_or("", |p| &p.version)
}

#[test]
fn packages_name_their_sources_and_a_refresh_is_shown() {
    let served = AptRepository::new().unwrap();
    served.add("tool", "1.0", "Depends: tool-lib (= 1.0), libc6\n").unwrap();
    served.add("tool-lib", "1.0", "").unwrap();
    served.add("other", "1.0", "").unwrap();
    // Newer than Debian's, and not named.
    served.add("libc6", "99", "").unwrap();
    served.sign(Said::default()).unwrap();
    let made = served.add("acme", "1", "").unwrap();
    let own = served.file("acme.deb");
    std::fs::rename(made, &own).unwrap();
    let software = Software {
        repositories: vec![Repository {
            name: "vendor".into(),
            url: served.url.clone(),
            suite: "stable".into(),
            components: vec!["main".into()],
            packages: vec!["tool".into(), "other".into()],
            key: served.key().unwrap(),
        }],
        own: vec![OwnPackage {
            name: "acme".into(),
            sha256: fleeti_build::file::sha256_file(&own).unwrap(),
            from: own.display().to_string(),
        }],
        ..Software::default()
    };
    let names = ["tool", "other", "acme"];
    let first = locked(&cache(), &software, &names, None).unwrap();
    let origins: BTreeMap<_, _> =
        first.set("device").iter().map(|p| (&*p.name, p.origin.as_deref().unwrap())).collect();
    assert_eq!((origins["tool"], origins["acme"]), ("vendor stable main", "own"));
    assert!(origins["libc6"].starts_with("debian trixie"), "{origins:?}");
    for suite in ["debian trixie", "debian trixie-updates", "vendor stable"] {
        assert!(first.snapshots.contains_key(suite), "{:?}", first.snapshots);
    }
    // It is read as it was written, and each package is where its source is.
    let text = serde_json::to_string(&first).unwrap();
    assert_eq!(serde_json::from_str::<Lock>(&text).unwrap(), first);
    let folder = tempfile::tempdir().unwrap();
    let mut of_vendor = first.clone();
    of_vendor.sets.get_mut("device").unwrap().retain(|p| p.repository() == "vendor");
    of_vendor.fetch(&Cache::at(folder.path()), &software, |_, _| {}).unwrap();
    of_vendor.fetch(&cache(), &software, |_, _| {}).unwrap();

    // The vendor supersedes all; only one is refreshed, with what it needs.
    std::fs::remove_dir_all(served.file("pool")).unwrap();
    std::fs::create_dir(served.file("pool")).unwrap();
    served.add("tool", "1.1", "Depends: tool-lib (= 1.1), libc6\n").unwrap();
    served.add("tool-lib", "1.1", "").unwrap();
    served.add("other", "1.1", "").unwrap();
    served.sign(Said::default()).unwrap();
    let only = ["tool".to_owned()];
    let second = locked(&cache(), &software, &names, Some((&first, &only))).unwrap();
    let found = ["tool", "tool-lib", "other"].map(|name| version(&second, name));
    assert_eq!(found, ["1.1", "1.1", "1.0"]);
    let mut shown = changes(&first, &second);
    add_security(&mut shown, &second, &cache(), &software).unwrap();
    let up: Vec<_> = shown.up.iter().map(|moved| moved.name.as_str()).collect();
    assert_eq!(up, ["tool", "tool-lib"]);
    assert_eq!(shown.up[0].security[0].cves, ["CVE-2026-0001"]);

    // A repository that serves its older lists again is refused.
    served.sign(Said { age_s: 86_400, valid_s: None }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let error = locked(&Cache::at(folder.path()), &software, &names, Some((&second, &[])));
    assert!(matches!(error, Err(LockError::OlderSnapshot { .. })), "{error:?}");

    // A package of the base comes from Debian only.
    served.add("base-files", "99", "").unwrap();
    served.sign(Said::default()).unwrap();
    let mut software = software;
    software.repositories[0].packages.push("base-files".into());
    let error = locked(&cache(), &software, &["base-files", "acme"], None).unwrap_err();
    assert!(error.to_string().contains("base-files is a package of the base"), "{error}");
}
