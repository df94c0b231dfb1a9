//! Security fixes that wait, on the pages of profiles and of fleets.

use crate::pages::display::time;
use fleeti_build::waiting::WaitingFix;
use fleeti_control::profiles::Fixes;

/// Maximum number of fixes that are listed.
const FIXES_MAX: usize = 200;

/// Security fixes that a release lacks.
pub struct FixesRow {
    pub release: String,
    pub count: usize,
    /// When the oldest of them was first seen.
    pub since: String,
    pub list: Vec<FixRow>,
}

/// A security fix.
pub struct FixRow {
    pub package: String,
    pub locked: String,
    pub fixed: String,
    pub since: String,
}

impl FixesRow {
    pub fn of(fixes: &Fixes) -> Option<Self> {
        let row = |fix: &WaitingFix| FixRow {
            package: fix.package.clone(),
            locked: fix.locked.clone(),
            fixed: fix.fixed.clone(),
            since: time(fix.since_s),
        };
        let oldest = fixes.waiting.first()?;
        Some(Self {
            release: fixes.release.to_string(),
            count: fixes.waiting.len(),
            since: time(oldest.since_s),
            list: fixes.waiting.iter().take(FIXES_MAX).map(row).collect(),
        })
    }
}
