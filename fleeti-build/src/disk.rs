//! Makes the disk of one device: the unsigned disk of a build, with signed EFI binaries and
//! optionally the enrollment record on its ESP. This happens outside Nix, because signatures and
//! records are not a function of the inputs.

use crate::build::copy_sparse;
use crate::error::BuildError;
use crate::record::BuildRecord;
use fatfs::{FileSystem, FsOptions};
use fleeti_core::wire::boot::{BootSignatures, VariableWrite};
use fleeti_core::wire::enrollment::{ESP_FILE, EnrollmentRecord};
use fleeti_pki::{authenticode, uefi};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const SECTOR: u64 = 512;
/// Partition type of an ESP (UEFI 2.10, table 5.7), in the byte order of GPT.
const ESP_TYPE: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];

/// Why a disk could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The build could not be read.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A signature in the device's bundle is wrong.
    #[error("the device's bundle: {0}")]
    Bundle(String),
    /// A signature cannot be attached to an EFI binary.
    #[error(transparent)]
    Pki(#[from] fleeti_pki::Error),
    /// The disk has no ESP.
    #[error("{0} has no EFI system partition")]
    NoEsp(PathBuf),
}

/// A range of a file, used like a file.
struct Window {
    file: File,
    start: u64,
    length: u64,
    at: u64,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.length - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read(&mut buffer[..room])?;
        self.at += n as u64;
        Ok(n)
    }
}
impl Write for Window {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let room = usize::try_from(self.length - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.write(&buffer[..room])?;
        self.at += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::End(n) => self.length.checked_add_signed(n),
            SeekFrom::Current(n) => self.at.checked_add_signed(n),
        };
        self.at = target.filter(|t| *t <= self.length).ok_or(io::ErrorKind::InvalidInput)?;
        self.file.seek(SeekFrom::Start(self.start + self.at))?;
        Ok(self.at)
    }
}

/// The ESP of a disk image.
pub struct Esp(FileSystem<Window>);

impl Esp {
    /// Opens the ESP of a disk image.
    ///
    /// # Errors
    /// [`DiskError::NoEsp`] if the GPT has none.
    pub fn open(disk: &Path) -> Result<Self, DiskError> {
        let io = |source| DiskError::Io { path: disk.to_owned(), source };
        let mut file = OpenOptions::new().read(true).write(true).open(disk).map_err(io)?;
        let (start, length) =
            find_esp(&mut file).map_err(io)?.ok_or_else(|| DiskError::NoEsp(disk.to_owned()))?;
        let mut window = Window { file, start, length, at: 0 };
        window.seek(SeekFrom::Start(0)).map_err(io)?;
        FileSystem::new(window, FsOptions::new()).map(Self).map_err(io)
    }

    /// Writes a file and creates its directories.
    ///
    /// # Errors
    /// I/O errors, also if the ESP is full.
    pub fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut folder = self.0.root_dir();
        let mut parts: Vec<_> = path.split('/').collect();
        let name = parts.pop().unwrap_or_default();
        for part in parts {
            folder = folder.create_dir(part)?;
        }
        let mut file = folder.create_file(name)?;
        file.truncate()?;
        file.write_all(bytes)?;
        file.flush()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// I/O errors, also if the file does not exist.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.0.root_dir().open_file(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// I/O errors, also if the file does not exist.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        self.0.root_dir().remove(path)
    }

    /// Lists a directory.
    ///
    /// # Errors
    /// I/O errors, also if the directory does not exist.
    pub fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = self.0.root_dir().open_dir(folder)?;
        entries
            .iter()
            .map(|e| e.map(|e| e.file_name()))
            .filter(|n| !matches!(n.as_deref(), Ok("." | "..")))
            .collect()
    }
}

/// A range of a disk, bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// For example `partition 2 (kiosk_1)`.
    pub(crate) name: String,
    pub(crate) start: u64,
    /// Offset after the last byte.
    pub(crate) end: u64,
    is_esp: bool,
}

/// The partitions of a disk (UEFI 2.10, 5.3), ordered by offset; empty without a GPT.
fn partitions(file: &mut File) -> io::Result<Vec<Piece>> {
    let mut header = [0u8; 92];
    file.seek(SeekFrom::Start(SECTOR))?;
    file.read_exact(&mut header)?;
    let u64_at =
        |b: &[u8], at: usize| u64::from_le_bytes(b[at..at + 8].try_into().unwrap_or_default());
    let u32_at =
        |b: &[u8], at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap_or_default());
    let (entries, count, size) = (u64_at(&header, 72), u32_at(&header, 80), u32_at(&header, 84));
    if &header[..8] != b"EFI PART" || !(128..=4096).contains(&size) {
        return Ok(vec![]);
    }
    file.seek(SeekFrom::Start(entries.saturating_mul(SECTOR)))?;
    let (mut entry, mut found) = (vec![0u8; size as usize], Vec::new());
    for number in 1..=count.min(256) {
        file.read_exact(&mut entry)?;
        let (start, last) = (u64_at(&entry, 32), u64_at(&entry, 40));
        let range =
            start.checked_mul(SECTOR).zip(last.checked_add(1).and_then(|n| n.checked_mul(SECTOR)));
        let Some((start, end)) = range.filter(|(start, end)| entry[..16] != [0; 16] && start < end)
        else {
            continue;
        };
        let units: Vec<_> = entry[56..128]
            .chunks_exact(2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]))
            .take_while(|u| *u != 0)
            .collect();
        let name = format!("partition {number} ({})", String::from_utf16_lossy(&units));
        found.push(Piece { name, start, end, is_esp: entry[..16] == ESP_TYPE });
    }
    found.sort_by_key(|piece| piece.start);
    Ok(found)
}

