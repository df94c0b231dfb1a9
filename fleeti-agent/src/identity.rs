//! The identity of this device: its certificate and key, and the address of its server.

use crate::device_key::{KeptKey, TlsKey};
use crate::privileged::Helper;
use crate::reach::{self, Credential, Proxy};
use crate::{Paths, kept, server_trust, write_durably};
use anyhow::{Context, Result, ensure};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::enrollment::{
    EnrollResponse, EnrollmentRecord, RenewResponse, RenewalWindow,
};
use fleeti_pki::certificate;
use fleeti_pki::signer::Signer;
use fleeti_pki::transition::ServerMove;
use rustls::ClientConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// The server's address; taken from the enrollment record, without its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// As in `https://fleeti.example:8443`.
    pub https_url: String,
    /// Host of the MQTT port.
    pub mqtt_host: String,
    /// The MQTT port.
    pub mqtt_port: u16,
    /// The proxy to both, as in `http://proxy.example:3128`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// When the move to this address was signed, Unix seconds; zero for the address in the
    /// enrollment record.
    #[serde(default)]
    pub moved_s: u64,
    /// The previous address, until the server answers at this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<Server>>,
    /// What the proxy asks for; a secret of the boot, which is not stored here.
    #[serde(skip)]
    pub credential: Option<Credential>,
}

impl Server {
    /// From an enrollment record.
    ///
    /// # Errors
    /// If its MQTT address is not `HOST:PORT`.
    pub fn of(record: &EnrollmentRecord) -> Result<Self> {
        Self::new(&record.https_url, &record.mqtt_address, record.proxy.as_deref())
    }

    fn new(https_url: &str, mqtt_address: &str, proxy: Option<&str>) -> Result<Self> {
        let (host, port) = mqtt_address.rsplit_once(':').context("the MQTT address has no port")?;
        let https_url = https_url.trim_end_matches('/').to_owned();
        reach::authority(&https_url)?;
        proxy.map(Proxy::parse).transpose()?;
        let (mqtt_host, mqtt_port) = (host.to_owned(), port.parse().context("the MQTT port")?);
        Ok(Self {
            https_url,
            mqtt_host,
            mqtt_port,
            proxy: proxy.map(str::to_owned),
            moved_s: 0,
            previous: None,
            credential: None,
        })
    }

    /// The address after these moves (time of signature, move), oldest first. Only a move from the
    /// current address that is not older than the last one counts.
    #[must_use]
    pub fn followed(&self, moves: &[(u64, ServerMove)]) -> Self {
        moves.iter().fold(self.clone(), |here, (issued_s, moved)| {
            if moved.from.trim_end_matches('/') != here.https_url || *issued_s <= here.moved_s {
                return here;
            }
            match Self::new(&moved.https_url, &moved.mqtt_address, moved.proxy.as_deref()) {
                Ok(next) => Self {
                    moved_s: *issued_s,
                    previous: Some(Box::new(Self { previous: None, ..here })),
                    ..next
                },
                Err(e) => {
                    tracing::error!("the server's next address is unusable: {e:#}");
                    here
                }
            }
        })
    }

    /// Swaps this address with the previous one. The move that led here is not applied again.
    #[must_use]
    pub fn back(&self) -> Option<Self> {
        let previous = self.previous.as_deref()?;
        let this = Box::new(Self { previous: None, ..self.clone() });
        let credential = self.credential.clone();
        Some(Self { moved_s: self.moved_s, previous: Some(this), credential, ..previous.clone() })
    }

    /// The proxy to the server.
    ///
    /// # Errors
    /// If it is not `http://HOST:PORT`.
    pub fn proxy(&self) -> Result<Option<Proxy>> {
        let proxy = self.proxy.as_deref().map(Proxy::parse).transpose()?;
        Ok(proxy.map(|proxy| Proxy { credential: self.credential.clone(), ..proxy }))
    }
}

/// An enrolled device.
pub struct Identity {
    /// Its id.
    pub device: DeviceId,
    /// The address of its server.
    pub server: Server,
    /// Whether its key is in the TPM.
    pub is_in_tpm: bool,
    key: TlsKey,
    chain_pem: String,
    /// The time that this device has chosen in the server's renewal window.
    renew_at_s: Option<u64>,
}

/// The result of a renewal, in one file: after a power cut it is the old one or the new one.
#[derive(Serialize, Deserialize)]
struct Renewed {
    #[serde(flatten)]
    key: KeptKey,
    chain_pem: String,
    renew_at_s: u64,
}

/// Stores the server's address after these moves; `false` if none of them starts at the current
/// address.
///
/// # Errors
/// I/O.
pub fn follow(paths: &Paths, moves: &[(u64, ServerMove)]) -> Result<bool> {
    let Some(server) = kept::read(&paths.state.join("server.json"), kept::json::<Server>) else {
        return Ok(false);
    };
    let next = server.followed(moves);
    if next == server {
        return Ok(false);
    }
    tracing::warn!(
        "the server has moved from {} to {}, signed by release keys",
        server.https_url,
        next.https_url
    );
    Identity::keep_server(paths, &next)?;
    Ok(true)
}

