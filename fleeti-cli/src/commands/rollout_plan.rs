//! The plan of a rollout: how it is asked for, and how it is shown.

use crate::output::{Failure, Lines, when};
use clap::Args;
use fleeti_core::rollout::Counts;
use fleeti_core::rollout::budget::Budget;
use fleeti_core::rollout::plan::{ErrorsMax, OnError, Plan, Rate, Size, Start, Wave};
use fleeti_core::rollout::waves::{Stage, Waves};
use fleeti_core::wire::api::RolloutSummary;

/// How a rollout proceeds.
#[derive(Args)]
pub struct PlanArgs {
    /// A wave: a number of devices (1), a part of the fleet (10%), devices:ID,ID or filter:site=lab.
    /// Sizes include the waves before; the last one is 100%. Without waves, everybody at once.
    #[arg(long = "wave")]
    waves: Vec<Size>,
    /// Time between the success of a wave and the next one, as in 90s, 30m, 1h or 2d.
    #[arg(long, requires = "waves", value_parser = seconds, default_value = "0s")]
    soak: u64,
    /// Errors that are accepted: a number of devices, or a part of those that have finished (2%).
    #[arg(long, requires = "waves", default_value = "0")]
    max_errors: ErrorsMax,
    /// Devices that must have finished before a part of them counts.
    #[arg(long, requires = "waves", default_value_t = 10)]
    min_sample: usize,
    /// Abort the rollout when there are too many errors, instead of pausing it.
    #[arg(long, requires = "waves")]
    abort_on_error: bool,
    /// Abort the rollout when there are too many errors, and take its devices back to the release that
    /// they ran before.
    #[arg(long, requires = "waves", conflicts_with = "abort_on_error")]
    roll_back_on_error: bool,
    /// Begin each wave after the first by hand, with `fleeti rollout next`.
    #[arg(long, requires = "waves")]
    by_hand: bool,
    /// Begin each wave after the first when a second person approves it: `fleeti rollout next --ask`.
    #[arg(long, requires = "waves", conflicts_with = "by_hand")]
    by_approval: bool,
    /// Largest number of devices that update at the same time.
    #[arg(long, requires = "waves")]
    max_moving: Option<usize>,
    /// Largest number of offers in a period, as in 100/1h.
    #[arg(long, requires = "waves", value_parser = rate)]
    rate: Option<Rate>,
    /// Devices with the same value of a label of which so many must not update: rack:2 or rack:80%.
    #[arg(long, requires = "waves", value_name = "LABEL:MIN")]
    budget: Option<Budget>,
    /// How often a device that fails to install the release is offered it again, after a pause.
    #[arg(long, requires = "waves", default_value_t = 0)]
    retries: u32,
    /// Webhook with the event rollout.gate, which is asked before each wave: it waits until that allows it.
    #[arg(long, requires = "waves", value_name = "WEBHOOK")]
    gate: Option<String>,
    /// Time after which a device that has started and is not heard of is an error.
    #[arg(long, requires = "waves", value_parser = seconds, default_value = "1h")]
    silent_after: u64,
    /// Time after which the rollout goes on without a device that has not started.
    #[arg(long, requires = "waves", value_parser = seconds, default_value = "15m")]
    unreached_after: u64,
}

impl PlanArgs {
    /// The plan; `None` for everybody at once.
    pub fn read(self) -> Result<Option<Plan>, Failure> {
        if self.waves.is_empty() {
            return Ok(None);
        }
        let wave = |(n, size)| {
            let start = match (n, self.by_hand, self.by_approval) {
                (1.., true, _) => Start::ByHand,
                (1.., false, true) => Start::ByApproval,
                (0, _, _) | (1.., false, false) => Start::AfterSuccess,
            };
            Wave { size, start, soak_s: self.soak }
        };
        let plan = Plan {
            waves: self.waves.into_iter().enumerate().map(wave).collect(),
            errors_max: self.max_errors,
            sample_min: self.min_sample,
            silent_s: self.silent_after,
            unreached_s: self.unreached_after,
            on_error: match (self.roll_back_on_error, self.abort_on_error) {
                (true, _) => OnError::RollBack,
                (false, true) => OnError::Abort,
                (false, false) => OnError::Pause,
            },
            moving_max: self.max_moving,
            rate: self.rate,
            budget: self.budget,
            retries: self.retries,
            gate: self.gate,
        };
        plan.check().map_err(|e| {
            Failure::new(e.to_string(), Some("for example: --wave 1 --wave 10% --wave 100%"))
        })?;
        Ok(Some(plan))
    }
}

