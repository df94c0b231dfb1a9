//! Signed notes and checkpoints (C2SP signed-note, tlog-checkpoint, tlog-cosignature; all Ed25519).
//!
//! ```text
//! fleeti.example/log                              origin: which log
//! 20852163                                        entries
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=    root of the tree
//!
//! — fleeti.example/log Az3grlgtz...               the log's signature
//! — fleeti.example/log jWbPPwAAAABkGFDL...        the same with a time: the checkpoint's age
//! ```

use super::tree::Hash;
use crate::signer::{Algorithm, Signer, verify_ed25519};
use crate::{Error, OrMalformed, base64_text};
use base64::Engine;
use sha2::{Digest, Sha256};

/// Maximum size of a note, bytes.
pub const NOTE_MAX: usize = 16 * 1024;
/// Maximum number of signatures that are checked.
const SIGNATURES_MAX: usize = 16;

const ED25519: u8 = 0x01;
const COSIGNATURE: u8 = 0x04;

/// The size of a log and its root hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// The number of entries.
    pub size: u64,
    /// The root hash of the tree over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The signed text.
    #[must_use]
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, base64_text(&self.root))
    }

    fn parse(body: &str) -> Result<Self, Error> {
        let wrong =
            |detail: &str| Error::Malformed { what: "checkpoint", detail: detail.to_owned() };
        let mut lines = body.strip_suffix('\n').ok_or_else(|| wrong("no line end"))?.split('\n');
        let origin = lines.next().filter(|o| !o.is_empty()).ok_or_else(|| wrong("no origin"))?;
        let size = lines.next().unwrap_or_default();
        if size.is_empty()
            || !size.bytes().all(|b| b.is_ascii_digit())
            || (size.len() > 1 && size.starts_with('0'))
        {
            return Err(wrong("the size is not a decimal number"));
        }
        let root = base64::engine::general_purpose::STANDARD
            .decode(lines.next().unwrap_or_default())
            .or_malformed("checkpoint")?;
        let root = root.try_into().map_err(|_| wrong("the root is not a SHA-256 digest"))?;
        // Further lines may follow: extensions, which are ignored.
        Ok(Self { origin: origin.to_owned(), size: size.parse().or_malformed("checkpoint")?, root })
    }
}

/// A checkpoint with verified signatures. Only [`LogKey::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCheckpoint {
    checkpoint: Checkpoint,
    stated_s: u64,
}

impl VerifiedCheckpoint {
    /// The checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
    /// When the log stated that the checkpoint was the newest, Unix seconds.
    #[must_use]
    pub fn stated_s(&self) -> u64 {
        self.stated_s
    }
}

/// The public half of a log's key, with the log's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKey {
    name: String,
    key: [u8; 32],
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.contains('+')
        && !name.chars().any(|c| c.is_whitespace() || c.is_control())
}

impl LogKey {
    /// The public half of a signing key.
    ///
    /// # Errors
    /// [`Error::Refused`] for an algorithm other than Ed25519, or a name with spaces or `+`.
    pub fn of(name: &str, signer: &dyn Signer) -> Result<Self, Error> {
        if signer.algorithm() != Algorithm::Ed25519 || !is_name(name) {
            return Err(Error::Refused(
                "a log must have an Ed25519 key and a name without spaces or +",
            ));
        }
        // The key is the end of its SubjectPublicKeyInfo (RFC 8410, 4).
        let der = signer.public_key_der();
        let key = der.last_chunk::<32>().ok_or(Error::Refused("the public key is too short"))?;
        Ok(Self { name: name.to_owned(), key: *key })
    }

