//! TPMs of devices. A TPM is bound to a device once, by a secret that only this TPM can decrypt
//! (TPM2_ActivateCredential). It then certifies the keys that it holds.

use crate::app::{App, AppRef, new_id, now_s};
use crate::config::manufacturers;
use crate::error::AppError;
use crate::service::{enrollment_batch, policy};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::Event;
use fleeti_core::wire::attestation::{
    CERTIFICATES_MAX, KeyProof, TpmEnrollRequest, TpmEnrollment, TpmIdentity, TpmProof, TpmSecret,
};
use fleeti_core::wire::problem::Code;
use fleeti_pki::attestation::key::{self, CHANNEL_BYTES, Certification, Purpose};
use fleeti_pki::certificate::Protection;
use fleeti_pki::csr;
use fleeti_pki::tpm::credential;
use fleeti_pki::tpm::endorsement::{self, Kind, Manufacturers};
use fleeti_pki::tpm::public::{AttestationKey, EndorsementKey, Public};
use fleeti_store::tpms::{self, Bound, Manufacturer, TpmRow};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Maximum number of TPMs whose proof is pending.
const PROVING_MAX: usize = 1024;
/// The audit log gets the same alarm of the same source once in this time.
const ALARMED_AGAIN: Duration = Duration::from_secs(3600);
/// Audit action: a device presented a TPM that is not bound to it.
const REFUSED: &str = "device.tpm-refused";
/// Number of TPMs that are appraised in one transaction.
const JUDGED_TOGETHER: u32 = 128;
/// Interval at which TPM manufacturers and their CRLs are read, and the delay after a failure.
const JUDGED_EVERY: Duration = Duration::from_secs(3600);
const JUDGED_AGAIN: Duration = Duration::from_secs(60);
/// Maximum length of a TPM's description, in characters.
const DESCRIPTION_MAX: usize = 200;
/// Maximum number of remembered alarms.
const ALARMS_MAX: usize = 4096;

/// Who presents a TPM: a device with a certificate, or the holder of a token (named by its digest).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Bearer {
    Device(DeviceId),
    Token(String),
}

/// A TPM with an outstanding secret.
struct Pending {
    id: String,
    secret: [u8; 32],
    row: TpmRow,
    asked: Instant,
}

/// TPMs with outstanding secrets.
#[derive(Default)]
pub struct Proving {
    pending: Mutex<HashMap<Bearer, Pending>>,
}

