//! Health checks: a boot that fails them while the boot loader counts attempts is not kept.

use crate::checks::{self, Failed};
use crate::identity::Identity;
use crate::image::{self, running_release};
use crate::privileged::Helper;
use crate::{Paths, console, write_durably};
use anyhow::Result;
use fleeti_core::id::Version;
use fleeti_core::image::ImageFacts;
use fleeti_core::strict;
use serde::{Deserialize, Serialize};
use std::fs;
use std::time::Duration;
use tokio::time::Instant;

/// The result of the last health checks of a version. Each version has a file of its own on the
/// data partition, so that the version that the device rolls back to can report it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRecord {
    /// The version that was checked.
    pub version: Version,
    /// The boot in which it was checked.
    pub boot_id: String,
    /// The result.
    pub healthy: bool,
    /// Every failed check with its weight, and what each of them found.
    pub detail: String,
    /// Every check passed, but the server was not reached in time.
    #[serde(default)]
    pub is_unreachable: bool,
}

impl HealthRecord {
    fn path(paths: &Paths, version: &Version) -> std::path::PathBuf {
        paths.helper_state.join(format!("health-{version}.json"))
    }
    /// The last record of a version, if there is one.
    #[must_use]
    pub fn read(paths: &Paths, version: &Version) -> Option<Self> {
        strict::from_slice(&fs::read(Self::path(paths, version)).ok()?).ok()
    }
    /// Stores the record.
    ///
    /// # Errors
    /// I/O.
    pub fn write(&self, paths: &Paths) -> Result<()> {
        Ok(write_durably(&Self::path(paths, &self.version), &serde_json::to_vec(self)?)?)
    }
}

/// Time limit of all checks together; less than the unit's own limit.
const ALL_CHECKS: Duration = Duration::from_secs(800);

/// Sum of the weights of failed checks that makes a boot unhealthy.
const WEIGHT_MAX: u32 = 100;

/// Minimum time to ask the helper whether the server was reached.
const ASKING: Duration = Duration::from_secs(2);

/// Runs every check and, for a boot on trial, waits until the server is reached. Stores the result
/// and prints it on the console.
///
/// # Errors
/// If the image cannot be read.
pub async fn run(paths: &Paths, is_on_trial: bool) -> Result<bool> {
    let facts = image::facts(paths)?;
    let begun = Instant::now();
    let mut verdict = run_checks(paths, &facts, begun).await;
    // A device that is not enrolled waits for an operator, and no previous image of it reached the
    // server.
    let must_reach = is_on_trial && !facts.server_contact.optional && Identity::is_there(paths);
    let is_unreachable = verdict.is_healthy && must_reach && {
        let deadline_s = facts.server_contact.deadline_s;
        console::say(&format!("fleeti: health waits for the server, at most {deadline_s} s"));
        // Slow checks leave some time to ask.
        let deadline =
            (begun + Duration::from_secs(deadline_s.into())).max(Instant::now() + ASKING);
        !is_reached(paths, deadline).await
    };
    if is_unreachable {
        let deadline_s = facts.server_contact.deadline_s;
        let detail = format!("the server was not reached in {deadline_s} s");
        verdict = Verdict { is_healthy: false, detail };
    }
    let record = HealthRecord {
        version: running_release(paths)?.version,
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
        healthy: verdict.is_healthy,
        detail: verdict.detail,
        is_unreachable,
    };
    // A full or damaged data partition must not change the result.
    if let Err(e) = record.write(paths) {
        tracing::error!("the health record was not kept: {e:#}");
    }
    let verdict = if record.healthy { "healthy" } else { "unhealthy" };
    console::say(&format!(
        "fleeti: health version={} {verdict}: {}",
        record.version, record.detail
    ));
    Ok(record.healthy)
}

/// Whether the daemon starts a session with the server before the deadline.
async fn is_reached(paths: &Paths, deadline: Instant) -> bool {
    let reached = async {
        while let Err(e) = Helper::at(paths.socket()).wait_reached().await {
            tracing::warn!("{e:#}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout_at(deadline, reached).await.is_ok()
}

/// Whether the boot is healthy, and why.
struct Verdict {
    is_healthy: bool,
    detail: String,
}

async fn run_checks(paths: &Paths, facts: &ImageFacts, begun: Instant) -> Verdict {
    let deadline = begun + ALL_CHECKS;
    // Without its helper, a device can never be updated again.
    let helper = Helper::at(paths.socket());
    let why = match tokio::time::timeout_at(deadline, helper.boot_summary()).await {
        Ok(Ok(_)) => None,
        Ok(Err(e)) => Some(format!("the agent's helper: {e:#}")),
        Err(_) => Some("the agent's helper: no answer".to_owned()),
    };
    if let Some(detail) = why {
        return Verdict { is_healthy: false, detail };
    }
    let failed = checks::run(&facts.health_checks, deadline).await;
    let mut verdict = judge(facts.health_checks.len(), &failed);
    if Instant::now() >= deadline {
        verdict.is_healthy = false;
        let limit_s = ALL_CHECKS.as_secs();
        verdict.detail =
            format!("the health checks took more than {limit_s} s; {}", verdict.detail);
    }
    verdict
}

/// Adds the weights of the failed checks, and names each of them.
fn judge(checks: usize, failed: &[Failed]) -> Verdict {
    let weight = failed.iter().fold(0u32, |sum, check| sum.saturating_add(check.weight));
    let is_healthy = weight < WEIGHT_MAX;
    if failed.is_empty() {
        return Verdict { is_healthy, detail: format!("{checks} checks passed") };
    }
    // All names first: a report shortens the detail at its end.
    let names: Vec<_> =
        failed.iter().map(|f| format!("{:?} (weight {})", f.name, f.weight)).collect();
    let reasons: Vec<_> = failed.iter().map(|f| format!("{:?}: {}", f.name, f.why)).collect();
    let degraded =
        if is_healthy { format!("degraded by {weight} of {WEIGHT_MAX}; ") } else { String::new() };
    let detail = format!(
        "{degraded}{} of {checks} checks failed: {}; {}",
        failed.len(),
        names.join(", "),
        reasons.join("; ")
    );
    Verdict { is_healthy, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(name: &str, weight: u32) -> Failed {
        Failed { name: name.to_owned(), weight, why: format!("{name} is wrong") }
    }

    #[test]
    fn failures_below_100_are_reported_and_the_image_is_kept() {
        let all = judge(3, &[]);
        assert!(all.is_healthy);
        assert_eq!(all.detail, "3 checks passed");
        let some = judge(3, &[failed("a", 30), failed("b", 69)]);
        assert!(some.is_healthy);
        assert_eq!(
            some.detail,
            "degraded by 99 of 100; 2 of 3 checks failed: \"a\" (weight 30), \"b\" (weight 69); \
             \"a\": a is wrong; \"b\": b is wrong"
        );
    }

    #[test]
    fn failures_that_reach_100_make_the_image_unhealthy_and_each_is_named() {
        for failures in [
            vec![failed("a", 100)],
            vec![failed("a", 50), failed("b", 50)],
            vec![failed("a", u32::MAX), failed("b", u32::MAX)],
        ] {
            let verdict = judge(4, &failures);
            assert!(!verdict.is_healthy, "{failures:?}");
            for f in failures {
                let name = format!("{:?} (weight {})", f.name, f.weight);
                assert!(verdict.detail.contains(&name), "{}", verdict.detail);
                assert!(verdict.detail.contains(&f.why), "{}", verdict.detail);
            }
            assert!(!verdict.detail.contains("degraded"));
        }
    }
}
