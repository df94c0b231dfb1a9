//! Revocation of releases.

use crate::accounts::actor::Actor;
use crate::attestation::{evidence, policy};
use crate::context::{Context, ContextRef};
use crate::error::Error;
use crate::events::DomainEvent;
use crate::idempotency::running::carried;
use crate::releases;
use crate::trust::notice;
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::api::Event;
use fleeti_store as store;
use std::sync::Arc;

/// Revokes a release: its rollouts end, and it is no longer the desired version of any device.
/// Devices that run it keep it until a newer release is rolled out to them. From the return of this
/// function on, no device is offered the release; the offers of a large fleet are withdrawn in
/// chunks afterwards. Idempotent.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn revoke(cx: &ContextRef, by: &Actor, name: &ReleaseName) -> Result<(), Error> {
    let (cx, by, name) = (Arc::clone(cx), by.clone(), name.clone());
    // In a task of its own, because the client may disconnect: memory and database change together.
    tokio::spawn(carried(async move { apply(&cx, &by, &name).await }))
        .await
        .map_err(Error::internal)?
}

async fn apply(cx: &ContextRef, by: &Actor, name: &ReleaseName) -> Result<(), Error> {
    let digest = releases::get(cx, name).await?.manifest_sha256;
    if !mark(cx, by, name, &digest).await? {
        policy::releases_changed(cx);
        notice::tell(cx).await;
        return Ok(());
    }
    // A device that learns of the revocation installs the release from no server any more.
    notice::tell(cx).await;
    let (cx, devices) =
        (Arc::clone(cx), store::attestations::on_release(cx.db.pool(), name).await?);
    tokio::spawn(async move { evidence::reappraise_all(&cx, &devices).await });
    Ok(())
}

/// Stores the revocation, and withdraws the first offers. Returns `false` if the release is revoked
/// already.
async fn mark(cx: &Context, by: &Actor, name: &ReleaseName, digest: &str) -> Result<bool, Error> {
    let now = cx.now_s();
    let mut tx = cx.db.write().await?;
    if !store::releases::revoke(&mut tx, name, now).await? {
        return Ok(false);
    }
    let event = DomainEvent::ReleaseRevoked { release: name.clone() };
    let after = cx.emit(&mut tx, now, event).await?;
    cx.audit(&mut tx, by.act("release.revoke", format!("{name} {digest}"))).await?;
    // Before the commit: no device is offered the release after it, wherever its offer waits.
    cx.releases.revoke(name);
    let committed = tx.commit().await;
    if committed.is_err() {
        cx.releases.reload(&cx.db).await?;
    }
    committed?;
    cx.grants.changed();
    policy::releases_changed(cx);
    cx.dispatch(after);
    cx.publish(Event::Release { name: name.clone() });
    Ok(true)
}
