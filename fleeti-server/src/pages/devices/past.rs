//! What the page of a device shows of its drift and of its past.

use crate::pages::alerts::severity;
use crate::pages::display::{Badge, time};
use fleeti_core::drift::Difference;
use fleeti_core::wire::history::DeviceState;

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

/// What the device was from a time on.
pub struct StateRow {
    pub at: String,
    pub running: String,
    pub boot_id: String,
    pub level: String,
}

impl From<&DeviceState> for StateRow {
    fn from(state: &DeviceState) -> Self {
        let running = state.running.as_ref().map_or_else(|| "unknown".into(), ToString::to_string);
        Self {
            at: time(state.at_s),
            running,
            boot_id: state.boot_id.clone(),
            level: state.level.clone(),
        }
    }
}