    /// The log's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn id(&self, kind: u8) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', kind])
            .chain_update(self.key)
            .finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }

    /// The verifier key: name, key id and key, joined by `+`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let key = [&[ED25519][..], &self.key].concat();
        format!("{}+{}+{}", self.name, hex::encode(self.id(ED25519)), base64_text(&key))
    }

    /// Parses a verifier key.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_text(text: &str) -> Result<Self, Error> {
        let wrong =
            |detail: &str| Error::Malformed { what: "verifier key", detail: detail.to_owned() };
        let mut parts = text.trim_end().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong("it is not NAME+ID+KEY"));
        };
        let key =
            base64::engine::general_purpose::STANDARD.decode(key).or_malformed("verifier key")?;
        let key: [u8; 33] = key.try_into().map_err(|_| wrong("the key has the wrong length"))?;
        let [ED25519, key @ ..] = key else { return Err(wrong("the key is not an Ed25519 key")) };
        let key = Self { name: name.to_owned(), key };
        if !is_name(name) || hex::encode(key.id(ED25519)) != id {
            return Err(wrong("the key id is that of another name or key"));
        }
        Ok(key)
    }

    /// Signs a checkpoint, and a statement that it was the newest at a time.
    ///
    /// # Errors
    /// [`Error::Refused`] for the key of another log; [`Error::Backend`].
    pub fn sign(
        &self,
        checkpoint: &Checkpoint,
        now_s: u64,
        signer: &dyn Signer,
    ) -> Result<String, Error> {
        if Self::of(&self.name, signer)? != *self || checkpoint.origin != self.name {
            return Err(Error::Refused("the checkpoint is of another log"));
        }
        let body = checkpoint.body();
        let plain = [&self.id(ED25519)[..], &signer.sign(body.as_bytes())?].concat();
        let timed = signer.sign(timed_message(&body, now_s).as_bytes())?;
        let timed = [&self.id(COSIGNATURE)[..], &now_s.to_be_bytes(), &timed].concat();
        let line = |bytes: &[u8]| format!("\u{2014} {} {}\n", self.name, base64_text(bytes));
        Ok(format!("{body}\n{}{}", line(&plain), line(&timed)))
    }

    /// Verifies both signatures of a checkpoint, then parses it.
    ///
    /// # Errors
    /// [`Error::Refused`] if a signature is missing or wrong, or the origin is another log;
    /// [`Error::Malformed`].
    pub fn verify(&self, note: &str) -> Result<VerifiedCheckpoint, Error> {
        let (body, signatures) = split(note)?;
        let (mut signed, mut stated_s) = (false, None);
        for (name, bytes) in signatures {
            let Some((id, signature)) = bytes.split_first_chunk::<4>() else { continue };
            if name != self.name {
                continue;
            }
            // A signature that names this key must be valid (C2SP signed-note).
            if *id == self.id(ED25519) {
                verify_ed25519(&self.key, body.as_bytes(), signature)?;
                signed = true;
            } else if *id == self.id(COSIGNATURE) {
                let (time, signature) = signature
                    .split_first_chunk::<8>()
                    .ok_or(Error::Refused("a cosignature is too short"))?;
                let time = u64::from_be_bytes(*time);
                verify_ed25519(&self.key, timed_message(body, time).as_bytes(), signature)?;
                stated_s = stated_s.max(Some(time));
            }
        }
        let checkpoint = Checkpoint::parse(body)?;
        match stated_s {
            Some(stated_s) if signed && checkpoint.origin == self.name => {
                Ok(VerifiedCheckpoint { checkpoint, stated_s })
            }
            _ => Err(Error::Refused("the checkpoint is not signed by the log's key")),
        }
    }
}

fn timed_message(body: &str, time_s: u64) -> String {
    format!("cosignature/v1\ntime {time_s}\n{body}")
}

type SignatureLine<'a> = (&'a str, Vec<u8>);

