//! New hardware in the place of a device: it takes over the name, the note and the labels, and
//! nothing that the old device has proved.

use crate::accounts::actor::{Actor, Scope};
use crate::changes::record::record;
use crate::context::{Context, ContextRef};
use crate::devices;
use crate::error::Error;
use crate::guard;
use crate::trust::revocation;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::api::{Device, Event, RevocationReason};
use fleeti_core::wire::problem::Code;
use fleeti_store as store;

/// Puts an enrolled device in the place of another one of its fleet, and revokes that one. Repeating
/// the call completes an interrupted one.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] if the two cannot take each other's place;
/// [`Code::SecondPerson`] after too many revocations by this account.
pub async fn replace(
    cx: &ContextRef,
    by: &Actor,
    old: &DeviceId,
    new: &DeviceId,
) -> Result<(), Error> {
    let before = devices::get(cx, old.as_str()).await?;
    let other = devices::get(cx, new.as_str()).await?;
    let scope = Scope::Fleet(&other.fleet);
    // One that the actor may not see does not exist for it.
    if !by.may(Permission::View, scope) && !by.may(Permission::Revoke, scope) {
        return Err(Error::not_found("device", new.as_str()));
    }
    if !before.revoked {
        guard::revocation_of_one(cx, by).await?;
    }
    if before.replaced_by.as_ref() != Some(new) {
        check(&before, &other)?;
        hand_over(cx, by, old, new).await?;
    }
    if before.revoked {
        return Ok(());
    }
    revocation::revoke_checked(cx, by, old, RevocationReason::CessationOfOperation).await
}

fn check(old: &Device, new: &Device) -> Result<(), Error> {
    let (hint, text) = if old.id == new.id {
        ("name the new device", format!("{} cannot take its own place", new.id))
    } else if let Some(by) = &old.replaced_by {
        ("replace that one", format!("{} has taken the place of {} already", by, old.id))
    } else if old.fleet != new.fleet {
        let text = format!("{} is in fleet {}, and {} in {}", old.id, old.fleet, new.id, new.fleet);
        ("enroll the new device into the fleet of the old one", text)
    } else if new.revoked {
        ("enroll it again", format!("{} is revoked", new.id))
    } else if new.replaced_by.is_some() {
        ("name a device that is in use", format!("{} was replaced itself", new.id))
    } else {
        return Ok(());
    };
    Err(Error::new(Code::Conflict, text).hint(hint))
}

async fn hand_over(cx: &Context, by: &Actor, old: &DeviceId, new: &DeviceId) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    store::labels::hand_over(&mut tx, old, new).await?;
    cx.audit(&mut tx, by.act("device.replace", format!("{old} by {new}"))).await?;
    let changed = [old, new].map(|id| Event::Device { id: id.clone() });
    record(&mut tx, cx.now_s(), &changed).await?;
    tx.commit().await?;
    changed.into_iter().for_each(|change| cx.publish(change));
    Ok(())
}
