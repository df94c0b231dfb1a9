//! What the packages of a suite bring: packages with versions and summaries, units, programs.
//!
//! An index is one text that is searched where it is, so that opening it costs one pass over its
//! line ends. Lines are sorted by their first two fields:
//!
//! ```text
//! P<tab>NAME<tab>VERSION<tab>INSTALLED KiB<tab>DEPENDS<tab>SUMMARY
//! B<tab>PATH<tab>PACKAGE,PACKAGE        a program below /usr/bin or /usr/sbin
//! U<tab>UNIT<tab>PACKAGE,PACKAGE        a system unit of systemd
//! V<tab>NAME<tab>PACKAGE,PACKAGE        a virtual package, and who provides it
//! ```
//!
//! DEPENDS is a list of groups with `,` between them; a group is alternatives with `|` between them.

use super::finding::nearest;
use super::{Probe, Profile, UnitState};
use crate::wire::problem::FieldError;
use std::collections::{BTreeMap, BTreeSet};

/// First line of an index, before the suite.
const HEADER: &str = "fleeti-suite-index 1 ";
/// Largest index, bytes.
pub const INDEX_MAX: usize = 256 << 20;

/// An index of a suite.
#[derive(Debug, Clone)]
pub struct SuiteIndex {
    text: String,
    /// Start of each line after the first.
    lines: Vec<usize>,
}

/// Why a text is not an index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The first line is missing or of another version.
    #[error("is not an index of a suite, or one of another version; make it again")]
    Header,
    /// The text is too large.
    #[error("{0} bytes, expected at most {INDEX_MAX}")]
    TooLarge(usize),
    /// Lines are not sorted.
    #[error("line {0} is not in order; make the index again")]
    Order(usize),
}

/// A package of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackageFacts<'a> {
    /// Name.
    pub name: &'a str,
    /// Version.
    pub version: &'a str,
    /// Size on the disk, KiB.
    pub size_kib: u64,
    /// What it is, in a few words.
    pub summary: &'a str,
    depends: &'a str,
}

/// Parts from which an index is made.
#[derive(Debug, Clone, Default)]
pub struct IndexParts {
    /// Packages by name.
    pub packages: BTreeMap<String, IndexedPackage>,
    /// Packages by program.
    pub programs: BTreeMap<String, BTreeSet<String>>,
    /// Packages by unit.
    pub units: BTreeMap<String, BTreeSet<String>>,
    /// Packages by what they provide.
    pub provided: BTreeMap<String, BTreeSet<String>>,
}

/// A package from which an index is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexedPackage {
    /// Version.
    pub version: String,
    /// Size on the disk, KiB.
    pub size_kib: u64,
    /// Dependencies, as in the index.
    pub depends: String,
    /// What it is, in a few words.
    pub summary: String,
}

impl IndexParts {
    /// The index as a text.
    #[must_use]
    pub fn to_text(&self, suite: &str) -> String {
        // A tab or a line end in foreign text would be a field or a line of its own.
        let plain = |text: &str| text.replace(['\t', '\n', '\r'], " ");
        let list = |kind: char, map: &BTreeMap<String, BTreeSet<String>>| -> Vec<String> {
            map.iter()
                .map(|(name, by)| {
                    let by: Vec<_> = by.iter().map(|name| plain(name)).collect();
                    format!("{kind}\t{}\t{}\n", plain(name), by.join(","))
                })
                .collect()
        };
        let mut lines = list('B', &self.programs);
        lines.extend(self.packages.iter().map(|(name, package)| {
            format!(
                "P\t{}\t{}\t{}\t{}\t{}\n",
                plain(name),
                plain(&package.version),
                package.size_kib,
                plain(&package.depends),
                plain(&package.summary)
            )
        }));
        lines.extend(list('U', &self.units));
        lines.extend(list('V', &self.provided));
        lines.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        format!("{HEADER}{}\n{}", plain(suite), lines.concat())
    }
}

