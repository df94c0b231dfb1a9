//! What the packages of a suite bring, as an index for checks and searches.
//!
//! apt downloads the lists of packages and of their contents, and verifies them by the signature of
//! the suite. The index is made from them once, and kept in the [`Cache`].

use crate::apt::Apt;
use crate::cache::Cache;
use crate::file::write_with_folder;
use crate::lock::{LockError, SUITE, io};
use fleeti_core::profile::{INDEX_MAX, IndexError, IndexParts, IndexedPackage, SuiteIndex};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::Stdio;

/// Lets apt fetch the lists of contents as well.
const CONTENTS: &str = "Acquire::IndexTargets::deb::Contents-deb {\n\
    MetaKey \"$(COMPONENT)/Contents-$(ARCHITECTURE)\";\n\
    ShortDescription \"Contents-$(ARCHITECTURE)\";\n\
    Description \"$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Contents (deb)\";\n\
    flatMetaKey \"Contents-$(ARCHITECTURE)\";\n\
    flatDescription \"$(RELEASE) Contents (deb)\";\n\
    PDiffs \"false\";\nKeepCompressed \"true\";\nIdentifier \"Contents-deb\";\n};\n\
    Acquire::Languages { \"en\"; };\n";

/// Lets apt fetch the summaries of packages.
const TRANSLATIONS: &str = "Acquire::Languages { \"en\"; };\n";

/// Longest line of a list, bytes.
const LINE_MAX: u64 = 1 << 20;

/// Why there is no index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// apt, or a file of the cache.
    #[error(transparent)]
    Apt(#[from] LockError),
    /// The index in the cache.
    #[error("{path}: {source}")]
    Index {
        /// Path of the index.
        path: PathBuf,
        /// What is wrong with it.
        source: IndexError,
    },
    /// A list of apt has no text, or apt did not download it.
    #[error("apt has no {0} of the suite")]
    Missing(&'static str),
}

fn path(cache: &Cache) -> PathBuf {
    cache.root().join("suites").join(format!("{SUITE}.index"))
}

/// The index that was made before; `None` if there is none.
///
/// # Errors
/// [`SuiteError`] if it cannot be read.
pub fn load(cache: &Cache) -> Result<Option<SuiteIndex>, SuiteError> {
    let path = path(cache);
    let mut text = String::new();
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(&path)(e).into()),
    };
    file.take(INDEX_MAX as u64 + 1).read_to_string(&mut text).map_err(io(&path))?;
    let index = SuiteIndex::new(text).map_err(|source| SuiteError::Index { path, source })?;
    Ok(Some(index))
}

/// Downloads the lists of the suite and makes the index from them. Says on `line` what it does.
///
/// # Errors
/// [`SuiteError`].
pub fn refresh(cache: &Cache, line: &mut dyn FnMut(&str)) -> Result<SuiteIndex, SuiteError> {
    let _alone = cache.lock("apt-index").map_err(io(cache.root()))?;
    let name = format!("{SUITE}-index");
    let mut apt = Apt::new(cache, &name, CONTENTS).map_err(LockError::from)?;
    line("downloading the lists of packages and of their contents");
    if let Err(e) = apt.run(&["update", "-qq"]) {
        // Some mirrors have lists of contents of another day, which do not match the signature.
        line(&format!("units and programs will not be checked, because of the mirror: {e}"));
        apt = Apt::new(cache, &name, TRANSLATIONS).map_err(LockError::from)?;
        apt.run(&["update", "-qq"]).map_err(LockError::from)?;
    }
    let mut parts = IndexParts::default();
    line("reading the list of packages");
    let packages = lists(&apt, "Packages")?;
    let translations = lists(&apt, "Translations")?;
    let mut summaries = BTreeMap::new();
    for file in &translations {
        read(&apt, file, &mut Stanzas::new(|stanza| summary(stanza, &mut summaries)))?;
    }
    for file in &packages {
        read(&apt, file, &mut Stanzas::new(|stanza| package(stanza, &summaries, &mut parts)))?;
    }
    line("reading the lists of contents");
    for file in &lists(&apt, "Contents-deb")? {
        read(&apt, file, &mut Contents(&mut parts))?;
    }
    if parts.packages.is_empty() {
        return Err(SuiteError::Missing("packages"));
    }
    let text = parts.to_text(SUITE);
    let path = path(cache);
    write_with_folder(&path, text.as_bytes()).map_err(io(&path))?;
    SuiteIndex::new(text).map_err(|source| SuiteError::Index { path, source })
}

