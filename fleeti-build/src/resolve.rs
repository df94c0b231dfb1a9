//! Resolves a lock with Debian's own apt, in a private directory. The dpkg status is empty, so that
//! every closure is complete.

use crate::apt::{ARCHITECTURE, Apt, SUITE};
use crate::archive::{self, Archive, State};
use crate::cache::Cache;
use crate::further::{Further, control};
use crate::ids::Ids;
use crate::lock::{Lock, LockError, fetch_all, io, sources_digest};
use crate::package::{DEBIAN, OWN, Package, WrongForm};
use crate::{snapshot, versions};
use fleeti_core::profile::Software;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};
use versions::Versions;

/// The set of packages that a device has.
const DEVICE: &str = "device";
/// The set of the kernel.
const KERNEL: &str = "kernel";
/// How often packages that others need are refreshed as well, until the set fits together.
const ROUNDS_MAX: usize = 16;

/// What a lock is resolved from.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Requested package names, by set.
    pub requested: &'a BTreeMap<String, Vec<String>>,
    /// The sources that the profile names.
    pub software: &'a Software,
    /// Packages that come from Debian's archive only.
    pub base: &'a [&'a str],
    /// The previous lock.
    pub earlier: Option<&'a Lock>,
    /// Refresh these packages, with what they need, and keep all others of the earlier lock; all
    /// packages if empty.
    pub only: &'a [String],
    /// Whether lists of repositories may be older than those of the earlier lock.
    pub allow_older: bool,
}

/// Resolves the sets. Says on `line` what is left out.
///
/// # Errors
/// [`LockError::Program`] with apt's output, for example if a package does not exist or a signature
/// is wrong; the other variants for sources that cannot be used.
pub fn resolve(
    cache: &Cache,
    wanted: &Wanted<'_>,
    line: &mut dyn FnMut(&str),
) -> Result<Lock, LockError> {
    let _alone = cache.lock("apt").map_err(io(cache.root()))?;
    let archive = Archive::of_host(cache)?;
    let apt = updated(cache, &archive, wanted, line)?;
    let mut further = Further::default();
    for own in &wanted.software.own {
        further.add_own(cache, own)?;
    }
    let limit_days = wanted.software.snapshot_age_days_max;
    for repository in &wanted.software.repositories {
        if !repository.packages.is_empty() {
            let base = &mut |names: &BTreeSet<String>| -> Result<BTreeSet<String>, LockError> {
                let names = || names.iter().map(String::as_str);
                let known = versions::of(&apt, names())?;
                let mut known: BTreeSet<String> = known.into_keys().collect();
                known.extend(versions::provided(&apt, names())?);
                Ok(known)
            };
            further.add_repository(cache, repository, limit_days, base)?;
        }
    }
    let mut snapshots = snapshot::read(&apt, DEBIAN)?;
    snapshots.extend(std::mem::take(&mut further.snapshots));
    let nothing = BTreeMap::new();
    let earlier = wanted.earlier.filter(|_| !wanted.allow_older);
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    snapshot::check(
        &snapshots,
        earlier.map_or(&nothing, |lock| &lock.snapshots),
        limit_days,
        now_s,
    )?;

    let resolver = Resolver { cache, wanted, archive: &archive, apt: &apt };
    let sets = resolver.sets(&mut further)?;
    check_base(wanted, &sets)?;
    Ok(Lock {
        suite: SUITE.into(),
        architecture: ARCHITECTURE.into(),
        requested: wanted.requested.clone(),
        sets,
        sources: sources_digest(wanted.software).map_err(|e| LockError::Repository {
            origin: "profile".into(),
            detail: e.to_string(),
        })?,
        snapshots,
        ids: Ids::default(),
    })
}

