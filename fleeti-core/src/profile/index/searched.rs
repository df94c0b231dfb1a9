//! Finds things in an index.

use super::super::effects::Installed;
use super::kind::IndexedKind;
use super::made::SecurityVersion;
use super::near::Near;
use super::text::{INDEX_MAX, IndexError, IndexHead, IndexText, Line, Lines, key, problem};
use crate::wire::suite::{FoundPackage, FoundUnit};
use std::collections::{BTreeMap, HashMap};

/// Bytes of an index of which the first name is kept in memory.
const BLOCK: u64 = 8 << 10;
/// Largest number of entries that a search returns.
const SEARCH_MAX: usize = 200;
/// Largest number of look-ups for the dependencies of one profile. A desktop needs a few thousand.
const LOOK_UPS_MAX: usize = 20_000;

/// An index of a suite. Its text stays where it is; only a table of a few hundred KiB is kept.
#[derive(Debug)]
pub struct SuiteIndex {
    text: Box<dyn IndexText>,
    head: IndexHead,
    blocks: Vec<Block>,
}

/// A part of the text that begins with a line.
#[derive(Debug)]
struct Block {
    at: u64,
    kind: u8,
    name: Box<str>,
}

impl Block {
    fn key(&self) -> (u8, &str) {
        (self.kind, &self.name)
    }
}

/// A package of a suite.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageFacts {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Size on the disk, KiB.
    pub size_kib: u64,
    /// What it is, in a few words.
    pub summary: String,
    /// Whether the index has everything that it brings.
    pub is_learnt: bool,
    depends: String,
}

impl From<PackageFacts> for FoundPackage {
    fn from(facts: PackageFacts) -> Self {
        let PackageFacts { name, version, size_kib, summary, .. } = facts;
        Self { name, version, summary, size_kib }
    }
}

/// A name of an index, and what brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundName {
    /// Name.
    pub name: String,
    /// Packages that bring it. The list is empty for what every image has.
    pub packages: Vec<String>,
}

/// Packages that are installed together.
#[derive(Debug, Default)]
pub(super) struct Closure {
    /// Names of packages, and whether the index has everything that they bring.
    packages: BTreeMap<String, bool>,
    /// Dependencies were left out, because they needed too many look-ups.
    is_cut: bool,
}

impl Closure {
    pub(super) fn has(&self, package: &str) -> bool {
        self.packages.contains_key(package)
    }
    /// Whether the index has everything that these packages bring.
    pub(super) fn is_learnt(&self) -> bool {
        !self.is_cut
            && !self.packages.is_empty()
            && self.packages.values().all(|is_learnt| *is_learnt)
    }
    /// Packages that no build installed yet.
    pub(super) fn unlearnt(&self) -> impl Iterator<Item = &str> {
        self.packages.iter().filter(|(_, is_learnt)| !**is_learnt).map(|(name, _)| name.as_str())
    }
    /// Whether dependencies were left out: there may be more packages.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }
    #[cfg(test)]
    pub(super) fn names(&self) -> Vec<&str> {
        self.packages.keys().map(String::as_str).collect()
    }
}

