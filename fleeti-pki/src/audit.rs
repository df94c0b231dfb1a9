//! The audit log: entries that state who did what, chained by their digests. They are the leaves of
//! a Merkle tree.
//!
//! An entry is one line of canonical JSON. Signing, issuing or deciding writes two: the intent,
//! which is on disk before anything happens, and the outcome.

use crate::transparency::note::{LogKey, VerifiedCheckpoint};
use crate::transparency::tree::{
    self, Hash, MemoryTree, TreeHead, leaf_hash, verify_consistency, verify_inclusion,
};
use crate::{Error, OrMalformed};
use base64::Engine;
use fleeti_core::canonical::{self, sha256_hex};
use fleeti_core::wire::audit::AuditProof;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Maximum size of an entry, bytes.
pub const ENTRY_MAX: usize = 4096;
/// The action that publishes a release; the digest is the manifest's.
pub const RELEASE_PUBLISH: &str = "release.publish";
/// Maximum length of a text field, bytes.
const TEXT_MAX: usize = 512;

/// A text that fits into a field: a longer one is cut, and ends with the digest of the whole.
#[must_use]
pub fn fitting(text: &str) -> Cow<'_, str> {
    if text.len() <= TEXT_MAX {
        return Cow::Borrowed(text);
    }
    let end = format!("… (SHA-256 of the whole: {})", canonical::sha256_hex(text.as_bytes()));
    let kept = text.floor_char_boundary(TEXT_MAX - end.len());
    Cow::Owned(format!("{}{end}", &text[..kept]))
}

/// An act that an entry records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// The actor: `admin`, `server`, or the id of a key or device.
    pub actor: String,
    /// The action, as in `release.publish`.
    pub action: String,
    /// The subject.
    pub subject: String,
    /// SHA-256 of what was signed or published, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The caller's id of the act, by which it finds what is in the log already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Act {
    /// An act without a digest.
    #[must_use]
    pub fn new(
        actor: impl Into<String>,
        action: impl Into<String>,
        subject: impl Into<String>,
    ) -> Self {
        Self {
            actor: actor.into(),
            action: action.into(),
            subject: subject.into(),
            sha256: None,
            id: None,
        }
    }
    /// Adds the digest of the subject.
    #[must_use]
    pub fn of(self, sha256: impl Into<String>) -> Self {
        Self { sha256: Some(sha256.into()), ..self }
    }
}

/// The stage of an act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Stage {
    /// The act happened.
    Done,
    /// The act is about to happen.
    Intent,
    /// The act happened as intended.
    Outcome {
        /// Number of the intent's entry.
        intent: u64,
    },
    /// The act did not happen.
    Failed {
        /// Number of the intent's entry.
        intent: u64,
        /// The reason.
        reason: String,
    },
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The number; 0 for the first entry.
    pub number: u64,
    /// When it was written, Unix seconds; never less than in the previous entry.
    pub at_s: u64,
    /// SHA-256 of the previous entry, hexadecimal; of nothing for the first one.
    pub previous: String,
    /// The act.
    pub act: Act,
    /// Its stage.
    pub stage: Stage,
}

impl Entry {
    /// Parses a line.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but the canonical bytes of an entry.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > ENTRY_MAX {
            return Err(Error::Malformed {
                what: "audit entry",
                detail: format!("it has {} bytes", bytes.len()),
            });
        }
        let entry: Self = serde_json::from_slice(bytes).or_malformed("audit entry")?;
        if canonical::to_vec(&entry).or_malformed("audit entry")? != bytes {
            return Err(Error::Malformed {
                what: "audit entry",
                detail: "it is not in canonical form".into(),
            });
        }
        Ok(entry)
    }
}

/// The end of a log: everything that is needed to append to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    size: u64,
    previous: String,
    at_s: u64,
}

impl Default for End {
    fn default() -> Self {
        Self { size: 0, previous: sha256_hex(b""), at_s: 0 }
    }
}

