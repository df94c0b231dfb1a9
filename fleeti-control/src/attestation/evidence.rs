//! Verifies, appraises and stores evidence of devices, and applies the consequences. Evidence that
//! arrives while a batch is processed forms the next batch: one database read, one commit.

use crate::attestation::parse::{attestation_key, decoded, invalid};
use crate::attestation::reference::{Facts, boot_loader, digest, reference};
use crate::attestation::state::Answer;
use crate::clock::now_s;
use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::events::{After, Appraised, DomainEvent};
use crate::releases;
use fleeti_core::attestation::policy::Firmware;
use fleeti_core::attestation::{Aspect, Claim, Level, Tier};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::manifest::Manifest;
use fleeti_core::wire::api::Event;
use fleeti_core::wire::attestation::AttestationResult;
use fleeti_core::wire::problem::Code;
use fleeti_pki::attestation::Challenge;
use fleeti_pki::attestation::appraisal::{Appraisal, FirmwareCode, Known, appraise};
use fleeti_pki::attestation::evidence::{self, Before, VerifiedEvidence};
use fleeti_pki::measured::log::Pcrs;
use fleeti_pki::tpm::attest::Clock;
use fleeti_pki::tpm::endorsement::Kind;
use fleeti_store as store;
use fleeti_store::attestations::{
    self, Accepted, AttestationRow, FirmwareCodeRow, SentEvidence, Subject,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use tokio::sync::{mpsc, oneshot};

/// Maximum number of items in a batch.
const BATCH_MAX: usize = 128;
/// Capacity of the queue. Beyond it, sessions wait.
pub const QUEUE_MAX: usize = 1024;
/// Audit action: attestation of a device failed.
const ATTESTATION_FAILED: &str = "device.attestation-failed";
/// Source of a claim about evidence that did not verify.
const SENT: &str = "evidence from the device";

/// Queues evidence for appraisal. When this returns, the result is stored.
///
/// # Errors
/// [`Code::Invalid`] for evidence that does not parse.
pub(crate) async fn submit(
    cx: &Context,
    device: &DeviceId,
    nonce: [u8; 32],
    sent: SentEvidence,
) -> Result<(), Error> {
    let (kept, waiting) = oneshot::channel();
    let nobody = || Error::internal("the appraisal task has stopped");
    // Each session has at most one item in the queue.
    cx.attestation
        .queue
        .send(Answer { device: device.clone(), nonce, sent, kept })
        .await
        .map_err(|_| nobody())?;
    waiting.await.map_err(|_| nobody())?
}

/// Processes evidence until the task is aborted.
pub(crate) async fn run(cx: ContextRef, mut queue: mpsc::Receiver<Answer>) {
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, BATCH_MAX).await > 0 {
        while !waiting.is_empty() {
            // A device that reconnected may be in the queue twice: its second item goes to the next
            // batch, so that it is compared with the first.
            let mut seen = HashSet::new();
            let (batch, later) = std::mem::take(&mut waiting)
                .into_iter()
                .partition(|a: &Answer| seen.insert(a.device.clone()));
            waiting = later;
            serve(&cx, batch).await;
        }
    }
}

async fn serve(cx: &ContextRef, batch: Vec<Answer>) {
    let (answers, senders): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|a| ((a.device, a.nonce, a.sent), a.kept)).unzip();
    match look_at(cx, answers).await {
        Ok(results) => {
            senders.into_iter().zip(results).for_each(|(sender, result)| drop(sender.send(result)))
        }
        Err(e) => {
            tracing::error!("evidence: {e}");
            senders
                .into_iter()
                .for_each(|sender| drop(sender.send(Err(Error::internal("see the server's log")))));
        }
    }
}

type Sent = (DeviceId, [u8; 32], SentEvidence);
/// Device, what the server knows of it, nonce, evidence, the named firmware event log, and the
/// accepted firmware.
type Ready = (DeviceId, Subject, [u8; 32], SentEvidence, Vec<u8>, Firmware);
type Judged = (DeviceId, Subject, AttestationRow);

