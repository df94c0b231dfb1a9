//! From a profile to an image: lock, Nix, signed release, personalised disk.
//!
//! ```
//! use fleeti_build::build::{BuildRecord, stages};
//! // What a build's log shows is going on, for whoever watches it.
//! assert_eq!(stages("resolving packages\nevaluating\n"), ["resolving packages", "evaluating"]);
//! // A directory that is no build says so.
//! let error = BuildRecord::read(std::path::Path::new("/nonexistent")).unwrap_err();
//! assert!(error.to_string().contains("/nonexistent/build.json"));
//! ```
//!
//! Code map: [`lock`] and [`cache`] (which packages, exactly) · [`base`] (the seam between bases
//! and the Debian base) · [`overlay`] (what a profile adds to a base, as files) · [`runner`] (the
//! one trait that touches Nix) · [`build`] (from a profile to a build) · [`record`] (what a build
//! says of itself) and [`step`] (its names) · [`compare`] and [`compare_release`] (somebody else's
//! build or release beside one's own) · [`release`] (signing and the release directory) and
//! [`countersign`] (one more signature) · [`disk`] (Authenticode and the ESP of one device's disk)
//! · [`mod@file`] (files that are read, hashed and written whole).

#![warn(missing_docs)]

pub mod base;
pub mod build;
pub mod cache;
pub mod compare;
pub mod compare_release;
pub mod countersign;
pub mod disk;
mod error;
mod fetch;
pub mod file;
pub mod lock;
pub mod overlay;
pub mod package;
pub mod pieces;
pub mod record;
pub mod release;
pub mod runner;
pub mod step;
