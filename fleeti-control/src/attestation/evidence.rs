//! Stores the attestation results of devices, and applies their consequences. Evidence that arrives
//! while a batch is processed forms the next batch: one database read, one commit.

use super::facts;
use super::result::{self, Case, Grounds, Outcome};
use super::state::{Answer, Queue, QueuedAnswer};
use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::events::{After, Appraised, DomainEvent, FleetAppraisal, LevelChange};
use fleeti_core::attestation::Tier;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::api::Event;
use fleeti_core::wire::attestation::AttestationResult;
use fleeti_core::wire::problem::Code;
use fleeti_pki::audit::Act;
use fleeti_store as store;
use fleeti_store::attestations::{self, AttestationRow, SentEvidence, Subject};
use std::collections::{HashMap, HashSet};
use tokio::sync::oneshot;

/// Maximum number of items in a batch.
const BATCH_MAX: usize = 128;
/// Audit action: attestation of a device failed.
const ATTESTATION_FAILED: &str = "device.attestation-failed";

/// Queues evidence for appraisal. When this returns, the result is stored.
///
/// # Errors
/// [`Code::Invalid`] for evidence that does not parse.
pub(super) async fn submit(
    cx: &Context,
    device: &DeviceId,
    nonce: [u8; 32],
    sent: SentEvidence,
) -> Result<(), Error> {
    let (kept, waiting) = oneshot::channel();
    let nobody = || Error::internal("the appraisal task has stopped");
    let answer = Answer { device: device.clone(), nonce, sent };
    // Each session has at most one item in the queue.
    let queued = cx.attestation.queue.send(QueuedAnswer { answer, kept }).await;
    queued.map_err(|_| nobody())?;
    waiting.await.map_err(|_| nobody())?
}

/// Processes evidence until the task is aborted.
pub(crate) async fn run(cx: ContextRef, mut queue: Queue) {
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, BATCH_MAX).await > 0 {
        while !waiting.is_empty() {
            // A device that reconnected may be in the queue twice: its second item goes to the next
            // batch, so that it is compared with the first.
            let mut seen = HashSet::new();
            let (batch, later) = std::mem::take(&mut waiting)
                .into_iter()
                .partition(|queued: &QueuedAnswer| seen.insert(queued.answer.device.clone()));
            waiting = later;
            serve(&cx, batch).await;
        }
    }
}

async fn serve(cx: &ContextRef, batch: Vec<QueuedAnswer>) {
    let (answers, senders): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|queued| (queued.answer, queued.kept)).unzip();
    match process(cx, answers).await {
        Ok(results) => {
            senders.into_iter().zip(results).for_each(|(sender, result)| drop(sender.send(result)))
        }
        Err(e) => {
            tracing::error!("evidence: {}", e.for_log());
            senders.into_iter().for_each(|sender| drop(sender.send(Err(Error::logged_internal()))));
        }
    }
}

/// Processes a batch. Returns one result for each item.
async fn process(cx: &ContextRef, answers: Vec<Answer>) -> Result<Vec<Result<(), Error>>, Error> {
    let ids: Vec<_> = answers.iter().map(|answer| &answer.device).collect();
    let named: Vec<_> = answers.iter().map(|a| (&a.device, a.sent.firmware_log.as_str())).collect();
    // Read before everything else: a change meanwhile leads to another appraisal.
    let changes_before = cx.attestation.policies.changes();
    let mut connection = cx.db.reader().await?;
    let mut subjects = attestations::subjects(&mut connection, &ids).await?;
    let mut logs = attestations::logs(&mut connection, &named).await?;
    drop(connection);
    let grounds = grounds(cx, subjects.values()).await?;
    let case = |answer: Answer| {
        let Answer { device, nonce, sent } = answer;
        let subject = subjects
            .remove(&device)
            .ok_or_else(|| Error::not_found("TPM of device", device.as_str()))?;
        let log = logs.remove(&device).ok_or_else(|| {
            Error::new(Code::Invalid, "evidence: upload the firmware event log first")
        })?;
        let firmware = cx.attestation.policies.of(&subject.fleet).firmware;
        Ok(Case { device, subject, nonce, sent, log, firmware })
    };
    let cases: Vec<Result<Case, Error>> = answers.into_iter().map(case).collect();
    // Verification of signatures blocks, so it runs outside the async threads.
    let outcomes = tokio::task::spawn_blocking(move || {
        cases.into_iter().map(|case| result::of(case?, &grounds)).collect::<Vec<_>>()
    });
    let outcomes = outcomes.await.map_err(Error::internal)?;
    let devices: Vec<_> = outcomes.iter().flatten().map(|o| o.device.clone()).collect();
    let results = keep(cx, outcomes).await?;
    // A policy has changed meanwhile, and the appraisal of all devices that followed has not seen
    // these results.
    if cx.attestation.policies.changes() != changes_before {
        reappraise_all(cx, &devices).await;
    }
    Ok(results)
}

