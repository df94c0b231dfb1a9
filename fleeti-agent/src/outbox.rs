//! Messages to the server, stored on the data partition until the server has acknowledged them.

use crate::{kept, write_durably};
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Maximum number of waiting messages; above it, the oldest message that may be dropped is dropped.
pub const MESSAGES_MAX: usize = 256;

/// A waiting message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Its position in the order.
    pub number: u64,
    /// As in `report`.
    pub leaf: String,
    /// Bytes.
    pub payload: Vec<u8>,
    path: PathBuf,
}

/// Messages in order, one file each: `<number>.<leaf>`.
pub struct Outbox {
    dir: PathBuf,
    next: AtomicU64,
}

impl Outbox {
    /// Opens the folder, and creates it if necessary.
    ///
    /// # Errors
    /// I/O.
    pub fn open(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let outbox = Self { dir: dir.to_owned(), next: AtomicU64::new(1) };
        let last = outbox.names()?.last().map_or(0, |(n, _)| *n);
        outbox.next.store(last + 1, Ordering::Relaxed);
        Ok(outbox)
    }

    fn names(&self) -> Result<Vec<(u64, String)>> {
        let mut names: Vec<_> = fs::read_dir(&self.dir)?
            .flatten()
            .filter_map(|e| {
                let name = e.file_name().into_string().ok()?;
                let (number, leaf) = name.split_once('.')?;
                let is_message = !leaf.is_empty()
                    && leaf.bytes().all(|b| b.is_ascii_lowercase())
                    && !["new", "why"].contains(&leaf);
                is_message.then_some((number.parse().ok()?, leaf.to_owned()))
            })
            .collect();
        names.sort();
        Ok(names)
    }

    /// Stores a message. With `replaces`, older ones of the same leaf are dropped: only the newest
    /// state matters.
    ///
    /// # Errors
    /// I/O.
    pub fn push(&self, leaf: &str, payload: &[u8], replaces: bool) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let old = self.names()?;
        write_durably(&self.dir.join(format!("{number:016}.{leaf}")), payload)?;
        let crowded = old.len() >= MESSAGES_MAX;
        for (n, l) in &old {
            if (replaces && l == leaf) || (crowded && l == "telemetry") {
                fs::remove_file(self.dir.join(format!("{n:016}.{l}"))).ok();
            }
        }
        Ok(())
    }

    /// The oldest message.
    ///
    /// # Errors
    /// I/O.
    pub fn first(&self) -> Result<Option<Message>> {
        for (number, leaf) in self.names()? {
            let path = self.dir.join(format!("{number:016}.{leaf}"));
            // An unreadable message must not block the others.
            if let Some(payload) = kept::read(&path, |bytes| Ok(bytes.to_vec())) {
                return Ok(Some(Message { number, payload, leaf, path }));
            }
        }
        Ok(None)
    }

    /// Deletes every message of a leaf.
    ///
    /// # Errors
    /// I/O.
    pub fn forget(&self, leaf: &str) -> Result<()> {
        for (number, found) in self.names()?.iter().filter(|(_, l)| l == leaf) {
            fs::remove_file(self.dir.join(format!("{number:016}.{found}"))).ok();
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
        outbox.push("ack", b"1", false).unwrap();
        outbox.push("report", b"old", true).unwrap();
        outbox.push("report", b"new", true).unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        outbox.push("ack", b"2", false).unwrap();
        outbox.push("evidence", b"3", true).unwrap();
        outbox.forget("evidence").unwrap();
        let mut seen = Vec::new();
        while let Some(m) = outbox.first().unwrap() {
            seen.push((m.leaf.clone(), m.payload.clone()));
            outbox.done(&m);
        }
        let expected = [("ack", "1"), ("report", "new"), ("ack", "2")];
        assert_eq!(seen, expected.map(|(l, p)| (l.to_owned(), p.as_bytes().to_vec())));
    }
}
