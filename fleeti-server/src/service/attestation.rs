//! What a device proves with its TPM (RFC 9334; this server is the Verifier): the TPM that is bound to it is asked again and
//! again what started.

use crate::app::{App, new_id, now_s};
use crate::db;
use crate::db::attestations::{self, Accepted, AttestationRow, FirmwareCodeRow, TpmRow};
use crate::error::AppError;
use crate::service::{policy, releases};
use crate::service::tpm::{attestation_key, decoded, invalid};
use fleeti_core::attestation::{Aspect, Claim, Level, Tier};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::DeviceId;
use fleeti_core::manifest::{Manifest, PHASE_READY};
use fleeti_core::wire::api::{Event, Release};
use fleeti_core::wire::attestation::{Attestation, AttestationResult, CHALLENGE_S, Challenge, Evidence, MeasuredRegister, Tpm};
use fleeti_core::wire::problem::Code;
use fleeti_pki::attestation::appraisal::{Appraisal, FirmwareCode, Known, Reference, appraise};
use fleeti_pki::attestation::evidence::{self, Before, VerifiedEvidence};
use fleeti_pki::measured::log::{BYTES_MAX as LOG_MAX, FirmwareLog, Registers};
use fleeti_pki::measured::{explained, phases};
use fleeti_pki::tpm::attest::Clock;
use fleeti_pki::tpm::endorsement::Kind;
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

/// A question for a device, if it has shown a TPM.
///
/// # Errors
/// When the database does not answer.
pub async fn ask(app: &App, device: &DeviceId) -> Result<Option<(Asked, Challenge)>, AppError> {
    if attestations::tpm(app.db.pool(), device).await?.is_none() {
        return Ok(None);
    }
    let asked = Asked { id: new_id("challenge"), nonce: rand::random(), at: Instant::now() };
    let firmware_log = attestations::newest_log(app.db.pool(), device).await?;
    let challenge = Challenge { id: asked.id.clone(), nonce: hex::encode(asked.nonce), firmware_log };
    Ok(Some((asked, challenge)))
}

/// Keeps one of firmware's logs, so that evidence may name it.
///
/// # Errors
/// [`Code::Invalid`] for bytes that are not what they are called; [`Code::TooLarge`].
pub async fn keep_log(app: &App, device: &DeviceId, sha256: &str, bytes: &[u8]) -> Result<(), AppError> {
    if bytes.len() > LOG_MAX {
        return Err(AppError::new(Code::TooLarge, format!("a log has {LOG_MAX} bytes at the most")));
    }
    if sha256_hex(bytes) != sha256 {
        return Err(AppError::new(Code::Invalid, "the log is not what it is called by"));
    }
    let mut tx = app.db.write().await?;
    attestations::keep_log(&mut tx, device, sha256, bytes, now_s()).await?;
    Ok(tx.commit().await?)
}

/// Takes what a device answered to the one question that is out. When this returns, the result is kept.
///
/// # Errors
/// [`Code::Invalid`] for what is no answer to it; whatever it says then is nobody's word.
pub async fn received(app: &App, device: &DeviceId, asked: &mut Option<Asked>, payload: &[u8]) -> Result<(), AppError> {
    let sent: Evidence = serde_json::from_slice(payload).map_err(|e| invalid("evidence", e))?;
    // An answer to an older question leaves this one as it is.
    let asked = asked.take_if(|a| a.id == sent.challenge).filter(|a| a.at.elapsed() < Duration::from_secs(CHALLENGE_S));
    let asked = asked.ok_or_else(|| AppError::new(Code::Invalid, "evidence: nobody asked for it now"))?;
    let tpm = attestations::tpm(app.db.pool(), device).await?.ok_or_else(|| AppError::not_found("TPM of device", device.as_str()))?;
    let before = attestations::get(app.db.pool(), device).await?;
    let log = attestations::log(app.db.pool(), device, &sent.firmware_log).await?;
    let log = log.ok_or_else(|| AppError::new(Code::Invalid, "evidence: firmware's log was not sent before"))?;
    let row = appraised(app, device, &tpm, (&asked.nonce, sent), &log, before).await?;
    keep(app, device, &row, None).await
}

