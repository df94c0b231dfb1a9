//! Secure Boot keys per device: made at provisioning, used to sign each release, changed in the
//! field. The database has them only as bytes that the signing service wrapped.

pub mod proof;

use crate::accounts::actor::Actor;
use crate::clock::new_id;
use crate::context::{Context, ContextRef};
use crate::enrollment::token;
use crate::error::Error;
use crate::ports::Addresses;
use crate::{devices, releases, signing};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::manifest::Manifest;
use fleeti_core::secure_boot::BootState;
use fleeti_core::wire::api::{BootKeyChange, ChangeBoot, Device, Event, Provision, Provisioned};
use fleeti_core::wire::boot::{
    BootChange, BootSignatures, BootSummary, BootVariable, VariableWrite,
};
use fleeti_core::wire::enrollment::is_proxy;
use fleeti_core::wire::problem::Code;
use fleeti_signer_client::wire::{Request, Response};
use fleeti_store as store;
use fleeti_store::boot::{BootKeysRow, SignedForDevice, Unsigned};
use futures::future::join_all;
use std::sync::Arc;

/// Number of devices per signing request.
const BATCH: u32 = 64;
/// Maximum number of digests in dbx of a device: NVRAM is small.
const WRITES_MAX: usize = 16;

/// Provisions a new device: creates its id, a token that only it can use, and Secure Boot keys of
/// its own, unless it boots with the organisation's keys.
///
/// # Errors
/// [`Code::Invalid`] for a validity out of range; [`Code::NotFound`] for a release that is not
/// published.
pub async fn provision(
    cx: &Context,
    by: &Actor,
    fleet: &FleetId,
    request: &Provision,
    addresses: &Addresses,
) -> Result<Provisioned, Error> {
    if request.proxy.as_ref().is_some_and(|url| !is_proxy(url)) {
        return Err(Error::new(Code::Invalid, "proxy: unsupported proxy address")
            .hint("use the form http://HOST:PORT"));
    }
    let device: DeviceId = new_id("dev").parse().map_err(Error::internal)?;
    if let Some(release) = &request.release {
        releases::get(cx, release).await?;
    }
    let made = if request.fleet_keys { None } else { Some(make(cx, &device).await?) };
    let signatures = match (&made, &request.release) {
        (Some((state, _)), Some(release)) => sign(cx, &device, &state.wrapped, release).await?,
        _ => BootSignatures::default(),
    };
    let reservation =
        token::Reservation { device: &device, ek_sha256: request.ek_sha256.as_deref() };
    let mut tx = cx.db.write().await?;
    let wanted =
        token::NewToken { fleet, valid_s: request.valid_s, reservation: Some(reservation) };
    let enrollment = token::issue(cx, &mut tx, &wanted, addresses).await?;
    token::made_by(&mut tx, &enrollment, by).await?;
    let mut writes = Vec::new();
    if let Some((state, enrolls)) = made {
        store::boot::insert(&mut tx, &device, &state, request.release.as_ref(), cx.now_s()).await?;
        if let Some(release) = &request.release {
            let signed = SignedForDevice {
                device: device.clone(),
                epoch: state.epoch,
                signatures: signatures.clone(),
            };
            store::boot::keep_signatures(&mut tx, release, &[signed]).await?;
        }
        writes = enrolls;
    }
    cx.audit(&mut tx, by.act("device.provision", format!("{device} {fleet}"))).await?;
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

async fn make(cx: &Context, device: &DeviceId) -> Result<(BootState, Vec<VariableWrite>), Error> {
    boot_answer(signing::ask(&cx.signer, Request::MakeBootKeys { device: device.clone() }).await?)
}

fn boot_answer(response: Response) -> Result<(BootState, Vec<VariableWrite>), Error> {
    match response {
        Response::Boot { state, writes } => Ok((state, writes)),
        other => {
            Err(Error::internal(format!("unexpected response of the signing service: {other:?}")))
        }
    }
}

async fn sign(
    cx: &Context,
    device: &DeviceId,
    wrapped: &str,
    release: &ReleaseName,
) -> Result<BootSignatures, Error> {
    let documents = releases::documents(cx, release).await?;
    let request = Request::SignBoot {
        device: device.clone(),
        wrapped: wrapped.to_owned(),
        manifest: String::from_utf8(documents.manifest.to_vec()).map_err(Error::internal)?,
        signatures: serde_json::from_slice(&documents.signatures)?,
    };
    match signing::ask(&cx.signer, request).await? {
        Response::BootSignatures { signatures } => Ok(signatures),
        other => {
            Err(Error::internal(format!("unexpected response of the signing service: {other:?}")))
        }
    }
}

/// The signatures over a release by a device's own keys; none for a device that uses the
/// organisation's.
///
/// # Errors
/// [`Code::Conflict`] if Secure Boot of the device differs from what was enrolled: the server then
/// signs nothing for it.
pub async fn signatures(
    cx: &Context,
    device: &DeviceId,
    release: &ReleaseName,
) -> Result<BootSignatures, Error> {
    let Some(row) = store::boot::get(cx.db.pool(), device).await? else {
        return Ok(BootSignatures::default());
    };
    let known = devices::get(cx, device.as_str()).await?;
    if let Some(problem) = known.secure_boot.and_then(|s| s.problem) {
        return Err(Error::new(
            Code::Conflict,
            format!("the server signs nothing for {device}: {problem}"),
        ));
    }
    signatures_of(cx, device, &row, release).await
}

async fn signatures_of(
    cx: &Context,
    device: &DeviceId,
    row: &BootKeysRow,
    release: &ReleaseName,
) -> Result<BootSignatures, Error> {
    if let Some(found) =
        store::boot::signatures(cx.db.pool(), device, release, row.state.epoch).await?
    {
        return Ok(found);
    }
    let signatures = sign(cx, device, &row.state.wrapped, release).await?;
    let signed = SignedForDevice {
        device: device.clone(),
        epoch: row.state.epoch,
        signatures: signatures.clone(),
    };
    let mut tx = cx.db.write().await?;
    store::boot::keep_signatures(&mut tx, release, &[signed]).await?;
    tx.commit().await?;
    Ok(signatures)
}

/// Signs a release for all devices of a fleet in advance, when a rollout begins.
pub fn sign_ahead(cx: &ContextRef, fleet: FleetId, release: ReleaseName) {
    let cx = Arc::clone(cx);
    tokio::spawn(async move {
        if let Err(e) = sign_all(&cx, &fleet, &release).await {
            tracing::warn!(
                "signing {release} in advance for the devices of {fleet} failed: {}; the server signs it when a device fetches it",
                e.for_log()
            );
        }
    });
}

/// Signs a release for all devices of a fleet. Returns the number of devices signed for.
///
/// # Errors
/// When the signing service or the database does not answer.
pub async fn sign_all(
    cx: &Context,
    fleet: &FleetId,
    release: &ReleaseName,
) -> Result<usize, Error> {
    let (mut after, mut made) = (String::new(), 0);
    loop {
        let mut batch = store::boot::unsigned(cx.db.pool(), fleet, release, &after, BATCH).await?;
        let Some(last) = batch.last() else { return Ok(made) };
        after = last.device.to_string();
        batch.retain(|d| d.secure_boot.problem.is_none());
        let signed = join_all(batch.iter().map(|d| sign(cx, &d.device, &d.wrapped, release))).await;
        let signed = batch
            .into_iter()
            .zip(signed)
            .map(|(Unsigned { device, epoch, .. }, signatures)| {
                Ok(SignedForDevice { device, epoch, signatures: signatures? })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        made += signed.len();
        let mut tx = cx.db.write().await?;
        store::boot::keep_signatures(&mut tx, release, &signed).await?;
        tx.commit().await?;
    }
}

/// Changes the Secure Boot variables of a device. The device applies the change once it learns of
/// it.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for a device without keys of its own, or a change that is
/// not possible now.
pub async fn change(
    cx: &Context,
    by: &Actor,
    device: &DeviceId,
    request: &ChangeBoot,
) -> Result<(), Error> {
    let known = devices::get(cx, device.as_str()).await?;
    let without =
        || Error::new(Code::Conflict, format!("{device} has no Secure Boot keys of its own"));
    let row = store::boot::get(cx.db.pool(), device).await?.ok_or_else(without)?;
    if known.boot.is_some() {
        running_as_given(cx, device).await?;
    }
    let is_pending = known.secure_boot.as_ref().is_some_and(|s| s.change_pending);
    let before = row.state.expected.change;
    // A device may have refused a change because it would disable the other slot. The operator can
    // repeat the change with permission to do that.
    let is_repeated =
        is_pending && request.change == BootKeyChange::EndEpoch && row.state.expected.db.len() == 1;
    let mut next =
        if is_repeated { row } else { changed(cx, device, row, &known, &request.change).await? };
    next.state.expected.change = before + 1;
    next.may_end_fallback = request.may_end_fallback;
    let mut tx = cx.db.write().await?;
    let Some(desired) = store::boot::change(&mut tx, device, before, &next).await? else {
        return Err(Error::new(
            Code::Conflict,
            format!("another request changed {device} meanwhile"),
        ));
    };
    let act = format!("{device} {}", request.change.name());
    cx.audit(&mut tx, by.act("device.boot-keys", &act)).await?;
    cx.commit(tx, Event::Device { id: device.clone() }).await?;
    if let Some(desired) = desired {
        cx.hub.push(device, desired);
    }
    Ok(())
}

/// The keys and writes after a change.
async fn changed(
    cx: &Context,
    device: &DeviceId,
    row: BootKeysRow,
    known: &Device,
    change: &BootKeyChange,
) -> Result<BootKeysRow, Error> {
    let forbidden = match change {
        BootKeyChange::EndEpoch if known.secure_boot.as_ref().is_some_and(|s| s.change_pending) => {
            let waits = Error::new(
                Code::Conflict,
                format!("{device} has not applied the previous change yet"),
            );
            return Err(waits.hint(
                "the device trusts the new key only after that; wait until it has been online",
            ));
        }
        BootKeyChange::BeginEpoch | BootKeyChange::EndEpoch => Vec::new(),
        BootKeyChange::Forbid { release } => {
            forbidden_digests(cx, device, release, known.boot.as_ref()).await?
        }
    };
    let asked = Request::ChangeBoot {
        device: device.clone(),
        wrapped: row.state.wrapped.clone(),
        change: change.clone(),
        forbidden: forbidden.clone(),
    };
    let (mut state, writes) = boot_answer(signing::ask(&cx.signer, asked).await?)?;
    state.expected.dbx = [row.state.expected.dbx, forbidden].concat();
    Ok(BootKeysRow { state, change_writes: merged(row.change_writes, writes)?, ..row })
}

/// The digests of a release to forbid: its UKI. Refuses the release that the device runs, because
/// the device would never boot again.
async fn forbidden_digests(
    cx: &Context,
    device: &DeviceId,
    release: &ReleaseName,
    boot: Option<&BootSummary>,
) -> Result<Vec<String>, Error> {
    if boot.is_none_or(|b| b.running == *release) {
        let refused = Error::new(
            Code::Conflict,
            format!("{device} runs {release}, or has not reported what it runs"),
        );
        return Err(refused.hint("roll out another release to it first"));
    }
    let documents = releases::documents(cx, release).await?;
    let manifest = Manifest::parse(&documents.manifest).map_err(Error::internal)?;
    let digest = manifest.uki().and_then(|uki| uki.authenticode.clone());
    let missing = || {
        Error::new(Code::Conflict, format!("the manifest of {release} has no Authenticode digest"))
    };
    Ok(vec![digest.ok_or_else(missing)?])
}

/// The writes that lead from any state to the newest: the last one of db, and all of dbx.
fn merged(
    before: Vec<VariableWrite>,
    new: Vec<VariableWrite>,
) -> Result<Vec<VariableWrite>, Error> {
    let replaces = |w: &VariableWrite| new.iter().any(|n| n.variable == w.variable && !n.append);
    let mut writes: Vec<_> = before.into_iter().filter(|w| !replaces(w)).collect();
    writes.extend(new);
    // db first: the new key is trusted before anything is forbidden.
    writes.sort_by_key(|w| w.variable == BootVariable::Dbx);
    if writes.len() > WRITES_MAX {
        return Err(Error::new(Code::Conflict, "too many digests in dbx of this device")
            .hint("start a new epoch of db and end the old one instead"));
    }
    Ok(writes)
}

/// The release that a device reports to run, if it was provisioned with it or offered it.
async fn running_as_given(cx: &Context, device: &DeviceId) -> Result<ReleaseName, Error> {
    let not_given = || {
        let text = format!(
            "{device} reports a release that was neither provisioned nor rolled out to it: the server signs nothing for it"
        );
        Error::new(Code::Conflict, text).hint("roll out a release to it first")
    };
    store::desired::running_as_given(cx.db.pool(), device).await?.ok_or_else(not_given)
}

/// The newest change of a device's variables, with the signatures that its running release needs
/// afterwards.
///
/// # Errors
/// [`Code::NotFound`] without a change; [`Code::Conflict`] for a device that reports a release that
/// the server did not give it.
pub async fn last_change(cx: &Context, device: &DeviceId) -> Result<BootChange, Error> {
    let missing = || Error::not_found("change of boot keys of device", device.as_str());
    let row = store::boot::get(cx.db.pool(), device)
        .await?
        .filter(|r| r.state.expected.change > 0)
        .ok_or_else(missing)?;
    devices::get(cx, device.as_str()).await?.boot.ok_or_else(missing)?;
    let running = running_as_given(cx, device).await?;
    let mut signatures = signatures_of(cx, device, &row, &running).await?;
    if let Some(loader) = row.loader_release.as_ref().filter(|l| **l != running) {
        let older = signatures_of(cx, device, &row, loader).await?;
        signatures.binaries.extend(older.binaries.into_iter().filter(|(path, _)| path == LOADER));
    }
    Ok(BootChange {
        number: row.state.expected.change,
        signatures,
        writes: row.change_writes,
        may_end_fallback: row.may_end_fallback,
    })
}

/// Path of the boot loader in a release.
const LOADER: &str = "raw/systemd-boot.efi";
