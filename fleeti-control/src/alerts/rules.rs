//! Rules: the shipped ones, and what an operator changes and adds.

use crate::accounts::actor::{Actor, Scope};
use crate::changes::record::record;
use crate::context::Context;
use crate::error::Error;
use crate::precondition::Expected;
use fleeti_core::alert::{RULES_MAX, Rule};
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::alerts::RuleStatus;
use fleeti_core::wire::api::Event;
use fleeti_core::wire::problem::Code;
use fleeti_store as store;

fn status(rule: Rule) -> RuleStatus {
    let is_shipped = Rule::shipped().contains(&rule);
    RuleStatus { unit: rule.kind.unit().to_owned(), is_shipped, rule }
}

/// The rules that count now, of those fleets that the actor may see. A rule names no other fleet.
#[must_use]
pub fn rules(cx: &Context, by: &Actor) -> Vec<RuleStatus> {
    let all = cx.alerts.rules();
    all.iter().filter_map(|rule| visible(by, rule)).map(status).collect()
}

/// One rule, as in [`rules`].
///
/// # Errors
/// [`Code::NotFound`], also for a rule that the actor may not see.
pub fn rule(cx: &Context, by: &Actor, id: &str) -> Result<RuleStatus, Error> {
    let all = cx.alerts.rules();
    let found = all.iter().find(|rule| rule.id == id).and_then(|rule| visible(by, rule));
    found.map(status).ok_or_else(|| Error::not_found("rule", id))
}

/// A rule without the fleets that the actor may not see; `None` if it is only about those.
fn visible(by: &Actor, rule: &Rule) -> Option<Rule> {
    let mut rule = rule.clone();
    let is_of_all = rule.fleets.is_empty();
    rule.fleets.retain(|fleet| by.may(Permission::View, Scope::Fleet(fleet)));
    (is_of_all || !rule.fleets.is_empty()).then_some(rule)
}

/// Changes a shipped rule, or adds or changes another one. Devices are judged by it from then on;
/// their time is looked at again in chunks.
///
/// # Errors
/// [`Code::Invalid`]; [`Code::Conflict`] for too many rules, or a rule of another kind;
/// [`Code::PreconditionFailed`].
pub async fn set_rule(
    cx: &Context,
    by: &Actor,
    rule: Rule,
    expected: &Expected,
) -> Result<RuleStatus, Error> {
    rule.check().map_err(|e| Error::new(Code::Invalid, e.to_string()))?;
    let mut tx = cx.db.write().await?;
    let stored = store::alert_rules::rules(&mut tx).await?;
    let effective = Rule::effective(stored.clone()).into_iter().find(|now| now.id == rule.id);
    expected.check(effective.map(status).as_ref())?;
    match stored.iter().find(|other| other.id == rule.id) {
        Some(other) if other.kind != rule.kind => {
            let text = format!("kind: the rule {} watches {}", rule.id, other.kind);
            return Err(Error::new(Code::Conflict, text).hint("add a rule with another id"));
        }
        None if stored.len() >= RULES_MAX => {
            let text = format!("there are already {RULES_MAX} changed and added rules");
            return Err(Error::new(Code::Conflict, text).hint("remove one that is not needed"));
        }
        Some(_) | None => {}
    }
    store::alert_rules::put(&mut tx, &rule).await?;
    store::alert_rules::begin_sweep(&mut tx).await?;
    let enabled = if rule.enabled { "enabled" } else { "disabled" };
    let what = format!("{} {} {} {enabled}", rule.id, rule.threshold, rule.severity);
    cx.audit(&mut tx, by.act("alert-rule.set", what)).await?;
    record(&mut tx, cx.now_s(), &[Event::Alerts]).await?;
    tx.commit().await?;
    changed(cx).await?;
    Ok(status(rule))
}

/// Removes an added rule, or the change of a shipped one.
///
/// # Errors
/// [`Code::NotFound`] for a rule that is as it was shipped.
pub async fn remove_rule(cx: &Context, by: &Actor, id: &str) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    if !store::alert_rules::remove(&mut tx, id).await? {
        return Err(Error::not_found("changed or added rule", id));
    }
    store::alert_rules::begin_sweep(&mut tx).await?;
    cx.audit(&mut tx, by.act("alert-rule.remove", id)).await?;
    record(&mut tx, cx.now_s(), &[Event::Alerts]).await?;
    tx.commit().await?;
    changed(cx).await
}

async fn changed(cx: &Context) -> Result<(), Error> {
    cx.alerts.reload(&cx.db).await?;
    cx.alerts.wake();
    cx.publish(Event::Alerts);
    Ok(())
}
