//! Which servers this device trusts: those whose certificate chains to a trusted root, through an
//! intermediate CA that this root has not revoked, at a plausible time.

use crate::clock::Clock;
use crate::{Paths, anchors, trust_bundle};
use anyhow::Result;
use fleeti_pki::certificate;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use std::sync::Arc;
use std::time::Duration;

/// The TLS builder before the client's own certificate is chosen.
pub type WantsClientCert = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// TLS that trusts exactly what the image's trust anchors lead to.
///
/// # Errors
/// If the image has no root.
pub fn builder(paths: &Paths) -> Result<WantsClientCert> {
    let provider = provider();
    let mut roots = Vec::new();
    for root in anchors::of_daemon(paths)?.roots() {
        let mut store = rustls::RootCertStore::empty();
        store.add(certificate::to_der(root)?.into())?;
        let mut verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider));
        if let Some(bundle) = trust_bundle::of_root(paths, root)? {
            // The root's CRL revokes intermediates. The CRLs of intermediates would revoke server
            // certificates, but devices do not have them. An expired CRL still revokes.
            let list = CertificateRevocationListDer::from(bundle.crl().to_vec());
            verifier = verifier.with_crls([list]).allow_unknown_revocation_status();
        }
        roots.push(verifier.build()?);
    }
    let verifier = Arc::new(ServerTrust {
        roots,
        clock: paths.clock.clone(),
        provider: Arc::clone(&provider),
    });
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

/// One verifier for each root: all roots have the same name, and the CRL of one does not cover
/// another's intermediates.
#[derive(Debug)]
struct ServerTrust {
    roots: Vec<Arc<WebPkiServerVerifier>>,
    clock: Clock,
    provider: Arc<CryptoProvider>,
}

impl ServerTrust {
    /// The time by this device's own clock: an attacker who sets the clock back must not make
    /// expired certificates valid, and a wrong clock must not make all of them expire.
    fn at(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> UnixTime {
        let begins = |der: &CertificateDer<'_>| {
            certificate::from_der(der).map_or(0, |c| certificate::not_before_s(&c))
        };
        let not_before_s =
            std::iter::once(leaf).chain(intermediates).map(begins).max().unwrap_or(0);
        UnixTime::since_unix_epoch(Duration::from_secs(self.clock.verification_s(not_before_s)))
    }
}

impl ServerCertVerifier for ServerTrust {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let at = self.at(leaf, intermediates);
        let mut refused = Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        // The newest root first.
        for root in self.roots.iter().rev() {
            match root.verify_server_cert(leaf, intermediates, name, ocsp, at) {
                Ok(verified) => return Ok(verified),
                // A definite error from one root is more useful than that another root does not
                // know the certificate.
                Err(Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {}
                Err(e) => refused = e,
            }
        }
        Err(refused)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
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
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
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

/// Connections to unverified servers.
pub mod danger {
    use super::{
        Arc, CertificateDer, ClientConfig, CryptoProvider, DigitallySignedStruct, Error,
        HandshakeSignatureValid, Result, ServerCertVerified, ServerCertVerifier, ServerName,
        SignatureScheme, UnixTime, provider,
    };

    /// TLS that accepts every certificate and presents none: for public documents that are
    /// themselves signed.
    ///
    /// # Errors
    /// If rustls has no protocol version.
    pub fn of_any_server() -> Result<ClientConfig> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
            .with_no_client_auth())
    }

    #[derive(Debug)]
    struct AnyServer(Arc<CryptoProvider>);

    impl ServerCertVerifier for AnyServer {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            rustls::crypto::verify_tls12_signature(
                message,
                certificate,
                dss,
                &self.0.signature_verification_algorithms,
            )
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            rustls::crypto::verify_tls13_signature(
                message,
                certificate,
                dss,
                &self.0.signature_verification_algorithms,
            )
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
