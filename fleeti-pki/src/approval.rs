//! Approvals that are required before a server's own keys sign a release. An approval is a
//! signature by the approver's own key over the digest of the request. An attacker who controls the
//! server, its database and its socket has no such key.

use crate::manifest::PublicKey;
use crate::signer::{Signer, verify};
use crate::{Error, OrMalformed, base64_text};
use base64::Engine;
use fleeti_core::canonical::{self, sha256_hex};
use fleeti_core::id::ReleaseName;
use fleeti_core::strict;
use fleeti_core::wire::api::SignedBy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Maximum number of approvers of a policy, and of signatures that are checked.
pub const APPROVERS_MAX: usize = 64;
/// Maximum time between a request and the signature, seconds.
pub const INTENT_S_MAX: u64 = 7 * 86_400;
/// How far the clock of the requester may be ahead, seconds.
const SKEW_S: u64 = 300;

/// The `type` of an [`Intent`].
pub const KIND: &str = "fleeti.release-intent.v1";

/// A request to sign a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// [`KIND`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The release to make.
    pub release: ReleaseName,
    /// SHA-256 of `build.json`, hexadecimal; it contains the digest of every file.
    pub build_sha256: String,
    /// Id of the release key that is to sign: an approval for a test key is not valid for another
    /// key.
    pub release_key: String,
    /// Key id of the requester; empty if no approval is required.
    pub requester: String,
    /// When it was made, Unix seconds.
    pub created_s: u64,
    /// When it expires, Unix seconds.
    pub expires_s: u64,
}

impl Intent {
    /// The bytes that [`Self::digest`] covers.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn to_text(&self) -> Result<String, Error> {
        canonical::to_vec(self)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .or_malformed("intent")
    }

    /// Parses canonical JSON.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything else, including another `type`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let intent: Self = strict::from_slice(text.as_bytes()).or_malformed("intent")?;
        if intent.kind != KIND || intent.to_text()? != text {
            return Err(Error::Malformed {
                what: "intent",
                detail: format!("it is not canonical JSON of type {KIND}"),
            });
        }
        let is_hex = |t: &str, len: usize| {
            t.len() == len && t.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let has_requester = intent.requester.is_empty() || is_hex(&intent.requester, 16);
        if !is_hex(&intent.build_sha256, 64) || !is_hex(&intent.release_key, 16) || !has_requester {
            return Err(Error::Malformed {
                what: "intent",
                detail: "a digest or a key id is invalid".into(),
            });
        }
        Ok(intent)
    }

    /// SHA-256 of its text, hexadecimal.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn digest(&self) -> Result<String, Error> {
        Ok(sha256_hex(self.to_text()?.as_bytes()))
    }
}

/// What a signature over a request means. The signed bytes contain it, so a request cannot be used
/// as an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The requester asks for the release.
    Request,
    /// The approver approves it.
    Approve,
}

impl Word {
    fn message(self, intent: &Intent) -> Result<Vec<u8>, Error> {
        let kind = match self {
            Self::Request => "fleeti.release-request.v1",
            Self::Approve => "fleeti.release-approval.v1",
        };
        canonical::to_vec(&serde_json::json!({"type": kind, "intent_sha256": intent.digest()?}))
            .or_malformed("intent")
    }

    /// Signs it with the person's own key (P-384).
    ///
    /// # Errors
    /// [`Error::Refused`] for another kind of key.
    pub fn sign(self, intent: &Intent, key: &dyn Signer) -> Result<SignedBy, Error> {
        let key_id = PublicKey::of(key)?.id();
        Ok(SignedBy { key_id, signature: base64_text(&key.sign(&self.message(intent)?)?) })
    }
}

/// An approver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approver {
    /// As in `alice`.
    pub name: String,
    /// Their key.
    pub key: PublicKey,
}

/// The policy for approvals. The text is TOML:
///
/// ```toml
/// approvals = 2               # 0: this server signs alone
/// requester_counts = false    # whether who asks may be one of them
/// [[approver]]
/// name = "alice"
/// key = """-----BEGIN PUBLIC KEY-----..."""
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    approvals: usize,
    requester_counts: bool,
    approvers: Vec<Approver>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    approvals: usize,
    #[serde(default)]
    requester_counts: bool,
    #[serde(default)]
    approver: Vec<ApproverFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApproverFile {
    name: String,
    key: String,
}