/// Offset and length of the ESP, bytes.
fn find_esp(file: &mut File) -> io::Result<Option<(u64, u64)>> {
    Ok(partitions(file)?
        .into_iter()
        .find(|piece| piece.is_esp)
        .map(|piece| (piece.start, piece.end - piece.start)))
}

/// Divides a disk of `length` bytes into its partitions and the ranges outside of them, without
/// gaps.
///
/// # Errors
/// I/O errors.
pub(crate) fn pieces(file: &mut File, length: u64) -> io::Result<Vec<Piece>> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    let outside = |start: u64, end: u64| Piece {
        name: "outside of partitions".to_owned(),
        start,
        end,
        is_esp: false,
    };
    for partition in partitions(file)?.into_iter().filter(|p| p.end <= length) {
        // A partition that overlaps the previous one is read from the end of that one.
        let start = partition.start.max(at);
        if at < start {
            pieces.push(outside(at, start));
        }
        if start < partition.end {
            at = partition.end;
            pieces.push(Piece { start, ..partition });
        }
    }
    if at < length {
        pieces.push(outside(at, length));
    }
    Ok(pieces)
}

/// The bytes of a range.
///
/// # Errors
/// I/O errors.
pub(crate) fn part<'a>(file: &'a mut File, piece: &Piece) -> io::Result<io::Take<&'a mut File>> {
    file.seek(SeekFrom::Start(piece.start))?;
    Ok(file.take(piece.end - piece.start))
}

/// ESP directory from which systemd-boot enrolls keys (systemd-boot(7)).
const AUTO_ENROLL: &str = "loader/keys/auto";
const LOADER_CONF: &str = "loader/loader.conf";

/// What is specific to the disk of one device.
#[derive(Debug, Default)]
pub struct Personal<'a> {
    /// The enrollment record, written to the ESP.
    pub record: Option<&'a EnrollmentRecord>,
    /// Writes of Secure Boot variables, stored on the ESP. systemd-boot applies them at the first
    /// boot if the firmware is in setup mode.
    pub writes: &'a [VariableWrite],
    /// Signatures, attached to the EFI binaries.
    pub signatures: BootSignatures,
}

/// Makes the disk of a device from a build and its signed release.
///
/// # Errors
/// [`DiskError`].
pub fn create(
    build: &Path,
    release: &Path,
    out: &Path,
    size: Option<u64>,
    personal: &Personal<'_>,
) -> Result<(), DiskError> {
    let built = BuildRecord::read(build)?;
    copy_sparse(&build.join("disk.raw"), out)?;
    let io = |path: &Path| {
        let path = path.to_owned();
        |source| DiskError::Io { path, source }
    };
    if let Some(size) = size {
        let file = OpenOptions::new().write(true).open(out).map_err(io(out))?;
        let now = file.metadata().map_err(io(out))?.len();
        file.set_len(size.max(now)).map_err(io(out))?;
    }
    if personal.record.is_some() {
        // The record contains a token, so the image is as secret as the record.
        fs::set_permissions(out, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .map_err(io(out))?;
    }
    let (line, version) = (&built.release.line, &built.release.version);
    let esp = Esp::open(out)?;
    let binary = |name: String| -> Result<Vec<u8>, DiskError> {
        let path = release.join("raw").join(&name);
        let bytes = fs::read(&path).map_err(io(&path))?;
        match personal.signatures.binaries.get(&format!("raw/{name}")) {
            None => Ok(bytes),
            Some(signature) => Ok(authenticode::attach(&bytes, &decoded(signature)?)?),
        }
    };
    let boot_loader = binary("systemd-boot.efi".into())?;
    let uki = binary(format!("{line}_{version}.efi"))?;
    let mut files = vec![
        ("EFI/BOOT/BOOTX64.EFI".to_owned(), boot_loader.clone()),
        ("EFI/systemd/systemd-bootx64.efi".to_owned(), boot_loader),
        (format!("EFI/Linux/{line}_{version}+3.efi"), uki),
    ];
    if let Some(record) = personal.record {
        let text = serde_json::to_vec(record)
            .map_err(|e| DiskError::Io { path: out.to_owned(), source: e.into() })?;
        files.push((ESP_FILE.to_owned(), text));
    }
    for write in personal.writes {
        files.push((
            format!("{AUTO_ENROLL}/{}.auth", uefi::name(write.variable)),
            decoded(&write.auth)?,
        ));
    }
    if !personal.writes.is_empty() {
        let mut text = esp.read(LOADER_CONF).map_err(io(out))?;
        // Also on physical machines: by default systemd-boot enrolls keys only in virtual ones.
        text.extend_from_slice(b"secure-boot-enroll force\n");
        files.push((LOADER_CONF.to_owned(), text));
    }
    for (path, bytes) in files {
        esp.write(&path, &bytes).map_err(io(out))?;
    }
    Ok(())
}

fn decoded(text: &str) -> Result<Vec<u8>, DiskError> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|e| DiskError::Bundle(e.to_string()))
}