/// Processes a batch. Returns one result for each item.
async fn look_at(cx: &ContextRef, answers: Vec<Sent>) -> Result<Vec<Result<(), Error>>, Error> {
    let ids: Vec<_> = answers.iter().map(|(device, ..)| device).collect();
    let named: Vec<_> =
        answers.iter().map(|(device, _, sent)| (device, sent.firmware_log.as_str())).collect();
    // Read before everything else: a change meanwhile leads to another appraisal.
    let asked_then = cx.attestation.policies.changes();
    let mut connection = cx.db.reader().await?;
    let mut subjects = attestations::subjects(&mut connection, &ids).await?;
    let mut logs = attestations::logs(&mut connection, &named).await?;
    drop(connection);
    let releases = releases_of(cx, subjects.values()).await?;
    let ready: Vec<Result<Ready, Error>> = answers
        .into_iter()
        .map(|(device, nonce, sent)| {
            let subject = subjects
                .remove(&device)
                .ok_or_else(|| Error::not_found("TPM of device", device.as_str()))?;
            let log = logs.remove(&device).ok_or_else(|| {
                Error::new(Code::Invalid, "evidence: upload the firmware event log first")
            })?;
            let firmware = cx.attestation.policies.of(&subject.fleet).firmware;
            Ok((device, subject, nonce, sent, log, firmware))
        })
        .collect();
    let trusts_hypervisor = cx.settings.trusts_hypervisor;
    // Verification of signatures blocks, so it runs outside the async threads.
    let judged = tokio::task::spawn_blocking(move || {
        let judge = |ready: Result<Ready, Error>| -> Result<Judged, Error> {
            let (device, subject, nonce, sent, log, firmware) = ready?;
            let row = judged(
                (&device, &subject),
                (&nonce, sent),
                &log,
                (&releases, firmware, trusts_hypervisor),
            )?;
            Ok((device, subject, row))
        };
        ready.into_iter().map(judge).collect::<Vec<_>>()
    });
    let judged = judged.await.map_err(Error::internal)?;
    let devices: Vec<_> = judged.iter().flatten().map(|(device, ..)| device.clone()).collect();
    let results = keep(cx, judged).await?;
    // A policy has changed meanwhile, and the appraisal of all devices that followed has not seen
    // these results.
    if cx.attestation.policies.changes() != asked_then {
        reappraise_all(cx, &devices).await;
    }
    Ok(results)
}

/// Stores results, and applies their consequences.
async fn keep(
    cx: &Context,
    judged: Vec<Result<Judged, Error>>,
) -> Result<Vec<Result<(), Error>>, Error> {
    let now = now_s();
    let rows: Vec<_> = judged.iter().flatten().map(|(device, _, row)| (device, row)).collect();
    if rows.is_empty() {
        return Ok(judged.into_iter().map(|j| j.map(drop)).collect());
    }
    let mut tx = cx.db.write().await?;
    attestations::keep(&mut tx, &rows).await?;
    let results: Vec<_> = judged
        .iter()
        .flatten()
        .map(|(device, subject, row)| (device, subject, &row.result))
        .collect();
    let after = follow(cx, &mut tx, &results, true, now).await?;
    tx.commit().await?;
    for (device, subject, row) in judged.iter().flatten() {
        if let Some(what) = attestation_failure(&row.result)
            .filter(|what| subject.attestation_failure.as_ref() != Some(what))
        {
            tracing::error!(%device, "{what}");
        }
        if row.result.level < subject.last.level_at(now) {
            cx.grants.changed();
        }
        cx.publish(Event::Device { id: device.clone() });
    }
    cx.dispatch(after);
    Ok(judged.into_iter().map(|j| j.map(drop)).collect())
}

