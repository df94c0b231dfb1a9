//! The package lock: exactly which Debian packages an image is made of.
//!
//! Resolved with Debian's own apt in a private directory (the host's packages and sources are never
//! touched), with an empty dpkg status, so that every closure is complete. The mirror comes from apt's
//! own configuration and is not part of the lock. Packages leave a mirror when they are superseded;
//! every one is therefore kept by digest in the [`Cache`].

use crate::cache::Cache;
use fleeti_core::canonical;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Debian suite of the base.
pub const SUITE: &str = "trixie";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where apt finds Debian when the host's configuration names no mirror of it.
const MIRROR_DEFAULT: &str = "http://deb.debian.org/debian/";

/// Which packages, by what they are for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// As in `trixie`.
    pub suite: String,
    /// dpkg's name of the architecture.
    pub architecture: String,
    /// Requested names, by set: what a lock must be refreshed for when it changes.
    pub requested: BTreeMap<String, Vec<String>>,
    /// The complete closures, by set, sorted by name.
    pub sets: BTreeMap<String, Vec<Package>>,
}

/// One package, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// As in `bash`.
    pub name: String,
    /// As in `5.2.37-2+b5`.
    pub version: String,
    /// SHA-256 of the .deb, hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Path below the mirror.
    pub path: String,
}

