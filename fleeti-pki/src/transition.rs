//! Transitions: what an old anchor says of the one that follows it, so that a device with an old image finds to today's
//! server without a visit. The previous root introduces the next root; as many release keys as the image asks for introduce
//! the next release keys, the next key of the audit log, or the point from which a log goes on that was restored from a
//! backup. A device applies what its own anchors have signed, and passes over the rest.
//!
//! A transition is kept and served for ever: the device may have been away for years.

use crate::certificate::{fingerprint, from_pem, public_key_der, to_pem};
use crate::manifest::{PublicKey, ReleaseKeys, Signature, check_signatures};
use crate::signer::{Signer, key_id};
use crate::transparency::note::{LogKey, VerifiedCheckpoint};
use crate::{Error, OrMalformed, base64_text, signer};
use fleeti_core::canonical::{self, sha256_hex};
use fleeti_core::strict;
use fleeti_core::wire::device::SignedTransition;
use serde::{Deserialize, Serialize};
use x509_cert::Certificate;

/// The `type` of a transition.
pub const KIND: &str = "fleeti.transition.v1";
/// Most transitions that are looked at.
pub const TRANSITIONS_MAX: usize = 64;
/// Largest transition, bytes.
pub const BYTES_MAX: usize = 8 * 1024;
/// Most signatures of one.
pub const SIGNATURES_MAX: usize = 16;

/// The document that is signed, as canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transition {
    /// [`KIND`].
    #[serde(rename = "type")]
    pub kind: String,
    /// When, Unix seconds. Of two resets of one log the later one counts.
    pub issued_s: u64,
    /// What follows what.
    pub change: Change,
}

/// What follows what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Another root, signed by the previous root.
    Root {
        /// SHA-256 of the previous root's certificate, DER, hexadecimal.
        from_sha256: String,
        /// Certificate of the next root, PEM.
        to_pem: String,
        /// Whether the previous one counts no more. Else both do.
        ends_previous: bool,
    },
    /// Other release keys, signed by as many of the previous ones as they ask for.
    ReleaseKeys {
        /// SHA-256 of the previous `release.pem` as [`ReleaseKeys::to_pem`] writes it, hexadecimal.
        from_sha256: String,
        /// The next `release.pem`.
        to_pem: String,
    },
    /// Another key of the audit log, signed by release keys.
    LogKey {
        /// The previous verifier key (C2SP signed-note).
        from: String,
        /// The next one.
        to: String,
    },
    /// An audit log goes on from an earlier point, signed by release keys.
    LogReset {
        /// Its verifier key.
        log: String,
        /// The log's own checkpoint from which it goes on.
        checkpoint: String,
    },
}

/// The name of release keys, by which a transition says which ones it follows: SHA-256 of their PEM, hexadecimal.
///
/// # Errors
/// [`Error::Malformed`].
pub fn release_keys_sha256(keys: &ReleaseKeys) -> Result<String, Error> {
    Ok(sha256_hex(keys.to_pem()?.as_bytes()))
}

/// Signs a transition.
///
/// # Errors
/// [`Error::Malformed`]; [`Error::Backend`] when a key cannot sign.
pub fn sign(transition: &Transition, signers: &[&dyn Signer]) -> Result<SignedTransition, Error> {
    let text = String::from_utf8(canonical::to_vec(transition).or_malformed("transition")?).or_malformed("transition")?;
    read(&text)?;
    let signature = |key: &&dyn Signer| Ok((key_id(key.public_key_der()), base64_text(&key.sign(text.as_bytes())?)));
    let signatures = signers.iter().map(signature).collect::<Result<_, Error>>()?;
    Ok(SignedTransition { transition: text, signatures })
}

/// Adds another person's signature.
///
/// # Errors
/// [`Error::Refused`] where there are too many; as [`sign`].
pub fn sign_too(signed: &mut SignedTransition, key: &dyn Signer) -> Result<(), Error> {
    read(&signed.transition)?;
    let id = key_id(key.public_key_der());
    signed.signatures.retain(|(other, _)| *other != id);
    if signed.signatures.len() >= SIGNATURES_MAX {
        return Err(Error::Refused("the transition has 16 signatures already"));
    }
    signed.signatures.push((id, base64_text(&key.sign(signed.transition.as_bytes())?)));
    Ok(())
}

