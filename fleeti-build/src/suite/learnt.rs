//! What was learnt from installations of packages, by the digest of the .deb file. It is kept in the
//! cache, one line for each package, oldest first: SHA-256, `+` if that is all, and what it brings.

use super::{SuiteError, deb};
use crate::cache::Cache;
use crate::file::write_with_folder;
use crate::lock::{Lock, io};
use fleeti_core::profile::{Brought, IndexParts};
use fleeti_core::strict;
use serde::{Deserialize, Serialize};
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
    cache.root().join("suites/installed")
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

/// What a build says that its packages brought (`nix/debian/brought.py`), by package.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Made {
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
    enabled: BTreeSet<String>,
    units: BTreeSet<String>,
    programs: BTreeSet<String>,
    /// Whether everything that its scripts made is known to be theirs.
    is_whole: bool,
}

/// What is known of a package.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Known {
    brought: Brought,
    is_whole: bool,
}

impl Known {
    /// Adds what an installation made. Another one may have made other things, because of other
    /// packages.
    fn add(&mut self, made: &Made) {
        let Brought { units, programs, users, groups, enabled } = &mut self.brought;
        for (known, made) in [
            (units, &made.units),
            (programs, &made.programs),
            (users, &made.users),
            (groups, &made.groups),
            (enabled, &made.enabled),
        ] {
            known.extend(made.iter().cloned());
        }
        self.is_whole |= made.is_whole;
    }
}

fn report(path: &Path) -> Result<BTreeMap<String, Made>, SuiteError> {
    let wrong = |detail: String| SuiteError::Package { path: path.to_owned(), detail };
    let file = fs::File::open(path).map_err(io(path))?;
    let mut text = String::new();
    file.take(LEARNT_MAX as u64).read_to_string(&mut text).map_err(io(path))?;
    let mut made: BTreeMap<String, Made> =
        strict::from_slice(text.as_bytes()).map_err(|e| wrong(e.to_string()))?;
    for made in made.values_mut() {
        made.users.retain(|name| deb::is_account(name));
        made.groups.retain(|name| deb::is_account(name));
    }
    Ok(made)
}

/// Keeps what the packages of a lock brought in an installation, of which `brought` is the report.
/// Returns the number of packages of which something new is known. A package that cannot be read
/// stays unknown, and `line` says so. Above 64 MiB what was learnt first is forgotten.
///
/// # Errors
/// [`SuiteError`] if the report, or what was learnt, cannot be read or written.
pub fn learn(
    cache: &Cache,
    lock: &Lock,
    brought: &Path,
    line: &mut dyn FnMut(&str),
) -> Result<usize, SuiteError> {
    let made = report(brought)?;
    let _alone = cache.lock("learnt").map_err(io(cache.root()))?;
    let text = read(cache)?.unwrap_or_else(|| {
        line("the file of what was learnt from packages is too large and is replaced");
        String::new()
    });
    let before = by_digest(&text);
    let mut new: BTreeMap<&str, String> = BTreeMap::new();
    for package in lock.set("device") {
        let Some(made) = made.get(&*package.name) else { continue };
        let known = before.get(&*package.sha256).copied();
        let mut reading = match known {
            Some(known) => of_line(known),
            None if !cache.package(&package.sha256).exists() => continue,
            None => match deb::read(&cache.package(&package.sha256)) {
                Ok(brought) => Known { brought, is_whole: false },
                Err(e) => {
                    line(&e.to_string());
                    continue;
                }
            },
        };
        reading.add(made);
        let reading = to_line(&reading);
        if known != Some(reading.as_str()) {
            new.insert(&package.sha256, reading);
        }
    }
    if new.is_empty() {
        return Ok(0);
    }
    line(&format!("keeping what {} packages brought", new.len()));
    let is_kept = |line: &&str| line.split_once('\t').is_some_and(|(id, _)| !new.contains_key(id));
    let mut kept: String = text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect();
    for (sha256, reading) in &new {
        // Writing to a string does not fail.
        writeln!(kept, "{sha256}\t{reading}").ok();
    }
    let path = path(cache);
    write_with_folder(&path, newest(&kept, LEARNT_MAX).as_bytes()).map_err(io(&path))?;
    Ok(new.len())
}

