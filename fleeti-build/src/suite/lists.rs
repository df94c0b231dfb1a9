//! Reads the lists of a suite: packages, their summaries, and their contents.

use super::{SuiteError, deb};
use crate::apt::{Apt, SUITE};
use crate::lock::LockError;
use fleeti_core::package_version::compare;
use fleeti_core::profile::{IndexParts, IndexedPackage};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

/// Longest line of a list, bytes.
const LINE_MAX: u64 = 1 << 20;

/// Reads the list of packages and their summaries.
pub(super) fn packages(apt: &Apt, parts: &mut IndexParts) -> Result<(), SuiteError> {
    let security = format!("_dists_{SUITE}-security_");
    let mut summaries = BTreeMap::new();
    for file in &of_kind(apt, "Translations")? {
        read(apt, file, &mut Stanzas::new(|stanza| summary(stanza, &mut summaries)))?;
    }
    for file in &of_kind(apt, "Packages")? {
        let is_security = file.contains(&security);
        let mut take = |stanza: &Stanza| {
            package(stanza, &summaries, parts);
            if is_security {
                fixed(stanza, parts);
            }
        };
        read(apt, file, &mut Stanzas::new(&mut take))?;
    }
    if parts.packages.is_empty() { Err(SuiteError::Missing("packages")) } else { Ok(()) }
}

/// Reads lists of contents.
pub(super) fn contents(
    apt: &Apt,
    files: &[String],
    parts: &mut IndexParts,
) -> Result<(), SuiteError> {
    files.iter().try_for_each(|file| read(apt, file, &mut Contents(parts)))
}

/// Paths of the lists of one kind.
pub(super) fn of_kind(apt: &Apt, kind: &str) -> Result<Vec<String>, SuiteError> {
    let by = format!("Created-By: {kind}");
    let text =
        apt.run(&["indextargets", "--format", "$(FILENAME)", &by]).map_err(LockError::from)?;
    // apt also names lists that the suite does not have.
    Ok(text.lines().filter(|path| fs::exists(path).unwrap_or(false)).map(str::to_owned).collect())
}

/// Something that takes the lines of a list.
trait Lines {
    fn line(&mut self, line: &str);
    fn end(&mut self) {}
}

/// Reads a list line by line, however it is compressed.
fn read(apt: &Apt, path: &str, lines: &mut dyn Lines) -> Result<(), SuiteError> {
    let program = "/usr/lib/apt/apt-helper";
    let failed = |detail: String| LockError::Program { program: "apt-helper", detail };
    let mut child = apt
        .command(program)
        .args(["cat-file", path])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    let Some(output) = child.stdout.take() else { return Ok(()) };
    let mut output = BufReader::new(output);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let n = (&mut output)
            .take(LINE_MAX)
            .read_until(b'\n', &mut bytes)
            .map_err(|e| failed(e.to_string()))?;
        if n == 0 {
            break;
        }
        lines.line(String::from_utf8_lossy(&bytes).trim_end_matches('\n'));
    }
    lines.end();
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(format!("{path}: {status}")).into()) }
}

/// Fields of a stanza (deb822(5)), without lines that continue one.
type Stanza = BTreeMap<String, String>;

/// Splits lines into stanzas.
struct Stanzas<F> {
    stanza: Stanza,
    take: F,
}

impl<F: FnMut(&Stanza)> Stanzas<F> {
    fn new(take: F) -> Self {
        Self { stanza: Stanza::new(), take }
    }
}

impl<F: FnMut(&Stanza)> Lines for Stanzas<F> {
    fn line(&mut self, line: &str) {
        if line.is_empty() {
            self.end();
        } else if !line.starts_with([' ', '\t'])
            && let Some((name, value)) = line.split_once(':')
        {
            self.stanza.insert(name.to_owned(), value.trim().to_owned());
        }
    }
    fn end(&mut self) {
        if !self.stanza.is_empty() {
            (self.take)(&self.stanza);
            self.stanza.clear();
        }
    }
}

fn summary(stanza: &Stanza, summaries: &mut BTreeMap<String, String>) {
    if let (Some(name), Some(text)) = (stanza.get("Package"), stanza.get("Description-en")) {
        summaries.insert(name.clone(), text.clone());
    }
}

fn package(stanza: &Stanza, summaries: &BTreeMap<String, String>, parts: &mut IndexParts) {
    let field = |name: &str| stanza.get(name).map_or("", String::as_str);
    let name = field("Package");
    if name.is_empty() {
        return;
    }
    let both = format!("{}, {}", field("Pre-Depends"), field("Depends"));
    let size_kib = field("Installed-Size").parse().unwrap_or(0);
    let summary = match field("Description") {
        "" => summaries.get(name).cloned().unwrap_or_default(),
        text => text.to_owned(),
    };
    let version = field("Version").to_owned();
    // Several suites have it: apt takes the newest one.
    let known = parts.packages.get(name);
    if known.is_some_and(|known| compare(&known.version, &version).is_gt()) {
        return;
    }
    let sha256 = field("SHA256").to_owned();
    let depends = depends(&both);
    let is_learnt = false;
    let package = IndexedPackage { version, size_kib, sha256, depends, summary, is_learnt };
    parts.packages.insert(name.to_owned(), package);
    for provided in field("Provides").split(',').map(without_version).filter(|p| !p.is_empty()) {
        parts.provided.entry(provided.to_owned()).or_default().insert(name.to_owned());
    }
}

