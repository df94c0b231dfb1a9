use super::restore::{check_complete, restore};
use super::write::{Wanted, write};
use super::{INCOMPLETE, MANIFEST, Manifest, is_known};
use crate::config::Config;
use fleeti_control::doctor::LastBackup;
use fleeti_store::Db;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

#[test]
fn a_backup_has_nothing_that_leads_elsewhere_and_no_key_of_the_signing_service() {
    for path in ["fleeti.db", "admin.token", "pki/public/root.pem", "releases/kiosk/1/raw/a"] {
        assert!(is_known(path), "{path}");
    }
    for path in [
        "",
        "/etc/shadow",
        "releases",
        "releases/../passphrase",
        "releases/./../../x",
        "releases/.staging/x",
        "passphrase",
        "pki/online/audit.key",
        "pki/signing/release.key",
        "audit/entries",
        "standby/identity.json",
        "restored.json",
        "fleeti.db/x",
        "fleeti.db-wal",
    ] {
        assert!(!is_known(path), "{path}");
    }
}

/// A data folder with a database, a token, and a release with a large artifact.
async fn data() -> (tempfile::TempDir, Config, Db) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for (path, bytes) in [
        ("admin.token", b"secret".to_vec()),
        ("passphrase", b"of the signing service".to_vec()),
        ("pki/public/root.pem", b"root".to_vec()),
        ("pki/online/audit.key", b"key".to_vec()),
        ("releases/kiosk/1/manifest.json", b"{}".to_vec()),
        ("releases/kiosk/1/raw/kiosk_1.root", vec![7; 2 << 20]),
        ("releases/.staging/part", b"unfinished".to_vec()),
    ] {
        let path = data.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", data.join("releases/kiosk/1/link")).unwrap();
    let db = Db::open(&data.join("fleeti.db")).await.unwrap();
    (folder, Config::new(data), db)
}

fn wanted(to: PathBuf) -> Wanted {
    Wanted { to, has_artifacts: true, has_database: true }
}

/// All files below a folder, relative.
fn listed(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn what_is_backed_up_is_restored_and_keys_of_the_signing_service_are_not() {
    let (folder, config, db) = data().await;
    let to = folder.path().join("a.tar");
    let (made, manifest) = write(&config, &wanted(to.clone())).await.unwrap();
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(LastBackup::read(&config.data), Some(made));
    assert_eq!(listed(folder.path()).iter().filter(|f| !f.starts_with("data/")).count(), 1);
    assert_eq!(manifest.omitted.len(), 1, "the link: {:?}", manifest.omitted);
    db.close().await;
    let again = folder.path().join("again");
    // As the Debian package leaves it.
    fs::create_dir_all(again.join("pki")).unwrap();
    restore(&to, &again, 1).unwrap();
    assert_eq!(
        listed(&again),
        [
            "admin.token",
            "fleeti.db",
            "pki/public/root.pem",
            "releases/kiosk/1/manifest.json",
            "releases/kiosk/1/raw/kiosk_1.root",
            "restored.json",
        ]
    );
    let token = again.join("admin.token");
    assert_eq!(fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read(token).unwrap(), b"secret");
    Db::open(&again.join("fleeti.db")).await.unwrap().close().await;
    // A backup never replaces another one, and a folder with something in it is not restored into.
    let refused = write(&config, &wanted(to.clone())).await.unwrap_err().to_string();
    assert!(refused.contains("exists"), "{refused}");
    let refused = restore(&to, &again, 1).unwrap_err().to_string();
    assert!(refused.contains("is not empty"), "{refused}");
}

#[tokio::test]
async fn artifacts_are_left_out_by_choice_and_listed() {
    let (folder, config, _db) = data().await;
    let wanted = Wanted { has_artifacts: false, ..wanted(folder.path().to_owned()) };
    let (made, manifest) = write(&config, &wanted).await.unwrap();
    assert!(made.bytes < 2 << 20, "{made:?}");
    let name = made.path.file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with("fleeti-20") && name.ends_with("Z.tar"), "{name}");
    let omitted = manifest.omitted.iter().find(|o| o.path.ends_with("kiosk_1.root")).unwrap();
    assert_eq!((omitted.bytes, omitted.why.as_str()), (2 << 20, "without artifacts"));
    assert!(manifest.files.iter().any(|f| f.path == "releases/kiosk/1/manifest.json"));
}

#[tokio::test]
async fn a_backup_with_one_wrong_byte_or_without_its_end_changes_nothing() {
    let (folder, config, _db) = data().await;
    let to = folder.path().join("a.tar");
    write(&config, &wanted(to.clone())).await.unwrap();
    let good = fs::read(&to).unwrap();
    let again = folder.path().join("again");
    let refused = |bytes: &[u8]| {
        fs::write(&to, bytes).unwrap();
        let refused = restore(&to, &again, 1).unwrap_err();
        assert!(!again.exists(), "{refused:#}");
        format!("{refused:#}")
    };
    let artifact = good.windows(64).position(|w| w == [7; 64]).unwrap();
    let mut bad = good.clone();
    bad[artifact + 1000] ^= 1;
    assert!(refused(&bad).contains("kiosk_1.root is damaged"));
    for length in [0, 100, 512, artifact, good.len() / 2, good.len() - 2048] {
        refused(&good[..length]);
    }
    // The list names another file than the archive has.
    let list = good.windows(13).rposition(|w| w == b"\"admin.token\"").unwrap();
    let mut bad = good.clone();
    bad[list + 1..list + 12].copy_from_slice(b"admin.tokex");
    assert!(refused(&bad).contains("damaged"));
}

