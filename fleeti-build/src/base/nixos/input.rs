//! What the Nix files of this base read about an image.

use crate::base::debian::kernel_command_line;
use fleeti_core::id::{ReleaseName, Version};
use fleeti_core::profile::Profile;
use serde::Serialize;

/// The path of the agent in an image, which an evaluation takes for its executable.
const AGENT: &str = "/usr/lib/fleeti/fleeti-agent";

/// A document that `nix/nixos/system.nix` reads with `builtins.fromJSON`.
#[derive(Debug, Clone, Serialize)]
pub struct Input<'a> {
    profile: &'a Profile,
    release: Release<'a>,
    /// With `@ROOT_HASH@` where the root hash goes.
    command_line: String,
    agent: &'static str,
}

#[derive(Debug, Clone, Serialize)]
struct Release<'a> {
    version: &'a Version,
    minimum: &'a Version,
}

impl<'a> Input<'a> {
    /// The input for a resolved profile and a release of its line.
    #[must_use]
    pub fn new(profile: &'a Profile, release: &'a ReleaseName, minimum: &'a Version) -> Self {
        Self {
            profile,
            release: Release { version: &release.version, minimum },
            command_line: kernel_command_line(profile),
            agent: AGENT,
        }
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        self.profile
    }

    /// The document, JSON.
    ///
    /// # Errors
    /// [`serde_json::Error`] when the profile does not serialize.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}
