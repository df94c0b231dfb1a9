//! TLS of the device ports: one verifier of client certificates, replaced at every revocation.

use crate::clock::Clock;
use arc_swap::ArcSwap;
use bytes::Bytes;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::mqtt::ALPN_MQTT;
use fleeti_pki::certificate;
use fleeti_pki::crl::{Refusal, VerifiedCrl};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};
use x509_cert::Certificate;

/// A server's certificate chain and key.
pub struct ServerIdentity {
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key, PKCS#8.
    pub key: PrivateKeyDer<'static>,
}

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
    /// The published CRLs, by the ids of their issuers' keys.
    published: Vec<(String, Bytes)>,
}

/// An intermediate CA for devices, with its CRL.
#[derive(Clone)]
pub struct IssuerCrl {
    /// Id of its key.
    pub key_id: String,
    /// Its certificate.
    pub issuer: Certificate,
    /// Its CRL, DER.
    pub crl: Vec<u8>,
}

/// webpki checks the certificate; the current CRL and the database decide whether it is revoked.
/// The CRL's signature is checked once, when the CRL is put in use, and not at every handshake as
/// in webpki.
///
/// INVARIANT: both CRL and database can revoke. An expired CRL still revokes, but its expiry
/// refuses no device: the database is checked at every CONNECT and request, and a signing service
/// that is away must not take a fleet offline.
#[derive(Debug)]
struct DeviceVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    /// One CRL per issuer. The issuers have different names.
    crls: Vec<VerifiedCrl>,
    revoked: Arc<RwLock<Revoked>>,
}

impl DeviceVerifier {
    /// Checks that the issuer's CRL does not contain the certificate.
    fn check(&self, leaf: &Certificate, now_s: u64) -> Result<(), Refusal> {
        let of_another = |r: &Result<(), Refusal>| matches!(r, Err(Refusal::OtherIssuer));
        let by_crl = self
            .crls
            .iter()
            .map(|crl| crl.check(leaf, now_s))
            .find(|r| !of_another(r))
            .unwrap_or(Err(Refusal::OtherIssuer));
        if let Ok(device) = certificate::device_of(leaf)
            && self.revoked.read().unwrap_or_else(PoisonError::into_inner).devices.contains(&device)
        {
            return Err(Refusal::Revoked);
        }
        match by_crl {
            Err(Refusal::Stale { .. }) => Ok(()),
            other => other,
        }
    }
}

/// The revoked devices, and the number of revocations since the start.
#[derive(Debug, Default)]
struct Revoked {
    devices: HashSet<DeviceId>,
    count: u64,
    /// SHA-256 of keys that were replaced since the start. Their open transfers are aborted.
    replaced: HashSet<String>,
    /// The same keys, oldest first.
    in_order: VecDeque<String>,
}

/// Maximum number of remembered replaced keys. A connection with an older key ends at its next
/// request, when the database is checked.
const REPLACED_MAX: usize = 4096;

/// TLS of the device ports.
pub struct TlsState {
    certificate: Arc<CurrentCertificate>,
    provider: Arc<CryptoProvider>,
    swapped: ArcSwap<Swapped>,
    revoked: Arc<RwLock<Revoked>>,
    clock: Clock,
}

/// CRLs whose signatures were checked, which is slow for large ones.
pub struct CheckedCrls {
    crls: Vec<IssuerCrl>,
    verified: Vec<VerifiedCrl>,
}

impl CheckedCrls {
    /// Parses CRLs and checks their signatures.
    ///
    /// # Errors
    /// When a CRL is not signed by its issuer.
    pub fn read(crls: Vec<IssuerCrl>) -> anyhow::Result<Self> {
        let verified = crls
            .iter()
            .map(|l| Ok(VerifiedCrl::read(&l.crl, &l.issuer)?))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { crls, verified })
    }
}

