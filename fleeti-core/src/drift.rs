//! Drift: how a device differs from what is desired of it. Each difference names what was expected,
//! what was found, and how severe it is.

use crate::alert::Severity;
use crate::attestation::Level;
use crate::attestation::policy::Policy;
use crate::id::ReleaseName;
use serde::{Deserialize, Serialize};

/// A certificate drifts when less than this is left of it, seconds: the device should have renewed it.
pub const CERTIFICATE_S_MIN: u64 = 5 * 86_400;

/// What a difference is about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// The release that the device reports that it runs.
    Release,
    /// The release that the device proved that it runs.
    Proof,
    /// The revision of the profile from which that release was built.
    Profile,
    /// The attestation level.
    Policy,
    /// The device certificate.
    Certificate,
}

impl Aspect {
    /// In words.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Release => "reported release",
            Self::Proof => "proved release",
            Self::Profile => "profile revision",
            Self::Policy => "attestation level",
            Self::Certificate => "certificate",
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// What it is about.
    pub aspect: Aspect,
    /// How severe it is.
    pub severity: Severity,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// What is known of a device. Times are Unix seconds.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The release that it should run.
    pub desired: Option<&'a ReleaseName>,
    /// The release that it reports that it runs.
    pub reported: Option<&'a ReleaseName>,
    /// The release that it proved that it runs, if its last result still counts.
    pub proved: Option<&'a ReleaseName>,
    /// Whether it ever sent evidence that counts now.
    pub has_evidence: bool,
    /// The revision of the profile from which what it runs was built, if that is known.
    pub revision: Option<u32>,
    /// The newest revision of that profile.
    pub newest_revision: Option<u32>,
    /// Its attestation level now.
    pub level: Level,
    /// The appraisal policy of its fleet.
    pub policy: &'a Policy,
    /// When its certificate ends.
    pub certificate_ends_s: u64,
    /// Now.
    pub now_s: u64,
}

/// Compares a device with what is desired of it. The most severe difference comes first.
///
/// ```
/// use fleeti_core::attestation::{Level, policy::Policy};
/// use fleeti_core::drift::{Facts, differences};
/// let (desired, reported) = ("kiosk@2".parse().unwrap(), "kiosk@1".parse().unwrap());
/// let found = differences(&Facts {
///     desired: Some(&desired),
///     reported: Some(&reported),
///     proved: None,
///     has_evidence: false,
///     revision: None,
///     newest_revision: None,
///     level: Level::Token,
///     policy: &Policy::default(),
///     certificate_ends_s: 9_000_000,
///     now_s: 0,
/// });
/// assert_eq!(found[0].found, "kiosk@1");
/// ```
#[must_use]
pub fn differences(facts: &Facts<'_>) -> Vec<Difference> {
    let mut all: Vec<_> =
        [release(facts), proof(facts), profile(facts), policy(facts), certificate(facts)]
            .into_iter()
            .flatten()
            .collect();
    all.sort_by(|a, b| (b.severity, a.aspect).cmp(&(a.severity, b.aspect)));
    all
}

fn difference(
    aspect: Aspect,
    severity: Severity,
    expected: impl ToString,
    found: impl ToString,
) -> Option<Difference> {
    Some(Difference { aspect, severity, expected: expected.to_string(), found: found.to_string() })
}

fn release(facts: &Facts<'_>) -> Option<Difference> {
    let desired = facts.desired.filter(|desired| Some(*desired) != facts.reported)?;
    let found = facts.reported.map_or_else(|| "no report".to_owned(), ToString::to_string);
    difference(Aspect::Release, Severity::Warning, desired, found)
}

/// A device that proves another release than it reports lies about one of them.
fn proof(facts: &Facts<'_>) -> Option<Difference> {
    if !facts.has_evidence {
        return None;
    }
    let reported = facts.reported?;
    match facts.proved {
        Some(proved) if proved == reported => None,
        Some(proved) => difference(Aspect::Proof, Severity::Critical, reported, proved),
        None => difference(Aspect::Proof, Severity::Critical, reported, "no known release"),
    }
}

fn profile(facts: &Facts<'_>) -> Option<Difference> {
    let (revision, newest) = (facts.revision?, facts.newest_revision?);
    let is_older = revision < newest;
    is_older.then(|| difference(Aspect::Profile, Severity::Info, newest, revision)).flatten()
}

fn policy(facts: &Facts<'_>) -> Option<Difference> {
    let minimum = facts.policy.update.filter(|minimum| facts.level < *minimum)?;
    difference(Aspect::Policy, Severity::Critical, minimum.code(), facts.level.code())
}

