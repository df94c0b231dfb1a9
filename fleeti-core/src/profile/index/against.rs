//! Checks a profile against an index.

use super::super::finding::Remedy;
use super::super::{Probe, Profile, UnitState, rules};
use super::kind::IndexedKind;
use super::near::Near;
use super::searched::{Closure, SuiteIndex};
use super::text::IndexError;
use crate::wire::problem::{FieldError, Suggestion};
use std::collections::BTreeSet;

/// Largest number of packages that a finding names.
const SHOWN_MAX: usize = 8;

/// What only the packages of a suite show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuiteFindings {
    /// What makes the profile unusable.
    pub errors: Vec<FieldError>,
    /// What the author should look at.
    pub warnings: Vec<FieldError>,
    /// Paths about which the index knows more than the rules: a warning of the rules does not count.
    pub settled: BTreeSet<String>,
}

/// Errors and warnings of a profile that only the packages of its suite show. `base` are the
/// packages that the base installs in every image.
///
/// A name that the index does not have is a warning where a maintainer script may create it, unless
/// all packages of the profile were read themselves.
///
/// # Errors
/// [`IndexError::Unreadable`].
pub fn against_suite(
    profile: &Profile,
    index: &SuiteIndex,
    base: &[String],
) -> Result<SuiteFindings, IndexError> {
    let mut against = Against {
        profile,
        index,
        closure: Closure::default(),
        found: SuiteFindings::default(),
        open: Vec::new(),
    };
    let mut known = against.packages()?;
    known.extend_from_slice(base);
    against.closure = index.closure(&known)?;
    against.say_cut();
    if index.head().has_contents || against.closure.is_learnt() {
        against.units()?;
        against.programs()?;
    }
    against.groups()?;
    against.users()?;
    against.near()?;
    Ok(against.found)
}

/// What the author does about a name that nothing brings.
fn remedy(kind: IndexedKind) -> &'static str {
    match kind {
        IndexedKind::Package => {
            "find its name with `fleeti profile search` or the search of the editor"
        }
        IndexedKind::Unit => "correct the name, or add the text of the unit",
        IndexedKind::Program => "correct the path",
        IndexedKind::User => "correct the name, or add it to users",
        IndexedKind::Group => "correct the name, or add it to groups",
    }
}

/// A name that nothing brings, for which a near one is looked for.
struct Open {
    what: IndexedKind,
    name: String,
    path: String,
    message: String,
    is_error: bool,
}

/// A name at its place.
struct Named {
    path: String,
    name: String,
}

struct Against<'a> {
    profile: &'a Profile,
    index: &'a SuiteIndex,
    closure: Closure,
    found: SuiteFindings,
    open: Vec<Open>,
}

