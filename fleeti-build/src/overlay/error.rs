//! Errors of overlays.

use std::path::PathBuf;

/// Why an overlay could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// A file of the trust directory is missing or cannot be read.
    #[error(
        "{path}: {source}; the trust directory is `public` of `fleeti pki init` (for an older one, `fleeti pki pcr-key` makes pcr.pem)"
    )]
    Trust {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A file of the profile has a path that another section of the profile writes.
    #[error(
        "files: another section of the profile writes {0} as well; remove the file or the section"
    )]
    Written(String),
    /// Support bundles cannot be encrypted to a key of the profile.
    #[error("support_keys: {name}: {why}")]
    SupportKey {
        /// Name of the key.
        name: String,
        /// Why not.
        why: String,
    },
    /// The profile cannot be serialized.
    #[error("the profile cannot be serialized: {0}")]
    Json(#[from] serde_json::Error),
}
