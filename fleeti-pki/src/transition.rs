//! Transitions: signed documents that lead from one trust anchor to the next, so that a device with
//! an old image can reach the current server without a visit. The previous root introduces the next
//! root. Release keys, as many as the image requires, introduce the next release keys, the next key
//! of the audit log, the point from which a log that was restored from a backup continues, the next
//! address of the server, or OpenPGP keys other than those of the image. A device applies what its
//! own anchors have signed, and ignores the rest.
//!
//! A transition is stored and served forever, because a device may have been away for years.

use crate::certificate::{Authority, fingerprint, from_pem, public_key_der, to_pem};
use crate::manifest::{PublicKey, ReleaseKeys, Signature, check_signatures};
use crate::signer::{Signer, key_id};
use crate::transparency::note::{LogKey, VerifiedCheckpoint};
use crate::{Error, OrMalformed, base64_text, signer};
use fleeti_core::canonical::{self, sha256_hex};
use fleeti_core::strict;
use fleeti_core::wire::readmission::SignedTransition;
use serde::{Deserialize, Serialize};
use x509_cert::Certificate;

/// The `type` of a transition.
pub const KIND: &str = "fleeti.transition.v1";
/// Maximum number of transitions that are processed.
pub const TRANSITIONS_MAX: usize = 64;
/// Maximum size of a transition, bytes.
pub const BYTES_MAX: usize = 8 * 1024;
/// Maximum number of keyrings that one transition replaces: every choice of five keys.
pub const KEYRINGS_MAX: usize = 31;
/// Maximum number of signatures of a transition.
pub const SIGNATURES_MAX: usize = 16;
/// Maximum length of a server's address, bytes.
const ADDRESS_MAX: usize = 300;

/// The signed document, as canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transition {
    /// [`KIND`].
    #[serde(rename = "type")]
    pub kind: String,
    /// When it was signed, Unix seconds. Of two resets of one log, and of two keyrings, the later
    /// one counts.
    pub issued_s: u64,
    /// The change.
    pub change: Change,
}

/// The previous trust anchor and the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Another root, signed by the previous root.
    Root {
        /// SHA-256 of the previous root's certificate, DER, hexadecimal.
        from_sha256: String,
        /// Certificate of the next root, PEM.
        to_pem: String,
        /// Whether the previous root no longer counts. Otherwise both count.
        ends_previous: bool,
    },
    /// Other release keys, signed by the threshold of the previous ones.
    ReleaseKeys {
        /// SHA-256 of the previous `release.pem`, as [`ReleaseKeys::to_pem`] writes it,
        /// hexadecimal.
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
    /// An audit log continues from an earlier point, signed by release keys.
    LogReset {
        /// Its verifier key.
        log: String,
        /// The log's checkpoint from which it continues.
        checkpoint: String,
    },
    /// The server has another address, signed by release keys.
    Server(ServerMove),
    /// Another OpenPGP keyring, with which systemd-sysupdate verifies `SHA256SUMS.gpg`, signed by
    /// release keys. It replaces only the listed keyrings: an image with another keyring is not
    /// affected, however old the transition is. Images have no date, so only the keyring itself
    /// identifies the images that are meant.
    OpenpgpKeys {
        /// SHA-256 of each binary keyring that it replaces, hexadecimal
        /// ([`crate::openpgp::choices`]).
        from_sha256: Vec<String>,
        /// The next keyring, binary, base64.
        to_base64: String,
    },
}

/// Another address of a server. A device with the previous one changes to the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerMove {
    /// The previous address, as in `https://old.example:8443`. Devices of other servers ignore the
    /// move.
    pub from: String,
    /// The next address, as in `https://fleeti.example:8443`.
    pub https_url: String,
    /// The next MQTT address, as in `fleeti.example:8883`.
    pub mqtt_address: String,
    /// The HTTP proxy to both, if they are reachable only through one, as in
    /// `http://proxy.example:3128`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
}

impl ServerMove {
    /// Checks the form only: the code that uses an address parses it again.
    fn check(&self) -> Result<(), Error> {
        let malformed = |what: &str, text: &str| Error::Malformed {
            what: "transition",
            detail: format!("{text:?} is not {what}"),
        };
        let is_plain =
            |text: &str| text.len() <= ADDRESS_MAX && text.bytes().all(|b| b.is_ascii_graphic());
        for url in [&self.from, &self.https_url] {
            let host = url.strip_prefix("https://").unwrap_or_default();
            if !is_plain(url) || host.is_empty() || host.contains(['/', '@', '?', '#']) {
                return Err(malformed("https://HOST[:PORT]", url));
            }
        }
        let mqtt = self
            .mqtt_address
            .rsplit_once(':')
            .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !is_plain(&self.mqtt_address) || mqtt.is_none() {
            return Err(malformed("HOST:PORT", &self.mqtt_address));
        }
        match &self.proxy {
            Some(proxy) if !is_plain(proxy) || !proxy.starts_with("http://") => {
                Err(malformed("http://HOST:PORT", proxy))
            }
            _ => Ok(()),
        }
    }
}