impl Against<'_> {
    /// Reports packages that do not exist, and returns the others.
    fn packages(&mut self) -> Result<Vec<String>, IndexError> {
        let software = &self.profile.software;
        // A package of another repository is not in the index of the suite.
        let has_others = !software.repositories.is_empty()
            || !software.components.is_empty()
            || !software.backports.is_empty();
        let mut known = Vec::new();
        for (i, name) in software.packages.iter().enumerate() {
            if self.index.package(name)?.is_some() {
                known.push(name.clone());
                continue;
            }
            if software.own.iter().any(|own| own.name == *name) {
                continue;
            }
            let path = format!("software.packages[{i}]");
            let message = format!("is not a package of {}", self.index.head().suite);
            if let Some(package) = self.index.provider(name)? {
                let text = format!("write {package}, which provides it");
                let remedy = Remedy { text, suggestion: Some(Suggestion::Value(package)) };
                self.say(!has_others, remedy.of(path, message));
            } else {
                let (what, name) = (IndexedKind::Package, name.clone());
                self.open.push(Open { what, name, path, message, is_error: !has_others });
            }
        }
        Ok(known)
    }

    /// Reports that not all packages are known.
    fn say_cut(&mut self) {
        if self.closure.is_cut() {
            let path = "software.packages".to_owned();
            let message = "not checked further: too many packages would be installed".to_owned();
            let remedy = "name fewer packages, or make the index of the suite again";
            self.say(false, Remedy::from(remedy).of(path, message));
        }
    }

    fn say(&mut self, is_error: bool, finding: FieldError) {
        let list = if is_error { &mut self.found.errors } else { &mut self.found.warnings };
        list.push(finding);
    }

    /// Reports what names a unit that nothing brings.
    fn units(&mut self) -> Result<(), IndexError> {
        let profile = self.profile;
        let mut named: Vec<Named> = Vec::new();
        let mut say = |path: String, name: &str| named.push(Named { path, name: name.to_owned() });
        for (i, service) in profile.services.iter().enumerate() {
            if service.unit.is_none() && service.state != UnitState::Masked {
                say(format!("services[{i}].name"), &service.name);
            }
        }
        for (i, timer) in profile.timers.iter().enumerate() {
            say(format!("timers[{i}].service"), &timer.service);
        }
        for (i, rule) in profile.network.firewall.rules.iter().enumerate() {
            if let Some(service) = &rule.service {
                say(format!("network.firewall.rules[{i}].service"), service);
            }
        }
        for (i, check) in profile.health_checks.iter().enumerate() {
            if let Some(Probe::Unit(unit)) = check.probe() {
                say(format!("health_checks[{i}].unit"), unit);
            }
        }
        for Named { path, name } in named {
            if !self.is_own_unit(&name) {
                let by = self.index.with_unit(&name)?;
                self.brought(IndexedKind::Unit, Named { path, name }, &by);
            }
        }
        Ok(())
    }

    fn is_own_unit(&self, unit: &str) -> bool {
        let profile = self.profile;
        let in_file = |path: &str| path.strip_prefix("/etc/systemd/system/") == Some(unit);
        profile.services.iter().any(|s| s.name == unit && s.unit.is_some())
            || profile.timers.iter().any(|t| t.service.replace(".service", ".timer") == unit)
            || profile.containers.iter().any(|c| unit.strip_suffix(".service") == Some(&c.name))
            || profile.files.iter().any(|file| in_file(&file.path))
    }

    /// Reports shells and programs of health checks that nothing brings.
    fn programs(&mut self) -> Result<(), IndexError> {
        let profile = self.profile;
        let mut named: Vec<Named> = Vec::new();
        for (i, user) in profile.users.iter().enumerate() {
            named.push(Named { path: format!("users[{i}].shell"), name: user.shell.clone() });
        }
        for (i, check) in profile.health_checks.iter().enumerate() {
            if let Some(Probe::Command([program, ..])) = check.probe() {
                let path = format!("health_checks[{i}].command");
                named.push(Named { path, name: program.clone() });
            }
        }
        for (i, diagnostic) in profile.diagnostics.iter().enumerate() {
            if let Some(program) = diagnostic.command.first() {
                let path = format!("diagnostics[{i}].command");
                named.push(Named { path, name: program.clone() });
            }
        }
        for Named { path, name } in named {
            let is_indexed = ["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/"]
                .iter()
                .any(|folder| name.starts_with(folder));
            if is_indexed && !profile.files.iter().any(|file| file.path == name) {
                let by = self.index.with_program(&name)?;
                // /bin and /sbin are links.
                let usr = if name.starts_with("/usr/") { "" } else { "/usr" };
                let name = format!("{usr}{name}");
                self.brought(IndexedKind::Program, Named { path, name }, &by);
            }
        }
        Ok(())
    }

    /// Reports groups of users that nothing creates.
    fn groups(&mut self) -> Result<(), IndexError> {
        let profile = self.profile;
        for (i, user) in profile.users.iter().enumerate() {
            for (g, group) in user.groups.iter().enumerate() {
                if rules::is_own_group(group, profile) {
                    continue;
                }
                let path = format!("users[{i}].groups[{g}]");
                let by = self.index.with_group(group)?;
                // The rules know some groups with their packages, and say which one to add.
                let is_added = rules::is_known_group(group, profile);
                if !by.is_empty() || is_added || !rules::has_advice(group) {
                    self.found.settled.insert(path.clone());
                    self.brought(IndexedKind::Group, Named { path, name: group.clone() }, &by);
                }
            }
        }
        Ok(())
    }

    /// Reports users and groups of units that nothing creates.
    fn users(&mut self) -> Result<(), IndexError> {
        let profile = self.profile;
        let mut texts: Vec<(String, &str)> = Vec::new();
        for (i, service) in profile.services.iter().enumerate() {
            if let Some(unit) = &service.unit {
                texts.push((format!("services[{i}].unit"), unit));
            }
            for (d, drop_in) in service.drop_ins.iter().enumerate() {
                texts.push((format!("services[{i}].drop_ins[{d}].text"), &drop_in.text));
            }
        }
        for (path, text) in texts {
            for identity in rules::identities(text) {
                let name = identity.name.as_str();
                let named = Named { path: path.clone(), name: name.to_owned() };
                if identity.is_group {
                    if !rules::is_own_group(name, profile) {
                        let by = self.index.with_group(name)?;
                        self.brought(IndexedKind::Group, named, &by);
                    }
                } else if !rules::is_known_user(name, profile) {
                    let by = self.index.with_user(name)?;
                    self.brought(IndexedKind::User, named, &by);
                }
            }
        }
        Ok(())
    }

    fn brought(&mut self, what: IndexedKind, named: Named, by: &[String]) {
        let Named { path, name } = named;
        let noun = what.noun();
        let Some(first) = by.first() else {
            let suite = &self.index.head().suite;
            let verb = match what {
                IndexedKind::User | IndexedKind::Group => "is known to create",
                _ => "brings",
            };
            let mut message = format!("no package of {suite} {verb} the {noun} {name}");
            if matches!(what, IndexedKind::User | IndexedKind::Group) {
                message.push_str(&self.not_installed());
            }
            // Only a package that was installed shows what its scripts create, and programs have more
            // ways to come into being than units: alternatives, diversions.
            let is_error = self.closure.is_learnt() && what != IndexedKind::Program;
            self.open.push(Open { what, name, path, message, is_error });
            return;
        };
        // What was not followed may bring it.
        if !self.closure.is_cut() && !by.iter().any(|package| self.closure.has(package)) {
            let shown = by[..by.len().min(SHOWN_MAX)].join(" or ");
            let message = format!("the {noun} {name} is of the package {shown}");
            let remedy = Remedy::from(format!("add {first} to software.packages"));
            self.say(false, remedy.of(path, message));
        }
    }

    /// Which packages may create a user or a group, because no build installed them yet: those that
    /// the profile names first.
    fn not_installed(&self) -> String {
        let mut packages: Vec<_> = self.closure.unlearnt().collect();
        let named = &self.profile.software.packages;
        packages.sort_by_key(|package| !named.iter().any(|name| name == package));
        match packages.as_slice() {
            [] => String::new(),
            [one] => format!("; {one} may create it: no build installed it yet"),
            [first, others @ ..] => format!(
                "; {first} or {} other packages may create it: no build installed them yet",
                others.len()
            ),
        }
    }

    /// Reports what nothing brings, with near names: one pass over the index for each kind.
    fn near(&mut self) -> Result<(), IndexError> {
        let open = std::mem::take(&mut self.open);
        for what in IndexedKind::ALL {
            let of_kind: Vec<_> = open.iter().filter(|open| open.what == what).collect();
            if of_kind.is_empty() {
                continue;
            }
            let mut near = Near::new(of_kind.iter().map(|open| open.name.as_str()));
            self.index.offer(what.letter(), &mut near)?;
            own_names(self.profile, what).into_iter().for_each(|name| near.offer(name));
            for Open { name, path, message, is_error, .. } in of_kind {
                let remedy = match near.of(name) {
                    Some(near) => Remedy::value(near),
                    None => remedy(what).into(),
                };
                self.say(*is_error, remedy.of(path.clone(), message.clone()));
            }
        }
        Ok(())
    }
}

/// Names that the profile or every system has.
fn own_names(profile: &Profile, what: IndexedKind) -> Vec<&str> {
    match what {
        IndexedKind::Package | IndexedKind::Program => Vec::new(),
        IndexedKind::Unit => {
            let own = profile.services.iter().filter(|service| service.unit.is_some());
            own.map(|service| service.name.as_str()).collect()
        }
        IndexedKind::User => {
            let own = profile.users.iter().map(|user| user.name.as_str());
            own.chain(what.of_base().iter().copied()).collect()
        }
        IndexedKind::Group => {
            let own = profile.groups.iter().map(|group| group.name.as_str());
            own.chain(what.of_base().iter().copied()).collect()
        }
    }
}
