//! Attestation of devices by their TPMs (RFC 9334). The server is the Verifier: it periodically
//! requests evidence from the TPM that is bound to a device.

use crate::accounts::actor::Actor;
use crate::attestation::evidence;
use crate::attestation::parse::invalid;
use crate::attestation::reference::{BOOT_LOADER, binaries};
use crate::clock::new_id;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::attestation::Level;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::attestation::{AskedFleet, Attestation, Challenge, MeasuredPcr, Tpm};
use fleeti_core::wire::problem::Code;
use fleeti_pki::measured::boot::MeasuredBoot;
use fleeti_pki::measured::log::{BYTES_MAX as LOG_MAX, FirmwareLog};
use fleeti_pki::measured::{explained, phases};
use fleeti_store::attestations::{self, AttestationRow, FirmwareCodeRow, SentEvidence};
use fleeti_store::{self as store, tpms};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Number of the newest releases whose EFI binaries are shown by name.
const NAMED_MAX: u32 = 64;

/// An outstanding challenge. It belongs to one session of one device.
pub struct Asked {
    id: String,
    nonce: [u8; 32],
    at: Instant,
}

/// A challenge for a device, if it has shown a TPM. `sent_log`: the firmware event log that the
/// device has named in this session.
pub async fn ask(
    cx: &Context,
    device: &DeviceId,
    sent_log: Option<&str>,
) -> Result<Option<(Asked, Challenge)>, Error> {
    let firmware_log = match sent_log {
        Some(log) => Some(log.to_owned()),
        None => match tpms::to_be_asked(cx.db.pool(), device).await? {
            Some(newest) => newest,
            None => return Ok(None),
        },
    };
    let asked = Asked { id: new_id("challenge"), nonce: rand::random(), at: Instant::now() };
    let challenge =
        Challenge { id: asked.id.clone(), nonce: const_hex::encode(asked.nonce), firmware_log };
    Ok(Some((asked, challenge)))
}

/// Stores a firmware event log, so that evidence can name it.
///
/// # Errors
/// [`Code::Invalid`] for bytes that do not have this digest; [`Code::TooLarge`].
pub async fn keep_log(
    cx: &Context,
    device: &DeviceId,
    sha256: &str,
    bytes: &[u8],
) -> Result<(), Error> {
    if bytes.len() > LOG_MAX {
        return Err(Error::new(Code::TooLarge, format!("the log is larger than {LOG_MAX} bytes")));
    }
    if sha256_hex(bytes) != sha256 {
        return Err(Error::new(Code::Invalid, "the log does not have the SHA-256 in its path"));
    }
    let mut tx = cx.db.write().await?;
    attestations::keep_log(&mut tx, device, sha256, bytes, cx.now_s()).await?;
    Ok(tx.commit().await?)
}

/// Appraises the evidence for the outstanding challenge. When this returns, the result is stored.
/// Returns the firmware event log that the evidence names.
///
/// # Errors
/// [`Code::Invalid`] for evidence that does not answer the challenge. It is not stored.
pub async fn received(
    cx: &Context,
    device: &DeviceId,
    asked: &mut Option<Asked>,
    payload: &[u8],
) -> Result<String, Error> {
    let text = String::from_utf8(payload.to_vec()).map_err(|e| invalid("evidence", e))?;
    let sent = SentEvidence::read(text).map_err(|e| invalid("evidence", e))?;
    // Evidence for an older challenge does not consume this one.
    let asked = asked
        .take_if(|a| a.id == sent.challenge)
        .filter(|a| a.at.elapsed() < Duration::from_millis(cx.settings.limits.challenge_ms));
    let asked = asked.ok_or_else(|| {
        Error::new(Code::Invalid, "evidence: there is no outstanding challenge for it")
    })?;
    let firmware_log = sent.firmware_log.clone();
    evidence::submit(cx, device, asked.nonce, sent).await?;
    Ok(firmware_log)
}

