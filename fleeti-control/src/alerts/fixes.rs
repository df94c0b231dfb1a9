//! Security fixes that the release of a fleet lacks: one alert for each fleet, whatever number of
//! devices it has.
//!
//! A fleet is compared when its release or the index of the suite changed, and when the time of a rule
//! is over. A look reads the release of each fleet, and no device.

use super::about::About;
use super::judge;
use super::state::Compared;
use crate::context::Context;
use crate::error::Error;
use crate::{profiles, suites};
use fleeti_core::alert::Observation;
use fleeti_core::id::{FleetId, ReleaseName};
use fleeti_core::wire::api::Event;
use fleeti_store as store;

/// Maximum number of fleets that are compared in one look; the others wait for the next one.
const FLEETS: usize = 20;

/// Compares the fleets that are due.
pub(super) async fn look(cx: &Context) -> Result<(), Error> {
    // Without an index nothing is known.
    let Some(index) = suites::made(&cx.settings.data) else { return Ok(()) };
    let (mut all, now_s) = (store::channels::releases(cx.db.pool()).await?, cx.now_s());
    // Databases sort names in ways of their own.
    all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
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
        match compare(cx, &fleet, &release).await {
            Ok(again_s) => cx.alerts.with_compared(|all| {
                all.entry(fleet).and_modify(|compared| compared.again_s = again_s);
            }),
            Err(e) => {
                cx.alerts.with_compared(|all| all.remove(&fleet));
                return Err(e);
            }
        }
    }
    Ok(())
}

/// Judges one fleet. Returns when to compare again because of time.
async fn compare(
    cx: &Context,
    fleet: &FleetId,
    release: &ReleaseName,
) -> Result<Option<u64>, Error> {
    // A release whose packages are unknown lacks nothing that could be named: an alert stays as it is.
    let Some(fixes) = profiles::fixes_of_release_now(cx, release).await? else { return Ok(None) };
    let observation = Observation::Fixes {
        release,
        count: fixes.waiting.len() as u64,
        since_s: fixes.waiting.first().map(|oldest| oldest.since_s),
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
