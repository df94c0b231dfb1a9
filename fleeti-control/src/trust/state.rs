//! The intermediate CAs that count, and what else the trust area keeps in memory.

use crate::error::Error;
use arc_swap::ArcSwap;
use bytes::Bytes;
use fleeti_pki::bundle;
use fleeti_pki::certificate::{self, Purpose};
use std::sync::atomic::AtomicU64;
use tokio::sync::{Mutex, Notify};
use x509_cert::Certificate;

/// An intermediate CA that counts.
#[derive(Clone)]
pub struct Accepted {
    /// What it certifies.
    pub purpose: Purpose,
    /// Its certificate.
    pub certificate: Certificate,
    /// Its certificate, PEM: every device gets it with its own certificate.
    pub pem: String,
    /// SHA-256 of its certificate.
    pub sha256: String,
    /// Id of its key, which is the name of its CRL.
    pub key_id: String,
}

impl Accepted {
    pub(super) fn of(purpose: Purpose, certificate: &Certificate) -> Result<Self, Error> {
        let (sha256, key_id) = bundle::names(certificate)?;
        Ok(Self {
            purpose,
            certificate: certificate.clone(),
            pem: certificate::to_pem(certificate)?,
            sha256,
            key_id,
        })
    }
}

/// The intermediate CAs that count, and the issuing ones.
#[derive(Clone)]
pub struct Trust {
    pub(super) version: u64,
    pub(super) root_crl_ends_s: Option<u64>,
    pub(super) accepted: Vec<Accepted>,
    pub(super) device: Accepted,
    pub(super) server: Accepted,
}

impl Trust {
    /// Version of the bundle; 0 before the first.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
    /// Warnings about what expires soon, or has expired, and the server cannot renew. Intermediate
    /// CAs that do not issue may expire: that ends a rotation.
    pub(super) fn warnings(&self, now_s: u64) -> Vec<String> {
        let list = self
            .root_crl_ends_s
            .and_then(|at| ends(at, now_s, SOON_S))
            .map(|ends| format!("the root's CRL {ends}; with an expired CRL the server accepts no trust bundle: hold a ceremony (`fleeti pki root crl`)"));
        let issuing = [(Purpose::Device, &self.device), (Purpose::Server, &self.server)].into_iter().filter_map(|(purpose, a)| {
            let ends = ends(certificate::not_after_s(&a.certificate), now_s, SOON_S)?;
            let name = a.certificate.tbs_certificate().subject();
            Some(format!("the {} intermediate CA {name} {ends}: certify a new one with the root (`fleeti pki root sign`)", purpose.as_str()))
        });
        list.into_iter().chain(issuing).collect()
    }
    /// The intermediate CA that issues device certificates.
    #[must_use]
    pub fn device(&self) -> &Accepted {
        &self.device
    }
    /// The intermediate CA that issues server certificates.
    #[must_use]
    pub fn server(&self) -> &Accepted {
        &self.server
    }
    /// When the root's CRL in the bundle ends, Unix seconds; `None` before the first bundle.
    #[must_use]
    pub fn root_crl_ends_s(&self) -> Option<u64> {
        self.root_crl_ends_s
    }
    /// All intermediate CAs that count.
    pub fn accepted(&self) -> impl Iterator<Item = &Accepted> {
        self.accepted.iter()
    }
    /// The intermediate CAs for devices.
    pub fn devices(&self) -> impl Iterator<Item = &Accepted> {
        self.accepted.iter().filter(|a| a.purpose == Purpose::Device)
    }
}

/// Warn about what expires within this time, because ceremonies and rotations take long.
const SOON_S: u64 = 30 * 86_400;

/// Words for an expiry that is past or soon, else `None`.
pub(super) fn ends(at_s: u64, now_s: u64, soon_s: u64) -> Option<String> {
    match at_s.checked_sub(now_s) {
        None => Some("has expired".into()),
        Some(left_s) if left_s < soon_s => Some(format!("expires in {} days", left_s / 86_400)),
        Some(_) => None,
    }
}

/// Coordinates publication of CRLs: concurrent revocations share one new CRL.
#[derive(Default)]
pub(super) struct Crls {
    /// Held while CRLs are signed and put in use.
    pub(super) alone: Mutex<()>,
    pub(super) wanted: AtomicU64,
    pub(super) done: AtomicU64,
    /// Signals that a CRL could not be signed and must be retried soon.
    pub(super) retry: Notify,
}

/// What the trust area keeps in memory. Only this area reads it.
pub(crate) struct TrustState {
    /// The intermediate CAs that count.
    pub(super) current: ArcSwap<Trust>,
    /// Coordinates publication of CRLs.
    pub(super) crls: Crls,
    /// Held while the notice to devices is made.
    pub(super) notices: Mutex<()>,
    /// The notice for all devices, encoded.
    pub(super) notice: ArcSwap<Bytes>,
}

impl TrustState {
    pub(crate) fn new(trust: Trust) -> Self {
        Self {
            current: ArcSwap::from_pointee(trust),
            crls: Crls::default(),
            notices: Mutex::new(()),
            notice: ArcSwap::default(),
        }
    }
}
