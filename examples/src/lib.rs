//! Shared by the examples: the keys of an organisation, and a server in this process.
//!
//! Code map: [`Organisation`] (keys in a directory, and a server that uses them). The examples are
//! the programs of `src/bin`, and the scripts of `python` and `automation`.
//!
//! ```no_run
//! # #[actix_web::main] async fn main() -> anyhow::Result<()> {
//! let dir = tempfile::tempdir()?;
//! let organisation = fleeti_examples::Organisation::found(dir.path()).await?;
//! println!("API at {}", organisation.url());
//! # Ok(()) }
//! ```

use anyhow::{Context, Result};
use fleeti_client::Client;
use fleeti_core::id::ReleaseName;
use fleeti_core::manifest::Manifest;
use fleeti_pki::hierarchy::{self, purpose};
use fleeti_pki::sealed;
use fleeti_pki::signer::SoftKey;
use fleeti_server::config::Config;
use fleeti_server::server::Server;
use fleeti_signer::limits::Limits;
use fleeti_signer::service::SigningService;
use fleeti_signer_client::handle::SignerHandle;
use fleeti_testkit::synthetic;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const PASSPHRASE: &[u8] = b"examples keep no secrets";

/// Creates keys in `DIR/pki`, as `fleeti pki init` does, and the passphrase that opens them. Returns
/// the release key, which belongs offline.
///
/// # Errors
/// I/O errors.
pub fn create_keys(dir: &Path) -> Result<SoftKey> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let files = hierarchy::create(PASSPHRASE, now_s)?;
    let wanted = format!("offline/{}.key", purpose::RELEASE);
    let sealed = files.iter().find(|f| f.path == wanted).context("the release key")?;
    let release_key =
        SoftKey::from_pkcs8_der(&sealed::open(&sealed.bytes, purpose::RELEASE, PASSPHRASE)?)?;
    // The server never gets the offline keys.
    for file in files.iter().filter(|f| !f.path.starts_with("offline")) {
        let path = dir.join("pki").join(&file.path);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(path, &file.bytes)?;
    }
    fs::write(dir.join("passphrase"), PASSPHRASE)?;
    Ok(release_key)
}

/// Keys in a directory, and a server that uses them.
pub struct Organisation {
    dir: PathBuf,
    /// The running server.
    pub server: Server,
    /// A client with the administrator's token.
    pub client: Client,
    release_key: SoftKey,
}

impl Organisation {
    /// Creates keys in a directory and starts a server with them on loopback.
    ///
    /// # Errors
    /// I/O errors, or a port that is not available.
    pub async fn found(dir: &Path) -> Result<Self> {
        let release_key = create_keys(dir)?;
        let server = Server::start(Config::new(dir)).await?;
        let token = fs::read_to_string(dir.join("admin.token"))?;
        let client = Client::new(&format!("http://{}", server.addresses.api), token.trim())?;
        Ok(Self { dir: dir.to_owned(), server, client, release_key })
    }

    /// The address of API and pages.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.addresses.api)
    }

    /// The directory with the public keys.
    #[must_use]
    pub fn public(&self) -> PathBuf {
        self.dir.join("pki/public")
    }

    /// Signs a release with placeholder content, in a directory that does not exist yet.
    ///
    /// # Errors
    /// I/O errors.
    pub fn make(&self, name: &ReleaseName, size: usize, dir: &Path) -> Result<Manifest> {
        synthetic::release(dir, name, &self.release_key, size)
    }

    /// Signs and publishes a release with placeholder content, and returns its directory.
    ///
    /// # Errors
    /// Errors of the server.
    pub async fn publish(&self, name: &ReleaseName, size: usize) -> Result<PathBuf> {
        let dir = self.dir.join("example-releases").join(name.to_string());
        let manifest = self.make(name, size, &dir)?;
        let mut files: Vec<String> = manifest.artifacts.iter().map(|a| a.path.clone()).collect();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        for file in &files {
            self.client.upload(name, file, &dir.join(file)).await?;
        }
        self.client.publish(name).await?;
        Ok(dir)
    }
}

/// A signing service in this process, for development only: an attacker who takes over the process
/// gets the keys. Otherwise connect to `fleeti-signer`.
///
/// # Errors
/// Names the key that cannot be read.
pub fn signer(dir: &Path) -> Result<SignerHandle> {
    let keys = fleeti_signer::keys::open(&dir.join("pki"), PASSPHRASE, None)?;
    let service = SigningService::open(keys, &dir.join("audit"), Limits::default())?;
    Ok(fleeti_signer::embedded::start(service)?)
}
