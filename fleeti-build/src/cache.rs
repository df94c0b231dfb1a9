//! The cache folder: packages by digest, apt's private state. A cache: everything in it can be had
//! again.

use std::path::{Path, PathBuf};

/// A folder outside every checkout.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// No folder to keep a cache in.
#[derive(Debug, thiserror::Error)]
#[error("no cache folder: set FLEETI_CACHE, XDG_CACHE_HOME or HOME")]
pub struct NoCacheFolder;

impl Cache {
    /// `$FLEETI_CACHE`, `$XDG_CACHE_HOME/fleeti` or `~/.cache/fleeti`.
    ///
    /// # Errors
    /// [`NoCacheFolder`] when none of the variables is set.
    pub fn discover() -> Result<Self, NoCacheFolder> {
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = var("FLEETI_CACHE")
            .or_else(|| var("XDG_CACHE_HOME").map(|d| d.join("fleeti")))
            .or_else(|| var("HOME").map(|d| d.join(".cache/fleeti")))
            .ok_or(NoCacheFolder)?;
        Ok(Self { root })
    }
    /// A cache at this folder.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Takes a lock between processes; it is free again when the file is dropped, also by a kill.
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
    /// Where the package with this SHA-256 is kept.
    #[must_use]
    pub fn package(&self, sha256: &str) -> PathBuf {
        self.root.join("packages").join(sha256)
    }
}