/// An archive with these files, and a list of them.
fn archive(to: &Path, files: &[(&str, tar::EntryType)], change: impl FnOnce(&mut Manifest)) {
    let mut archive = tar::Builder::new(fs::File::create(to).unwrap());
    let mut manifest = Manifest {
        format: 1,
        made_s: 1,
        version: "9".into(),
        migration: None,
        files: vec![],
        omitted: vec![],
    };
    let empty = fleeti_core::canonical::sha256_hex(b"");
    for (path, kind) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_entry_type(*kind);
        // As an attacker writes it: the library would refuse such names.
        let name = &mut header.as_gnu_mut().unwrap().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        archive.append(&header, std::io::empty()).unwrap();
        manifest.files.push(super::Entry { path: (*path).into(), bytes: 0, sha256: empty.clone() });
    }
    change(&mut manifest);
    let list = serde_json::to_vec(&manifest).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(list.len() as u64);
    header.set_cksum();
    archive.append_data(&mut header, MANIFEST, list.as_slice()).unwrap();
    archive.finish().unwrap();
}

#[test]
fn a_backup_that_changed_after_it_was_verified_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (to, data) = (folder.path().join("a.tar"), folder.path().join("data"));
    let token = ("admin.token", tar::EntryType::Regular);
    let other = ("fleeti.db", tar::EntryType::Regular);
    archive(&to, &[token], |_| {});
    let manifest = super::restore::verify(&to).unwrap();
    let own = |_: &Path| Ok(());
    for (files, wanted) in [(&[token, other][..], "fleeti.db is not"), (&[][..], "shorter")] {
        fs::create_dir(&data).unwrap();
        archive(&to, files, |_| {});
        let refused = super::restore::unpack_all(&to, &data, &manifest, &own).unwrap_err();
        assert!(refused.to_string().contains(wanted), "{refused}");
        fs::remove_dir_all(&data).unwrap();
    }
}

#[test]
fn a_forged_backup_writes_nothing_outside_of_the_folder_and_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let (to, data) = (folder.path().join("a.tar"), folder.path().join("data"));
    let refused = || {
        let refused = restore(&to, &data, 1).unwrap_err();
        assert!(!data.exists() && !folder.path().join("x").exists(), "{refused:#}");
        format!("{refused:#}")
    };
    for path in ["../x", "/tmp/fleeti-x", "pki/online/audit.key", "releases/../../x", ".x"] {
        archive(&to, &[(path, tar::EntryType::Regular)], |_| {});
        assert!(refused().contains("does not belong in a backup"), "{path}");
    }
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Directory] {
        archive(&to, &[("admin.token", kind)], |_| {});
        assert!(refused().contains("no regular file"), "{kind:?}");
    }
    let token = [("admin.token", tar::EntryType::Regular)];
    archive(&to, &token, |manifest| manifest.format = 2);
    assert!(refused().contains("format is 2"));
    archive(&to, &token, |manifest| manifest.migration = Some(i64::MAX));
    assert!(refused().contains("fleeti-server 9 or newer"));
    archive(&to, &token, |manifest| manifest.files.clear());
    assert!(refused().contains("its list lacks"));
    let other = ("fleeti.db", tar::EntryType::Regular);
    archive(&to, &[token[0], other], |manifest| drop(manifest.files.pop()));
    assert!(refused().contains("its list lacks"));
    archive(&to, &[token[0], token[0]], |_| {});
    assert!(refused().contains("twice"));
    archive(&to, &token, |manifest| manifest.migration = Some(1));
    assert!(refused().contains("contradicts"));
    archive(&to, &token, |_| {});
    restore(&to, &data, 1).unwrap();
    check_complete(&data).unwrap();
    fs::write(data.join(INCOMPLETE), "").unwrap();
    let said = check_complete(&data).unwrap_err().to_string();
    assert!(said.contains("was interrupted"), "{said}");
}

#[tokio::test]
async fn a_database_of_postgresql_is_refused_with_the_tool_that_copies_it() {
    let (folder, config, _db) = data().await;
    let database = "postgres://fleeti@localhost/fleeti".parse().unwrap();
    let config = Config { database: Some(database), ..config };
    let to = folder.path().join("a.tar");
    let refused = write(&config, &wanted(to.clone())).await.unwrap_err().to_string();
    assert!(refused.contains("pg_dump") && !to.exists(), "{refused}");
    let files = Wanted { has_database: false, ..wanted(to.clone()) };
    let (_, manifest) = write(&config, &files).await.unwrap();
    assert!(manifest.migration.is_none() && manifest.files.len() > 2);
}