/// The first two fields of a line.
fn key(line: &str) -> (&str, &str) {
    let mut fields = line.trim_end_matches('\n').split('\t');
    (fields.next().unwrap_or_default(), fields.next().unwrap_or_default())
}

impl SuiteIndex {
    /// Reads an index.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn new(text: String) -> Result<Self, IndexError> {
        if text.len() > INDEX_MAX {
            return Err(IndexError::TooLarge(text.len()));
        }
        if !text.starts_with(HEADER) {
            return Err(IndexError::Header);
        }
        let ends = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        let mut lines: Vec<_> = ends.collect();
        if lines.last() == Some(&text.len()) {
            lines.pop();
        }
        let index = Self { text, lines };
        let is_out_of_order =
            (1..index.lines.len()).find(|i| key(index.line(i - 1)) >= key(index.line(*i)));
        match is_out_of_order {
            Some(i) => Err(IndexError::Order(i + 2)),
            None => Ok(index),
        }
    }

    /// The suite.
    #[must_use]
    pub fn suite(&self) -> &str {
        let first = self.text.lines().next().unwrap_or_default();
        first.strip_prefix(HEADER).unwrap_or_default()
    }

    fn line(&self, number: usize) -> &str {
        let start = self.lines[number];
        let rest = &self.text[start..];
        rest.split_once('\n').map_or(rest, |(line, _)| line)
    }

    fn find(&self, kind: &str, name: &str) -> Option<&str> {
        let found = self.lines.binary_search_by(|start| {
            let rest = &self.text[*start..];
            key(rest.split_once('\n').map_or(rest, |(line, _)| line)).cmp(&(kind, name))
        });
        found.ok().map(|number| self.line(number))
    }

    fn all(&self, kind: &'static str) -> impl Iterator<Item = &str> {
        let start =
            self.lines.partition_point(|start| self.text[*start..].split('\t').next() < Some(kind));
        (start..self.lines.len())
            .map(|number| self.line(number))
            .take_while(move |line| line.split('\t').next() == Some(kind))
    }

    fn facts(line: &str) -> Option<PackageFacts<'_>> {
        let mut fields = line.split('\t').skip(1);
        Some(PackageFacts {
            name: fields.next()?,
            version: fields.next()?,
            size_kib: fields.next()?.parse().ok()?,
            depends: fields.next()?,
            summary: fields.next()?,
        })
    }

    /// Whether the index knows units and programs. The lists of contents of a suite can be missing.
    #[must_use]
    pub fn has_contents(&self) -> bool {
        self.all("U").next().is_some()
    }

    /// A package.
    #[must_use]
    pub fn package(&self, name: &str) -> Option<PackageFacts<'_>> {
        Self::facts(self.find("P", name)?)
    }

    /// Packages that bring a unit. An instance of a template is brought by its template.
    #[must_use]
    pub fn with_unit(&self, unit: &str) -> Vec<&str> {
        let template = unit.split_once('@').and_then(|(name, rest)| {
            rest.rsplit_once('.').map(|(_, suffix)| format!("{name}@.{suffix}"))
        });
        let line = self
            .find("U", unit)
            .or_else(|| template.as_deref().and_then(|template| self.find("U", template)));
        names(line)
    }

    /// Packages that bring a program, by its path below `/usr/bin` or `/usr/sbin`, or below `/bin`
    /// or `/sbin`, which are links to them.
    #[must_use]
    pub fn with_program(&self, path: &str) -> Vec<&str> {
        let path = if path.starts_with("/bin/") || path.starts_with("/sbin/") {
            format!("/usr{path}")
        } else {
            path.to_owned()
        };
        names(self.find("B", &path))
    }

    /// Packages whose name or summary contains every word of a text: names that begin with it first.
    #[must_use]
    pub fn search(&self, text: &str, limit: usize) -> Vec<PackageFacts<'_>> {
        let text = text.to_ascii_lowercase();
        let words: Vec<_> = text.split_whitespace().collect();
        if words.is_empty() {
            return Vec::new();
        }
        let mut found: Vec<_> = self
            .all("P")
            .filter_map(Self::facts)
            .filter_map(|facts| {
                let summary = facts.summary.to_ascii_lowercase();
                let is_found = words.iter().all(|w| facts.name.contains(w) || summary.contains(w));
                let rank = match facts.name {
                    name if name == text => 0,
                    name if name.starts_with(&text) => 1,
                    name if name.contains(&text) => 2,
                    _ => 3,
                };
                is_found.then_some((rank, facts.name.len(), facts))
            })
            .collect();
        found.sort_unstable_by_key(|(rank, length, facts)| (*rank, *length, facts.name));
        found.into_iter().take(limit).map(|(.., facts)| facts).collect()
    }

    /// The packages that are installed with these: of alternatives the first one that exists. apt
    /// may choose others.
    #[must_use]
    pub fn closure<'a>(&'a self, names: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
        let mut closure = BTreeSet::new();
        let mut waiting: Vec<&str> = names.into_iter().collect();
        while let Some(name) = waiting.pop() {
            let Some(facts) = self.package(name) else { continue };
            if !closure.insert(facts.name) {
                continue;
            }
            for group in facts.depends.split(',').filter(|group| !group.is_empty()) {
                let alternatives = || group.split('|');
                let real = alternatives().find(|name| self.package(name).is_some());
                let virtual_one =
                    || alternatives().find_map(|v| names_of(self.find("V", v)).next());
                waiting.extend(real.or_else(virtual_one));
            }
        }
        closure
    }
}

