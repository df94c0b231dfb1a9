//! What the server keeps for the day its signer does not answer: its last certificate with the key,
//! and the last revocation lists. With them it starts and serves every device that the database
//! knows and has not revoked.
//!
//! ```text
//! DIR/standby/identity.json    chain and key of the server, mode 0600; the key is good for 21 days at the most
//! DIR/standby/KEY-ID.crl       the last list of each intermediate for devices, DER
//! ```

use crate::gateway::tls::{IssuerList, ServerIdentity};
use crate::service::trust::Trust;
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::strict;
use fleeti_pki::crl::VerifiedList;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where it lies.
pub struct Standby {
    folder: PathBuf,
}

/// As it lies on the disk, base64 of DER.
#[derive(Serialize, Deserialize)]
struct KeptIdentity {
    chain: Vec<String>,
    key: String,
}

impl Standby {
    /// In a data folder.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        Self { folder: data.join("standby") }
    }

    /// A power cut leaves the old file or the new one.
    fn write(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let (path, part) = (self.folder.join(name), self.folder.join(format!("{name}.part")));
        match fs::remove_file(&part) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        fs::File::open(&self.folder)?.sync_all()
    }

    /// Keeps the server's certificate and key. A failure is said, and changes nothing else.
    pub fn keep_identity(&self, identity: &ServerIdentity) {
        let kept = KeptIdentity {
            chain: identity.chain.iter().map(|c| STANDARD.encode(c)).collect(),
            key: STANDARD.encode(identity.key.secret_der()),
        };
        let written = serde_json::to_vec(&kept)
            .map_err(std::io::Error::other)
            .and_then(|bytes| self.write("identity.json", &bytes));
        if let Err(e) = written {
            tracing::warn!(
                "{}: the server's certificate is not kept for a restart without the signer: {e}",
                self.folder.display()
            );
        }
    }

    /// Keeps lists. A failure is said, and changes nothing else.
    pub fn keep_lists(&self, lists: &[IssuerList]) {
        for list in lists {
            if let Err(e) = self.write(&format!("{}.crl", list.key_id), &list.list) {
                tracing::warn!(
                    "{}: a revocation list is not kept for a restart without the signer: {e}",
                    self.folder.display()
                );
            }
        }
    }

    /// The certificate that was kept last.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn identity(&self) -> Result<ServerIdentity> {
        let path = self.folder.join("identity.json");
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let kept: KeptIdentity =
            strict::from_slice(&bytes).with_context(|| path.display().to_string())?;
        let chain = kept
            .chain
            .iter()
            .map(|c| Ok(CertificateDer::from(STANDARD.decode(c)?)))
            .collect::<Result<_>>()?;
        Ok(ServerIdentity {
            chain,
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(STANDARD.decode(kept.key)?)),
        })
    }

    /// The lists that were kept last, of the intermediates that count. One that has none does not
    /// count, as if its list had never been signed.
    ///
    /// # Errors
    /// When there is none of the intermediate that signs.
    pub fn lists(&self, trust: &Trust) -> Result<Vec<IssuerList>> {
        let mut lists = Vec::new();
        for accepted in trust.devices() {
            let path = self.folder.join(format!("{}.crl", accepted.key_id));
            let read =
                fs::read(&path).with_context(|| path.display().to_string()).and_then(|list| {
                    VerifiedList::read(&list, &accepted.certificate)
                        .with_context(|| path.display().to_string())?;
                    Ok(list)
                });
            match read {
                Ok(list) => {
                    lists.push(IssuerList {
                        key_id: accepted.key_id.clone(),
                        issuer: accepted.certificate.clone(),
                        list,
                    });
                }
                Err(e) if accepted.sha256 == trust.device().sha256 => return Err(e),
                Err(e) => tracing::error!(
                    "no device of {} can come: {e:#}",
                    accepted.certificate.tbs_certificate().subject()
                ),
            }
        }
        Ok(lists)
    }
}