/// A time, as in 90s, 30m, 1h or 2d.
pub fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time, as in 90s, 30m, 1h or 2d");
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)
}

/// A rate, as in 100/1h.
pub fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("{text:?} is no rate, as in 100/1h");
    let (devices, period) = text.split_once('/').ok_or_else(wrong)?;
    let devices = devices.parse().map_err(|_| wrong())?;
    Ok(Rate { devices, per_s: seconds(period)? })
}

/// The waves of a rollout, one a line.
pub fn plan_lines(plan: Option<&Plan>, waves: Option<&Waves>) -> Vec<String> {
    let (Some(plan), Some(waves)) = (plan, waves) else { return Vec::new() };
    let line = |(n, wave): (usize, &Wave)| {
        let state = match waves.counts.get(n) {
            None => match wave.start {
                Start::AfterSuccess => "later".to_owned(),
                Start::At { time_s } => format!("not before {}", when(time_s)),
                Start::ByHand => "by hand: `fleeti rollout next`".to_owned(),
                Start::ByApproval => "by approval: `fleeti rollout next --ask`".to_owned(),
            },
            Some(counts) if n < waves.current as usize => count_words(*counts),
            Some(counts) => match waves.stage {
                Stage::Due => due(waves),
                Stage::Open => count_words(*counts),
                Stage::Soaking { until_s } => {
                    format!("soaks until {}", when(until_s))
                }
            },
        };
        format!("  wave {:<2} {:<18} {state}", n + 1, wave.size.to_string())
    };
    let mut lines: Vec<_> = plan.waves.iter().enumerate().map(line).collect();
    if let Some(budget) = &plan.budget {
        lines.push(format!("  budget {budget}"));
    }
    if plan.retries > 0 {
        lines.push(format!("  retries {}", plan.retries));
    }
    if let Some(gate) = &plan.gate {
        lines.push(format!("  gate {gate}"));
    }
    if let Some(errors) = waves.errors {
        lines.push(format!(
            "  stopped: {} errors among {} finished, {} accepted",
            errors.failed, errors.finished, plan.errors_max
        ));
    }
    lines
}

/// What a wave waits for that is due.
fn due(waves: &Waves) -> String {
    let Some(asked) = waves.waits_for_gate() else { return "waits for its start".to_owned() };
    let again = match asked.again_s.filter(|_| !asked.is_open) {
        Some(again_s) => format!(" (asked again {})", when(again_s)),
        None => String::new(),
    };
    format!("waits for its gate: {}{again}", asked.words())
}

/// As `3/5 finished, 1 failed, 1 unconfirmed`; counts of zero are omitted.
pub fn count_words(counts: Counts) -> String {
    let Counts { total, succeeded, failed, moving, unconfirmed, pending, queued, unreached } =
        counts;
    let more = [
        (failed, "failed"),
        (moving, "in progress"),
        (unconfirmed, "unconfirmed"),
        (pending, "pending"),
        (queued, "queued"),
        (unreached, "unreached"),
    ];
    let more = more.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!(", {n} {word}"));
    format!("{}/{total} finished{}", succeeded + failed, more.collect::<String>())
}

/// A rollout in two lines.
pub fn title(r: &RolloutSummary) -> Lines {
    let title = format!("{} {} in {}: {}", r.id, r.release, r.fleet, r.phase);
    Lines::from(title)
        .and(count_words(r.counts))
        .and(family(r.back_of.as_ref(), r.follows.as_ref()))
}

/// The rollouts before and after one.
pub fn family(back_of: Option<&String>, follows: Option<&String>) -> Vec<String> {
    let back = back_of.map(|id| format!("takes the devices of {id} back"));
    let follows = follows.map(|id| format!("{id} follows it"));
    back.into_iter().chain(follows).collect()
}
