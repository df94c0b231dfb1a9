//! The factory reset: requested by a command, made by the next boot before anything uses the
//! directories, and stated by the helper after it.
//!
//! A power cut leaves the request or its end. The boot repeats a reset that it did not end.

use crate::{Paths, image, kept, write_durably};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// What is remembered of a reset, on the data partition outside what it deletes.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// The command.
    command: String,
    /// The boot in which it was requested.
    boot_id: String,
    /// Number of emptied directories, after the reset.
    wiped: Option<usize>,
}

fn note(paths: &Paths) -> PathBuf {
    paths.data.join("factory-reset.json")
}

fn read(paths: &Paths) -> Option<Note> {
    kept::read(&note(paths), kept::json)
}

fn keep(paths: &Paths, it: &Note) -> Result<()> {
    Ok(write_durably(&note(paths), &serde_json::to_vec(it)?)?)
}

/// Requests the reset for a command, or says what became of it: the number of emptied directories,
/// or `None` if the device must reboot.
///
/// # Errors
/// If the image names nothing to wipe, or the device has booted and did not make the reset; then
/// it is not made later.
pub fn request(paths: &Paths, command: &str, boot_id: &str) -> Result<Option<usize>> {
    match read(paths).filter(|n| n.command == command) {
        Some(Note { wiped: Some(wiped), .. }) => return Ok(Some(wiped)),
        Some(before) if before.boot_id != boot_id => {
            fs::remove_file(note(paths))?;
            bail!("the device has booted and did not reset");
        }
        Some(_) => return Ok(None),
        None => {}
    }
    let folders = image::facts(paths)?.wiped;
    ensure!(!folders.is_empty(), "the profile names no persistent directory that a reset empties");
    let (command, boot_id) = (command.to_owned(), boot_id.to_owned());
    keep(paths, &Note { command, boot_id, wiped: None })?;
    Ok(None)
}

/// Early in a boot: makes the reset that was requested in an earlier one.
///
/// # Errors
/// I/O. The request stays.
pub fn apply(paths: &Paths) -> Result<()> {
    let Some(mut waiting) = read(paths).filter(|n| n.wiped.is_none()) else { return Ok(()) };
    let folders = image::facts(paths)?.wiped;
    for folder in &folders {
        wipe(&paths.data.join("state"), folder)?;
    }
    waiting.wiped = Some(folders.len());
    keep(paths, &waiting)
}

/// Deletes one folder. The next unit makes it again, with its owner and mode.
fn wipe(state: &Path, folder: &str) -> Result<()> {
    let mut parts = Path::new(folder).components();
    let is_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    ensure!(is_name, "{folder:?} is not a folder of the persistent directories");
    // Deletes a link, not what it leads to.
    match fs::remove_dir_all(state.join(folder)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).context(folder.to_owned()),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(wiped: &[&str]) -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        for folder in [
            &paths.lib,
            &paths.data.join("state/var+lib+app/deep"),
            &paths.data.join("state/srv+keep"),
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(paths.data.join("state/var+lib+app/deep/file"), "x").unwrap();
        fs::write(paths.data.join("state/srv+keep/file"), "x").unwrap();
        let facts = serde_json::json!({"minimum_version": "1", "hostname": "x", "health_checks": [], "wiped": wiped});
        fs::write(paths.lib.join("image.json"), facts.to_string()).unwrap();
        (dir, paths)
    }

    #[test]
    fn only_what_the_profile_names_is_emptied_by_the_boot_after_the_request() {
        let (_dir, paths) = device(&["var+lib+app", "never+made"]);
        apply(&paths).unwrap();
        assert!(paths.data.join("state/var+lib+app/deep/file").exists(), "nothing was requested");
        assert_eq!(request(&paths, "c", "a").unwrap(), None);
        assert_eq!(request(&paths, "c", "a").unwrap(), None, "asked again before the reboot");
        apply(&paths).unwrap();
        assert!(!paths.data.join("state/var+lib+app").exists());
        assert!(paths.data.join("state/srv+keep/file").exists());
        assert_eq!(request(&paths, "c", "b").unwrap(), Some(2));
        fs::create_dir_all(paths.data.join("state/var+lib+app")).unwrap();
        apply(&paths).unwrap();
        assert!(paths.data.join("state/var+lib+app").exists(), "a reset is made once");
    }

    #[test]
    fn a_boot_that_does_not_reset_is_no_promise_for_a_later_one() {
        let (_dir, paths) = device(&["var+lib+app"]);
        request(&paths, "c", "a").unwrap();
        assert!(request(&paths, "c", "b").unwrap_err().to_string().contains("did not reset"));
        apply(&paths).unwrap();
        assert!(paths.data.join("state/var+lib+app").exists());
    }

    #[test]
    fn nothing_outside_the_persistent_directories_is_deleted() {
        let (dir, paths) = device(&["../../victim"]);
        fs::create_dir_all(dir.path().join("victim")).unwrap();
        request(&paths, "c", "a").unwrap();
        assert!(apply(&paths).is_err());
        assert!(dir.path().join("victim").exists());
        let (dir, paths) = device(&["link"]);
        fs::create_dir_all(dir.path().join("victim")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("victim"), paths.data.join("state/link"))
            .unwrap();
        request(&paths, "c", "a").unwrap();
        apply(&paths).ok();
        assert!(dir.path().join("victim").exists());
        let (_dir, paths) = device(&[]);
        assert!(request(&paths, "c", "a").is_err());
    }
}