impl TlsState {
    /// Creates the state with the first CRLs.
    ///
    /// # Errors
    /// When rustls refuses certificate, key or CRL.
    pub fn new(identity: ServerIdentity, crls: CheckedCrls, clock: Clock) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificate = Arc::new(CurrentCertificate(ArcSwap::from_pointee(
            CurrentCertificate::certified(identity, &provider)?,
        )));
        let revoked = Arc::default();
        let first = build((&certificate, &provider, &clock), &revoked, crls)?;
        Ok(Self { certificate, provider, swapped: ArcSwap::from_pointee(first), revoked, clock })
    }

    /// Puts new CRLs in use, with a new TLS session store. Only devices of their issuers can
    /// connect.
    ///
    /// # Errors
    /// When a CRL is not signed by its issuer, or older than the current one. Then nothing changes.
    pub fn swap(&self, crls: &[IssuerCrl]) -> anyhow::Result<()> {
        self.swap_checked(CheckedCrls::read(crls.to_vec())?)
    }

    /// Like [`Self::swap`], for CRLs whose signatures were checked before, which is slow for large
    /// ones.
    ///
    /// # Errors
    /// When a CRL is older than the current one. Then nothing changes.
    pub fn swap_checked(&self, crls: CheckedCrls) -> anyhow::Result<()> {
        let now = self.swapped.load();
        let is_older = |crl: &VerifiedCrl| {
            now.verifier.crls.iter().any(|n| n.is_of_same_issuer(crl) && !crl.follows(n))
        };
        anyhow::ensure!(!crls.verified.iter().any(is_older), "a CRL is older than the current one");
        self.swapped.store(Arc::new(build(
            (&self.certificate, &self.provider, &self.clock),
            &self.revoked,
            crls,
        )?));
        Ok(())
    }

    /// Puts a new server certificate in use, for new connections.
    ///
    /// # Errors
    /// When rustls refuses the key.
    pub fn renew(&self, identity: ServerIdentity) -> anyhow::Result<()> {
        self.certificate
            .0
            .store(Arc::new(CurrentCertificate::certified(identity, &self.provider)?));
        Ok(())
    }

    /// Expiry of the server's own certificate, Unix seconds.
    #[must_use]
    pub fn identity_ends_s(&self) -> u64 {
        let chain = self.certificate.0.load();
        chain
            .cert
            .first()
            .and_then(|leaf| certificate::from_der(leaf).ok())
            .map_or(0, |leaf| certificate::not_after_s(&leaf))
    }

    /// The earliest expiry (`nextUpdate`) of the CRLs, Unix seconds.
    #[must_use]
    pub fn crl_ends_s(&self) -> u64 {
        self.swapped.load().verifier.crls.iter().map(VerifiedCrl::next_update_s).min().unwrap_or(0)
    }

    /// The CRL of an issuer, DER, by the id of its key.
    #[must_use]
    pub fn crl(&self, key_id: &str) -> Option<Bytes> {
        self.swapped
            .load()
            .published
            .iter()
            .find(|(id, _)| id == key_id)
            .map(|(_, crl)| crl.clone())
    }

    /// The current configuration of the MQTT port.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.swapped.load().mqtt)
    }

    /// Marks a device as revoked, also for open connections.
    pub fn revoke(&self, device: DeviceId) {
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        revoked.devices.insert(device);
        revoked.count += 1;
    }
    /// Number of revocations since the start.
    #[must_use]
    pub fn revocations(&self) -> u64 {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).count
    }
    /// Sets the revoked devices from the database. `count`: number of revocations when the database
    /// was read. If there were others meanwhile, devices are only added, and holds that were
    /// released take effect the next time.
    pub fn set_revoked(&self, devices: HashSet<DeviceId>, count: u64) {
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        if revoked.count == count {
            revoked.devices = devices;
        } else {
            revoked.devices.extend(devices);
        }
    }
    /// Records that a key was replaced.
    pub fn replace_key(&self, key_sha256: String) {
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        if revoked.in_order.len() >= REPLACED_MAX
            && let Some(oldest) = revoked.in_order.pop_front()
        {
            revoked.replaced.remove(&oldest);
        }
        revoked.in_order.push_back(key_sha256.clone());
        revoked.replaced.insert(key_sha256);
    }
    /// Whether a key was replaced recently.
    #[must_use]
    pub fn is_replaced(&self, key_sha256: &str) -> bool {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).replaced.contains(key_sha256)
    }
    /// Whether a device is revoked.
    #[must_use]
    pub fn is_revoked(&self, device: &DeviceId) -> bool {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).devices.contains(device)
    }
}

/// The intermediate CAs for devices are the trust anchors: the chain is shorter, and no other
/// certificates verify.
fn build(
    (certificate, provider, clock): (&Arc<CurrentCertificate>, &Arc<CryptoProvider>, &Clock),
    revoked: &Arc<RwLock<Revoked>>,
    CheckedCrls { crls, verified }: CheckedCrls,
) -> anyhow::Result<Swapped> {
    let mut roots = RootCertStore::empty();
    for crl in &crls {
        roots.add(certificate::to_der(&crl.issuer)?.into())?;
    }
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()?;
    let verifier = Arc::new(DeviceVerifier { chain, crls: verified, revoked: Arc::clone(revoked) });
    let published = crls.into_iter().map(|l| (l.key_id, Bytes::from(l.crl))).collect();
    let mqtt = ServerConfig::builder_with_details(Arc::clone(provider), Arc::new(clock.clone()))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::clone(&verifier) as Arc<dyn ClientCertVerifier>)
        .with_cert_resolver(Arc::clone(certificate) as Arc<dyn ResolvesServerCert>);
    Ok(Swapped { mqtt: Arc::new(mqtt), verifier, published })
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
pub fn https_config(app: &crate::app::AppRef) -> anyhow::Result<ServerConfig> {
    let tls = &app.tls;
    let hints = tls.swapped.load().verifier.root_hint_subjects().to_vec();
    let verifier = Arc::new(CurrentVerifier { app: Arc::clone(app), hints });
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