impl SuiteIndex {
    /// Opens an index: reads it once, and checks every line.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn open(text: Box<dyn IndexText>) -> Result<Self, IndexError> {
        let size = text.size();
        if size > INDEX_MAX {
            return Err(IndexError::TooLarge(size));
        }
        let mut lines = Lines::new(&*text, 0..size);
        let first = lines.next().map_err(|_| IndexError::Head)?;
        let head = first.and_then(|line| IndexHead::parse(line.text)).ok_or(IndexError::Head)?;
        let mut blocks: Vec<Block> = Vec::new();
        let mut previous = (0, String::new());
        let mut number = 1;
        while let Some(Line { at, text }) = lines.next()? {
            number += 1;
            if let Some(problem) = problem(text) {
                return Err(IndexError::Line { line: number, problem });
            }
            let (kind, name) = key(text);
            let kind = kind.bytes().next().unwrap_or_default();
            if (kind, name) <= (previous.0, previous.1.as_str()) {
                return Err(IndexError::Line { line: number, problem: "is not in order" });
            }
            if blocks.last().is_none_or(|block| at - block.at >= BLOCK) {
                blocks.push(Block { at, kind, name: name.into() });
            }
            previous.0 = kind;
            previous.1.clear();
            previous.1.push_str(name);
        }
        Ok(Self { text, head, blocks })
    }

    /// The suite, and what the index was made from.
    #[must_use]
    pub fn head(&self) -> &IndexHead {
        &self.head
    }

    /// Lines from a block on: of this block only, or of all that follow.
    fn lines(&self, block: usize, is_one: bool) -> Lines<'_> {
        let size = self.text.size();
        let start = self.blocks.get(block).map_or(size, |block| block.at);
        let next = self.blocks.get(block + 1).filter(|_| is_one);
        Lines::new(&*self.text, start..next.map_or(size, |block| block.at))
    }

    fn find(&self, kind: u8, name: &str) -> Result<Option<String>, IndexError> {
        let after = self.blocks.partition_point(|block| block.key() <= (kind, name));
        let Some(block) = after.checked_sub(1) else { return Ok(None) };
        let mut lines = self.lines(block, true);
        while let Some(line) = lines.next()? {
            let (of, found) = key(line.text);
            if of.as_bytes() == [kind] && found == name {
                return Ok(Some(line.text.to_owned()));
            }
        }
        Ok(None)
    }

    /// Calls `with` for each line of a kind.
    fn each(&self, kind: u8, mut with: impl FnMut(&str)) -> Result<(), IndexError> {
        let block = self.blocks.partition_point(|block| block.key() < (kind, ""));
        let mut lines = self.lines(block.saturating_sub(1), false);
        while let Some(line) = lines.next()? {
            match line.text.bytes().next().unwrap_or_default().cmp(&kind) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => with(line.text),
                std::cmp::Ordering::Greater => break,
            }
        }
        Ok(())
    }

    /// Offers every name of a kind.
    pub(super) fn offer(&self, kind: u8, near: &mut Near) -> Result<(), IndexError> {
        self.each(kind, |line| near.offer(key(line).1))
    }

    /// A package.
    ///
    /// # Errors
    /// [`IndexError::Unreadable`].
    pub fn package(&self, name: &str) -> Result<Option<PackageFacts>, IndexError> {
        Ok(self.find(b'P', name)?.as_deref().and_then(facts))
    }

    /// What the security suite has, by package.
    ///
    /// # Errors
    /// [`IndexError::Unreadable`].
    pub fn security(&self) -> Result<BTreeMap<String, SecurityVersion>, IndexError> {
        let mut found = BTreeMap::new();
        self.each(b'S', |line| {
            if let [_, name, version, since] = line.split('\t').collect::<Vec<_>>()[..] {
                let (version, since_s) = (version.to_owned(), since.parse().unwrap_or(0));
                found.insert(name.to_owned(), SecurityVersion { version, since_s });
            }
        })?;
        Ok(found)
    }

    /// The first package that provides a virtual one.
    pub(super) fn provider(&self, name: &str) -> Result<Option<String>, IndexError> {
        let line = self.find(b'V', name)?;
        Ok(names(line.as_deref()).next().map(str::to_owned))
    }

    /// Packages that bring a unit. An instance of a template is brought by its template.
    ///
    /// # Errors
    /// [`IndexError::Unreadable`].
    pub fn with_unit(&self, unit: &str) -> Result<Vec<String>, IndexError> {
        let template = unit.split_once('@').and_then(|(name, rest)| {
            rest.rsplit_once('.').map(|(_, suffix)| format!("{name}@.{suffix}"))
        });
        let line = match (self.find(b'U', unit)?, template) {
            (Some(line), _) => Some(line),
            (None, Some(template)) => self.find(b'U', &template)?,
            (None, None) => None,
        };
        Ok(packages(line.as_deref()))
    }

    /// Packages that bring a program, by its path below `/usr/bin` or `/usr/sbin`, or below `/bin`
    /// or `/sbin`, which are links to them.
    ///
    /// # Errors
    /// [`IndexError::Unreadable`].
    pub fn with_program(&self, path: &str) -> Result<Vec<String>, IndexError> {
        let path = if path.starts_with("/bin/") || path.starts_with("/sbin/") {
            format!("/usr{path}")
        } else {
            path.to_owned()
        };
        Ok(packages(self.find(b'B', &path)?.as_deref()))
    }

    /// Packages whose installation creates a user.
    ///
    /// # Errors
    /// [`IndexError::Unreadable`].
    pub fn with_user(&self, user: &str) -> Result<Vec<String>, IndexError> {
        Ok(packages(self.find(b'A', user)?.as_deref()))
    }

    /// Packages whose installation creates a group.
    ///
    /// # Errors
    /// [`IndexError::Unreadable`].
    pub fn with_group(&self, group: &str) -> Result<Vec<String>, IndexError> {
        Ok(packages(self.find(b'G', group)?.as_deref()))
    }

    /// Packages whose name or summary contains every word of a text, at most `limit` and at most
    /// 200: names that begin with it first.
    ///
    /// # Errors
    /// [`IndexError::Unreadable`].
    pub fn search(&self, text: &str, limit: usize) -> Result<Vec<FoundPackage>, IndexError> {
        let mut best = Best::new(text, limit);
        if !best.words.is_empty() {
            self.each(b'P', |line| {
                let (_, name) = key(line);
                let summary = line.rsplit('\t').next().unwrap_or_default();
                best.offer(name, Some(summary), || facts(line).map(FoundPackage::from));
            })?;
        }
        Ok(best.finish())
    }

    /// Units whose name contains every word of a text, at most `limit` and at most 200: those that
    /// begin with it first.
    ///
    /// # Errors
    /// [`IndexError::Unreadable`].
    pub fn search_units(&self, text: &str, limit: usize) -> Result<Vec<FoundUnit>, IndexError> {
        let found = self.search_names(IndexedKind::Unit, text, limit)?;
        Ok(found
            .into_iter()
            .map(|FoundName { name, packages }| FoundUnit { name, packages })
            .collect())
    }

    /// As [`Self::search_units`], with names of any kind. Users and groups of the base are among
    /// them, without a package.
    ///
    /// # Errors
    /// [`IndexError::Unreadable`].
    pub fn search_names(
        &self,
        kind: IndexedKind,
        text: &str,
        limit: usize,
    ) -> Result<Vec<FoundName>, IndexError> {
        let mut best = Best::new(text, limit);
        if best.words.is_empty() {
            return Ok(Vec::new());
        }
        for name in kind.of_base() {
            let found = FoundName { name: (*name).to_owned(), packages: Vec::new() };
            best.offer(name, None, || Some(found));
        }
        self.each(kind.letter(), |line| {
            let name = key(line).1;
            if !kind.of_base().contains(&name) {
                best.offer(name, None, || {
                    Some(FoundName { name: name.to_owned(), packages: packages(Some(line)) })
                });
            }
        })?;
        Ok(best.finish())
    }

    /// What an image has in which these packages are installed.
    ///
    /// # Errors
    /// [`IndexError::Unreadable`].
    pub fn installed(&self, names: &[String]) -> Result<Installed, IndexError> {
        let closure = self.closure(names)?;
        let mut installed = Installed {
            unknown: closure.unlearnt().map(str::to_owned).collect(),
            ..Installed::default()
        };
        for (kind, known) in [
            (b'A', &mut installed.users),
            (b'E', &mut installed.enabled),
            (b'G', &mut installed.groups),
        ] {
            self.each(kind, |line| {
                if self::names(Some(line)).any(|package| closure.has(package)) {
                    known.insert(key(line).1.to_owned());
                }
            })?;
        }
        installed.packages = closure.packages.into_keys().collect();
        Ok(installed)
    }

    /// The packages that are installed with these: of alternatives the first one that exists. apt
    /// may choose others.
    pub(super) fn closure(&self, names: &[String]) -> Result<Closure, IndexError> {
        self.closure_within(names, LOOK_UPS_MAX)
    }

    /// As [`Self::closure`], with at most so many look-ups.
    pub(super) fn closure_within(
        &self,
        names: &[String],
        look_ups: usize,
    ) -> Result<Closure, IndexError> {
        let mut walk = Walk {
            index: self,
            look_ups,
            packages: HashMap::new(),
            providers: HashMap::new(),
            waiting: Vec::new(),
            closure: Closure::default(),
        };
        for name in names {
            walk.add(name)?;
        }
        while let Some(depends) = walk.waiting.pop() {
            for group in depends.split(',').filter(|group| !group.is_empty()) {
                walk.add_one_of(group)?;
            }
            if walk.closure.is_cut {
                break;
            }
        }
        Ok(walk.closure)
    }
}

