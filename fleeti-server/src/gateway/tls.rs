//! Who may connect: one verifier for both device ports, swapped at every revocation.

use arc_swap::ArcSwap;
use fleeti_core::id::DeviceId;
use fleeti_pki::certificate;
use fleeti_pki::crl::{Refusal, VerifiedList};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use x509_cert::Certificate;

/// A server's certificate chain and key.
pub struct ServerIdentity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8.
    pub key: PrivateKeyDer<'static>,
}

/// The certificate of now, on both ports.
#[derive(Debug)]
struct CurrentCertificate(ArcSwap<CertifiedKey>);

impl CurrentCertificate {
    fn certified(identity: ServerIdentity, provider: &CryptoProvider) -> anyhow::Result<CertifiedKey> {
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
    /// The lists as they are published.
    lists: Vec<IssuerList>,
}

/// A device intermediate with its revocation list.
#[derive(Clone)]
pub struct IssuerList {
    /// Id of its key.
    pub key_id: String,
    /// Its certificate.
    pub issuer: Certificate,
    /// The list, DER.
    pub list: Vec<u8>,
}

/// webpki checks the certificate, and the list of now whether it is revoked. The list's own signature was checked when
/// it was swapped in, and not for every handshake as webpki does.
#[derive(Debug)]
struct DeviceVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    /// One of each issuer; they have different names.
    lists: Vec<VerifiedList>,
}

impl DeviceVerifier {
    /// That the issuer's list does not have the certificate.
    fn check(&self, leaf: &Certificate, now_s: u64) -> Result<(), Refusal> {
        let of_another = |r: &Result<(), Refusal>| matches!(r, Err(Refusal::OtherIssuer));
        self.lists.iter().map(|list| list.check(leaf, now_s)).find(|r| !of_another(r)).unwrap_or(Err(Refusal::OtherIssuer))
    }
}

/// Who is revoked, and how many have been since the start.
#[derive(Default)]
struct Revoked {
    devices: HashSet<DeviceId>,
    count: u64,
}

/// TLS of the device ports.
pub struct TlsState {
    certificate: Arc<CurrentCertificate>,
    provider: Arc<CryptoProvider>,
    swapped: ArcSwap<Swapped>,
    revoked: RwLock<Revoked>,
}

impl TlsState {
    /// With the first revocation lists.
    ///
    /// # Errors
    /// When rustls refuses certificate, key or list.
    pub fn new(identity: ServerIdentity, lists: &[IssuerList]) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificate = Arc::new(CurrentCertificate(ArcSwap::from_pointee(CurrentCertificate::certified(identity, &provider)?)));
        let first = build(&certificate, &provider, verified(lists)?, lists)?;
        Ok(Self { certificate, provider, swapped: ArcSwap::from_pointee(first), revoked: RwLock::default() })
    }

    /// Swaps new lists in, with a new session store. Only devices of their issuers may come.
    ///
    /// # Errors
    /// When a list is not by its issuer, or older than the one of now; then everything stays.
    pub fn swap(&self, lists: &[IssuerList]) -> anyhow::Result<()> {
        let verified = verified(lists)?;
        let now = self.swapped.load();
        let is_older = |list: &VerifiedList| now.verifier.lists.iter().any(|n| n.is_of_same_issuer(list) && !list.follows(n));
        anyhow::ensure!(!verified.iter().any(is_older), "a revocation list is older than the one of now");
        self.swapped.store(Arc::new(build(&self.certificate, &self.provider, verified, lists)?));
        Ok(())
    }

    /// Swaps a new certificate in, for connections from now on.
    ///
    /// # Errors
    /// When rustls refuses the key.
    pub fn renew(&self, identity: ServerIdentity) -> anyhow::Result<()> {
        self.certificate.0.store(Arc::new(CurrentCertificate::certified(identity, &self.provider)?));
        Ok(())
    }

    /// When the first of the lists is not good any more, and no device of its issuer can connect, Unix seconds.
    #[must_use]
    pub fn list_ends_s(&self) -> u64 {
        self.swapped.load().verifier.lists.iter().map(VerifiedList::next_update_s).min().unwrap_or(0)
    }

    /// The list of an issuer, DER, by the id of its key.
    #[must_use]
    pub fn revocation_list(&self, key_id: &str) -> Option<Vec<u8>> {
        self.swapped.load().lists.iter().find(|l| l.key_id == key_id).map(|l| l.list.clone())
    }

    /// The MQTT port's configuration now.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.swapped.load().mqtt)
    }

    /// Marks a device revoked for connections that are open.
    pub fn revoke(&self, device: DeviceId) {
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        revoked.devices.insert(device);
        revoked.count += 1;
    }
    /// How many devices were revoked since the start.
    #[must_use]
    pub fn revocations(&self) -> u64 {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).count
    }
    /// Who is revoked, by the database, and how many had been when it was asked. Whoever was revoked meanwhile stays
    /// revoked; whoever was let go then waits for the next time.
    pub fn set_revoked(&self, devices: HashSet<DeviceId>, count: u64) {
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        if revoked.count == count {
            revoked.devices = devices;
        } else {
            revoked.devices.extend(devices);
        }
    }
    /// Whether a device was revoked.
    #[must_use]
    pub fn is_revoked(&self, device: &DeviceId) -> bool {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).devices.contains(device)
    }
}

fn verified(lists: &[IssuerList]) -> anyhow::Result<Vec<VerifiedList>> {
    lists.iter().map(|l| Ok(VerifiedList::read(&l.list, &l.issuer)?)).collect()
}

/// The device intermediates are the anchors: a shorter chain, and nobody else's certificates.
fn build(
    certificate: &Arc<CurrentCertificate>,
    provider: &Arc<CryptoProvider>,
    verified: Vec<VerifiedList>,
    lists: &[IssuerList],
) -> anyhow::Result<Swapped> {
    let mut roots = RootCertStore::empty();
    for list in lists {
        roots.add(certificate::to_der(&list.issuer)?.into())?;
    }
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build()?;
    let verifier = Arc::new(DeviceVerifier { chain, lists: verified });
    let mqtt = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::clone(&verifier) as Arc<dyn ClientCertVerifier>)
        .with_cert_resolver(Arc::clone(certificate) as Arc<dyn ResolvesServerCert>);
    Ok(Swapped { mqtt: Arc::new(mqtt), verifier, lists: lists.to_vec() })
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
        match self.check(&leaf, now.as_secs()) {
            Ok(()) => Ok(verified),
            Err(Refusal::Revoked) => Err(CertificateError::Revoked.into()),
            Err(Refusal::Stale { .. }) => Err(CertificateError::ExpiredRevocationList.into()),
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

/// The device port's configuration: a certificate is optional (enrollment has none), the verifier is always the
/// one of now, and no session is resumed, because resumption skips the verifier.
///
/// # Errors
/// When rustls refuses certificate or key.
pub fn https_config(app: &crate::app::AppRef) -> anyhow::Result<ServerConfig> {
    let tls = &app.tls;
    let hints = tls.swapped.load().verifier.root_hint_subjects().to_vec();
    let verifier = Arc::new(CurrentVerifier { app: Arc::clone(app), hints });
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&tls.provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(&tls.certificate) as Arc<dyn ResolvesServerCert>);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

struct CurrentVerifier {
    app: crate::app::AppRef,
    hints: Vec<DistinguishedName>,
}

impl std::fmt::Debug for CurrentVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CurrentVerifier")
    }
}

impl CurrentVerifier {
    fn now(&self) -> Arc<DeviceVerifier> {
        Arc::clone(&self.app.tls.swapped.load().verifier)
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