/// Paths of the lists of one kind.
fn lists(apt: &Apt, kind: &str) -> Result<Vec<String>, SuiteError> {
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
    let package = IndexedPackage { version, size_kib, depends: depends(&both), summary };
    parts.packages.insert(name.to_owned(), package);
    for provided in field("Provides").split(',').map(without_version).filter(|p| !p.is_empty()) {
        parts.provided.entry(provided.to_owned()).or_default().insert(name.to_owned());
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
        // Before /usr was merged, the same folders were below the root.
        let path = path.strip_prefix("usr/").unwrap_or(path);
        let is_one_name = |name: &str| !name.is_empty() && !name.contains('/');
        let entry = if let Some(unit) =
            path.strip_prefix("lib/systemd/system/").filter(|unit| is_one_name(unit))
        {
            self.0.units.entry(unit.to_owned())
        } else if ["bin/", "sbin/"]
            .iter()
            .any(|folder| path.strip_prefix(folder).is_some_and(is_one_name))
        {
            self.0.programs.entry(format!("/usr/{path}"))
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
    use fleeti_core::profile::SuiteFindings;

    #[test]
    fn stanzas_become_packages() {
        let mut parts = IndexParts::default();
        let summaries = BTreeMap::from([("nginx".to_owned(), "web server".to_owned())]);
        let text = "Package: nginx\nVersion: 1.26-1\nInstalled-Size: 1383\nProvides: httpd, httpd-cgi (= 1)\n\
                    Pre-Depends: a\nDepends: nginx-common (<< 1.26.1~), libc6:any (>= 2.38) | libc7,\n continued\n\n\
                    Package: b\nVersion: 1\nDescription: other\n";
        let mut stanzas = Stanzas::new(|stanza: &Stanza| package(stanza, &summaries, &mut parts));
        text.lines().for_each(|line| stanzas.line(line));
        stanzas.end();
        let nginx = IndexedPackage {
            version: "1.26-1".to_owned(),
            size_kib: 1383,
            depends: "a,nginx-common,libc6|libc7".to_owned(),
            summary: "web server".to_owned(),
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

    #[test]
    fn without_an_index_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        assert!(load(&cache).unwrap().is_none());
        write_with_folder(&path(&cache), b"something else").unwrap();
        assert!(load(&cache).unwrap_err().to_string().contains("make it again"));
    }

    #[test]
    #[ignore = "downloads the lists of the suite"]
    fn the_index_of_the_suite_knows_everyday_packages() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let begun = std::time::Instant::now();
        let made = refresh(&cache, &mut |line| println!("{line}")).unwrap();
        println!("made in {:?}", begun.elapsed());
        let begun = std::time::Instant::now();
        let index = load(&cache).unwrap().unwrap();
        println!("loaded in {:?}", begun.elapsed());
        assert_eq!(index.suite(), made.suite());
        assert!(index.package("nginx").unwrap().summary.contains("web"));
        if index.has_contents() {
            assert_eq!(index.with_unit("nginx.service"), ["nginx-common"]);
            assert!(index.with_program("/bin/zsh").contains(&"zsh"));
            assert_eq!(index.with_program("/bin/sh"), ["dash"]);
        }
        let closure = index.closure(["nginx"]);
        assert!(closure.contains("libc6") && closure.contains("nginx-common"));
        let text = "schema = 1\nname = \"x\"\narchitecture = \"x86_64\"\nextends = [\"template/web-server\"]\n";
        let profile = fleeti_core::profile::check(text).unwrap();
        let begun = std::time::Instant::now();
        let found = fleeti_core::profile::against_suite(&profile, &index, &["bash"]);
        println!("checked in {:?}: {found:?}", begun.elapsed());
        assert_eq!(found, SuiteFindings::default());
        for fragment in fleeti_core::profile::Builtin::all() {
            let text = format!(
                "schema = 1\nname = \"x\"\narchitecture = \"x86_64\"\nextends = [\"{}\"]\n",
                fragment.name
            );
            let profile = fleeti_core::profile::check(&text).unwrap();
            let found = fleeti_core::profile::against_suite(&profile, &index, &["bash"]);
            assert_eq!(found, SuiteFindings::default(), "{}", fragment.name);
        }
    }
}
