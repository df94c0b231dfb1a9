//! The public files of a data folder: certificates and public keys, and the trusted TPM
//! manufacturers.

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use fleeti_pki::certificate;
use fleeti_pki::manifest::ReleaseKeys;
use fleeti_pki::tpm::endorsement::{Kind, Manufacturers};
use fleeti_pki::tpm::files;
use fleeti_pki::transparency::note::LogKey;
use std::fs;
use std::path::{Path, PathBuf};
use x509_cert::Certificate;

/// Maximum size of a file of a TPM manufacturer, in bytes: their CRLs have megabytes.
const MANUFACTURER_FILE_MAX: u64 = 16 << 20;

/// Certificates and public keys.
pub struct Pki {
    /// The issuer of devices, before the first trust bundle.
    pub device_ca: Certificate,
    /// The issuer of servers, before the first trust bundle.
    pub server_ca: Certificate,
    /// The root CA.
    pub root: Certificate,
    /// SHA-256 of the root CA's certificate.
    pub root_sha256: String,
    /// The release keys.
    pub release_keys: ReleaseKeys,
    /// The key that signs checkpoints of the audit log.
    pub log: LogKey,
    /// The trusted TPM manufacturers, reloaded while the server runs.
    pub manufacturers: ArcSwap<Manufacturers>,
}

impl Pki {
    /// Reads the public files of a data folder.
    ///
    /// # Errors
    /// Names the file that is missing or malformed, and what to do.
    pub fn open(data: &Path) -> Result<Self> {
        let folder = data.join("pki");
        if !folder.join("public").exists() {
            bail!(
                "{} has no keys; make them with `fleeti pki init {}`, then take offline/ away",
                data.display(),
                folder.display()
            );
        }
        let text = |name: &str| {
            let path = folder.join("public").join(name);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let root = certificate::from_pem(&text("root.pem")?)?;
        Ok(Self {
            device_ca: certificate::from_pem(&text("device-ca.pem")?)?,
            server_ca: certificate::from_pem(&text("server-ca.pem")?)?,
            root_sha256: certificate::fingerprint(&root)?,
            root,
            release_keys: ReleaseKeys::from_pem(&text("release.pem")?)?,
            log: LogKey::from_text(&text("audit.pub")?).context("audit.pub")?,
            manufacturers: ArcSwap::from_pointee(manufacturers(data)),
        })
    }
}

/// Reads the trusted TPM manufacturers: all certificates in a folder, by the kind of TPM, and all
/// CRLs (`*.crl`, DER or PEM) next to them. Ignores files that it cannot read, and lists them.
#[must_use]
pub fn manufacturers(data: &Path) -> Manufacturers {
    let (folder, mut manufacturers) = (manufacturers_folder(data), Manufacturers::default());
    for kind in Kind::ALL {
        for (source, path) in manufacturer_files(&folder, kind.as_str()) {
            if let Err(e) = read_manufacturer(&mut manufacturers, &source, &path, kind) {
                manufacturers.leave_out(&source, format!("{e:#}"));
            }
        }
    }
    manufacturers
}

/// The folder of TPM manufacturers.
#[must_use]
pub fn manufacturers_folder(data: &Path) -> PathBuf {
    data.join("pki/tpm-manufacturers")
}

/// The files of a kind of TPM: name below the folder, and path. Skips hidden files, which may be
/// incomplete.
#[must_use]
pub fn manufacturer_files(folder: &Path, kind: &str) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder.join(kind)) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let named = paths.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        (!name.starts_with('.') && !path.is_dir()).then(|| (format!("{kind}/{name}"), path))
    });
    named.collect()
}

fn read_manufacturer(
    manufacturers: &mut Manufacturers,
    source: &str,
    path: &Path,
    kind: Kind,
) -> Result<()> {
    let length = fs::metadata(path)?.len();
    if length > MANUFACTURER_FILE_MAX {
        bail!("the file has {length} bytes, at most {MANUFACTURER_FILE_MAX} are allowed");
    }
    let bytes = fs::read(path)?;
    if path.extension().is_some_and(|e| e == "crl") {
        return Ok(files::lists(&bytes)?
            .iter()
            .try_for_each(|list| manufacturers.look_at(list))?);
    }
    Ok(files::certificates(&bytes)?
        .iter()
        .try_for_each(|certificate| manufacturers.believe_from(certificate, kind, source))?)
}