fn certificate(facts: &Facts<'_>) -> Option<Difference> {
    let left_s = facts.certificate_ends_s.saturating_sub(facts.now_s);
    if left_s >= CERTIFICATE_S_MIN {
        return None;
    }
    let expected = format!("at least {} days left", CERTIFICATE_S_MIN / 86_400);
    match left_s {
        0 => difference(Aspect::Certificate, Severity::Critical, expected, "ended"),
        _ => difference(
            Aspect::Certificate,
            Severity::Warning,
            expected,
            format!("{} hours left", left_s / 3600),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> &'static ReleaseName {
        Box::leak(Box::new(text.parse().unwrap()))
    }

    /// Compares a device that is as it should be, after a change.
    fn after(change: impl FnOnce(&mut Facts<'_>)) -> Vec<(Aspect, Severity, String, String)> {
        let (two, policy) = (release("kiosk@2"), Policy::default());
        let mut facts = Facts {
            desired: Some(two),
            reported: Some(two),
            proved: Some(two),
            has_evidence: true,
            revision: Some(3),
            newest_revision: Some(3),
            level: Level::VerifiedBoot,
            policy: &policy,
            certificate_ends_s: 30 * 86_400,
            now_s: 1000,
        };
        change(&mut facts);
        let found = differences(&facts);
        found.into_iter().map(|d| (d.aspect, d.severity, d.expected, d.found)).collect()
    }

    #[test]
    fn a_device_that_is_as_desired_does_not_drift() {
        assert_eq!(after(|_| {}), []);
        assert_eq!(after(|f| f.desired = None), [], "nothing was desired");
        assert_eq!(after(|f| (f.has_evidence, f.proved) = (false, None)), [], "no TPM");
        assert_eq!(after(|f| f.revision = None), [], "built elsewhere");
    }

    #[test]
    fn each_difference_says_what_was_expected_and_found() {
        let one = release("kiosk@1");
        let text = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let only = |found: Vec<(Aspect, Severity, String, String)>| {
            assert_eq!(found.len(), 1, "{found:?}");
            let (aspect, severity, expected, found) = found.into_iter().next().unwrap();
            (aspect, severity, (expected, found))
        };
        assert_eq!(
            only(after(|f| (f.reported, f.proved) = (Some(one), Some(one)))),
            (Aspect::Release, Severity::Warning, text("kiosk@2", "kiosk@1"))
        );
        assert_eq!(
            only(after(|f| (f.reported, f.has_evidence) = (None, false))),
            (Aspect::Release, Severity::Warning, text("kiosk@2", "no report"))
        );
        assert_eq!(
            only(after(|f| f.proved = Some(one))),
            (Aspect::Proof, Severity::Critical, text("kiosk@2", "kiosk@1"))
        );
        assert_eq!(
            only(after(|f| f.proved = None)),
            (Aspect::Proof, Severity::Critical, text("kiosk@2", "no known release"))
        );
        assert_eq!(
            only(after(|f| f.newest_revision = Some(4))),
            (Aspect::Profile, Severity::Info, text("4", "3"))
        );
        let strict = Policy { update: Some(Level::VerifiedFirmware), ..Policy::default() };
        let two = release("kiosk@2");
        let facts = Facts {
            desired: Some(two),
            reported: Some(two),
            proved: Some(two),
            has_evidence: true,
            revision: None,
            newest_revision: None,
            level: Level::VerifiedBoot,
            policy: &strict,
            certificate_ends_s: 30 * 86_400,
            now_s: 1000,
        };
        assert_eq!(differences(&facts)[0].expected, "L5");
    }

    #[test]
    fn a_certificate_drifts_before_it_ends_and_the_most_severe_comes_first() {
        let found = after(|f| f.certificate_ends_s = f.now_s + CERTIFICATE_S_MIN);
        assert_eq!(found, []);
        let found = after(|f| f.certificate_ends_s = f.now_s + 7200);
        assert_eq!((found[0].1, found[0].3.as_str()), (Severity::Warning, "2 hours left"));
        let one = release("kiosk@1");
        let found = after(|f| {
            (f.reported, f.proved, f.newest_revision) = (Some(one), Some(one), Some(9));
            f.certificate_ends_s = 1;
        });
        let order: Vec<_> = found.iter().map(|(aspect, ..)| *aspect).collect();
        assert_eq!(order, [Aspect::Certificate, Aspect::Release, Aspect::Profile]);
    }
}