/// Why there is no usable lock.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// A program could not be run or failed.
    #[error("{program} failed: {detail}")]
    Program {
        /// Which.
        program: &'static str,
        /// Its last words.
        detail: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a lock.
    #[error("{path} is not a package lock: {source}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// apt printed something that is not understood.
    #[error("apt printed {0:?}, which is not a package with a SHA-256")]
    AptOutput(String),
    /// Packages that neither the cache nor the mirror has.
    #[error("{} of the lock's packages are neither in the cache nor on the mirror: {}", .0.len(), .0.join(", "))]
    Gone(Vec<String>),
    /// A download is not what the lock says.
    #[error("{name}: the mirror's file has SHA-256 {found}, the lock says {expected}")]
    Digest {
        /// Which package.
        name: String,
        /// What came.
        found: String,
        /// What the lock says.
        expected: String,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> LockError {
    let path = path.to_owned();
    |source| LockError::Io { path, source }
}

impl Lock {
    /// Reads a lock file.
    ///
    /// # Errors
    /// [`LockError::Io`], [`LockError::Malformed`].
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let bytes = fs::read(path).map_err(io(path))?;
        serde_json::from_slice(&bytes).map_err(|source| LockError::Malformed { path: path.to_owned(), source })
    }

    /// Writes a lock file, for people to read and commit.
    ///
    /// # Errors
    /// [`LockError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|e| LockError::Io { path: path.to_owned(), source: e.into() })?;
        text.push(b'\n');
        crate::write_atomically(path, &text).map_err(io(path))
    }

    /// SHA-256 of the canonical JSON, hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        canonical::to_vec(self).map(|b| canonical::sha256_hex(&b)).unwrap_or_default()
    }

    /// The packages of a set.
    #[must_use]
    pub fn set(&self, name: &str) -> &[Package] {
        self.sets.get(name).map_or(&[], Vec::as_slice)
    }

    /// Resolves the sets with apt.
    ///
    /// # Errors
    /// [`LockError::Program`] with apt's words, as for a package that does not exist.
    pub fn resolve(cache: &Cache, requested: &BTreeMap<String, Vec<String>>) -> Result<Self, LockError> {
        let _alone = cache.lock("apt").map_err(io(cache.root()))?;
        let apt = Apt::new(cache)?;
        apt.run(&["update", "-qq"])?;
        let mut sets = BTreeMap::new();
        for (set, names) in requested {
            let mut arguments = vec!["install", "-qq", "--print-uris", "-y", "-o", "Acquire::ForceHash=SHA256", "-o", "Debug::NoLocking=1"];
            arguments.extend(names.iter().map(String::as_str));
            let text = apt.run(&arguments)?;
            let mut packages: Vec<_> = text.lines().map(|line| parse_uri(line, &apt.mirror)).collect::<Result<_, _>>()?;
            if set == "kernel" {
                // The kernel's dependencies (initramfs-tools, linux-base) have no work to do here.
                packages.retain(|p: &Package| p.name.starts_with("linux-image-") && p.size > 1_000_000);
            }
            packages.sort_by(|a, b| a.name.cmp(&b.name));
            sets.insert(set.clone(), packages);
        }
        Ok(Self { suite: SUITE.into(), architecture: "amd64".into(), requested: requested.clone(), sets })
    }

    /// Brings every package into the cache, from the mirror where it is missing.
    ///
    /// # Errors
    /// [`LockError::Gone`] names the packages that are nowhere to be had.
    pub fn fetch(&self, cache: &Cache, mut progress: impl FnMut(usize, usize)) -> Result<(), LockError> {
        let missing = |p: &&Package| !cache.package(&p.sha256).exists();
        if !self.sets.values().flatten().any(|p| missing(&p)) {
            return Ok(());
        }
        // Another process may be fetching the same packages: what is missing is asked again under the lock.
        let _alone = cache.lock("packages").map_err(io(cache.root()))?;
        let missing: BTreeMap<&str, &Package> = self.sets.values().flatten().filter(missing).map(|p| (p.sha256.as_str(), p)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let folder = cache.root().join("packages");
        fs::create_dir_all(&folder).map_err(io(&folder))?;
        let apt = Apt::new(cache)?;
        let (total, mut gone) = (missing.len(), Vec::new());
        for (batch_number, batch) in missing.values().collect::<Vec<_>>().chunks(24).enumerate() {
            progress(batch_number * 24, total);
            let work = tempfile::tempdir_in(&folder).map_err(io(&folder))?;
            let urls: Vec<_> = batch.iter().map(|p| (format!("{}{}", apt.mirror, p.path), work.path().join(&p.sha256))).collect();
            fetch_urls(&urls)?;
            for package in batch {
                let file = work.path().join(&package.sha256);
                if !file.exists() {
                    gone.push(format!("{} {}", package.name, package.version));
                    continue;
                }
                let found = sha256_file(&file).map_err(io(&file))?;
                if found != package.sha256 {
                    return Err(LockError::Digest { name: package.name.clone(), found, expected: package.sha256.clone() });
                }
                let target = cache.package(&package.sha256);
                fs::rename(&file, &target).map_err(io(&target))?;
            }
        }
        progress(total, total);
        if gone.is_empty() { Ok(()) } else { Err(LockError::Gone(gone)) }
    }
}