/// apt with the lists of the archive. Leaves out suites that the mirror does not have, unless the
/// profile names them or the earlier lock had them.
fn updated(
    cache: &Cache,
    archive: &Archive,
    wanted: &Wanted<'_>,
    line: &mut dyn FnMut(&str),
) -> Result<Apt, LockError> {
    let state = State { name: SUITE, more: "" };
    let (apt, missing) = archive::updated(cache, &state, archive, wanted.software)?;
    for suite in missing {
        let had = |lock: &Lock| lock.snapshots.contains_key(&format!("{DEBIAN} {suite}"));
        if wanted.earlier.is_some_and(had) && !wanted.allow_older {
            return Err(LockError::SuiteGone(suite));
        }
        line(&format!("the mirror does not have {suite}"));
    }
    Ok(apt)
}

/// Refuses packages of the base that come from elsewhere.
fn check_base(wanted: &Wanted<'_>, sets: &BTreeMap<String, Vec<Package>>) -> Result<(), LockError> {
    let of_base: BTreeSet<&str> = ["initrd", "installer"]
        .iter()
        .flat_map(|set| sets.get(*set).into_iter().flatten())
        .map(|package| &*package.name)
        .chain(wanted.base.iter().copied())
        .collect();
    let foreign = sets
        .values()
        .flatten()
        .find(|package| package.repository() != DEBIAN && of_base.contains(&*package.name));
    match foreign {
        None => Ok(()),
        Some(package) => Err(LockError::BasePackage {
            name: package.name.to_string(),
            origin: package.repository().to_owned(),
        }),
    }
}

struct Resolver<'a> {
    cache: &'a Cache,
    wanted: &'a Wanted<'a>,
    archive: &'a Archive,
    apt: &'a Apt,
}

type Sets = BTreeMap<String, Vec<Package>>;

