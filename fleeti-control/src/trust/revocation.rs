//! Revocation takes effect at once and everywhere. The server checks the database at every
//! handshake, CONNECT and request, and closes open connections. The CRL informs others, and
//! protects against a database that was restored from a backup. If a new CRL cannot be signed, the
//! last one stays in use, and no device goes offline because of that.

use crate::accounts::actor::Actor;
use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::events::DomainEvent;
use crate::idempotency::KEPT_S;
use crate::idempotency::running::carried;
use crate::trust::access::{CheckedCrls, IssuerCrl};
use crate::trust::standby::Standby;
use crate::trust::state::Trust;
use crate::{devices, guard, health, signing};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::{Event, RevocationReason};
use fleeti_core::wire::problem::Code;
use fleeti_signer_client::handle::SignerHandle;
use fleeti_signer_client::wire::{Request, RevokedSerial};
use fleeti_store::certificates::RevokedCertificate;
use fleeti_store::{self as store, Db};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Timeout for probing a signing service that did not answer before.
const PROBE: Duration = Duration::from_secs(1);

/// Revokes a device. Idempotent: repeating the call completes an interrupted one.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::SecondPerson`] after too many by this account.
pub async fn revoke(
    cx: &ContextRef,
    by: &Actor,
    id: &DeviceId,
    reason: RevocationReason,
) -> Result<(), Error> {
    guard::revocation_of_one(cx, by).await?;
    revoke_checked(cx, by, id, reason).await
}

/// As [`revoke`], for a caller that has asked whether a second person is needed.
///
/// # Errors
/// [`Code::NotFound`].
pub(crate) async fn revoke_checked(
    cx: &ContextRef,
    by: &Actor,
    id: &DeviceId,
    reason: RevocationReason,
) -> Result<(), Error> {
    // A task of its own: if the operator's connection breaks, the device must not stay connected
    // although the database has its revocation.
    let (cx, by, id) = (Arc::clone(cx), by.clone(), id.clone());
    tokio::spawn(carried(async move { apply(&cx, &by, &id, reason).await }))
        .await
        .map_err(Error::internal)?
}

/// Revokes devices, with one CRL for all of them. The caller has asked whether a second person is
/// needed.
///
/// # Errors
/// [`Code::NotFound`] for the first one that does not exist; the devices before it are revoked.
pub(crate) async fn revoke_all(
    cx: &ContextRef,
    by: &Actor,
    ids: Vec<DeviceId>,
    reason: RevocationReason,
) -> Result<(), Error> {
    let (cx, by) = (Arc::clone(cx), by.clone());
    let task = async move {
        let mut result = Ok(());
        for id in &ids {
            result = mark(&cx, &by, id, reason).await;
            if result.is_err() {
                break;
            }
        }
        list(&cx, &format!("{} devices are", ids.len())).await;
        result
    };
    tokio::spawn(carried(task)).await.map_err(Error::internal)?
}

async fn apply(
    cx: &Context,
    by: &Actor,
    id: &DeviceId,
    reason: RevocationReason,
) -> Result<(), Error> {
    mark(cx, by, id, reason).await?;
    list(cx, &format!("{id} is")).await;
    Ok(())
}

/// Revokes a device and disconnects it. The CRL has it once [`publish_crls`] is called.
///
/// # Errors
/// [`Code::NotFound`].
pub(crate) async fn mark(
    cx: &Context,
    by: &Actor,
    id: &DeviceId,
    reason: RevocationReason,
) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    if store::devices::revoke(&mut tx, id, reason, cx.now_s()).await? {
        cx.audit(&mut tx, by.act("device.revoke", format!("{id} {}", reason.as_str()))).await?;
    }
    let after = match store::devices::fleet_of_revoked(&mut tx, id).await? {
        Some(fleet) => {
            let event = DomainEvent::DeviceRevoked { fleet, device: id.clone() };
            cx.emit(&mut tx, cx.now_s(), event).await?
        }
        None => return Err(Error::not_found("device", id.as_str())),
    };
    tx.commit().await?;
    // No fallible step before these two: the device stays disconnected.
    cx.access.revoke(id.clone());
    cx.hub.kick(id);
    cx.dispatch(after);
    cx.publish(Event::Device { id: id.clone() });
    Ok(())
}

/// Puts revocations into the CRL, now or later.
async fn list(cx: &Context, who: &str) {
    if let Err(e) = publish_crls(cx).await {
        tracing::error!(
            "{who} revoked and disconnected, but the CRL does not contain it yet: {}",
            e.for_log()
        );
        cx.trust.crls.retry.notify_one();
    }
}

/// Releases a hold.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] if the device is not on hold.
pub async fn release_hold(cx: &Context, by: &Actor, id: &DeviceId) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    if !store::devices::release_hold(&mut tx, id).await? {
        drop(tx);
        devices::get(cx, id.as_str()).await?;
        let refused = Error::new(Code::Conflict, format!("{id} is not on hold"));
        return Err(refused.hint("only a hold can be undone; enroll the device again"));
    }
    cx.audit(&mut tx, by.act("device.release-hold", id.as_str())).await?;
    cx.commit(tx, Event::Device { id: id.clone() }).await?;
    publish_crls(cx).await
}