/// Recent alarms, by action and source.
#[derive(Default)]
pub struct Alarms(Mutex<HashMap<(&'static str, String), Instant>>);

impl Alarms {
    /// Whether this alarm of this source is new. Rate-limits audit entries per source and action,
    /// so that an attacker can neither fill the log nor hide other alarms.
    pub(super) fn is_new(&self, action: &'static str, who: &str) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, at| at.elapsed() < ALARMED_AGAIN);
        if all.len() >= ALARMS_MAX {
            all.clear();
        }
        let alarm = (action, who.to_owned());
        let is_new = !all.contains_key(&alarm);
        if is_new {
            all.insert(alarm, Instant::now());
        }
        is_new
    }
}

impl Proving {
    fn put(&self, bearer: Bearer, pending: Pending, patience: Duration) -> Result<(), AppError> {
        let mut all = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, p| p.asked.elapsed() < patience);
        if all.len() >= PROVING_MAX {
            return Err(AppError::new(Code::Unavailable, "too many devices are proving their TPM")
                .hint("try again in a minute"));
        }
        all.insert(bearer, pending);
        Ok(())
    }

    /// Takes a pending proof. Each secret allows a single attempt, successful or not.
    fn take(
        &self,
        bearer: &Bearer,
        proof: &TpmProof,
        patience: Duration,
    ) -> Result<TpmRow, AppError> {
        let given = decoded("secret", proof.secret.expose())?;
        let found = self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(bearer);
        let found = found.filter(|p| p.asked.elapsed() < patience && p.id == proof.id);
        // The same error for every reason. Compares digests, so that the time reveals nothing about
        // the secret.
        let found = found.filter(|p| sha256_hex(&p.secret) == sha256_hex(&given));
        let refused = || {
            AppError::new(Code::Forbidden, "wrong or expired secret for this TPM")
                .hint("present the TPM again")
        };
        found.map(|p| p.row).ok_or_else(refused)
    }
}

/// How long a TPM may take to return its secret.
fn patience(app: &App) -> Duration {
    Duration::from_millis(app.config.limits.proving_ms)
}

pub(super) fn invalid(what: &str, e: impl std::fmt::Display) -> AppError {
    AppError::new(Code::Invalid, format!("{what}: {e}"))
}

pub(super) fn decoded(what: &str, text: &str) -> Result<Vec<u8>, AppError> {
    STANDARD.decode(text).map_err(|e| invalid(what, e))
}

/// Parses the attestation key of a known TPM: base64 of its TPMT_PUBLIC.
pub(super) fn attestation_key(text: &str) -> Result<AttestationKey, AppError> {
    let public = Public::parse(&decoded("attestation_key", text)?).map_err(AppError::internal)?;
    AttestationKey::new(public).map_err(AppError::internal)
}

/// A presented TPM, after its keys and its manufacturer were checked.
struct Shown {
    endorsement: EndorsementKey,
    attestation: AttestationKey,
    row: TpmRow,
}

fn read(app: &App, shown: &TpmIdentity) -> Result<Shown, AppError> {
    if shown.certificates.len() > CERTIFICATES_MAX {
        return Err(AppError::new(
            Code::Invalid,
            format!(
                "{} certificates, at most {CERTIFICATES_MAX} are allowed",
                shown.certificates.len()
            ),
        ));
    }
    let key = |what: &'static str, text: &str| {
        Public::parse(&decoded(what, text)?).map_err(|e| invalid(what, e))
    };
    let endorsement = EndorsementKey::new(key("endorsement_key", &shown.endorsement_key)?)
        .map_err(|e| invalid("endorsement_key", e))?;
    let attestation = AttestationKey::new(key("attestation_key", &shown.attestation_key)?)
        .map_err(|e| invalid("attestation_key", e))?;
    let certificate = |text: &String| {
        decoded("certificates", text)
            .map(|bytes| fleeti_pki::tpm::endorsement::unpadded(&bytes).to_vec())
    };
    let certificates = shown.certificates.iter().map(certificate).collect::<Result<Vec<_>, _>>()?;
    // The digest of the key itself: the device can choose the other contents of the public area,
    // and so the digest of the area.
    let ek_sha256 =
        sha256_hex(&endorsement.public().to_spki_der().map_err(|e| invalid("endorsement_key", e))?);
    let keys = (shown.endorsement_key.clone(), shown.attestation_key.clone());
    let manufacturer = manufacturer(app, &endorsement, &certificates);
    // If splitting the concatenation does not return the same certificates, they are malformed and
    // endorse nothing.
    let together = certificates.concat();
    let together = if endorsement::each_of(&together).eq(certificates.iter().map(Vec::as_slice)) {
        together
    } else {
        vec![]
    };
    let row = TpmRow::new(ek_sha256, keys, together, manufacturer, now_s());
    Ok(Shown { endorsement, attestation, row })
}

fn manufacturer(app: &App, endorsement: &EndorsementKey, certificates: &[Vec<u8>]) -> Manufacturer {
    let (manufacturers, now) = (app.pki.manufacturers.load(), now_s());
    let (kind, description) = match manufacturers.verify(endorsement, certificates, now) {
        Ok(e) => (
            Some(e.kind.as_str().to_owned()),
            format!("{} {} {}", e.manufacturer, e.model, e.version),
        ),
        Err(e) => (None, e.to_string()),
    };
    // The contents of a certificate are untrusted.
    let description = description.chars().take(DESCRIPTION_MAX).collect();
    Manufacturer { kind, description, judged_by: manufacturers.digest(now) }
}

