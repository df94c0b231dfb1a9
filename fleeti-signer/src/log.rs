//! The audit log on a disk.
//!
//! ```text
//! DIR/log            one entry per line; the authoritative file
//! DIR/checkpoint     the last signed checkpoint
//! DIR/offsets        offset of each line, 8 bytes little-endian
//! DIR/level-NN       hashes of complete subtrees, 32 bytes each
//! DIR/reserve        space for about ten thousand entries, freed when the disk is full
//! ```
//!
//! `offsets` and `level-NN` are derived from the log, and rebuilt if they do not lead to the
//! checkpoint. Entries of [`AuditLog::append`] are on disk when [`AuditLog::commit`] returns: one
//! write to each file and one flush for any number of entries.

use crate::reserve::Reserve;
use fleeti_pki::audit::{Act, Defect, End, Stage};
use fleeti_pki::transparency::note::{LogKey, VerifiedCheckpoint};
use fleeti_pki::transparency::tree::{self, Hash, Nodes, leaf_hash};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Levels of a tree that fits on a disk.
const LEVELS: u32 = 48;
/// Maximum number of buffered records of a file.
const PENDING_MAX: usize = 1 << 14;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// I/O error of a file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// The log was changed by another party.
    #[error("the audit log in {path} was tampered with: {source}")]
    Defect {
        /// Folder of the log.
        path: PathBuf,
        /// The defect.
        source: Defect,
    },
    /// An invalid entry or checkpoint.
    #[error(transparent)]
    Pki(#[from] fleeti_pki::Error),
    /// The entry does not exist.
    #[error("the audit log has {size} entries, and no entry {number}")]
    NoEntry {
        /// The requested number.
        number: u64,
        /// Number of entries.
        size: u64,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> LogError {
    let path = path.to_owned();
    |source| LogError::Io { path, source }
}

/// A file of records of `N` bytes that grows at its end. Reads include records that are pushed and
/// not yet written.
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
    /// Writes the pushed records to the file, without a flush.
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

/// The audit log of a signing service.
pub struct AuditLog {
    folder: PathBuf,
    log: File,
    offsets: Records<8>,
    nodes: NodeFiles,
    end: End,
    bytes: u64,
    /// Appended bytes that are not on disk yet.
    pending: Vec<u8>,
    /// End of the log on disk, after the last [`AuditLog::commit`].
    kept: End,
    /// A write has failed: truncate to `kept` before the next append.
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
    /// Opens a log, or creates one. Reads and checks what follows the checkpoint. An unfinished
    /// last line was never acknowledged and is removed.
    ///
    /// # Errors
    /// [`LogError::Defect`] if the log does not lead to its checkpoint; then nothing may be signed.
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
        // Truncate only after the check: a log that was tampered with stays as it is.
        log.log.set_len(log.bytes).map_err(io(&folder.join("log")))?;
        fleeti_files::sync(folder).map_err(io(folder))?;
        log.kept = log.end.clone();
        log.reserve.hold();
        Ok(log)
    }

    /// The folder of the log.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn stored_checkpoint(&self, key: &LogKey) -> Result<Option<VerifiedCheckpoint>, LogError> {
        let path = self.folder.join("checkpoint");
        match std::fs::read_to_string(&path) {
            Ok(note) => Ok(Some(key.verify(&note)?)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io(&path)(e)),
        }
    }

    /// Continues from the checkpoint, if offsets and hashes lead to it.
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
            // A page that a power cut kept from the disk reads as zeros, and no entry contains
            // zeros. Nothing from there on was acknowledged, because its flush did not return.
            if line.contains(&0) {
                break;
            }
            match line.pop() {
                Some(b'\n') => {}
                // Longer than an entry can be: not an unfinished write of this code.
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

    /// Adds an entry and returns its number. The entry counts only after [`Self::commit`].
    ///
    /// # Errors
    /// [`LogError::Pki`] for a text that is too long; then no entry was added. On I/O errors, all
    /// uncommitted entries are dropped.
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

    /// Removes what a failed write has left behind `kept`; none of it was acknowledged.
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
        tracing::info!("writing the audit log again, from entry {size} on");
        Ok(())
    }

    /// Drops the entries since the last commit.
    fn forget(&mut self) {
        self.end = self.kept.clone();
        self.pending.clear();
    }

    /// Makes all added entries durable. If the disk is full, it frees the reserved space first.
    ///
    /// # Errors
    /// On I/O errors, all entries since the last commit are dropped and must not be acknowledged.
    /// The log continues when it can be written again.
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
            // Truncate as soon as possible: no reader should find half a line.
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

    /// Writes the files that are derived from the log, without a flush.
    fn write_derived(&mut self) -> Result<(), LogError> {
        self.offsets.write().and_then(|()| self.nodes.write()).map_err(io(&self.folder))
    }

    /// Stores a signed checkpoint. First flushes offsets and hashes up to it, because the next
    /// start trusts them up to the checkpoint.
    ///
    /// # Errors
    /// I/O.
    pub fn keep_checkpoint(&self, note: &str) -> Result<(), LogError> {
        for file in self.nodes.levels.iter().map(|level| &level.file).chain([&self.offsets.file]) {
            file.sync_data().map_err(io(&self.folder))?;
        }
        let path = self.folder.join("checkpoint");
        fleeti_files::write_durably(&path, note.as_bytes(), fleeti_files::PUBLIC).map_err(io(&path))
    }

    /// Number of entries, including those that are not on disk yet.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.end.size()
    }

    fn offset(&self, number: u64) -> std::io::Result<u64> {
        Ok(u64::from_le_bytes(self.offsets.get(number)?))
    }

    /// Lines of entries, at most `limit`.
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

    /// The root hash over the first `size` entries.
    ///
    /// # Errors
    /// I/O.
    pub fn root(&self, size: u64) -> Result<Hash, LogError> {
        tree::root(size, &self.nodes).map_err(io(&self.folder))
    }

    /// Inclusion proof of an entry in the first `size` entries.
    ///
    /// # Errors
    /// [`LogError::NoEntry`], I/O.
    pub fn inclusion(&self, number: u64, size: u64) -> Result<Vec<Hash>, LogError> {
        if number >= size || size > self.size() {
            return Err(LogError::NoEntry { number, size: size.min(self.size()) });
        }
        tree::inclusion(number, size, &self.nodes).map_err(io(&self.folder))
    }

    /// Consistency proof between the first `old` and the first `new` entries.
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
