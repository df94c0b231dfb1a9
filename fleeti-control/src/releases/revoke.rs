//! Revocation of releases.

use crate::attestation::evidence;
use crate::clock::now_s;
use crate::context::ContextRef;
use crate::error::Error;
use crate::events::DomainEvent;
use crate::releases;
use crate::trust::notice;
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::api::Event;
use fleeti_store as store;
use std::sync::Arc;

/// Revokes a release: its rollouts end, and it is no longer the desired version of any device.
/// Devices that run it keep it until a newer release is rolled out to them. Idempotent.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn revoke(cx: &ContextRef, name: &ReleaseName) -> Result<(), Error> {
    let digest = releases::get(cx, name).await?.manifest_sha256;
    let mut tx = cx.db.write().await?;
    if !store::releases::revoke(&mut tx, name, now_s()).await? {
        drop(tx);
        cx.attestation.policies.touch();
        notice::tell(cx).await;
        return Ok(());
    }
    let event = DomainEvent::ReleaseRevoked { release: name.clone() };
    let after = cx.emit(&mut tx, now_s(), &event).await?;
    cx.audit(&mut tx, now_s(), "admin", "release.revoke", &format!("{name} {digest}")).await?;
    tx.commit().await?;
    // Before the first await: the caller may be dropped while this function waits.
    cx.attestation.policies.touch();
    cx.dispatch(after);
    cx.publish(Event::Release { name: name.clone() });
    // A device that learns of the revocation installs the release from no server any more.
    notice::tell(cx).await;
    let (cx, devices) =
        (Arc::clone(cx), store::attestations::on_release(cx.db.pool(), name).await?);
    tokio::spawn(async move { evidence::reappraise_all(&cx, &devices).await });
    Ok(())
}
