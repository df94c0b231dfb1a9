//! Keys with their purposes. A batch of requests is processed in this order: checks, intents, one
//! flush, signatures, outcomes, one flush, responses. So nothing is signed that is not in the log,
//! and a thousand requests cost two flushes.

use crate::boot::{self, BootWork, LastRelease};
use crate::escrow::{self, EscrowWork};
use crate::limits::{Buckets, Exhausted, Limits};
use crate::lists::{self, Lists};
use crate::log::{AuditLog, LogError};
use crate::release::{ReleaseJob, ReleaseOrder, ServerRelease};
use crate::wire::{ENTRIES_MAX, Kept, NAMES_MAX, Occasion, Request, Response, RevokedSerial};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::AuditProof;
use fleeti_pki::audit::{Act, Stage};
use fleeti_pki::base64_text;
use fleeti_pki::bundle;
use fleeti_pki::certificate::{self, Authority, Extras, Period, Role};
use fleeti_pki::crl::{self, Entries, Revoked};
use fleeti_pki::csr::{self, ProvedKey};
use fleeti_pki::manifest::ReleaseKeys;
use fleeti_pki::signer::{Signer, fast, key_id};
use fleeti_pki::transparency::note::{Checkpoint, LogKey};
use fleeti_pki::wrap::WrapKey;
use std::path::Path;
use std::sync::Arc;
use x509_cert::Certificate;

/// Longest validity of a device certificate, seconds.
pub const DEVICE_S_MAX: u64 = 30 * 86_400;
/// Shortest validity of a device certificate, seconds.
pub const DEVICE_S_MIN: u64 = 7 * 86_400;
/// Validity of a server certificate, seconds. Devices check no CRL for it, so a stolen key can be
/// used for this long. The server renews it every six hours; it must outlast two weeks without the
/// signing service, and the time for its repair.
pub const SERVER_S: u64 = 21 * 86_400;
/// Validity of a CRL, seconds; it is renewed well before.
pub const LIST_S: u64 = 24 * 3600;
/// Seconds for which a checkpoint is returned again if no entry was added.
const STATEMENT_S: u64 = 60;

/// Prefixes of actions that only the signing service itself writes to the log.
const OWN_ACTIONS: [&str; 7] = [
    "certificate.",
    "revocation-list.",
    "boot.",
    "signer.",
    "release.sign",
    "recovery-key.",
    "secret.",
];

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
    /// To be signed; with the number of its intent.
    Work(Work, Act, u64),
    /// A written entry, by number.
    Recorded(u64),
    /// Responds without signing or writing.
    Answered(Response),
    /// To be read after the flush.
    Read(Request),
    Refused(Refusal),
}

/// Keys, log and limits.
pub struct Keeper {
    keys: Keys,
    log: AuditLog,
    left: Buckets,
    lists: Lists,
    release: LastRelease,
    /// The last checkpoint: number of entries, time, note.
    stated: Option<(u64, u64, String)>,
}

