//! Rollouts in waves, without a server.

use crate::errors;
use fleeti_core::id::DeviceId;
use fleeti_core::rollout::budget::Budget;
use fleeti_core::rollout::cohort::cohort as cohort_of;
use fleeti_core::rollout::plan::{ErrorsMax, Plan, Size};
use fleeti_core::strict;
use pyo3::prelude::*;

/// Sizes of waves, as JSON.
#[pyfunction]
pub fn wave_sizes(python: Python<'_>, texts: Vec<String>) -> PyResult<Vec<u8>> {
    let sizes: Result<Vec<Size>, _> = texts.iter().map(|text| text.parse()).collect();
    serde_json::to_vec(&sizes.map_err(|e| errors::invalid(python, e))?).map_err(errors::of_json)
}

/// A number of errors, as JSON.
#[pyfunction]
pub fn errors_max(python: Python<'_>, text: &str) -> PyResult<Vec<u8>> {
    let max: ErrorsMax = text.parse().map_err(|e| errors::invalid(python, e))?;
    serde_json::to_vec(&max).map_err(errors::of_json)
}

fn read(python: Python<'_>, bytes: &[u8]) -> PyResult<Plan> {
    let plan: Plan =
        strict::from_request(bytes).map_err(|e| errors::invalid(python, format!("plan: {e}")))?;
    plan.check().map_err(|e| errors::invalid(python, e))?;
    Ok(plan)
}

/// A budget, as JSON.
#[pyfunction]
pub fn budget(python: Python<'_>, text: &str) -> PyResult<Vec<u8>> {
    let budget: Budget = text.parse().map_err(|e| errors::invalid(python, e))?;
    serde_json::to_vec(&budget).map_err(errors::of_json)
}

/// Checks a plan.
#[pyfunction]
pub fn plan_check(python: Python<'_>, plan: &[u8]) -> PyResult<()> {
    read(python, plan).map(drop)
}

fn device(python: Python<'_>, id: &str) -> PyResult<DeviceId> {
    id.parse().map_err(|e| errors::invalid(python, e))
}

/// The cohort of a device.
#[pyfunction]
pub fn cohort(python: Python<'_>, rollout: &str, device: &str) -> PyResult<u64> {
    Ok(cohort_of(rollout, &self::device(python, device)?))
}

/// The devices of each wave, if all of them are reached.
#[pyfunction]
pub fn plan_preview(
    python: Python<'_>,
    plan: &[u8],
    rollout: &str,
    devices: Vec<String>,
) -> PyResult<Vec<Vec<String>>> {
    let plan = read(python, plan)?;
    let devices: Vec<DeviceId> =
        devices.iter().map(|id| device(python, id)).collect::<PyResult<_>>()?;
    let waves = python.detach(|| {
        let total = devices.len();
        let (mut listed, mut rest): (Vec<_>, Vec<_>) =
            devices.into_iter().partition(|device| plan.wave_of(device).is_some());
        rest.sort_by_key(|device| cohort_of(rollout, device));
        listed.sort();
        let mut rest = rest.into_iter();
        let mut begun = 0;
        let mut waves = Vec::new();
        for (number, wave) in (0..).zip(&plan.waves) {
            let mut of_wave: Vec<_> =
                listed.iter().filter(|d| plan.wave_of(d) == Some(number)).cloned().collect();
            // Which devices a filter matches is known to a server alone: none is shown there.
            let until = wave.size.until(total).unwrap_or(0);
            of_wave.extend(rest.by_ref().take(until.saturating_sub(begun)));
            begun += of_wave.len();
            waves.push(of_wave.iter().map(ToString::to_string).collect());
        }
        waves
    });
    Ok(waves)
}
