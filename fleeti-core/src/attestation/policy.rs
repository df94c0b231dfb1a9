//! The appraisal policy of a fleet.

use super::Level;
use crate::windows::{InvalidWindows, Windows};
use serde::{Deserialize, Serialize};

/// Largest number of firmware versions, and of their EFI binaries, in a policy.
pub const FIRMWARE_MAX: usize = 256;

/// The appraisal policy of a fleet: what the fleet requires of its devices. A setting that is
/// absent permits nothing, so an empty policy accepts no device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AttestationPolicy)]
pub struct Policy {
    /// Minimum level to receive updates. A device below it is blocked.
    #[serde(default)]
    pub update: Option<Level>,
    /// Minimum level to count as a success in a rollout. From L2 on, the device must prove that it
    /// runs the release.
    #[serde(default)]
    pub success: Option<Level>,
    /// Minimum level to receive secrets.
    #[serde(default)]
    pub secrets: Option<Level>,
    /// Accepted firmware.
    #[serde(default)]
    pub firmware: Firmware,
    /// Roll out only releases that have a boot proof.
    #[serde(default)]
    pub proved_releases: bool,
    /// When devices may download, install and reboot. What this leaves out, they may do at any
    /// time.
    #[serde(
        default,
        deserialize_with = "crate::strict::object",
        skip_serializing_if = "Windows::is_empty"
    )]
    pub windows: Windows,
}

/// Which firmware a fleet accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Firmware {
    /// For each device, the firmware that the server saw first, after an operator has accepted it.
    /// Other firmware later is a warning.
    Pinned,
    /// Only the listed firmware.
    Known {
        /// PCR 0 and PCR 2 of each accepted firmware, SHA-256, hexadecimal.
        pcrs: Vec<[String; 2]>,
        /// EFI binaries that the firmware may start before it boots: Authenticode SHA-256 of each,
        /// hexadecimal.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        binaries: Vec<String>,
    },
}

impl Default for Firmware {
    fn default() -> Self {
        Self::Known { pcrs: Vec::new(), binaries: Vec::new() }
    }
}

/// Why a policy is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// The policy lists too much firmware.
    #[error("firmware: {0} entries, expected at most {FIRMWARE_MAX}")]
    TooMany(usize),
    /// The digest of an EFI binary has a wrong form.
    #[error(
        "firmware: {0:?} is not the digest of an EFI binary: expected 64 lower-case hexadecimal digits"
    )]
    Binary(String),
    /// A PCR value has a wrong form.
    #[error("firmware: {0:?} is not a PCR value: expected 64 lower-case hexadecimal digits")]
    Pcr(String),
    /// The windows are wrong.
    #[error(transparent)]
    Windows(#[from] InvalidWindows),
}

impl Policy {
    /// The policy of a fleet that has none of its own: every connected device receives updates and
    /// counts as a success unless its attestation failed. Secrets require a verified boot.
    #[must_use]
    pub fn usual() -> Self {
        Self {
            update: Some(Level::Token),
            success: Some(Level::Token),
            secrets: Some(Level::VerifiedBoot),
            firmware: Firmware::Pinned,
            proved_releases: false,
            windows: Windows::default(),
        }
    }

    /// Whether a device at this level receives updates.
    #[must_use]
    pub fn may_update(&self, level: Level) -> bool {
        self.update.is_some_and(|lowest| level >= lowest)
    }

    /// Whether a device at this level counts as a success.
    #[must_use]
    pub fn may_succeed(&self, level: Level) -> bool {
        self.success.is_some_and(|lowest| level >= lowest)
    }

    /// Whether a device at this level receives secrets.
    #[must_use]
    pub fn may_have_secrets(&self, level: Level) -> bool {
        self.secrets.is_some_and(|lowest| level >= lowest)
    }

    /// Whether a device must prove which release it runs before it counts as a success.
    #[must_use]
    pub fn asks_for_proof(&self) -> bool {
        self.success.is_none_or(|lowest| lowest > Level::Token)
    }

    /// Checks the number and the form of the firmware digests, and the windows.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn check(&self) -> Result<(), Invalid> {
        self.windows.check()?;
        let Firmware::Known { pcrs, binaries } = &self.firmware else { return Ok(()) };
        let most = pcrs.len().max(binaries.len());
        if most > FIRMWARE_MAX {
            return Err(Invalid::TooMany(most));
        }
        if let Some(bad) = binaries.iter().find(|p| !crate::canonical::is_sha256_hex(p)) {
            return Err(Invalid::Binary(bad.clone()));
        }
        match pcrs.iter().flatten().find(|r| !crate::canonical::is_sha256_hex(r)) {
            Some(bad) => Err(Invalid::Pcr(bad.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_policy_accepts_nothing() {
        let empty: Policy = serde_json::from_str("{}").unwrap();
        assert_eq!(empty, Policy::default());
        for level in Level::ALL {
            assert!(
                !empty.may_update(level)
                    && !empty.may_succeed(level)
                    && !empty.may_have_secrets(level),
                "{level:?}"
            );
        }
        assert!(empty.asks_for_proof());
        assert_eq!(empty.firmware, Firmware::Known { pcrs: vec![], binaries: vec![] });
    }

    #[test]
    fn a_failed_attestation_is_below_the_default_policy() {
        let usual = Policy::usual();
        assert!(!usual.may_update(Level::SelfReported) && !usual.may_succeed(Level::SelfReported));
        assert!(
            usual.may_update(Level::Token)
                && usual.may_succeed(Level::Token)
                && !usual.asks_for_proof()
        );
        assert!(
            !usual.may_have_secrets(Level::ObservedBoot)
                && usual.may_have_secrets(Level::VerifiedBoot)
        );
    }

    #[test]
    fn a_policy_has_no_words_that_nobody_knows_and_pcrs_that_are_some() {
        assert!(serde_json::from_str::<Policy>(r#"{"updates":"token"}"#).is_err());
        assert!(serde_json::from_str::<Policy>(r#"{"firmware":{"mode":"any"}}"#).is_err());
        let of = |pcrs: Vec<[String; 2]>| Policy {
            firmware: Firmware::Known { pcrs, binaries: vec![] },
            ..Policy::usual()
        };
        let good = "ab".repeat(32);
        of(vec![[good.clone(), good.clone()]]).check().unwrap();
        assert_eq!(
            of(vec![[good.clone(), "AB".repeat(32)]]).check(),
            Err(Invalid::Pcr("AB".repeat(32)))
        );
        assert_eq!(
            of(vec![[good.clone(), good.clone()]; FIRMWARE_MAX + 1]).check(),
            Err(Invalid::TooMany(FIRMWARE_MAX + 1))
        );
        let with = |binaries: Vec<String>| Policy {
            firmware: Firmware::Known { pcrs: vec![], binaries },
            ..Policy::usual()
        };
        with(vec![good.clone()]).check().unwrap();
        assert_eq!(with(vec![good.clone(), "x".into()]).check(), Err(Invalid::Binary("x".into())));
        assert_eq!(
            with(vec![good; FIRMWARE_MAX + 1]).check(),
            Err(Invalid::TooMany(FIRMWARE_MAX + 1))
        );
    }
}
