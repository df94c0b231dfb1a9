//! An audit log in memory, for tests of readers.

use fleeti_core::wire::audit::AuditProof;
use fleeti_core::wire::device::ReleaseProof;
use fleeti_pki::audit::{Act, End, RELEASE_PUBLISH, Stage};
use fleeti_pki::base64_text;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_pki::transparency::note::{Checkpoint, LogKey};
use fleeti_pki::transparency::tree::{self, Hash, MemoryTree, leaf_hash};

/// An audit log with its own key.
pub struct MemoryLog {
    /// Verifies its checkpoints.
    pub key: LogKey,
    signer: SoftKey,
    lines: Vec<Vec<u8>>,
    end: End,
}

impl MemoryLog {
    /// An empty log.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new() -> Result<Self, fleeti_pki::Error> {
        let signer = SoftKey::generate(Algorithm::Ed25519)?;
        Ok(Self {
            key: LogKey::of("fleeti/test/log", &signer)?,
            signer,
            lines: Vec::new(),
            end: End::default(),
        })
    }

    /// Starts another history with the same key.
    #[must_use]
    pub fn forget(self) -> Self {
        Self { lines: Vec::new(), end: End::default(), ..self }
    }

    /// Writes an act and returns the number of its entry.
    ///
    /// # Errors
    /// If a text is too long.
    pub fn enter(&mut self, act: Act) -> Result<usize, fleeti_pki::Error> {
        self.lines.push(self.end.append(0, act, Stage::Done)?);
        Ok(self.lines.len() - 1)
    }

    /// Writes the publication of a release.
    ///
    /// # Errors
    /// If a text is too long.
    pub fn publish(
        &mut self,
        release: &str,
        manifest_sha256: &str,
    ) -> Result<usize, fleeti_pki::Error> {
        self.enter(Act::new("admin", RELEASE_PUBLISH, release).of(manifest_sha256))
    }

    /// The proof of an entry, for a device that has seen a log of this size.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub fn proof(
        &self,
        number: usize,
        seen: u64,
        now_s: u64,
    ) -> Result<ReleaseProof, fleeti_pki::Error> {
        let mut memory = MemoryTree::default();
        self.lines.iter().for_each(|l| memory.push(leaf_hash(l)));
        let size = memory.size();
        let texts = |hashes: Vec<Hash>| hashes.iter().map(|h| base64_text(h)).collect();
        let Ok(hashes) = tree::inclusion(number as u64, size, &memory);
        let consistency = if seen == 0 || seen > size {
            Vec::new()
        } else {
            let Ok(consistency) = tree::consistency(seen, size, &memory);
            consistency
        };
        let checkpoint =
            Checkpoint { origin: self.key.name().to_owned(), size, root: memory.root() };
        let published = AuditProof {
            entry: String::from_utf8_lossy(&self.lines[number]).into_owned(),
            hashes: texts(hashes),
            checkpoint: self.key.sign(&checkpoint, now_s, &self.signer)?,
        };
        Ok(ReleaseProof { published, consistency: texts(consistency) })
    }
}
