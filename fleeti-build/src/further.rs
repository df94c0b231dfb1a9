//! Packages that do not come from Debian's archive: those of further repositories, and one's own.
//!
//! apt reads and verifies each further repository in a directory of its own, where nothing else is.
//! What a profile lets the repository bring is written to a list that the apt which resolves a lock
//! reads as a local repository. So a repository cannot bring a package that the base has, whatever
//! versions, pins or origins it claims, unless the profile names that package.

use crate::apt::{ARCHITECTURE, Apt};
use crate::cache::Cache;
use crate::fetch::{self, Length, Problem, Wanted};
use crate::lock::{LockError, Snapshot, io};
use crate::package::{OWN, Origin, PACKAGE_MAX, Package, WrongForm};
use crate::places::place;
use crate::snapshot;
use crate::stanza::{self, Stanza, field, related};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::profile::{OwnPackage, Repository};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Age limit of the lists of a repository, if the profile has none, days.
const AGE_DAYS_MAX: u32 = 90;
/// Largest number of packages that a repository is asked for.
const NEEDED_MAX: usize = 8192;
/// Fields of a package that apt needs to resolve. `Essential` and the like are left out: they would
/// install a package that nobody asked for.
const FIELDS: [&str; 10] = [
    "Package",
    "Version",
    "Architecture",
    "Multi-Arch",
    "Depends",
    "Pre-Depends",
    "Provides",
    "Conflicts",
    "Breaks",
    "Replaces",
];

/// Says which of some packages the base has.
pub(crate) type Base<'a> = dyn FnMut(&BTreeSet<String>) -> Result<BTreeSet<String>, LockError> + 'a;

/// Packages of a local repository.
#[derive(Debug, Default)]
pub(crate) struct Further {
    /// By SHA-256.
    pub(crate) packages: BTreeMap<String, Package>,
    list: String,
    /// Packages that the profile names: they are taken from here, and not from the base.
    pub(crate) named: BTreeSet<String>,
    /// When the lists of repositories were made.
    pub(crate) snapshots: BTreeMap<String, Snapshot>,
}

impl Further {
    /// The list of the local repository.
    pub(crate) fn list(&self) -> &str {
        &self.list
    }

