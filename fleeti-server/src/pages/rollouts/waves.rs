//! The waves of a rollout, as its page shows them.

use crate::pages::display::{Badge, escaped, time};
use fleeti_core::rollout::Counts;
use fleeti_core::rollout::plan::{Plan, Start, Wave};
use fleeti_core::rollout::waves::{Stage, Waves};

/// A wave.
pub struct WaveRow {
    pub number: usize,
    pub size: String,
    pub state: Badge,
    /// HTML.
    pub detail: String,
    pub summary: String,
    /// Parts of its bar, percent: succeeded, failed, in progress; and where the last two begin.
    pub bar: Option<WaveBar>,
}

/// The bar of a wave, percent.
pub struct WaveBar {
    pub succeeded: f64,
    pub failed: f64,
    pub finished: f64,
    pub moving: f64,
}

impl From<Counts> for WaveBar {
    #[allow(clippy::cast_precision_loss)]
    fn from(counts: Counts) -> Self {
        let part = |n: usize| (n as f64 * 1000.0 / counts.total.max(1) as f64).round() / 10.0;
        Self {
            succeeded: part(counts.succeeded),
            failed: part(counts.failed),
            finished: part(counts.finished()),
            moving: part(counts.moving),
        }
    }
}

/// As `1 of 2 succeeded, 1 unconfirmed`; counts of zero are omitted.
pub fn count_words(counts: Counts) -> String {
    let Counts { total, succeeded, failed, moving, unconfirmed, pending, queued, unreached } =
        counts;
    let more = [
        (moving, "in progress"),
        (unconfirmed, "unconfirmed"),
        (failed, "failed"),
        (pending, "pending"),
        (queued, "queued"),
        (unreached, "unreached"),
    ];
    let more = more.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!(", {n} {word}"));
    format!("{succeeded} of {total} succeeded{}", more.collect::<String>())
}

/// The waves of a rollout, in order; none without a plan.
pub fn wave_rows(plan: Option<&Plan>, waves: Option<&Waves>) -> Vec<WaveRow> {
    let (Some(plan), Some(waves)) = (plan, waves) else { return Vec::new() };
    plan.waves.iter().enumerate().map(|(n, wave)| row(n, wave, waves)).collect()
}

fn row(n: usize, wave: &Wave, waves: &Waves) -> WaveRow {
    let counts = waves.counts.get(n).copied();
    let waiting = match wave.start {
        Start::AfterSuccess => "after the success of the wave before".to_owned(),
        Start::At { time_s } => format!("not before {}", time(time_s)),
        Start::ByHand => "when you begin it".to_owned(),
        Start::ByApproval => "when you request it, and a second person approves".to_owned(),
    };
    let (state, detail) = match (counts, waves.stage) {
        (None, _) => (Badge::new("", "later"), waiting),
        (Some(_), _) if n < waves.current as usize => (Badge::new("good", "done"), String::new()),
        (Some(_), Stage::Due) => (Badge::new("warn", "due"), gate_words(waves).unwrap_or(waiting)),
        (Some(_), Stage::Open) => (Badge::new("busy", "open"), String::new()),
        (Some(_), Stage::Soaking { until_s }) => {
            (Badge::new("busy", "soaking"), format!("until {}", time(until_s)))
        }
    };
    let summary = counts.map_or_else(String::new, count_words);
    let bar = counts.filter(|counts| counts.total > 0).map(WaveBar::from);
    WaveRow { number: n + 1, size: wave.size.to_string(), state, detail, summary, bar }
}

/// What the webhook gate said, if the current wave waits for it, as HTML.
fn gate_words(waves: &Waves) -> Option<String> {
    let asked = waves.waits_for_gate()?;
    let said = escaped(&asked.words());
    let again = asked.again_s.filter(|_| !asked.is_open).map(time);
    let again = again.map_or_else(String::new, |again| format!(", asked again {again}"));
    Some(format!("waits for its gate: <span class=\"mono\">{said}</span>{again}"))
}

/// The budget and the attempts of a rollout, in words; empty without.
pub fn limits(plan: Option<&Plan>) -> String {
    let Some(plan) = plan else { return String::new() };
    let budget = plan.budget.as_ref().map(|budget| {
        let (key, min) = (&budget.group_by, budget.min_available);
        format!("Of the devices with the same label {key}, {min} at least do not update.")
    });
    let retries = (plan.retries > 0)
        .then(|| format!("A device that fails is tried again at most {} times.", plan.retries));
    let gate = plan.gate.as_ref().map(|gate| {
        format!("Webhook {gate} is asked before each wave, which waits until it allows that.")
    });
    budget.into_iter().chain(retries).chain(gate).collect::<Vec<_>>().join(" ")
}

/// Whether an operator may begin the next wave.
pub fn can_go_on(waves: &Waves) -> bool {
    match waves.stage {
        Stage::Due | Stage::Soaking { .. } => true,
        Stage::Open => waves.counts.last().is_some_and(|counts| counts.unfinished() == 0),
    }
}

/// Why a rollout stopped by itself.
pub fn stopped(plan: Option<&Plan>, waves: Option<&Waves>) -> String {
    match (plan, waves.and_then(|waves| waves.errors)) {
        (Some(plan), Some(errors)) => format!(
            "{} errors among {} devices that have finished; the plan accepts {}.",
            errors.failed, errors.finished, plan.errors_max
        ),
        (None, _) | (_, None) => String::new(),
    }
}