/// The identifier of release keys in transitions: SHA-256 of their PEM, hexadecimal.
///
/// # Errors
/// [`Error::Malformed`].
pub fn release_keys_sha256(keys: &ReleaseKeys) -> Result<String, Error> {
    Ok(sha256_hex(keys.to_pem()?.as_bytes()))
}

/// Signs a transition.
///
/// # Errors
/// [`Error::Malformed`]; [`Error::Backend`] if a key cannot sign.
pub fn sign(transition: &Transition, signers: &[&dyn Signer]) -> Result<SignedTransition, Error> {
    let text = String::from_utf8(canonical::to_vec(transition).or_malformed("transition")?)
        .or_malformed("transition")?;
    read(&text)?;
    let signature = |key: &&dyn Signer| {
        Ok((key_id(key.public_key_der()), base64_text(&key.sign(text.as_bytes())?)))
    };
    let signatures = signers.iter().map(signature).collect::<Result<_, Error>>()?;
    Ok(SignedTransition { transition: text, signatures })
}

/// Adds a signature.
///
/// # Errors
/// [`Error::Refused`] if there are too many; as [`sign`].
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

/// Parses a transition; its signatures are not verified.
///
/// # Errors
/// [`Error::Malformed`].
pub fn read(text: &str) -> Result<Transition, Error> {
    let malformed = |detail: String| Error::Malformed { what: "transition", detail };
    if text.len() > BYTES_MAX {
        return Err(malformed(format!("it has more than {BYTES_MAX} bytes")));
    }
    let transition: Transition = strict::from_slice(text.as_bytes()).or_malformed("transition")?;
    if transition.kind != KIND
        || canonical::to_vec(&transition).or_malformed("transition")? != text.as_bytes()
    {
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
        Change::Server(moved) => moved.check()?,
        Change::OpenpgpKeys { from_sha256, to_base64 } => {
            let is_digest = |text: &String| {
                text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            };
            if from_sha256.is_empty()
                || from_sha256.len() > KEYRINGS_MAX
                || !from_sha256.iter().all(is_digest)
            {
                return Err(malformed(format!("it names no keyring, or more than {KEYRINGS_MAX}")));
            }
            keyring_of(to_base64)?;
        }
    }
    Ok(transition)
}

/// Decodes a keyring and checks that it is not empty; systemd-sysupdate parses it.
fn keyring_of(base64: &str) -> Result<Vec<u8>, Error> {
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, base64)
        .or_malformed("keyring")?;
    if bytes.is_empty() {
        Err(Error::Malformed { what: "keyring", detail: "it is empty".into() })
    } else {
        Ok(bytes)
    }
}

/// The OpenPGP keyrings that count, in sequence.
#[derive(Debug, Clone, Default)]
struct Keyrings {
    /// SHA-256 of the image's keyring and of all that were introduced since, hexadecimal.
    known: Vec<String>,
    /// The latest introduced keyring, and when it was signed, Unix seconds.
    newest: Option<(u64, Vec<u8>)>,
}

/// A reset of a log, with verified signatures.
#[derive(Debug, Clone)]
pub struct Reset {
    /// When it was signed, Unix seconds.
    pub issued_s: u64,
    /// The log's checkpoint, as signed note.
    pub note: String,
    /// The verified checkpoint.
    pub checkpoint: VerifiedCheckpoint,
}

/// The trust anchors of an image, and those that they lead to. [`Anchors::of_image`] creates them,
/// [`Anchors::walk`] applies transitions.
#[derive(Debug, Clone)]
pub struct Anchors {
    roots: Vec<Certificate>,
    release_keys: ReleaseKeys,
    log: LogKey,
    reset: Option<Reset>,
    moves: Vec<(u64, ServerMove)>,
    keyrings: Keyrings,
}

const OTHER: Error = Error::Refused("the transition is of another anchor");

impl Anchors {
    /// The trust anchors of an image.
    #[must_use]
    pub fn of_image(root: Certificate, release_keys: ReleaseKeys, log: LogKey) -> Self {
        Self {
            roots: vec![root],
            release_keys,
            log,
            reset: None,
            moves: vec![],
            keyrings: Keyrings::default(),
        }
    }

