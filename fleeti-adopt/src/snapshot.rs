//! What was read from a system: plain data, so that everything that is decided from it can be
//! tested without a system.

use std::collections::{BTreeMap, BTreeSet};

/// Files, owners and directories of a system.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// What is below `/etc` and in other places of configuration, by absolute path.
    pub entries: BTreeMap<String, Entry>,
    /// The database of dpkg.
    pub status: String,
    /// The database of apt: which packages are dependencies only.
    pub extended_states: String,
    /// Packages by the paths that they own.
    pub owned: BTreeMap<String, String>,
    /// Names of the packages in the lists of apt; `None` if there are no lists that can be read.
    pub archive: Option<BTreeSet<String>>,
    /// Words of the maintainer scripts that create accounts.
    pub account_words: BTreeSet<String>,
    /// Directories with data.
    pub data: Vec<DataDirectory>,
    /// What could not be read, and why.
    pub gaps: Vec<Gap>,
}

/// A file, a link or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File(Content),
    /// A symbolic link, with its target.
    Link(String),
    /// A directory.
    Directory,
    /// A device, a FIFO or a socket.
    Special,
}

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Content, with its MD5 digest in hexadecimal, as dpkg stores it.
    Bytes {
        /// Content.
        bytes: Vec<u8>,
        /// MD5 digest.
        md5: String,
    },
    /// The file is too large to be taken.
    TooLarge {
        /// Size, bytes.
        size: u64,
        /// MD5 digest; empty if the file is too large for that as well.
        md5: String,
    },
    /// The file could not be read.
    Unreadable(String),
}

/// A directory with data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDirectory {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Number of files that no package owns.
    pub files: u64,
    /// Their size, bytes.
    pub bytes: u64,
    /// There are more files than were counted.
    pub is_cut: bool,
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Path.
    pub path: String,
    /// Why.
    pub why: String,
}

impl Entry {
    /// Whether every user may read it.
    pub(crate) fn is_public(&self) -> bool {
        self.mode & 0o004 != 0
    }

    pub(crate) fn md5(&self) -> Option<&str> {
        match &self.kind {
            Kind::File(Content::Bytes { md5, .. } | Content::TooLarge { md5, .. }) => Some(md5),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::File(Content::Bytes { bytes, .. }) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

impl Snapshot {
    /// The text of a file; `None` if the file is missing, was not kept or is not UTF-8.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.entries.get(path)?.text()
    }

    /// The content of a file.
    pub(crate) fn bytes(&self, path: &str) -> Option<&[u8]> {
        match &self.entries.get(path)?.kind {
            Kind::File(Content::Bytes { bytes, .. }) => Some(bytes),
            _ => None,
        }
    }

    /// The entries below a directory, with their path relative to it.
    pub(crate) fn below<'a>(
        &'a self,
        directory: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str, &'a Entry)> {
        self.entries
            .range::<str, _>((std::ops::Bound::Excluded(directory), std::ops::Bound::Unbounded))
            .take_while(move |(path, _)| path.starts_with(directory))
            .filter_map(move |(path, entry)| {
                let rest = path.strip_prefix(directory)?.strip_prefix('/')?;
                Some((path.as_str(), rest, entry))
            })
    }

    /// The texts of the files directly in a directory whose names have a suffix, sorted by name.
    pub(crate) fn texts<'a>(
        &'a self,
        directory: &'a str,
        suffix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.below(directory)
            .filter(move |(_, rest, _)| rest.ends_with(suffix) && !rest.contains('/'))
            .filter_map(|(path, _, entry)| Some((path, entry.text()?)))
    }
}

#[cfg(test)]
pub(crate) mod made {
    //! Snapshots that tests make.

    use super::{Content, Entry, Kind, Snapshot};

    impl Snapshot {
        /// With a file, mode 0644, owned by root.
        pub(crate) fn with(self, path: &str, text: &str) -> Self {
            self.with_file(path, text.as_bytes(), 0o644)
        }
        pub(crate) fn with_file(mut self, path: &str, bytes: &[u8], mode: u32) -> Self {
            let md5 = crate::tree::md5_hex(bytes);
            let kind = Kind::File(Content::Bytes { bytes: bytes.to_vec(), md5 });
            self.entries.insert(path.to_owned(), Entry { kind, mode, uid: 0, gid: 0 });
            self
        }
        pub(crate) fn with_link(mut self, path: &str, target: &str) -> Self {
            let kind = Kind::Link(target.to_owned());
            self.entries.insert(path.to_owned(), Entry { kind, mode: 0o777, uid: 0, gid: 0 });
            self
        }
        pub(crate) fn with_owner(mut self, path: &str, package: &str) -> Self {
            self.owned.insert(path.to_owned(), package.to_owned());
            self
        }
    }
}
