//! Verifies a release directory as a device does: the signatures of the manifest first, then every
//! file.
//!
//!     cargo xtask example verify_release RELEASE TRUST
//!
//! RELEASE is a directory of `fleeti release create`, TRUST the directory `public` of `fleeti pki
//! init`. Without arguments the example makes a release, verifies it, changes one byte and shows
//! the refusal. `--make DIR` only makes a release.

use anyhow::{Context, Result, bail};
use fleeti_build::release;
use fleeti_core::manifest::Manifest;
use fleeti_pki::manifest::{PublicKey, ReleaseKeys};
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_testkit::synthetic;
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match arguments.as_slice() {
        [dir, trust] if dir != "--make" => {
            let pem =
                std::fs::read_to_string(trust.join("release.pem")).context("TRUST/release.pem")?;
            show(dir, &ReleaseKeys::from_pem(&pem)?)
        }
        [option, dir] if option == "--make" => make(dir).map(|_| ()),
        [] => with_a_release_of_its_own(),
        _ => bail!("usage: verify_release [RELEASE TRUST | --make DIR]"),
    }
}

fn show(dir: &Path, keys: &ReleaseKeys) -> Result<()> {
    let verified = release::verify(dir, keys)?;
    let manifest = verified.manifest();
    println!(
        "{} is signed by a trusted key; {} files match the manifest",
        manifest.release,
        manifest.artifacts.len()
    );
    println!("root hash {}", manifest.root_hash);
    Ok(())
}

/// Makes a release and the keys to trust, in `DIR/release` and `DIR/trust`.
fn make(dir: &Path) -> Result<Manifest> {
    let key = SoftKey::generate(Algorithm::P384)?;
    std::fs::create_dir_all(dir.join("trust"))?;
    std::fs::write(dir.join("trust/release.pem"), PublicKey::of(&key)?.to_pem()?)?;
    synthetic::release(&dir.join("release"), &"kiosk@1".parse()?, &key, 4096)
}

fn with_a_release_of_its_own() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let manifest = make(dir.path())?;
    let keys =
        ReleaseKeys::from_pem(&std::fs::read_to_string(dir.path().join("trust/release.pem"))?)?;
    let directory = dir.path().join("release");
    show(&directory, &keys)?;
    let file = directory.join(&manifest.artifacts[0].path);
    let mut bytes = std::fs::read(&file)?;
    bytes[0] ^= 1;
    std::fs::write(&file, bytes)?;
    match release::verify(&directory, &keys) {
        Err(e) => println!("after one changed byte: {e}"),
        Ok(_) => bail!("a changed file was accepted"),
    }
    Ok(())
}
