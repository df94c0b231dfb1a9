//! Secure Boot of one device each: keys at provisioning, signatures for each release, changes in
//! the field. The keys are the signer's; here lie only bytes that it can open.

use crate::app::{App, AppRef, new_id, now_s};
use crate::db;
use crate::db::boot::BootKeysRow;
use crate::error::AppError;
use crate::server::Addresses;
use crate::service::{devices, enrollment, releases, signing};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::manifest::Manifest;
use fleeti_core::wire::api::{BootOrder, ChangeBoot, Device, Event, Provision, Provisioned};
use fleeti_core::wire::device::{
    BootChange, BootSignatures, BootSummary, BootVariable, VariableWrite, is_proxy,
};
use fleeti_core::wire::problem::Code;
use fleeti_signer::wire::{self, Request, Response};
use futures::future::join_all;
use std::sync::Arc;

/// Devices whose signatures are asked for together.
const BATCH: u32 = 64;
/// Digests that the writes of a device may forbid in all: NVRAM is small.
const WRITES_MAX: usize = 16;

/// Makes the record of a device that is about to be made: its id, a token that only it can use,
/// and, unless it starts what is signed for all, Secure Boot keys of its own.
///
/// # Errors
/// [`Code::Invalid`] for a validity out of range; [`Code::NotFound`] for a release that is not
/// published.
pub async fn provision(
    app: &App,
    fleet: &FleetId,
    request: &Provision,
    addresses: &Addresses,
) -> Result<Provisioned, AppError> {
    if request.proxy.as_ref().is_some_and(|url| !is_proxy(url)) {
        return Err(AppError::new(Code::Invalid, "proxy: this is none that devices take")
            .hint("give http://HOST:PORT"));
    }
    let device: DeviceId = new_id("dev").parse().map_err(AppError::internal)?;
    if let Some(release) = &request.release {
        releases::get(app, release).await?;
    }
    let made = if request.fleet_keys { None } else { Some(make(app, &device).await?) };
    let signatures = match (&made, &request.release) {
        (Some((state, _)), Some(release)) => sign(app, &device, &state.wrapped, release).await?,
        _ => BootSignatures::default(),
    };
    let reservation =
        enrollment::Reservation { device: &device, ek_sha256: request.ek_sha256.as_deref() };
    let mut tx = app.db.write().await?;
    let enrollment =
        enrollment::issue(app, &mut tx, fleet, request.valid_s, Some(&reservation), addresses)
            .await?;
    let mut writes = Vec::new();
    if let Some((state, enrolls)) = made {
        db::boot::insert(&mut tx, &device, &state, request.release.as_ref(), now_s()).await?;
        if let Some(release) = &request.release {
            db::boot::keep_signatures(
                &mut tx,
                release,
                &[(device.clone(), state.epoch, signatures.clone())],
            )
            .await?;
        }
        writes = enrolls;
    }
    app.audit(&mut tx, now_s(), "admin", "device.provision", &format!("{device} {fleet}")).await?;
    tx.commit().await?;
    let (mut record, expires_s) = (enrollment.record, enrollment.expires_s);
    record.proxy = request.proxy.clone().or(record.proxy);
    Ok(Provisioned {
        device,
        release: request.release.clone(),
        record,
        expires_s,
        writes,
        signatures,
    })
}

async fn make(
    app: &App,
    device: &DeviceId,
) -> Result<(wire::BootState, Vec<VariableWrite>), AppError> {
    boot_answer(signing::ask(&app.signer, Request::MakeBootKeys { device: device.clone() }).await?)
}

fn boot_answer(response: Response) -> Result<(wire::BootState, Vec<VariableWrite>), AppError> {
    match response {
        Response::Boot { state, writes } => Ok((state, writes)),
        other => Err(AppError::internal(format!(
            "unexpected response of the signing service: {other:?}"
        ))),
    }
}

async fn sign(
    app: &App,
    device: &DeviceId,
    wrapped: &str,
    release: &ReleaseName,
) -> Result<BootSignatures, AppError> {
    let documents = releases::documents(app, release).await?;
    let request = Request::SignBoot {
        device: device.clone(),
        wrapped: wrapped.to_owned(),
        manifest: String::from_utf8(documents.manifest.to_vec()).map_err(AppError::internal)?,
        signatures: serde_json::from_slice(&documents.signatures)?,
    };
    match signing::ask(&app.signer, request).await? {
        Response::BootSignatures { signatures } => Ok(signatures),
        other => Err(AppError::internal(format!(
            "unexpected response of the signing service: {other:?}"
        ))),
    }
}

