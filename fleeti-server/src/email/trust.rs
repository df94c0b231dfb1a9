//! TLS of a relay: which certificates count.

use fleeti_control::email_relay::{EmailRelay, EmailTls};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;
use std::path::Path;
use std::sync::Arc;

/// TLS for a relay; `None` for a relay without TLS.
pub type Trust = Option<Arc<ClientConfig>>;

/// TLS for a relay: by the CAs of the system, or by those that the operator named.
///
/// # Errors
/// In words, with the name of the option.
pub fn trust(relay: &EmailRelay) -> Result<Trust, String> {
    if relay.tls == EmailTls::None {
        return Ok(None);
    }
    let usual = || Arc::new(aws_lc_rs::default_provider());
    let provider = CryptoProvider::get_default().cloned().unwrap_or_else(usual);
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let config = match &relay.ca {
        Some(path) => {
            let wrong = |e: String| format!("email_ca: {}: {e}", path.display());
            let roots = Arc::new(roots(path).map_err(wrong)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
            config.with_webpki_verifier(verifier.map_err(|e| wrong(e.to_string()))?)
        }
        None => {
            let verifier =
                Verifier::new(provider).map_err(|e| format!("CAs of the system: {e}"))?;
            config.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    Ok(Some(Arc::new(config.with_no_client_auth())))
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| e.to_string())? {
        let certificate = certificate.map_err(|e| e.to_string())?;
        roots.add(certificate).map_err(|e| e.to_string())?;
    }
    if roots.is_empty() {
        return Err("contains no certificate".to_owned());
    }
    Ok(roots)
}
