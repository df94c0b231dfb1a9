//! Reads the form of the policy: an empty field stands for a missing value.

use crate::error::AppError;
use fleeti_core::id::FleetId;
use fleeti_core::wire::approval::ApprovalPolicy;
use fleeti_core::wire::problem::Code;
use serde::Deserialize;
use std::fmt::Display;

/// Which acts need a second person.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyForm {
    #[serde(default)]
    revoked_max: String,
    /// Names of fleets, separated by blanks or commas.
    #[serde(default)]
    fleets: String,
    recovery_keys: Option<String>,
    urgent_rollouts: Option<String>,
    release_paths: Option<String>,
    /// Why, if this change needs a second person.
    #[serde(default)]
    pub ask: String,
    /// The tag of the policy that the page showed.
    #[serde(default)]
    pub etag: String,
}

fn wrong(field: &str, e: impl Display) -> AppError {
    AppError::new(Code::Invalid, format!("{field}: {e}"))
}

impl PolicyForm {
    /// The policy.
    ///
    /// # Errors
    /// A field in words.
    pub fn policy(&self) -> Result<ApprovalPolicy, AppError> {
        let revoked_max = match self.revoked_max.trim() {
            "" => None,
            number => Some(number.parse().map_err(|e| wrong("devices", e))?),
        };
        let names = self.fleets.split([' ', ',', '\n', '\r']).filter(|name| !name.is_empty());
        let fleet = |name: &str| name.parse::<FleetId>().map_err(|e| wrong("fleets", e));
        let rollout_fleets = names.map(fleet).collect::<Result<_, _>>()?;
        Ok(ApprovalPolicy {
            revoked_max,
            rollout_fleets,
            recovery_keys: self.recovery_keys.is_some(),
            urgent_rollouts: self.urgent_rollouts.is_some(),
            release_paths: self.release_paths.is_some(),
        })
    }
}