/// Why a request is not approved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotApproved {
    /// It has expired, or is from the future.
    #[error(
        "the request is valid from {created_s} to {expires_s}, for at most {INTENT_S_MAX} seconds; it is {now_s} now"
    )]
    Time {
        /// When it was made.
        created_s: u64,
        /// When it ends.
        expires_s: u64,
        /// When it was checked.
        now_s: u64,
    },
    /// The requester is not an approver of the policy.
    #[error("the request is not signed by an approver of the policy")]
    Requester,
    /// Too few approvals.
    #[error("{given} of {needed} approvals were given")]
    TooFew {
        /// The number of valid ones.
        given: usize,
        /// The number required.
        needed: usize,
    },
    /// The request is malformed.
    #[error(transparent)]
    Pki(#[from] Error),
}

/// A request with enough approvals. Only [`Policy::check`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    intent: Intent,
    by: Vec<String>,
}

impl Approved {
    /// The request.
    #[must_use]
    pub fn intent(&self) -> &Intent {
        &self.intent
    }
    /// The names of the approvers.
    #[must_use]
    pub fn by(&self) -> &[String] {
        &self.by
    }
}

impl Policy {
    /// A policy with these approvers, of whom so many must approve.
    ///
    /// # Errors
    /// [`Error::Refused`] for more approvals than possible, for two approvers of one name or key,
    /// or for an invalid name.
    pub fn new(
        approvals: usize,
        requester_counts: bool,
        approvers: Vec<Approver>,
    ) -> Result<Self, Error> {
        let names: BTreeSet<_> = approvers.iter().map(|a| a.name.as_str()).collect();
        let keys: BTreeSet<_> = approvers.iter().map(|a| a.key.id()).collect();
        if approvers.len() > APPROVERS_MAX
            || names.len() != approvers.len()
            || keys.len() != approvers.len()
        {
            return Err(Error::Refused(
                "two approvers have the same name or key, or there are more than 64",
            ));
        }
        let is_name = |n: &str| !n.is_empty() && n.len() <= 64 && !n.chars().any(char::is_control);
        if !names.iter().all(|n| is_name(n)) {
            return Err(Error::Refused(
                "an approver's name must have 1 to 64 printable characters",
            ));
        }
        let can_agree = if requester_counts { keys.len() } else { keys.len().saturating_sub(1) };
        if approvals > 0 && approvals > can_agree {
            return Err(Error::Refused(
                "more approvals are required than there are approvers other than the requester",
            ));
        }
        Ok(Self { approvals, requester_counts, approvers })
    }

