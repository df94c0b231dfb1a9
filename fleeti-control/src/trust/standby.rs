//! What the server keeps for a start without the signing service: its last certificate with the
//! key, and the last CRLs. With them it can serve every device that the database knows and has not
//! revoked.
//!
//! ```text
//! DIR/standby/identity.json    chain and key of the server, mode 0600; valid for at most 21 days
//! DIR/standby/KEY-ID.crl       the last CRL of each intermediate CA for devices, DER
//! ```

use crate::ports::ServerIdentity;
use crate::trust::access::IssuerCrl;
use crate::trust::state::Trust;
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::strict;
use fleeti_pki::crl::VerifiedCrl;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The folder.
pub struct Standby {
    folder: PathBuf,
}

/// The file format: base64 of DER.
#[derive(Serialize, Deserialize)]
struct KeptIdentity {
    chain: Vec<String>,
    key: String,
}

impl Standby {
    /// The folder within a data folder.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        Self { folder: data.join("standby") }
    }

    /// Writes a file, and creates the folder.
    fn write(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        fleeti_files::write_durably(&self.folder.join(name), bytes, fleeti_files::PRIVATE)
    }

    /// Stores the server's certificate and key. A failure is only logged.
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
                "{}: cannot store the server's certificate for a restart without the signing service: {e}",
                self.folder.display()
            );
        }
    }

    /// Stores CRLs. A failure is only logged.
    pub fn keep_crls(&self, crls: &[IssuerCrl]) {
        for crl in crls {
            if let Err(e) = self.write(&format!("{}.crl", crl.key_id), &crl.crl) {
                tracing::warn!(
                    "{}: cannot store a CRL for a restart without the signing service: {e}",
                    self.folder.display()
                );
            }
        }
    }

    /// Loads the last certificate and key.
    ///
    /// # Errors
    /// When there is none, or it is unreadable.
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

    /// Loads the last CRLs of the intermediate CAs that count. An intermediate CA without a CRL
    /// does not count.
    ///
    /// # Errors
    /// When there is no CRL of the issuing intermediate CA.
    pub fn crls(&self, trust: &Trust) -> Result<Vec<IssuerCrl>> {
        let mut crls = Vec::new();
        for accepted in trust.devices() {
            let path = self.folder.join(format!("{}.crl", accepted.key_id));
            let read =
                fs::read(&path).with_context(|| path.display().to_string()).and_then(|crl| {
                    VerifiedCrl::read(&crl, &accepted.certificate)
                        .with_context(|| path.display().to_string())?;
                    Ok(crl)
                });
            match read {
                Ok(crl) => {
                    crls.push(IssuerCrl {
                        key_id: accepted.key_id.clone(),
                        issuer: accepted.certificate.clone(),
                        crl,
                    });
                }
                Err(e) if accepted.sha256 == trust.device().sha256 => return Err(e),
                Err(e) => tracing::error!(
                    "devices of intermediate CA {} cannot connect: {e:#}",
                    accepted.certificate.tbs_certificate().subject()
                ),
            }
        }
        Ok(crls)
    }
}
