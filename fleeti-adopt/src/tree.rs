//! Reads a system from its root directory.
//!
//! INVARIANT: no link leads out of the root, and nothing but regular files and directories is
//! opened. The tree may be foreign: paths are resolved by the kernel as in a chroot (openat2(2),
//! `RESOLVE_IN_ROOT`), a file is first opened as a path only, so that a FIFO does not block and a
//! device is not touched, and sizes and counts have limits.

use crate::snapshot::{Content, DataDirectory, Entry, Gap, Kind, Snapshot};
use md5::{Digest as _, Md5};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2,
    readlinkat, statat,
};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Largest file whose content is kept, bytes.
const FILE_MAX: u64 = 64 << 10;
/// Largest file whose digest is computed, bytes.
const DIGEST_MAX: u64 = 16 << 20;
/// Largest database of dpkg or list of apt, bytes.
const DATABASE_MAX: u64 = 256 << 20;
/// Maximum number of entries that are kept.
const ENTRIES_MAX: usize = 50_000;
/// Maximum size of all contents that are kept, bytes.
const TOTAL_MAX: usize = 64 << 20;
/// Maximum number of entries visited in one directory with data, including those of packages.
const COUNT_MAX: u64 = 200_000;
/// Maximum size of all contents that are read for their digests, bytes.
const READ_MAX: u64 = 256 << 20;
/// Why a file was not read.
pub(crate) const BEYOND: &str = "is beyond the 256 MiB that are read of all files together";
/// Maximum depth of directories.
const DEPTH_MAX: usize = 32;

/// A root directory.
pub(crate) struct Tree {
    root: OwnedFd,
    total: usize,
    /// What is left of [`READ_MAX`].
    read_left: u64,
    /// Number of files that were not read because nothing was left.
    beyond: usize,
}

