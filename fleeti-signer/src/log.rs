//! The audit log on a disk.
//!
//! ```text
//! DIR/log            one entry a line; the only file that counts
//! DIR/checkpoint     the last statement that was signed
//! DIR/offsets        where each line begins, 8 bytes little-endian
//! DIR/level-NN       hashes of complete subtrees, 32 bytes each
//! DIR/reserve        room for some ten thousand entries, given free when the disk is full
//! ```
//!
//! The last two are made of the first, and are made again when they do not lead to the checkpoint.
//! What [`AuditLog::append`] was given is on the disk when [`AuditLog::commit`] returns: one write
//! to each file, one flush, however many entries.

use crate::reserve::Reserve;
use fleeti_pki::audit::{Act, Defect, End, Stage};
use fleeti_pki::transparency::note::{LogKey, VerifiedCheckpoint};
use fleeti_pki::transparency::tree::{self, Hash, Nodes, leaf_hash};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Levels of a tree that fits on a disk.
const LEVELS: u32 = 48;
/// Records of a file that wait to be written.
const PENDING_MAX: usize = 1 << 14;

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

/// A file of records of `N` bytes that grows at its end. What was pushed is read as if it were in
/// the file already.
struct Records<const N: usize> {
    file: File,
    in_file: u64,
    pending: Vec<[u8; N]>,
}

impl<const N: usize> Records<N> {
    fn open(path: &Path) -> Result<Self, LogError> {
        let file = open(path)?;
        let bytes = file.metadata().map_err(io(path))?.len();
        Ok(Self { file, in_file: bytes / N as u64, pending: Vec::new() })
    }
    fn get(&self, number: u64) -> std::io::Result<[u8; N]> {
        let in_memory = number.checked_sub(self.in_file).and_then(|i| usize::try_from(i).ok());
        if let Some(record) = in_memory.and_then(|i| self.pending.get(i)) {
            return Ok(*record);
        }
        let mut record = [0; N];
        self.file.read_exact_at(&mut record, number * N as u64)?;
        Ok(record)
    }
    fn push(&mut self, record: [u8; N]) -> std::io::Result<()> {
        self.pending.push(record);
        if self.pending.len() < PENDING_MAX { Ok(()) } else { self.write() }
    }
    /// Hands to the kernel what was pushed.
    fn write(&mut self) -> std::io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(self.pending.as_flattened(), self.in_file * N as u64)?;
        self.in_file += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
    fn truncate(&mut self, records: u64) -> std::io::Result<()> {
        self.pending.clear();
        self.file.set_len(records * N as u64)?;
        self.in_file = records;
        Ok(())
    }
}

/// Hashes of complete subtrees, in files.
struct NodeFiles {
    levels: Vec<Records<32>>,
}

impl Nodes for NodeFiles {
    type Error = std::io::Error;
    fn node(&self, level: u32, index: u64) -> std::io::Result<Hash> {
        self.levels[level as usize].get(index)
    }
}

impl NodeFiles {
    fn push(&mut self, size: u64, leaf: Hash) -> std::io::Result<()> {
        let nodes = tree::completed(size, leaf, self)?;
        self.levels.iter_mut().zip(nodes).try_for_each(|(level, hash)| level.push(hash))
    }
    fn write(&mut self) -> std::io::Result<()> {
        self.levels.iter_mut().try_for_each(Records::write)
    }
    fn truncate(&mut self, size: u64) -> std::io::Result<()> {
        for (level, records) in self.levels.iter_mut().enumerate() {
            records.truncate(
                size.checked_shr(u32::try_from(level).unwrap_or(u32::MAX)).unwrap_or(0),
            )?;
        }
        Ok(())
    }
}

/// The audit log of one signer.
pub struct AuditLog {
    folder: PathBuf,
    log: File,
    offsets: Records<8>,
    nodes: NodeFiles,
    end: End,
    bytes: u64,
    /// What was appended and is not on the disk yet.
    pending: Vec<u8>,
    /// Where the log ends on the disk: what [`AuditLog::commit`] has returned for.
    kept: End,
    /// A write failed: what follows `kept` is cut off before anything is added.
    is_torn: bool,
    reserve: Reserve,
}

