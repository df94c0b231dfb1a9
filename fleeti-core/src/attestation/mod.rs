//! Attestation results (RFC 9334): a level, and the claims that it is based on
//! (draft-ietf-rats-ar4si). A device's own report never raises its level.

pub mod ear;
pub mod policy;

use serde::{Deserialize, Serialize};

/// Attestation level: how much is proved about a device. Each level requires everything that the
/// levels below it require.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// L0: attestation failed, or nothing is known except what the device reports.
    SelfReported,
    /// L1: a key in a file, enrolled with a one-time token.
    Token,
    /// L2: a key in a TPM that is software or whose manufacturer is not known.
    UnverifiedTpm,
    /// L3: a TPM of a trusted manufacturer reports what was measured, but the measurements do not
    /// match a known release.
    ObservedBoot,
    /// L4: the measurements match a permitted release, booted under the Secure Boot keys that were
    /// made for this device.
    VerifiedBoot,
    /// L5: as L4, and an operator has accepted the firmware.
    VerifiedFirmware,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Self; 6] = [
        Self::SelfReported,
        Self::Token,
        Self::UnverifiedTpm,
        Self::ObservedBoot,
        Self::VerifiedBoot,
        Self::VerifiedFirmware,
    ];

    /// Short code, for example `L4`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::SelfReported => "L0",
            Self::Token => "L1",
            Self::UnverifiedTpm => "L2",
            Self::ObservedBoot => "L3",
            Self::VerifiedBoot => "L4",
            Self::VerifiedFirmware => "L5",
        }
    }

    /// Title for operators.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::SelfReported => "self-reported",
            Self::Token => "enrolled with a token",
            Self::UnverifiedTpm => "TPM without a known manufacturer",
            Self::ObservedBoot => "genuine TPM, boot observed",
            Self::VerifiedBoot => "boot verified",
            Self::VerifiedFirmware => "boot and firmware verified",
        }
    }
}

/// A text that is not a level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a level: expected L0, L1, L2, L3, L4 or L5")]
pub struct NoLevel(String);

impl std::str::FromStr for Level {
    type Err = NoLevel;
    fn from_str(text: &str) -> Result<Self, NoLevel> {
        Self::ALL
            .into_iter()
            .find(|l| l.code().eq_ignore_ascii_case(text))
            .ok_or_else(|| NoLevel(text.to_owned()))
    }
}

/// What a claim is about (AR4SI, 2.3: the trustworthiness vector).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// The identity of the device.
    InstanceIdentity,
    /// The Secure Boot policy.
    Configuration,
    /// The EFI binaries that were started.
    Executables,
    /// The root file system.
    FileSystem,
    /// The TPM.
    Hardware,
    /// The firmware's own code.
    Firmware,
}

/// The tier of a claim (AR4SI, 2.3.2: trustworthiness tiers).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Nothing is known.
    None,
    /// As expected.
    Affirming,
    /// Not as expected, but not wrong.
    Warning,
    /// Contradicts what is expected.
    Contraindicated,
}

/// A claim: one conclusion of the verifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Claim {
    /// The aspect that the claim is about.
    pub aspect: Aspect,
    /// The tier of the claim.
    pub tier: Tier,
    /// A stable code of the conclusion, for example `pcr-digest`.
    pub code: String,
    /// The conclusion in words.
    pub finding: String,
    /// The evidence that the claim is based on, for example `TPM quote, PCR 11`.
    pub source: String,
    /// What would raise the tier; absent if nothing can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raise: Option<String>,
}

/// The level that claims permit. One contraindicated claim lowers it to [`Level::SelfReported`]:
/// then only the device's own report remains.
#[must_use]
pub fn level(claims: &[Claim]) -> Level {
    let tier = |aspect| {
        claims.iter().filter(|c| c.aspect == aspect).map(|c| c.tier).max().unwrap_or(Tier::None)
    };
    let good = |aspect| tier(aspect) == Tier::Affirming;
    if claims.iter().any(|c| c.tier == Tier::Contraindicated) || !good(Aspect::InstanceIdentity) {
        return Level::SelfReported;
    }
    let steps = [
        (good(Aspect::Hardware), Level::UnverifiedTpm),
        (
            good(Aspect::Executables) && good(Aspect::FileSystem) && good(Aspect::Configuration),
            Level::ObservedBoot,
        ),
        (good(Aspect::Firmware), Level::VerifiedBoot),
    ];
    // The first requirement that is not met determines the level.
    steps.iter().find(|(holds, _)| !holds).map_or(Level::VerifiedFirmware, |(_, stops)| *stops)
}