/// Applies the consequences of results, in their transaction: raises alarms, and passes the results
/// to the rollouts, once for each fleet.
async fn follow(
    cx: &Context,
    tx: &mut store::Tx<'_>,
    judged: &[(&DeviceId, &Subject, &AttestationResult)],
    has_new_evidence: bool,
    now: u64,
) -> Result<After, Error> {
    let mut fleets: HashMap<&FleetId, Vec<(DeviceId, Level, Level)>> = HashMap::new();
    for (device, subject, result) in judged {
        let attestation_failure = attestation_failure(result);
        if subject.attestation_failure != attestation_failure {
            attestations::set_attestation_failure(tx, device, attestation_failure.as_deref())
                .await?;
        }
        // Once per alarm interval while it lasts, so that a device with different false evidence
        // each time cannot fill the log.
        if let Some(what) =
            attestation_failure.filter(|_| cx.alarms.is_new(ATTESTATION_FAILED, device.as_str()))
        {
            let evidence = result.evidence.get(..16).unwrap_or_default();
            cx.audit(
                tx,
                now,
                device.as_str(),
                ATTESTATION_FAILED,
                &format!("quote {evidence}: {what}"),
            )
            .await?;
        }
        let levels = (subject.last.level_at(now), result.level_at(now));
        fleets.entry(&subject.fleet).or_default().push((
            DeviceId::clone(device),
            levels.0,
            levels.1,
        ));
    }
    let mut after = After::default();
    for (fleet, devices) in fleets {
        let event = DomainEvent::DevicesAppraised {
            fleet: fleet.clone(),
            policy: Box::new(cx.attestation.policies.of(fleet)),
            devices: Appraised::Devices(devices),
            has_new_evidence,
        };
        after.merge(cx.emit(tx, now, &event).await?);
    }
    Ok(after)
}

/// The contraindicated claims in words, for an operator to investigate.
fn attestation_failure(result: &AttestationResult) -> Option<String> {
    let found: Vec<_> = result
        .claims
        .iter()
        .filter(|c| c.tier == Tier::Contraindicated)
        .map(|c| c.finding.as_str())
        .collect();
    (!found.is_empty()).then(|| found.join("; "))
}

/// Appraises the stored evidence of a device again, because its policy or the releases that it may
/// run have changed. Keeps the time of the evidence. Evidence that did not verify still does not.
pub async fn reappraise(cx: &Context, device: &DeviceId) -> Result<(), Error> {
    let Some(row) = attestations::get(cx.db.pool(), device).await? else { return Ok(()) };
    let mut connection = cx.db.reader().await?;
    let subject = attestations::subjects(&mut connection, &[device]).await?.remove(device);
    let log = attestations::logs(&mut connection, &[(device, &row.evidence.firmware_log)])
        .await?
        .remove(device);
    drop(connection);
    let Some(subject) = subject else { return Ok(()) };
    if row.accepted.is_none() || row.result.claims.iter().any(|c| c.source == SENT) {
        return Ok(());
    }
    let again = match log {
        Some(log) => judged_anew(cx, (device, &subject), &row, &log).await?,
        // The stored evidence cannot be appraised again, because its log was replaced since: treat
        // the result as old until the device sends new evidence.
        None => AttestationRow {
            result: AttestationResult { appraised_s: 0, ..row.result.clone() },
            ..row.clone()
        },
    };
    if again.result == row.result {
        return Ok(());
    }
    let mut tx = cx.db.write().await?;
    // The device may have sent new evidence meanwhile.
    if !attestations::is_last(&mut tx, device, &row.result).await? {
        return Ok(());
    }
    attestations::keep(&mut tx, &[(device, &again)]).await?;
    let after = follow(cx, &mut tx, &[(device, &subject, &again.result)], false, now_s()).await?;
    tx.commit().await?;
    cx.grants.changed();
    cx.publish(Event::Device { id: device.clone() });
    cx.dispatch(after);
    Ok(())
}

/// Appraises the evidence of devices again. A failure for one device does not affect the others.
pub async fn reappraise_all(cx: &Context, devices: &[DeviceId]) {
    for device in devices {
        if let Err(e) = reappraise(cx, device).await {
            tracing::error!(%device, "a device was not appraised again: {e}");
        }
    }
}

