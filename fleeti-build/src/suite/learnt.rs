//! What was learnt from packages themselves, by the digest of the .deb file. It is kept in the cache,
//! one line for each package, oldest first: SHA-256, `+` if that is all, and what it brings.

use super::{SuiteError, deb};
use crate::cache::Cache;
use crate::file::write_with_folder;
use crate::lock::{Lock, io};
use fleeti_core::profile::{Brought, IndexParts};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Largest file of what was learnt, bytes.
const LEARNT_MAX: usize = 64 << 20;
/// Longest line that is kept: an index has no longer ones.
const LINE_MAX: usize = 64 << 10;

fn path(cache: &Cache) -> PathBuf {
    cache.root().join("suites/learnt")
}

/// Whether something was learnt after a file was written.
pub(super) fn is_newer(cache: &Cache, than: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    changed(&path(cache)).is_some_and(|learnt| changed(than).is_none_or(|than| learnt >= than))
}

/// What was learnt; `None` if that is more than the limit.
fn read(cache: &Cache) -> Result<Option<String>, SuiteError> {
    let path = path(cache);
    let mut text = String::new();
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Some(text)),
        Err(e) => return Err(io(&path)(e).into()),
    };
    if file.metadata().map_err(io(&path))?.len() > LEARNT_MAX as u64 {
        return Ok(None);
    }
    file.take(LEARNT_MAX as u64).read_to_string(&mut text).map_err(io(&path))?;
    Ok(Some(text))
}

/// Lines by SHA-256.
fn by_digest(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('\t')).collect()
}

/// The newest lines, of at most so many bytes.
fn newest(text: &str, most: usize) -> &str {
    let over = text.len().saturating_sub(most);
    if over == 0 {
        return text;
    }
    // The first line that begins at `over` or after it.
    let end = text.as_bytes()[over - 1..].iter().position(|byte| *byte == b'\n');
    end.and_then(|end| text.get(over + end..)).unwrap_or_default()
}

/// Reads the packages of a lock that are in the cache and were not read before, and keeps what they
/// bring. Returns the number of packages that were read. A package that cannot be read stays
/// unknown, and `line` says so. Above 64 MiB what was learnt first is forgotten.
///
/// # Errors
/// [`SuiteError`] if what was learnt cannot be read or written.
pub fn learn(cache: &Cache, lock: &Lock, line: &mut dyn FnMut(&str)) -> Result<usize, SuiteError> {
    let _alone = cache.lock("learnt").map_err(io(cache.root()))?;
    let mut text = read(cache)?.unwrap_or_else(|| {
        line("the file of what was learnt from packages is too large and is replaced");
        String::new()
    });
    let packages: BTreeSet<_> = lock.set("device").iter().map(|package| &package.sha256).collect();
    let new: Vec<_> = {
        let known = by_digest(&text);
        let is_new = |sha256: &str| !known.contains_key(sha256) && cache.package(sha256).exists();
        packages.into_iter().filter(|sha256| is_new(sha256)).collect()
    };
    if new.is_empty() {
        return Ok(0);
    }
    line(&format!("reading what {} packages create", new.len()));
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for sha256 in &new {
        match deb::read(&cache.package(sha256)) {
            Ok(reading) => {
                // Writing to a string does not fail.
                writeln!(text, "{sha256}\t{}", to_line(&reading)).ok();
            }
            Err(e) => line(&e.to_string()),
        }
    }
    let path = path(cache);
    write_with_folder(&path, newest(&text, LEARNT_MAX).as_bytes()).map_err(io(&path))?;
    Ok(new.len())
}

/// Adds what was learnt from the packages that the suite has in the same version.
pub(super) fn add(cache: &Cache, parts: &mut IndexParts) -> Result<(), SuiteError> {
    let text = read(cache)?.unwrap_or_default();
    let known = by_digest(&text);
    let packages: Vec<_> = parts
        .packages
        .iter()
        .filter_map(|(name, package)| Some((name.clone(), *known.get(package.sha256.as_str())?)))
        .collect();
    for (name, line) in packages {
        let reading = of_line(line);
        parts.learn(&name, &reading.brought);
        if let Some(package) = parts.packages.get_mut(&name) {
            package.is_learnt = reading.is_whole;
        }
    }
    Ok(())
}

fn to_line(reading: &deb::Reading) -> String {
    let Brought { units, programs, users, groups } = &reading.brought;
    let mut line = if reading.is_whole { "+".to_owned() } else { "-".to_owned() };
    for (kind, names) in [('U', units), ('B', programs), ('A', users), ('G', groups)] {
        for name in names.iter().filter(|name| !name.contains(char::is_control)) {
            if line.len() + name.len() + 3 > LINE_MAX {
                line.replace_range(..1, "-");
                return line;
            }
            // Writing to a string does not fail.
            write!(line, "\t{kind}:{name}").ok();
        }
    }
    line
}

