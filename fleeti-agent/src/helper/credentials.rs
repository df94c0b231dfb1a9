//! Secrets of the fleet, where systemd looks for credentials of services (systemd.exec(5), `LoadCredential=`): in memory, for
//! root alone.

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

/// Makes the folder hold these secrets and no other. A secret is written beside its place and then put there, so that no
/// service ever reads half of one.
///
/// # Errors
/// For a name that is none, or when the folder cannot be written.
pub fn put(folder: &Path, secrets: &BTreeMap<String, Secret>) -> Result<()> {
    let named = secrets.iter().map(|(name, secret)| Ok((name.parse::<SecretName>()?, Zeroizing::new(STANDARD.decode(secret.expose())?))));
    let named = named.collect::<Result<BTreeMap<_, _>>>().context("a secret that is none")?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(|| folder.display().to_string())?;
    for (name, bytes) in &named {
        // No name of a secret begins with a dot.
        let new = folder.join(format!(".{name}.new"));
        fs::remove_file(&new).ok();
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&new)?;
        file.write_all(bytes)?;
        fs::rename(&new, folder.join(name.as_str()))?;
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let keep =
            entry.file_name().to_str().and_then(|name| name.parse::<SecretName>().ok()).is_some_and(|name| named.contains_key(&name));
        if !keep {
            ensure!(entry.file_type()?.is_file(), "{} is no secret", entry.path().display());
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn secrets(list: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        list.iter().map(|(name, text)| ((*name).to_owned(), Secret::new(STANDARD.encode(text)))).collect()
    }

    #[test]
    fn the_folder_holds_the_secrets_that_came_last_for_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("credstore");
        put(&folder, &secrets(&[("wifi.psk", "one"), ("old", "x")])).unwrap();
        put(&folder, &secrets(&[("wifi.psk", "two")])).unwrap();
        assert_eq!(fs::read(folder.join("wifi.psk")).unwrap(), b"two");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("wifi.psk"))), (0o700, 0o400));
        put(&folder, &BTreeMap::new()).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn a_name_that_leads_elsewhere_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("credstore");
        for bad in ["../passwd", "a/b", ".hidden", "", "A"] {
            assert!(put(&folder, &secrets(&[("good", "x"), (bad, "x")])).is_err(), "{bad:?}");
        }
        assert!(!folder.exists());
    }
}