fn names_of(line: Option<&str>) -> impl Iterator<Item = &str> {
    let list = line.and_then(|line| line.split('\t').nth(2)).unwrap_or_default();
    list.split(',').filter(|name| !name.is_empty())
}

fn names(line: Option<&str>) -> Vec<&str> {
    names_of(line).collect()
}

/// What only the packages of a suite show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuiteFindings {
    /// What makes the profile unusable.
    pub errors: Vec<FieldError>,
    /// What the author should look at.
    pub warnings: Vec<FieldError>,
}

/// Errors and warnings of a profile that only the packages of its suite show. `base` are the
/// packages that the base installs in every image.
#[must_use]
pub fn against_suite(profile: &Profile, index: &SuiteIndex, base: &[&str]) -> SuiteFindings {
    let mut found = Against { profile, index, found: SuiteFindings::default() };
    let known = found.packages();
    let closure = index.closure(known.into_iter().chain(base.iter().copied()));
    if index.has_contents() {
        found.units(&closure);
        found.programs(&closure);
    }
    found.found
}

struct Against<'a> {
    profile: &'a Profile,
    index: &'a SuiteIndex,
    found: SuiteFindings,
}

impl<'a> Against<'a> {
    /// Reports packages that do not exist, and returns the others.
    fn packages(&mut self) -> Vec<&'a str> {
        let software = &self.profile.software;
        // A package of another repository is not in the index of the suite.
        let has_others = !software.repositories.is_empty() || !software.components.is_empty();
        let mut known = Vec::new();
        for (i, name) in software.packages.iter().enumerate() {
            if self.index.package(name).is_some() {
                known.push(name.as_str());
                continue;
            }
            let provided = names(self.index.find("V", name));
            let near = || {
                let all = self.index.all("P").filter_map(|line| line.split('\t').nth(1));
                nearest(name, all.filter(|other| other.len().abs_diff(name.len()) <= 3))
            };
            let remedy = match (provided.first(), near()) {
                (Some(package), _) => format!("write {package}, which provides it"),
                (None, Some(near)) => format!("did you mean {near}?"),
                (None, None) => "look for its name with `fleeti profile search`".to_owned(),
            };
            let message = format!("is not a package of {}", self.index.suite());
            let found = &mut self.found;
            let list = if has_others { &mut found.warnings } else { &mut found.errors };
            list.push(FieldError { path: format!("software.packages[{i}]"), message, remedy });
        }
        known
    }

    /// Reports what names a unit that nothing brings.
    fn units(&mut self, closure: &BTreeSet<&str>) {
        let profile = self.profile;
        let mut named: Vec<(String, &str)> = Vec::new();
        for (i, service) in profile.services.iter().enumerate() {
            if service.unit.is_none() && service.state != UnitState::Masked {
                named.push((format!("services[{i}].name"), &service.name));
            }
        }
        for (i, timer) in profile.timers.iter().enumerate() {
            named.push((format!("timers[{i}].service"), &timer.service));
        }
        for (i, rule) in profile.network.firewall.rules.iter().enumerate() {
            if let Some(service) = &rule.service {
                named.push((format!("network.firewall.rules[{i}].service"), service));
            }
        }
        for (i, check) in profile.health_checks.iter().enumerate() {
            if let Some(Probe::Unit(unit)) = check.probe() {
                named.push((format!("health_checks[{i}].unit"), unit));
            }
        }
        for (path, unit) in named {
            if !self.is_own_unit(unit) {
                self.brought(path, "unit", self.index.with_unit(unit), closure);
            }
        }
    }

    fn is_own_unit(&self, unit: &str) -> bool {
        let profile = self.profile;
        profile.services.iter().any(|s| s.name == unit && s.unit.is_some())
            || profile.timers.iter().any(|t| t.service.replace(".service", ".timer") == unit)
            || profile.containers.iter().any(|c| unit.strip_suffix(".service") == Some(&c.name))
    }

    /// Reports shells and programs of health checks that nothing brings.
    fn programs(&mut self, closure: &BTreeSet<&str>) {
        let profile = self.profile;
        let mut named: Vec<(String, &str)> = Vec::new();
        for (i, user) in profile.users.iter().enumerate() {
            named.push((format!("users[{i}].shell"), &user.shell));
        }
        for (i, check) in profile.health_checks.iter().enumerate() {
            if let Some(Probe::Command([program, ..])) = check.probe() {
                named.push((format!("health_checks[{i}].command"), program));
            }
        }
        for (path, program) in named {
            let is_indexed = ["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/"]
                .iter()
                .any(|folder| program.starts_with(folder));
            if is_indexed && !profile.files.iter().any(|file| file.path == program) {
                self.brought(path, "program", self.index.with_program(program), closure);
            }
        }
    }

    fn brought(&mut self, path: String, what: &str, by: Vec<&str>, closure: &BTreeSet<&str>) {
        if by.is_empty() {
            let message = format!("no package of {} brings this {what}", self.index.suite());
            let remedy = if what == "unit" {
                "correct the name, or add the text of the unit"
            } else {
                "correct the path"
            };
            self.found.errors.push(FieldError { path, message, remedy: remedy.to_owned() });
        } else if !by.iter().any(|package| closure.contains(package)) {
            let message = format!("the {what} is in the package {}", by.join(" or "));
            let remedy = format!("add {} to software.packages", by[0]);
            self.found.warnings.push(FieldError { path, message, remedy });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::check;

    fn index() -> SuiteIndex {
        let mut parts = IndexParts::default();
        for (name, depends, summary) in [
            ("nginx", "nginx-common,libc6", "small, powerful web server"),
            ("nginx-common", "", "small, powerful web server - common files"),
            ("libc6", "", "GNU C Library"),
            ("zsh", "libc6", "shell with\tlots of features"),
            ("mail-client", "mail-transport-agent|nothing", "reads mail"),
            ("exim4", "libc6", "mail transport agent"),
            ("bash", "", "GNU Bourne Again SHell"),
        ] {
            let package = IndexedPackage {
                version: "1.0".to_owned(),
                size_kib: 10,
                depends: depends.to_owned(),
                summary: summary.to_owned(),
            };
            parts.packages.insert(name.to_owned(), package);
        }
        let by = |name: &str| BTreeSet::from([name.to_owned()]);
        parts.units.insert("nginx.service".to_owned(), by("nginx-common"));
        parts.units.insert("getty@.service".to_owned(), by("bash"));
        parts.programs.insert("/usr/bin/zsh".to_owned(), by("zsh"));
        parts.programs.insert("/usr/bin/bash".to_owned(), by("bash"));
        parts.provided.insert("mail-transport-agent".to_owned(), by("exim4"));
        SuiteIndex::new(parts.to_text("trixie")).unwrap()
    }

    fn said(more: &str) -> (Vec<String>, Vec<String>) {
        let text = format!("schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n{more}");
        let profile = check(&text).unwrap();
        let found = against_suite(&profile, &index(), &["bash"]);
        let paths = |list: Vec<FieldError>| {
            list.into_iter().map(|f| format!("{}: {}", f.path, f.remedy)).collect()
        };
        (paths(found.errors), paths(found.warnings))
    }

    #[test]
    fn packages_units_and_programs_are_found() {
        let index = index();
        assert_eq!(index.suite(), "trixie");
        assert_eq!(index.package("zsh").unwrap().summary, "shell with lots of features");
        assert!(index.package("zs").is_none());
        assert_eq!(index.with_unit("nginx.service"), ["nginx-common"]);
        assert_eq!(index.with_unit("getty@tty1.service"), ["bash"]);
        assert_eq!(index.with_program("/bin/zsh"), ["zsh"]);
        let found = |text: &str| -> Vec<_> {
            index.search(text, 5).into_iter().map(|facts| facts.name).collect()
        };
        assert_eq!(found("nginx"), ["nginx", "nginx-common"]);
        assert_eq!(found("mail agent"), ["exim4"]);
        assert!(found(" ").is_empty());
    }

    #[test]
    fn a_closure_follows_alternatives_and_virtual_packages() {
        let index = index();
        let closure = index.closure(["mail-client", "nginx"]);
        let found: Vec<_> = closure.into_iter().collect();
        assert_eq!(found, ["exim4", "libc6", "mail-client", "nginx", "nginx-common"]);
    }

    #[test]
    fn what_no_package_brings_is_an_error_and_what_is_not_installed_a_warning() {
        assert_eq!(
            said("software.packages = [\"nginz\", \"mail-transport-agent\"]\n").0,
            [
                "software.packages[0]: did you mean nginx?",
                "software.packages[1]: write exim4, which provides it"
            ]
        );
        let service = "[[services]]\nname = \"nginx.service\"\n";
        let warned = said(service).1;
        assert_eq!(warned, ["services[0].name: add nginx-common to software.packages"]);
        let with = format!("software.packages = [\"nginx\"]\n{service}");
        assert_eq!(said(&with), (vec![], vec![]));
        let wrong = said("[[services]]\nname = \"nginy.service\"\n").0;
        assert_eq!(wrong, ["services[0].name: correct the name, or add the text of the unit"]);
        let check = "[[health_checks]]\nname = \"a\"\ncommand = [\"/usr/bin/no-such\"]\n";
        assert_eq!(said(check).0, ["health_checks[0].command: correct the path"]);
    }

    #[test]
    fn what_the_profile_brings_itself_is_there() {
        let own = "[[services]]\nname = \"a.service\"\nunit = \"[Service]\"\n\
                   [[timers]]\nservice = \"a.service\"\non_calendar = \"daily\"\n\
                   [[health_checks]]\nname = \"u\"\nunit = \"a.timer\"\n\
                   [[files]]\npath = \"/usr/local/bin/x\"\ncontent = \"\"\nmode = \"0755\"\n\
                   [[health_checks]]\nname = \"c\"\ncommand = [\"/usr/local/bin/x\"]\n";
        assert_eq!(said(own), (vec![], vec![]));
    }

    #[test]
    fn a_text_that_is_not_an_index_is_refused() {
        let new = |text: &str| SuiteIndex::new(text.to_owned()).unwrap_err();
        assert_eq!(new(""), IndexError::Header);
        assert_eq!(new("fleeti-suite-index 2 trixie\n"), IndexError::Header);
        assert_eq!(new("fleeti-suite-index 1 trixie\nU\tb\tx\nU\ta\tx\n"), IndexError::Order(3));
        assert!(SuiteIndex::new("fleeti-suite-index 1 trixie\n".to_owned()).is_ok());
    }
}
