//! Which versions of packages apt knows, and from which lists.

use crate::apt::{Apt, AptError};
use std::collections::{BTreeMap, BTreeSet};

/// Largest number of names in a call of apt.
const NAMES_MAX: usize = 1000;

/// A list of the archive, or of a local repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List {
    url: String,
    pub(crate) suite: String,
    pub(crate) component: String,
}

impl List {
    /// Whether it is of a mirror.
    pub(crate) fn is_of(&self, mirror: &str) -> bool {
        self.url.trim_end_matches('/') == mirror.trim_end_matches('/')
    }
}

/// The lists that have a version, by version.
pub(crate) type Versions = BTreeMap<String, Vec<List>>;

/// The versions of packages that can be installed, by name.
pub(crate) fn of<'a>(
    apt: &Apt,
    names: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, Versions>, AptError> {
    let mut found = BTreeMap::new();
    let names: Vec<_> = names.collect();
    for names in names.chunks(NAMES_MAX) {
        let mut arguments = vec!["policy", "--"];
        arguments.extend(names);
        parse(&apt.output("apt-cache", &arguments)?, &mut found);
    }
    Ok(found)
}

/// Those of some names that packages of the archive provide.
pub(crate) fn provided<'a>(
    apt: &Apt,
    names: impl Iterator<Item = &'a str>,
) -> Result<BTreeSet<String>, AptError> {
    let mut found = BTreeSet::new();
    let names: Vec<_> = names.collect();
    for names in names.chunks(NAMES_MAX) {
        let mut arguments = vec!["showpkg", "--"];
        arguments.extend(names);
        parse_provided(&apt.output("apt-cache", &arguments)?, &mut found);
    }
    Ok(found)
}

/// Parses the output of `apt-cache showpkg`.
fn parse_provided(text: &str, found: &mut BTreeSet<String>) {
    let (mut name, mut is_provider) = ("", false);
    for line in text.lines() {
        if let Some(next) = line.strip_prefix("Package: ") {
            (name, is_provider) = (next, false);
        } else if line.starts_with("Reverse Provides:") {
            is_provider = true;
        } else if is_provider && !line.trim().is_empty() {
            found.insert(name.to_owned());
        }
    }
}

/// Parses the output of `apt-cache policy`.
fn parse(text: &str, found: &mut BTreeMap<String, Versions>) {
    let (mut name, mut version) = (String::new(), String::new());
    for line in text.lines() {
        if !line.starts_with(' ') {
            line.trim_end_matches(':').clone_into(&mut name);
        } else if let Some(list) = line.strip_prefix("        ") {
            let words: Vec<_> = list.split_whitespace().collect();
            let [_, url, place, ..] = words[..] else { continue };
            let (suite, component) = place.rsplit_once('/').unwrap_or((place, ""));
            let list = List {
                url: url.to_owned(),
                suite: suite.to_owned(),
                component: component.to_owned(),
            };
            let versions = found.entry(name.clone()).or_default();
            versions.entry(version.clone()).or_default().push(list);
        } else if let Some(rest) = line.get(5..).filter(|rest| !rest.starts_with(' ')) {
            rest.split(' ').next().unwrap_or_default().clone_into(&mut version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_packages_provide_is_found() {
        let text = "Package: awk\nVersions: \n\nReverse Depends: \n  base-files,awk\nDependencies: \n\
                    Provides: \nReverse Provides: \nmawk 1.3.4-1 (= )\ngawk 1:5.2.1-2 (= )\n\
                    Package: less\nVersions: \n643-1\n\nProvides: \n643-1 - \nReverse Provides: \n";
        let mut found = BTreeSet::new();
        parse_provided(text, &mut found);
        assert_eq!(found, BTreeSet::from(["awk".to_owned()]));
    }

    #[test]
    fn versions_are_read_with_their_lists() {
        let text = "openssl:\n  Installed: (none)\n  Candidate: 3.5.9-1\n  Version table:\n     3.5.9-1 500\n        \
                    500 https://m/debian trixie/main amd64 Packages\n        500 https://m/s trixie-security/main amd64 Packages\n     \
                    99 -1\n         -1 file:/x/local ./ Packages\nmta:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";
        let mut found = BTreeMap::new();
        parse(text, &mut found);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["openssl"]);
        let versions = &found["openssl"];
        assert_eq!(versions.keys().collect::<Vec<_>>(), ["3.5.9-1", "99"]);
        let lists = &versions["3.5.9-1"];
        assert_eq!(
            (lists[1].suite.as_str(), lists[1].component.as_str()),
            ("trixie-security", "main")
        );
        assert!(lists[1].is_of("https://m/s/") && !lists[1].is_of("https://m/debian/"));
    }
}
