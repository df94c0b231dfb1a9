//! Security fixes that the release of a fleet lacks: one alert for each fleet, whatever number of
//! devices it has.
//!
//! A fleet is compared when its release or the index of the suite changed, and when the time of a rule
//! is over. A look reads the release of each fleet that has a device, and no device. An alert about a
//! fleet that is not watched any more ends with the next look.

use super::about::About;
use super::judge;
use super::state::Compared;
use crate::context::Context;
use crate::error::Error;
use crate::{profiles, suites};
use fleeti_core::alert::{Kind, Observation, Rule, Subject};
use fleeti_core::id::{FleetId, ReleaseName};
use fleeti_core::wire::alerts::Alert;
use fleeti_core::wire::api::Event;
use fleeti_store as store;
use fleeti_store::alerts::AlertRow;

/// Maximum number of fleets that are compared in one look; the others wait for the next one.
const FLEETS: usize = 20;
/// Maximum number of alerts that are looked at in one look, to end those that nothing watches.
const ALERTS: u32 = 1000;
/// A fleet whose comparison failed is compared again after this time, seconds.
const FAILED_AGAIN_S: u64 = 600;

/// Compares the fleets that are due. A fleet that cannot be compared keeps no other one from it.
pub(super) async fn look(cx: &Context) -> Result<(), Error> {
    let (mut all, now_s) = (store::channels::releases(cx.db.pool()).await?, cx.now_s());
    // Databases sort names in ways of their own.
    all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    end_unwatched(cx, &all).await?;
    // Without an index nothing is known.
    let Some(index) = suites::made(&cx.settings.data) else { return Ok(()) };
    let due: Vec<_> = cx.alerts.with_compared(|compared| {
        compared.retain(|fleet, _| all.binary_search_by(|(other, _)| other.cmp(fleet)).is_ok());
        let is_due = |(fleet, release): &&(FleetId, ReleaseName)| {
            compared.get(fleet).is_none_or(|known| !known.holds(release, index, now_s))
        };
        all.iter().filter(is_due).take(FLEETS).cloned().collect()
    });
    for (fleet, release) in due {
        // Before the comparison, so that rules that change meanwhile begin another one.
        let compared = Compared { release: release.clone(), index, again_s: None };
        cx.alerts.with_compared(|all| all.insert(fleet.clone(), compared));
        let again_s = compare(cx, &fleet, &release).await.unwrap_or_else(|e| {
            tracing::error!("the security fixes of fleet {fleet} are not known: {}", e.for_log());
            Some(now_s + FAILED_AGAIN_S)
        });
        cx.alerts.with_compared(|all| {
            all.entry(fleet).and_modify(|compared| compared.again_s = again_s);
        });
    }
    Ok(())
}

/// Ends the alerts that no rule or no fleet keeps open any more. `all` is sorted by fleet.
async fn end_unwatched(cx: &Context, all: &[(FleetId, ReleaseName)]) -> Result<(), Error> {
    let rules = cx.alerts.rules();
    let of = |row: AlertRow| Some((unwatched(&rules, all, &row.alert)?, row));
    let open =
        store::alerts::active_of_fleets(&mut cx.db.reader().await?, Kind::Fixes, ALERTS).await?;
    if !open.into_iter().any(|row| of(row).is_some()) {
        return Ok(());
    }
    let mut tx = cx.db.write().await?;
    let open = store::alerts::active_of_fleets(&mut tx, Kind::Fixes, ALERTS).await?;
    for (why, row) in open.into_iter().filter_map(of) {
        judge::end(cx, &mut tx, &row, why).await?;
    }
    cx.commit(tx, Event::Alerts).await?;
    Ok(())
}

/// Why nothing watches what an alert is about; `None` if something does.
fn unwatched(
    rules: &[Rule],
    all: &[(FleetId, ReleaseName)],
    alert: &Alert,
) -> Option<&'static str> {
    let fleet = alert.fleet.as_ref();
    let watches = |rule: &Rule| rule.id == alert.rule && rule.watches(Subject::Fleet, fleet);
    if !rules.iter().any(watches) {
        return Some("the rule does not watch it any more");
    }
    let is_known = |fleet| all.binary_search_by(|(other, _)| other.cmp(fleet)).is_ok();
    (!fleet.is_some_and(is_known)).then_some("no device of the fleet is to run a release")
}

/// Judges one fleet. Returns when to compare again because of time.
async fn compare(
    cx: &Context,
    fleet: &FleetId,
    release: &ReleaseName,
) -> Result<Option<u64>, Error> {
    let Some(fixes) = profiles::fixes_of_release_now(cx, release).await? else {
        end_of_others(cx, fleet, release).await?;
        return Ok(None);
    };
    let observation = Observation::Fixes {
        release,
        count: fixes.waiting.len() as u64,
        since_s: fixes.waiting.first().map(|oldest| oldest.since_s),
        is_open: false,
        now_s: cx.now_s(),
    };
    let mut tx = cx.db.write().await?;
    let active = store::alerts::active_of_fleet(&mut tx, Some(fleet)).await?;
    let judged = judge::observe(cx, &mut tx, About::whole(fleet), &[observation], active).await?;
    if judged.has_changed {
        cx.commit(tx, Event::Alerts).await?;
    } else {
        tx.commit().await?;
    }
    Ok(judged.again_s)
}

/// A release whose packages are unknown lacks nothing that could be named: an alert about it stays as it
/// is, and one about the release before ends.
async fn end_of_others(cx: &Context, fleet: &FleetId, release: &ReleaseName) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    let mut active = store::alerts::active_of_fleet(&mut tx, Some(fleet)).await?;
    active.retain(|row| {
        row.alert.kind == Kind::Fixes && !judge::is_about_release(&row.alert, release)
    });
    if active.is_empty() {
        return Ok(());
    }
    for row in &active {
        judge::end(cx, &mut tx, row, "the packages of its release are not known").await?;
    }
    cx.commit(tx, Event::Alerts).await?;
    Ok(())
}