/// Reads a transition; nothing about its signatures is checked.
///
/// # Errors
/// [`Error::Malformed`].
pub fn read(text: &str) -> Result<Transition, Error> {
    let malformed = |detail: String| Error::Malformed { what: "transition", detail };
    if text.len() > BYTES_MAX {
        return Err(malformed(format!("it has more than {BYTES_MAX} bytes")));
    }
    let transition: Transition = strict::from_slice(text.as_bytes()).or_malformed("transition")?;
    if transition.kind != KIND || canonical::to_vec(&transition).or_malformed("transition")? != text.as_bytes() {
        return Err(malformed(format!("it is not canonical JSON of type {KIND}")));
    }
    match &transition.change {
        Change::Root { to_pem: pem, .. } => drop(from_pem(pem)?),
        Change::ReleaseKeys { to_pem, .. } => drop(ReleaseKeys::from_pem(to_pem)?),
        Change::LogKey { from, to } => {
            LogKey::from_text(from)?;
            LogKey::from_text(to)?;
        }
        Change::LogReset { log, checkpoint } => drop(LogKey::from_text(log)?.verify(checkpoint)?),
    }
    Ok(transition)
}

/// A point from which a log goes on, whose signatures were checked.
#[derive(Debug, Clone)]
pub struct Reset {
    /// When it was signed, Unix seconds.
    pub issued_s: u64,
    /// The log's own words.
    pub note: String,
    /// What they say.
    pub checkpoint: VerifiedCheckpoint,
}

/// What an image trusts, and what that has led to. [`Anchors::of_image`] begins, [`Anchors::walk`] leads on.
#[derive(Debug, Clone)]
pub struct Anchors {
    roots: Vec<Certificate>,
    release_keys: ReleaseKeys,
    log: LogKey,
    reset: Option<Reset>,
}

impl Anchors {
    /// What an image brings.
    #[must_use]
    pub fn of_image(root: Certificate, release_keys: ReleaseKeys, log: LogKey) -> Self {
        Self { roots: vec![root], release_keys, log, reset: None }
    }

    /// The roots that count; the newest last.
    #[must_use]
    pub fn roots(&self) -> &[Certificate] {
        &self.roots
    }
    /// The release keys.
    #[must_use]
    pub fn release_keys(&self) -> &ReleaseKeys {
        &self.release_keys
    }
    /// The key of the audit log.
    #[must_use]
    pub fn log(&self) -> &LogKey {
        &self.log
    }
    /// The latest point from which the log goes on.
    #[must_use]
    pub fn reset(&self) -> Option<&Reset> {
        self.reset.as_ref()
    }

    /// Applies what these anchors have signed, and what the ones after them have, whatever the order. Gives the transitions
    /// that were applied: the others are of other anchors, or of nobody's.
    #[must_use]
    pub fn walk(mut self, transitions: &[SignedTransition]) -> (Self, Vec<SignedTransition>) {
        let mut left: Vec<_> = transitions.iter().take(TRANSITIONS_MAX).filter_map(|s| Some((s, read(&s.transition).ok()?))).collect();
        let mut applied = Vec::new();
        loop {
            let before = applied.len();
            // Each is applied once, so a circle of anchors ends.
            left.retain(|(signed, transition)| {
                let is_applied = self.apply(signed, transition).is_ok();
                if is_applied {
                    applied.push((*signed).clone());
                }
                !is_applied
            });
            if applied.len() == before {
                return (self, applied);
            }
        }
    }

