//! An open index, and what it says.

use crate::error::Error;
use fleeti_build::lock::Lock;
use fleeti_build::suite;
use fleeti_build::waiting::{WaitingFix, waiting};
use fleeti_core::profile::{FoundName, IndexedKind, Installed, Profile, SuiteFindings, SuiteIndex};
use fleeti_core::wire::suite::{FoundPackage, IndexedSuite, SuiteSearch};

/// Names of one kind that fit a text.
pub enum Names {
    /// The server has no index.
    NoIndex,
    /// Packages.
    Packages(Vec<FoundPackage>),
    /// Names of another kind.
    Others(Vec<FoundName>),
}

/// An open index.
#[derive(Debug)]
pub(crate) struct OpenIndex {
    pub(super) index: SuiteIndex,
    /// SHA-256 of its text, hexadecimal.
    pub(super) digest: String,
}

/// What the base and the packages of the suite show of a profile. A file that can no longer be read
/// shows nothing: a profile must not wait for a disk.
pub(crate) fn found(open: Option<&OpenIndex>, profile: &Profile) -> SuiteFindings {
    suite::check(profile, open.map(|open| &open.index)).unwrap_or_else(|e| {
        tracing::error!("the index of the suite: {e}");
        SuiteFindings::default()
    })
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

    /// What is installed in the image of a profile.
    pub(super) fn installed(&self, profile: &Profile) -> Result<Installed, Error> {
        suite::installed(profile, Some(&self.index)).map_err(Error::internal)
    }

    /// Security fixes that a lock lacks; `None` for an index that can no longer be read.
    pub(crate) fn waiting(&self, lock: &Lock) -> Option<Vec<WaitingFix>> {
        let found = waiting(lock, &self.index);
        found.inspect_err(|e| tracing::error!("the index of the suite: {e}")).ok()
    }

    /// Packages and units that fit a text.
    pub(super) fn search(&self, text: &str, limit: usize) -> Result<SuiteSearch, Error> {
        Ok(SuiteSearch {
            suite: Some(self.suite()),
            packages: self.index.search(text, limit).map_err(Error::internal)?,
            units: self.index.search_units(text, limit).map_err(Error::internal)?,
        })
    }

    /// Names of one kind that fit a text.
    pub(super) fn names(
        &self,
        kind: IndexedKind,
        text: &str,
        limit: usize,
    ) -> Result<Names, Error> {
        let names = match kind {
            IndexedKind::Package => self.index.search(text, limit).map(Names::Packages),
            other => self.index.search_names(other, text, limit).map(Names::Others),
        };
        names.map_err(Error::internal)
    }
}
