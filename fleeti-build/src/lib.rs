//! Builds an image from a profile: package lock, Nix build, signed release, and the disk of one
//! device.
//!
//! ```
//! use fleeti_build::build::{BuildRecord, stages};
//! // Which stages the log of a build shows.
//! assert_eq!(stages("resolving packages\nevaluating\n"), ["resolving packages", "evaluating"]);
//! // A directory without a build gives an error.
//! let error = BuildRecord::read(std::path::Path::new("/nonexistent")).unwrap_err();
//! assert!(error.to_string().contains("/nonexistent/build.json"));
//! ```
//!
//! Code map: [`lock`], `places`, `fetch` and [`cache`] (the exact packages of an image) · [`resolve`],
//! `apt`, `archive`, `further`, `snapshot`, `stanza` and `versions` (how a lock is resolved) ·
//! [`refresh`] (what a refreshed lock changes) and [`waiting`] (fixes that an image lacks) · [`package`]
//! (a package in a lock) · [`ids`] (numbers of users and groups) · `choices` (packages in
//! place of those of the base) · [`base`] (the trait of bases, and the Debian base) · [`overlay`] (files
//! that Fleeti and a profile add to a base) · [`runner`] (the only trait that runs Nix) · [`build`]
//! (builds a profile) · [`record`] (`build.json`) and [`step`] (names of steps and files) ·
//! [`compare`] and [`compare_release`] (compare another party's build or release with one's own) ·
//! [`contents`] (every file of an image, and what differs between two) · [`sbom`] and
//! [`provenance`] (what is in a release, and what it was made from) with `purl` ·
//! [`suite`] (what the packages of a suite bring) · [`pieces`] (where two files differ) ·
//! [`release`] (signs a build into a release directory) and [`countersign`] (adds a signature) ·
//! [`disk`] (the disk of one device) · [`mod@file`] (reads, hashes and writes files).
//!
//! **Features**: none. **Errors**: One type for each step, with the file that it is about.
//! **Stability**: Rust items may change with each release before 1.0.

#![warn(missing_docs)]

mod apt;
mod archive;
pub mod base;
pub mod build;
pub mod cache;
mod choices;
pub mod compare;
pub mod compare_release;
pub mod contents;
pub mod countersign;
pub mod disk;
mod error;
mod fetch;
pub mod file;
mod further;
pub mod ids;
pub mod lock;
pub mod overlay;
pub mod package;
pub mod pieces;
mod places;
pub mod provenance;
mod purl;
pub mod record;
pub mod refresh;
pub mod release;
pub mod resolve;
pub mod runner;
pub mod sbom;
mod snapshot;
mod stanza;
pub mod step;
pub mod suite;
mod versions;
pub mod waiting;