/// The MD5 digest of a content, hexadecimal.
pub(crate) fn md5_hex(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

impl Tree {
    /// Opens a root directory.
    ///
    /// # Errors
    /// I/O: it does not exist or is not a directory.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, root, flags, Mode::empty())?;
        Ok(Self { root, total: 0, read_left: READ_MAX, beyond: 0 })
    }

    /// Resolves a path in the root, without opening what is there.
    fn locate(&self, path: &str) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = path.trim_start_matches('/');
        let path = if path.is_empty() { "." } else { path };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Ok(openat2(&self.root, path, flags, Mode::empty(), resolve)?)
    }

    /// A large text, such as a database of dpkg. Bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// I/O: it does not exist, is not a regular file or is too large.
    pub(crate) fn text(&self, path: &str) -> io::Result<String> {
        let located = self.locate(path)?;
        if FileType::from_raw_mode(fstat(&located)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("is not a regular file"));
        }
        let mut bytes = Vec::new();
        reopen(&located)?.take(DATABASE_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > DATABASE_MAX {
            return Err(io::Error::other("is too large"));
        }
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    /// The names in a directory, sorted; empty if the directory is missing or cannot be read.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let Ok(directory) = self.directory(path) else { return Vec::new() };
        names_in(&directory).map(|(names, _)| names).unwrap_or_default()
    }

    fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let located = self.locate(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(&located, c".", flags, Mode::empty())?)
    }

    /// Reads one path. The entry has this path also where a link leads to another one.
    pub(crate) fn read(&mut self, path: &str, snapshot: &mut Snapshot) {
        let entry = self.locate(path).and_then(|located| {
            let stat = fstat(&located)?;
            Ok(self.entry(&located, &stat))
        });
        match entry {
            Ok(entry) => {
                snapshot.entries.insert(path.to_owned(), entry);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => gap(path, &e.to_string(), snapshot),
        }
    }

    /// Reads everything below a directory. Links are not followed.
    pub(crate) fn walk(&mut self, path: &str, snapshot: &mut Snapshot) {
        match self.directory(path) {
            Ok(directory) => self.walk_in(&directory, path, snapshot, 0),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => gap(path, &e.to_string(), snapshot),
        }
    }

    fn walk_in(&mut self, directory: &OwnedFd, path: &str, snapshot: &mut Snapshot, depth: usize) {
        let names = match names_in(directory) {
            Ok((names, unreadable)) => {
                if unreadable > 0 {
                    let why =
                        format!("{unreadable} names are not UTF-8 or have control characters");
                    gap(path, &why, snapshot);
                }
                names
            }
            Err(e) => return gap(path, &e.to_string(), snapshot),
        };
        for name in names {
            let below = format!("{path}/{name}");
            if snapshot.entries.len() >= ENTRIES_MAX || depth > DEPTH_MAX {
                return gap(path, "there is more than is read", snapshot);
            }
            // The path alone is opened: no link, FIFO or device is.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = openat(directory, name.as_str(), flags, Mode::empty())
                .and_then(|located| Ok((fstat(&located)?, located)));
            let (stat, located) = match opened {
                Ok(opened) => opened,
                Err(e) => {
                    gap(&below, &e.to_string(), snapshot);
                    continue;
                }
            };
            let entry = self.entry(&located, &stat);
            let is_directory = entry.kind == Kind::Directory;
            snapshot.entries.insert(below.clone(), entry);
            if is_directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                match openat(&located, c".", flags, Mode::empty()) {
                    Ok(inner) => self.walk_in(&inner, &below, snapshot, depth + 1),
                    Err(e) => gap(&below, &e.to_string(), snapshot),
                }
            }
        }
    }

    fn entry(&mut self, located: &OwnedFd, stat: &Stat) -> Entry {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File(self.content(located, stat)),
            FileType::Directory => Kind::Directory,
            FileType::Symlink => match readlinkat(located, c"", Vec::new()) {
                Ok(target) => Kind::Link(target.to_string_lossy().into_owned()),
                Err(_) => Kind::Special,
            },
            _ => Kind::Special,
        };
        Entry { kind, mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid }
    }

    fn content(&mut self, located: &OwnedFd, stat: &Stat) -> Content {
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if size > DIGEST_MAX {
            return Content::TooLarge { size, md5: String::new() };
        }
        if self.read_left == 0 || size > self.read_left {
            self.beyond += 1;
            return Content::Unreadable(BEYOND.to_owned());
        }
        let mut bytes = Vec::new();
        let read = reopen(located).and_then(|file| file.take(DIGEST_MAX).read_to_end(&mut bytes));
        self.read_left = self.read_left.saturating_sub(bytes.len() as u64);
        if let Err(e) = read {
            return Content::Unreadable(e.to_string());
        }
        let md5 = md5_hex(&bytes);
        if bytes.len() as u64 > FILE_MAX || self.total + bytes.len() > TOTAL_MAX {
            return Content::TooLarge { size, md5 };
        }
        self.total += bytes.len();
        Content::Bytes { bytes, md5 }
    }

    /// A gap that counts the files that were not read because of [`READ_MAX`].
    pub(crate) fn beyond(&self) -> Option<Gap> {
        (self.beyond > 0).then(|| Gap {
            path: "files of this system".to_owned(),
            why: format!("{} of them are not read: each {BEYOND}", self.beyond),
        })
    }

    /// Counts the files of a directory that no package owns; `None` if a complete count finds no
    /// file.
    pub(crate) fn count(&self, path: &str, snapshot: &Snapshot) -> Option<DataDirectory> {
        self.count_at_most(path, snapshot, COUNT_MAX)
    }

    fn count_at_most(&self, path: &str, snapshot: &Snapshot, max: u64) -> Option<DataDirectory> {
        let directory = self.directory(path).ok()?;
        let stat = fstat(&directory).ok()?;
        let counted = DataDirectory {
            path: path.to_owned(),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            files: 0,
            bytes: 0,
            is_cut: false,
        };
        let mut counter = Counter { snapshot, counted, entries_left: max };
        counter.count_in(&directory, path, 0);
        let counted = counter.counted;
        (counted.files > 0 || counted.is_cut).then_some(counted)
    }
}

