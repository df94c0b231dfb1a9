//! Verifies a release directory as a device does: the manifest's signature first, then every file.
//!
//!     cargo run -p fleeti-examples --bin verify_release -- RELEASE TRUST
//!
//! RELEASE is a directory of `fleeti release create`, TRUST the `public` folder of `fleeti pki init`. Without them
//! it makes a release of its own, verifies it, then changes one byte and shows the refusal.

use anyhow::{Context, Result, bail};
use fleeti_build::release;
use fleeti_pki::manifest::{PublicKey, ReleaseKeys};
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_testkit::synthetic;
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match arguments.as_slice() {
        [dir, trust] => {
            let pem = std::fs::read_to_string(trust.join("release.pem")).context("TRUST/release.pem")?;
            show(dir, &ReleaseKeys::from_pem(&pem)?)
        }
        [] => with_a_release_of_its_own(),
        _ => bail!("usage: verify_release [RELEASE TRUST]"),
    }
}

fn show(dir: &Path, keys: &ReleaseKeys) -> Result<()> {
    let verified = release::verify(dir, keys)?;
    let manifest = verified.manifest();
    println!("{} is signed by a trusted key; {} files are as signed", manifest.release, manifest.artifacts.len());
    println!("root hash {}", manifest.root_hash);
    Ok(())
}

fn with_a_release_of_its_own() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let key = SoftKey::generate(Algorithm::P384)?;
    let keys = ReleaseKeys::new(vec![PublicKey::of(&key)?], 1)?;
    let manifest = synthetic::release(dir.path(), &"kiosk@1".parse()?, &key, 4096)?;
    show(dir.path(), &keys)?;
    let file = dir.path().join(&manifest.artifacts[0].path);
    let mut bytes = std::fs::read(&file)?;
    bytes[0] ^= 1;
    std::fs::write(&file, bytes)?;
    match release::verify(dir.path(), &keys) {
        Err(e) => println!("after one changed byte: {e}"),
        Ok(_) => bail!("a changed file was not noticed"),
    }
    Ok(())
}
