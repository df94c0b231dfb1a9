//! TPMs of devices. A TPM is bound to a device once, by a secret that only this TPM can decrypt
//! (TPM2_ActivateCredential). It then certifies the keys that it holds.

use crate::attestation::evidence;
use crate::attestation::parse::{attestation_key, decoded, invalid};
use crate::attestation::proving::{Bearer, Pending};
use crate::clock::new_id;
use crate::context::{Context, ContextRef};
use crate::error::{Error, for_log};
use crate::pki::manufacturers;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::Event;
use fleeti_core::wire::attestation::{
    CERTIFICATES_MAX, KeyProof, TpmIdentity, TpmProof, TpmSecret,
};
use fleeti_core::wire::problem::Code;
use fleeti_pki::attestation::key::{self, CHANNEL_BYTES, Certification, Purpose};
use fleeti_pki::audit::Act;
use fleeti_pki::certificate::Protection;
use fleeti_pki::csr;
use fleeti_pki::tpm::credential;
use fleeti_pki::tpm::endorsement::{self, Kind, Manufacturers};
use fleeti_pki::tpm::public::{AttestationKey, EndorsementKey, Public};
use fleeti_store::tpms::{self, Bound, Manufacturer, TpmKeys, TpmRow};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Audit action: a device presented a TPM that is not bound to it.
const REFUSED: &str = "device.tpm-refused";
/// Number of TPMs that are appraised in one transaction.
const APPRAISED_TOGETHER: u32 = 128;
/// Interval at which TPM manufacturers and their CRLs are read, and the delay after a failure.
const APPRAISED_EVERY: Duration = Duration::from_secs(3600);
const APPRAISED_AGAIN: Duration = Duration::from_secs(60);
/// Maximum length of a TPM's description, in characters.
const DESCRIPTION_MAX: usize = 200;

/// How long a TPM may take to return its secret.
fn patience(cx: &Context) -> Duration {
    Duration::from_millis(cx.settings.limits.proving_ms)
}

/// A presented TPM, after its keys and its manufacturer were checked.
pub(crate) struct Shown {
    endorsement: EndorsementKey,
    attestation: AttestationKey,
    row: TpmRow,
}

impl Shown {
    /// SHA-256 of its endorsement key.
    pub(crate) fn ek_sha256(&self) -> &str {
        &self.row.ek_sha256
    }
}

