//! What a rollout would come to: the counts of its fleet, and `core::rollout::forecast`. No device is
//! loaded but those that the plan names.

use super::{request as asked, select};
use crate::accounts::actor::{Actor, Scope};
use crate::attestation::policy;
use crate::context::Context;
use crate::error::Error;
use crate::releases;
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::DeviceId;
use fleeti_core::rollout::forecast::{Duration, Expected, Facts, Forecast, Group, Known};
use fleeti_core::rollout::gates::{self, Hold, Paths, Penalty, Pin, ReleaseFacts, Source, Target};
use fleeti_core::update::State;
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
    let CreateRollout { release, fleet, plan, .. } = request;
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
        now_s,
    };
    let target = Target { release: release.clone(), source: Source::Rollout };
    let paths = store::release_paths::of_line(&mut connection, &release.line).await?;
    let judge = Judge { target, policy: &policy, paths, now_s };
    let counted = store::forecast::counted(&mut connection, question).await?;
    let waves = match plan {
        Some(plan) => select::all_waves(cx, fleet, plan).await?,
        None => BTreeMap::new(),
    };
    let ids: Vec<&DeviceId> = waves.keys().collect();
    let mut named = Vec::new();
    for ids in ids.chunks(super::CHUNK as usize) {
        named.extend(store::forecast::named(&mut connection, question, ids).await?);
    }
    let active = store::rollouts::active_in(&mut connection, fleet).await?;
    drop(connection);
    // What was measured has the time in which devices waited for windows.
    let windows = policy.windows.clone();
    let measured = if windows.is_empty() {
        store::forecast::durations(cx.db.pool(), fleet).await?
    } else {
        Vec::new()
    };
    let duration = Duration::of(measured);
    let (request, unlisted) = (request.clone(), judge.unlisted(&counted, &named));
    let of_wave = |alike: &Alike| Some((*waves.get(&alike.device)?, judge.expected(alike)));
    let listed: Vec<_> = named.iter().filter_map(of_wave).collect();
    let floors = counted.iter().map(|alike| judge.floors(alike)).max().unwrap_or(0);
    // A rollout of a large fleet is a hundred thousand steps.
    let found = tokio::task::spawn_blocking(move || {
        let CreateRollout { release, fleet, plan, urgent } = &request;
        let (plan, is_urgent) = (plan.as_ref(), urgent.is_some());
        let facts = Facts {
            release,
            plan,
            is_urgent,
            unlisted,
            listed,
            now_s,
            duration,
            floors,
            windows: &windows,
        };
        Forecast::of(fleet, &facts)
    });
    let found = found.await.map_err(Error::internal)?;
    Ok(Forecast { active: active.map(|active| active.id), ..found })
}

/// What devices are compared with.
struct Judge<'a> {
    target: Target,
    policy: &'a Policy,
    paths: Paths,
    now_s: u64,
}

impl Judge<'_> {
    /// What the gates say of such devices. The pauses and holds of `alike` have not ended.
    fn expected(&self, alike: &Alike) -> Expected {
        let words = String::new;
        let known = gates::Known {
            is_revoked: false,
            running: alike.running.clone(),
            desired: None,
            update: State::Idle,
            // The plan has the windows, and asks no device.
            waits: None,
            time_zone: None,
            skip_windows_until_s: None,
            urgent_until_s: None,
            hold: alike.is_held.then(|| Hold { reason: words(), until_s: None }),
            pin: alike.pin.clone().map(|release| Pin {
                release,
                reason: words(),
                downgrade: false,
            }),
            penalty: alike.penalty.clone().map(|version| Penalty {
                version,
                failures: 1,
                until_s: None,
            }),
            level: alike.found.level_for_update(self.now_s),
        };
        let facts = gates::Facts {
            now_s: self.now_s,
            is_online: None,
            known: &known,
            target: Some(&self.target),
            // A release that is revoked, or not proved, is refused before.
            release: ReleaseFacts { is_good: true, is_proved: true },
            policy: self.policy,
            paths: &self.paths,
            part: None,
        };
        let Alike { is_offline, has_rolled_back, .. } = *alike;
        Known { facts, is_offline, has_rolled_back }.expected()
    }

    /// Number of floors on the way of such devices.
    fn floors(&self, alike: &Alike) -> usize {
        let to = &self.target.release;
        let running = alike.running.as_ref().filter(|running| running.line == to.line);
        running.map_or(0, |running| self.paths.floors(Some(&running.version), &to.version))
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
}
