//! Attestation of devices by their TPMs (RFC 9334). The server is the Verifier: it periodically
//! requests evidence from the TPM that is bound to a device.

use crate::app::{App, new_id, now_s};
use crate::error::AppError;
use crate::service::evidence;
use crate::service::tpm::invalid;
use fleeti_core::attestation::Level;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::manifest::{Artifact, Manifest, PHASE_READY};
use fleeti_core::wire::api::Release;
use fleeti_core::wire::attestation::{AskedFleet, Attestation, Challenge, MeasuredPcr, Tpm};
use fleeti_core::wire::problem::Code;
use fleeti_pki::attestation::appraisal::Reference;
use fleeti_pki::measured::boot::MeasuredBoot;
use fleeti_pki::measured::log::{BYTES_MAX as LOG_MAX, FirmwareLog};
use fleeti_pki::measured::{explained, phases};
use fleeti_store::attestations::{self, AttestationRow, FirmwareCodeRow, SentEvidence};
use fleeti_store::{self as store, tpms};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Number of the newest releases whose EFI binaries are shown by name.
const NAMED_MAX: u32 = 64;
/// Path of the boot loader in a release.
const BOOT_LOADER: &str = "raw/systemd-boot.efi";

/// An outstanding challenge. It belongs to one session of one device.
pub struct Asked {
    id: String,
    nonce: [u8; 32],
    at: Instant,
}

/// A challenge for a device, if it has shown a TPM. `heard_log`: the firmware event log that the
/// device has named in this session.
pub async fn ask(
    app: &App,
    device: &DeviceId,
    heard_log: Option<&str>,
) -> Result<Option<(Asked, Challenge)>, AppError> {
    let firmware_log = match heard_log {
        Some(log) => Some(log.to_owned()),
        None => match tpms::to_be_asked(app.db.pool(), device).await? {
            Some(newest) => newest,
            None => return Ok(None),
        },
    };
    let asked = Asked { id: new_id("challenge"), nonce: rand::random(), at: Instant::now() };
    let challenge =
        Challenge { id: asked.id.clone(), nonce: hex::encode(asked.nonce), firmware_log };
    Ok(Some((asked, challenge)))
}

/// Stores a firmware event log, so that evidence can name it.
///
/// # Errors
/// [`Code::Invalid`] for bytes that do not have this digest; [`Code::TooLarge`].
pub async fn keep_log(
    app: &App,
    device: &DeviceId,
    sha256: &str,
    bytes: &[u8],
) -> Result<(), AppError> {
    if bytes.len() > LOG_MAX {
        return Err(AppError::new(
            Code::TooLarge,
            format!("the log is larger than {LOG_MAX} bytes"),
        ));
    }
    if sha256_hex(bytes) != sha256 {
        return Err(AppError::new(Code::Invalid, "the log does not have the SHA-256 in its path"));
    }
    let mut tx = app.db.write().await?;
    attestations::keep_log(&mut tx, device, sha256, bytes, now_s()).await?;
    Ok(tx.commit().await?)
}

/// Appraises the evidence for the outstanding challenge. When this returns, the result is stored.
/// Returns the firmware event log that the evidence names.
///
/// # Errors
/// [`Code::Invalid`] for evidence that does not answer the challenge. It is not stored.
pub async fn received(
    app: &App,
    device: &DeviceId,
    asked: &mut Option<Asked>,
    payload: &[u8],
) -> Result<String, AppError> {
    let text = String::from_utf8(payload.to_vec()).map_err(|e| invalid("evidence", e))?;
    let sent = SentEvidence::read(text).map_err(|e| invalid("evidence", e))?;
    // Evidence for an older challenge does not consume this one.
    let asked = asked
        .take_if(|a| a.id == sent.challenge)
        .filter(|a| a.at.elapsed() < Duration::from_millis(app.config.limits.challenge_ms));
    let asked = asked.ok_or_else(|| {
        AppError::new(Code::Invalid, "evidence: there is no outstanding challenge for it")
    })?;
    let firmware_log = sent.firmware_log.clone();
    evidence::submit(app, device, asked.nonce, sent).await?;
    Ok(firmware_log)
}