/// Keeps a result, and what follows of it; one that stands for `seen` only while that is the last one.
async fn keep(app: &App, device: &DeviceId, row: &AttestationRow, seen: Option<&AttestationResult>) -> Result<(), AppError> {
    let contradiction = contradiction(&row.result);
    let mut tx = app.db.write().await?;
    if let Some(seen) = seen
        && !attestations::is_last(&mut tx, device, seen).await?
    {
        return Ok(());
    }
    attestations::keep(&mut tx, device, row).await?;
    let is_news = attestations::set_contradiction(&mut tx, device, contradiction.as_deref()).await?;
    if let Some(what) = contradiction.as_ref().filter(|_| is_news) {
        app.audit(&mut tx, now_s(), device.as_str(), "device.contradicted", what).await?;
    }
    let outcome = policy::appraised(&mut tx, app, device).await?;
    tx.commit().await?;
    if let Some(what) = contradiction.filter(|_| is_news) {
        tracing::error!("{device}: {what}");
    }
    app.publish(Event::Device { id: device.clone() });
    outcome.hand_out(app);
    Ok(())
}

/// What contradicts what was promised, in words: whatever a person has to look into.
fn contradiction(result: &AttestationResult) -> Option<String> {
    let found: Vec<_> = result.claims.iter().filter(|c| c.tier == Tier::Contraindicated).map(|c| c.finding.as_str()).collect();
    (!found.is_empty()).then(|| found.join("; "))
}

/// Looks anew at what a device has sent: what is asked of it, or what it may run, has changed. When it said so stays the same,
/// and evidence that did not hold then does not now.
///
/// # Errors
/// When the database does not answer.
pub async fn reappraise(app: &App, device: &DeviceId) -> Result<(), AppError> {
    let (Some(tpm), Some(row)) = (attestations::tpm(app.db.pool(), device).await?, attestations::get(app.db.pool(), device).await?) else {
        return Ok(());
    };
    let Some(log) = attestations::log(app.db.pool(), device, &row.evidence.firmware_log).await? else { return Ok(()) };
    let mut nonce = [0; 32];
    hex::decode_to_slice(&row.nonce, &mut nonce).map_err(AppError::internal)?;
    let seen = row.result.clone();
    // Its clock was compared when it came, and is the same now.
    let sent = row.evidence.clone();
    let before = AttestationRow { accepted: None, ..row.clone() };
    let again = appraised(app, device, &tpm, (&nonce, sent), &log, Some(before)).await?;
    let did_not_hold = row.accepted.is_none() || seen.claims.iter().any(|c| c.source == SENT);
    if did_not_hold || again.result.claims == seen.claims {
        return Ok(());
    }
    let result = AttestationResult { appraised_s: seen.appraised_s, ..again.result };
    keep(app, device, &AttestationRow { result, accepted: row.accepted, ..again }, Some(&seen)).await
}

/// The source of a claim about evidence that does not hold.
const SENT: &str = "what the device sent as evidence";

