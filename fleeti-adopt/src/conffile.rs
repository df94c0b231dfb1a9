//! Whether a file of configuration is as its package brought it.

use crate::packages::Installed;
use crate::snapshot::{Entry, Snapshot};
use std::collections::{BTreeMap, BTreeSet};

/// How a file of configuration relates to its package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin<'a> {
    /// It is as a package brought it.
    Package,
    /// It is of this package, and was changed.
    Changed(&'a str),
    /// No package is known to have made it.
    Own,
}

/// The files of configuration that packages brought, with their digests.
pub(crate) struct Conffiles<'a> {
    /// Package and digest by path.
    of_dpkg: BTreeMap<&'a str, (&'a str, &'a str)>,
    /// Digests by path, of ucf(1).
    of_ucf: BTreeMap<&'a str, &'a str>,
    /// Digests of the files that base-files copies to `/etc`.
    templates: BTreeSet<&'a str>,
    owned: &'a BTreeMap<String, String>,
}

impl<'a> Conffiles<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot, installed: &'a Installed) -> Self {
        let of_dpkg = installed.iter().flat_map(|(name, package)| {
            let files = package.conffiles.iter();
            files.map(move |(path, md5)| (path.as_str(), (name.as_str(), md5.as_str())))
        });
        let hashes = snapshot.text("/var/lib/ucf/hashfile").unwrap_or_default();
        let of_ucf = hashes.lines().filter_map(|line| {
            let (md5, path) = line.split_once(char::is_whitespace)?;
            Some((path.trim(), md5))
        });
        let templates = snapshot.below("/usr/share/base-files");
        Self {
            of_dpkg: of_dpkg.collect(),
            of_ucf: of_ucf.collect(),
            templates: templates.filter_map(|(_, _, entry)| entry.md5()).collect(),
            owned: &snapshot.owned,
        }
    }

    pub(crate) fn origin(&self, path: &str, entry: &Entry) -> Origin<'a> {
        let md5 = entry.md5().unwrap_or_default();
        if let Some((package, original)) = self.of_dpkg.get(path) {
            return if *original == md5 { Origin::Package } else { Origin::Changed(package) };
        }
        if let Some(original) = self.of_ucf.get(path) {
            return if *original == md5 { Origin::Package } else { Origin::Changed("ucf") };
        }
        if self.owned.contains_key(path) || self.templates.contains(md5) {
            return Origin::Package;
        }
        Origin::Own
    }

    /// Files of packages that were deleted.
    pub(crate) fn deleted(&self, snapshot: &Snapshot) -> Vec<&'a str> {
        let is_gone =
            |path: &&str| path.starts_with("/etc/") && !snapshot.entries.contains_key(*path);
        self.of_dpkg.keys().copied().filter(is_gone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Package;
    use crate::tree::md5_hex;

    #[test]
    fn a_changed_file_is_told_from_one_of_a_package_and_from_an_own_one() {
        let conffiles = [("/etc/a", "as it was"), ("/etc/b", "as it was"), ("/etc/gone", "x")]
            .map(|(path, text)| (path.to_owned(), md5_hex(text.as_bytes())));
        let package = Package { conffiles: conffiles.into(), ..Package::default() };
        let installed = Installed::from([("nginx".to_owned(), package)]);
        let snapshot = Snapshot::default()
            .with("/etc/a", "as it was")
            .with("/etc/b", "changed")
            .with("/etc/c", "own")
            .with("/etc/d", "of ucf")
            .with("/etc/profile", "template")
            .with("/usr/share/base-files/profile", "template")
            .with("/var/lib/ucf/hashfile", &format!("{}  /etc/d\n", md5_hex(b"of ucf")))
            .with("/etc/e", "of a package")
            .with_owner("/etc/e", "x");
        let conffiles = Conffiles::of(&snapshot, &installed);
        for (path, origin) in [
            ("/etc/a", Origin::Package),
            ("/etc/b", Origin::Changed("nginx")),
            ("/etc/c", Origin::Own),
            ("/etc/d", Origin::Package),
            ("/etc/e", Origin::Package),
            ("/etc/profile", Origin::Package),
        ] {
            assert_eq!(conffiles.origin(path, &snapshot.entries[path]), origin, "{path}");
        }
        assert_eq!(conffiles.deleted(&snapshot), ["/etc/gone"]);
    }
}
