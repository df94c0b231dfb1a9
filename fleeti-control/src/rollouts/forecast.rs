//! What a rollout would come to: the counts of its fleet, and `core::rollout::forecast`. No device is
//! loaded but those that the plan names.

use super::request as asked;
use crate::accounts::actor::{Actor, Scope};
use crate::attestation::policy;
use crate::context::Context;
use crate::error::Error;
use crate::releases;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::{DeviceId, ReleaseName};
use fleeti_core::rollout::forecast::{Duration, Expected, Facts, Forecast, Group, Known};
use fleeti_core::rollout::plan::Plan;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::api::CreateRollout;
use fleeti_core::wire::attestation::FRESH_S;
use fleeti_store as store;
use fleeti_store::forecast::{Alike, Question};
use std::collections::BTreeMap;

/// A device of a rollout to everybody at once is offline after this time, seconds.
const OFFLINE_S: u64 = 900;

/// What a rollout would come to if it started now. Starts nothing.
///
/// # Errors
/// [`Code::Invalid`](fleeti_core::wire::problem::Code::Invalid) for a plan that is refused;
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound) for a release that is not
/// published; [`Code::Conflict`](fleeti_core::wire::problem::Code::Conflict) for one that is revoked,
/// or not proved where the fleet requires it.
pub async fn forecast(
    cx: &Context,
    by: &Actor,
    request: &CreateRollout,
) -> Result<Forecast, Error> {
    let CreateRollout { release, fleet, plan } = request;
    by.authorize(Permission::View, Scope::Fleet(fleet))?;
    releases::get(cx, release).await?;
    let mut connection = cx.db.reader().await?;
    asked::check(cx, &mut connection, request).await?;
    let (now_s, policy) = (cx.now_s(), policy::of(cx, fleet));
    let offline_s = plan.as_ref().map_or(OFFLINE_S, |plan| plan.unreached_s);
    let question = Question {
        fleet,
        release,
        offline_before_s: now_s.saturating_sub(offline_s),
        expired_before_s: now_s.saturating_sub(FRESH_S),
    };
    let judge = Judge { release, policy: &policy, now_s };
    let counted = store::forecast::counted(&mut connection, question).await?;
    let named: Vec<&DeviceId> = plan.iter().flat_map(Plan::listed).collect();
    let named = match named.as_slice() {
        [] => Vec::new(),
        named => store::forecast::named(&mut connection, question, named).await?,
    };
    let active = store::rollouts::active_in(&mut connection, fleet).await?;
    drop(connection);
    let duration = Duration::of(store::forecast::durations(cx.db.pool(), fleet).await?);
    let (request, unlisted) = (request.clone(), judge.unlisted(&counted, &named));
    let listed = plan.as_ref().map_or_else(Vec::new, |plan| judge.listed(plan, &named));
    // A rollout of a large fleet is a hundred thousand steps.
    let found = tokio::task::spawn_blocking(move || {
        let CreateRollout { release, fleet, plan } = &request;
        let plan = plan.as_ref();
        Forecast::of(fleet, &Facts { release, plan, unlisted, listed, now_s, duration })
    });
    let found = found.await.map_err(Error::internal)?;
    Ok(Forecast { active: active.map(|active| active.id), ..found })
}

/// What devices are compared with.
struct Judge<'a> {
    release: &'a ReleaseName,
    policy: &'a Policy,
    now_s: u64,
}

impl Judge<'_> {
    fn expected(&self, alike: &Alike) -> Expected {
        let level = alike.found.level_for_update(self.now_s);
        let known = Known {
            running: alike.running.clone(),
            is_offline: alike.is_offline,
            has_rolled_back: alike.has_rolled_back,
            may_update: self.policy.may_update(level),
        };
        known.expected(self.release)
    }

    /// All devices but those that the plan names.
    fn unlisted(&self, counted: &[Alike], named: &[Alike]) -> Vec<Group> {
        let mut groups: BTreeMap<Expected, usize> = BTreeMap::new();
        for alike in counted {
            *groups.entry(self.expected(alike)).or_default() += alike.devices;
        }
        for alike in named {
            let group = groups.entry(self.expected(alike)).or_default();
            *group = group.saturating_sub(1);
        }
        groups.into_iter().map(|(expected, devices)| Group { expected, devices }).collect()
    }

    fn listed(&self, plan: &Plan, named: &[Alike]) -> Vec<(u32, Expected)> {
        let of = |alike: &Alike| Some((plan.wave_of(&alike.device)?, self.expected(alike)));
        named.iter().filter_map(of).collect()
    }
}
