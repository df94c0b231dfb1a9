//! The audit log on a disk.
//!
//! ```text
//! DIR/log            one entry a line; the only file that counts
//! DIR/checkpoint     the last statement that was signed
//! DIR/offsets        where each line begins, 8 bytes little-endian
//! DIR/level-NN       hashes of complete subtrees, 32 bytes each
//! ```
//!
//! The last two are made of the first, and are made again when they do not lead to the checkpoint. What
//! [`AuditLog::append`] was given is on the disk when [`AuditLog::commit`] returns: one write, one flush, however
//! many entries.

use fleeti_pki::audit::{Act, Defect, End, Stage};
use fleeti_pki::transparency::note::{LogKey, VerifiedCheckpoint};
use fleeti_pki::transparency::tree::{self, Hash, Nodes, leaf_hash};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Levels of a tree that fits on a disk.
const LEVELS: u32 = 48;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody changed it.
    #[error("the audit log in {path} was tampered with: {source}")]
    Defect {
        /// Where.
        path: PathBuf,
        /// How.
        source: Defect,
    },
    /// An entry or a checkpoint that cannot be.
    #[error(transparent)]
    Pki(#[from] fleeti_pki::Error),
    /// An earlier write failed; what is on the disk is only known after a new start.
    #[error("an earlier write to the audit log failed; start anew when there is room")]
    Broken,
    /// There is no such entry.
    #[error("the audit log has {size} entries, none of them is {number}")]
    NoEntry {
        /// What was asked for.
        number: u64,
        /// Entries there are.
        size: u64,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> LogError {
    let path = path.to_owned();
    |source| LogError::Io { path, source }
}

/// Hashes of complete subtrees, in files.
struct NodeFiles {
    levels: Vec<File>,
}

impl Nodes for NodeFiles {
    type Error = std::io::Error;
    fn node(&self, level: u32, index: u64) -> std::io::Result<Hash> {
        let mut hash = [0; 32];
        self.levels[level as usize].read_exact_at(&mut hash, index * 32)?;
        Ok(hash)
    }
}

impl NodeFiles {
    fn push(&self, size: u64, leaf: Hash) -> std::io::Result<()> {
        let nodes = tree::completed(size, leaf, self)?;
        for (level, hash) in nodes.iter().enumerate() {
            self.levels[level].write_all_at(hash, (size >> level) * 32)?;
        }
        Ok(())
    }
    fn truncate(&self, size: u64) -> std::io::Result<()> {
        for (level, file) in self.levels.iter().enumerate() {
            let nodes = size.checked_shr(u32::try_from(level).unwrap_or(u32::MAX)).unwrap_or(0);
            file.set_len(nodes * 32)?;
        }
        Ok(())
    }
}

/// The audit log of one signer.
pub struct AuditLog {
    folder: PathBuf,
    log: File,
    offsets: File,
    nodes: NodeFiles,
    end: End,
    bytes: u64,
    /// What was appended and is not on the disk yet.
    pending: Vec<u8>,
    is_broken: bool,
}

fn open(path: &Path) -> Result<File, LogError> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(path).map_err(io(path))
}

impl AuditLog {
    /// Opens a log, or begins one. What follows the checkpoint is read and checked; a line without an end was never
    /// acknowledged, and is cut off.
    ///
    /// # Errors
    /// [`LogError::Defect`] when it does not lead to its checkpoint; nothing may be signed then.
    pub fn open(folder: &Path, key: &LogKey) -> Result<Self, LogError> {
        std::fs::create_dir_all(folder).map_err(io(folder))?;
        let levels = (0..LEVELS).map(|l| open(&folder.join(format!("level-{l:02}")))).collect::<Result<_, _>>()?;
        let mut log = Self {
            log: open(&folder.join("log"))?,
            offsets: open(&folder.join("offsets"))?,
            nodes: NodeFiles { levels },
            folder: folder.to_owned(),
            end: End::default(),
            bytes: 0,
            pending: Vec::new(),
            is_broken: false,
        };
        let checkpoint = log.stored_checkpoint(key)?;
        if !log.resume(checkpoint.as_ref()).unwrap_or(false) {
            log.end = End::default();
            log.bytes = 0;
        }
        log.read_rest()?;
        if let Some(signed) = &checkpoint {
            log.compare(signed).map_err(|source| LogError::Defect { path: folder.to_owned(), source })?;
        }
        // Only now: a log that was tampered with stays as it is.
        log.log.set_len(log.bytes).map_err(io(&folder.join("log")))?;
        File::open(folder).and_then(|f| f.sync_all()).map_err(io(folder))?;
        Ok(log)
    }

    fn stored_checkpoint(&self, key: &LogKey) -> Result<Option<VerifiedCheckpoint>, LogError> {
        let path = self.folder.join("checkpoint");
        match std::fs::read_to_string(&path) {
            Ok(note) => Ok(Some(key.verify(&note)?)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io(&path)(e)),
        }
    }

    /// Goes on from the checkpoint, when offsets and hashes lead to it.
    fn resume(&mut self, checkpoint: Option<&VerifiedCheckpoint>) -> std::io::Result<bool> {
        let Some(signed) = checkpoint.map(VerifiedCheckpoint::checkpoint).filter(|c| c.size > 0) else { return Ok(false) };
        if tree::root(signed.size, &self.nodes)? != signed.root {
            return Ok(false);
        }
        let start = self.offset(signed.size - 1)?;
        self.log.seek(SeekFrom::Start(start))?;
        let mut line = Vec::new();
        BufReader::new(&self.log).read_until(b'\n', &mut line)?;
        let (Some(b'\n'), Ok(leaf)) = (line.pop(), self.nodes.node(0, signed.size - 1)) else { return Ok(false) };
        if leaf_hash(&line) != leaf {
            return Ok(false);
        }
        let Ok(end) = End::after(&line) else { return Ok(false) };
        self.end = end;
        self.bytes = start + line.len() as u64 + 1;
        Ok(true)
    }

    fn read_rest(&mut self) -> Result<(), LogError> {
        let path = self.folder.join("log");
        self.nodes.truncate(self.end.size()).map_err(io(&self.folder))?;
        self.offsets.set_len(self.end.size() * 8).map_err(io(&self.folder))?;
        let mut file = self.log.try_clone().map_err(io(&path))?;
        file.seek(SeekFrom::Start(self.bytes)).map_err(io(&path))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            reader.by_ref().take(fleeti_pki::audit::ENTRY_MAX as u64 + 1).read_until(b'\n', &mut line).map_err(io(&path))?;
            let length = line.len() as u64;
            // A page that a power cut kept from the disk reads as zeros, which no entry has: from there on nothing was
            // acknowledged, or the flush had returned.
            if line.contains(&0) {
                break;
            }
            match line.pop() {
                Some(b'\n') => {}
                // Longer than an entry can be: not ours to cut off.
                Some(_) if length > fleeti_pki::audit::ENTRY_MAX as u64 => {
                    let source = self.end.read(&line).err().unwrap_or(Defect::Order { expected: self.end.size(), found: self.end.size() });
                    return Err(LogError::Defect { path: self.folder.clone(), source });
                }
                _ => break,
            }
            let number = self.end.size();
            self.end.read(&line).map_err(|source| LogError::Defect { path: self.folder.clone(), source })?;
            self.offsets.write_all_at(&self.bytes.to_le_bytes(), number * 8).map_err(io(&self.folder))?;
            self.nodes.push(number, leaf_hash(&line)).map_err(io(&self.folder))?;
            self.bytes += length;
        }
        Ok(())
    }

    fn compare(&self, signed: &VerifiedCheckpoint) -> Result<(), Defect> {
        let checkpoint = signed.checkpoint();
        if checkpoint.size > self.end.size() {
            return Err(Defect::Truncated { size: self.end.size(), signed: checkpoint.size });
        }
        let root = tree::root(checkpoint.size, &self.nodes);
        if root.is_ok_and(|r| r == checkpoint.root) { Ok(()) } else { Err(Defect::Fork { size: checkpoint.size }) }
    }

    /// Adds an entry; gives its number. It is nothing before [`Self::commit`].
    ///
    /// # Errors
    /// [`LogError::Pki`] for a text that is too long; nothing was added then.
    pub fn append(&mut self, now_s: u64, act: Act, stage: Stage) -> Result<u64, LogError> {
        if self.is_broken {
            return Err(LogError::Broken);
        }
        let number = self.end.size();
        let mut line = self.end.append(now_s, act, stage)?;
        let hash = leaf_hash(&line);
        line.push(b'\n');
        let at = self.bytes + self.pending.len() as u64;
        self.pending.extend_from_slice(&line);
        let written =
            self.offsets.write_all_at(&at.to_le_bytes(), number * 8).and_then(|()| self.nodes.push(number, hash)).map_err(io(&self.folder));
        self.is_broken = written.is_err();
        written.map(|()| number)
    }

    /// Makes everything that was added last.
    ///
    /// # Errors
    /// I/O; the log refuses everything from then on.
    pub fn commit(&mut self) -> Result<(), LogError> {
        if self.is_broken {
            return Err(LogError::Broken);
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        let written = self.log.write_all_at(&self.pending, self.bytes).and_then(|()| self.log.sync_data());
        self.is_broken = written.is_err();
        written.map_err(io(&self.folder.join("log")))?;
        self.bytes += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Keeps a signed statement. Offsets and hashes up to it are on the disk first: they are believed as far as it goes.
    ///
    /// # Errors
    /// I/O.
    pub fn keep_checkpoint(&self, note: &str) -> Result<(), LogError> {
        for file in self.nodes.levels.iter().chain([&self.offsets]) {
            file.sync_data().map_err(io(&self.folder))?;
        }
        let (path, part) = (self.folder.join("checkpoint"), self.folder.join("checkpoint.part"));
        let write = || {
            let mut file = File::create(&part)?;
            file.write_all(note.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&part, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(io(&path))
    }

    /// Entries so far, also those that are not on the disk yet.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.end.size()
    }

    fn offset(&self, number: u64) -> std::io::Result<u64> {
        let mut bytes = [0; 8];
        self.offsets.read_exact_at(&mut bytes, number * 8)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Lines of entries, `limit` at the most.
    ///
    /// # Errors
    /// I/O.
    pub fn entries(&self, from: u64, limit: u64) -> Result<Vec<String>, LogError> {
        let committed = self.end.size();
        let to = committed.min(from.saturating_add(limit));
        if from >= to {
            return Ok(Vec::new());
        }
        let read = || -> std::io::Result<String> {
            let start = self.offset(from)?;
            let end = if to == committed { self.bytes } else { self.offset(to)? };
            let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(0)];
            self.log.read_exact_at(&mut bytes, start)?;
            String::from_utf8(bytes).map_err(std::io::Error::other)
        };
        let text = read().map_err(io(&self.folder.join("log")))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The root over the first `size` entries.
    ///
    /// # Errors
    /// I/O.
    pub fn root(&self, size: u64) -> Result<Hash, LogError> {
        tree::root(size, &self.nodes).map_err(io(&self.folder))
    }

    /// The proof that an entry is among the first `size` ones.
    ///
    /// # Errors
    /// [`LogError::NoEntry`], I/O.
    pub fn inclusion(&self, number: u64, size: u64) -> Result<Vec<Hash>, LogError> {
        if number >= size || size > self.size() {
            return Err(LogError::NoEntry { number, size: size.min(self.size()) });
        }
        tree::inclusion(number, size, &self.nodes).map_err(io(&self.folder))
    }

    /// The proof that the first `new` entries begin with the first `old` ones.
    ///
    /// # Errors
    /// [`LogError::NoEntry`], I/O.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, LogError> {
        if old > new || new > self.size() {
            return Err(LogError::NoEntry { number: old.max(new), size: self.size() });
        }
        tree::consistency(old, new, &self.nodes).map_err(io(&self.folder))
    }
}
