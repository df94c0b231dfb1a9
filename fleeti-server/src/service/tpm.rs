//! TPMs of devices: a TPM is bound to a device once, by a secret that only that TPM gives away
//! (TPM2_ActivateCredential), and vouches for the keys that it holds.

use crate::app::{App, AppRef, new_id, now_s};
use crate::config::makers;
use crate::db::tpms::{self, Bound, Maker, TpmRow};
use crate::error::AppError;
use crate::service::{intake, policy};
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
use fleeti_pki::tpm::endorsement::{self, Kind, Makers};
use fleeti_pki::tpm::public::{AttestationKey, EndorsementKey, Public};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// TPMs that are proved at once.
const PROVING_MAX: usize = 1024;
/// An alarm of somebody is entered into the audit log once in this time.
const ALARMED_AGAIN: Duration = Duration::from_secs(3600);
/// The alarm of a TPM that is not the device's.
const REFUSED: &str = "device.tpm-refused";
/// TPMs whose makers are judged in one transaction.
const JUDGED_TOGETHER: u32 = 128;
/// How often makers and lists are read, and how soon after a fault.
const JUDGED_EVERY: Duration = Duration::from_secs(3600);
const JUDGED_AGAIN: Duration = Duration::from_secs(60);
/// Most characters of what is said of a TPM's maker.
const DESCRIPTION_MAX: usize = 200;
/// Alarms that are remembered.
const ALARMS_MAX: usize = 4096;

/// Who shows a TPM: a device that has a certificate, or whoever has a token (by its digest).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Bearer {
    Device(DeviceId),
    Token(String),
}

/// A TPM whose secret is out.
struct Pending {
    id: String,
    secret: [u8; 32],
    row: TpmRow,
    asked: Instant,
}

/// TPMs whose secrets are out.
#[derive(Default)]
pub struct Proving {
    pending: Mutex<HashMap<Bearer, Pending>>,
}

/// Which alarms were raised lately, and by whom.
#[derive(Default)]
pub struct Alarms(Mutex<HashMap<(&'static str, String), Instant>>);

impl Alarms {
    /// Whether this alarm of whoever it is is not in the audit log yet, so that nobody fills that
    /// by coming again and again, nor keeps others, or another alarm, from being seen.
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
            return Err(AppError::new(
                Code::Unavailable,
                "too many devices prove their TPM at once",
            )
            .hint("come back in a minute"));
        }
        all.insert(bearer, pending);
        Ok(())
    }

    /// Whatever comes of it, nobody tries twice.
    fn take(
        &self,
        bearer: &Bearer,
        proof: &TpmProof,
        patience: Duration,
    ) -> Result<TpmRow, AppError> {
        let given = decoded("secret", proof.secret.expose())?;
        let found = self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(bearer);
        let found = found.filter(|p| p.asked.elapsed() < patience && p.id == proof.id);
        // One answer for every reason; digests are compared, so that time tells nothing of the
        // secret.
        let found = found.filter(|p| sha256_hex(&p.secret) == sha256_hex(&given));
        let refused = || {
            AppError::new(Code::Forbidden, "that is not what this TPM was asked for")
                .hint("show the TPM again")
        };
        found.map(|p| p.row).ok_or_else(refused)
    }
}

/// How long a TPM that was shown may take to prove that it is there.
fn patience(app: &App) -> Duration {
    Duration::from_millis(app.config.limits.proving_ms)
}

pub(super) fn invalid(what: &str, e: impl std::fmt::Display) -> AppError {
    AppError::new(Code::Invalid, format!("{what}: {e}"))
}

pub(super) fn decoded(what: &str, text: &str) -> Result<Vec<u8>, AppError> {
    STANDARD.decode(text).map_err(|e| invalid(what, e))
}

/// The attestation key of a TPM that is known, of its TPMT_PUBLIC in base64.
pub(super) fn attestation_key(text: &str) -> Result<AttestationKey, AppError> {
    let public = Public::parse(&decoded("attestation_key", text)?).map_err(AppError::internal)?;
    AttestationKey::new(public).map_err(AppError::internal)
}

/// A TPM as it was shown: its keys are what they are shown as, and who made it was looked at.
struct Shown {
    endorsement: EndorsementKey,
    attestation: AttestationKey,
    row: TpmRow,
}

