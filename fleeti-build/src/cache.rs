//! The cache directory: packages by digest, and apt's private state. Everything in it can be
//! downloaded again, except `ids`: the numbers of users and groups that builds of each line had.

use std::path::{Path, PathBuf};

/// A cache directory, outside of every checkout.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// No directory for the cache.
#[derive(Debug, thiserror::Error)]
#[error("no cache directory: set FLEETI_CACHE, XDG_CACHE_HOME or HOME")]
pub struct NoCacheFolder;

impl Cache {
    /// `$FLEETI_CACHE`, `$XDG_CACHE_HOME/fleeti` or `~/.cache/fleeti`.
    ///
    /// # Errors
    /// [`NoCacheFolder`] if none of the variables is set.
    pub fn discover() -> Result<Self, NoCacheFolder> {
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = var("FLEETI_CACHE")
            .or_else(|| var("XDG_CACHE_HOME").map(|d| d.join("fleeti")))
            .or_else(|| var("HOME").map(|d| d.join(".cache/fleeti")))
            .ok_or(NoCacheFolder)?;
        Ok(Self { root })
    }
    /// The cache in this directory.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
    /// The cache directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Takes a lock between processes. It is released when the file is dropped, also if the process
    /// is killed.
    ///
    /// # Errors
    /// I/O.
    pub fn lock(&self, name: &str) -> std::io::Result<std::fs::File> {
        let folder = self.root.join("locks");
        std::fs::create_dir_all(&folder)?;
        let file = std::fs::File::create(folder.join(format!("{name}.flock")))?;
        file.lock()?;
        Ok(file)
    }
    /// Path of the package with this SHA-256.
    #[must_use]
    pub fn package(&self, sha256: &str) -> PathBuf {
        self.root.join("packages").join(sha256)
    }
}
