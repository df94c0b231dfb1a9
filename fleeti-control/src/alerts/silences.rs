//! Silences: times in which nobody is told of alerts. A silence that begins later is a maintenance
//! window.

use super::about::check_text;
use crate::accounts::actor::{Actor, Scope};
use crate::changes::record::record;
use crate::clock::new_id;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::alerts::{CreateSilence, SILENCE_S_MAX, SILENCES_MAX, Silence};
use fleeti_core::wire::api::Event;
use fleeti_core::wire::problem::Code;
use fleeti_store as store;

/// The fleet that a silence is about, for permissions: that of its device, its own, or all.
async fn fleet_of(
    cx: &Context,
    fleet: Option<&FleetId>,
    device: Option<&DeviceId>,
) -> Result<Option<FleetId>, Error> {
    match device {
        Some(device) => Ok(store::devices::fleet_of(cx.db.pool(), device).await?),
        None => Ok(fleet.cloned()),
    }
}

/// The silences that have not ended and that the actor may see.
pub async fn silences(cx: &Context, by: &Actor) -> Result<Vec<Silence>, Error> {
    let mut all = store::alert_rules::silences(&mut cx.db.reader().await?, cx.now_s()).await?;
    all.retain(|silence| {
        by.may(Permission::View, silence.fleet.as_ref().map_or(Scope::All, Scope::Fleet))
    });
    Ok(all)
}

fn check(cx: &Context, request: &CreateSilence) -> Result<(), Error> {
    check_text("reason", &request.reason)?;
    if request.reason.trim().is_empty() {
        return Err(Error::new(Code::Invalid, "reason: must not be empty"));
    }
    if !(60..=SILENCE_S_MAX).contains(&request.valid_s) {
        let text = format!("valid_s is {}, must be 60 to {SILENCE_S_MAX}", request.valid_s);
        return Err(Error::new(Code::Invalid, text));
    }
    let latest_s = cx.now_s().saturating_add(SILENCE_S_MAX);
    if let Some(from_s) = request.from_s.filter(|from_s| *from_s > latest_s) {
        let text = format!("from_s is {from_s}, must be at most {latest_s}: 90 days from now");
        return Err(Error::new(Code::Invalid, text));
    }
    let rules = cx.alerts.rules();
    if let Some(rule) = request.rule.as_ref().filter(|id| !rules.iter().any(|r| r.id == **id)) {
        return Err(Error::not_found("rule", rule));
    }
    Ok(())
}

/// Adds a silence. It covers alerts that begin while it lasts.
///
/// # Errors
/// [`Code::Invalid`]; [`Code::Forbidden`] without the permission `operate` for the fleet, or for
/// all fleets; [`Code::NotFound`] for an unknown rule or device; [`Code::Conflict`] for too many.
pub async fn add_silence(
    cx: &Context,
    by: &Actor,
    request: &CreateSilence,
) -> Result<Silence, Error> {
    check(cx, request)?;
    let of = fleet_of(cx, request.fleet.as_ref(), request.device.as_ref()).await?;
    let sees = |fleet: &FleetId| {
        let scope = Scope::Fleet(fleet);
        by.may(Permission::View, scope) || by.may(Permission::Operate, scope)
    };
    if let (Some(device), false) = (&request.device, of.as_ref().is_some_and(sees)) {
        return Err(Error::not_found("device", device.as_str()));
    }
    by.authorize(Permission::Operate, of.as_ref().map_or(Scope::All, Scope::Fleet))?;
    let from_s = request.from_s.unwrap_or_else(|| cx.now_s());
    let silence = Silence {
        id: new_id("silence"),
        rule: request.rule.clone(),
        // The silence of a device names its fleet, too, so that those who see the fleet see it.
        fleet: of,
        device: request.device.clone(),
        from_s,
        until_s: from_s + request.valid_s,
        reason: request.reason.trim().to_owned(),
        by: by.account().to_owned(),
    };
    let mut tx = cx.db.write().await?;
    if store::alert_rules::silences(&mut tx, cx.now_s()).await?.len() >= SILENCES_MAX {
        let text = format!("there are already {SILENCES_MAX} silences");
        return Err(Error::new(Code::Conflict, text).hint("remove one that is not needed"));
    }
    store::alert_rules::add_silence(&mut tx, &silence, cx.now_s()).await?;
    cx.audit(&mut tx, by.act("silence.add", subject(&silence))).await?;
    record(&mut tx, cx.now_s(), &[Event::Alerts]).await?;
    tx.commit().await?;
    cx.alerts.reload(&cx.db).await?;
    cx.publish(Event::Alerts);
    Ok(silence)
}

fn subject(silence: &Silence) -> String {
    let rule = silence.rule.as_deref().unwrap_or("every rule");
    let fleet = silence.fleet.as_ref().map_or("all fleets", FleetId::as_str);
    let device = silence.device.as_ref().map_or("", DeviceId::as_str);
    let text = format!("{} {rule} {fleet} {device} {}", silence.id, silence.reason);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Removes a silence. Alerts that it covered are told when it would have ended.
///
/// # Errors
/// [`Code::NotFound`], also for a silence that the actor may not see; [`Code::Forbidden`].
pub async fn remove_silence(cx: &Context, by: &Actor, id: &str) -> Result<(), Error> {
    let seen = silences(cx, by).await?.into_iter().find(|silence| silence.id == id);
    let silence = seen.ok_or_else(|| Error::not_found("silence", id))?;
    by.authorize(Permission::Operate, silence.fleet.as_ref().map_or(Scope::All, Scope::Fleet))?;
    let mut tx = cx.db.write().await?;
    if !store::alert_rules::remove_silence(&mut tx, id).await? {
        return Err(Error::not_found("silence", id));
    }
    cx.audit(&mut tx, by.act("silence.remove", id)).await?;
    record(&mut tx, cx.now_s(), &[Event::Alerts]).await?;
    tx.commit().await?;
    cx.alerts.reload(&cx.db).await?;
    cx.publish(Event::Alerts);
    Ok(())
}