fn of_line(line: &str) -> deb::Reading {
    let mut reading = deb::Reading::default();
    for field in line.split('\t') {
        let Brought { units, programs, users, groups } = &mut reading.brought;
        let names = match field.get(..2) {
            Some("U:") => units,
            Some("B:") => programs,
            Some("A:") => users,
            Some("G:") => groups,
            _ => {
                reading.is_whole = field == "+";
                continue;
            }
        };
        names.insert(field[2..].to_owned());
    }
    reading
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::profile::IndexedPackage;
    use std::process::Command;

    /// A package with a unit, a program, a sysusers.d file and a script that makes a group.
    fn package(folder: &Path) -> PathBuf {
        let root = folder.join("root");
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            if name.ends_with("inst") {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                fs::set_permissions(&path, mode).unwrap();
            }
        };
        let control = "Package: docker.io\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: x\n";
        write("DEBIAN/control", control);
        write("DEBIAN/postinst", "#!/bin/sh\ngroupadd --system docker\n");
        write("usr/lib/systemd/system/docker.service", "[Install]\nAlias=container.service\n");
        write("usr/bin/docker", "");
        write("usr/lib/sysusers.d/d.conf", "u dockremap -\n");
        write(&format!("usr/share/{}x", "long/".repeat(40)), "");
        let deb = folder.join("x.deb");
        let made = Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .args([&root, &deb])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        deb
    }

    #[test]
    fn what_a_package_creates_is_learnt_once_and_kept_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let deb = package(folder.path());
        let sha256 = crate::file::sha256_file(&deb).unwrap();
        let kept = cache.package(&sha256);
        fs::create_dir_all(kept.parent().unwrap()).unwrap();
        fs::copy(&deb, &kept).unwrap();
        let lock = serde_json::json!({
            "suite": "trixie", "architecture": "amd64", "requested": {"device": ["docker.io"]},
            "sets": {"device": [{
                "name": "docker.io", "version": "1", "sha256": sha256, "size": 5,
                "path": "pool/main/d/docker.io_1_all.deb",
            }]},
        });
        let lock: Lock = serde_json::from_value(lock).unwrap();
        assert_eq!(learn(&cache, &lock, &mut |_| {}).unwrap(), 1);
        assert_eq!(learn(&cache, &lock, &mut |_| {}).unwrap(), 0);
        let mut parts = IndexParts::default();
        let indexed = IndexedPackage { sha256, ..IndexedPackage::default() };
        parts.packages.insert("docker.io".to_owned(), indexed);
        add(&cache, &mut parts).unwrap();
        let by = BTreeSet::from(["docker.io".to_owned()]);
        for (map, names) in [
            (&parts.groups, &["docker", "dockremap"][..]),
            (&parts.users, &["dockremap"]),
            (&parts.units, &["container.service", "docker.service"]),
            (&parts.programs, &["/usr/bin/docker"]),
        ] {
            assert!(map.keys().eq(names.iter().copied()), "{map:?}");
            assert!(map.values().all(|packages| *packages == by));
        }
        assert!(parts.packages["docker.io"].is_learnt);
        // Another version was not read.
        let mut other = IndexParts::default();
        other.packages.insert("docker.io".to_owned(), IndexedPackage::default());
        add(&cache, &mut other).unwrap();
        assert!(other.groups.is_empty() && !other.packages["docker.io"].is_learnt);
        // A file above the limit is ignored and replaced.
        let before = fs::read(super::path(&cache)).unwrap();
        let large = fs::File::create(super::path(&cache)).unwrap();
        large.set_len(LEARNT_MAX as u64 + 1).unwrap();
        let mut said = Vec::new();
        assert_eq!(learn(&cache, &lock, &mut |line| said.push(line.to_owned())).unwrap(), 1);
        assert!(said[0].contains("replaced"), "{said:?}");
        assert_eq!(fs::read(super::path(&cache)).unwrap(), before);
    }

    #[test]
    fn what_was_learnt_first_is_forgotten_in_whole_lines() {
        let text = "a\t+\nb\t+\nc\t+\n";
        for (most, kept) in
            [(12, text), (13, text), (11, &text[4..]), (8, &text[4..]), (7, &text[8..]), (3, "")]
        {
            assert_eq!(newest(text, most), kept, "{most}");
        }
    }

    #[test]
    fn a_file_that_is_no_package_stays_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.deb");
        fs::write(&path, "nothing").unwrap();
        let error = deb::read(&path).unwrap_err().to_string();
        assert!(error.contains("x.deb"), "{error}");
    }
}