/// Fetches in parallel with curl, which honours the environment's proxy and certificate settings. A URL
/// that is not there leaves no file.
fn fetch_urls(urls: &[(String, PathBuf)]) -> Result<(), LockError> {
    let mut child = Command::new("curl")
        .args(["--silent", "--fail", "--location", "--retry", "3", "--parallel", "--parallel-max", "8", "--config", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| LockError::Program { program: "curl", detail: e.to_string() })?;
    if let Some(mut stdin) = child.stdin.take() {
        let config: String = urls.iter().map(|(url, file)| format!("url = \"{url}\"\noutput = \"{}\"\n", file.display())).collect();
        stdin.write_all(config.as_bytes()).map_err(|e| LockError::Program { program: "curl", detail: e.to_string() })?;
    }
    // A failed URL makes curl fail as a whole; which one it was shows in the files.
    child.wait().map_err(|e| LockError::Program { program: "curl", detail: e.to_string() })?;
    Ok(())
}

/// SHA-256 of a file, hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256_file(path: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0u8; 1 << 20]);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}

/// `'URL' FILE SIZE SHA256:HEX`, as `apt-get --print-uris` writes it.
fn parse_uri(line: &str, mirror: &str) -> Result<Package, LockError> {
    let refuse = || LockError::AptOutput(line.to_owned());
    let mut words = line.split(' ');
    let url = words.next().and_then(|w| w.strip_prefix('\'')?.strip_suffix('\'')).ok_or_else(refuse)?;
    let file = words.next().ok_or_else(refuse)?;
    let size = words.next().and_then(|w| w.parse().ok()).ok_or_else(refuse)?;
    let sha256 = words.next().and_then(|w| w.strip_prefix("SHA256:")).filter(|h| h.len() == 64).ok_or_else(refuse)?;
    let mut parts = file.trim_end_matches(".deb").splitn(3, '_');
    let (Some(name), Some(version)) = (parts.next(), parts.next()) else { return Err(refuse()) };
    Ok(Package {
        name: name.to_owned(),
        version: version.replace("%3a", ":"),
        sha256: sha256.to_owned(),
        size,
        path: url.strip_prefix(mirror).ok_or_else(refuse)?.to_owned(),
    })
}

/// apt with a configuration and a state of its own.
struct Apt {
    config: PathBuf,
    mirror: String,
}

impl Apt {
    fn new(cache: &Cache) -> Result<Self, LockError> {
        let root = cache.root().join("apt").join(SUITE);
        for sub in ["state/lists/partial", "cache/archives/partial", "log", "etc"] {
            let dir = root.join(sub);
            fs::create_dir_all(&dir).map_err(io(&dir))?;
        }
        let mirror = host_mirror();
        let write = |name: &str, text: String| {
            let path = root.join(name);
            fs::write(&path, text).map_err(io(&path)).map(|()| path)
        };
        write("status", String::new())?;
        write("sources.list", format!("deb [signed-by={KEYRING}] {mirror} {SUITE} main\n"))?;
        let root = root.display();
        let config = write(
            "apt.conf",
            format!(
                "Dir \"{root}\";\nDir::State \"{root}/state\";\nDir::State::status \"{root}/status\";\n\
                 Dir::Cache \"{root}/cache\";\nDir::Log \"{root}/log\";\nDir::Etc \"{root}/etc\";\n\
                 Dir::Etc::sourcelist \"{root}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
                 Dir::Etc::parts \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
                 APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\n\
                 APT::Install-Recommends \"false\";\nAPT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n\
                 Acquire::Retries \"3\";\n"
            ),
        )?;
        Ok(Self { config, mirror })
    }

    fn run(&self, arguments: &[&str]) -> Result<String, LockError> {
        let output = Command::new("apt-get")
            .args(arguments)
            .env("APT_CONFIG", &self.config)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .output()
            .map_err(|e| LockError::Program { program: "apt-get", detail: e.to_string() })?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            let detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(LockError::Program { program: "apt-get", detail })
        }
    }
}

/// The mirror of Debian's main archive that the host's own apt uses.
fn host_mirror() -> String {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Component: main", "Label: Debian"])
        .stdin(Stdio::null())
        .output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let mirror = text.lines().next().filter(|l| l.starts_with("http")).unwrap_or(MIRROR_DEFAULT);
    format!("{}/", mirror.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_apt_is_a_package() {
        let line = format!(
            "'http://m/debian/pool/main/a/acl/acl_2.3.2-2+b1_amd64.deb' acl_1%3a2.3.2-2+b1_amd64.deb 58544 SHA256:{}",
            "a".repeat(64)
        );
        let p = parse_uri(&line, "http://m/debian/").unwrap();
        assert_eq!((p.name.as_str(), p.version.as_str(), p.size), ("acl", "1:2.3.2-2+b1", 58544));
        assert_eq!(p.path, "pool/main/a/acl/acl_2.3.2-2+b1_amd64.deb");
    }

    #[test]
    fn a_line_without_sha256_is_refused() {
        assert!(matches!(parse_uri("'http://m/debian/x' x_1_all.deb 5 MD5Sum:aa", "http://m/debian/"), Err(LockError::AptOutput(_))));
    }
}
