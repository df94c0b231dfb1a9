//! What a plan says by labels: waves of the devices that a filter matches, and groups of a budget.

use super::change::CHUNK;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::filter::Filter;
use fleeti_core::id::{DeviceId, FleetId, LabelKey};
use fleeti_core::rollout::budget::{Budget, GROUPS_MAX};
use fleeti_core::rollout::plan::Plan;
use fleeti_core::wire::labels::LabelType;
use fleeti_core::wire::problem::Code;
use fleeti_store::rollouts::StoredRollout;
use fleeti_store::selection::Selection;
use fleeti_store::{self as store, Connection, Tx};
use std::collections::{BTreeMap, HashMap};

type Keys = BTreeMap<LabelKey, LabelType>;

fn invalid(text: String) -> Error {
    Error::new(Code::Invalid, format!("plan: {text}"))
}

/// The filter of a wave for the devices of a fleet that are not revoked.
fn in_service(fleet: &FleetId, text: &str) -> Result<Filter, Error> {
    let filter = |text: &str| text.parse::<Filter>().map_err(Error::internal);
    Ok(Filter::of_fleet(fleet).and(filter("not revoked")?).and(filter(text)?))
}

/// Checks that each filter of a plan matches a device of the fleet, and that each group of its budget
/// can move.
pub(super) async fn check(
    cx: &Context,
    connection: &mut Connection,
    fleet: &FleetId,
    plan: &Plan,
) -> Result<(), Error> {
    if plan.budget.is_none() && plan.filters().next().is_none() {
        return Ok(());
    }
    let keys = store::labels::keys(cx.db.pool()).await?;
    let keys: Keys = keys.into_iter().map(|info| (info.key, info.of)).collect();
    for (wave, text) in plan.filters() {
        let number = wave + 1;
        let parsed = text.parse::<Filter>().and_then(|filter| filter.check(&keys));
        parsed.map_err(|e| invalid(format!("filter of wave {number}: {e}: {}", e.hint)))?;
        let filter = in_service(fleet, text)?;
        let selection =
            Selection { filter: &filter, fleets: None, is_drifting: false, now_s: cx.now_s() };
        if store::selection::count(cx.db.pool(), selection).await? == 0 {
            let text = format!("wave {number}: no device of fleet {fleet} matches {text}");
            return Err(invalid(text).hint("try it with `fleeti device list --filter`"));
        }
    }
    match &plan.budget {
        Some(budget) => check_budget(connection, fleet, budget, &keys).await,
        None => Ok(()),
    }
}

async fn check_budget(
    connection: &mut Connection,
    fleet: &FleetId,
    budget: &Budget,
    keys: &Keys,
) -> Result<(), Error> {
    let key = &budget.group_by;
    if !keys.contains_key(key) {
        return Err(invalid(format!("there is no label key {key}"))
            .hint("declare it with `fleeti label key`"));
    }
    let sizes = store::budgets::sizes(connection, fleet, key, GROUPS_MAX + 1).await?;
    if sizes.len() > GROUPS_MAX {
        let text = format!("label {key} has more than {GROUPS_MAX} values: too many groups");
        return Err(invalid(text));
    }
    let groups = sizes.iter().map(|(group, devices)| (group.as_str(), *devices));
    budget.check(groups).map_err(|e| {
        invalid(e.to_string()).hint("lower the number, use a part (80%), or label the devices")
    })
}

/// The wave of each device whose wave a filter says, among the next devices of the fleet by id, at
/// most a chunk.
pub(super) async fn waves(
    tx: &mut Tx<'_>,
    rollout: &StoredRollout,
    now_s: u64,
) -> Result<HashMap<DeviceId, u32>, Error> {
    let mut found = HashMap::new();
    for (wave, text) in rollout.plan.iter().flat_map(Plan::filters) {
        let filter = in_service(&rollout.fleet, text)?;
        let selection = Selection { filter: &filter, fleets: None, is_drifting: false, now_s };
        for device in store::selection::page_in(tx, selection, &rollout.reached, CHUNK).await? {
            found.entry(device).or_insert(wave);
        }
    }
    Ok(found)
}

/// All devices whose wave a plan says by a list or a filter, each with its wave.
pub(super) async fn all_waves(
    cx: &Context,
    fleet: &FleetId,
    plan: &Plan,
) -> Result<BTreeMap<DeviceId, u32>, Error> {
    let listed = plan.listed().filter_map(|device| Some((device.clone(), plan.wave_of(device)?)));
    let mut found: BTreeMap<_, _> = listed.collect();
    for (wave, text) in plan.filters() {
        let filter = in_service(fleet, text)?;
        let selection =
            Selection { filter: &filter, fleets: None, is_drifting: false, now_s: cx.now_s() };
        let mut after = String::new();
        loop {
            let page = store::selection::page(cx.db.pool(), selection, &after, CHUNK).await?;
            let is_last = page.len() < CHUNK as usize;
            after = page.last().map_or(after, ToString::to_string);
            page.into_iter().for_each(|device| {
                found.entry(device).or_insert(wave);
            });
            if is_last {
                break;
            }
        }
    }
    Ok(found)
}