/// A defect of a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Defect {
    /// A line that is not an entry.
    #[error("entry {number}: {source}")]
    Malformed {
        /// The expected entry.
        number: u64,
        /// The reason.
        source: Error,
    },
    /// Entries were removed, inserted or exchanged.
    #[error(
        "expected entry {expected}, found entry {found}: entries are missing, or in another order"
    )]
    Order {
        /// The expected entry.
        expected: u64,
        /// The entry found.
        found: u64,
    },
    /// An entry was changed after the next one was written.
    #[error("entry {number} does not continue the previous one: one of them was changed")]
    Chain {
        /// The entry.
        number: u64,
    },
    /// The time went backwards.
    #[error("entry {number} is older than the previous one")]
    Time {
        /// The entry.
        number: u64,
    },
    /// The end of the log is missing.
    #[error("the log has {size} entries, but was signed with {signed}: its end was cut off")]
    Truncated {
        /// The number of entries.
        size: u64,
        /// The number of entries in the checkpoint.
        signed: u64,
    },
    /// The history differs from the signed one.
    #[error("the first {size} entries differ from the signed ones: the log has two histories")]
    Fork {
        /// The number of signed entries.
        size: u64,
    },
}

impl End {
    /// The end of a log with this last line, if it is known to be the last one.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn after(line: &[u8]) -> Result<Self, Error> {
        let mut end = Self::default();
        end.follow(&Entry::parse(line)?, line);
        Ok(end)
    }

    /// The number of entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends an entry; returns its bytes. If the clock went backwards, the time of the previous
    /// entry is used.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a text that is too long.
    pub fn append(&mut self, now_s: u64, act: Act, stage: Stage) -> Result<Vec<u8>, Error> {
        let reason = if let Stage::Failed { reason, .. } = &stage { reason.as_str() } else { "" };
        let texts = [
            act.actor.as_str(),
            &act.action,
            &act.subject,
            act.sha256.as_deref().unwrap_or_default(),
            act.id.as_deref().unwrap_or_default(),
            reason,
        ];
        if let Some(text) = texts.iter().find(|t| t.len() > TEXT_MAX) {
            let detail = format!("a text has {} bytes, at most {TEXT_MAX} are allowed", text.len());
            return Err(Error::Malformed { what: "audit entry", detail });
        }
        let at_s = now_s.max(self.at_s);
        let entry = Entry { number: self.size, at_s, previous: self.previous.clone(), act, stage };
        let bytes = canonical::to_vec(&entry).or_malformed("audit entry")?;
        self.follow(&entry, &bytes);
        Ok(bytes)
    }

    /// Checks the next line of a stored log.
    ///
    /// # Errors
    /// [`Defect`].
    pub fn read(&mut self, line: &[u8]) -> Result<Entry, Defect> {
        let number = self.size;
        let entry = Entry::parse(line).map_err(|source| Defect::Malformed { number, source })?;
        if entry.number != number {
            return Err(Defect::Order { expected: number, found: entry.number });
        }
        if entry.previous != self.previous {
            return Err(Defect::Chain { number });
        }
        if entry.at_s < self.at_s {
            return Err(Defect::Time { number });
        }
        self.follow(&entry, line);
        Ok(entry)
    }

    fn follow(&mut self, entry: &Entry, bytes: &[u8]) {
        *self = Self {
            size: entry.number + 1,
            previous: hex::encode(Sha256::digest(bytes)),
            at_s: entry.at_s,
        };
    }
}

/// The check of a whole log, line by line.
#[derive(Debug, Default)]
pub struct Examination {
    end: End,
    tree: MemoryTree,
}

impl Examination {
    /// Checks the next line, without its line end.
    ///
    /// # Errors
    /// [`Defect`].
    pub fn line(&mut self, line: &[u8]) -> Result<Entry, Defect> {
        let entry = self.end.read(line)?;
        self.tree.push(leaf_hash(line));
        Ok(entry)
    }

    /// The number of entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.end.size
    }

    /// Compares the checked entries with a checkpoint.
    ///
    /// # Errors
    /// [`Defect::Truncated`], [`Defect::Fork`].
    pub fn compare(&self, signed: &VerifiedCheckpoint) -> Result<(), Defect> {
        let checkpoint = signed.checkpoint();
        if checkpoint.size > self.end.size {
            return Err(Defect::Truncated { size: self.end.size, signed: checkpoint.size });
        }
        let Ok(root) = tree::root(checkpoint.size, &self.tree);
        if root == checkpoint.root { Ok(()) } else { Err(Defect::Fork { size: checkpoint.size }) }
    }
}

