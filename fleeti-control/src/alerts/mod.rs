//! Alerts: what rules say of devices and of the server, who is told, and what operators do.
//!
//! Rules judge what domain events and telemetry bring, and what a device that is due tells
//! (`watch`); nothing looks at all devices of a fleet. `fixes` compares the release of a fleet with
//! the suite. Alerts of one rule in one fleet are told in one
//! message, as a domain event.

mod about;
mod fixes;
mod judge;
mod reactions;
mod rules;
mod silences;
pub(crate) mod state;
pub(crate) mod watch;
mod windows;

use self::about::{check_text, named, scope};
pub(crate) use self::reactions::react;
pub use self::reactions::{alarmed, connected, telemetry};
pub use self::rules::{remove_rule, rule, rules, set_rule};
pub use self::silences::{add_silence, remove_silence, silences};
pub use self::watch::look;

use crate::accounts::actor::{Actor, Scope};
use crate::context::Context;
use crate::error::Error;
use fleeti_core::alert::Severity;
use fleeti_core::alert::state::{Event as Step, step};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::alerts::{
    Alert, AlertChange, AlertDetails, AlertQuery, PAGE_MAX, RuleStatus, Silence,
};
use fleeti_core::wire::api::Event;
use fleeti_core::wire::problem::Code;
use fleeti_store as store;

/// A page of alerts, newest first: of one fleet, or of all fleets and the server.
///
/// # Errors
/// [`Code::Forbidden`] for alerts of all fleets, unless the actor may see all; [`Code::Invalid`]
/// for an invalid limit or id.
pub async fn page(cx: &Context, by: &Actor, query: &AlertQuery) -> Result<Vec<Alert>, Error> {
    by.authorize(Permission::View, query.fleet.as_ref().map_or(Scope::All, Scope::Fleet))?;
    let limit = query.limit.unwrap_or(100);
    if !(1..=PAGE_MAX).contains(&limit) {
        let text = format!("limit is {limit}, must be 1 to {PAGE_MAX}");
        return Err(Error::new(Code::Invalid, text));
    }
    let after = query.after.as_deref().unwrap_or_default();
    let is_id = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if after.len() > 64 || !after.bytes().all(is_id) {
        return Err(Error::new(Code::Invalid, "after is not the id of an alert")
            .hint("use the last id of the previous page"));
    }
    let page = store::alerts::Page { fleet: query.fleet.as_ref(), all: query.all, after, limit };
    let rows = store::alerts::page(&mut cx.db.reader().await?, page).await?;
    Ok(rows.into_iter().map(|row| row.alert).collect())
}

/// What the page of alerts shows.
pub struct AlertsOverview {
    /// A page of alerts.
    pub alerts: Vec<Alert>,
    /// The rules that count now.
    pub rules: Vec<RuleStatus>,
    /// Silences that have not ended.
    pub silences: Vec<Silence>,
    /// Whether the actor may change rules.
    pub may_change_rules: bool,
}

/// A page of alerts, with rules and silences.
///
/// # Errors
/// As [`page`].
pub async fn overview(
    cx: &Context,
    by: &Actor,
    query: &AlertQuery,
) -> Result<AlertsOverview, Error> {
    Ok(AlertsOverview {
        alerts: page(cx, by, query).await?,
        rules: rules(cx, by),
        silences: silences(cx, by).await?,
        may_change_rules: by.may(Permission::Server, Scope::All),
    })
}

/// The alerts about a device that are not resolved.
pub async fn of_device(cx: &Context, device: &DeviceId) -> Result<Vec<Alert>, Error> {
    let rows = store::alerts::active(&mut cx.db.reader().await?, device).await?;
    Ok(rows.into_iter().map(|row| row.alert).collect())
}

/// Number of alerts that are not resolved, by severity.
pub async fn counts(cx: &Context) -> Result<Vec<(Severity, u64)>, Error> {
    Ok(store::alerts::counts(&mut cx.db.reader().await?).await?)
}

/// An alert with its history.
///
/// # Errors
/// [`Code::NotFound`], also for an alert that the actor may not see.
pub async fn get(cx: &Context, by: &Actor, id: &str) -> Result<AlertDetails, Error> {
    let mut connection = cx.db.reader().await?;
    let found = store::alerts::get(&mut connection, id).await?.map(|row| row.alert);
    let alert = found
        .filter(|alert| by.may(Permission::View, scope(alert)))
        .ok_or_else(|| Error::not_found("alert", id))?;
    let history = store::alerts::changes(&mut connection, id).await?;
    Ok(AlertDetails { alert, history })
}

/// Acknowledges an alert: an operator takes care of it.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Forbidden`]; [`Code::Invalid`] for a note that is too long;
/// [`Code::Conflict`] for an alert that is not open.
pub async fn acknowledge(
    cx: &Context,
    by: &Actor,
    id: &str,
    note: &str,
) -> Result<AlertDetails, Error> {
    check_text("note", note)?;
    let mut tx = cx.db.write().await?;
    let found = store::alerts::get(&mut tx, id).await?.map(|row| row.alert);
    let mut alert = found
        .filter(|alert| by.may(Permission::View, scope(alert)))
        .ok_or_else(|| Error::not_found("alert", id))?;
    by.authorize(Permission::Operate, scope(&alert))?;
    let (next, _) = step(judge::machine(&alert), Step::Acknowledged, cx.now_s())
        .map_err(|e| Error::new(Code::Conflict, e.to_string()))?;
    (alert.state, alert.changed_s) = (next.state, next.changed_s);
    store::alerts::update(&mut tx, &alert).await?;
    let change = AlertChange {
        at_s: next.changed_s,
        state: next.state,
        by: by.account().to_owned(),
        note: note.trim().to_owned(),
    };
    store::alerts::add_change(&mut tx, id, &change).await?;
    let what = format!("{id} {} {}", alert.rule, named(&alert));
    cx.audit(&mut tx, by.act("alert.acknowledge", what)).await?;
    cx.commit(tx, Event::Alerts).await?;
    get(cx, by, id).await
}
