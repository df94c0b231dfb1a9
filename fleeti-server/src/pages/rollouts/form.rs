//! What an operator fills in to start a rollout.

use crate::error::AppError;
use fleeti_control::error::Error;
use fleeti_core::id::{FleetId, ReleaseName};
use fleeti_core::rollout::plan::{Plan, Start, Wave};
use fleeti_core::wire::api::{CreateRollout, Urgent};
use fleeti_core::wire::problem::Code;
use serde::Deserialize;
use std::fmt::Display;

/// The form on the page of a release, and on the page of a plan.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct StartForm {
    pub release: ReleaseName,
    pub fleet: FleetId,
    /// Sizes, separated by blanks or commas; empty for everybody at once.
    #[serde(default)]
    pub waves: String,
    #[serde(default)]
    pub soak_minutes: String,
    #[serde(default)]
    pub errors_max: String,
    /// As in `rack:2` or `rack:80%`; empty for none.
    #[serde(default)]
    pub budget: String,
    #[serde(default)]
    pub retries: String,
    /// Id of a webhook; empty for none.
    #[serde(default)]
    pub gate: String,
    /// Why it is urgent; empty if it is not.
    #[serde(default)]
    pub urgent: String,
    /// Why, if a second person must approve.
    #[serde(default)]
    pub ask: String,
}

impl StartForm {
    /// What is asked for.
    ///
    /// # Errors
    /// A field in words.
    pub fn read(self) -> Result<CreateRollout, AppError> {
        let Self { release, fleet, waves, soak_minutes, errors_max, budget, .. } = self;
        let Self { retries, gate, urgent, .. } = self;
        let soak_s = match soak_minutes.trim() {
            "" => 0,
            minutes => {
                minutes.parse::<u64>().map_err(|e| wrong("soak time", e))?.saturating_mul(60)
            }
        };
        let sizes = waves.split([' ', ',']).filter(|size| !size.is_empty());
        let wave = |size: &str| {
            let size = size.parse().map_err(|e| wrong("waves", e))?;
            Ok(Wave { size, start: Start::AfterSuccess, soak_s })
        };
        let waves = sizes.map(wave).collect::<Result<Vec<_>, AppError>>()?;
        let mut plan = (!waves.is_empty()).then(|| Plan::of(waves));
        if plan.is_none() {
            let fields = [("gate", &gate), ("budget", &budget), ("retries", &retries)];
            only_with_waves(fields)?;
        }
        if let Some(plan) = &mut plan {
            if !errors_max.trim().is_empty() {
                plan.errors_max = errors_max.trim().parse().map_err(|e| wrong("errors", e))?;
            }
            if !budget.trim().is_empty() {
                plan.budget = Some(budget.trim().parse().map_err(|e| wrong("budget", e))?);
            }
            if !retries.trim().is_empty() {
                plan.retries = retries.trim().parse().map_err(|e| wrong("retries", e))?;
            }
            let gate = gate.trim().to_owned();
            plan.gate = (!gate.is_empty()).then_some(gate);
        }
        let reason = urgent.trim().to_owned();
        let urgent = (!reason.is_empty()).then_some(Urgent { reason });
        Ok(CreateRollout { release, fleet, plan, urgent })
    }
}

/// A rollout to everybody at once has no plan that could have these fields.
fn only_with_waves(fields: [(&str, &String); 3]) -> Result<(), AppError> {
    let is_given = |(_, value): &(&str, &String)| !matches!(value.trim(), "" | "0");
    match fields.into_iter().find(is_given) {
        Some((field, _)) => Err(wrong(field, "needs waves: 100% is one wave")),
        None => Ok(()),
    }
}

fn wrong(field: &str, e: impl Display) -> AppError {
    Error::new(Code::Invalid, format!("{field}: {e}")).into()
}