fn read(app: &App, shown: &TpmIdentity) -> Result<Shown, AppError> {
    if shown.certificates.len() > CERTIFICATES_MAX {
        return Err(AppError::new(
            Code::Invalid,
            format!("{} certificates, {CERTIFICATES_MAX} at the most", shown.certificates.len()),
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
    // Of the key itself: what else is in its area a device may say as it likes, and is another
    // digest each time.
    let ek_sha256 =
        sha256_hex(&endorsement.public().to_spki_der().map_err(|e| invalid("endorsement_key", e))?);
    let keys = (shown.endorsement_key.clone(), shown.attestation_key.clone());
    let maker = maker(app, &endorsement, &certificates);
    // What does not come apart again as it was put together is no certificates, and endorses
    // nothing.
    let together = certificates.concat();
    let together = if endorsement::each_of(&together).eq(certificates.iter().map(Vec::as_slice)) {
        together
    } else {
        vec![]
    };
    let row = TpmRow::new(ek_sha256, keys, together, maker, now_s());
    Ok(Shown { endorsement, attestation, row })
}

fn maker(app: &App, endorsement: &EndorsementKey, certificates: &[Vec<u8>]) -> Maker {
    let (makers, now) = (app.pki.makers.load(), now_s());
    let (kind, description) = match makers.verify(endorsement, certificates, now) {
        Ok(e) => (
            Some(e.kind.as_str().to_owned()),
            format!("{} {} {}", e.manufacturer, e.model, e.version),
        ),
        Err(e) => (None, e.to_string()),
    };
    // What a certificate holds is somebody else's word.
    let description = description.chars().take(DESCRIPTION_MAX).collect();
    Maker { kind, description, judged_by: makers.digest(now) }
}

/// Judges anew who made the TPMs of devices, now and every hour; what cannot be read is said once.
pub async fn judge_makers(app: AppRef) {
    let mut said = None;
    loop {
        let judged = judge_makers_anew(&app).await;
        let problem = judged.as_ref().err().map(|e| format!("{e:#}"));
        if let Some(problem) = problem.as_ref().filter(|_| problem != said) {
            tracing::error!("the makers of TPMs were not all looked at anew: {problem}");
        }
        said = problem;
        tokio::time::sleep(if judged.is_ok() { JUDGED_EVERY } else { JUDGED_AGAIN }).await;
    }
}

/// Reads anew who is believed, and judges by it the TPMs of devices, where other makers are
/// believed by now, other revocation lists are there, or one has ended. What is known of devices by
/// their TPMs changes with it.
///
/// # Errors
/// Names the files that cannot be read, and are left out; where a revocation list is among them,
/// those count that were read last, for nobody knows whom it revokes. When the database does not
/// answer.
pub async fn judge_makers_anew(app: &AppRef) -> anyhow::Result<()> {
    let read = read_makers(app).await?;
    let left_out: Vec<String> =
        read.left_out().iter().map(|(file, problem)| format!("{file}: {problem}")).collect();
    if !read.left_out().iter().any(|(file, _)| is_list(file)) {
        app.pki.makers.store(Arc::new(read));
    }
    judge_all(app).await?;
    anyhow::ensure!(left_out.is_empty(), "left out: {}", left_out.join("; "));
    Ok(())
}

fn is_list(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|e| e == "crl")
}

/// Who is believed by the files of the data folder.
///
/// # Errors
/// When the task ends.
pub(super) async fn read_makers(app: &AppRef) -> Result<Makers, AppError> {
    let data = app.config.data.clone();
    tokio::task::spawn_blocking(move || makers(&data)).await.map_err(AppError::internal)
}

/// Judges every TPM that others judged than are believed now.
pub(super) async fn judge_all(app: &AppRef) -> Result<(), AppError> {
    while judge_some(app).await? {}
    Ok(())
}

/// Whether there may be more.
async fn judge_some(app: &AppRef) -> Result<bool, AppError> {
    let by = app.pki.makers.load().digest(now_s());
    let rows = tpms::judged_by_others(app.db.pool(), &by, JUDGED_TOGETHER).await?;
    if rows.is_empty() {
        return Ok(false);
    }
    // Before it was kept, nobody had changed anything that is known of.
    if rows.iter().any(|(_, row)| row.maker.judged_by.is_empty()) {
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
    for (maker, device, row) in judged {
        if tpms::set_maker(&mut tx, &device, &row, &maker).await? && row.maker.kind != maker.kind {
            let kind = maker.kind.as_deref().unwrap_or("nobody that is believed");
            app.audit(
                &mut tx,
                now_s(),
                "server",
                "device.tpm-maker",
                &format!("{device} {kind}: {}", maker.description),
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

/// By what the TPM came with. Whoever came before that was kept has to show it again.
fn anew(app: &App, row: &TpmRow) -> Maker {
    let certificates: Vec<Vec<u8>> =
        endorsement::each_of(&row.certificates).map(<[u8]>::to_vec).collect();
    let key = decoded("endorsement_key", &row.endorsement_key).and_then(|area| {
        let public = Public::parse(&area).map_err(|e| invalid("endorsement_key", e))?;
        EndorsementKey::new(public).map_err(|e| invalid("endorsement_key", e))
    });
    match key {
        Ok(key) => maker(app, &key, &certificates),
        Err(e) => Maker {
            kind: None,
            description: e.to_string(),
            judged_by: app.pki.makers.load().digest(now_s()),
        },
    }
}

/// A secret that only the TPM which was shown gives away, and only for that attestation key.
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

/// A device shows its TPM; the answer is a secret that only that TPM gives away, and only for that
/// attestation key.
///
/// # Errors
/// [`Code::Invalid`] for keys that cannot be what they are shown as; [`Code::Forbidden`] for
/// another TPM than the device's.
pub async fn begin(
    app: &App,
    device: &DeviceId,
    shown: &TpmIdentity,
) -> Result<TpmSecret, AppError> {
    let shown = read(app, shown)?;
    if tpms::is_taken(&mut *app.db.pool().acquire().await?, device, &shown.row).await? {
        return Err(other_tpm(app, device.as_str(), &shown.row).await?);
    }
    challenge(app, Bearer::Device(device.clone()), shown)
}

/// A device gives back what its TPM gave away: the TPM is bound to it, and stays.
///
/// # Errors
/// [`Code::Forbidden`] when it is another secret, comes late, or the TPM is another device's.
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

/// The answer to a device that came with another TPM, or a TPM with another device, once the alarm
/// is raised.
async fn other_tpm(app: &App, who: &str, tpm: &TpmRow) -> Result<AppError, AppError> {
    alarm(app, who, tpm).await?;
    Ok(other())
}

/// What such a device is told.
pub(super) fn other() -> AppError {
    AppError::new(
        Code::Forbidden,
        "this device is known by another TPM, or this TPM by another device",
    )
    .hint("revoke the device and provision it anew, if the exchange is meant")
}

/// An act of its own in the audit log.
pub(super) async fn alarm(app: &App, who: &str, tpm: &TpmRow) -> Result<(), AppError> {
    if app.alarms.is_new(REFUSED, who) {
        let mut tx = app.db.write().await?;
        app.audit(&mut tx, now_s(), who, REFUSED, &tpm.ek_sha256).await?;
        tx.commit().await?;
        tracing::error!(device = %who, "a device came with another TPM than it is known by, or with another device's");
    }
    Ok(())
}

/// Whoever has a token shows a TPM before it enrolls; the answer is a secret that only that TPM
/// gives away.
///
/// # Errors
/// [`Code::Forbidden`] for a token that is none, or is for another TPM; [`Code::Invalid`] for keys
/// that cannot be what they are shown as.
pub async fn begin_enrollment(
    app: &App,
    request: &TpmEnrollRequest,
) -> Result<TpmSecret, AppError> {
    // Nothing is computed, and nothing remembered, for a token that is no good.
    let token_sha256 = intake::good_token(app, &request.token).await?;
    challenge(app, Bearer::Token(token_sha256), read(app, &request.tpm)?)
}

/// A TPM that was proved, and how far its maker's word makes the key that it holds trusted.
pub struct ProvedTpm {
    /// What it is known by.
    pub row: TpmRow,
    /// For the certificate.
    pub protection: Protection,
}

/// The end of what [`begin_enrollment`] began: the secret came back, and the key of the request is
/// in that TPM.
///
/// # Errors
/// [`Code::Forbidden`], saying which of both does not hold.
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

/// How far a key in this TPM is protected: a maker's word counts, but for one who makes software.
pub(super) fn protection(tpm: &TpmRow) -> Protection {
    let is_real = [Kind::Processor, Kind::Hardware]
        .iter()
        .any(|kind| tpm.maker.kind.as_deref() == Some(kind.as_str()));
    if is_real { Protection::CertifiedTpm } else { Protection::Tpm }
}

/// That the key of a request is in a TPM that is known. The one place where that is said.
///
/// # Errors
/// [`Code::Forbidden`], saying what does not hold.
pub(super) fn check_key(
    tpm: &TpmRow,
    sent: &KeyProof,
    csr_pem: &str,
    channel: Option<[u8; CHANNEL_BYTES]>,
    purpose: impl FnOnce([u8; CHANNEL_BYTES]) -> Purpose,
) -> Result<(), AppError> {
    let refused = |e: &dyn std::fmt::Display| AppError::new(Code::Forbidden, e.to_string());
    let channel =
        channel.ok_or_else(|| refused(&"a key in a TPM is certified over TLS 1.3 alone"))?;
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
