//! What the page of packages shows.

use crate::pages::display::query_value;
use crate::pages::page::Page;
use askama::Template;
use fleeti_core::wire::package::{Basis, PackageDevices, ReleasePackage};

/// Number of devices on a page.
pub const ROWS: u32 = 100;

/// The devices that have a package.
#[derive(Template)]
#[template(path = "packages.html", blocks = ["main"])]
pub struct PackagePage {
    page: Page,
    /// The question; empty for the form alone.
    query: String,
    proved: u64,
    reported: u64,
    unknown: u64,
    others: u64,
    releases: Vec<ReleaseRow>,
    devices: Vec<DeviceRow>,
    /// Address of the next page of devices.
    next: Option<String>,
}

struct ReleaseRow {
    name: String,
    packages: Vec<ReleasePackage>,
    proved: u64,
    reported: u64,
}

struct DeviceRow {
    id: String,
    fleet: String,
    release: String,
    basis: &'static str,
    tone: &'static str,
}

impl PackagePage {
    pub fn empty(page: Page) -> Self {
        Self {
            page,
            query: String::new(),
            proved: 0,
            reported: 0,
            unknown: 0,
            others: 0,
            releases: Vec::new(),
            devices: Vec::new(),
            next: None,
        }
    }

    pub fn of(page: Page, found: PackageDevices) -> Self {
        let is_full = found.devices.len() == ROWS as usize;
        let last = found.devices.last().filter(|_| is_full);
        let next =
            last.map(|last| format!("/packages?q={}&after={}", query_value(&found.query), last.id));
        let device = |device: &fleeti_core::wire::package::PackageDevice| DeviceRow {
            id: device.id.to_string(),
            fleet: device.fleet.to_string(),
            release: device.release.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            basis: device.basis.as_str(),
            tone: match device.basis {
                Basis::Proved => "bad",
                Basis::Reported => "warn",
                Basis::Unknown => "quiet",
            },
        };
        let devices = found.devices.iter().map(device).collect();
        let release = |release: fleeti_core::wire::package::PackageRelease| ReleaseRow {
            name: release.release.to_string(),
            packages: release.packages,
            proved: release.proved,
            reported: release.reported,
        };
        Self {
            page,
            query: found.query,
            proved: found.proved,
            reported: found.reported,
            unknown: found.unknown,
            others: found.others,
            releases: found.releases.into_iter().map(release).collect(),
            devices,
            next,
        }
    }
}