fn moment(window: RenewalWindow) -> u64 {
    rand::random_range(window.start_s..=window.end_s.max(window.start_s))
}

fn first_key_path(paths: &Paths) -> PathBuf {
    paths.state.join("device.key")
}

/// The file of a key that waits for its certificate. Keys in the TPM and in a file have separate
/// ones, because either may turn out to be unusable.
///
/// The key stays the same until its certificate arrives, because the response to a request can be
/// lost.
fn waiting_path(paths: &Paths, what: &str, is_in_tpm: bool) -> PathBuf {
    paths.state.join(format!("{what}{}.key", if is_in_tpm { "-tpm" } else { "" }))
}

/// The key that waits for the first certificate.
///
/// # Errors
/// If it must be in the TPM and the TPM does not answer; I/O.
pub async fn first_key(paths: &Paths, helper: &Helper, is_in_tpm: bool) -> Result<KeptKey> {
    waiting_key(paths, "first", helper, is_in_tpm).await
}

/// The key that waits for the next certificate.
///
/// # Errors
/// If it must be in the TPM and the TPM does not answer; I/O.
pub async fn next_key(paths: &Paths, helper: &Helper, is_in_tpm: bool) -> Result<KeptKey> {
    waiting_key(paths, "next", helper, is_in_tpm).await
}

async fn waiting_key(
    paths: &Paths,
    what: &str,
    helper: &Helper,
    is_in_tpm: bool,
) -> Result<KeptKey> {
    let path = waiting_path(paths, what, is_in_tpm);
    if is_in_tpm { KeptKey::in_tpm(&path, helper).await } else { KeptKey::in_file(&path) }
}

/// Deletes the waiting keys.
fn forget_waiting(paths: &Paths, what: &str) {
    for is_in_tpm in [false, true] {
        fs::remove_file(waiting_path(paths, what, is_in_tpm)).ok();
    }
}

impl Identity {
    /// The identity, if the device is enrolled. Files that cannot be used are set aside: one of the
    /// first and the renewed certificate is enough.
    ///
    /// # Errors
    /// If the server's address is lost and no other file has it.
    pub fn load(paths: &Paths) -> Result<Option<Self>> {
        let renewed_path = paths.state.join("renewed.json");
        let text = |name: &str| {
            kept::read(&paths.state.join(name), |bytes| Ok(String::from_utf8(bytes.to_vec())?))
        };
        let Some(server) = kept::read(&paths.state.join("server.json"), kept::json::<Server>)
        else {
            return Ok(None);
        };
        let renew_at_s = text("renew-at").and_then(|t| t.trim().parse().ok());
        let enrolled = KeptKey::kept(&first_key_path(paths)).zip(text("device.pem")).and_then(
            |(key, chain)| {
                let enrolled = Self::new(paths, &key, chain, server.clone(), renew_at_s);
                enrolled
                    .map_err(|e| {
                        kept::set_aside(&paths.state.join("device.pem"), &format!("{e:#}"))
                    })
                    .ok()
            },
        );
        let renewed = kept::read(&renewed_path, |bytes| {
            let renewed: Renewed = kept::json(bytes)?;
            Self::new(
                paths,
                &renewed.key,
                renewed.chain_pem,
                server.clone(),
                Some(renewed.renew_at_s),
            )
        });
        let identity = match (enrolled, renewed) {
            // From another enrollment: the newer one counts.
            (Some(enrolled), Some(renewed)) if renewed.device != enrolled.device => Some(enrolled),
            (enrolled, renewed) => renewed.or(enrolled),
        };
        if let Some(identity) = &identity {
            paths
                .clock
                .raise(certificate::not_before_s(&certificate::from_pem(&identity.chain_pem)?));
        }
        Ok(identity)
    }

    /// Stores the server's address for a device that has its certificate and lost the address.
    ///
    /// # Errors
    /// I/O.
    pub fn keep_server(paths: &Paths, server: &Server) -> Result<()> {
        Ok(write_durably(&paths.state.join("server.json"), &serde_json::to_vec(server)?)?)
    }

    /// Whether a certificate file exists, valid or not.
    #[must_use]
    pub fn is_there(paths: &Paths) -> bool {
        paths.state.join("device.pem").exists() || paths.state.join("renewed.json").exists()
    }

    /// Stores the result of enrollment.
    ///
    /// # Errors
    /// If the certificate is not for this key and device; I/O.
    pub fn store(
        paths: &Paths,
        key: KeptKey,
        response: EnrollResponse,
        server: Server,
    ) -> Result<Self> {
        let at_s = moment(response.renewal);
        let identity = Self::new(paths, &key, response.certificate_chain_pem, server, Some(at_s))?;
        ensure!(identity.device == response.device, "the certificate is for another device");
        write_durably(&paths.state.join("server.json"), &serde_json::to_vec(&identity.server)?)?;
        write_durably(&paths.state.join("renew-at"), at_s.to_string().as_bytes())?;
        key.keep(&first_key_path(paths))?;
        write_durably(&paths.state.join("device.pem"), identity.chain_pem.as_bytes())?;
        forget_waiting(paths, "first");
        Ok(identity)
    }

