//! Identifies a server by its key, for a certificate that no public CA issued.

use crate::{Client, ClientError, Result, http_client};
use fleeti_core::canonical::{is_sha256_hex, sha256_hex};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use std::error::Error;
use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

/// SHA-256 of a server's SubjectPublicKeyInfo (RFC 5280, 4.1.2.7), written `sha256:` and 64
/// hexadecimal digits.
///
/// ```
/// let text = format!("sha256:{}", "0".repeat(64));
/// let pin: fleeti_client::Pin = text.parse().unwrap();
/// assert_eq!(pin.to_string(), text);
/// assert!("sha256:00".parse::<fleeti_client::Pin>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pin(String);

/// A text that is not a [`Pin`].
#[derive(Debug, thiserror::Error)]
#[error("a fingerprint is \"sha256:\" and 64 hexadecimal digits")]
pub struct NotAPin;

impl FromStr for Pin {
    type Err = NotAPin;
    fn from_str(text: &str) -> std::result::Result<Self, NotAPin> {
        let digits = text.trim().strip_prefix("sha256:").ok_or(NotAPin)?.to_ascii_lowercase();
        if is_sha256_hex(&digits) { Ok(Self(digits)) } else { Err(NotAPin) }
    }
}

impl Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// The server's key differs from the pinned one.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the server's key has the fingerprint {found}, expected {expected}: the key was replaced, or the connection is intercepted"
)]
pub struct OtherKey {
    /// The pinned fingerprint.
    pub expected: Pin,
    /// The fingerprint of the server's key.
    pub found: Pin,
}

impl OtherKey {
    /// Extracts the error from one of the HTTP client.
    pub(crate) fn of(e: &reqwest::Error) -> Option<Self> {
        match tls_error(e)? {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
                other.downcast_ref::<Self>().cloned()
            }
            _ => None,
        }
    }
}

/// The TLS error behind an error of the HTTP client.
fn tls_error(e: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = e.source();
    while let Some(e) = next {
        if let Some(tls) = e.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        // `source()` of an I/O error skips the error that it contains.
        let inner = e.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = inner.map_or_else(|| e.source(), |inner| Some(inner as &(dyn Error + 'static)));
    }
    None
}

/// Trusts exactly one key, whatever name and validity the certificate has. The handshake proves
/// that the server has the private key.
#[derive(Debug)]
struct PinVerifier {
    /// `None` trusts every key. Used only to read the fingerprint.
    expected: Option<Pin>,
    found: Arc<Mutex<Option<Pin>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let found = Pin(sha256_hex(&ParsedCertificate::try_from(leaf)?.subject_public_key_info()));
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
        match &self.expected {
            Some(expected) if *expected != found => {
                let other = OtherKey { expected: expected.clone(), found };
                Err(CertificateError::Other(OtherError(Arc::new(other))).into())
            }
            Some(_) | None => Ok(ServerCertVerified::assertion()),
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn tls(expected: Option<Pin>, found: &Arc<Mutex<Option<Pin>>>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        PinVerifier { expected, found: Arc::clone(found), provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ClientError::Tls)?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

fn require_tls(url: &str) -> Result<()> {
    if url.starts_with("https://") { Ok(()) } else { Err(ClientError::NotHttps(url.to_owned())) }
}

/// An HTTP client that accepts only this key.
pub(crate) fn pinned(url: &str, pin: &Pin) -> Result<reqwest::Client> {
    require_tls(url)?;
    // A redirect could lead to plain HTTP; the API has none.
    let builder = http_client().redirect(reqwest::redirect::Policy::none()).https_only(true);
    Ok(builder.tls_backend_preconfigured(tls(Some(pin.clone()), &Arc::default())?).build()?)
}

impl Client {
    /// A client of the API at an `https://` address whose key has this fingerprint. The name,
    /// issuer and validity of the certificate are not checked, because the key is known.
    ///
    /// # Errors
    /// [`ClientError::NotHttps`] for another address; [`ClientError::Transport`] when TLS cannot be
    /// set up.
    pub fn pinned(url: &str, token: &str, pin: &Pin) -> Result<Self> {
        Ok(Self::with(pinned(url, pin)?, url, token))
    }
}

/// The fingerprint of the key of an `https://` server. Sends only an anonymous request. Nothing
/// proves that the right server responded: a person must compare the fingerprint.
///
/// # Errors
/// [`ClientError`].
pub async fn fingerprint_of(url: &str) -> Result<Pin> {
    require_tls(url)?;
    let found = Arc::default();
    let http = http_client()
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(tls(None, &found)?)
        .build()?;
    http.get(format!("{}/livez", url.trim_end_matches('/'))).send().await?;
    let found = found.lock().unwrap_or_else(PoisonError::into_inner).take();
    found.ok_or_else(|| ClientError::NotHttps(url.to_owned()))
}

/// Whether this machine trusts the server's certificate: it was issued by a public CA, or by one
/// that the administrator of the machine added.
///
/// # Errors
/// [`ClientError`] if the server cannot be reached.
pub async fn is_trusted(url: &str) -> Result<bool> {
    require_tls(url)?;
    let http = http_client().redirect(reqwest::redirect::Policy::none()).build()?;
    match http.get(format!("{}/livez", url.trim_end_matches('/'))).send().await {
        Ok(_) => Ok(true),
        Err(e) if matches!(tls_error(&e), Some(rustls::Error::InvalidCertificate(_))) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