/// Follows the dependencies of packages.
struct Walk<'a> {
    index: &'a SuiteIndex,
    /// Look-ups that are left.
    look_ups: usize,
    /// What was looked up.
    packages: HashMap<String, Option<PackageFacts>>,
    /// The first package that provides a virtual one.
    providers: HashMap<String, Option<String>>,
    /// Dependencies of packages of the closure, which are not followed yet.
    waiting: Vec<String>,
    closure: Closure,
}

impl Walk<'_> {
    /// Adds a package, if it exists.
    fn add(&mut self, name: &str) -> Result<(), IndexError> {
        if self.closure.has(name) || !self.exists(name)? {
            return Ok(());
        }
        if let Some(Some(facts)) = self.packages.get_mut(name) {
            self.closure.packages.insert(name.to_owned(), facts.is_learnt);
            self.waiting.push(std::mem::take(&mut facts.depends));
        }
        Ok(())
    }

    /// Adds the first alternative that exists, or who provides one.
    fn add_one_of(&mut self, group: &str) -> Result<(), IndexError> {
        // As apt does: one that is installed anyway is enough.
        if group.split('|').any(|name| self.closure.has(name)) {
            return Ok(());
        }
        for name in group.split('|') {
            if self.exists(name)? {
                return self.add(name);
            }
        }
        for name in group.split('|') {
            if let Some(provider) = self.provider(name)? {
                return self.add(&provider);
            }
        }
        Ok(())
    }

    fn exists(&mut self, name: &str) -> Result<bool, IndexError> {
        if let Some(known) = self.packages.get(name) {
            return Ok(known.is_some());
        }
        let found = if self.may_look_up() { self.index.package(name)? } else { None };
        let is_found = found.is_some();
        self.packages.insert(name.to_owned(), found);
        Ok(is_found)
    }

    fn provider(&mut self, name: &str) -> Result<Option<String>, IndexError> {
        if let Some(known) = self.providers.get(name) {
            return Ok(known.clone());
        }
        let found = if self.may_look_up() { self.index.provider(name)? } else { None };
        self.providers.insert(name.to_owned(), found.clone());
        Ok(found)
    }

    fn may_look_up(&mut self) -> bool {
        let Some(left) = self.look_ups.checked_sub(1) else {
            self.closure.is_cut = true;
            return false;
        };
        self.look_ups = left;
        true
    }
}

