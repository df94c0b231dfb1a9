//! What a device proves with its TPM (RFC 9334; this server is the Verifier): the TPM that is bound
//! to it is asked again and again what started.

use crate::app::{App, new_id, now_s};
use crate::db::attestations::{self, AttestationRow, FirmwareCodeRow, SentEvidence};
use crate::db::{self, tpms};
use crate::error::AppError;
use crate::service::evidence;
use crate::service::tpm::invalid;
use fleeti_core::attestation::Level;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::manifest::{Artifact, Manifest, PHASE_READY};
use fleeti_core::wire::api::Release;
use fleeti_core::wire::attestation::{AskedFleet, Attestation, Challenge, MeasuredRegister, Tpm};
use fleeti_core::wire::problem::Code;
use fleeti_pki::attestation::appraisal::Reference;
use fleeti_pki::measured::boot::MeasuredBoot;
use fleeti_pki::measured::log::{BYTES_MAX as LOG_MAX, FirmwareLog};
use fleeti_pki::measured::{explained, phases};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Newest releases whose programs are known by name.
const NAMED_MAX: u32 = 64;
/// Where a release has its boot loader.
const BOOT_LOADER: &str = "raw/systemd-boot.efi";

/// A question that is out: it belongs to one session of one device.
pub struct Asked {
    id: String,
    nonce: [u8; 32],
    at: Instant,
}

/// A question for a device, if it has shown a TPM. `heard_log`: the log of firmware that it has
/// named in this session.
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

/// Keeps one of firmware's logs, so that evidence may name it.
///
/// # Errors
/// [`Code::Invalid`] for bytes that are not what they are called; [`Code::TooLarge`].
pub async fn keep_log(
    app: &App,
    device: &DeviceId,
    sha256: &str,
    bytes: &[u8],
) -> Result<(), AppError> {
    if bytes.len() > LOG_MAX {
        return Err(AppError::new(
            Code::TooLarge,
            format!("a log has {LOG_MAX} bytes at the most"),
        ));
    }
    if sha256_hex(bytes) != sha256 {
        return Err(AppError::new(Code::Invalid, "the log is not what it is called by"));
    }
    let mut tx = app.db.write().await?;
    attestations::keep_log(&mut tx, device, sha256, bytes, now_s()).await?;
    Ok(tx.commit().await?)
}

/// Takes what a device answered to the one question that is out. When this returns, the result is
/// kept; the log of firmware that it named.
///
/// # Errors
/// [`Code::Invalid`] for what is no answer to it; whatever it says then is nobody's word.
pub async fn received(
    app: &App,
    device: &DeviceId,
    asked: &mut Option<Asked>,
    payload: &[u8],
) -> Result<String, AppError> {
    let text = String::from_utf8(payload.to_vec()).map_err(|e| invalid("evidence", e))?;
    let sent = SentEvidence::read(text).map_err(|e| invalid("evidence", e))?;
    // An answer to an older question leaves this one as it is.
    let asked = asked
        .take_if(|a| a.id == sent.challenge)
        .filter(|a| a.at.elapsed() < Duration::from_millis(app.config.limits.challenge_ms));
    let asked =
        asked.ok_or_else(|| AppError::new(Code::Invalid, "evidence: nobody asked for it now"))?;
    let firmware_log = sent.firmware_log.clone();
    evidence::submit(app, device, asked.nonce, sent).await?;
    Ok(firmware_log)
}

/// Programs that firmware starts, by their paths, with their Authenticode digests.
fn programs(artifacts: &[Artifact]) -> impl Iterator<Item = (&str, [u8; 32])> {
    artifacts.iter().filter_map(|a| Some((a.path.as_str(), digest(a.authenticode.as_deref()?)?)))
}

pub(super) fn boot_loader(release: &Release) -> Option<[u8; 32]> {
    programs(&release.artifacts).find(|(path, _)| *path == BOOT_LOADER).map(|(_, digest)| digest)
}

pub(super) fn reference(manifest: &Manifest, is_revoked: bool) -> Option<Reference> {
    let kernel_image = digest(manifest.uki()?.authenticode.as_deref()?)?;
    let register_11 = digest(manifest.reference_values.pcr11.get(PHASE_READY)?)?;
    let register_9 = match &manifest.reference_values.pcr9 {
        Some(text) => Some(digest(text)?),
        None => None,
    };
    Some(Reference {
        release: manifest.release.clone(),
        kernel_image,
        register_9,
        register_11,
        is_revoked,
    })
}

/// A digest or register of 32 bytes, hexadecimal.
pub(super) fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    // With two dozen in each answer of a TPM, the fast one; it would take `0x` as well.
    const_hex::decode_to_slice(Some(text).filter(|t| t.len() == 64)?, &mut digest).ok()?;
    Some(digest)
}

/// How far a device can be trusted, and why.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(app: &App, device: &DeviceId) -> Result<Attestation, AppError> {
    if db::devices::get(app.db.pool(), device.as_str()).await?.is_none() {
        return Err(AppError::not_found("device", device.as_str()));
    }
    let tpm = tpms::get(app.db.pool(), device).await?;
    let row = attestations::get(app.db.pool(), device).await?;
    let registers = match &row {
        Some(row) => explained_registers(app, device, row).await?,
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
            maker: t.maker.kind,
            description: t.maker.description,
        }),
        registers,
    })
}

