//! What an appraisal of evidence says of a device (RFC 9334: Attestation Results): a level, and the
//! claims that it stands on (draft-ietf-rats-ar4si). A level is never what a device says of itself.

pub mod ear;
pub mod policy;

use serde::{Deserialize, Serialize};

/// How far what is known of a device can be trusted. Each needs all that the ones before it need.
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
    /// L0: something contradicts what was promised, or nothing is known but what the device says.
    SelfReported,
    /// L1: a key in a file, enrolled with a one-time token.
    Token,
    /// L2: a key in a TPM whose maker is not known, or which is software.
    UnverifiedTpm,
    /// L3: a TPM of a maker that is believed says what was measured; it is not that of a release
    /// that is known.
    ObservedBoot,
    /// L4: what was measured is a release that is allowed, under the Secure Boot keys that were
    /// made for this device.
    VerifiedBoot,
    /// L5: and the firmware is one that an operator has accepted.
    VerifiedFirmware,
}

impl Level {
    /// Every level, lowest first.
    pub const ALL: [Self; 6] = [
        Self::SelfReported,
        Self::Token,
        Self::UnverifiedTpm,
        Self::ObservedBoot,
        Self::VerifiedBoot,
        Self::VerifiedFirmware,
    ];

    /// As in `L4`.
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

    /// For people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::SelfReported => "says so itself",
            Self::Token => "enrolled with a token, key in a file",
            Self::UnverifiedTpm => "key in a TPM that nobody vouches for",
            Self::ObservedBoot => "genuine TPM, boot observed",
            Self::VerifiedBoot => "boot verified",
            Self::VerifiedFirmware => "boot and firmware verified",
        }
    }
}

/// A text that is no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no level: L0, L1, L2, L3, L4 or L5")]
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
    /// That it is this device.
    InstanceIdentity,
    /// The Secure Boot policy.
    Configuration,
    /// What was started.
    Executables,
    /// The root file system.
    FileSystem,
    /// The TPM.
    Hardware,
    /// The firmware's own code.
    Firmware,
}

/// What is to be thought of it (AR4SI, 2.3.2: trustworthiness tiers).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Nothing is known.
    None,
    /// As it should be.
    Affirming,
    /// Not wrong, and not what was expected.
    Warning,
    /// Wrong.
    Contraindicated,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Claim {
    /// About what.
    pub aspect: Aspect,
    /// How it stands.
    pub tier: Tier,
    /// A stable name of what was found, as in `registers-digest`.
    pub code: String,
    /// For people.
    pub finding: String,
    /// Whose word it is, as in `TPM quote, registers 4 and 11`.
    pub source: String,
    /// What would raise it; `None` where nothing higher is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raise: Option<String>,
}

/// The level that claims allow. Whatever contradicts what was promised is [`Level::SelfReported`]:
/// then a device counts for nothing more than its word.
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
    // What stops at a step has the level before it.
    steps.iter().find(|(holds, _)| !holds).map_or(Level::VerifiedFirmware, |(_, stops)| *stops)
}

/// The code of the claim that what was started is a release that is revoked.
pub const RELEASE_REVOKED: &str = "release-revoked";

/// The code of the claim that what was started is a release that the device did not come with and
/// nobody rolled out to it.
pub const RELEASE_NOT_GIVEN: &str = "release-not-given";

/// The level that claims allow as far as an update is concerned: that the release which was
/// verified is revoked, or was never meant for the device, is why it is to go, and no reason to
/// keep it.
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
    fn whatever_contradicts_takes_every_level_away() {
        for at in 0..6 {
            let mut tiers = [Tier::Affirming; 6];
            tiers[at] = Tier::Contraindicated;
            assert_eq!(level(&claims(tiers)), Level::SelfReported, "{at}");
        }
    }
}
