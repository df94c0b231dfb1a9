//! Secrets of the fleet: in memory, readable only by root, in a folder of their own, from which a
//! service loads one by path (systemd.exec(5), `LoadCredential=NAME:/run/fleeti-secrets/NAME`). Not
//! in `/run/credstore`: systemd's own services search it for credentials by name, some of which log
//! a user in or clear a folder, and an operator who sets secrets must not get root that way.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::id::SecretName;
use fleeti_core::wire::attestation::Secret;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Makes the folder contain exactly these secrets; returns whether it had other contents. A secret
/// is written to another file and renamed, so that a service never reads a partial one.
///
/// # Errors
/// For an invalid name or value, or if the folder cannot be written.
pub fn put(folder: &Path, secrets: &BTreeMap<String, Secret>) -> Result<bool> {
    let named = secrets.iter().map(|(name, secret)| {
        Ok((name.parse::<SecretName>()?, Zeroizing::new(STANDARD.decode(secret.expose())?)))
    });
    let named = named.collect::<Result<BTreeMap<_, _>>>().context("an invalid secret")?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| folder.display().to_string())?;
    let mut has_changed = false;
    for (name, bytes) in &named {
        if fs::read(folder.join(name.as_str()))
            .is_ok_and(|stored| Zeroizing::new(stored)[..] == bytes[..])
        {
            continue;
        }
        has_changed = true;
        // Names of secrets do not start with a dot.
        let new = folder.join(format!(".{name}.new"));
        fs::remove_file(&new).ok();
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&new)?;
        file.write_all(bytes)?;
        fs::rename(&new, folder.join(name.as_str()))?;
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let keep = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<SecretName>().ok())
            .is_some_and(|name| named.contains_key(&name));
        if !keep {
            ensure!(entry.file_type()?.is_file(), "{} is not a secret", entry.path().display());
            fs::remove_file(entry.path())?;
            has_changed = true;
        }
    }
    Ok(has_changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn secrets(list: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        list.iter()
            .map(|(name, text)| ((*name).to_owned(), Secret::new(STANDARD.encode(text))))
            .collect()
    }

    #[test]
    fn the_folder_holds_the_secrets_that_came_last_for_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("secrets");
        assert!(put(&folder, &secrets(&[("wifi.psk", "one"), ("old", "x")])).unwrap());
        assert!(
            !put(&folder, &secrets(&[("wifi.psk", "one"), ("old", "x")])).unwrap(),
            "the same again"
        );
        assert!(put(&folder, &secrets(&[("wifi.psk", "two")])).unwrap());
        assert_eq!(fs::read(folder.join("wifi.psk")).unwrap(), b"two");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("wifi.psk"))), (0o700, 0o400));
        assert!(put(&folder, &BTreeMap::new()).unwrap());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn a_name_that_leads_elsewhere_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("secrets");
        for bad in ["../passwd", "a/b", ".hidden", "", "A"] {
            assert!(put(&folder, &secrets(&[("good", "x"), (bad, "x")])).is_err(), "{bad:?}");
        }
        assert!(!folder.exists());
    }
}