    /// Adds the OpenPGP keyring of the image, binary. Without one, no other keyring replaces it.
    #[must_use]
    pub fn with_keyring(mut self, keyring: &[u8]) -> Self {
        self.keyrings = Keyrings { known: vec![sha256_hex(keyring)], newest: None };
        self
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
    /// The latest point from which the log continues.
    #[must_use]
    pub fn reset(&self) -> Option<&Reset> {
        self.reset.as_ref()
    }
    /// Addresses of servers with the time of each signature (Unix seconds), oldest first.
    #[must_use]
    pub fn moves(&self) -> &[(u64, ServerMove)] {
        &self.moves
    }
    /// The OpenPGP keyring that replaces the image's, binary; `None` if the image's counts.
    #[must_use]
    pub fn keyring(&self) -> Option<&[u8]> {
        self.keyrings.newest.as_ref().map(|(_, keyring)| &keyring[..])
    }

    /// Applies what these anchors, and those that they lead to, have signed, in any order. Returns
    /// the applied transitions: the others are of other anchors, or forged.
    #[must_use]
    pub fn walk(mut self, transitions: &[SignedTransition]) -> (Self, Vec<SignedTransition>) {
        let mut left: Vec<_> = transitions
            .iter()
            .take(TRANSITIONS_MAX)
            .filter_map(|s| Some((s, read(&s.transition).ok()?)))
            .collect();
        let mut applied = Vec::new();
        loop {
            let before = applied.len();
            // Each transition is applied once, so a cycle of anchors ends. Transitions by release
            // keys are applied before other release keys follow.
            for is_keys in [false, true] {
                left.retain(|(signed, transition)| {
                    let is_next = matches!(transition.change, Change::ReleaseKeys { .. })
                        == is_keys
                        && (!is_keys || applied.len() == before);
                    let is_applied = is_next && self.apply(signed, transition).is_ok();
                    if is_applied {
                        applied.push((*signed).clone());
                    }
                    !is_applied
                });
            }
            if applied.len() == before {
                self.moves.sort_by_key(|(issued_s, _)| *issued_s);
                return (self, applied);
            }
        }
    }

    /// Adds the next root, if the previous one has signed.
    fn follow_root(
        &mut self,
        from_sha256: &str,
        pem: &str,
        ends_previous: bool,
        is_signed: impl Fn(&[u8]) -> bool,
    ) -> Result<(), Error> {
        let is_previous = |root: &Certificate| fingerprint(root).is_ok_and(|f| f == from_sha256);
        let at = self.roots.iter().position(is_previous).ok_or(OTHER)?;
        if !is_signed(&public_key_der(&self.roots[at])?) {
            return Err(Error::Refused("the previous root has not signed"));
        }
        let next = from_pem(pem)?;
        let name = fingerprint(&next)?;
        if ends_previous && name != from_sha256 {
            self.roots.remove(at);
        }
        if !self.roots.iter().any(|r| fingerprint(r).is_ok_and(|f| f == name)) {
            self.roots.push(next);
        }
        Ok(())
    }

    fn apply(&mut self, signed: &SignedTransition, transition: &Transition) -> Result<(), Error> {
        let signatures =
            Signature::all_of(&signed.signatures[..signed.signatures.len().min(SIGNATURES_MAX)]);
        let by_release_keys = |keys: &ReleaseKeys| {
            check_signatures(signed.transition.as_bytes(), &signatures, keys)
                .map_err(|_| Error::Refused("too few release keys have signed"))
        };
        match &transition.change {
            Change::Root { from_sha256, to_pem: pem, ends_previous } => {
                let is_signed = |key: &[u8]| {
                    let text = signed.transition.as_bytes();
                    signatures.iter().any(|s| signer::verify(key, text, &s.der).is_ok())
                };
                self.follow_root(from_sha256, pem, *ends_previous, is_signed)?;
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
                let reset = Reset {
                    issued_s: transition.issued_s,
                    note: note.clone(),
                    checkpoint: self.log.verify(note)?,
                };
                if self.reset.as_ref().is_none_or(|r| r.issued_s < reset.issued_s) {
                    self.reset = Some(reset);
                }
            }
            Change::Server(moved) => {
                by_release_keys(&self.release_keys)?;
                self.moves.push((transition.issued_s, moved.clone()));
            }
            Change::OpenpgpKeys { from_sha256, to_base64 } => {
                let keyrings = &mut self.keyrings;
                if !from_sha256.iter().any(|from| keyrings.known.contains(from)) {
                    return Err(OTHER);
                }
                by_release_keys(&self.release_keys)?;
                let next = (transition.issued_s, keyring_of(to_base64)?);
                keyrings.known.push(sha256_hex(&next.1));
                // Of two keyrings of the same second, the bytes decide, so that all devices choose
                // the same one.
                if keyrings.newest.as_ref().is_none_or(|newest| *newest < next) {
                    keyrings.newest = Some(next);
                }
            }
        }
        Ok(())
    }
}

/// Creates a transition from one root to the next.
///
/// # Errors
/// [`Error::Malformed`]; [`Error::Refused`] if the key is not the previous root's.
pub fn root(
    previous: &Authority<'_>,
    next: &Certificate,
    ends_previous: bool,
    now_s: u64,
) -> Result<SignedTransition, Error> {
    if public_key_der(previous.certificate)? != previous.signer.public_key_der() {
        return Err(Error::Refused("this is not the key of the previous root"));
    }
    let change = Change::Root {
        from_sha256: fingerprint(previous.certificate)?,
        to_pem: to_pem(next)?,
        ends_previous,
    };
    sign(&Transition { kind: KIND.into(), issued_s: now_s, change }, &[previous.signer])
}

/// Checks that a key is one of the release keys, before it signs for them.
///
/// # Errors
/// [`Error::Refused`].
pub fn check_release_key(keys: &ReleaseKeys, signer: &dyn Signer) -> Result<(), Error> {
    let id = PublicKey::of(signer)?.id();
    if keys.keys().iter().any(|k| k.id() == id) {
        Ok(())
    } else {
        Err(Error::Refused("this is not one of the release keys"))
    }
}

#[cfg(test)]
mod tests;
