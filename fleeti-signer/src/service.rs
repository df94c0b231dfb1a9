//! Keys with their purposes. A batch of requests is processed in this order: checks, intents, one
//! flush, signatures, outcomes, one flush, responses. So nothing is signed that is not in the log,
//! and a thousand requests cost two flushes.
//!
//! Code map: `plan` (checks and intents) · `apply` (signatures and outcomes) · `read` (requests that
//! change nothing).

mod apply;
mod plan;
mod read;

use crate::boot::{BootWork, LastRelease};
use crate::crls::Crls;
use crate::escrow::EscrowWork;
use crate::limits::{Buckets, Exhausted, Limits};
use crate::log::{AuditLog, LogError};
use crate::release::ServerRelease;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::DeviceId;
use fleeti_pki::audit::{Act, Stage};
use fleeti_pki::bundle;
use fleeti_pki::certificate::{self, Authority};
use fleeti_pki::crl::{Entries, Revoked};
use fleeti_pki::csr::ProvedKey;
use fleeti_pki::manifest::ReleaseKeys;
use fleeti_pki::signer::{Signer, fast};
use fleeti_pki::transparency::note::LogKey;
use fleeti_pki::wrap::WrapKey;
use fleeti_signer_client::wire::{Occasion, Request, Response};
use std::path::Path;
use std::sync::Arc;
use x509_cert::Certificate;

/// Prefixes of actions that only the signing service itself writes to the log.
const OWN_ACTIONS: [&str; 7] =
    ["certificate.", "crl.", "boot.", "signer.", "release.sign", "recovery-key.", "secret."];

/// A key that may be used for one purpose, with its certificate.
pub struct Issuer {
    /// Its certificate.
    pub certificate: Certificate,
    /// Its key.
    pub key: Box<dyn Signer>,
    sha256: String,
    key_id: String,
}

/// The issuer whose certificate has this digest; the first one for `None`.
fn find<'a>(issuers: &'a [Issuer], wanted: Option<&str>) -> Result<&'a Issuer, fleeti_pki::Error> {
    issuers
        .iter()
        .find(|i| wanted.is_none_or(|sha256| i.sha256 == sha256))
        .ok_or(fleeti_pki::Error::Refused("the signing service has no key for this intermediate"))
}

impl Issuer {
    /// Combines a key with its certificate.
    ///
    /// # Errors
    /// [`fleeti_pki::Error::Refused`] if the certificate is of another key.
    pub fn new(certificate: Certificate, key: Box<dyn Signer>) -> Result<Self, fleeti_pki::Error> {
        if certificate::public_key_der(&certificate)? != key.public_key_der() {
            return Err(fleeti_pki::Error::Refused("the certificate is of another key"));
        }
        let (sha256, key_id) = bundle::names(&certificate)?;
        Ok(Self { certificate, key, sha256, key_id })
    }
    /// The issuer, as an authority for certificates and CRLs.
    #[must_use]
    pub fn authority(&self) -> Authority<'_> {
        Authority { certificate: &self.certificate, signer: self.key.as_ref() }
    }
}

/// Every key of a server.
pub struct Keys {
    /// Issuers of device certificates and their CRLs; the first one is the default.
    pub device: Vec<Issuer>,
    /// Issuers of server certificates; the first one is the default.
    pub server: Vec<Issuer>,
    /// Signs checkpoints; an Ed25519 key.
    pub audit: Box<dyn Signer>,
    /// Name and public key of the audit log.
    pub log: LogKey,
    /// Release keys. Only EFI binaries of releases that they have signed are signed for a device.
    pub release: ReleaseKeys,
    /// Wraps the Secure Boot keys and recovery keys of devices and the secrets of fleets; `None`
    /// disables these.
    pub boot_wrap: Option<WrapKey>,
    /// Signs releases; `None` if this server has no release keys.
    pub releases: Option<Arc<ServerRelease>>,
    /// Address of the CRL of devices, for certificates.
    pub crl_url: Option<String>,
}

/// Why a request is not processed.
enum Refusal {
    /// The request is invalid.
    Wrong(String),
    /// A limit is reached.
    Limited(String),
}

impl Refusal {
    fn response(self) -> Response {
        match self {
            Self::Wrong(reason) => Response::Refused { reason },
            Self::Limited(reason) => Response::Limited { reason },
        }
    }
}

impl From<Exhausted> for Refusal {
    fn from(e: Exhausted) -> Self {
        Self::Limited(e.0)
    }
}

impl<E: std::error::Error> From<E> for Refusal {
    fn from(e: E) -> Self {
        Self::Wrong(e.to_string())
    }
}

/// Checked work that is about to be signed.
enum Work {
    Device {
        id: DeviceId,
        key: ProvedKey,
        valid_s: u64,
        protection: certificate::Protection,
        issuer: Option<String>,
    },
    Server {
        names: Vec<String>,
        key: ProvedKey,
        issuer: Option<String>,
    },
    List {
        staged: Entries,
        revoked: Vec<Revoked>,
        issuer: Option<String>,
        name: Option<String>,
    },
    Boot(BootWork),
    Escrow(EscrowWork),
}

enum Step {
    /// To be signed.
    Intended(Intended),
    /// A written entry, by number.
    Recorded(u64),
    /// Responds without signing or writing.
    Answered(Response),
    /// To be read after the flush.
    Read(Request),
    Refused(Refusal),
}

/// A certificate that a device shall get.
struct DeviceCertificate {
    device: DeviceId,
    csr_pem: String,
    valid_s: u64,
    protection: certificate::Protection,
    issuer: Option<String>,
}

/// Work whose intent is in the log.
struct Intended {
    work: Work,
    act: Act,
    /// Number of the intent.
    intent: u64,
}