/// EFI binaries of a release, by path, with their Authenticode digests.
fn binaries(artifacts: &[Artifact]) -> impl Iterator<Item = (&str, [u8; 32])> {
    artifacts.iter().filter_map(|a| Some((a.path.as_str(), digest(a.authenticode.as_deref()?)?)))
}

pub(super) fn boot_loader(release: &Release) -> Option<[u8; 32]> {
    binaries(&release.artifacts).find(|(path, _)| *path == BOOT_LOADER).map(|(_, digest)| digest)
}

pub(super) fn reference(manifest: &Manifest, is_revoked: bool) -> Option<Reference> {
    let kernel_image = digest(manifest.uki()?.authenticode.as_deref()?)?;
    let pcr_11 = digest(manifest.reference_values.pcr11.get(PHASE_READY)?)?;
    let pcr_9 = match &manifest.reference_values.pcr9 {
        Some(text) => Some(digest(text)?),
        None => None,
    };
    Some(Reference { release: manifest.release.clone(), kernel_image, pcr_9, pcr_11, is_revoked })
}

/// Parses a digest or PCR of 32 bytes, hexadecimal.
pub(super) fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    // The fast decoder, because evidence has two dozen of these. It would accept `0x`, hence the
    // check.
    const_hex::decode_to_slice(Some(text).filter(|t| t.len() == 64)?, &mut digest).ok()?;
    Some(digest)
}

/// The attestation level of a device, with claims and measurements.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(app: &App, device: &DeviceId) -> Result<Attestation, AppError> {
    if store::devices::get(app.db.pool(), device.as_str()).await?.is_none() {
        return Err(AppError::not_found("device", device.as_str()));
    }
    let tpm = tpms::get(app.db.pool(), device).await?;
    let row = attestations::get(app.db.pool(), device).await?;
    let pcrs = match &row {
        Some(row) => explained_pcrs(app, device, row).await?,
        None => Vec::new(),
    };
    let now = now_s();
    let level = row.as_ref().map_or(Level::Token, |r| r.result.level_at(now));
    Ok(Attestation {
        level,
        level_code: level.code().to_owned(),
        is_fresh: row.as_ref().is_some_and(|r| r.result.is_fresh(now)),
        result: row.map(|r| r.result),
        tpm: tpm.map(|t| Tpm {
            bound_s: t.bound_s(),
            ek_sha256: t.ek_sha256,
            manufacturer: t.manufacturer.kind,
            description: t.manufacturer.description,
        }),
        pcrs,
    })
}

async fn explained_pcrs(
    app: &App,
    device: &DeviceId,
    row: &AttestationRow,
) -> Result<Vec<MeasuredPcr>, AppError> {
    let named = [(device, row.evidence.firmware_log.as_str())];
    let log = attestations::logs(&mut *app.db.reader().await?, &named).await?.remove(device);
    let log = log.and_then(|bytes| FirmwareLog::parse(&bytes).ok());
    let phases = phases::parse(row.evidence.phases_log.as_bytes()).unwrap_or_default();
    let mut names = BTreeMap::new();
    for manifest in store::releases::known_to(app.db.pool(), device, NAMED_MAX).await? {
        let systemd = &manifest.reference_values.systemd_version;
        for (path, digest) in self::binaries(&manifest.artifacts) {
            let (what, version) = match path == BOOT_LOADER {
                true => ("boot loader", format!(", systemd-boot {systemd}")),
                false => ("kernel image", String::new()),
            };
            names
                .entry(digest)
                .or_insert_with(|| format!("{what} of {}{version}", manifest.release));
        }
    }
    let explained = row.evidence.pcrs.iter().map(|(pcr, value)| MeasuredPcr {
        pcr: *pcr,
        title: explained::title(*pcr).to_owned(),
        value: value.clone(),
        events: explained::events(*pcr, log.as_ref(), &phases, &names),
    });
    Ok(explained.collect())
}