impl Keeper {
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
            lists: Lists::default(),
            release: LastRelease::default(),
            stated: None,
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
                Step::Work(work, act, intent) => self.carry_out(now_s, work, act, intent)?,
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
                self.plan_device(now_s, device, &csr_pem, (valid_s, protection, issuer))
                    .map(|(work, act)| (work, Act { action: action.into(), ..act }))
            }
            Request::CertifyServer { names, csr_pem, issuer } => {
                self.plan_server(now_s, names, &csr_pem, issuer)
            }
            Request::StageRevoked { list, revoked } => {
                return Ok(Step::Answered(self.lists.stage(list, revoked)));
            }
            part @ Request::ListPart { .. } => return Ok(Step::Answered(self.lists.part(&part))),
            Request::RevocationList { revoked, issuer, staged } => {
                self.plan_list(now_s, revoked, issuer, staged)
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
            | Request::Checkpoint
            | Request::Prove { .. }
            | Request::Consistency { .. }
            | Request::Entries { .. }) => {
                return Ok(Step::Read(read));
            }
        };
        match planned {
            Ok((work, act)) => match self.log.append(now_s, act.clone(), Stage::Intent) {
                Ok(intent) => Ok(Step::Work(work, act, intent)),
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

    fn plan_device(
        &mut self,
        now_s: u64,
        id: DeviceId,
        csr_pem: &str,
        (valid_s, protection, issuer): (u64, certificate::Protection, Option<String>),
    ) -> Result<(Work, Act), Refusal> {
        if !(DEVICE_S_MIN..=DEVICE_S_MAX).contains(&valid_s) {
            return Err(Refusal::Wrong(format!(
                "validity of a device certificate is {valid_s} s, expected {DEVICE_S_MIN} to {DEVICE_S_MAX} s"
            )));
        }
        find(&self.keys.device, issuer.as_deref())?;
        let key = csr::check_with(csr_pem, fast::verify)?;
        self.left.issued.take(now_s)?;
        let act = Act::new("server", "certificate.device", id.as_str())
            .of(sha256_hex(key.public_key_der()));
        Ok((Work::Device { id, key, valid_s, protection, issuer }, act))
    }

    fn plan_server(
        &mut self,
        now_s: u64,
        names: Vec<String>,
        csr_pem: &str,
        issuer: Option<String>,
    ) -> Result<(Work, Act), Refusal> {
        if names.is_empty() || names.len() > NAMES_MAX {
            return Err(Refusal::Wrong(format!(
                "the server certificate has {} names, expected 1 to {NAMES_MAX}",
                names.len()
            )));
        }
        find(&self.keys.server, issuer.as_deref())?;
        let key = csr::check_with(csr_pem, fast::verify)?;
        // A limit of its own, so that requests of devices cannot exhaust it.
        self.left.servers.take(now_s)?;
        let subject: String = names.join(" ").chars().take(256).collect();
        let act =
            Act::new("server", "certificate.server", subject).of(sha256_hex(key.public_key_der()));
        Ok((Work::Server { names, key, issuer }, act))
    }

    fn plan_list(
        &mut self,
        now_s: u64,
        revoked: Vec<RevokedSerial>,
        issuer: Option<String>,
        staged: Option<String>,
    ) -> Result<(Work, Act), Refusal> {
        find(&self.keys.device, issuer.as_deref())?;
        self.left.lists.take(now_s)?;
        let (name, staged) = (staged.clone(), self.lists.take(staged.as_deref())?);
        let revoked = lists::entries(revoked);
        let act = Act::new(
            "server",
            "revocation-list.sign",
            format!("{} certificates", staged.count() + revoked.len()),
        );
        Ok((Work::List { staged, revoked, issuer, name }, act))
    }

    fn plan_boot(&mut self, now_s: u64, request: Request) -> Result<(Work, Act), Refusal> {
        let missing = || {
            Refusal::Wrong("online/boot-wrap.key is missing: these keys were made before Secure Boot per device".into())
        };
        let wrap = self.keys.boot_wrap.as_ref().ok_or_else(missing)?;
        let (work, act) = match request {
            Request::MakeBootKeys { device } => boot::plan_make(device),
            Request::ChangeBoot { device, wrapped, change } => {
                boot::plan_change(&device, &wrapped, change, wrap)?
            }
            Request::SignBoot { device, wrapped, manifest, signatures } => boot::plan_sign(
                &mut self.release,
                &self.keys.release,
                (&device, &wrapped, wrap),
                &manifest,
                &signatures,
            )?,
            _ => return Err(Refusal::Wrong("not a Secure Boot request".into())),
        };
        self.left.boots.take(now_s)?;
        Ok((Work::Boot(work), act))
    }

    fn plan_escrow(&mut self, now_s: u64, request: Request) -> Result<(Work, Act), Refusal> {
        self.wrap_key()?;
        let is_by_people = matches!(
            request,
            Request::ShowRecoveryKey { .. } | Request::Keep { kept: Kept::Secret { .. }, .. }
        );
        let (work, act) = match request {
            Request::Keep { kept, secret } => escrow::plan_keep(kept, &secret)?,
            Request::ShowRecoveryKey { device, wrapped, actor, reason } => {
                escrow::plan_show(device, &wrapped, &actor, &reason)?
            }
            Request::GiveSecrets { device, fleet, secrets } => {
                escrow::plan_give(&device, fleet, secrets)?
            }
            _ => return Err(Refusal::Wrong("not a request for secrets or recovery keys".into())),
        };
        if is_by_people { self.left.by_people.take(now_s) } else { self.left.secrets.take(now_s) }?;
        Ok((Work::Escrow(work), act))
    }

    fn wrap_key(&self) -> Result<&WrapKey, fleeti_pki::Error> {
        self.keys
            .boot_wrap
            .as_ref()
            .ok_or(fleeti_pki::Error::Refused("online/boot-wrap.key is missing"))
    }

    fn carry_out(
        &mut self,
        now_s: u64,
        work: Work,
        act: Act,
        intent: u64,
    ) -> Result<Response, LogError> {
        match self.sign(now_s, work, intent) {
            Ok((sha256, response)) => {
                self.log.append(
                    now_s,
                    Act { sha256: Some(sha256), ..act },
                    Stage::Outcome { intent },
                )?;
                Ok(response)
            }
            Err(e) => {
                let reason: String = e.to_string().chars().take(100).collect();
                self.log.append(now_s, act, Stage::Failed { intent, reason })?;
                Ok(Response::Refused { reason: e.to_string() })
            }
        }
    }

    /// Signs. Returns the digest of what was signed, for the log, and the response.
    fn sign(
        &mut self,
        now_s: u64,
        work: Work,
        intent: u64,
    ) -> Result<(String, Response), fleeti_pki::Error> {
        let certificate =
            |der: Vec<u8>| (sha256_hex(&der), Response::Certificate { der: base64_text(&der) });
        Ok(match work {
            Work::Device { id, key, valid_s, protection, issuer } => {
                let period = Period::starting(now_s, valid_s);
                let issuer = find(&self.keys.device, issuer.as_deref())?;
                let authority = issuer.authority();
                // Each intermediate CA has its own CRL.
                let crl_url =
                    self.keys.crl_url.as_ref().map(|url| url.replace("{issuer}", &issuer.key_id));
                let extras = Extras { protection: Some(protection), crl_url };
                let issued = certificate::issue_with(
                    Role::Device { id },
                    period,
                    key.public_key_der(),
                    &authority,
                    &extras,
                )?;
                certificate(certificate::to_der(&issued)?)
            }
            Work::Server { names, key, issuer } => {
                let (period, authority) = (
                    Period::starting(now_s, SERVER_S),
                    find(&self.keys.server, issuer.as_deref())?.authority(),
                );
                let issued = certificate::issue(
                    Role::Server { names },
                    period,
                    key.public_key_der(),
                    &authority,
                )?;
                certificate(certificate::to_der(&issued)?)
            }
            // The entry number serves as CRL number: it grows and is never used twice.
            Work::List { mut staged, revoked, issuer, name } => {
                staged.extend(&revoked)?;
                let der = crl::create_of(
                    &find(&self.keys.device, issuer.as_deref())?.authority(),
                    &staged,
                    intent + 1,
                    now_s,
                    LIST_S,
                )?;
                (sha256_hex(&der), self.lists.hand_out(name, der))
            }
            Work::Boot(work) => boot::sign(work, now_s, self.wrap_key()?)?,
            Work::Escrow(work) => escrow::carry_out(work, self.wrap_key()?)?,
        })
    }

    /// Checks the signing request of a release and its approvals, and writes the intent. Signing
    /// takes long and happens in [`ReleaseJob::run`], followed by [`Self::end_release`].
    ///
    /// # Errors
    /// If the log cannot be written.
    pub fn begin_release(
        &mut self,
        now_s: u64,
        order: &ReleaseOrder,
    ) -> Result<Result<ReleaseJob, Response>, LogError> {
        let planned = match &self.keys.releases {
            Some(set) => ReleaseJob::plan(set, order, now_s).map_err(Refusal::Wrong),
            None => {
                Err(Refusal::Wrong("this signing service has no release keys (pki/signing)".into()))
            }
        };
        let planned = planned
            .and_then(|job| self.left.releases.take(now_s).map(|()| job).map_err(Refusal::from));
        let mut job = match planned {
            Ok(job) => job,
            Err(refusal) => return Ok(Err(refusal.response())),
        };
        match self.log.append(now_s, job.act.clone(), Stage::Intent) {
            Ok(number) => job.number = number,
            Err(LogError::Pki(e)) => return Ok(Err(Refusal::from(e).response())),
            Err(e) => return Err(e),
        }
        self.log.commit()?;
        Ok(Ok(job))
    }

    /// Writes the outcome; the caller may get the response only afterwards.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub fn end_release(
        &mut self,
        now_s: u64,
        job: ReleaseJob,
        result: Result<String, String>,
    ) -> Result<Response, LogError> {
        let (act, intent) = (job.act, job.number);
        let response = match result {
            Ok(manifest_sha256) => {
                self.log.append(
                    now_s,
                    act.of(manifest_sha256.clone()),
                    Stage::Outcome { intent },
                )?;
                Response::Release { manifest_sha256 }
            }
            Err(reason) => {
                let short = reason.chars().take(100).collect();
                self.log.append(now_s, act, Stage::Failed { intent, reason: short })?;
                Response::Refused { reason }
            }
        };
        self.log.commit()?;
        Ok(response)
    }

    fn read(&mut self, now_s: u64, request: Request) -> Result<Response, LogError> {
        let texts = |hashes: Vec<fleeti_pki::transparency::tree::Hash>| {
            hashes.iter().map(|h| base64_text(h)).collect::<Vec<_>>()
        };
        let found = match request {
            Request::Issuers => {
                let of = |issuers: &[Issuer]| issuers.iter().map(|i| i.sha256.clone()).collect();
                Ok(Response::Issuers {
                    device: of(&self.keys.device),
                    server: of(&self.keys.server),
                })
            }
            Request::ApprovalPolicy => {
                let set = self.keys.releases.as_ref();
                let policy = set.map(|set| set.policy.to_text()).transpose()?;
                let release_key =
                    set.map(|set| key_id(set.release.public_key_der())).unwrap_or_default();
                Ok(Response::ApprovalPolicy { policy, release_key })
            }
            Request::Checkpoint => self.checkpoint(now_s).map(|note| Response::Checkpoint { note }),
            Request::Prove { number } => {
                self.prove(now_s, number).map(|proof| Response::Proof { proof })
            }
            Request::Consistency { old, new } => {
                self.log.consistency(old, new).map(|h| Response::Consistency { hashes: texts(h) })
            }
            Request::Entries { from, limit } => self
                .log
                .entries(from, limit.min(ENTRIES_MAX))
                .map(|lines| Response::Entries { lines }),
            Request::CertifyDevice { .. }
            | Request::CertifyServer { .. }
            | Request::RevocationList { .. }
            | Request::StageRevoked { .. }
            | Request::ListPart { .. }
            | Request::MakeBootKeys { .. }
            | Request::SignBoot { .. }
            | Request::ChangeBoot { .. }
            | Request::SignRelease { .. }
            | Request::Keep { .. }
            | Request::ShowRecoveryKey { .. }
            | Request::GiveSecrets { .. }
            | Request::Record { .. } => {
                return Ok(Response::Refused { reason: "not a read request".into() });
            }
        };
        match found {
            // For example a key in a token that does not respond. The log is unchanged.
            Err(LogError::Pki(e)) => Ok(Response::Refused { reason: e.to_string() }),
            // The log is unchanged, and the caller may try again.
            Err(e @ LogError::Io { .. }) => Ok(Response::Limited { reason: e.to_string() }),
            Err(LogError::NoEntry { number, size }) => {
                Ok(Response::Refused { reason: LogError::NoEntry { number, size }.to_string() })
            }
            other => other,
        }
    }

    /// The checkpoint of the entries on disk.
    fn checkpoint(&mut self, now_s: u64) -> Result<String, LogError> {
        let size = self.log.size();
        if let Some((stated, at_s, note)) = &self.stated
            && *stated == size
            && now_s.abs_diff(*at_s) < STATEMENT_S
        {
            return Ok(note.clone());
        }
        let checkpoint = Checkpoint {
            origin: self.keys.log.name().to_owned(),
            size,
            root: self.log.root(size)?,
        };
        let note = self.keys.log.sign(&checkpoint, now_s, self.keys.audit.as_ref())?;
        // INVARIANT: a checkpoint is on disk before it is returned, so the log never goes back
        // behind it.
        self.log.keep_checkpoint(&note)?;
        self.stated = Some((size, now_s, note.clone()));
        Ok(note)
    }

    fn prove(&mut self, now_s: u64, number: u64) -> Result<AuditProof, LogError> {
        let size = self.log.size();
        let hashes = self.log.inclusion(number, size)?.iter().map(|h| base64_text(h)).collect();
        let entry = self.log.entries(number, 1)?.pop().ok_or(LogError::NoEntry { number, size })?;
        Ok(AuditProof { entry, hashes, checkpoint: self.checkpoint(now_s)? })
    }
}