pub(crate) fn read(cx: &Context, shown: &TpmIdentity) -> Result<Shown, Error> {
    if shown.certificates.len() > CERTIFICATES_MAX {
        return Err(Error::new(
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
    let spki = endorsement.public().to_spki_der().map_err(|e| invalid("endorsement_key", e))?;
    let keys = TpmKeys {
        ek_sha256: sha256_hex(&spki),
        endorsement_key: shown.endorsement_key.clone(),
        attestation_key: shown.attestation_key.clone(),
    };
    let manufacturer = manufacturer(cx, &endorsement, &certificates);
    // If splitting the concatenation does not return the same certificates, they are malformed and
    // endorse nothing.
    let together = certificates.concat();
    let together = if endorsement::each_of(&together).eq(certificates.iter().map(Vec::as_slice)) {
        together
    } else {
        vec![]
    };
    let row = TpmRow::new(keys, together, manufacturer, cx.now_s());
    Ok(Shown { endorsement, attestation, row })
}

fn manufacturer(
    cx: &Context,
    endorsement: &EndorsementKey,
    certificates: &[Vec<u8>],
) -> Manufacturer {
    let (manufacturers, now) = (cx.pki.manufacturers.load(), cx.now_s());
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
pub async fn appraise_manufacturers(cx: ContextRef) {
    let mut said = None;
    loop {
        let appraised = reappraise_manufacturers(&cx).await;
        let problem = appraised.as_ref().err().map(for_log);
        if let Some(problem) = problem.as_ref().filter(|_| problem != said) {
            tracing::error!("the manufacturers of TPMs were not all appraised again: {problem}");
        }
        said = problem;
        tokio::time::sleep(if appraised.is_ok() { APPRAISED_EVERY } else { APPRAISED_AGAIN }).await;
    }
}

/// Reads the trusted TPM manufacturers and their CRLs, and appraises the TPMs of devices again if
/// anything changed or a CRL has expired. Attestation levels of devices change accordingly.
///
/// # Errors
/// Names the files that cannot be read; the server ignores them. If a CRL is among them, the last
/// readable set stays in use, because it is unknown what the CRL revokes.
pub async fn reappraise_manufacturers(cx: &ContextRef) -> anyhow::Result<()> {
    let read = read_manufacturers(cx).await?;
    let left_out: Vec<String> =
        read.left_out().iter().map(|(file, problem)| format!("{file}: {problem}")).collect();
    if !read.left_out().iter().any(|(file, _)| is_list(file)) {
        cx.pki.manufacturers.store(Arc::new(read));
    }
    reappraise_all(cx).await?;
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
pub(crate) async fn read_manufacturers(cx: &ContextRef) -> Result<Manufacturers, Error> {
    let data = cx.settings.data.clone();
    tokio::task::spawn_blocking(move || manufacturers(&data)).await.map_err(Error::internal)
}

/// Appraises every TPM that was appraised by another set of manufacturers than the current one.
pub(crate) async fn reappraise_all(cx: &ContextRef) -> Result<(), Error> {
    while reappraise_some(cx).await? {}
    Ok(())
}

/// Appraises a few TPMs. Returns whether there may be more.
async fn reappraise_some(cx: &ContextRef) -> Result<bool, Error> {
    let by = cx.pki.manufacturers.load().digest(cx.now_s());
    let rows = tpms::judged_by_others(cx.db.pool(), &by, APPRAISED_TOGETHER).await?;
    if rows.is_empty() {
        return Ok(false);
    }
    // Rows from before the digest was stored: no change since then is known, so set the current
    // one.
    if rows.iter().any(|(_, row)| row.manufacturer.judged_by.is_empty()) {
        let mut tx = cx.db.write().await?;
        tpms::set_judged(&mut tx, &by).await?;
        tx.commit().await?;
        return Ok(true);
    }
    let verifier = Arc::clone(cx);
    let appraised = tokio::task::spawn_blocking(move || {
        let appraise = |(device, row)| {
            let manufacturer = reappraised(&verifier, &row);
            Reappraised { device, row, manufacturer }
        };
        rows.into_iter().map(appraise).collect::<Vec<_>>()
    });
    let appraised = appraised.await.map_err(Error::internal)?;
    let mut changed = Vec::new();
    let mut tx = cx.db.write().await?;
    for Reappraised { device, row, manufacturer } in appraised {
        if tpms::set_manufacturer(&mut tx, &device, &row, &manufacturer).await?
            && row.manufacturer.kind != manufacturer.kind
        {
            let kind = manufacturer.kind.as_deref().unwrap_or("no trusted manufacturer");
            let text = format!("{device} {kind}: {}", manufacturer.description);
            cx.audit(&mut tx, Act::new("server", "device.tpm-manufacturer", &text)).await?;
            changed.push(device);
        }
    }
    tx.commit().await?;
    cx.attestation.policies.touch();
    evidence::reappraise_all(cx, &changed).await;
    Ok(true)
}

/// A device's TPM, and what its certificates state now.
struct Reappraised {
    device: DeviceId,
    row: TpmRow,
    manufacturer: Manufacturer,
}

/// Appraises a TPM by its stored certificates. A TPM from before they were stored must be presented
/// again.
fn reappraised(cx: &Context, row: &TpmRow) -> Manufacturer {
    let certificates: Vec<Vec<u8>> =
        endorsement::each_of(&row.certificates).map(<[u8]>::to_vec).collect();
    let key = decoded("endorsement_key", &row.endorsement_key).and_then(|area| {
        let public = Public::parse(&area).map_err(|e| invalid("endorsement_key", e))?;
        EndorsementKey::new(public).map_err(|e| invalid("endorsement_key", e))
    });
    match key {
        Ok(key) => manufacturer(cx, &key, &certificates),
        Err(e) => Manufacturer {
            kind: None,
            description: e.to_string(),
            judged_by: cx.pki.manufacturers.load().digest(cx.now_s()),
        },
    }
}

/// Makes a secret that only this TPM can decrypt, and only with this attestation key.
pub(crate) fn challenge(cx: &Context, bearer: Bearer, shown: Shown) -> Result<TpmSecret, Error> {
    let secret: [u8; 32] = rand::random();
    let name = shown.attestation.public().name();
    let made = credential::make(&shown.endorsement, &name, &secret)
        .map_err(|e| invalid("endorsement_key", e))?;
    let id = new_id("tpm");
    cx.attestation.proving.put(
        bearer,
        Pending { id: id.clone(), secret, row: shown.row, asked: Instant::now() },
        patience(cx),
    )?;
    Ok(TpmSecret { id, blob: STANDARD.encode(made.blob), secret: STANDARD.encode(made.secret) })
}

/// Takes the TPM of a device or of the holder of a token, which has returned its secret.
///
/// # Errors
/// [`Code::Forbidden`] for a wrong or late secret.
pub(crate) fn redeem_proof(
    cx: &Context,
    bearer: &Bearer,
    proof: &TpmProof,
) -> Result<TpmRow, Error> {
    cx.attestation.proving.take(bearer, proof, patience(cx))
}

/// A device presents its TPM. Returns a secret that only this TPM can decrypt, and only with this
/// attestation key.
///
/// # Errors
/// [`Code::Invalid`] for keys with wrong attributes; [`Code::Forbidden`] for a TPM that is not the
/// device's.
pub async fn begin(
    cx: &Context,
    device: &DeviceId,
    shown: &TpmIdentity,
) -> Result<TpmSecret, Error> {
    let shown = read(cx, shown)?;
    if tpms::is_taken(&mut cx.db.reader().await?, device, &shown.row).await? {
        return Err(other_tpm(cx, device.as_str(), &shown.row).await?);
    }
    challenge(cx, Bearer::Device(device.clone()), shown)
}

/// A device returns the decrypted secret. The TPM is then bound to the device for good.
///
/// # Errors
/// [`Code::Forbidden`] for a wrong or late secret, or the TPM of another device.
pub async fn prove(cx: &Context, device: &DeviceId, proof: &TpmProof) -> Result<(), Error> {
    let row = redeem_proof(cx, &Bearer::Device(device.clone()), proof)?;
    let mut tx = cx.db.write().await?;
    let bound = tpms::bind(&mut tx, device, &row).await?;
    if bound == Bound::Refused {
        drop(tx);
        return Err(other_tpm(cx, device.as_str(), &row).await?);
    }
    if bound == Bound::New {
        cx.audit(&mut tx, Act::new(device.as_str(), "device.tpm-bound", &row.ek_sha256)).await?;
    }
    if bound == Bound::New {
        cx.commit(tx, Event::Device { id: device.clone() }).await?;
        cx.hub.challenge(device);
    }
    Ok(())
}

/// Raises the alarm for a TPM that is not the device's, and returns the error.
async fn other_tpm(cx: &Context, who: &str, tpm: &TpmRow) -> Result<Error, Error> {
    alarm(cx, who, tpm).await?;
    Ok(other())
}

/// The error for a TPM that is not the device's.
pub(crate) fn other() -> Error {
    Error::new(
        Code::Forbidden,
        "this device is bound to another TPM, or this TPM to another device",
    )
    .hint("if the TPM was replaced on purpose, revoke the device and provision it again")
}

/// Writes the alarm to the audit log, in a transaction of its own.
pub(crate) async fn alarm(cx: &Context, who: &str, tpm: &TpmRow) -> Result<(), Error> {
    if cx.alarms.is_new(REFUSED, who) {
        let mut tx = cx.db.write().await?;
        cx.audit(&mut tx, Act::new(who, REFUSED, &tpm.ek_sha256)).await?;
        tx.commit().await?;
        tracing::error!(device = %who, "a device presented a TPM that is not bound to it, or is bound to another device");
    }
    Ok(())
}

/// The protection level of a key in this TPM: a trusted manufacturer counts, unless it makes
/// software TPMs.
pub(crate) fn protection(tpm: &TpmRow) -> Protection {
    let is_real = [Kind::Processor, Kind::Hardware]
        .iter()
        .any(|kind| tpm.manufacturer.kind.as_deref() == Some(kind.as_str()));
    if is_real { Protection::CertifiedTpm } else { Protection::Tpm }
}

/// Checks that the key of a CSR is in a known TPM. Only this function checks it.
///
/// # Errors
/// [`Code::Forbidden`], with the check that failed.
pub(crate) fn check_key(
    tpm: &TpmRow,
    sent: &KeyProof,
    csr_pem: &str,
    channel: Option<[u8; CHANNEL_BYTES]>,
    purpose: impl FnOnce([u8; CHANNEL_BYTES]) -> Purpose,
) -> Result<(), Error> {
    let refused = |e: &dyn std::fmt::Display| Error::new(Code::Forbidden, e.to_string());
    let channel =
        channel.ok_or_else(|| refused(&"a key in a TPM can be certified over TLS 1.3 only"))?;
    let spki = csr::claimed_key(csr_pem).map_err(|e| invalid("csr_pem", e))?;
    let public = decoded("key", &sent.key)?;
    let said = decoded("certification", &sent.certification)?;
    let signature = decoded("signature", &sent.signature)?;
    let sent = Certification { key: &public, certification: &said, signature: &signature };
    key::verify(&sent, &attestation_key(&tpm.attestation_key)?, &purpose(channel), &spki)
        .map_err(|e| refused(&format!("{e} ({})", e.code())))
}