/// A device's own signatures over a release; none for a device that starts what is signed for all.
///
/// # Errors
/// [`Code::Conflict`] when the firmware of the device is not as it was enrolled: then nothing is
/// signed for it.
pub async fn signatures(
    app: &App,
    device: &DeviceId,
    release: &ReleaseName,
) -> Result<BootSignatures, AppError> {
    let Some(row) = db::boot::get(app.db.pool(), device).await? else {
        return Ok(BootSignatures::default());
    };
    let known = devices::get(app, device.as_str()).await?;
    if let Some(problem) = known.secure_boot.and_then(|s| s.problem) {
        return Err(AppError::new(
            Code::Conflict,
            format!("nothing is signed for {device}: {problem}"),
        ));
    }
    signatures_of(app, device, &row, release).await
}

async fn signatures_of(
    app: &App,
    device: &DeviceId,
    row: &BootKeysRow,
    release: &ReleaseName,
) -> Result<BootSignatures, AppError> {
    if let Some(found) =
        db::boot::signatures(app.db.pool(), device, release, row.state.epoch).await?
    {
        return Ok(found);
    }
    let signed = sign(app, device, &row.state.wrapped, release).await?;
    let mut tx = app.db.write().await?;
    db::boot::keep_signatures(
        &mut tx,
        release,
        &[(device.clone(), row.state.epoch, signed.clone())],
    )
    .await?;
    tx.commit().await?;
    Ok(signed)
}

/// Makes the signatures of a fleet's devices over a release, before they ask: a job of a rollout's
/// beginning.
pub fn sign_ahead(app: &AppRef, fleet: FleetId, release: ReleaseName) {
    let app = Arc::clone(app);
    tokio::spawn(async move {
        if let Err(e) = sign_all(&app, &fleet, &release).await {
            tracing::warn!(
                "signing {release} for the devices of {fleet}: {e}; each is signed when its device asks"
            );
        }
    });
}

/// Makes the signatures of a fleet's devices over a release; gives how many were made.
///
/// # Errors
/// When the signer or the database do not answer.
pub async fn sign_all(
    app: &App,
    fleet: &FleetId,
    release: &ReleaseName,
) -> Result<usize, AppError> {
    let (mut after, mut made) = (String::new(), 0);
    loop {
        let mut batch = db::boot::unsigned(app.db.pool(), fleet, release, &after, BATCH).await?;
        let Some(last) = batch.last() else { return Ok(made) };
        after = last.device.to_string();
        batch.retain(|d| d.standing.problem.is_none());
        let signed =
            join_all(batch.iter().map(|d| sign(app, &d.device, &d.wrapped, release))).await;
        let signed = batch
            .into_iter()
            .zip(signed)
            .map(|(d, s)| Ok((d.device, d.epoch, s?)))
            .collect::<Result<Vec<_>, AppError>>()?;
        made += signed.len();
        let mut tx = app.db.write().await?;
        db::boot::keep_signatures(&mut tx, release, &signed).await?;
        tx.commit().await?;
    }
}

/// Changes the Secure Boot variables of a device; it makes the change when it hears of it.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for a device without keys of its own, or a change that
/// may not follow.
pub async fn change(app: &App, device: &DeviceId, request: &ChangeBoot) -> Result<(), AppError> {
    let known = devices::get(app, device.as_str()).await?;
    let without =
        || AppError::new(Code::Conflict, format!("{device} has no Secure Boot keys of its own"));
    let row = db::boot::get(app.db.pool(), device).await?.ok_or_else(without)?;
    if known.boot.is_some() {
        running_as_given(app, device).await?;
    }
    let is_pending = known.secure_boot.as_ref().is_some_and(|s| s.change_pending);
    let before = row.state.expected.change;
    // What a device has refused because of its other slot may be ordered again with leave to end
    // it.
    let is_repeated =
        is_pending && request.order == BootOrder::EndEpoch && row.state.expected.db.len() == 1;
    let mut next =
        if is_repeated { row } else { ordered(app, device, row, &known, &request.order).await? };
    next.state.expected.change = before + 1;
    next.may_end_fallback = request.may_end_fallback;
    let mut tx = app.db.write().await?;
    let Some(desired) = db::boot::change(&mut tx, device, before, &next).await? else {
        return Err(AppError::new(
            Code::Conflict,
            format!("somebody else changed {device} meanwhile"),
        ));
    };
    app.audit(
        &mut tx,
        now_s(),
        "admin",
        "device.boot-keys",
        &format!("{device} {}", request.order.name()),
    )
    .await?;
    tx.commit().await?;
    if let Some(desired) = desired {
        app.hub.push(device, desired);
    }
    app.publish(Event::Device { id: device.clone() });
    Ok(())
}