/// The best matches of a search so far.
struct Best<T> {
    text: String,
    words: Vec<String>,
    limit: usize,
    found: Vec<Match<T>>,
}

/// An entry with what it is ordered by.
struct Match<T> {
    rank: u8,
    name: String,
    entry: T,
}

impl<T> Best<T> {
    fn new(text: &str, limit: usize) -> Self {
        let text = text.trim().to_ascii_lowercase();
        let words = text.split_whitespace().map(str::to_owned).collect();
        Self { text, words, limit: limit.min(SEARCH_MAX), found: Vec::new() }
    }

    fn offer(&mut self, name: &str, summary: Option<&str>, entry: impl FnOnce() -> Option<T>) {
        let lower = summary.map(str::to_ascii_lowercase).unwrap_or_default();
        let is_found = self.words.iter().all(|w| name.contains(w) || lower.contains(w));
        if !is_found {
            return;
        }
        let rank = match name {
            name if name == self.text => 0,
            name if name.starts_with(&self.text) => 1,
            name if name.contains(&self.text) => 2,
            _ => 3,
        };
        if let Some(entry) = entry() {
            self.found.push(Match { rank, name: name.to_owned(), entry });
        }
        // A common letter is in every name: keep few of them in memory.
        if self.found.len() >= 4 * SEARCH_MAX {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.found.sort_unstable_by(|a, b| {
            (a.rank, a.name.len(), &a.name).cmp(&(b.rank, b.name.len(), &b.name))
        });
        self.found.truncate(self.limit);
    }

    fn finish(mut self) -> Vec<T> {
        self.cut();
        self.found.into_iter().map(|found| found.entry).collect()
    }
}

fn facts(line: &str) -> Option<PackageFacts> {
    let mut fields = line.split('\t').skip(1);
    let name = fields.next()?.to_owned();
    let version = fields.next()?.to_owned();
    let size_kib = fields.next()?.parse().ok()?;
    let is_learnt = fields.nth(1)? == "+";
    let depends = fields.next()?.to_owned();
    let summary = fields.next()?.to_owned();
    Some(PackageFacts { name, version, size_kib, summary, is_learnt, depends })
}

fn packages(line: Option<&str>) -> Vec<String> {
    names(line).map(str::to_owned).collect()
}

fn names(line: Option<&str>) -> impl Iterator<Item = &str> {
    let list = line.and_then(|line| line.split('\t').nth(2)).unwrap_or_default();
    list.split(',').filter(|name| !name.is_empty())
}
