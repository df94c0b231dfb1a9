//! Builds, releases and rollouts of a world.

use super::{FLEET, World};
use anyhow::{Context, Result, bail};
use fleeti_core::profile::Profile;
use fleeti_core::wire::api::{BuildPhase, CreateBuild, Event};
use std::path::{Path, PathBuf};

/// The folders of a build and of the release that was made of it.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Of the build.
    pub build: PathBuf,
    /// Of the release.
    pub release: PathBuf,
}

impl World {
    /// Builds a profile on the server or its worker, and returns the build's folder on the server.
    ///
    /// # Errors
    /// Why the build failed.
    pub fn build(&self, profile: Profile, version: &str) -> Result<PathBuf> {
        self.ensure_worker()?;
        let client = self.client()?;
        let (version, refresh_packages) = (version.parse()?, Vec::new());
        let request = CreateBuild { profile, version, refresh_lock: false, refresh_packages };
        self.runtime.block_on(async {
            let mut events = client.events().await?;
            let mut build = client.create_build(&request).await?;
            loop {
                match build.phase {
                    BuildPhase::Succeeded => {
                        return Ok(PathBuf::from(
                            build.directory.context("the build has no folder")?,
                        ));
                    }
                    BuildPhase::Failed => bail!("the build failed: {}", build.detail),
                    BuildPhase::Queued | BuildPhase::Running => {}
                }
                events.wait_for(|e| matches!(e, Event::Build { id } if *id == build.id)).await?;
                build = client.build(&build.id).await?;
            }
        })
    }

    /// Builds a profile on this machine with another agent, an executable beside this one. Returns
    /// the build's folder.
    ///
    /// # Errors
    /// The error of `fleeti build run`.
    pub fn build_here(&self, profile: &Path, version: &str, agent: &str) -> Result<PathBuf> {
        let out = self.path("builds").join(version);
        let agent = self.programs.join(agent).display().to_string();
        let (profile, trust, text) =
            (profile.display().to_string(), self.text("public"), out.display().to_string());
        self.fleeti(&[
            "build",
            "run",
            &profile,
            "--version",
            version,
            "--trust",
            &trust,
            "--out",
            &text,
            "--agent",
            &agent,
        ])?;
        Ok(out)
    }

    /// Signs and publishes a build, and returns the release's folder.
    ///
    /// # Errors
    /// The error of `fleeti release`.
    pub fn release(&self, build: &Path, version: &str) -> Result<PathBuf> {
        let out = self.path("releases").join(version);
        let text = out.display().to_string();
        let build = build.display().to_string();
        // Each device boots it with a signature by its own key.
        self.fleeti(&[
            "release",
            "create",
            &build,
            "--pki",
            &self.text("pki"),
            "--out",
            &text,
            "--device-keys-only",
        ])?;
        self.fleeti(&["release", "publish", &text])?;
        Ok(out)
    }

    /// Rolls a release out to the fleet of the demo, and waits for its end.
    ///
    /// # Errors
    /// The output of the command, if the rollout fails.
    pub fn roll_out(&self, release: &str) -> Result<String> {
        self.fleeti(&["rollout", "start", "--release", release, "--fleet", FLEET, "--wait"])
    }
}