/// What the keys and writes are after an order.
async fn ordered(
    app: &App,
    device: &DeviceId,
    row: BootKeysRow,
    known: &Device,
    order: &BootOrder,
) -> Result<BootKeysRow, AppError> {
    let mut forbidden = Vec::new();
    let change = match order {
        BootOrder::BeginEpoch => wire::BootOrder::BeginEpoch,
        BootOrder::EndEpoch if known.secure_boot.as_ref().is_some_and(|s| s.change_pending) => {
            let waits =
                AppError::new(Code::Conflict, format!("{device} has not made the change before"));
            return Err(waits.hint("it trusts the new key only then; wait until it was online"));
        }
        BootOrder::EndEpoch => wire::BootOrder::EndEpoch,
        BootOrder::Forbid { release } => {
            forbidden = forbidden_digests(app, device, release, known.boot.as_ref()).await?;
            wire::BootOrder::Forbid { digests: forbidden.clone() }
        }
    };
    let asked =
        Request::ChangeBoot { device: device.clone(), wrapped: row.state.wrapped.clone(), change };
    let (mut state, writes) = boot_answer(signing::ask(&app.signer, asked).await?)?;
    state.expected.dbx = [row.state.expected.dbx, forbidden].concat();
    Ok(BootKeysRow { state, change_writes: merged(row.change_writes, writes)?, ..row })
}

/// What is forbidden of a release: its kernel image. Not what the device runs: it would never boot
/// again.
async fn forbidden_digests(
    app: &App,
    device: &DeviceId,
    release: &ReleaseName,
    boot: Option<&BootSummary>,
) -> Result<Vec<String>, AppError> {
    if boot.is_none_or(|b| b.running == *release) {
        let refused = AppError::new(
            Code::Conflict,
            format!("{device} runs {release}, or has not said what it runs"),
        );
        return Err(refused.hint("roll out another release first"));
    }
    let documents = releases::documents(app, release).await?;
    let manifest = Manifest::parse(&documents.manifest).map_err(AppError::internal)?;
    let digest = manifest.uki().and_then(|uki| uki.authenticode.clone());
    let missing = || {
        AppError::new(
            Code::Conflict,
            format!("the manifest of {release} names no Authenticode digest"),
        )
    };
    Ok(vec![digest.ok_or_else(missing)?])
}

/// The writes that a device needs that made none of them: the last of db, and all of dbx.
fn merged(
    before: Vec<VariableWrite>,
    new: Vec<VariableWrite>,
) -> Result<Vec<VariableWrite>, AppError> {
    let replaces = |w: &VariableWrite| new.iter().any(|n| n.variable == w.variable && !n.append);
    let mut writes: Vec<_> = before.into_iter().filter(|w| !replaces(w)).collect();
    writes.extend(new);
    // db first: what is signed anew is trusted before anything is forbidden.
    writes.sort_by_key(|w| w.variable == BootVariable::Dbx);
    if writes.len() > WRITES_MAX {
        return Err(AppError::new(Code::Conflict, "too many releases are forbidden one by one")
            .hint("begin and end an epoch of db instead"));
    }
    Ok(writes)
}

/// What a device runs, by its own word, if it is a release that it came with or was given.
async fn running_as_given(app: &App, device: &DeviceId) -> Result<ReleaseName, AppError> {
    let not_given = || {
        let text = format!(
            "{device} does not run what it came with or what was rolled out to it: nothing is signed for it"
        );
        AppError::new(Code::Conflict, text).hint("roll out a release to it first")
    };
    db::devices::running_as_given(app.db.pool(), device).await?.ok_or_else(not_given)
}

/// The last change of a device's variables, with the signatures that what it runs needs afterwards.
///
/// # Errors
/// [`Code::NotFound`] when there was none; [`Code::Conflict`] for a device that says it runs what
/// nobody gave it.
pub async fn last_change(app: &App, device: &DeviceId) -> Result<BootChange, AppError> {
    let missing = || AppError::not_found("change of the boot keys of", device.as_str());
    let row = db::boot::get(app.db.pool(), device)
        .await?
        .filter(|r| r.state.expected.change > 0)
        .ok_or_else(missing)?;
    devices::get(app, device.as_str()).await?.boot.ok_or_else(missing)?;
    let running = running_as_given(app, device).await?;
    let mut signatures = signatures_of(app, device, &row, &running).await?;
    if let Some(loader) = row.loader_release.as_ref().filter(|l| **l != running) {
        let older = signatures_of(app, device, &row, loader).await?;
        signatures.programs.extend(older.programs.into_iter().filter(|(path, _)| path == LOADER));
    }
    Ok(BootChange {
        number: row.state.expected.change,
        signatures,
        writes: row.change_writes,
        may_end_fallback: row.may_end_fallback,
    })
}

/// The boot loader's path in a release.
const LOADER: &str = "raw/systemd-boot.efi";