/// The attestation level of a device, with claims and measurements.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(cx: &Context, device: &DeviceId) -> Result<Attestation, Error> {
    if store::devices::get(cx.db.pool(), device.as_str()).await?.is_none() {
        return Err(Error::not_found("device", device.as_str()));
    }
    let tpm = tpms::get(cx.db.pool(), device).await?;
    let row = attestations::get(cx.db.pool(), device).await?;
    let pcrs = match &row {
        Some(row) => explained_pcrs(cx, device, row).await?,
        None => Vec::new(),
    };
    let now = cx.now_s();
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
    cx: &Context,
    device: &DeviceId,
    row: &AttestationRow,
) -> Result<Vec<MeasuredPcr>, Error> {
    let named = [(device, row.evidence.firmware_log.as_str())];
    let log = attestations::logs(&mut cx.db.reader().await?, &named).await?.remove(device);
    let log = log.and_then(|bytes| FirmwareLog::parse(&bytes).ok());
    let phases = phases::parse(row.evidence.phases_log.as_bytes()).unwrap_or_default();
    let mut names = BTreeMap::new();
    for manifest in store::releases::known_to(cx.db.pool(), device, NAMED_MAX).await? {
        let systemd = &manifest.reference_values.systemd_version;
        for (path, digest) in binaries(&manifest.artifacts) {
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
pub async fn ear(cx: &Context, device: &DeviceId) -> Result<serde_json::Value, Error> {
    let row = attestations::get(cx.db.pool(), device)
        .await?
        .ok_or_else(|| Error::not_found("evidence of device", device.as_str()))?;
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
pub async fn accept_firmware(cx: &Context, by: &Actor, device: &DeviceId) -> Result<(), Error> {
    let row = attestations::get(cx.db.pool(), device)
        .await?
        .ok_or_else(|| Error::not_found("evidence of device", device.as_str()))?;
    let accepted = row
        .accepted
        .as_ref()
        .filter(|_| row.result.level > Level::SelfReported && row.result.is_fresh(cx.now_s()));
    let accepted = accepted.ok_or_else(|| {
        Error::new(Code::Conflict, "the last evidence of the device is old or did not verify")
            .hint("request new evidence with `fleeti attest now`")
    })?;
    let log = attestations::logs(
        &mut cx.db.reader().await?,
        &[(device, row.evidence.firmware_log.as_str())],
    )
    .await?;
    let log =
        log.get(device).and_then(|bytes| FirmwareLog::parse(bytes).ok()).ok_or_else(|| {
            Error::new(Code::Conflict, "the server no longer has the firmware's measurements")
                .hint("request new evidence with `fleeti attest now`")
        })?;
    let (boot, _) = MeasuredBoot::read(&log);
    let binaries = boot.firmware_binaries.iter().map(|p| hex::encode(p.digest)).collect();
    let pcr = |n: u8| accepted.pcrs.get(&n).cloned().unwrap_or_default();
    let code = FirmwareCodeRow { pcrs: [pcr(0), pcr(2)], binaries, is_accepted: true };
    let mut tx = cx.db.write().await?;
    if !attestations::accept_firmware(&mut tx, device, &row.result, &code).await? {
        return Err(Error::new(Code::Conflict, "the device has sent new evidence meanwhile")
            .hint("check the new evidence first"));
    }
    cx.audit(&mut tx, by.act("device.accept-firmware", device.as_str())).await?;
    tx.commit().await?;
    cx.hub.challenge(device);
    Ok(())
}

/// Requests evidence from a connected device now.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for a device that is not connected, or has not shown a
/// TPM.
pub async fn ask_now(cx: &Context, device: &DeviceId) -> Result<(), Error> {
    if store::devices::get(cx.db.pool(), device.as_str()).await?.is_none() {
        return Err(Error::not_found("device", device.as_str()));
    }
    if tpms::get(cx.db.pool(), device).await?.is_none() {
        return Err(Error::new(Code::Conflict, format!("{device} has not shown a TPM")));
    }
    if !cx.hub.is_online(device) {
        return Err(Error::new(Code::Conflict, format!("{device} is not connected"))
            .hint("the server requests evidence on reconnect"));
    }
    cx.hub.challenge(device);
    Ok(())
}

/// Requests evidence from every connected device of a fleet. Returns their number.
pub async fn ask_fleet(cx: &Context, fleet: &FleetId) -> Result<AskedFleet, Error> {
    let devices = tpms::of_fleet(cx.db.pool(), fleet).await?;
    let there: Vec<_> = devices.into_iter().filter(|device| cx.hub.is_online(device)).collect();
    there.iter().for_each(|device| cx.hub.challenge(device));
    Ok(AskedFleet { asked: there.len() as u64 })
}
