//! Applies planned work: signs, and writes outcomes to the log.

use super::{Intended, Refusal, SigningService, Work, find};
use crate::lifetimes::{LIST_S, SERVER_S};
use crate::log::LogError;
use crate::release::{ReleaseJob, ReleaseRequest};
use crate::{boot, escrow};
use fleeti_core::canonical::sha256_hex;
use fleeti_pki::audit::{Act, Stage};
use fleeti_pki::certificate::{self, Extras, Period, Role};
use fleeti_pki::wrap::WrapKey;
use fleeti_pki::{base64_text, crl};
use fleeti_signer_client::wire::Response;

impl SigningService {
    pub(super) fn wrap_key(&self) -> Result<&WrapKey, fleeti_pki::Error> {
        self.keys
            .boot_wrap
            .as_ref()
            .ok_or(fleeti_pki::Error::Refused("online/boot-wrap.key is missing"))
    }

    pub(super) fn apply(&mut self, now_s: u64, intended: Intended) -> Result<Response, LogError> {
        let Intended { work, act, intent } = intended;
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
                    crl::Update { number: intent + 1, this_s: now_s, next_s: now_s + LIST_S },
                )?;
                (sha256_hex(&der), self.crls.first_part(name, der))
            }
            Work::Boot(work) => boot::sign(work, now_s, self.wrap_key()?)?,
            Work::Escrow(work) => escrow::apply(work, self.wrap_key()?)?,
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
        request: &ReleaseRequest,
    ) -> Result<Result<ReleaseJob, Response>, LogError> {
        let planned = match &self.keys.releases {
            Some(set) => ReleaseJob::plan(set, request, now_s).map_err(Refusal::Wrong),
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
}