    fn apply(&mut self, signed: &SignedTransition, transition: &Transition) -> Result<(), Error> {
        const OTHER: Error = Error::Refused("the transition is of another anchor");
        let signatures = Signature::all_of(&signed.signatures[..signed.signatures.len().min(SIGNATURES_MAX)]);
        let by_release_keys = |keys: &ReleaseKeys| {
            check_signatures(signed.transition.as_bytes(), &signatures, keys)
                .map_err(|_| Error::Refused("too few release keys have signed"))
        };
        match &transition.change {
            Change::Root { from_sha256, to_pem: pem, ends_previous } => {
                let is_previous = |root: &Certificate| fingerprint(root).is_ok_and(|f| f == *from_sha256);
                let at = self.roots.iter().position(is_previous).ok_or(OTHER)?;
                let key = public_key_der(&self.roots[at])?;
                let is_signed = signatures.iter().any(|s| signer::verify(&key, signed.transition.as_bytes(), &s.der).is_ok());
                if !is_signed {
                    return Err(Error::Refused("the previous root has not signed"));
                }
                let next = from_pem(pem)?;
                let name = fingerprint(&next)?;
                if *ends_previous && name != *from_sha256 {
                    self.roots.remove(at);
                }
                if !self.roots.iter().any(|r| fingerprint(r).is_ok_and(|f| f == name)) {
                    self.roots.push(next);
                }
            }
            Change::ReleaseKeys { from_sha256, to_pem } => {
                if release_keys_sha256(&self.release_keys)? != *from_sha256 {
                    return Err(OTHER);
                }
                by_release_keys(&self.release_keys)?;
                self.release_keys = ReleaseKeys::from_pem(to_pem)?;
            }
            Change::LogKey { from, to } => {
                if LogKey::from_text(from)? != self.log {
                    return Err(OTHER);
                }
                by_release_keys(&self.release_keys)?;
                (self.log, self.reset) = (LogKey::from_text(to)?, None);
            }
            Change::LogReset { log, checkpoint: note } => {
                if LogKey::from_text(log)? != self.log {
                    return Err(OTHER);
                }
                by_release_keys(&self.release_keys)?;
                let reset = Reset { issued_s: transition.issued_s, note: note.clone(), checkpoint: self.log.verify(note)? };
                if self.reset.as_ref().is_none_or(|r| r.issued_s < reset.issued_s) {
                    self.reset = Some(reset);
                }
            }
        }
        Ok(())
    }
}

/// A transition from one root to the next.
///
/// # Errors
/// [`Error::Malformed`]; [`Error::Refused`] where the key is not the previous root's.
pub fn root(previous: (&Certificate, &dyn Signer), next: &Certificate, ends_previous: bool, now_s: u64) -> Result<SignedTransition, Error> {
    if public_key_der(previous.0)? != previous.1.public_key_der() {
        return Err(Error::Refused("this is not the key of the previous root"));
    }
    let change = Change::Root { from_sha256: fingerprint(previous.0)?, to_pem: to_pem(next)?, ends_previous };
    sign(&Transition { kind: KIND.into(), issued_s: now_s, change }, &[previous.1])
}