/// Appraises stored evidence by current policies, with its original time.
async fn judged_anew(
    cx: &Context,
    (device, subject): (&DeviceId, &Subject),
    row: &AttestationRow,
    log: &[u8],
) -> Result<AttestationRow, Error> {
    let mut nonce = [0; 32];
    hex::decode_to_slice(&row.nonce, &mut nonce).map_err(Error::internal)?;
    let releases = releases_of(cx, std::iter::once(subject)).await?;
    let firmware = cx.attestation.policies.of(&subject.fleet).firmware;
    // The TPM clock was compared when the evidence arrived.
    let before = Subject { accepted: None, ..subject.clone() };
    let facts = (&releases, firmware, cx.settings.trusts_hypervisor);
    let again = judged((device, &before), (&nonce, row.evidence.clone()), log, facts)?;
    Ok(AttestationRow {
        result: AttestationResult { appraised_s: row.result.appraised_s, ..again.result },
        ..again
    })
}

/// Facts by release.
type Releases = HashMap<ReleaseName, Facts>;

async fn facts(cx: &Context, name: &ReleaseName) -> Result<Option<Facts>, Error> {
    // Read the counter first: a change meanwhile invalidates the entry.
    let changes = cx.attestation.policies.changes();
    if let Some(known) = cx.attestation.facts.get(name, changes) {
        return Ok(Some(known));
    }
    let Some(release) = store::releases::get(cx.db.pool(), name).await? else { return Ok(None) };
    let documents = releases::documents(cx, name).await?;
    let reference = match Manifest::parse(&documents.manifest) {
        Ok(manifest) => reference(&manifest, release.revoked_s.is_some()),
        Err(e) => {
            tracing::error!("{name}: {e}");
            None
        }
    };
    let found = (reference, boot_loader(&release));
    cx.attestation.facts.insert(name, changes, &found);
    Ok(Some(found))
}

/// All releases that one of these devices has as its desired version, reports to run, ran at its
/// last attestation, or was provisioned with.
async fn releases_of(
    cx: &Context,
    subjects: impl Iterator<Item = &Subject>,
) -> Result<Releases, Error> {
    let names: HashSet<&ReleaseName> = subjects
        .flat_map(|s| [&s.wanted, &s.running, &s.not_given, &s.last.release, &s.loader_release])
        .flatten()
        .collect();
    let mut releases = Releases::new();
    for name in names {
        if let Some(facts) = facts(cx, name).await? {
            releases.insert(name.clone(), facts);
        }
    }
    Ok(releases)
}

/// What the server knows of a device. The report of the device only selects the release that its
/// evidence is compared with, among those that it was provisioned with or that were rolled out to
/// it.
fn known(
    subject: &Subject,
    releases: &Releases,
    (firmware, trusts_hypervisor): (Firmware, bool),
) -> Result<Known, Error> {
    // During an update the device may still run the previous release.
    let compared: HashSet<_> =
        [&subject.wanted, &subject.running, &subject.last.release].into_iter().flatten().collect();
    let compared: Vec<_> = compared.into_iter().filter_map(|name| releases.get(name)).collect();
    // The boot loader on the ESP stays that of the release that the device was provisioned with.
    let first = subject.loader_release.as_ref().and_then(|name| releases.get(name));
    Ok(Known {
        manufacturer: Kind::ALL
            .into_iter()
            .find(|kind| subject.manufacturer.as_deref() == Some(kind.as_str())),
        trusts_hypervisor,
        firmware_keys: subject.firmware_keys.clone(),
        references: compared.iter().filter_map(|(reference, _)| reference.clone()).collect(),
        not_given: subject.not_given.as_ref().and_then(|name| {
            let (reference, loader) = releases.get(name)?;
            Some((reference.clone()?, *loader))
        }),
        wanted: subject.wanted.clone(),
        boot_loaders: compared.into_iter().chain(first).filter_map(|(_, loader)| *loader).collect(),
        firmware_code: subject.firmware_code.as_ref().map(firmware_code).transpose()?,
        firmware,
    })
}

