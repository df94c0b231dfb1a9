//! Builds with the real Nix. The tests share its store, so that each one finds what others built.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::too_many_lines, reason = "a scenario or a table is read from its beginning")]

mod brought;
mod compare;
mod contents;
mod countersign;
mod documents;
mod dpkg;
mod everyday;
mod images;
mod kernel_modules;
mod lock;
mod nixos;
mod owners;
mod radius;
mod runner;
mod sources;

use fleeti_build::build::Request;
use fleeti_build::cache::Cache;
use fleeti_core::profile::Profile;
use std::path::{Path, PathBuf};

fn cache() -> Cache {
    Cache::discover().unwrap()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn profile(name: &str) -> Profile {
    let path = repository().join("examples/profiles").join(format!("{name}.toml"));
    fleeti_core::profile::check(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A directory of public keys with any content: a build does not parse it.
fn trust(dir: &Path) -> PathBuf {
    let trust = dir.join("public");
    std::fs::create_dir_all(&trust).unwrap();
    for name in ["root.pem", "release.pem", "audit.pub", "openpgp.gpg", "pcr.pem"] {
        std::fs::write(trust.join(name), name).unwrap();
    }
    trust
}

fn request(dir: &Path, profile: Profile, out: &str) -> Request {
    Request {
        profile,
        revision: 1,
        version: "1".parse().unwrap(),
        minimum_version: None,
        trust: trust(dir),
        lock: None,
        refresh_lock: false,
        refresh_packages: Vec::new(),
        // Any executable whose libraries are in the image.
        agent: "/usr/bin/env".into(),
        out: dir.join(out),
    }
}
