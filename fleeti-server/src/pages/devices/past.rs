//! What the page of a device shows of its drift.

use crate::pages::alerts::severity;
use crate::pages::display::Badge;
use fleeti_core::drift::Difference;

/// A difference from what is desired.
pub struct DriftRow {
    pub title: &'static str,
    pub severity: Badge,
    pub expected: String,
    pub found: String,
}

impl From<&Difference> for DriftRow {
    fn from(of: &Difference) -> Self {
        Self {
            title: of.aspect.title(),
            severity: severity(of.severity),
            expected: of.expected.clone(),
            found: of.found.clone(),
        }
    }
}