/// Verifies and appraises evidence. Failed verification is a result as well.
fn judged(
    (device, subject): (&DeviceId, &Subject),
    (nonce, sent): (&[u8; 32], SentEvidence),
    log: &[u8],
    (releases, firmware, trusts_hypervisor): (&Releases, Firmware, bool),
) -> Result<AttestationRow, Error> {
    let quote = decoded("quote", &sent.quote)?;
    let signature = decoded("signature", &sent.signature)?;
    let pcrs = read_pcrs(&sent.pcrs)?;
    let key = attestation_key(&subject.attestation_key)?;
    let before = subject.accepted.as_ref().map(last_accepted).transpose()?;
    let raw = evidence::Evidence {
        quote: &quote,
        signature: &signature,
        pcrs: &pcrs,
        firmware_log: log,
        phases_log: sent.phases_log.as_bytes(),
    };
    let challenge = Challenge { nonce: *nonce, device: device.clone() };
    let (appraisal, accepted, code) =
        match evidence::verify(&raw, &challenge, &key, before.as_ref()) {
            Ok(verified) => {
                let known = known(subject, releases, (firmware, trusts_hypervisor))?;
                // The first firmware is accepted (trust on first use). An operator must accept
                // later changes.
                let code =
                    known.firmware_code.clone().unwrap_or_else(|| FirmwareCode::of(&verified));
                let binaries = code.binaries.iter().map(hex::encode).collect();
                let code = FirmwareCodeRow {
                    pcrs: code.pcrs.map(hex::encode),
                    binaries,
                    is_accepted: code.is_accepted,
                };
                (appraise(&verified, &known), Some(accepted_now(&verified)), Some(code))
            }
            Err(refused) => {
                let claim = Claim {
                    aspect: Aspect::InstanceIdentity,
                    tier: Tier::Contraindicated,
                    code: refused.code().to_owned(),
                    finding: refused.to_string(),
                    source: SENT.into(),
                    raise: Some(
                        "evidence that verifies; the server requests it again within 15 minutes"
                            .into(),
                    ),
                };
                let appraisal =
                    Appraisal { level: Level::SelfReported, claims: vec![claim], release: None };
                (appraisal, subject.accepted.clone(), subject.firmware_code.clone())
            }
        };
    let result = AttestationResult {
        level: appraisal.level,
        claims: appraisal.claims,
        release: appraisal.release,
        appraised_s: now_s(),
        evidence: sha256_hex(&quote),
    };
    Ok(AttestationRow {
        nonce: hex::encode(nonce),
        evidence: sent,
        accepted,
        firmware_code: code,
        result,
    })
}

fn pcr(text: &str) -> Result<[u8; 32], Error> {
    digest(text).ok_or_else(|| invalid("pcrs", format!("{text:?} is not a PCR value")))
}

fn read_pcrs(texts: &BTreeMap<u8, String>) -> Result<Pcrs, Error> {
    texts.iter().map(|(number, text)| Ok((*number, pcr(text)?))).collect()
}

fn last_accepted(accepted: &Accepted) -> Result<Before, Error> {
    let (milliseconds, resets, restarts, safe) = accepted.clock;
    Ok(Before {
        clock: Clock { milliseconds, resets, restarts, safe },
        pcrs: read_pcrs(&accepted.pcrs)?,
    })
}

fn accepted_now(verified: &VerifiedEvidence) -> Accepted {
    let clock = verified.clock();
    Accepted {
        clock: (clock.milliseconds, clock.resets, clock.restarts, clock.safe),
        pcrs: verified
            .pcrs()
            .range(evidence::STILL)
            .map(|(pcr, value)| (*pcr, hex::encode(value)))
            .collect(),
    }
}

fn firmware_code(row: &FirmwareCodeRow) -> Result<FirmwareCode, Error> {
    let binaries = row.binaries.iter().map(|binary| pcr(binary)).collect::<Result<_, _>>()?;
    Ok(FirmwareCode {
        pcrs: [pcr(&row.pcrs[0])?, pcr(&row.pcrs[1])?],
        binaries,
        is_accepted: row.is_accepted,
    })
}
