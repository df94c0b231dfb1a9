//! Why a device is, or is not, offered a release, as its page shows it.

use crate::pages::display::{Badge, time};
use fleeti_core::rollout::gates::{Check, GateState, Source};
use fleeti_core::wire::updates::Why;

/// A gate of the list.
pub struct GateRow {
    pub state: Badge,
    pub title: &'static str,
    /// What is true, and what would change it; empty for an open gate.
    pub text: String,
    pub change: String,
    /// HTML: when time changes it.
    pub until: Option<String>,
}

/// The card.
pub struct WhyCard {
    pub target: Option<String>,
    pub deciding: Option<GateRow>,
    pub gates: Vec<GateRow>,
    pub is_held: bool,
    pub is_pinned: bool,
    /// The version in the penalty box.
    pub penalty: Option<String>,
}

impl WhyCard {
    pub fn of(why: &Why) -> Self {
        let row = |check: &Check| GateRow::of(check, why.device.as_str());
        let from = |source| match source {
            Source::Pin => "the device is pinned to it",
            Source::Downgrade => "an operator takes the device back to it",
            Source::Rollout => "by a rollout",
            Source::WayBack => "by a rollout that goes back",
            Source::FleetPin => "its fleet is pinned to it",
            Source::Channel => "the channel of its fleet",
        };
        Self {
            target: why.target.as_ref().map(|t| format!("{}, {}", t.release, from(t.source))),
            deciding: why.deciding().map(row),
            gates: why.gates.iter().map(row).collect(),
            is_held: why.hold.is_some(),
            is_pinned: why.pin.is_some(),
            penalty: why.penalty.as_ref().map(|penalty| penalty.version.to_string()),
        }
    }
}

impl GateRow {
    fn of(check: &Check, device: &str) -> Self {
        let (state, text) = match check.state {
            GateState::Open => (Badge::new("good", "yes"), String::new()),
            GateState::Waits => (Badge::new("busy", "waits"), check.text.clone()),
            GateState::Closed => (Badge::new("warn", "no"), check.text.clone()),
        };
        let change = check.change.as_deref().unwrap_or_default().replace("DEVICE", device);
        let until = check.until_s.map(time);
        Self { state, title: check.gate.title(), text, change, until }
    }
}
