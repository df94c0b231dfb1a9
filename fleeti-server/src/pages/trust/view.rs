//! What the trust page shows.

use crate::pages::display::{Badge, time};
use crate::pages::page::Page;
use askama::Template;
use fleeti_core::wire::api::{Intermediate, TrustStatus};

/// The trust page.
#[derive(Template)]
#[template(path = "trust.html", blocks = ["main"])]
pub struct TrustPage {
    page: Page,
    version: u64,
    devices: u64,
    devices_with_it: u64,
    /// When the root's CRL expires.
    crl_ends: Option<String>,
    warnings: Vec<String>,
    intermediates: Vec<IntermediateRow>,
}

impl TrustPage {
    pub fn of(page: Page, status: TrustStatus) -> Self {
        Self {
            page,
            version: status.version,
            devices: status.devices,
            devices_with_it: status.devices_with_it,
            crl_ends: status.root_crl_ends_s.map(time),
            warnings: status.warnings,
            intermediates: status.intermediates.into_iter().map(IntermediateRow::from).collect(),
        }
    }
}

struct IntermediateRow {
    purpose: String,
    name: String,
    sha256: String,
    ends: String,
    state: Badge,
    has_key: bool,
}

impl From<Intermediate> for IntermediateRow {
    fn from(i: Intermediate) -> Self {
        let state = if i.is_issuing {
            Badge::new("good", "issues certificates")
        } else {
            Badge::new("quiet", "trusted")
        };
        Self {
            purpose: i.purpose,
            name: i.name,
            sha256: i.certificate_sha256,
            ends: time(i.not_after_s),
            state,
            has_key: i.has_key,
        }
    }
}
