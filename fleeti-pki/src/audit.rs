//! The audit log: who did what, in entries that are chained by their digests and are the leaves of
//! a Merkle tree.
//!
//! An entry is one line of canonical JSON. What is signed, issued or decided has two: the intent,
//! on the disk before anything happens, and the outcome.

use crate::transparency::note::{LogKey, VerifiedCheckpoint};
use crate::transparency::tree::{
    self, Hash, MemoryTree, leaf_hash, verify_consistency, verify_inclusion,
};
use crate::{Error, OrMalformed};
use base64::Engine;
use fleeti_core::canonical::{self, sha256_hex};
use fleeti_core::wire::api::AuditProof;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Longest entry, bytes.
pub const ENTRY_MAX: usize = 4096;
/// The action that makes a release known; its digest is the manifest's.
pub const RELEASE_PUBLISH: &str = "release.publish";
/// Longest text of a field, bytes.
const TEXT_MAX: usize = 512;

/// A text as it fits into a field: one that is too long ends in the digest of the whole.
#[must_use]
pub fn fitting(text: &str) -> Cow<'_, str> {
    if text.len() <= TEXT_MAX {
        return Cow::Borrowed(text);
    }
    let end = format!("… (SHA-256 of the whole: {})", canonical::sha256_hex(text.as_bytes()));
    let kept = text.floor_char_boundary(TEXT_MAX - end.len());
    Cow::Owned(format!("{}{end}", &text[..kept]))
}

/// What an entry is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// Who: `admin`, `server`, the id of a key or device.
    pub actor: String,
    /// What, as in `release.publish`.
    pub action: String,
    /// To what.
    pub subject: String,
    /// SHA-256 of what was signed or published, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The caller's id of it, by which it finds out what is in the log already.
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
    /// With the digest of what it is about.
    #[must_use]
    pub fn of(self, sha256: impl Into<String>) -> Self {
        Self { sha256: Some(sha256.into()), ..self }
    }
}

/// Where an act stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Stage {
    /// It happened.
    Done,
    /// It is about to happen.
    Intent,
    /// It happened as intended.
    Outcome {
        /// Number of the intent's entry.
        intent: u64,
    },
    /// It did not happen.
    Failed {
        /// Number of the intent's entry.
        intent: u64,
        /// Why not.
        reason: String,
    },
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// 0 for the first one.
    pub number: u64,
    /// When, Unix seconds; never less than the entry before.
    pub at_s: u64,
    /// SHA-256 of the entry before, hexadecimal; of nothing for the first one.
    pub previous: String,
    /// What it is about.
    pub act: Act,
    /// Where that stands.
    pub stage: Stage,
}

impl Entry {
    /// Reads a line.
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

/// Where a log ends: all that is needed to go on.
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

/// What is wrong with a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Defect {
    /// A line that is no entry.
    #[error("entry {number}: {source}")]
    Malformed {
        /// Which should have been there.
        number: u64,
        /// Why.
        source: Error,
    },
    /// Entries were taken out, put in or exchanged.
    #[error(
        "entry {expected} should be here, this is entry {found}: entries are missing, or in another order"
    )]
    Order {
        /// Which should be here.
        expected: u64,
        /// Which is.
        found: u64,
    },
    /// An entry was changed after the next one was written.
    #[error("entry {number} does not follow the one before: one of them was changed")]
    Chain {
        /// Which.
        number: u64,
    },
    /// Time went backwards.
    #[error("entry {number} is older than the one before")]
    Time {
        /// Which.
        number: u64,
    },
    /// The end is missing.
    #[error("the log has {size} entries, and was signed with {signed}: its end was cut off")]
    Truncated {
        /// Entries there are.
        size: u64,
        /// Entries there were.
        signed: u64,
    },
    /// Another history than the one that was signed.
    #[error("the first {size} entries are not those that were signed: there are two histories")]
    Fork {
        /// Entries that were signed.
        size: u64,
    },
}

impl End {
    /// Where a log ends whose last line this is, when that is known from elsewhere.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn after(line: &[u8]) -> Result<Self, Error> {
        let mut end = Self::default();
        end.follow(&Entry::parse(line)?, line);
        Ok(end)
    }

    /// Entries so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of the next entry. A clock that went backwards stands still.
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
            let detail = format!("a text has {} bytes, {TEXT_MAX} at the most", text.len());
            return Err(Error::Malformed { what: "audit entry", detail });
        }
        let at_s = now_s.max(self.at_s);
        let entry = Entry { number: self.size, at_s, previous: self.previous.clone(), act, stage };
        let bytes = canonical::to_vec(&entry).or_malformed("audit entry")?;
        self.follow(&entry, &bytes);
        Ok(bytes)
    }

    /// Reads the next line of a log that lies somewhere.
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

/// A whole log that is checked line by line.
#[derive(Debug, Default)]
pub struct Examination {
    end: End,
    tree: MemoryTree,
}

impl Examination {
    /// The next line, without its end.
    ///
    /// # Errors
    /// [`Defect`].
    pub fn line(&mut self, line: &[u8]) -> Result<Entry, Defect> {
        let entry = self.end.read(line)?;
        self.tree.push(leaf_hash(line));
        Ok(entry)
    }

    /// Entries so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.end.size
    }

    /// Compares what was read with what was signed once.
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

/// An entry that is in the log of a checkpoint. Only [`verify_proof`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedEntry {
    entry: Entry,
    checkpoint: VerifiedCheckpoint,
}

impl ProvedEntry {
    /// What the log says.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }
    /// The log that says it.
    #[must_use]
    pub fn checkpoint(&self) -> &VerifiedCheckpoint {
        &self.checkpoint
    }
}

/// Checks the checkpoint's signatures and that the entry is in its log.
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

/// Checks that a log only grew between two statements.
///
/// # Errors
/// [`Error::Refused`] when it did not, or the newer one is smaller; [`Error::Malformed`].
pub fn verify_growth(
    old: &VerifiedCheckpoint,
    new: &VerifiedCheckpoint,
    hashes: &[String],
) -> Result<(), Error> {
    let (old, new) = (old.checkpoint(), new.checkpoint());
    verify_consistency((old.size, &old.root), (new.size, &new.root), &hashes_of(hashes)?)
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
        // Somebody who writes the whole log anew, without one entry, has a good chain and another
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