impl Resolver<'_> {
    /// Resolves every set.
    fn sets(&self, further: &mut Further) -> Result<Sets, LockError> {
        let mut kept = self.kept();
        self.read_local(further)?;
        if !kept.is_empty() {
            self.add_superseded(&kept, further)?;
        }
        for _ in 0..ROUNDS_MAX {
            match self.try_sets(&kept, further) {
                Err(LockError::Program { detail, .. }) if loosen(&mut kept, &detail) => {}
                result => return result,
            }
        }
        self.try_sets(&kept, further)
    }

    /// The packages of the earlier lock that keep their version.
    fn kept(&self) -> BTreeMap<String, Package> {
        let Some(earlier) = self.wanted.earlier.filter(|_| !self.wanted.only.is_empty()) else {
            return BTreeMap::new();
        };
        let is_kept = |package: &&Package| {
            !self.wanted.only.iter().any(|only| **only == *package.name)
                && is_from_its_source(self.wanted.software, package)
        };
        let kept = earlier.sets.values().flatten().filter(is_kept);
        kept.map(|package| (package.name.to_string(), package.clone())).collect()
    }

    /// Lets apt read the local repository.
    fn read_local(&self, further: &Further) -> Result<(), LockError> {
        if further.list().is_empty() {
            return Ok(());
        }
        let list = self.apt.write("local/Packages", further.list())?;
        let folder = list.parent().unwrap_or(&list).display().to_string();
        let lines = std::fs::read_to_string(self.apt.path("sources.list"))
            .map_err(io(&self.apt.path("sources.list")))?;
        // Each digest was compared, or is in a list whose signature was verified.
        let local = format!("deb [trusted=yes] file:{folder} ./\n");
        if !lines.ends_with(&local) {
            self.apt.write("sources.list", &format!("{lines}{local}"))?;
        }
        self.apt.run(&["update", "-qq"])?;
        Ok(())
    }

    /// Adds the packages to the local repository that are kept and no longer on a mirror.
    fn add_superseded(
        &self,
        kept: &BTreeMap<String, Package>,
        further: &mut Further,
    ) -> Result<(), LockError> {
        let known = versions::of(self.apt, kept.keys().map(String::as_str))?;
        let is_known = |package: &Package| {
            known.get(&*package.name).is_some_and(|v: &Versions| v.contains_key(&*package.version))
        };
        let gone: Vec<&Package> = kept.values().filter(|package| !is_known(package)).collect();
        fetch_all(&gone, self.cache, self.wanted.software, |_, _| {})?;
        for package in gone {
            further.add(package.clone(), &control(&self.cache.package(&package.sha256))?);
        }
        self.read_local(further)
    }

    fn try_sets(
        &self,
        kept: &BTreeMap<String, Package>,
        further: &Further,
    ) -> Result<Sets, LockError> {
        let mut sets = Sets::new();
        for (set, names) in self.wanted.requested {
            let earlier = self.wanted.earlier.and_then(|lock| lock.sets.get(set));
            let is_kernel = |name: &str| name.starts_with("linux-image-");
            let packages = match earlier {
                // The package that names the newest kernel is not in a lock.
                Some(earlier)
                    if set == KERNEL
                        && !self.wanted.only.is_empty()
                        && !self.wanted.only.iter().any(|name| is_kernel(name)) =>
                {
                    earlier.clone()
                }
                _ => self.set(set, names, kept, further)?,
            };
            sets.insert(set.clone(), packages);
        }
        Ok(sets)
    }

    fn set(
        &self,
        set: &str,
        names: &[String],
        kept: &BTreeMap<String, Package>,
        further: &Further,
    ) -> Result<Vec<Package>, LockError> {
        let pins = self.pins(set, kept, further);
        let path = self.apt.write("preferences", &pins)?;
        let preferences = format!("Dir::Etc::preferences={}", path.display());
        let mut arguments = vec![
            "install",
            "-q",
            "--print-uris",
            "-y",
            "-o",
            "Acquire::ForceHash=SHA256",
            "-o",
            "Debug::NoLocking=1",
            "-o",
            &preferences,
        ];
        arguments.extend(names.iter().map(String::as_str));
        let text = self.apt.run(&arguments)?;
        let files = text.lines().filter(|line| line.starts_with('\'')).map(File::parse);
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let known = versions::of(self.apt, files.iter().map(|file| file.name))?;
        let mut packages = files
            .iter()
            .map(|file| self.package(file, &known, further))
            .collect::<Result<Vec<_>, _>>()?;
        if set == KERNEL {
            // The dependencies of the kernel (initramfs-tools, linux-base) are not needed.
            packages.retain(|p: &Package| p.name.starts_with("linux-image-") && p.size > 1_000_000);
        }
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(packages)
    }

    /// apt_preferences(5) of a set. Of records for a package the first counts.
    fn pins(&self, set: &str, kept: &BTreeMap<String, Package>, further: &Further) -> String {
        let mut text = String::new();
        let mut pin = |name: &str, pin: &str, priority: i32| {
            let _ = writeln!(text, "Package: {name}\nPin: {pin}\nPin-Priority: {priority}\n");
        };
        for (name, package) in kept {
            pin(name, &format!("version {}", package.version), 1001);
        }
        let is_free = |name: &&str| !kept.contains_key(*name);
        if set == DEVICE {
            for name in further.named.iter().map(String::as_str).filter(is_free) {
                // The local repository; no other has an empty host.
                pin(name, "origin \"\"", 1001);
            }
        } else {
            for name in further.names().into_iter().filter(is_free) {
                pin(name, "origin \"\"", -1);
            }
        }
        for name in self.wanted.software.backports.iter().map(String::as_str).filter(is_free) {
            pin(name, &format!("release n={SUITE}-backports"), 990);
        }
        text
    }

    fn package(
        &self,
        file: &File<'_>,
        known: &BTreeMap<String, Versions>,
        further: &Further,
    ) -> Result<Package, LockError> {
        let refuse = || LockError::AptOutput(file.line.to_owned());
        if file.url.starts_with("file:") {
            return further.packages.get(file.sha256).cloned().ok_or_else(refuse);
        }
        let form = |_: WrongForm| refuse();
        let mirror = self.archive.mirror_with(file.url).ok_or_else(refuse)?;
        let version = file.version.replace("%3a", ":");
        let lists = known.get(file.name).and_then(|versions| versions.get(&version));
        let list = lists
            .and_then(|lists| lists.iter().find(|list| list.is_of(mirror)))
            .ok_or_else(refuse)?;
        Ok(Package {
            name: file.name.parse().map_err(form)?,
            version: version.parse().map_err(form)?,
            sha256: file.sha256.parse().map_err(form)?,
            size: file.size,
            path: file.url.strip_prefix(mirror).ok_or_else(refuse)?.parse().map_err(form)?,
            origin: Some(
                format!("{DEBIAN} {} {}", list.suite, list.component).parse().map_err(form)?,
            ),
        })
    }
}