/// An entry that is proved to be in the log of a checkpoint. Only [`verify_proof`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedEntry {
    entry: Entry,
    checkpoint: VerifiedCheckpoint,
}

impl ProvedEntry {
    /// The entry.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }
    /// The checkpoint of its log.
    #[must_use]
    pub fn checkpoint(&self) -> &VerifiedCheckpoint {
        &self.checkpoint
    }
}

/// Verifies the checkpoint's signatures, and that the entry is in its log.
///
/// # Errors
/// [`Error::Refused`], [`Error::Malformed`].
pub fn verify_proof(proof: &AuditProof, log: &LogKey) -> Result<ProvedEntry, Error> {
    let checkpoint = log.verify(&proof.checkpoint)?;
    let hashes = hashes_of(&proof.hashes)?;
    let entry = Entry::parse(proof.entry.as_bytes())?;
    let stated = checkpoint.checkpoint();
    verify_inclusion(
        &leaf_hash(proof.entry.as_bytes()),
        entry.number,
        stated.size,
        &hashes,
        &stated.root,
    )?;
    Ok(ProvedEntry { entry, checkpoint })
}

/// Verifies the consistency proof between two checkpoints.
///
/// # Errors
/// [`Error::Refused`] if the logs are not consistent, or the newer one is smaller;
/// [`Error::Malformed`].
pub fn verify_log_consistency(
    old: &VerifiedCheckpoint,
    new: &VerifiedCheckpoint,
    hashes: &[String],
) -> Result<(), Error> {
    let (old, new) = (old.checkpoint(), new.checkpoint());
    verify_consistency(
        TreeHead { size: old.size, root: &old.root },
        TreeHead { size: new.size, root: &new.root },
        &hashes_of(hashes)?,
    )
}