fn open(path: &Path) -> Result<File, LogError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(path)
        .map_err(io(path))
}

impl AuditLog {
    /// Opens a log, or begins one. What follows the checkpoint is read and checked; a line without
    /// an end was never acknowledged, and is cut off.
    ///
    /// # Errors
    /// [`LogError::Defect`] when it does not lead to its checkpoint; nothing may be signed then.
    pub fn open(folder: &Path, key: &LogKey) -> Result<Self, LogError> {
        std::fs::create_dir_all(folder).map_err(io(folder))?;
        let levels = (0..LEVELS)
            .map(|l| Records::open(&folder.join(format!("level-{l:02}"))))
            .collect::<Result<_, _>>()?;
        let mut log = Self {
            log: open(&folder.join("log"))?,
            offsets: Records::open(&folder.join("offsets"))?,
            nodes: NodeFiles { levels },
            folder: folder.to_owned(),
            end: End::default(),
            bytes: 0,
            pending: Vec::new(),
            kept: End::default(),
            is_torn: false,
            reserve: Reserve::new(folder),
        };
        let checkpoint = log.stored_checkpoint(key)?;
        if !log.resume(checkpoint.as_ref()).unwrap_or(false) {
            log.end = End::default();
            log.bytes = 0;
        }
        log.read_rest()?;
        if let Some(signed) = &checkpoint {
            log.compare(signed)
                .map_err(|source| LogError::Defect { path: folder.to_owned(), source })?;
        }
        // Only now: a log that was tampered with stays as it is.
        log.log.set_len(log.bytes).map_err(io(&folder.join("log")))?;
        File::open(folder).and_then(|f| f.sync_all()).map_err(io(folder))?;
        log.kept = log.end.clone();
        log.reserve.hold();
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
        let Some(signed) = checkpoint.map(VerifiedCheckpoint::checkpoint).filter(|c| c.size > 0)
        else {
            return Ok(false);
        };
        if tree::root(signed.size, &self.nodes)? != signed.root {
            return Ok(false);
        }
        let start = self.offset(signed.size - 1)?;
        self.log.seek(SeekFrom::Start(start))?;
        let mut line = Vec::new();
        BufReader::new(&self.log).read_until(b'\n', &mut line)?;
        let (Some(b'\n'), Ok(leaf)) = (line.pop(), self.nodes.node(0, signed.size - 1)) else {
            return Ok(false);
        };
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
        self.offsets.truncate(self.end.size()).map_err(io(&self.folder))?;
        let mut file = self.log.try_clone().map_err(io(&path))?;
        file.seek(SeekFrom::Start(self.bytes)).map_err(io(&path))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            reader
                .by_ref()
                .take(fleeti_pki::audit::ENTRY_MAX as u64 + 1)
                .read_until(b'\n', &mut line)
                .map_err(io(&path))?;
            let length = line.len() as u64;
            // A page that a power cut kept from the disk reads as zeros, which no entry has: from
            // there on nothing was acknowledged, or the flush had returned.
            if line.contains(&0) {
                break;
            }
            match line.pop() {
                Some(b'\n') => {}
                // Longer than an entry can be: not ours to cut off.
                Some(_) if length > fleeti_pki::audit::ENTRY_MAX as u64 => {
                    let source = self.end.read(&line).err().unwrap_or(Defect::Order {
                        expected: self.end.size(),
                        found: self.end.size(),
                    });
                    return Err(LogError::Defect { path: self.folder.clone(), source });
                }
                _ => break,
            }
            let number = self.end.size();
            self.end
                .read(&line)
                .map_err(|source| LogError::Defect { path: self.folder.clone(), source })?;
            self.offsets.push(self.bytes.to_le_bytes()).map_err(io(&self.folder))?;
            self.nodes.push(number, leaf_hash(&line)).map_err(io(&self.folder))?;
            self.bytes += length;
        }
        self.write_derived()
    }

    fn compare(&self, signed: &VerifiedCheckpoint) -> Result<(), Defect> {
        let checkpoint = signed.checkpoint();
        if checkpoint.size > self.end.size() {
            return Err(Defect::Truncated { size: self.end.size(), signed: checkpoint.size });
        }
        let root = tree::root(checkpoint.size, &self.nodes);
        if root.is_ok_and(|r| r == checkpoint.root) {
            Ok(())
        } else {
            Err(Defect::Fork { size: checkpoint.size })
        }
    }

    /// Adds an entry; gives its number. It is nothing before [`Self::commit`].
    ///
    /// # Errors
    /// [`LogError::Pki`] for a text that is too long; nothing was added then. I/O: nothing of what
    /// was not committed is left then.
    pub fn append(&mut self, now_s: u64, act: Act, stage: Stage) -> Result<u64, LogError> {
        self.mend()?;
        let number = self.end.size();
        let mut line = self.end.append(now_s, act, stage)?;
        let hash = leaf_hash(&line);
        line.push(b'\n');
        let at = self.bytes + self.pending.len() as u64;
        self.pending.extend_from_slice(&line);
        let pushed = self
            .offsets
            .push(at.to_le_bytes())
            .and_then(|()| self.nodes.push(number, hash))
            .map_err(io(&self.folder));
        self.is_torn = pushed.is_err();
        pushed.map(|()| number)
    }

    /// Cuts off what a failed write has left behind what is kept. Nobody has heard of it.
    fn mend(&mut self) -> Result<(), LogError> {
        if !self.is_torn {
            return Ok(());
        }
        self.forget();
        self.log
            .set_len(self.bytes)
            .and_then(|()| self.log.sync_data())
            .map_err(io(&self.folder.join("log")))?;
        let size = self.end.size();
        self.offsets
            .truncate(size)
            .and_then(|()| self.nodes.truncate(size))
            .map_err(io(&self.folder))?;
        self.is_torn = false;
        tracing::info!("the audit log is written again, from entry {size} on");
        Ok(())
    }

    /// Nothing was added since the last commit.
    fn forget(&mut self) {
        self.end = self.kept.clone();
        self.pending.clear();
    }

    /// Makes everything that was added last. Where the disk is full, room that was reserved for
    /// this is given free first.
    ///
    /// # Errors
    /// I/O; then nothing of what was added since the last commit is in the log, and nobody may hear
    /// of it. The log goes on by itself as soon as it can be written.
    pub fn commit(&mut self) -> Result<(), LogError> {
        self.mend()?;
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut written = self.write_pending();
        if written.is_err() && self.reserve.give_free() {
            written = self.write_pending();
        }
        if let Err(e) = written {
            self.is_torn = true;
            self.forget();
            // As soon as possible: half a line is nothing that anybody should find.
            self.mend().ok();
            return Err(e);
        }
        self.bytes += self.pending.len() as u64;
        self.pending.clear();
        self.kept = self.end.clone();
        self.reserve.hold();
        Ok(())
    }

    fn write_pending(&mut self) -> Result<(), LogError> {
        let written =
            self.log.write_all_at(&self.pending, self.bytes).and_then(|()| self.log.sync_data());
        written.map_err(io(&self.folder.join("log")))?;
        self.write_derived()
    }

    /// Hands to the kernel what is made of the log.
    fn write_derived(&mut self) -> Result<(), LogError> {
        self.offsets.write().and_then(|()| self.nodes.write()).map_err(io(&self.folder))
    }

    /// Keeps a signed statement. Offsets and hashes up to it are on the disk first: they are
    /// believed as far as it goes.
    ///
    /// # Errors
    /// I/O.
    pub fn keep_checkpoint(&self, note: &str) -> Result<(), LogError> {
        for file in self.nodes.levels.iter().map(|level| &level.file).chain([&self.offsets.file]) {
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
        Ok(u64::from_le_bytes(self.offsets.get(number)?))
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