/// Whether a package comes from where the profile takes it from now.
fn is_from_its_source(software: &Software, package: &Package) -> bool {
    match package.repository() {
        DEBIAN => {
            let own = software.own.iter().map(|own| &own.name);
            let named = software.repositories.iter().flat_map(|r| &r.packages);
            !own.chain(named).any(|name| **name == *package.name)
        }
        OWN => software.own.iter().any(|own| *own.sha256 == *package.sha256),
        name => software.repositories.iter().any(|r| r.name == name),
    }
}

/// Lets packages change that apt says others need. Returns whether there are any.
fn loosen(kept: &mut BTreeMap<String, Package>, detail: &str) -> bool {
    let before = kept.len();
    for line in detail.lines().filter(|line| line.starts_with(' ')) {
        // ` NAME : Depends: OTHER (= 1) but 2 is to be installed`
        let words = line.split_whitespace().filter(|word| !word.starts_with('('));
        for word in words {
            kept.remove(word.split(':').next().unwrap_or_default());
        }
    }
    kept.len() < before
}

/// A line of `apt-get --print-uris`: `'URL' FILE SIZE SHA256:HEX`.
struct File<'a> {
    line: &'a str,
    url: &'a str,
    name: &'a str,
    version: &'a str,
    size: u64,
    sha256: &'a str,
}

impl<'a> File<'a> {
    fn parse(line: &'a str) -> Result<Self, LockError> {
        let refuse = || LockError::AptOutput(line.to_owned());
        let mut words = line.split(' ');
        let url = words
            .next()
            .and_then(|w| w.strip_prefix('\'')?.strip_suffix('\''))
            .ok_or_else(refuse)?;
        let file = words.next().ok_or_else(refuse)?;
        let size = words.next().and_then(|w| w.parse().ok()).ok_or_else(refuse)?;
        let sha256 = words.next().and_then(|w| w.strip_prefix("SHA256:")).ok_or_else(refuse)?;
        let mut parts = file.trim_end_matches(".deb").splitn(3, '_');
        let (Some(name), Some(version)) = (parts.next(), parts.next()) else {
            return Err(refuse());
        };
        Ok(Self { line, url, name, version, size, sha256 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_apt_is_a_file() {
        let line = format!(
            "'http://m/debian/pool/main/a/acl/acl_2.3.2-2+b1_amd64.deb' acl_1%3a2.3.2-2+b1_amd64.deb 58544 SHA256:{}",
            "a".repeat(64)
        );
        let file = File::parse(&line).unwrap();
        assert_eq!((file.name, file.version, file.size), ("acl", "1%3a2.3.2-2+b1", 58544));
        assert_eq!(file.url, "http://m/debian/pool/main/a/acl/acl_2.3.2-2+b1_amd64.deb");
    }

    #[test]
    fn a_line_without_sha256_is_refused() {
        let refused = File::parse("'http://m/debian/x' x_1_all.deb 5 MD5Sum:aa");
        assert!(matches!(refused, Err(LockError::AptOutput(_))));
    }

    #[test]
    fn what_apt_says_others_need_may_change_as_well() {
        let package = |name: &str| Package {
            name: name.parse().unwrap(),
            version: "1".parse().unwrap(),
            sha256: "0".repeat(64).parse().unwrap(),
            size: 1,
            path: "pool/a.deb".parse().unwrap(),
            origin: None,
        };
        let mut kept: BTreeMap<_, _> =
            ["libssl3t64", "openssl", "bash"].map(|name| (name.to_owned(), package(name))).into();
        let detail = "E: Unable to correct problems\n\
                      \x20openssl : Depends: libssl3t64 (>= 3.5.8) but 3.5.7 is to be installed";
        assert!(loosen(&mut kept, detail));
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["bash"]);
        assert!(!loosen(&mut kept, detail));
        assert!(!loosen(&mut kept, "E: Unable to locate package bash"));
    }
}
