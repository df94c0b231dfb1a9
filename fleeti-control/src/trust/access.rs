//! Which certificates of devices count now: the CRLs in use, the revoked devices and the keys that
//! were replaced.
//!
//! INVARIANT: both CRL and database can revoke. An expired CRL still revokes, but its expiry
//! refuses no device: the database is checked at every CONNECT and request, and a signing service
//! that is away must not take a fleet offline.

use arc_swap::ArcSwap;
use bytes::Bytes;
use fleeti_core::id::DeviceId;
use fleeti_pki::certificate;
use fleeti_pki::crl::{Refusal, VerifiedCrl};
use std::collections::{HashSet, VecDeque};
use std::sync::{PoisonError, RwLock};
use x509_cert::Certificate;

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

impl CheckedCrls {
    /// The intermediate CAs that issued them.
    pub fn issuers(&self) -> impl Iterator<Item = &Certificate> {
        self.crls.iter().map(|crl| &crl.issuer)
    }
}

/// The CRLs in use, one per issuer. The issuers have different names.
#[derive(Debug)]
struct InUse {
    verified: Vec<VerifiedCrl>,
    /// The published CRLs, by the ids of their issuers' keys.
    published: Vec<(String, Bytes)>,
}

impl From<CheckedCrls> for InUse {
    fn from(CheckedCrls { crls, verified }: CheckedCrls) -> Self {
        let published = crls.into_iter().map(|l| (l.key_id, Bytes::from(l.crl))).collect();
        Self { verified, published }
    }
}

/// Which certificates of devices count now.
#[derive(Debug)]
pub struct Access {
    crls: ArcSwap<InUse>,
    revoked: RwLock<Revoked>,
}

impl Access {
    /// With the first CRLs. No device is revoked by the database yet.
    pub(crate) fn new(crls: CheckedCrls) -> Self {
        Self { crls: ArcSwap::from_pointee(crls.into()), revoked: RwLock::default() }
    }

    /// Checks that neither the issuer's CRL nor the database has revoked a certificate. The CRL's
    /// signature was checked when it was put in use.
    ///
    /// # Errors
    /// Why the certificate is refused.
    pub fn check(&self, leaf: &Certificate, now_s: u64) -> Result<(), Refusal> {
        let of_another = |r: &Result<(), Refusal>| matches!(r, Err(Refusal::OtherIssuer));
        let by_crl = self
            .crls
            .load()
            .verified
            .iter()
            .map(|crl| crl.check(leaf, now_s))
            .find(|r| !of_another(r))
            .unwrap_or(Err(Refusal::OtherIssuer));
        if let Ok(device) = certificate::device_of(leaf)
            && self.is_revoked(&device)
        {
            return Err(Refusal::Revoked);
        }
        match by_crl {
            Err(Refusal::Stale { .. }) => Ok(()),
            other => other,
        }
    }

    /// Checks that CRLs can replace those in use.
    ///
    /// # Errors
    /// When a CRL is older than the one in use.
    pub(super) fn check_newer(&self, crls: &CheckedCrls) -> anyhow::Result<()> {
        let now = self.crls.load();
        let is_older = |crl: &VerifiedCrl| {
            now.verified.iter().any(|n| n.is_of_same_issuer(crl) && !crl.follows(n))
        };
        anyhow::ensure!(!crls.verified.iter().any(is_older), "a CRL is older than the current one");
        Ok(())
    }

    /// Puts CRLs in use that [`Self::check_newer`] has accepted.
    pub(super) fn put_in_use(&self, crls: CheckedCrls) {
        self.crls.store(std::sync::Arc::new(crls.into()));
    }

    /// The earliest expiry (`nextUpdate`) of the CRLs, Unix seconds.
    pub(crate) fn crl_ends_s(&self) -> u64 {
        self.crls.load().verified.iter().map(VerifiedCrl::next_update_s).min().unwrap_or(0)
    }

    /// The CRL of an issuer, DER, by the id of its key.
    #[must_use]
    pub fn crl(&self, key_id: &str) -> Option<Bytes> {
        let crls = self.crls.load();
        crls.published.iter().find(|(id, _)| id == key_id).map(|(_, crl)| crl.clone())
    }

    /// Marks a device as revoked, also for open connections.
    pub(super) fn revoke(&self, device: DeviceId) {
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        revoked.devices.insert(device);
        revoked.count += 1;
    }
    /// Number of revocations since the start.
    pub(super) fn revocations(&self) -> u64 {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).count
    }
    /// Sets the revoked devices from the database. `count`: number of revocations when the database
    /// was read. If there were others meanwhile, devices are only added, and holds that were
    /// released take effect the next time.
    pub(super) fn set_revoked(&self, devices: HashSet<DeviceId>, count: u64) {
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        if revoked.count == count {
            revoked.devices = devices;
        } else {
            revoked.devices.extend(devices);
        }
    }
    /// Records that a key was replaced.
    pub(crate) fn replace_key(&self, key_sha256: String) {
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