/// Appraises the manufacturers of all TPMs, now and every hour. Logs an unreadable file once.
pub async fn judge_manufacturers(app: AppRef) {
    let mut said = None;
    loop {
        let judged = judge_manufacturers_anew(&app).await;
        let problem = judged.as_ref().err().map(|e| format!("{e:#}"));
        if let Some(problem) = problem.as_ref().filter(|_| problem != said) {
            tracing::error!("the manufacturers of TPMs were not all appraised again: {problem}");
        }
        said = problem;
        tokio::time::sleep(if judged.is_ok() { JUDGED_EVERY } else { JUDGED_AGAIN }).await;
    }
}

/// Reads the trusted TPM manufacturers and their CRLs, and appraises the TPMs of devices again if
/// anything changed or a CRL has expired. Attestation levels of devices change accordingly.
///
/// # Errors
/// Names the files that cannot be read; the server ignores them. If a CRL is among them, the last
/// readable set stays in use, because it is unknown what the CRL revokes.
pub async fn judge_manufacturers_anew(app: &AppRef) -> anyhow::Result<()> {
    let read = read_manufacturers(app).await?;
    let left_out: Vec<String> =
        read.left_out().iter().map(|(file, problem)| format!("{file}: {problem}")).collect();
    if !read.left_out().iter().any(|(file, _)| is_list(file)) {
        app.pki.manufacturers.store(Arc::new(read));
    }
    judge_all(app).await?;
    anyhow::ensure!(left_out.is_empty(), "ignored: {}", left_out.join("; "));
    Ok(())
}

fn is_list(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|e| e == "crl")
}

/// Reads the trusted TPM manufacturers from the data folder.
///
/// # Errors
/// When the reading task fails.
pub(super) async fn read_manufacturers(app: &AppRef) -> Result<Manufacturers, AppError> {
    let data = app.config.data.clone();
    tokio::task::spawn_blocking(move || manufacturers(&data)).await.map_err(AppError::internal)
}

/// Appraises every TPM that was appraised by another set of manufacturers than the current one.
pub(super) async fn judge_all(app: &AppRef) -> Result<(), AppError> {
    while judge_some(app).await? {}
    Ok(())
}

/// Appraises a few TPMs. Returns whether there may be more.
async fn judge_some(app: &AppRef) -> Result<bool, AppError> {
    let by = app.pki.manufacturers.load().digest(now_s());
    let rows = tpms::judged_by_others(app.db.pool(), &by, JUDGED_TOGETHER).await?;
    if rows.is_empty() {
        return Ok(false);
    }
    // Rows from before the digest was stored: no change since then is known, so set the current
    // one.
    if rows.iter().any(|(_, row)| row.manufacturer.judged_by.is_empty()) {
        let mut tx = app.db.write().await?;
        tpms::set_judged(&mut tx, &by).await?;
        tx.commit().await?;
        return Ok(true);
    }
    let judge = Arc::clone(app);
    let judged = tokio::task::spawn_blocking(move || {
        rows.into_iter().map(|(device, row)| (anew(&judge, &row), device, row)).collect::<Vec<_>>()
    });
    let judged = judged.await.map_err(AppError::internal)?;
    let mut changed = Vec::new();
    let mut tx = app.db.write().await?;
    for (manufacturer, device, row) in judged {
        if tpms::set_manufacturer(&mut tx, &device, &row, &manufacturer).await?
            && row.manufacturer.kind != manufacturer.kind
        {
            let kind = manufacturer.kind.as_deref().unwrap_or("no trusted manufacturer");
            app.audit(
                &mut tx,
                now_s(),
                "server",
                "device.tpm-manufacturer",
                &format!("{device} {kind}: {}", manufacturer.description),
            )
            .await?;
            changed.push(device);
        }
    }
    tx.commit().await?;
    app.policies.touch();
    policy::reappraise_all(app, &changed).await;
    Ok(true)
}