/// That a key is one of the release keys, before it signs for them.
///
/// # Errors
/// [`Error::Refused`].
pub fn check_release_key(keys: &ReleaseKeys, signer: &dyn Signer) -> Result<(), Error> {
    let id = PublicKey::of(signer)?.id();
    if keys.keys().iter().any(|k| k.id() == id) { Ok(()) } else { Err(Error::Refused("this is not one of the release keys")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::{Period, Role, self_signed};
    use crate::signer::{Algorithm, SoftKey};
    use crate::transparency::note::Checkpoint;

    fn p384() -> SoftKey {
        SoftKey::generate(Algorithm::P384).unwrap()
    }
    fn root_of(key: &SoftKey) -> Certificate {
        self_signed(Role::Root, Period::starting(1_795_000_000, 86_400), key).unwrap()
    }
    fn keys(of: &[&SoftKey], threshold: usize) -> ReleaseKeys {
        ReleaseKeys::new(of.iter().map(|k| PublicKey::of(*k).unwrap()).collect(), threshold).unwrap()
    }
    fn log() -> (SoftKey, LogKey) {
        let key = SoftKey::generate(Algorithm::Ed25519).unwrap();
        let log = LogKey::of("fleeti/test/log", &key).unwrap();
        (key, log)
    }
    fn signed(change: Change, by: &[&SoftKey]) -> SignedTransition {
        let signers: Vec<&dyn Signer> = by.iter().map(|k| *k as &dyn Signer).collect();
        sign(&Transition { kind: KIND.into(), issued_s: 5, change }, &signers).unwrap()
    }
    fn next_keys(from: &ReleaseKeys, to: &ReleaseKeys) -> Change {
        Change::ReleaseKeys { from_sha256: release_keys_sha256(from).unwrap(), to_pem: to.to_pem().unwrap() }
    }

    /// Two roots, two sets of release keys and a key of the log later, in any order of the list.
    #[test]
    fn a_device_walks_from_the_anchors_of_its_image_to_those_of_today() {
        let (r0, r1, r2, k0, k1, k2) = (p384(), p384(), p384(), p384(), p384(), p384());
        let roots = [&r0, &r1, &r2].map(root_of);
        let releases = [keys(&[&k0], 1), keys(&[&k1], 1), keys(&[&k1, &k2], 2)];
        let ((_, a), (_, b)) = (log(), log());
        let log_key = Change::LogKey { from: a.to_text(), to: b.to_text() };
        let mut all = vec![
            root((&roots[0], &r0), &roots[1], false, 1).unwrap(),
            root((&roots[1], &r1), &roots[2], true, 2).unwrap(),
            signed(next_keys(&releases[0], &releases[1]), &[&k0]),
            signed(next_keys(&releases[1], &releases[2]), &[&k1]),
            signed(log_key, &[&k1, &k2]),
        ];
        for _ in 0..all.len() {
            all.rotate_left(1);
            let image = Anchors::of_image(roots[0].clone(), releases[0].clone(), a.clone());
            let (today, applied) = image.walk(&all);
            assert_eq!(applied.len(), all.len());
            assert_eq!(today.roots(), [roots[0].clone(), roots[2].clone()], "the one in the middle was ended");
            assert_eq!((today.release_keys().threshold(), today.log()), (2, &b));
            // An image of the middle of the way passes over what was before it.
            let image = Anchors::of_image(roots[2].clone(), releases[1].clone(), a.clone());
            let (today, applied) = image.walk(&all);
            assert_eq!((applied.len(), today.roots().len(), today.log()), (2, 1, &b));
        }
    }

    #[test]
    fn what_the_anchors_of_the_image_have_not_signed_leads_nowhere() {
        let (r0, r1, k0, k1, mallory) = (p384(), p384(), p384(), p384(), p384());
        let (root0, root1, evil) = (root_of(&r0), root_of(&r1), root_of(&mallory));
        let (old, new) = (keys(&[&k0, &k1], 2), keys(&[&mallory], 1));
        let ((log_key, a), (_, b)) = (log(), log());
        let change = |root: &Certificate| Change::Root {
            from_sha256: fingerprint(&root0).unwrap(),
            to_pem: to_pem(root).unwrap(),
            ends_previous: true,
        };
        let note = a.sign(&Checkpoint { origin: a.name().into(), size: 3, root: [1; 32] }, 9, &log_key).unwrap();
        let to_b = || Change::LogKey { from: a.to_text(), to: b.to_text() };
        let mut changed = root((&root0, &r0), &root1, true, 1).unwrap();
        changed.transition = changed.transition.replace("true", "false");
        let mut twice = signed(to_b(), &[&k0]);
        let again = twice.signatures[0].clone();
        twice.signatures.push(again);
        for bad in [
            signed(change(&evil), &[&mallory]),
            signed(change(&evil), &[&k0, &k1]),
            changed,
            signed(next_keys(&old, &new), &[&k0]),
            signed(next_keys(&old, &new), &[&mallory]),
            signed(next_keys(&new, &new), &[&k0, &k1]),
            signed(to_b(), &[&r0]),
            twice,
            signed(Change::LogReset { log: a.to_text(), checkpoint: note.clone() }, &[&k1]),
            SignedTransition { transition: "{}".into(), signatures: vec![] },
        ] {
            let image = Anchors::of_image(root0.clone(), old.clone(), a.clone());
            let (today, applied) = image.walk(std::slice::from_ref(&bad));
            assert!(applied.is_empty(), "{bad:?}");
            assert_eq!((today.roots(), today.log(), today.reset().is_none()), (&[root0.clone()][..], &a, true));
        }
        assert!(root((&root0, &mallory), &evil, true, 1).is_err());
        // A reset that is signed names a checkpoint of the log itself.
        let reset = |log: &LogKey| Transition {
            kind: KIND.into(),
            issued_s: 7,
            change: Change::LogReset { log: log.to_text(), checkpoint: note.clone() },
        };
        assert!(sign(&reset(&b), &[&k0]).is_err());
        let mut good = sign(&reset(&a), &[&k0]).unwrap();
        sign_too(&mut good, &k1).unwrap();
        let (today, _) = Anchors::of_image(root0, old, a).walk(&[good]);
        assert_eq!(today.reset().unwrap().checkpoint.checkpoint().size, 3);
    }

    #[test]
    fn a_circle_of_anchors_ends() {
        let (k0, k1) = (p384(), p384());
        let (one, other) = (keys(&[&k0], 1), keys(&[&k1], 1));
        let circle = [signed(next_keys(&one, &other), &[&k0]), signed(next_keys(&other, &one), &[&k1])];
        let (today, applied) = Anchors::of_image(root_of(&k0), one.clone(), log().1).walk(&circle);
        assert_eq!((applied.len(), today.release_keys().to_pem().unwrap()), (2, one.to_pem().unwrap()));
    }
}