    /// Stores a renewed certificate and its key.
    ///
    /// # Errors
    /// If it is not for this key and device; I/O.
    pub fn store_renewed(
        &self,
        paths: &Paths,
        next: KeptKey,
        response: RenewResponse,
    ) -> Result<()> {
        let at_s = moment(response.renewal);
        let renewed = Self::new(
            paths,
            &next,
            response.certificate_chain_pem,
            self.server.clone(),
            Some(at_s),
        )?;
        ensure!(renewed.device == self.device, "the certificate is for another device");
        let file = Renewed { key: next, chain_pem: renewed.chain_pem, renew_at_s: at_s };
        write_durably(&paths.state.join("renewed.json"), &serde_json::to_vec(&file)?)?;
        forget_waiting(paths, "next");
        Ok(())
    }

    /// Whether the renewal time has come (Unix seconds): the chosen one, or else two thirds of the
    /// validity.
    ///
    /// # Errors
    /// If the certificate cannot be parsed.
    pub fn is_due(&self, now_s: u64) -> Result<bool> {
        let leaf = certificate::from_pem(&self.chain_pem)?;
        let (start, end) = (certificate::not_before_s(&leaf), certificate::not_after_s(&leaf));
        let latest = start + (end - start) / 3 * 2;
        Ok(now_s > self.renew_at_s.map_or(latest, |at| at.min(latest)))
    }

    fn new(
        paths: &Paths,
        kept: &KeptKey,
        chain_pem: String,
        server: Server,
        renew_at_s: Option<u64>,
    ) -> Result<Self> {
        let key = kept.open(paths)?;
        let leaf = certificate::from_pem(&chain_pem)?;
        let device = certificate::device_of(&leaf)?;
        let certified = certificate::public_key_der(&leaf)?;
        ensure!(certified == key.public_key_der(), "the certificate is for another key");
        Ok(Self {
            device,
            server,
            is_in_tpm: kept.is_in_tpm(),
            key: TlsKey(key),
            chain_pem,
            renew_at_s,
        })
    }

    /// The key of the certificate.
    #[must_use]
    pub fn signer(&self) -> &dyn Signer {
        self.key.0.as_ref()
    }

    /// TLS with this identity.
    ///
    /// # Errors
    /// If rustls refuses the key or the certificates.
    pub fn tls(&self, paths: &Paths) -> Result<ClientConfig> {
        let chain = CertificateDer::pem_slice_iter(self.chain_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()?;
        let certified = CertifiedKey::new(chain, Arc::new(self.key.clone()));
        Ok(server_trust::builder(paths)?
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified))))
    }
}

/// TLS without an identity, for enrollment.
///
/// # Errors
/// If the image has no root.
pub fn anonymous_tls(paths: &Paths) -> Result<ClientConfig> {
    Ok(server_trust::builder(paths)?.with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str) -> Server {
        Server::new(&format!("https://{host}:8443/"), &format!("{host}:8883"), None).unwrap()
    }
    fn moved(from: &str, to: &str) -> ServerMove {
        let (https_url, mqtt_address) = (format!("https://{to}:8443"), format!("{to}:8883"));
        ServerMove { from: format!("https://{from}:8443"), https_url, mqtt_address, proxy: None }
    }

    #[test]
    fn a_device_follows_the_moves_of_its_own_server_in_their_order() {
        let moves = [
            (1, moved("a", "b")),
            (2, moved("x", "y")),
            (3, moved("b", "c")),
            (4, moved("a", "z")),
        ];
        let there = at("a").followed(&moves);
        assert_eq!((there.mqtt_host.as_str(), there.moved_s), ("c", 3));
        assert_eq!(there.previous.as_deref().map(|s| s.https_url.as_str()), Some("https://b:8443"));
        assert_eq!(there.followed(&moves), there, "each is made once");
        assert_eq!(at("q").followed(&moves), at("q"), "these are of another server");
        let unusable = ServerMove { mqtt_address: "d".into(), ..moved("a", "d") };
        assert_eq!(at("a").followed(&[(1, unusable)]), at("a"));
    }

    #[test]
    fn a_device_goes_back_and_does_not_make_the_same_move_again() {
        let moves = [(1, moved("a", "b"))];
        let back = at("a").followed(&moves).back().unwrap();
        assert_eq!((back.https_url.as_str(), back.moved_s), ("https://a:8443", 1));
        assert_eq!(back.followed(&moves), back);
        assert_eq!(
            back.back().unwrap().https_url,
            "https://b:8443",
            "and looks at both from then on"
        );
        assert_eq!(back.followed(&[(2, moved("a", "c"))]).https_url, "https://c:8443");
        assert!(at("a").back().is_none());
    }
}