/// The text of a note, and its signatures.
fn split(note: &str) -> Result<(&str, Vec<SignatureLine<'_>>), Error> {
    let wrong = |detail: &str| Error::Malformed { what: "note", detail: detail.to_owned() };
    if note.len() > NOTE_MAX || note.bytes().any(|b| b < 0x20 && b != b'\n') {
        return Err(wrong("it is too long or has control characters"));
    }
    let at =
        note.rfind("\n\n").ok_or_else(|| wrong("there is no empty line before the signatures"))?;
    let (body, rest) = (&note[..=at], &note[at + 2..]);
    let rest = rest.strip_suffix('\n').ok_or_else(|| wrong("the last line has no line end"))?;
    let lines: Vec<_> = rest.split('\n').collect();
    if lines.len() > SIGNATURES_MAX {
        return Err(wrong("it has too many signatures"));
    }
    let line = |line: &&'_ str| -> Option<(usize, Vec<u8>)> {
        let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        Some((name.len(), base64::engine::general_purpose::STANDARD.decode(signature).ok()?))
    };
    let mut signatures = Vec::new();
    for text in lines {
        let (length, bytes) =
            line(&text).ok_or_else(|| wrong("a signature line is not `— NAME BASE64`"))?;
        signatures.push((&text["\u{2014} ".len()..][..length], bytes));
    }
    Ok((body, signatures))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::SoftKey;

    /// A log: its key in both forms, and a checkpoint.
    struct Log {
        signer: SoftKey,
        key: LogKey,
        checkpoint: Checkpoint,
    }

    fn log() -> Log {
        let signer = SoftKey::generate(Algorithm::Ed25519).unwrap();
        let key = LogKey::of("fleeti.example/log", &signer).unwrap();
        let checkpoint = Checkpoint { origin: key.name.clone(), size: 300, root: [7; 32] };
        Log { signer, key, checkpoint }
    }

    #[test]
    fn a_checkpoint_verifies_and_says_when_it_was_made() {
        let Log { signer, key, checkpoint } = log();
        let verified = key.verify(&key.sign(&checkpoint, 1_800_000_000, &signer).unwrap()).unwrap();
        assert_eq!((verified.checkpoint(), verified.stated_s()), (&checkpoint, 1_800_000_000));
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let Log { signer, key, checkpoint } = log();
        let note = key.sign(&checkpoint, 1_800_000_000, &signer).unwrap();
        for at in (0..note.len()).filter(|at| note.as_bytes()[*at].is_ascii()) {
            let mut bad = note.clone().into_bytes();
            bad[at] ^= 1;
            let Ok(bad) = String::from_utf8(bad) else { continue };
            assert!(key.verify(&bad).is_err(), "byte {at}: {bad}");
        }
    }

    #[test]
    fn a_checkpoint_of_another_log_or_key_and_one_without_time_are_refused() {
        let Log { signer, key, checkpoint } = log();
        let note = key.sign(&checkpoint, 1, &signer).unwrap();
        let stranger = SoftKey::generate(Algorithm::Ed25519).unwrap();
        assert!(LogKey::of("fleeti.example/log", &stranger).unwrap().verify(&note).is_err());
        assert!(LogKey::of("fleeti.example/other", &signer).unwrap().verify(&note).is_err());
        let other = Checkpoint { origin: "fleeti.example/other".into(), ..checkpoint };
        assert!(key.sign(&other, 1, &signer).is_err());
        let lines: Vec<_> = note.lines().collect();
        assert!(
            key.verify(&format!("{}\n", lines[..lines.len() - 1].join("\n"))).is_err(),
            "no time"
        );
        assert!(LogKey::of("a log", &signer).is_err() && LogKey::of("a+log", &signer).is_err());
    }

    #[test]
    fn signatures_by_others_are_passed_over() {
        let Log { signer, key, checkpoint } = log();
        let note = key.sign(&checkpoint, 5, &signer).unwrap();
        let witnessed = format!("{note}\u{2014} witness.example/w1 jWbPPwAAAABkGFDL\n");
        assert_eq!(key.verify(&witnessed).unwrap().stated_s(), 5);
        assert!(key.verify(&format!("{note}no signature\n")).is_err());
    }

    #[test]
    fn the_key_survives_the_way_through_its_text() {
        let Log { key, .. } = log();
        assert_eq!(LogKey::from_text(&format!("{}\n", key.to_text())).unwrap(), key);
        assert!(
            LogKey::from_text(&key.to_text().replace("log+", "lag+")).is_err(),
            "the id is of the name as well"
        );
    }

    #[test]
    fn the_signature_of_go_is_ours() {
        // The key and note of golang.org/x/mod/sumdb/note's documentation.
        let key =
            LogKey::from_text("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
                .unwrap();
        let note = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
                    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let (body, signatures) = split(note).unwrap();
        let (id, signature) = signatures[0].1.split_first_chunk::<4>().unwrap();
        assert_eq!((signatures[0].0, *id), (key.name(), key.id(ED25519)));
        verify_ed25519(&key.key, body.as_bytes(), signature).unwrap();
    }
}
