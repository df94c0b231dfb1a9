//! Messages to the server, stored on the data partition until the server has acknowledged them.

use crate::{kept, write_durably};
use anyhow::Result;
use fleeti_core::wire::mqtt::Up;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Maximum number of waiting messages; above it, the oldest message that may be dropped is dropped.
pub const MESSAGES_MAX: usize = 256;

/// A waiting message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Its position in the order.
    pub number: u64,
    /// What it is, which gives its topic.
    pub kind: Up,
    /// Bytes.
    pub payload: Vec<u8>,
    path: PathBuf,
}

/// Messages in order, one file each: `<number>.<kind>`.
pub struct Outbox {
    dir: PathBuf,
    next: AtomicU64,
    /// A message was stored.
    pub changed: Notify,
}

/// Whether a newer message of a kind makes older ones useless: it states a whole state.
const fn replaces(kind: Up) -> bool {
    match kind {
        Up::Report | Up::Telemetry | Up::Evidence => true,
        Up::Acknowledgement => false,
    }
}

impl Outbox {
    /// Opens the folder, and creates it if necessary.
    ///
    /// # Errors
    /// I/O.
    pub fn open(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let outbox = Self { dir: dir.to_owned(), next: AtomicU64::new(1), changed: Notify::new() };
        let last = outbox.messages()?.last().map_or(0, |(n, _)| *n);
        outbox.next.store(last + 1, Ordering::Relaxed);
        Ok(outbox)
    }

    fn messages(&self) -> Result<Vec<(u64, Up)>> {
        let mut names: Vec<_> = fs::read_dir(&self.dir)?
            .flatten()
            .filter_map(|e| {
                let name = e.file_name().into_string().ok()?;
                let (number, kind) = name.split_once('.')?;
                Some((number.parse().ok()?, Up::named(kind)?))
            })
            .collect();
        names.sort();
        Ok(names)
    }

    fn path(&self, number: u64, kind: Up) -> PathBuf {
        self.dir.join(format!("{number:016}.{}", kind.name()))
    }

    /// Stores a message. A state replaces the older messages of its kind.
    ///
    /// # Errors
    /// I/O.
    pub fn push(&self, kind: Up, payload: &[u8]) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let older = self.messages()?;
        write_durably(&self.path(number, kind), payload)?;
        let crowded = older.len() >= MESSAGES_MAX;
        for (number, other) in older {
            if (replaces(kind) && other == kind) || (crowded && other == Up::Telemetry) {
                fs::remove_file(self.path(number, other)).ok();
            }
        }
        self.changed.notify_one();
        Ok(())
    }

    /// The oldest message.
    ///
    /// # Errors
    /// I/O.
    pub fn first(&self) -> Result<Option<Message>> {
        for (number, kind) in self.messages()? {
            let path = self.path(number, kind);
            // An unreadable message must not block the others.
            if let Some(payload) = kept::read(&path, |bytes| Ok(bytes.to_vec())) {
                return Ok(Some(Message { number, payload, kind, path }));
            }
        }
        Ok(None)
    }

    /// Deletes every message of a kind.
    ///
    /// # Errors
    /// I/O.
    pub fn forget(&self, kind: Up) -> Result<()> {
        for (number, _) in self.messages()?.iter().filter(|(_, other)| *other == kind) {
            fs::remove_file(self.path(*number, kind)).ok();
        }
        Ok(())
    }

    /// Deletes a message that the server has acknowledged.
    pub fn done(&self, message: &Message) {
        // A newer message may have replaced it meanwhile.
        fs::remove_file(&message.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_a_restart_in_order_and_states_replace_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        outbox.push(Up::Acknowledgement, b"1").unwrap();
        outbox.push(Up::Report, b"old").unwrap();
        outbox.push(Up::Report, b"new").unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        outbox.push(Up::Acknowledgement, b"2").unwrap();
        outbox.push(Up::Evidence, b"3").unwrap();
        outbox.forget(Up::Evidence).unwrap();
        let mut seen = Vec::new();
        while let Some(m) = outbox.first().unwrap() {
            seen.push((m.kind, m.payload.clone()));
            outbox.done(&m);
        }
        let expected =
            [(Up::Acknowledgement, "1"), (Up::Report, "new"), (Up::Acknowledgement, "2")];
        assert_eq!(seen, expected.map(|(kind, p)| (kind, p.as_bytes().to_vec())));
    }
}