    /// Parses TOML.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Refused`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let file: PolicyFile = strict::from_toml(text).or_malformed("approval policy")?;
        let key = |pem: &str| match crate::manifest::ReleaseKeys::from_pem(pem)?.keys() {
            [key] => Ok(key.clone()),
            _ => Err(Error::Refused("an approver must have one public key")),
        };
        let approvers = file
            .approver
            .into_iter()
            .map(|a| Ok(Approver { key: key(&a.key)?, name: a.name }))
            .collect::<Result<_, Error>>()?;
        Self::new(file.approvals, file.requester_counts, approvers)
    }

    /// The text that [`Self::parse`] parses.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn to_text(&self) -> Result<String, Error> {
        let approver = self
            .approvers
            .iter()
            .map(|a| Ok(ApproverFile { name: a.name.clone(), key: a.key.to_pem()? }));
        let approver = approver.collect::<Result<_, Error>>()?;
        let file = PolicyFile {
            approvals: self.approvals,
            requester_counts: self.requester_counts,
            approver,
        };
        toml::to_string(&file).or_malformed("approval policy")
    }

    /// The number of required approvals.
    #[must_use]
    pub fn approvals(&self) -> usize {
        self.approvals
    }
    /// Whether the requester may be one of the approvers.
    #[must_use]
    pub fn requester_counts(&self) -> bool {
        self.requester_counts
    }
    /// The approvers.
    #[must_use]
    pub fn approvers(&self) -> &[Approver] {
        &self.approvers
    }

    fn signer_of(
        &self,
        word: Word,
        intent: &Intent,
        by: &SignedBy,
    ) -> Result<Option<&Approver>, Error> {
        let message = word.message(intent)?;
        let Ok(signature) = base64::engine::general_purpose::STANDARD.decode(&by.signature) else {
            return Ok(None);
        };
        let of = self.approvers.iter().find(|a| a.key.id() == by.key_id);
        Ok(of.filter(|a| verify(a.key.der(), &message, &signature).is_ok()))
    }

    /// Checks whether a signature is valid, and returns whose it is: the server stores only valid
    /// ones, and rejects others at once.
    ///
    /// # Errors
    /// [`Error::Refused`] for a signature that would not count.
    pub fn recognise(
        &self,
        word: Word,
        intent: &Intent,
        by: &SignedBy,
    ) -> Result<&Approver, Error> {
        let who = self.signer_of(word, intent, by)?;
        let who = who.ok_or(Error::Refused(
            "the signature is not by an approver of the policy over this request",
        ))?;
        if word == Word::Approve && !self.requester_counts && who.key.id() == intent.requester {
            return Err(Error::Refused("the requester may not approve the release"));
        }
        Ok(who)
    }

    /// Checks the approvals of a request. No other function makes a request approved.
    ///
    /// # Errors
    /// [`NotApproved`].
    pub fn check(
        &self,
        intent: &Intent,
        request: Option<&SignedBy>,
        approvals: &[SignedBy],
        now_s: u64,
    ) -> Result<Approved, NotApproved> {
        let Intent { created_s, expires_s, .. } = *intent;
        if created_s > now_s + SKEW_S
            || now_s > expires_s
            || expires_s.saturating_sub(created_s) > INTENT_S_MAX
        {
            return Err(NotApproved::Time { created_s, expires_s, now_s });
        }
        if self.approvals == 0 {
            return Ok(Approved { intent: intent.clone(), by: vec![] });
        }
        let requester =
            request.map(|by| self.signer_of(Word::Request, intent, by)).transpose()?.flatten();
        requester.filter(|a| a.key.id() == intent.requester).ok_or(NotApproved::Requester)?;
        let mut by = BTreeSet::new();
        for approval in approvals.iter().take(APPROVERS_MAX) {
            // A key counts once, and a signature of the requester only if the policy allows it.
            by.extend(self.recognise(Word::Approve, intent, approval).ok().map(|a| a.name.clone()));
        }
        if by.len() < self.approvals {
            return Err(NotApproved::TooFew { given: by.len(), needed: self.approvals });
        }
        Ok(Approved { intent: intent.clone(), by: by.into_iter().collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::{Algorithm, SoftKey};

    const NOW_S: u64 = 1_800_000_000;

    struct World {
        keys: Vec<SoftKey>,
        policy: Policy,
        intent: Intent,
    }

    fn world(approvals: usize, requester_counts: bool) -> World {
        let keys: Vec<_> = (0..3).map(|_| SoftKey::generate(Algorithm::P384).unwrap()).collect();
        let approver = |(name, key): (&str, &SoftKey)| Approver {
            name: name.into(),
            key: PublicKey::of(key).unwrap(),
        };
        let approvers = ["alice", "bob", "carol"].into_iter().zip(&keys).map(approver).collect();
        let requester = PublicKey::of(&keys[0]).unwrap().id();
        let intent = Intent {
            kind: KIND.into(),
            release: "kiosk@2".parse().unwrap(),
            build_sha256: "ab".repeat(32),
            release_key: "cd".repeat(8),
            requester,
            created_s: NOW_S,
            expires_s: NOW_S + 3600,
        };
        World { keys, policy: Policy::new(approvals, requester_counts, approvers).unwrap(), intent }
    }

    impl World {
        fn by(&self, who: usize, word: Word) -> SignedBy {
            word.sign(&self.intent, &self.keys[who]).unwrap()
        }
        fn check(
            &self,
            request: &SignedBy,
            approvals: &[SignedBy],
        ) -> Result<Vec<String>, NotApproved> {
            self.policy
                .check(&self.intent, Some(request), approvals, NOW_S)
                .map(|a| a.by().to_vec())
        }
    }

    #[test]
    fn enough_people_beside_who_asks_agree() {
        let w = world(2, false);
        let request = w.by(0, Word::Request);
        let all: Vec<_> = (0..3).map(|i| w.by(i, Word::Approve)).collect();
        assert_eq!(w.check(&request, &all).unwrap(), ["bob", "carol"]);
        for too_few in [&all[..2], &all[..1], &[]] {
            assert!(matches!(
                w.check(&request, too_few),
                Err(NotApproved::TooFew { needed: 2, .. })
            ));
        }
        let w = world(2, true);
        let (request, all) =
            (w.by(0, Word::Request), [w.by(0, Word::Approve), w.by(1, Word::Approve)]);
        assert_eq!(w.check(&request, &all).unwrap(), ["alice", "bob"]);
    }

    #[test]
    fn a_forged_repeated_or_borrowed_signature_does_not_count() {
        let w = world(2, false);
        let request = w.by(0, Word::Request);
        let mallory = SoftKey::generate(Algorithm::P384).unwrap();
        let bob = w.by(1, Word::Approve);
        let foreign = Word::Approve.sign(&w.intent, &mallory).unwrap();
        let borrowed = SignedBy { key_id: w.by(2, Word::Approve).key_id, ..foreign.clone() };
        let other = Intent { build_sha256: "cd".repeat(32), ..w.intent.clone() };
        let of_another_build = Word::Approve.sign(&other, &w.keys[2]).unwrap();
        let no_text = SignedBy { key_id: borrowed.key_id.clone(), signature: "~".into() };
        for second in
            [bob.clone(), foreign, borrowed, of_another_build, w.by(2, Word::Request), no_text]
        {
            assert!(matches!(
                w.check(&request, &[bob.clone(), second]),
                Err(NotApproved::TooFew { given: 1, needed: 2 })
            ));
        }
        // The requester must be the one in the request, and must have signed it.
        for wrong in [
            w.by(1, Word::Request),
            w.by(0, Word::Approve),
            Word::Request.sign(&other, &w.keys[0]).unwrap(),
        ] {
            assert!(matches!(
                w.check(&wrong, &[bob.clone(), w.by(2, Word::Approve)]),
                Err(NotApproved::Requester)
            ));
        }
        assert!(matches!(
            w.policy.check(&w.intent, None, &[bob], NOW_S),
            Err(NotApproved::Requester)
        ));
    }

    #[test]
    fn a_request_has_its_time() {
        let w = world(0, false);
        let check = |intent: &Intent, now_s| w.policy.check(intent, None, &[], now_s);
        assert!(
            check(&w.intent, NOW_S).is_ok()
                && check(&w.intent, NOW_S + 3600).is_ok()
                && check(&w.intent, NOW_S - SKEW_S).is_ok()
        );
        let for_ever = Intent { expires_s: NOW_S + INTENT_S_MAX + 1, ..w.intent.clone() };
        for (intent, now_s) in
            [(&w.intent, NOW_S + 3601), (&w.intent, NOW_S - SKEW_S - 1), (&for_ever, NOW_S)]
        {
            assert!(matches!(check(intent, now_s), Err(NotApproved::Time { .. })));
        }
    }

    #[test]
    fn a_policy_survives_its_text_and_one_that_nobody_can_fulfil_is_refused() {
        let w = world(2, false);
        assert_eq!(Policy::parse(&w.policy.to_text().unwrap()).unwrap(), w.policy);
        let all = || w.policy.approvers().to_vec();
        assert!(Policy::new(3, false, all()).is_err() && Policy::new(3, true, all()).is_ok());
        assert!(Policy::new(1, true, vec![]).is_err() && Policy::new(0, false, vec![]).is_ok());
        let twice =
            [all(), vec![Approver { name: "dave".into(), key: all()[0].key.clone() }]].concat();
        assert!(Policy::new(1, false, twice).is_err(), "one person with two names");
        for text in [
            "",
            "approvals = -1",
            "approvals = 0\nthreshold = 1",
            "approvals = 1\n[[approver]]\nname = \"a\"\nkey = \"x\"",
        ] {
            assert!(Policy::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_intent_is_read_in_its_one_form_only() {
        let w = world(0, false);
        let text = w.intent.to_text().unwrap();
        assert_eq!(Intent::parse(&text).unwrap(), w.intent);
        for bad in
            [format!("{text} "), text.replace(".v1", ".v2"), text.replacen('{', "{\"also\":1,", 1)]
        {
            assert!(Intent::parse(&bad).is_err(), "{bad}");
        }
    }
}