async fn grounds(cx: &Context, subjects: impl Iterator<Item = &Subject>) -> Result<Grounds, Error> {
    Ok(Grounds {
        releases: facts::of(cx, subjects).await?,
        trusts_hypervisor: cx.settings.trusts_hypervisor,
        now_s: cx.now_s(),
    })
}

/// Stores results, and applies their consequences.
async fn keep(
    cx: &Context,
    outcomes: Vec<Result<Outcome, Error>>,
) -> Result<Vec<Result<(), Error>>, Error> {
    let now = cx.now_s();
    let good: Vec<_> = outcomes.iter().flatten().collect();
    if good.is_empty() {
        return Ok(outcomes.into_iter().map(|outcome| outcome.map(drop)).collect());
    }
    let rows: Vec<_> = good.iter().map(|outcome| (&outcome.device, &outcome.row)).collect();
    let mut tx = cx.db.write().await?;
    attestations::keep(&mut tx, &rows).await?;
    let after = follow(cx, &mut tx, &good, true).await?;
    tx.commit().await?;
    for Outcome { device, subject, row } in good {
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
    Ok(outcomes.into_iter().map(|outcome| outcome.map(drop)).collect())
}

/// Applies the consequences of results, in their transaction: raises alarms, and passes the results
/// to the rollouts, once for each fleet.
async fn follow(
    cx: &Context,
    tx: &mut store::Tx<'_>,
    outcomes: &[&Outcome],
    has_new_evidence: bool,
) -> Result<After, Error> {
    let now = cx.now_s();
    let mut fleets: HashMap<&FleetId, Vec<LevelChange>> = HashMap::new();
    for Outcome { device, subject, row } in outcomes {
        let attestation_failure = attestation_failure(&row.result);
        if subject.attestation_failure != attestation_failure {
            attestations::set_attestation_failure(tx, device, attestation_failure.as_deref())
                .await?;
        }
        // Once per alarm interval while it lasts, so that a device with different false evidence
        // each time cannot fill the log.
        if let Some(what) =
            attestation_failure.filter(|_| cx.alarms.is_new(ATTESTATION_FAILED, device.as_str()))
        {
            let evidence = row.result.evidence.get(..16).unwrap_or_default();
            let text = format!("quote {evidence}: {what}");
            cx.audit(tx, Act::new(device.as_str(), ATTESTATION_FAILED, &text)).await?;
        }
        fleets.entry(&subject.fleet).or_default().push(LevelChange {
            device: device.clone(),
            before: subject.last.level_at(now),
            now: row.result.level_at(now),
        });
    }
    let mut after = After::default();
    for (fleet, changes) in fleets {
        let event = DomainEvent::DevicesAppraised(FleetAppraisal {
            fleet: fleet.clone(),
            policy: Box::new(cx.attestation.policies.of(fleet)),
            devices: Appraised::Devices(changes),
            has_new_evidence,
        });
        after.merge(cx.emit(tx, now, event).await?);
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
    let Some(subject) = subject.filter(|_| result::has_verified(&row)) else { return Ok(()) };
    let outcome = match log {
        Some(log) => reappraised(cx, device, subject, log, &row).await?,
        // The stored evidence cannot be appraised again, because its log was replaced since: treat
        // the result as old until the device sends new evidence.
        None => Outcome {
            device: device.clone(),
            subject,
            row: AttestationRow {
                result: AttestationResult { appraised_s: 0, ..row.result.clone() },
                ..row.clone()
            },
        },
    };
    if outcome.row.result == row.result {
        return Ok(());
    }
    let mut tx = cx.db.write().await?;
    // The device may have sent new evidence meanwhile.
    if !attestations::is_last(&mut tx, device, &row.result).await? {
        return Ok(());
    }
    attestations::keep(&mut tx, &[(device, &outcome.row)]).await?;
    let after = follow(cx, &mut tx, &[&outcome], false).await?;
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
            tracing::error!(%device, "a device was not appraised again: {}", e.for_log());
        }
    }
}

/// Appraises stored evidence by current policies, with its original time.
async fn reappraised(
    cx: &Context,
    device: &DeviceId,
    subject: Subject,
    log: Vec<u8>,
    row: &AttestationRow,
) -> Result<Outcome, Error> {
    let mut nonce = [0; 32];
    hex::decode_to_slice(&row.nonce, &mut nonce).map_err(Error::internal)?;
    let grounds = grounds(cx, std::iter::once(&subject)).await?;
    let firmware = cx.attestation.policies.of(&subject.fleet).firmware;
    // The TPM clock was compared when the evidence arrived.
    let subject = Subject { accepted: None, ..subject };
    let (device, sent) = (device.clone(), row.evidence.clone());
    let mut outcome = result::of(Case { device, subject, nonce, sent, log, firmware }, &grounds)?;
    outcome.row.result.appraised_s = row.result.appraised_s;
    Ok(outcome)
}