    /// Names of all packages.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.packages.values().map(|package| &*package.name).collect()
    }

    /// Adds a package with the fields of its stanza.
    pub(crate) fn add(&mut self, package: Package, fields: &Stanza) {
        for name in FIELDS {
            if let Some(value) = fields.get(name) {
                let _ = writeln!(self.list, "{name}: {value}");
            }
        }
        let (sha256, size) = (&package.sha256, package.size);
        let _ = writeln!(self.list, "Filename: {sha256}.deb\nSize: {size}\nSHA256: {sha256}\n");
        self.packages.insert(sha256.to_string(), package);
    }

    /// Adds the packages that a profile names by digest, and downloads them.
    pub(crate) fn add_own(&mut self, cache: &Cache, own: &OwnPackage) -> Result<(), LockError> {
        let failed = |detail: String| LockError::Own { name: own.name.clone(), detail };
        let form = |e: WrongForm| failed(e.to_string());
        let sha256 = own.sha256.parse().map_err(form)?;
        let file = cache.package(&own.sha256);
        let is_there = crate::file::sha256_file(&file).is_ok_and(|found| found == own.sha256);
        if !is_there {
            let folder = cache.root().join("packages");
            fs::create_dir_all(&folder).map_err(io(&folder))?;
            // Another process may be downloading the same package.
            let _alone = cache.lock("packages").map_err(io(cache.root()))?;
            let length = Length::AtMost(PACKAGE_MAX);
            let wanted = Wanted { place: place(own), sha256, length };
            let mut problems =
                fetch::all(Duration::from_secs(1), &folder, &[wanted], &mut || {}).into_iter();
            match problems.next() {
                None => {}
                Some((_, Problem::Gone)) => {
                    return Err(failed(format!("{} is not there", own.from)));
                }
                Some((_, Problem::Failed(why))) => return Err(failed(why)),
                Some((_, Problem::Digest { found })) => {
                    let (name, expected) = (own.name.clone(), own.sha256.clone());
                    return Err(LockError::Digest { name, found, expected });
                }
            }
        }
        let fields = control(&file)?;
        if field(&fields, "Package") != own.name {
            return Err(failed(format!("the .deb is of {:?}", field(&fields, "Package"))));
        }
        if ![ARCHITECTURE, "all"].contains(&field(&fields, "Architecture")) {
            let found = field(&fields, "Architecture");
            return Err(failed(format!("the .deb is for {found:?}, expected {ARCHITECTURE}")));
        }
        let version = field(&fields, "Version");
        // A file name has no epoch.
        let short = version.split_once(':').map_or(version, |(_, rest)| rest);
        let package = Package {
            name: own.name.parse().map_err(form)?,
            version: version.parse().map_err(form)?,
            sha256: own.sha256.parse().map_err(form)?,
            size: fs::metadata(&file).map_err(io(&file))?.len(),
            path: format!("{}_{short}.deb", own.name).parse().map_err(form)?,
            origin: Some(OWN.parse().map_err(form)?),
        };
        self.add(package, &fields);
        self.named.insert(own.name.clone());
        Ok(())
    }

    /// Adds what a repository may bring: the packages that the profile names, and what they need and
    /// `base` does not have.
    pub(crate) fn add_repository(
        &mut self,
        cache: &Cache,
        repository: &Repository,
        age_days_max: Option<u32>,
        base: &mut Base<'_>,
    ) -> Result<(), LockError> {
        let apt = apt(cache, repository, age_days_max.unwrap_or(AGE_DAYS_MAX))?;
        apt.run(&["update", "-qq"])?;
        self.snapshots.extend(snapshot::read(&apt, &repository.name)?);
        let lists = apt.run(&[
            "indextargets",
            "--format",
            "$(FILENAME)|$(COMPONENT)",
            "Created-By: Packages",
        ])?;
        let mut stanzas = Vec::new();
        for (file, component) in lists.lines().filter_map(|line| line.split_once('|')) {
            if !fs::exists(file).unwrap_or(false) {
                continue;
            }
            let suite = repository.suite.trim_end_matches('/');
            let component = if component.starts_with('$') { "" } else { component };
            let origin = format!("{} {suite} {component}", repository.name);
            let read = stanza::read(&apt.list(file)?);
            stanzas.extend(read.into_iter().map(|stanza| (origin.trim_end().to_owned(), stanza)));
        }
        let named: BTreeSet<String> = repository.packages.iter().cloned().collect();
        let asked = needed(&stanzas, &named, &BTreeSet::new());
        if asked.len() > NEEDED_MAX {
            let detail = format!("its packages need more than {NEEDED_MAX} packages");
            return Err(LockError::Repository { origin: repository.name.clone(), detail });
        }
        let known = base(&asked)?;
        // A part of `asked`: the base was asked for each of them.
        let allowed = needed(&stanzas, &named, &known);
        for (origin, stanza) in &stanzas {
            if allowed.contains(field(stanza, "Package")) {
                self.add(package(origin, stanza)?, stanza);
            }
        }
        if let Some(missing) = named.iter().find(|name| !self.names().contains(name.as_str())) {
            return Err(LockError::NotInRepository {
                name: missing.clone(),
                repository: repository.name.clone(),
            });
        }
        self.named.extend(named);
        Ok(())
    }
}

/// The named packages, and what they need of the same repository, without what the base has.
fn needed(
    stanzas: &[(String, Stanza)],
    named: &BTreeSet<String>,
    known: &BTreeSet<String>,
) -> BTreeSet<String> {
    let mut by_name: BTreeMap<&str, Vec<&Stanza>> = BTreeMap::new();
    for (_, stanza) in stanzas {
        by_name.entry(field(stanza, "Package")).or_default().push(stanza);
    }
    let mut found = named.clone();
    let mut open: Vec<&str> = named.iter().map(String::as_str).collect();
    while let Some(name) = open.pop() {
        for stanza in by_name.get(name).into_iter().flatten() {
            let (first, second) = (field(stanza, "Pre-Depends"), field(stanza, "Depends"));
            for other in related(first).chain(related(second)) {
                let is_new = by_name.contains_key(other) && !known.contains(other);
                if is_new && found.insert(other.to_owned()) {
                    open.push(other);
                }
            }
        }
    }
    found
}

/// apt with this repository and nothing else. It verifies the signature by the key of the profile,
/// and how old the lists are.
fn apt(cache: &Cache, repository: &Repository, days: u32) -> Result<Apt, LockError> {
    let Repository { name, url, suite, components, key, .. } = repository;
    let identity = [name, url, suite, &components.join(" "), key].map(String::as_str).join("\n");
    let state = format!("further-{}", &sha256_hex(identity.as_bytes())[..16]);
    let apt = Apt::new(cache, &state, "", "")?;
    let key = apt.write("key.asc", key)?;
    let options =
        format!("signed-by={} valid-until-max={}", key.display(), u64::from(days) * 86_400);
    let components = components.join(" ");
    apt.write("sources.list", &format!("deb [{options}] {url} {suite} {components}\n"))?;
    Ok(apt)
}