/// Verifies and appraises; what does not verify is a result too.
async fn appraised(
    app: &App,
    device: &DeviceId,
    tpm: &TpmRow,
    (nonce, sent): (&[u8; 32], Evidence),
    log: &[u8],
    before: Option<AttestationRow>,
) -> Result<AttestationRow, AppError> {
    let quote = decoded("quote", &sent.quote)?;
    let signature = decoded("signature", &sent.signature)?;
    let registers = read_registers(&sent.registers)?;
    let key = attestation_key(tpm)?;
    let accepted = before.as_ref().and_then(|b| b.accepted.as_ref()).map(last_accepted).transpose()?;
    let (raw, challenge) = (
        evidence::Evidence {
            quote: &quote,
            signature: &signature,
            registers: &registers,
            firmware_log: log,
            phases_log: sent.phases_log.as_bytes(),
        },
        fleeti_pki::attestation::Challenge { nonce: *nonce, device: device.clone() },
    );
    let result = |appraisal: Appraisal| AttestationResult {
        level: appraisal.level,
        claims: appraisal.claims,
        release: appraisal.release,
        appraised_s: now_s(),
        evidence: sha256_hex(&quote),
    };
    let row = |result, accepted, firmware_code, sent| AttestationRow {
        nonce: hex::encode(nonce),
        evidence: sent,
        accepted,
        firmware_code,
        result,
    };
    let kept_code = before.as_ref().and_then(|b| b.firmware_code.clone());
    match evidence::verify(&raw, &challenge, &key, accepted.as_ref()) {
        Ok(verified) => {
            let code = kept_code.as_ref().map(firmware_code).transpose()?;
            let known = known(app, device, tpm, code.clone()).await?;
            let appraisal = appraise(&verified, &known);
            // What is seen first is remembered; what changes later needs an operator's word.
            let code = code.unwrap_or_else(|| FirmwareCode::seen(verified.registers()));
            let code = FirmwareCodeRow { registers: code.registers.map(hex::encode), is_accepted: code.is_accepted };
            Ok(row(result(appraisal), Some(accepted_now(&verified)), Some(code), sent))
        }
        Err(refused) => {
            let claim = Claim {
                aspect: Aspect::InstanceIdentity,
                tier: Tier::Contraindicated,
                code: refused.code().to_owned(),
                finding: refused.to_string(),
                source: SENT.into(),
                raise: Some("evidence that holds: it is asked for again within a quarter of an hour".into()),
            };
            let appraisal = Appraisal { level: Level::SelfReported, claims: vec![claim], release: None };
            Ok(row(result(appraisal), before.and_then(|b| b.accepted), kept_code, sent))
        }
    }
}

fn digest(text: &str) -> Result<[u8; 32], AppError> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).map_err(|e| invalid("registers", e))?;
    Ok(digest)
}

fn read_registers(texts: &BTreeMap<u8, String>) -> Result<Registers, AppError> {
    texts.iter().map(|(register, text)| Ok((*register, digest(text)?))).collect()
}

fn last_accepted(accepted: &Accepted) -> Result<Before, AppError> {
    let (milliseconds, resets, restarts, safe) = accepted.clock;
    Ok(Before { clock: Clock { milliseconds, resets, restarts, safe }, registers: read_registers(&accepted.registers)? })
}

fn accepted_now(verified: &VerifiedEvidence) -> Accepted {
    let clock = verified.clock();
    Accepted {
        clock: (clock.milliseconds, clock.resets, clock.restarts, clock.safe),
        registers: verified.registers().iter().map(|(register, value)| (*register, hex::encode(value))).collect(),
    }
}

fn firmware_code(row: &FirmwareCodeRow) -> Result<FirmwareCode, AppError> {
    Ok(FirmwareCode { registers: [digest(&row.registers[0])?, digest(&row.registers[1])?], is_accepted: row.is_accepted })
}

/// What this server knows of a device. What the device says of itself only picks the release that it is compared with.
async fn known(app: &App, device: &DeviceId, tpm: &TpmRow, firmware_code: Option<FirmwareCode>) -> Result<Known, AppError> {
    let maker = Kind::ALL.into_iter().find(|kind| tpm.maker.as_deref() == Some(kind.as_str()));
    let keys = db::boot::get(app.db.pool(), device).await?;
    let found = db::devices::get(app.db.pool(), device.as_str()).await?;
    let found = found.ok_or_else(|| AppError::not_found("device", device.as_str()))?;
    let firmware = app.policies.of(&found.fleet).firmware;
    let wanted = found.desired;
    let running = found.boot.map(|b| b.running);
    let (mut references, mut boot_loaders) = (Vec::new(), Vec::new());
    for name in wanted.iter().chain(running.iter().filter(|r| wanted.as_ref() != Some(*r))) {
        let Some(release) = db::releases::get(app.db.pool(), name).await? else { continue };
        boot_loaders.extend(boot_loader(&release));
        if release.revoked_s.is_none() {
            let documents = releases::documents(app, name).await?;
            references.extend(reference(&Manifest::parse(&documents.manifest).map_err(AppError::internal)?));
        }
    }
    // It stays on the ESP, whatever becomes of the release that it came with.
    if let Some(name) = keys.as_ref().and_then(|k| k.loader_release.as_ref())
        && let Some(release) = db::releases::get(app.db.pool(), name).await?
    {
        boot_loaders.extend(boot_loader(&release));
    }
    let firmware_keys = keys.map(|k| k.state.expected);
    let trusts_hypervisor = app.config.trusts_hypervisor;
    Ok(Known { maker, trusts_hypervisor, firmware_keys, references, wanted, boot_loaders, firmware_code, firmware })
}

