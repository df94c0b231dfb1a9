//! Plans work: checks a request against policy and limits, and describes it for the log.

use super::{DeviceCertificate, Refusal, SigningService, Work, find};
use crate::boot::{self, WrappedKeys};
use crate::lifetimes::{DEVICE_S_MAX, DEVICE_S_MIN};
use crate::{crls, escrow};
use fleeti_core::canonical::sha256_hex;
use fleeti_pki::audit::Act;
use fleeti_pki::csr;
use fleeti_pki::signer::fast;
use fleeti_signer_client::wire::{Kept, NAMES_MAX, Request, RevokedSerial};

impl SigningService {
    pub(super) fn plan_device(
        &mut self,
        now_s: u64,
        certificate: DeviceCertificate,
    ) -> Result<(Work, Act), Refusal> {
        let DeviceCertificate { device: id, csr_pem, valid_s, protection, issuer } = certificate;
        if !(DEVICE_S_MIN..=DEVICE_S_MAX).contains(&valid_s) {
            return Err(Refusal::Wrong(format!(
                "validity of a device certificate is {valid_s} s, expected {DEVICE_S_MIN} to {DEVICE_S_MAX} s"
            )));
        }
        find(&self.keys.device, issuer.as_deref())?;
        let key = csr::check_with(&csr_pem, fast::verify)?;
        self.left.issued.take(now_s)?;
        let act = Act::new("server", "certificate.device", id.as_str())
            .of(sha256_hex(key.public_key_der()));
        Ok((Work::Device { id, key, valid_s, protection, issuer }, act))
    }

    pub(super) fn plan_server(
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

    pub(super) fn plan_crl(
        &mut self,
        now_s: u64,
        revoked: Vec<RevokedSerial>,
        issuer: Option<String>,
        staged: Option<String>,
    ) -> Result<(Work, Act), Refusal> {
        find(&self.keys.device, issuer.as_deref())?;
        self.left.lists.take(now_s)?;
        let (name, staged) = (staged.clone(), self.crls.take(staged.as_deref())?);
        let revoked = crls::entries(revoked);
        let act = Act::new(
            "server",
            "crl.sign",
            format!("{} certificates", staged.count() + revoked.len()),
        );
        Ok((Work::List { staged, revoked, issuer, name }, act))
    }

    pub(super) fn plan_boot(
        &mut self,
        now_s: u64,
        request: Request,
    ) -> Result<(Work, Act), Refusal> {
        let missing = || {
            Refusal::Wrong("online/boot-wrap.key is missing: these keys were made before Secure Boot per device".into())
        };
        let wrap = self.keys.boot_wrap.as_ref().ok_or_else(missing)?;
        let (work, act) = match request {
            Request::MakeBootKeys { device } => boot::plan_make(device),
            Request::ChangeBoot { device, wrapped, change, forbidden } => boot::plan_change(
                WrappedKeys { device: &device, wrapped: &wrapped, wrap },
                &change,
                &forbidden,
            )?,
            Request::SignBoot { device, wrapped, manifest, signatures } => boot::plan_sign(
                &mut self.release,
                &self.keys.release,
                WrappedKeys { device: &device, wrapped: &wrapped, wrap },
                &manifest,
                &signatures,
            )?,
            _ => return Err(Refusal::Wrong("not a Secure Boot request".into())),
        };
        self.left.boots.take(now_s)?;
        Ok((Work::Boot(work), act))
    }

    pub(super) fn plan_escrow(
        &mut self,
        now_s: u64,
        request: Request,
    ) -> Result<(Work, Act), Refusal> {
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
}