fn package(origin: &str, stanza: &Stanza) -> Result<Package, LockError> {
    let name = field(stanza, "Package");
    let wrong = |detail: String| LockError::Repository {
        origin: origin.to_owned(),
        detail: format!("{name}: {detail}"),
    };
    let form = |e: WrongForm| wrong(e.to_string());
    let size = field(stanza, "Size").parse().unwrap_or(0);
    if !(1..=PACKAGE_MAX).contains(&size) {
        return Err(wrong(format!("{size} bytes, expected 1 to {PACKAGE_MAX}")));
    }
    Ok(Package {
        name: name.parse().map_err(form)?,
        version: field(stanza, "Version").parse().map_err(form)?,
        sha256: field(stanza, "SHA256").parse().map_err(form)?,
        size,
        path: field(stanza, "Filename").trim_start_matches("./").parse().map_err(form)?,
        origin: Some(origin.parse::<Origin>().map_err(form)?),
    })
}

/// The control fields of a .deb file.
pub(crate) fn control(deb: &Path) -> Result<Stanza, LockError> {
    let failed = |detail: String| LockError::Program { program: "dpkg-deb", detail };
    let output = Command::new("dpkg-deb")
        .arg("--field")
        .arg(deb)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let fields = stanza::read(&String::from_utf8_lossy(&output.stdout));
    fields.into_iter().next().ok_or_else(|| failed(format!("{} has no fields", deb.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_testkit::apt_repository::{AptRepository, Said};

    /// Days, in seconds.
    const DAY_S: u64 = 86_400;

    /// A repository with a tool, what it needs, and a package that the base has.
    fn served() -> (AptRepository, Repository) {
        let served = AptRepository::new().unwrap();
        served.add("tool", "1.0", "Depends: libc6, tool-lib (>= 1)\n").unwrap();
        served.add("tool-lib", "1.0", "").unwrap();
        served.add("libc6", "99", "Essential: yes\n").unwrap();
        served.add("unasked", "1.0", "Provides: libc6\n").unwrap();
        let repository = Repository {
            name: "vendor".into(),
            url: served.url.clone(),
            suite: "stable".into(),
            components: vec!["main".into()],
            packages: vec!["tool".into()],
            key: served.key().unwrap(),
        };
        (served, repository)
    }

    fn brought(
        folder: &Path,
        repository: &Repository,
        days: Option<u32>,
    ) -> Result<Further, LockError> {
        let mut further = Further::default();
        let base = &mut |names: &BTreeSet<String>| -> Result<BTreeSet<String>, LockError> {
            Ok(names.iter().filter(|name| *name == "libc6").cloned().collect())
        };
        further.add_repository(&Cache::at(folder), repository, days, base)?;
        Ok(further)
    }

    fn refused(folder: &Path, repository: &Repository, days: Option<u32>) -> String {
        brought(folder, repository, days).unwrap_err().to_string()
    }

    #[test]
    fn a_signed_repository_brings_the_named_package_and_what_it_needs() {
        let (served, repository) = served();
        served.sign(Said::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let further = brought(folder.path(), &repository, None).unwrap();
        assert_eq!(further.names(), ["tool", "tool-lib"].into());
        let package = further.packages.values().next().unwrap();
        assert_eq!(package.origin.as_deref(), Some("vendor stable main"));
        assert!(package.path.starts_with("pool/"), "{}", &*package.path);
        assert!(further.snapshots.contains_key("vendor stable"), "{:?}", further.snapshots);
        let mut other = repository;
        other.packages.push("nosuch".into());
        assert!(refused(folder.path(), &other, None).contains("has no package nosuch"));
    }

    #[test]
    fn a_repository_whose_signature_is_wrong_missing_or_of_another_key_is_refused() {
        let (served, repository) = served();
        served.sign(Said::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        // What was downloaded before does not help.
        assert!(brought(folder.path(), &repository, None).is_ok());
        let signed = served.file("dists/stable/InRelease");
        let text = fs::read_to_string(&signed).unwrap();
        fs::write(&signed, text.replace("Origin: Debian", "Origin: Debiam")).unwrap();
        let tampered = refused(folder.path(), &repository, None);
        assert!(tampered.contains("BADSIG"), "{tampered}");
        fs::remove_file(&signed).unwrap();
        let unsigned = refused(folder.path(), &repository, None);
        assert!(unsigned.contains("signed"), "{unsigned}");
        served.change_key("other").unwrap();
        served.sign(Said::default()).unwrap();
        let other = refused(folder.path(), &repository, None);
        assert!(other.contains("NO_PUBKEY"), "{other}");
    }

    #[test]
    fn lists_that_expired_or_are_replayed_are_refused() {
        let (served, repository) = served();
        let folder = || tempfile::tempdir().unwrap();
        served.sign(Said { age_s: 2 * DAY_S, valid_s: Some(-3600) }).unwrap();
        assert!(refused(folder().path(), &repository, None).contains("expired"));
        served.sign(Said { age_s: 40 * DAY_S, valid_s: None }).unwrap();
        assert!(brought(folder().path(), &repository, None).is_ok());
        assert!(refused(folder().path(), &repository, Some(30)).contains("expired"));
        served.sign(Said { age_s: 91 * DAY_S, valid_s: None }).unwrap();
        assert!(refused(folder().path(), &repository, None).contains("expired"));
    }

    #[test]
    fn a_list_that_is_not_the_signed_one_is_refused() {
        let (served, repository) = served();
        served.sign(Said::default()).unwrap();
        let list = served.file("dists/stable/main/binary-amd64/Packages");
        let text = fs::read_to_string(&list).unwrap();
        fs::write(&list, text.replace("Version: 1.0", "Version: 6.6")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let error = refused(folder.path(), &repository, None);
        assert!(
            error.contains("Hash Sum mismatch") || error.contains("unexpected size"),
            "{error}"
        );
    }

    #[test]
    fn an_own_package_is_taken_by_digest_with_the_name_of_the_deb() {
        let (served, _) = served();
        let deb = served.add("acme", "2:1.5", "Depends: libc6\n").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let own = |name: &str, sha256: String, from: String| OwnPackage {
            name: name.into(),
            sha256,
            from,
        };
        let (digest, path) = (crate::file::sha256_file(&deb).unwrap(), deb.display().to_string());
        let added = |own: &OwnPackage| {
            let mut further = Further::default();
            further.add_own(&cache, own).map(|()| further)
        };
        let other = added(&own("acme", "0".repeat(64), path.clone())).unwrap_err().to_string();
        assert!(other.contains("another SHA-256"), "{other}");
        let by_url = format!("{}/pool/acme_2:1.5_amd64.deb", served.url);
        let other = added(&own("acme", "0".repeat(64), by_url.clone()));
        assert!(matches!(other, Err(LockError::Digest { .. })), "{other:?}");
        let gone = added(&own("acme", "0".repeat(64), format!("{}/x.deb", served.url)));
        assert!(gone.unwrap_err().to_string().contains("is not there"));
        let name = added(&own("other", digest.clone(), path)).unwrap_err().to_string();
        assert!(name.contains("the .deb is of"), "{name}");
        let further = added(&own("acme", digest, by_url)).unwrap();
        let package = further.packages.values().next().unwrap();
        assert_eq!((&*package.version, &*package.path), ("2:1.5", "acme_1.5.deb"));
        assert_eq!(package.origin.as_deref(), Some("own"));
    }

    fn stanzas(text: &str) -> Vec<(String, Stanza)> {
        stanza::read(text).into_iter().map(|stanza| ("v stable main".to_owned(), stanza)).collect()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    const LIST: &str = "Package: tool\nPre-Depends: libc6\nDepends: lib-a | lib-b,\n openssl (>= 3)\n\n\
                        Package: lib-a\nDepends: lib-c\n\nPackage: lib-c\nDepends: tool\n\n\
                        Package: openssl\n\nPackage: libc6\n\nPackage: other\n";

    #[test]
    fn a_repository_brings_what_is_named_and_needed_and_nothing_that_the_base_has() {
        let list = stanzas(LIST);
        let base = set(&["openssl", "libc6"]);
        assert_eq!(needed(&list, &set(&["tool"]), &base), set(&["tool", "lib-a", "lib-c"]));
        // Only the profile may say otherwise.
        let named = set(&["tool", "openssl"]);
        assert_eq!(needed(&list, &named, &base), set(&["tool", "lib-a", "lib-c", "openssl"]));
        assert_eq!(needed(&list, &set(&[]), &base), set(&[]));
    }

    #[test]
    fn a_package_cannot_make_itself_essential_or_leave_its_folder() {
        let text = format!(
            "Package: tool\nVersion: 1\nArchitecture: amd64\nEssential: yes\nSize: 5\nSHA256: {}\n\
             Filename: ./pool/tool_1_amd64.deb\n",
            "a".repeat(64)
        );
        let list = stanzas(&text);
        let (origin, stanza) = &list[0];
        let mut further = Further::default();
        further.add(package(origin, stanza).unwrap(), stanza);
        assert!(further.list().contains("Package: tool\n"), "{}", further.list());
        assert!(!further.list().contains("Essential"), "{}", further.list());
        assert_eq!(further.names(), ["tool"].into());
        for (from, to) in
            [("./pool/", "../pool/"), ("Size: 5", "Size: 0"), ("Version: 1", "Version: $(id)")]
        {
            let list = stanzas(&text.replace(from, to));
            assert!(package(&list[0].0, &list[0].1).is_err(), "{to}");
        }
    }
}