/// Programs that firmware starts, by their paths, with their Authenticode digests.
fn programs(release: &Release) -> impl Iterator<Item = (&str, [u8; 32])> {
    release.artifacts.iter().filter_map(|a| Some((a.path.as_str(), digest(a.authenticode.as_deref()?).ok()?)))
}

fn boot_loader(release: &Release) -> Option<[u8; 32]> {
    programs(release).find(|(path, _)| *path == BOOT_LOADER).map(|(_, digest)| digest)
}

fn reference(manifest: &Manifest) -> Option<Reference> {
    let kernel_image = digest(manifest.uki()?.authenticode.as_deref()?).ok()?;
    let register_11 = digest(manifest.reference_values.pcr11.get(PHASE_READY)?).ok()?;
    Some(Reference { release: manifest.release.clone(), kernel_image, register_11 })
}

/// How far a device can be trusted, and why.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(app: &App, device: &DeviceId) -> Result<Attestation, AppError> {
    if db::devices::get(app.db.pool(), device.as_str()).await?.is_none() {
        return Err(AppError::not_found("device", device.as_str()));
    }
    let tpm = attestations::tpm(app.db.pool(), device).await?;
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
        tpm: tpm.map(|t| Tpm { bound_s: t.bound_s(), ek_sha256: t.ek_sha256, maker: t.maker, description: t.description }),
        registers,
    })
}

async fn explained_registers(app: &App, device: &DeviceId, row: &AttestationRow) -> Result<Vec<MeasuredRegister>, AppError> {
    let log = attestations::log(app.db.pool(), device, &row.evidence.firmware_log).await?.unwrap_or_default();
    let log = FirmwareLog::parse(&log).ok();
    let phases = phases::parse(row.evidence.phases_log.as_bytes()).unwrap_or_default();
    let mut names = BTreeMap::new();
    for release in db::releases::newest(app.db.pool(), NAMED_MAX).await? {
        for (path, digest) in self::programs(&release) {
            let what = if path == BOOT_LOADER { "boot loader" } else { "kernel image" };
            names.entry(digest).or_insert_with(|| format!("{what} of {}", release.name));
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
    let row = attestations::get(app.db.pool(), device).await?.ok_or_else(|| AppError::not_found("evidence of device", device.as_str()))?;
    Ok(fleeti_core::attestation::ear::of(&row.result, concat!("fleeti-server ", env!("CARGO_PKG_VERSION"))))
}

/// An operator accepts the firmware that the device has now.
///
/// # Errors
/// [`Code::NotFound`] for a device that never answered; [`Code::Conflict`] when its last evidence does not hold.
pub async fn accept_firmware(app: &App, device: &DeviceId) -> Result<(), AppError> {
    let row = attestations::get(app.db.pool(), device).await?.ok_or_else(|| AppError::not_found("evidence of device", device.as_str()))?;
    let accepted = row.accepted.as_ref().filter(|_| row.result.level > Level::SelfReported && row.result.is_fresh(now_s()));
    let accepted = accepted.ok_or_else(|| {
        AppError::new(Code::Conflict, "its last evidence does not hold, or is old").hint("ask it again with `fleeti attest now`")
    })?;
    let register = |n: u8| accepted.registers.get(&n).cloned().unwrap_or_default();
    let code = FirmwareCodeRow { registers: [register(0), register(2)], is_accepted: true };
    let mut tx = app.db.write().await?;
    if !attestations::accept_firmware(&mut tx, device, &row.result, &code).await? {
        return Err(AppError::new(Code::Conflict, "it has answered meanwhile").hint("look at the new answer first"));
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
    if attestations::tpm(app.db.pool(), device).await?.is_none() {
        return Err(AppError::new(Code::Conflict, format!("{device} has shown no TPM")));
    }
    if !app.hub.is_online(device) {
        return Err(AppError::new(Code::Conflict, format!("{device} is not connected")).hint("it is asked as soon as it comes"));
    }
    app.hub.challenge(device);
    Ok(())
}