/// The attestation result of a device as an EAT Attestation Result.
///
/// # Errors
/// [`Code::NotFound`] for a device that has never sent evidence.
pub async fn ear(app: &App, device: &DeviceId) -> Result<serde_json::Value, AppError> {
    let row = attestations::get(app.db.pool(), device)
        .await?
        .ok_or_else(|| AppError::not_found("evidence of device", device.as_str()))?;
    Ok(fleeti_core::attestation::ear::of(
        &row.result,
        concat!("fleeti-server ", env!("CARGO_PKG_VERSION")),
    ))
}

/// Accepts the current firmware of a device, on behalf of an operator.
///
/// # Errors
/// [`Code::NotFound`] for a device that has never sent evidence; [`Code::Conflict`] if its last
/// evidence is old or did not verify.
pub async fn accept_firmware(app: &App, device: &DeviceId) -> Result<(), AppError> {
    let row = attestations::get(app.db.pool(), device)
        .await?
        .ok_or_else(|| AppError::not_found("evidence of device", device.as_str()))?;
    let accepted = row
        .accepted
        .as_ref()
        .filter(|_| row.result.level > Level::SelfReported && row.result.is_fresh(now_s()));
    let accepted = accepted.ok_or_else(|| {
        AppError::new(Code::Conflict, "the last evidence of the device is old or did not verify")
            .hint("request new evidence with `fleeti attest now`")
    })?;
    let log = attestations::logs(
        &mut *app.db.reader().await?,
        &[(device, row.evidence.firmware_log.as_str())],
    )
    .await?;
    let log =
        log.get(device).and_then(|bytes| FirmwareLog::parse(bytes).ok()).ok_or_else(|| {
            AppError::new(Code::Conflict, "the server no longer has the firmware's measurements")
                .hint("request new evidence with `fleeti attest now`")
        })?;
    let (boot, _) = MeasuredBoot::read(&log);
    let binaries = boot.firmware_binaries.iter().map(|p| hex::encode(p.digest)).collect();
    let pcr = |n: u8| accepted.pcrs.get(&n).cloned().unwrap_or_default();
    let code = FirmwareCodeRow { pcrs: [pcr(0), pcr(2)], binaries, is_accepted: true };
    let mut tx = app.db.write().await?;
    if !attestations::accept_firmware(&mut tx, device, &row.result, &code).await? {
        return Err(AppError::new(Code::Conflict, "the device has sent new evidence meanwhile")
            .hint("check the new evidence first"));
    }
    app.audit(&mut tx, now_s(), "admin", "device.accept-firmware", device.as_str()).await?;
    tx.commit().await?;
    app.hub.challenge(device);
    Ok(())
}

/// Requests evidence from a connected device now.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for a device that is not connected, or has not shown a
/// TPM.
pub async fn ask_now(app: &App, device: &DeviceId) -> Result<(), AppError> {
    if store::devices::get(app.db.pool(), device.as_str()).await?.is_none() {
        return Err(AppError::not_found("device", device.as_str()));
    }
    if tpms::get(app.db.pool(), device).await?.is_none() {
        return Err(AppError::new(Code::Conflict, format!("{device} has not shown a TPM")));
    }
    if !app.hub.is_online(device) {
        return Err(AppError::new(Code::Conflict, format!("{device} is not connected"))
            .hint("the server requests evidence on reconnect"));
    }
    app.hub.challenge(device);
    Ok(())
}

/// Requests evidence from every connected device of a fleet. Returns their number.
pub async fn ask_fleet(app: &App, fleet: &FleetId) -> Result<AskedFleet, AppError> {
    let devices = tpms::of_fleet(app.db.pool(), fleet).await?;
    let there: Vec<_> = devices.into_iter().filter(|device| app.hub.is_online(device)).collect();
    there.iter().for_each(|device| app.hub.challenge(device));
    Ok(AskedFleet { asked: there.len() as u64 })
}