/// Appraises a TPM by its stored certificates. A TPM from before they were stored must be presented
/// again.
fn anew(app: &App, row: &TpmRow) -> Manufacturer {
    let certificates: Vec<Vec<u8>> =
        endorsement::each_of(&row.certificates).map(<[u8]>::to_vec).collect();
    let key = decoded("endorsement_key", &row.endorsement_key).and_then(|area| {
        let public = Public::parse(&area).map_err(|e| invalid("endorsement_key", e))?;
        EndorsementKey::new(public).map_err(|e| invalid("endorsement_key", e))
    });
    match key {
        Ok(key) => manufacturer(app, &key, &certificates),
        Err(e) => Manufacturer {
            kind: None,
            description: e.to_string(),
            judged_by: app.pki.manufacturers.load().digest(now_s()),
        },
    }
}

/// Makes a secret that only this TPM can decrypt, and only with this attestation key.
fn challenge(app: &App, bearer: Bearer, shown: Shown) -> Result<TpmSecret, AppError> {
    let secret: [u8; 32] = rand::random();
    let name = shown.attestation.public().name();
    let made = credential::make(&shown.endorsement, &name, &secret)
        .map_err(|e| invalid("endorsement_key", e))?;
    let id = new_id("tpm");
    app.proving.put(
        bearer,
        Pending { id: id.clone(), secret, row: shown.row, asked: Instant::now() },
        patience(app),
    )?;
    Ok(TpmSecret { id, blob: STANDARD.encode(made.blob), secret: STANDARD.encode(made.secret) })
}

/// A device presents its TPM. Returns a secret that only this TPM can decrypt, and only with this
/// attestation key.
///
/// # Errors
/// [`Code::Invalid`] for keys with wrong attributes; [`Code::Forbidden`] for a TPM that is not the
/// device's.
pub async fn begin(
    app: &App,
    device: &DeviceId,
    shown: &TpmIdentity,
) -> Result<TpmSecret, AppError> {
    let shown = read(app, shown)?;
    if tpms::is_taken(&mut *app.db.reader().await?, device, &shown.row).await? {
        return Err(other_tpm(app, device.as_str(), &shown.row).await?);
    }
    challenge(app, Bearer::Device(device.clone()), shown)
}

/// A device returns the decrypted secret. The TPM is then bound to the device for good.
///
/// # Errors
/// [`Code::Forbidden`] for a wrong or late secret, or the TPM of another device.
pub async fn prove(app: &App, device: &DeviceId, proof: &TpmProof) -> Result<(), AppError> {
    let row = app.proving.take(&Bearer::Device(device.clone()), proof, patience(app))?;
    let mut tx = app.db.write().await?;
    let bound = tpms::bind(&mut tx, device, &row).await?;
    if bound == Bound::Refused {
        drop(tx);
        return Err(other_tpm(app, device.as_str(), &row).await?);
    }
    if bound == Bound::New {
        app.audit(&mut tx, now_s(), device.as_str(), "device.tpm-bound", &row.ek_sha256).await?;
    }
    tx.commit().await?;
    if bound == Bound::New {
        app.publish(Event::Device { id: device.clone() });
        app.hub.challenge(device);
    }
    Ok(())
}

/// Raises the alarm for a TPM that is not the device's, and returns the error.
async fn other_tpm(app: &App, who: &str, tpm: &TpmRow) -> Result<AppError, AppError> {
    alarm(app, who, tpm).await?;
    Ok(other())
}

/// The error for a TPM that is not the device's.
pub(super) fn other() -> AppError {
    AppError::new(
        Code::Forbidden,
        "this device is bound to another TPM, or this TPM to another device",
    )
    .hint("if the TPM was replaced on purpose, revoke the device and provision it again")
}