/// Signs a new CRL and puts it in use, with a new TLS session store, because resumption would
/// bypass the CRL.
///
/// # Errors
/// When the database or the signing service does not answer.
pub async fn publish_crls(cx: &Context) -> Result<(), Error> {
    let mine = cx.trust.crls.wanted.fetch_add(1, Ordering::SeqCst) + 1;
    // One at a time, or an older CRL could replace a newer one.
    let _alone = cx.trust.crls.alone.lock().await;
    // Another caller started a CRL after this request: it contains everything committed before.
    if cx.trust.crls.done.load(Ordering::SeqCst) >= mine {
        return Ok(());
    }
    let covered = cx.trust.crls.wanted.load(Ordering::SeqCst);
    swap_crls(cx).await?;
    cx.trust.crls.done.store(covered, Ordering::SeqCst);
    Ok(())
}

/// Loads the revoked devices from the database. From then on their handshakes fail, whatever the
/// CRL contains.
pub async fn load_revoked(cx: &Context) -> Result<(), Error> {
    let count = cx.access.revocations();
    cx.access.set_revoked(store::devices::revoked(cx.db.pool()).await?, count);
    Ok(())
}

/// [`publish_crls`] for a caller that holds the lock.
pub(crate) async fn swap_crls(cx: &Context) -> Result<(), Error> {
    load_revoked(cx).await?;
    // Do not wait for a signing service that is known to be away.
    if health::is_signer_away(cx)
        && signing::ask_for(&cx.signer, Request::Issuers, PROBE).await.is_err()
    {
        return Err(Error::new(Code::Unavailable, "the signing service does not answer")
            .hint("start fleeti-signer, or read its log"));
    }
    let crls = crls(&cx.db, &cx.signer, &cx.trust.current.load_full(), cx.now_s()).await?;
    let kept = crls.clone();
    let checked = tokio::task::spawn_blocking(move || CheckedCrls::read(crls))
        .await
        .map_err(Error::internal)?;
    let checked = checked.map_err(Error::internal)?;
    put_in_use(cx, checked).map_err(Error::internal)?;
    let standby = Standby::of(&cx.settings.data);
    tokio::task::spawn_blocking(move || standby.keep_crls(&kept)).await.map_err(Error::internal)
}

/// Puts CRLs in use: only certificates of their issuers count, and only those that they do not
/// revoke.
///
/// # Errors
/// When a CRL is older than the current one, or TLS refuses its issuer. Then nothing changes.
pub fn put_in_use(cx: &Context, crls: CheckedCrls) -> anyhow::Result<()> {
    cx.access.check_newer(&crls)?;
    let issuers: Vec<_> = crls.issuers().cloned().collect();
    cx.ports.use_issuers(&issuers)?;
    cx.access.put_in_use(crls);
    Ok(())
}

/// Interval at which expired rows are deleted.
const PRUNE: Duration = Duration::from_secs(3600);
/// Maximum number of rows of a kind that are deleted in one transaction.
const PRUNED_TOGETHER: u32 = 1000;

/// Deletes expired certificates and commands until the task is aborted. Deletes a few at once, so
/// that other writers do not wait.
pub async fn prune(cx: ContextRef) {
    loop {
        match prune_some(&cx).await {
            Ok(0) => tokio::time::sleep(PRUNE).await,
            Ok(_) => tokio::task::yield_now().await,
            Err(e) => {
                tracing::warn!("cannot delete expired rows: {}", e.for_log());
                tokio::time::sleep(PRUNE).await;
            }
        }
    }
}

/// Deletes some expired rows. Returns their number.
pub async fn prune_some(cx: &Context) -> Result<u64, Error> {
    let mut tx = cx.db.write().await?;
    let gone = store::certificates::prune(&mut tx, cx.now_s(), PRUNED_TOGETHER).await?;
    let expired = store::commands::expire_all(&mut tx, cx.now_s()).await?;
    let old = store::commands::prune(&mut tx, cx.now_s(), PRUNED_TOGETHER).await?;
    let delivered = store::domain_events::prune(&mut tx, PRUNED_TOGETHER).await?;
    let before_s = cx.now_s().saturating_sub(KEPT_S);
    let keys = store::idempotency::prune(&mut tx, before_s, PRUNED_TOGETHER).await?;
    tx.commit().await?;
    Ok(gone + expired + old + delivered + keys)
}

/// New CRLs of all intermediate CAs for devices that count. An intermediate CA whose CRL cannot be
/// signed does not count: its devices cannot connect, as with an expired CRL.
///
/// # Errors
/// When there is no CRL of the issuing intermediate CA.
pub async fn crls(
    db: &Db,
    signer: &SignerHandle,
    trust: &Trust,
    now_s: u64,
) -> Result<Vec<IssuerCrl>, Error> {
    let mut crls = Vec::new();
    for accepted in trust.devices() {
        let rows = store::certificates::revoked(db.pool(), &accepted.sha256, now_s).await?;
        let listed = |row: RevokedCertificate| RevokedSerial {
            serial: row.serial,
            revoked_s: row.revoked_s,
            reason: row.reason,
        };
        let revoked = rows.into_iter().map(listed).collect();
        match signing::crl(signer, &accepted.sha256, revoked).await {
            Ok(crl) => {
                let (key_id, issuer) = (accepted.key_id.clone(), accepted.certificate.clone());
                crls.push(IssuerCrl { key_id, issuer, crl });
            }
            Err(e) if accepted.sha256 == trust.device().sha256 => return Err(e),
            // After any other error the current CRLs stay in use, and a retry follows soon.
            Err(e) if e.code() != Code::Conflict => return Err(e),
            Err(e) => tracing::error!(
                "devices of intermediate CA {} cannot connect: {e}",
                accepted.certificate.tbs_certificate().subject()
            ),
        }
    }
    Ok(crls)
}