/// Adds what was learnt to the packages of which the suite has the same .deb file.
///
/// # Errors
/// [`SuiteError`] if what was learnt cannot be read.
pub fn add_learnt(cache: &Cache, parts: &mut IndexParts) -> Result<(), SuiteError> {
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

/// The sets of a package, with the letters of their lines.
fn sets(brought: &mut Brought) -> [(char, &mut BTreeSet<String>); 5] {
    let Brought { units, programs, users, groups, enabled } = brought;
    [('U', units), ('B', programs), ('A', users), ('G', groups), ('E', enabled)]
}

fn to_line(known: &Known) -> String {
    let mut line = if known.is_whole { "+".to_owned() } else { "-".to_owned() };
    for (kind, names) in sets(&mut known.brought.clone()) {
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

fn of_line(line: &str) -> Known {
    let mut known = Known::default();
    for field in line.split('\t') {
        match field.split_once(':') {
            Some((letter, name)) => {
                for (kind, names) in sets(&mut known.brought) {
                    if letter.chars().eq([kind]) {
                        names.insert(name.to_owned());
                    }
                }
            }
            None => known.is_whole = field == "+",
        }
    }
    known
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
    fn what_an_installation_made_is_learnt_and_kept_by_the_digest_of_its_package() {
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
        let brought = folder.path().join("brought.json");
        let installed = |text: &str, line: &mut dyn FnMut(&str)| {
            fs::write(&brought, text).unwrap();
            learn(&cache, &lock, &brought, line)
        };
        let made = r#"{"docker.io": {"groups": ["docker", "A"], "enabled": ["docker.service"],
                       "is_whole": true}, "other": {"users": ["x"], "is_whole": true}}"#;
        // A script that makes something only beside another package adds it later.
        let less = r#"{"docker.io": {"is_whole": false}}"#;
        for (text, number) in [("{}", 0), (less, 1), (less, 0), (made, 1), (made, 0), (less, 0)] {
            assert_eq!(installed(text, &mut |_| {}).unwrap(), number, "{text}");
        }
        let mut parts = IndexParts::default();
        let indexed = IndexedPackage { sha256, ..IndexedPackage::default() };
        parts.packages.insert("docker.io".to_owned(), indexed);
        add_learnt(&cache, &mut parts).unwrap();
        let by = BTreeSet::from(["docker.io".to_owned()]);
        for (map, names) in [
            (&parts.groups, &["docker", "dockremap"][..]),
            (&parts.users, &["dockremap"]),
            (&parts.units, &["container.service", "docker.service"]),
            (&parts.programs, &["/usr/bin/docker"]),
            (&parts.enabled, &["docker.service"]),
        ] {
            assert!(map.keys().eq(names.iter().copied()), "{map:?}");
            assert!(map.values().all(|packages| *packages == by));
        }
        assert!(parts.packages["docker.io"].is_learnt);
        // Another version was not installed.
        let mut other = IndexParts::default();
        other.packages.insert("docker.io".to_owned(), IndexedPackage::default());
        add_learnt(&cache, &mut other).unwrap();
        assert!(other.groups.is_empty() && !other.packages["docker.io"].is_learnt);
        // A file above the limit is ignored and replaced.
        let before = fs::read(super::path(&cache)).unwrap();
        let large = fs::File::create(super::path(&cache)).unwrap();
        large.set_len(LEARNT_MAX as u64 + 1).unwrap();
        let mut said = Vec::new();
        assert_eq!(installed(made, &mut |line| said.push(line.to_owned())).unwrap(), 1);
        assert!(said[0].contains("replaced"), "{said:?}");
        assert_eq!(fs::read(super::path(&cache)).unwrap(), before);
    }

    #[test]
    fn a_report_that_is_not_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("brought.json");
        assert!(report(&path).unwrap_err().to_string().contains("brought.json"));
        for text in ["", "[]", r#"{"a": {"owners": []}}"#, r#"{"a": {"users": "x"}}"#] {
            fs::write(&path, text).unwrap();
            let error = report(&path).unwrap_err().to_string();
            assert!(error.contains("brought.json"), "{text}: {error}");
        }
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
