//! Where the packages of a lock are: a lock names repositories, and the profile and the host's apt
//! say at which addresses they are.

use crate::apt::AptError;
use crate::archive::Archive;
use crate::cache::Cache;
use crate::fetch::Place;
use crate::package::{DEBIAN, OWN, Package};
use fleeti_core::profile::{OwnPackage, Software};

/// Addresses of repositories and of packages.
pub(crate) struct Places<'a> {
    archive: Archive,
    software: &'a Software,
}

impl<'a> Places<'a> {
    /// The addresses that a profile names, and the mirrors of the host.
    pub(crate) fn new(cache: &Cache, software: &'a Software) -> Result<Self, AptError> {
        Ok(Self { archive: Archive::of_host(cache)?, software })
    }

    /// Where a package is; `None` if the profile does not name its repository.
    pub(crate) fn of(&self, package: &Package) -> Option<Place> {
        match package.repository() {
            DEBIAN => {
                let origin = package.origin.as_deref().unwrap_or_default();
                let suite = origin.split(' ').nth(1).unwrap_or_default();
                Some(Place::Url(format!("{}{}", self.archive.mirror(suite), package.path)))
            }
            OWN => {
                let is_it = |own: &&OwnPackage| own.sha256 == *package.sha256;
                self.software.own.iter().find(is_it).map(place)
            }
            name => {
                let repository = self.software.repositories.iter().find(|r| r.name == name)?;
                let url = repository.url.trim_end_matches('/');
                Some(Place::Url(format!("{url}/{}", package.path)))
            }
        }
    }
}

/// Where a package of one's own is.
pub(crate) fn place(own: &OwnPackage) -> Place {
    if own.from.starts_with('/') {
        Place::File(own.from.clone().into())
    } else {
        Place::Url(own.from.clone())
    }
}