/// Keys, log and limits.
pub struct SigningService {
    keys: Keys,
    log: AuditLog,
    left: Buckets,
    crls: Crls,
    release: LastRelease,
    checkpoint: Option<LastCheckpoint>,
}

/// The last checkpoint.
struct LastCheckpoint {
    /// Number of its entries.
    size: u64,
    /// When it was signed, Unix seconds.
    signed_s: u64,
    /// The signed note.
    note: String,
}

impl SigningService {
    /// Opens the log.
    ///
    /// # Errors
    /// [`LogError`], also when the log was tampered with.
    pub fn open(keys: Keys, log: &Path, limits: Limits) -> Result<Self, LogError> {
        fast::gather_entropy()?;
        let log = AuditLog::open(log, &keys.log)?;
        Ok(Self {
            keys,
            log,
            left: Buckets::new(limits),
            crls: Crls::default(),
            release: LastRelease::default(),
            checkpoint: None,
        })
    }

    /// Writes the approval policy to the log at each start: the policy is a file of the signing
    /// service, read at its start.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn record_policy(&mut self, now_s: u64) -> Result<(), LogError> {
        let Some(releases) = &self.keys.releases else { return Ok(()) };
        let act = Act::new("signer", "signer.release-policy", releases.policy_in_words())
            .of(sha256_hex(releases.policy.to_text()?.as_bytes()));
        self.log.append(now_s, act, Stage::Done)?;
        self.log.commit()
    }

    /// Name and public key of the audit log.
    #[must_use]
    pub fn log_key(&self) -> &LogKey {
        &self.keys.log
    }

    /// Processes a batch of requests with two flushes. Returns one response for each, in their
    /// order.
    ///
    /// # Errors
    /// If the log cannot be written. Then no response was returned, and the caller may try again
    /// later.
    pub fn perform(
        &mut self,
        now_s: u64,
        requests: Vec<Request>,
    ) -> Result<Vec<Response>, LogError> {
        let mut steps = Vec::with_capacity(requests.len());
        for request in requests {
            steps.push(self.begin(now_s, request)?);
        }
        self.log.commit()?;
        let mut answers = Vec::with_capacity(steps.len());
        let mut reads = Vec::new();
        for (at, step) in steps.into_iter().enumerate() {
            answers.push(match step {
                Step::Intended(intended) => self.apply(now_s, intended)?,
                Step::Recorded(number) => Response::Recorded { number },
                Step::Answered(response) => response,
                Step::Refused(refusal) => refusal.response(),
                Step::Read(request) => {
                    reads.push((at, request));
                    Response::Recorded { number: 0 }
                }
            });
        }
        self.log.commit()?;
        for (at, request) in reads {
            answers[at] = self.read(now_s, request)?;
        }
        Ok(answers)
    }

    /// Checks a request, and writes its intent.
    fn begin(&mut self, now_s: u64, request: Request) -> Result<Step, LogError> {
        let planned = match request {
            Request::Record { act } => return self.record(now_s, act),
            Request::CertifyDevice { device, csr_pem, valid_s, protection, occasion, issuer } => {
                let action = match occasion {
                    Occasion::Enrollment => "certificate.enroll",
                    Occasion::Renewal => "certificate.renew",
                };
                let certificate =
                    DeviceCertificate { device, csr_pem, valid_s, protection, issuer };
                self.plan_device(now_s, certificate)
                    .map(|(work, act)| (work, Act { action: action.into(), ..act }))
            }
            Request::CertifyServer { names, csr_pem, issuer } => {
                self.plan_server(now_s, names, &csr_pem, issuer)
            }
            Request::StageRevoked { name, revoked } => {
                return Ok(Step::Answered(self.crls.stage(name, revoked)));
            }
            part @ Request::CrlPart { .. } => return Ok(Step::Answered(self.crls.part(&part))),
            Request::Crl { revoked, issuer, staged } => {
                self.plan_crl(now_s, revoked, issuer, staged)
            }
            boot @ (Request::MakeBootKeys { .. }
            | Request::SignBoot { .. }
            | Request::ChangeBoot { .. }) => self.plan_boot(now_s, boot),
            escrow @ (Request::Keep { .. }
            | Request::ShowRecoveryKey { .. }
            | Request::GiveSecrets { .. }) => self.plan_escrow(now_s, escrow),
            Request::SignRelease { .. } => {
                Err(Refusal::Wrong("a release is not signed in a batch".into()))
            }
            read @ (Request::ApprovalPolicy
            | Request::Issuers
            | Request::Health
            | Request::Checkpoint
            | Request::Prove { .. }
            | Request::Consistency { .. }
            | Request::Entries { .. }) => {
                return Ok(Step::Read(read));
            }
        };
        match planned {
            Ok((work, act)) => match self.log.append(now_s, act.clone(), Stage::Intent) {
                Ok(intent) => Ok(Step::Intended(Intended { work, act, intent })),
                Err(LogError::Pki(e)) => Ok(Step::Refused(e.into())),
                Err(e) => Err(e),
            },
            Err(refusal) => Ok(Step::Refused(refusal)),
        }
    }

    fn record(&mut self, now_s: u64, act: Act) -> Result<Step, LogError> {
        if OWN_ACTIONS.iter().any(|own| act.action.starts_with(own)) {
            return Ok(Step::Refused(Refusal::Wrong(format!(
                "only the signing service writes {}",
                act.action
            ))));
        }
        if let Err(exhausted) = self.left.records.take(now_s) {
            return Ok(Step::Refused(exhausted.into()));
        }
        match self.log.append(now_s, act, Stage::Done) {
            Ok(number) => Ok(Step::Recorded(number)),
            Err(LogError::Pki(e)) => Ok(Step::Refused(e.into())),
            Err(e) => Err(e),
        }
    }
}