/// Keeps the newest version that the security suite has of a package.
fn fixed(stanza: &Stanza, parts: &mut IndexParts) {
    let (Some(name), Some(version)) = (stanza.get("Package"), stanza.get("Version")) else {
        return;
    };
    let known = parts.security.entry(name.clone()).or_default();
    if known.version.is_empty() || compare(&known.version, version).is_lt() {
        known.version.clone_from(version);
    }
}

/// The name in a relation such as `libc6:any (>= 2.38) [amd64]`.
fn without_version(relation: &str) -> &str {
    let name = relation.trim().split([' ', '(', '[']).next().unwrap_or_default();
    name.split(':').next().unwrap_or_default()
}

/// Dependencies in the form of the index.
fn depends(relations: &str) -> String {
    let group = |group: &str| {
        let names: Vec<_> =
            group.split('|').map(without_version).filter(|name| !name.is_empty()).collect();
        names.join("|")
    };
    let groups: Vec<_> = relations.split(',').map(group).filter(|g| !g.is_empty()).collect();
    groups.join(",")
}

/// Reads lines of a list of contents: a path, and packages with their sections.
struct Contents<'a>(&'a mut IndexParts);

impl Lines for Contents<'_> {
    fn line(&mut self, line: &str) {
        let Some((path, packages)) = line.rsplit_once(char::is_whitespace) else { return };
        let path = path.trim_end();
        let entry = if let Some(unit) = deb::unit(path) {
            self.0.units.entry(unit.to_owned())
        } else if let Some(program) = deb::program(path) {
            self.0.programs.entry(program)
        } else {
            return;
        };
        let names = packages.split(',').filter_map(|package| package.rsplit('/').next());
        entry.or_insert_with(BTreeSet::new).extend(names.map(str::to_owned));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_become_packages() {
        let mut parts = IndexParts::default();
        let summaries = BTreeMap::from([("nginx".to_owned(), "web server".to_owned())]);
        let text = "Package: nginx\nVersion: 1.26-1\nInstalled-Size: 1383\nProvides: httpd, httpd-cgi (= 1)\n\
                    Pre-Depends: a\nDepends: nginx-common (<< 1.26.1~), libc6:any (>= 2.38) | libc7,\n continued\n\n\
                    Package: b\nVersion: 1.10\nDescription: other\n\n\
                    Package: b\nVersion: 1.9\nDescription: older\n";
        let mut stanzas = Stanzas::new(|stanza: &Stanza| package(stanza, &summaries, &mut parts));
        text.lines().for_each(|line| stanzas.line(line));
        stanzas.end();
        let nginx = IndexedPackage {
            version: "1.26-1".to_owned(),
            size_kib: 1383,
            depends: "a,nginx-common,libc6|libc7".to_owned(),
            summary: "web server".to_owned(),
            ..IndexedPackage::default()
        };
        assert_eq!(parts.packages["nginx"], nginx);
        assert_eq!(parts.packages["b"].summary, "other");
        assert!(parts.provided["httpd"].contains("nginx"));
        assert!(parts.provided["httpd-cgi"].contains("nginx"));
    }

    #[test]
    fn contents_become_units_and_programs() {
        let mut parts = IndexParts::default();
        let mut contents = Contents(&mut parts);
        for line in [
            "usr/lib/systemd/system/nginx.service      httpd/nginx-common",
            "lib/systemd/system/old.service\tadmin/old,admin/older",
            "usr/lib/systemd/system/multi-user.target.wants/x.service admin/x",
            "usr/bin/a name  utils/odd",
            "usr/sbin/nginx  httpd/nginx",
            "bin/sh shells/dash",
            "usr/share/doc/nginx/copyright httpd/nginx",
            "nothing",
        ] {
            contents.line(line);
        }
        let units: Vec<_> = parts.units.keys().map(String::as_str).collect();
        assert_eq!(units, ["nginx.service", "old.service"]);
        assert_eq!(parts.units["old.service"].len(), 2);
        let programs: Vec<_> = parts.programs.keys().map(String::as_str).collect();
        assert_eq!(programs, ["/usr/bin/a name", "/usr/bin/sh", "/usr/sbin/nginx"]);
        assert!(parts.programs["/usr/sbin/nginx"].contains("nginx"));
    }
}