async fn explained_registers(
    app: &App,
    device: &DeviceId,
    row: &AttestationRow,
) -> Result<Vec<MeasuredRegister>, AppError> {
    let named = [(device, row.evidence.firmware_log.as_str())];
    let log =
        attestations::logs(&mut *app.db.pool().acquire().await?, &named).await?.remove(device);
    let log = log.and_then(|bytes| FirmwareLog::parse(&bytes).ok());
    let phases = phases::parse(row.evidence.phases_log.as_bytes()).unwrap_or_default();
    let mut names = BTreeMap::new();
    for manifest in db::releases::known_to(app.db.pool(), device, NAMED_MAX).await? {
        let systemd = &manifest.reference_values.systemd_version;
        for (path, digest) in self::programs(&manifest.artifacts) {
            let (what, version) = match path == BOOT_LOADER {
                true => ("boot loader", format!(", systemd-boot {systemd}")),
                false => ("kernel image", String::new()),
            };
            names
                .entry(digest)
                .or_insert_with(|| format!("{what} of {}{version}", manifest.release));
        }
    }
    let explained = row.evidence.registers.iter().map(|(register, value)| MeasuredRegister {
        register: *register,
        title: explained::title(*register).to_owned(),
        value: value.clone(),
        events: explained::events(*register, log.as_ref(), &phases, &names),
    });
    Ok(explained.collect())
}

/// What a device proves, as others read it.
///
/// # Errors
/// [`Code::NotFound`] for a device that never answered.
pub async fn ear(app: &App, device: &DeviceId) -> Result<serde_json::Value, AppError> {
    let row = attestations::get(app.db.pool(), device)
        .await?
        .ok_or_else(|| AppError::not_found("evidence of device", device.as_str()))?;
    Ok(fleeti_core::attestation::ear::of(
        &row.result,
        concat!("fleeti-server ", env!("CARGO_PKG_VERSION")),
    ))
}

/// An operator accepts the firmware that the device has now.
///
/// # Errors
/// [`Code::NotFound`] for a device that never answered; [`Code::Conflict`] when its last evidence
/// does not hold.
pub async fn accept_firmware(app: &App, device: &DeviceId) -> Result<(), AppError> {
    let row = attestations::get(app.db.pool(), device)
        .await?
        .ok_or_else(|| AppError::not_found("evidence of device", device.as_str()))?;
    let accepted = row
        .accepted
        .as_ref()
        .filter(|_| row.result.level > Level::SelfReported && row.result.is_fresh(now_s()));
    let accepted = accepted.ok_or_else(|| {
        AppError::new(Code::Conflict, "its last evidence does not hold, or is old")
            .hint("ask it again with `fleeti attest now`")
    })?;
    let log = attestations::logs(
        &mut *app.db.pool().acquire().await?,
        &[(device, row.evidence.firmware_log.as_str())],
    )
    .await?;
    let log =
        log.get(device).and_then(|bytes| FirmwareLog::parse(bytes).ok()).ok_or_else(|| {
            AppError::new(Code::Conflict, "what its firmware measured is not here any more")
                .hint("ask it again with `fleeti attest now`")
        })?;
    let (boot, _) = MeasuredBoot::read(&log);
    let programs = boot.firmware_programs.iter().map(|p| hex::encode(p.digest)).collect();
    let register = |n: u8| accepted.registers.get(&n).cloned().unwrap_or_default();
    let code =
        FirmwareCodeRow { registers: [register(0), register(2)], programs, is_accepted: true };
    let mut tx = app.db.write().await?;
    if !attestations::accept_firmware(&mut tx, device, &row.result, &code).await? {
        return Err(AppError::new(Code::Conflict, "it has answered meanwhile")
            .hint("look at the new answer first"));
    }
    app.audit(&mut tx, now_s(), "admin", "device.accept-firmware", device.as_str()).await?;
    tx.commit().await?;
    app.hub.challenge(device);
    Ok(())
}

/// Asks a device now, if it is there.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for a device that is not there or has shown no TPM.
pub async fn ask_now(app: &App, device: &DeviceId) -> Result<(), AppError> {
    if db::devices::get(app.db.pool(), device.as_str()).await?.is_none() {
        return Err(AppError::not_found("device", device.as_str()));
    }
    if tpms::get(app.db.pool(), device).await?.is_none() {
        return Err(AppError::new(Code::Conflict, format!("{device} has shown no TPM")));
    }
    if !app.hub.is_online(device) {
        return Err(AppError::new(Code::Conflict, format!("{device} is not connected"))
            .hint("it is asked as soon as it comes"));
    }
    app.hub.challenge(device);
    Ok(())
}

/// Asks every device of a fleet that is there; how many that are.
pub async fn ask_fleet(app: &App, fleet: &FleetId) -> Result<AskedFleet, AppError> {
    let devices = tpms::of_fleet(app.db.pool(), fleet).await?;
    let there: Vec<_> = devices.into_iter().filter(|device| app.hub.is_online(device)).collect();
    there.iter().for_each(|device| app.hub.challenge(device));
    Ok(AskedFleet { asked: there.len() as u64 })
}