/// Writes the alarm to the audit log, in a transaction of its own.
pub(super) async fn alarm(app: &App, who: &str, tpm: &TpmRow) -> Result<(), AppError> {
    if app.alarms.is_new(REFUSED, who) {
        let mut tx = app.db.write().await?;
        app.audit(&mut tx, now_s(), who, REFUSED, &tpm.ek_sha256).await?;
        tx.commit().await?;
        tracing::error!(device = %who, "a device presented a TPM that is not bound to it, or is bound to another device");
    }
    Ok(())
}

/// A device with a token presents its TPM before it enrolls. Returns a secret that only this TPM
/// can decrypt.
///
/// # Errors
/// [`Code::Forbidden`] for an invalid token, or one reserved for another TPM; [`Code::Invalid`] for
/// keys with wrong attributes.
pub async fn begin_enrollment(
    app: &App,
    request: &TpmEnrollRequest,
) -> Result<TpmSecret, AppError> {
    // Check the token first: the server computes and stores nothing for an invalid one.
    let token_sha256 = enrollment_batch::good_token(app, &request.token).await?;
    challenge(app, Bearer::Token(token_sha256), read(app, &request.tpm)?)
}

/// A proved TPM, and the protection level of its keys.
pub struct ProvedTpm {
    /// The row to store.
    pub row: TpmRow,
    /// The protection level for the certificate.
    pub protection: Protection,
}

/// Completes [`begin_enrollment`]: checks the returned secret, and that the key of the CSR is in
/// this TPM.
///
/// # Errors
/// [`Code::Forbidden`], with the check that failed.
pub(super) fn proved_enrollment(
    app: &App,
    (token, csr_pem): (&str, &str),
    sent: &TpmEnrollment,
    channel: Option<[u8; CHANNEL_BYTES]>,
) -> Result<ProvedTpm, AppError> {
    let token_sha256 = sha256_hex(token.as_bytes());
    let row = app.proving.take(&Bearer::Token(token_sha256.clone()), &sent.proof, patience(app))?;
    check_key(&row, &sent.key, csr_pem, channel, |channel| {
        Purpose::enrollment(&token_sha256, channel)
    })?;
    let protection = protection(&row);
    Ok(ProvedTpm { row, protection })
}

/// The protection level of a key in this TPM: a trusted manufacturer counts, unless it makes
/// software TPMs.
pub(super) fn protection(tpm: &TpmRow) -> Protection {
    let is_real = [Kind::Processor, Kind::Hardware]
        .iter()
        .any(|kind| tpm.manufacturer.kind.as_deref() == Some(kind.as_str()));
    if is_real { Protection::CertifiedTpm } else { Protection::Tpm }
}

/// Checks that the key of a CSR is in a known TPM. Only this function checks it.
///
/// # Errors
/// [`Code::Forbidden`], with the check that failed.
pub(super) fn check_key(
    tpm: &TpmRow,
    sent: &KeyProof,
    csr_pem: &str,
    channel: Option<[u8; CHANNEL_BYTES]>,
    purpose: impl FnOnce([u8; CHANNEL_BYTES]) -> Purpose,
) -> Result<(), AppError> {
    let refused = |e: &dyn std::fmt::Display| AppError::new(Code::Forbidden, e.to_string());
    let channel =
        channel.ok_or_else(|| refused(&"a key in a TPM can be certified over TLS 1.3 only"))?;
    let spki = csr::claimed_key(csr_pem).map_err(|e| invalid("csr_pem", e))?;
    let (public, said, signature) = (
        decoded("key", &sent.key)?,
        decoded("certification", &sent.certification)?,
        decoded("signature", &sent.signature)?,
    );
    let sent = Certification { key: &public, certification: &said, signature: &signature };
    key::verify(&sent, &attestation_key(&tpm.attestation_key)?, &purpose(channel), &spki)
        .map_err(|e| refused(&format!("{e} ({})", e.code())))
}