fn hashes_of(texts: &[String]) -> Result<Vec<Hash>, Error> {
    let hash = |text: &String| -> Result<Hash, Error> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).or_malformed("proof")?;
        bytes.try_into().map_err(|_| Error::Refused("a hash of the proof has a wrong length"))
    };
    texts.iter().map(hash).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base64_text;
    use crate::signer::{Algorithm, SoftKey};
    use crate::transparency::note::Checkpoint;

    struct Log {
        key: LogKey,
        signer: SoftKey,
        lines: Vec<Vec<u8>>,
    }

    fn log(n: u64) -> Log {
        let signer = SoftKey::generate(Algorithm::Ed25519).unwrap();
        let mut end = End::default();
        let lines = (0..n)
            .map(|i| {
                end.append(
                    1000 + i,
                    Act::new("admin", "rollout.start", format!("rollout-{i}")),
                    Stage::Done,
                )
                .unwrap()
            })
            .collect();
        Log { key: LogKey::of("test/log", &signer).unwrap(), signer, lines }
    }

    impl Log {
        fn checkpoint(&self, size: usize) -> String {
            let mut memory = MemoryTree::default();
            self.lines[..size].iter().for_each(|l| memory.push(leaf_hash(l)));
            let checkpoint =
                Checkpoint { origin: "test/log".into(), size: size as u64, root: memory.root() };
            self.key.sign(&checkpoint, 2000, &self.signer).unwrap()
        }
        fn examine(&self, lines: &[Vec<u8>], note: &str) -> Result<(), Defect> {
            let mut examination = Examination::default();
            for line in lines {
                examination.line(line)?;
            }
            examination.compare(&self.key.verify(note).unwrap())
        }
    }

    #[test]
    fn an_honest_log_has_no_defect_at_any_of_its_checkpoints() {
        let log = log(20);
        for size in 0..=20 {
            log.examine(&log.lines, &log.checkpoint(size)).unwrap();
        }
    }

    #[test]
    fn deletion_reorder_change_truncation_and_fork_are_found() {
        let log = log(20);
        let note = log.checkpoint(20);
        let with = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
            let mut lines = log.lines.clone();
            change(&mut lines);
            log.examine(&lines, &note).unwrap_err()
        };
        assert!(matches!(with(&|l| drop(l.remove(7))), Defect::Order { expected: 7, found: 8 }));
        assert!(matches!(with(&|l| l.swap(3, 4)), Defect::Order { expected: 3, found: 4 }));
        assert!(matches!(with(&|l| l.truncate(19)), Defect::Truncated { size: 19, signed: 20 }));
        let changed = |line: &[u8]| {
            String::from_utf8(line.to_vec()).unwrap().replace("rollout-5", "rollout-6").into_bytes()
        };
        assert!(matches!(with(&|l| l[5] = changed(&l[5])), Defect::Chain { number: 6 }));
        assert!(matches!(with(&|l| l[5].push(b' ')), Defect::Malformed { number: 5, .. }));
        // An attacker who rewrites the whole log without one entry gets a valid chain, but another
        // root.
        let forged = |l: &mut Vec<Vec<u8>>| {
            let mut end = End::default();
            *l = (0..20)
                .map(|i| {
                    end.append(1000 + i, Act::new("admin", "rollout.start", "forged"), Stage::Done)
                        .unwrap()
                })
                .collect();
        };
        assert!(matches!(with(&forged), Defect::Fork { size: 20 }));
    }

    #[test]
    fn a_clock_that_goes_backwards_stands_still_and_a_log_that_does_is_refused() {
        let mut end = End::default();
        end.append(50, Act::new("a", "b", "c"), Stage::Done).unwrap();
        let line = end.append(40, Act::new("a", "b", "c"), Stage::Done).unwrap();
        assert_eq!(Entry::parse(&line).unwrap().at_s, 50);
        let entry = Entry {
            at_s: 49,
            number: 2,
            previous: end.previous.clone(),
            ..Entry::parse(&line).unwrap()
        };
        assert!(matches!(
            end.read(&canonical::to_vec(&entry).unwrap()),
            Err(Defect::Time { number: 2 })
        ));
    }

    #[test]
    fn a_proof_shows_one_entry_of_one_log() {
        let log = log(20);
        let mut memory = MemoryTree::default();
        log.lines.iter().for_each(|l| memory.push(leaf_hash(l)));
        let Ok(hashes) = tree::inclusion(6, 20, &memory);
        let entry = String::from_utf8(log.lines[6].clone()).unwrap();
        let proof = AuditProof {
            entry,
            hashes: hashes.iter().map(|h| base64_text(h)).collect(),
            checkpoint: log.checkpoint(20),
        };
        assert_eq!(verify_proof(&proof, &log.key).unwrap().entry().act.subject, "rollout-6");
        let other =
            AuditProof { entry: String::from_utf8(log.lines[7].clone()).unwrap(), ..proof.clone() };
        assert!(verify_proof(&other, &log.key).is_err());
        let older = AuditProof { checkpoint: log.checkpoint(19), ..proof.clone() };
        assert!(verify_proof(&older, &log.key).is_err());
        assert!(
            verify_proof(
                &proof,
                &LogKey::of("test/log", &SoftKey::generate(Algorithm::Ed25519).unwrap()).unwrap()
            )
            .is_err()
        );
    }

    #[test]
    fn a_text_that_is_too_long_is_refused_and_the_log_goes_on() {
        let mut end = End::default();
        assert!(end.append(1, Act::new("a", "b", "x".repeat(TEXT_MAX + 1)), Stage::Done).is_err());
        assert_eq!(end, End::default());
        end.append(1, Act::new("a", "b", "x".repeat(TEXT_MAX)), Stage::Done).unwrap();
        for long in ["x".repeat(TEXT_MAX + 1), "ä".repeat(TEXT_MAX)] {
            let fits = fitting(&long);
            assert!(
                fits.ends_with(&format!("{})", canonical::sha256_hex(long.as_bytes()))),
                "{fits}"
            );
            end.append(1, Act::new("a", "b", fits), Stage::Done).unwrap();
        }
        assert_eq!(fitting("short"), "short");
    }
}