/// Code of the claim that the device booted a revoked release.
pub const RELEASE_REVOKED: &str = "release-revoked";

/// Code of the claim that the device booted a release that was neither on it at provisioning nor
/// rolled out to it.
pub const RELEASE_NOT_GIVEN: &str = "release-not-given";

/// The level that claims permit for an update. A device that booted a revoked release, or one that
/// was never meant for it, must be able to leave that release: those two claims do not block the
/// update.
#[must_use]
pub fn level_for_update(claims: &[Claim]) -> Level {
    let forgiven = |claim: &Claim| match claim.code.as_str() {
        RELEASE_REVOKED | RELEASE_NOT_GIVEN => Claim { tier: Tier::Affirming, ..claim.clone() },
        _ => claim.clone(),
    };
    level(&claims.iter().map(forgiven).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASPECTS: [Aspect; 6] = [
        Aspect::InstanceIdentity,
        Aspect::Hardware,
        Aspect::Configuration,
        Aspect::Executables,
        Aspect::FileSystem,
        Aspect::Firmware,
    ];

    fn claims(tiers: [Tier; 6]) -> Vec<Claim> {
        let claim = |(aspect, tier)| Claim {
            aspect,
            tier,
            code: String::new(),
            finding: String::new(),
            source: String::new(),
            raise: None,
        };
        ASPECTS.into_iter().zip(tiers).map(claim).collect()
    }

    #[test]
    fn nothing_known_is_the_lowest_level() {
        assert_eq!(level(&[]), Level::SelfReported);
    }

    #[test]
    fn each_level_needs_all_that_the_ones_before_it_need() {
        use Tier::{Affirming as A, None as N, Warning as W};
        let table = [
            ([N, A, A, A, A, A], Level::SelfReported),
            ([A, N, A, A, A, A], Level::UnverifiedTpm),
            ([A, W, A, A, A, A], Level::UnverifiedTpm),
            ([A, A, W, A, A, A], Level::ObservedBoot),
            ([A, A, A, N, A, A], Level::ObservedBoot),
            ([A, A, A, A, W, A], Level::ObservedBoot),
            ([A, A, A, A, A, W], Level::VerifiedBoot),
            ([A, A, A, A, A, A], Level::VerifiedFirmware),
        ];
        for (tiers, expected) in table {
            assert_eq!(level(&claims(tiers)), expected, "{tiers:?}");
        }
    }

    #[test]
    fn a_release_that_is_revoked_or_was_not_meant_for_the_device_may_be_left() {
        for code in [RELEASE_REVOKED, RELEASE_NOT_GIVEN] {
            leaves(code);
        }
    }

    fn leaves(code: &str) {
        let revoked = |tiers: [Tier; 6]| {
            let mut claims = claims(tiers);
            claims[3].code = code.into();
            (level(&claims), level_for_update(&claims))
        };
        use Tier::{Affirming as A, None as N, Warning as W};
        assert_eq!(revoked([A, A, A, W, A, A]), (Level::ObservedBoot, Level::VerifiedFirmware));
        assert_eq!(revoked([A, A, A, W, A, N]), (Level::ObservedBoot, Level::VerifiedBoot));
        assert_eq!(
            revoked([A, A, W, W, A, A]),
            (Level::ObservedBoot, Level::ObservedBoot),
            "nothing else is forgiven"
        );
        assert_eq!(revoked([A, A, Tier::Contraindicated, W, A, A]).1, Level::SelfReported);
    }

    #[test]
    fn a_contraindicated_claim_takes_every_level_away() {
        for at in 0..6 {
            let mut tiers = [Tier::Affirming; 6];
            tiers[at] = Tier::Contraindicated;
            assert_eq!(level(&claims(tiers)), Level::SelfReported, "{at}");
        }
    }
}
