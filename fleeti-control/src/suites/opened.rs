//! An open index, and what it says.

use crate::error::Error;
use fleeti_build::suite;
use fleeti_core::profile::{Profile, SuiteFindings, SuiteIndex};
use fleeti_core::wire::suite::{FoundPackage, FoundUnit, IndexedSuite, SuiteSearch};

/// An open index.
#[derive(Debug)]
pub(crate) struct OpenIndex {
    pub(super) index: SuiteIndex,
    /// SHA-256 of its text, hexadecimal.
    pub(super) digest: String,
}

impl OpenIndex {
    /// What is known of the suite.
    pub(crate) fn suite(&self) -> IndexedSuite {
        let head = self.index.head();
        IndexedSuite {
            suite: head.suite.clone(),
            digest: self.digest.clone(),
            has_contents: head.has_contents,
        }
    }

    /// What the packages of the suite show of a profile. A file that can no longer be read shows
    /// nothing: a profile must not wait for a disk.
    pub(crate) fn check(&self, profile: &Profile) -> SuiteFindings {
        suite::check(profile, &self.index).unwrap_or_else(|e| {
            tracing::error!("the index of {}: {e}", self.index.head().suite);
            SuiteFindings::default()
        })
    }

    /// Packages and units that fit a text.
    pub(super) fn search(&self, text: &str, limit: usize) -> Result<SuiteSearch, Error> {
        let packages = self.index.search(text, limit).map_err(Error::internal)?;
        let units = self.index.search_units(text, limit).map_err(Error::internal)?;
        Ok(SuiteSearch {
            suite: Some(self.suite()),
            packages: packages
                .into_iter()
                .map(|package| FoundPackage {
                    name: package.name,
                    version: package.version,
                    summary: package.summary,
                    size_kib: package.size_kib,
                })
                .collect(),
            units: units
                .into_iter()
                .map(|unit| FoundUnit { name: unit.name, packages: unit.packages })
                .collect(),
        })
    }
}
