//! Which fixes of the security suite an image does not have.

use crate::lock::{IN_IMAGE, Lock};
use crate::package::DEBIAN;
use fleeti_core::package_version::compare;
use fleeti_core::profile::{IndexError, SuiteIndex};

/// A package for which the security suite has a newer version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingFix {
    /// Name of the package.
    pub package: String,
    /// Version in the lock.
    pub locked: String,
    /// Version in the security suite.
    pub fixed: String,
    /// When the fix was first seen, Unix seconds.
    pub since_s: u64,
}

/// The fixes that wait, the oldest first.
///
/// # Errors
/// [`IndexError::Unreadable`].
pub fn waiting(lock: &Lock, index: &SuiteIndex) -> Result<Vec<WaitingFix>, IndexError> {
    let security = index.security()?;
    let packages = IN_IMAGE.iter().flat_map(|set| lock.set(set));
    let mut found: Vec<_> = packages
        .filter(|package| package.repository() == DEBIAN)
        .filter_map(|package| {
            let fix = security.get(&*package.name)?;
            compare(&package.version, &fix.version).is_lt().then(|| WaitingFix {
                package: package.name.to_string(),
                locked: package.version.to_string(),
                fixed: fix.version.clone(),
                since_s: fix.since_s,
            })
        })
        .collect();
    found.sort_by(|a, b| (a.since_s, &a.package).cmp(&(b.since_s, &b.package)));
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::profile::{IndexHead, IndexParts, SecurityVersion};

    #[test]
    fn a_fix_waits_where_the_security_suite_is_newer_than_the_lock() {
        let mut parts = IndexParts::default();
        for (name, version, since_s) in [
            ("aa", "1.10", 20),
            ("bb", "1.9", 10),
            ("cc", "2", 10),
            ("tool", "2", 1),
            ("own", "2", 1),
        ] {
            let fix = SecurityVersion { version: version.to_owned(), since_s };
            parts.security.insert(name.to_owned(), fix);
        }
        let head =
            IndexHead { suite: "trixie".into(), snapshot: "0".repeat(64), has_contents: true };
        let index = SuiteIndex::open(Box::new(parts.to_text(&head))).unwrap();
        let package = |name: &str, version: &str, origin: &str| {
            serde_json::json!({"name": name, "version": version, "sha256": "a".repeat(64), "size": 1,
                "path": "pool/x.deb", "origin": origin})
        };
        let debian = "debian trixie main";
        let device = [
            package("aa", "1.9", debian),
            package("bb", "1.10", debian),
            package("cc", "1", debian),
            package("own", "1", "own"),
        ];
        let lock: Lock = serde_json::from_value(serde_json::json!({
            "suite": "trixie", "architecture": "amd64", "requested": {},
            "sets": {"device": device, "initrd": [package("cc", "1", debian)], "tools": [package("tool", "1", debian)]},
        }))
        .unwrap();
        let found = waiting(&lock, &index).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|fix| (fix.package.as_str(), fix.locked.as_str(), fix.since_s))
            .collect();
        assert_eq!(found, [("cc", "1", 10), ("aa", "1.9", 20)]);
    }
}