fn gap(path: &str, why: &str, snapshot: &mut Snapshot) {
    snapshot.gaps.push(Gap { path: path.to_owned(), why: why.to_owned() });
}

/// Opens a regular file that was located. The link below `/proc` leads to what was located, also if
/// its name leads to something else by now.
fn reopen(located: &OwnedFd) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", located.as_raw_fd()))
}

/// The names in a directory, sorted, and the number of those that are not plain text.
fn names_in(directory: &OwnedFd) -> io::Result<(Vec<String>, usize)> {
    let (mut names, mut unreadable) = (Vec::new(), 0);
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        match entry.file_name().to_str() {
            Ok("." | "..") => {}
            Ok(name) if !name.chars().any(char::is_control) => names.push(name.to_owned()),
            _ => unreadable += 1,
        }
        if names.len() > ENTRIES_MAX {
            return Err(io::Error::other("has too many entries"));
        }
    }
    names.sort_unstable();
    Ok((names, unreadable))
}

/// Counts the files of one directory.
struct Counter<'a> {
    snapshot: &'a Snapshot,
    counted: DataDirectory,
    entries_left: u64,
}

impl Counter<'_> {
    fn count_in(&mut self, directory: &OwnedFd, path: &str, depth: usize) {
        let Ok(entries) = Dir::read_from(directory) else {
            self.counted.is_cut = true;
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if self.entries_left == 0 {
                self.counted.is_cut = true;
                return;
            }
            self.entries_left -= 1;
            let below = format!("{path}/{}", name.to_string_lossy());
            let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if depth < DEPTH_MAX => {
                    let flags =
                        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    match openat(directory, name, flags, Mode::empty()) {
                        Ok(inner) => self.count_in(&inner, &below, depth + 1),
                        Err(_) => self.counted.is_cut = true,
                    }
                }
                // What is deeper is not counted.
                FileType::Directory => self.counted.is_cut = true,
                FileType::RegularFile if !self.snapshot.owned.contains_key(&below) => {
                    self.counted.files += 1;
                    self.counted.bytes = self
                        .counted
                        .bytes
                        .saturating_add(u64::try_from(stat.st_size).unwrap_or_default());
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn read(root: &Path) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let mut tree = Tree::open(root).unwrap();
        tree.walk("/etc", &mut snapshot);
        tree.read("/home/a/.ssh/authorized_keys", &mut snapshot);
        snapshot
    }

    #[test]
    fn no_link_leads_out_of_the_root() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "outside").unwrap();
        let root = outer.path().join("root");
        for folder in ["etc", "home/a/.ssh"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let secret = outer.path().join("secret");
        symlink(&secret, root.join("etc/absolute")).unwrap();
        symlink("../../secret", root.join("etc/relative")).unwrap();
        symlink(outer.path(), root.join("etc/directory")).unwrap();
        symlink("../../../../../secret", root.join("home/a/.ssh/authorized_keys")).unwrap();
        let snapshot = read(&root);
        assert!(!format!("{snapshot:?}").contains("outside"), "{snapshot:?}");
        assert!(matches!(snapshot.entries["/etc/absolute"].kind, Kind::Link(_)));
        assert!(!snapshot.entries.contains_key("/etc/directory/secret"));
        // A link to a directory that is walked itself.
        fs::remove_dir_all(root.join("etc")).unwrap();
        symlink(outer.path(), root.join("etc")).unwrap();
        assert!(!format!("{:?}", read(&root)).contains("outside"));
        let tree = Tree::open(&root).unwrap();
        assert!(tree.text("/etc/secret").is_err() && tree.count("/etc", &read(&root)).is_none());
    }

    #[test]
    fn a_fifo_does_not_block_and_a_large_file_is_not_kept() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::create_dir_all(root.path().join("home/a/.ssh")).unwrap();
        for fifo in ["etc/fifo", "home/a/.ssh/authorized_keys"] {
            let mode = Mode::from_raw_mode(0o644);
            rustix::fs::mknodat(CWD, root.path().join(fifo), FileType::Fifo, mode, 0).unwrap();
        }
        let too_large = usize::try_from(FILE_MAX).unwrap() + 1;
        fs::write(root.path().join("etc/large"), "x".repeat(too_large)).unwrap();
        let sparse = File::create(root.path().join("etc/sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let snapshot = read(root.path());
        assert_eq!(snapshot.entries["/etc/fifo"].kind, Kind::Special);
        assert_eq!(snapshot.entries["/home/a/.ssh/authorized_keys"].kind, Kind::Special);
        for (name, is_digested) in [("large", true), ("sparse", false)] {
            let kind = &snapshot.entries[&format!("/etc/{name}")].kind;
            let Kind::File(Content::TooLarge { md5, .. }) = kind else { panic!("{kind:?}") };
            assert_eq!(!md5.is_empty(), is_digested, "{name}");
        }
        assert!(Tree::open(root.path()).unwrap().text("/etc/fifo").is_err());
    }

    #[test]
    fn a_name_that_is_not_plain_text_is_a_gap() {
        use std::os::unix::ffi::OsStrExt;
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        fs::create_dir(&etc).unwrap();
        for name in [&b"a\xff"[..], b"a\x1b[2J", b"a\nb"] {
            fs::write(etc.join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
        }
        let snapshot = read(root.path());
        assert!(snapshot.entries.is_empty(), "{snapshot:?}");
        assert_eq!(snapshot.gaps.len(), 1);
        assert!(snapshot.gaps[0].why.starts_with("3 names"), "{snapshot:?}");
    }

    #[test]
    fn files_of_a_directory_are_counted_without_those_of_packages() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("var/lib/x/y")).unwrap();
        fs::write(root.path().join("var/lib/x/y/a"), "12345").unwrap();
        fs::write(root.path().join("var/lib/x/b"), "of a package").unwrap();
        symlink("/", root.path().join("var/lib/x/loop")).unwrap();
        let snapshot = Snapshot::default().with_owner("/var/lib/x/b", "x");
        let tree = Tree::open(root.path()).unwrap();
        let counted = tree.count("/var/lib/x", &snapshot).unwrap();
        assert_eq!((counted.files, counted.bytes, counted.is_cut), (1, 5, false));
        assert_eq!(tree.count("/var/lib/none", &snapshot), None);
    }

    #[test]
    fn each_entry_of_a_directory_with_data_counts_also_if_no_file_does() {
        let root = tempfile::tempdir().unwrap();
        // Directories, links and files of packages.
        let data = root.path().join("var/lib/x");
        fs::create_dir_all(data.join("a/b")).unwrap();
        fs::write(data.join("a/owned"), "of a package").unwrap();
        symlink("/", data.join("a/loop")).unwrap();
        let snapshot = Snapshot::default().with_owner("/var/lib/x/a/owned", "x");
        let tree = Tree::open(root.path()).unwrap();
        assert_eq!(tree.count_at_most("/var/lib/x", &snapshot, 4), None);
        let counted = tree.count_at_most("/var/lib/x", &snapshot, 3).unwrap();
        assert_eq!((counted.files, counted.is_cut), (0, true));
    }

    #[test]
    fn files_beyond_what_is_read_in_total_are_named_and_counted() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        for name in ["a", "b", "c"] {
            fs::write(root.path().join("etc").join(name), "123456").unwrap();
        }
        let mut tree = Tree::open(root.path()).unwrap();
        assert_eq!(tree.beyond(), None);
        tree.read_left = 10;
        let mut snapshot = Snapshot::default();
        tree.walk("/etc", &mut snapshot);
        assert_eq!(snapshot.text("/etc/a"), Some("123456"));
        for path in ["/etc/b", "/etc/c"] {
            let kind = &snapshot.entries[path].kind;
            assert_eq!(*kind, Kind::File(Content::Unreadable(BEYOND.to_owned())));
        }
        assert!(tree.beyond().unwrap().why.starts_with("2 of them"), "{:?}", tree.beyond());
    }
}
