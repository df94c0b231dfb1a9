//! Health checks: a boot that fails them while the boot loader counts attempts is not kept.

use crate::identity::Identity;
use crate::image::{self, running_release};
use crate::privileged::Helper;
use crate::{Paths, console, write_durably};
use anyhow::Result;
use fleeti_core::id::Version;
use fleeti_core::image::ImageFacts;
use fleeti_core::profile::HealthCheck;
use fleeti_core::strict;
use serde::{Deserialize, Serialize};
use std::fs;
use std::process::Stdio;
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
    /// The failed check and the end of its output.
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
    let mut failed = match tokio::time::timeout(ALL_CHECKS, run_checks(paths, &facts)).await {
        Ok(result) => result.err(),
        Err(_) => Some(format!("the health checks took more than {} s", ALL_CHECKS.as_secs())),
    };
    // A device that is not enrolled waits for an operator, and no previous image of it reached the
    // server.
    let must_reach = is_on_trial && !facts.server_contact.optional && Identity::is_there(paths);
    let is_unreachable = failed.is_none() && must_reach && {
        let deadline_s = facts.server_contact.deadline_s;
        console::say(&format!("fleeti: health waits for the server, at most {deadline_s} s"));
        // Slow checks leave some time to ask.
        let deadline =
            (begun + Duration::from_secs(deadline_s.into())).max(Instant::now() + ASKING);
        !is_reached(paths, deadline).await
    };
    if is_unreachable {
        failed =
            Some(format!("the server was not reached in {} s", facts.server_contact.deadline_s));
    }
    let record = HealthRecord {
        version: running_release(paths)?.version,
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
        healthy: failed.is_none(),
        detail: failed.unwrap_or_else(|| format!("{} checks passed", facts.health_checks.len())),
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

async fn run_checks(paths: &Paths, facts: &ImageFacts) -> Result<(), String> {
    // Without its helper, a device can never be updated again.
    Helper::at(paths.socket())
        .boot_summary()
        .await
        .map_err(|e| format!("the agent's helper: {e:#}"))?;
    for check in &facts.health_checks {
        run_check(check).await.map_err(|why| format!("health check {:?}: {why}", check.name))?;
    }
    Ok(())
}

async fn run_check(check: &HealthCheck) -> Result<(), String> {
    let (program, arguments) = check.command.split_first().ok_or("has no command")?;
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = command.spawn().map_err(|e| format!("{program}: {e}"))?;
    let limit = Duration::from_secs(u64::from(check.timeout_s));
    let output = tokio::time::timeout(limit, child.wait_with_output()).await;
    let output = output
        .map_err(|_| format!("no answer after {} s", check.timeout_s))?
        .map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} {}", output.status, text.trim().chars().take(500).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &[&str], timeout_s: u32) -> HealthCheck {
        HealthCheck::of_command("x", command, timeout_s)
    }

    #[tokio::test]
    async fn a_check_passes_fails_with_its_words_or_runs_out_of_time() {
        assert!(run_check(&check(&["/bin/true"], 5)).await.is_ok());
        let why = run_check(&check(&["/bin/sh", "-c", "echo no screen >&2; exit 3"], 5))
            .await
            .unwrap_err();
        assert!(why.contains("no screen") && why.contains('3'), "{why}");
        assert!(
            run_check(&check(&["/bin/sleep", "60"], 0)).await.unwrap_err().contains("no answer")
        );
        assert!(run_check(&check(&["/does/not/exist"], 5)).await.is_err());
    }
}
