//! TLS of the device ports: one verifier of client certificates, replaced at every revocation.

use arc_swap::ArcSwap;
use fleeti_control::clock::Clock;
use fleeti_control::ports::{Ports, ServerIdentity};
use fleeti_control::trust::access::Access;
use fleeti_core::wire::mqtt::ALPN_MQTT;
use fleeti_pki::certificate;
use fleeti_pki::crl::Refusal;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;
use x509_cert::Certificate;

/// The current certificate of both ports.
#[derive(Debug)]
struct CurrentCertificate(ArcSwap<CertifiedKey>);

impl CurrentCertificate {
    fn certified(
        identity: ServerIdentity,
        provider: &CryptoProvider,
    ) -> anyhow::Result<CertifiedKey> {
        let key = provider.key_provider.load_private_key(identity.key)?;
        Ok(CertifiedKey::new(identity.chain, key))
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

struct Swapped {
    mqtt: Arc<ServerConfig>,
    verifier: Arc<DeviceVerifier>,
}

/// webpki checks the certificate; the control plane decides whether it counts
/// ([`Access::check`]).
#[derive(Debug)]
struct DeviceVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    access: Arc<Access>,
}

/// TLS of the device ports.
pub struct TlsState {
    certificate: Arc<CurrentCertificate>,
    provider: Arc<CryptoProvider>,
    swapped: ArcSwap<Swapped>,
    access: Arc<Access>,
    clock: TlsClock,
}

/// The clock of the control plane, for rustls.
#[derive(Debug, Clone)]
pub struct TlsClock(pub Clock);

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.now_s())))
    }
}

impl TlsState {
    /// Creates the state. `issuers`: the intermediate CAs of devices.
    ///
    /// # Errors
    /// When rustls refuses certificate or key.
    pub fn new(
        identity: ServerIdentity,
        access: Arc<Access>,
        issuers: &[Certificate],
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let (provider, clock) =
            (Arc::new(rustls::crypto::aws_lc_rs::default_provider()), TlsClock(clock));
        let certificate = Arc::new(CurrentCertificate(ArcSwap::from_pointee(
            CurrentCertificate::certified(identity, &provider)?,
        )));
        let first = build(&certificate, &provider, &clock, &access, issuers)?;
        Ok(Self { certificate, provider, swapped: ArcSwap::from_pointee(first), access, clock })
    }

    /// The current configuration of the MQTT port.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.swapped.load().mqtt)
    }
}

impl Ports for TlsState {
    fn use_issuers(&self, issuers: &[Certificate]) -> anyhow::Result<()> {
        let next = build(&self.certificate, &self.provider, &self.clock, &self.access, issuers)?;
        self.swapped.store(Arc::new(next));
        Ok(())
    }

    fn use_identity(&self, identity: ServerIdentity) -> anyhow::Result<()> {
        self.certificate
            .0
            .store(Arc::new(CurrentCertificate::certified(identity, &self.provider)?));
        Ok(())
    }

    fn identity_ends_s(&self) -> Option<u64> {
        let chain = self.certificate.0.load();
        let leaf = chain.cert.first().and_then(|leaf| certificate::from_der(leaf).ok());
        leaf.map(|leaf| certificate::not_after_s(&leaf))
    }
}

/// The intermediate CAs for devices are the trust anchors: the chain is shorter, and no other
/// certificates verify.
fn build(
    certificate: &Arc<CurrentCertificate>,
    provider: &Arc<CryptoProvider>,
    clock: &TlsClock,
    access: &Arc<Access>,
    issuers: &[Certificate],
) -> anyhow::Result<Swapped> {
    let mut roots = RootCertStore::empty();
    for issuer in issuers {
        roots.add(certificate::to_der(issuer)?.into())?;
    }
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()?;
    let verifier = Arc::new(DeviceVerifier { chain, access: Arc::clone(access) });
    let mqtt = ServerConfig::builder_with_details(Arc::clone(provider), Arc::new(clock.clone()))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::clone(&verifier) as Arc<dyn ClientCertVerifier>)
        .with_cert_resolver(Arc::clone(certificate) as Arc<dyn ResolvesServerCert>);
    Ok(Swapped { mqtt: Arc::new(mqtt), verifier })
}

impl ClientCertVerifier for DeviceVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(leaf, chain, now)?;
        let leaf = certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
        match self.access.check(&leaf, now.as_secs()) {
            Ok(()) => Ok(verified),
            Err(Refusal::Revoked) => Err(CertificateError::Revoked.into()),
            Err(_) => Err(CertificateError::UnknownRevocationStatus.into()),
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The configuration of the HTTPS device port: HTTP/1.1, or MQTT if the client requests it by ALPN.
/// The client certificate is optional (enrollment has none). Always uses the current verifier, and
/// resumes no sessions, because resumption skips the verifier.
///
/// # Errors
/// When rustls refuses certificate or key.
pub fn https_config(tls: &Arc<TlsState>) -> anyhow::Result<ServerConfig> {
    let hints = tls.swapped.load().verifier.root_hint_subjects().to_vec();
    let verifier = Arc::new(CurrentVerifier { tls: Arc::clone(tls), hints });
    let mut config =
        ServerConfig::builder_with_details(Arc::clone(&tls.provider), Arc::new(tls.clock.clone()))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&tls.certificate) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![b"http/1.1".to_vec(), ALPN_MQTT.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

struct CurrentVerifier {
    tls: Arc<TlsState>,
    hints: Vec<DistinguishedName>,
}

impl std::fmt::Debug for CurrentVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CurrentVerifier")
    }
}

impl CurrentVerifier {
    fn now(&self) -> Arc<DeviceVerifier> {
        Arc::clone(&self.tls.swapped.load().verifier)
    }
}

impl ClientCertVerifier for CurrentVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.now().verify_client_cert(leaf, chain, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.now().verify_tls12_signature(message, certificate, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.now().verify_tls13_signature(message, certificate, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.now().supported_verify_schemes()
    }
}
