//! The overview of the server, and its health checks.

use crate::accounts::actor::{Actor, Scope};
use crate::board::{self, Board};
use crate::context::Context;
use crate::devices::Filter;
use crate::error::Error;
use crate::{alerts, builds, devices, doctor, health, releases, rollouts};
use fleeti_core::alert::state::State;
use fleeti_core::doctor::{Stage, stage};
use fleeti_core::rollout::Phase;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::alerts::{Alert, AlertQuery};
use fleeti_core::wire::api::{Build, BuildPhase, Device, Release, RolloutSummary};
use fleeti_core::wire::doctor::Ending;
use fleeti_core::wire::problem::Code;
use fleeti_store as store;
use std::cmp::Reverse;

/// An organisation with at most this many devices sees them in the overview.
const DEVICES: u32 = 10;
/// Maximum number of builds, and of releases.
const ROWS: u32 = 5;
/// Number of rollouts that are looked at, and maximum number of those that have ended in the overview.
const ROLLOUTS: u32 = 50;
const ENDED: usize = 3;
/// Maximum number of alerts, and of fleets whose alerts are read.
const ALERTS: u32 = 6;
const FLEETS: usize = 10;

/// The contents of the overview page.
pub struct Overview {
    /// Why devices cannot connect, or soon no longer can.
    pub problem: Option<Error>,
    /// Number of devices with an open session, for those who may see all fleets.
    pub online: Option<usize>,
    /// Numbers of devices of the fleets that the actor may see.
    pub board: Board,
    /// Rollouts that have not ended.
    pub active: Vec<RolloutSummary>,
    /// The newest rollouts that have ended.
    pub ended: Vec<RolloutSummary>,
    /// Alerts that nobody has acknowledged, newest first.
    pub alerts: Vec<Alert>,
    /// What ends soon, and how soon.
    pub endings: Vec<(Ending, Stage)>,
    /// All devices of a small organisation, for those who may see all fleets.
    pub devices: Vec<Device>,
    /// The newest builds.
    pub builds: Vec<Build>,
    /// Those of them that wait for signatures.
    pub unsigned: Vec<Build>,
    /// The newest releases.
    pub releases: Vec<Release>,
    /// The newest release, if it is in no rollout.
    pub idle_release: Option<Release>,
}

/// Loads the contents of the overview page.
pub async fn get(cx: &Context, by: &Actor) -> Result<Overview, Error> {
    let board = board::get(cx, by).await?;
    let sees_all = by.may(Permission::View, Scope::All);
    let devices = match sees_all && board.total.devices <= u64::from(DEVICES) {
        true => devices::page(cx, by, Filter::All, "", DEVICES).await?,
        false => vec![],
    };
    let rollouts = rollouts::summaries(cx, by, ROLLOUTS).await?;
    let releases = releases::newest(cx, ROWS).await?;
    let builds = builds::newest(cx, ROWS).await?;
    let newest = releases.first().filter(|release| release.revoked_s.is_none());
    let is_idle = |release: &&Release| rollouts.iter().all(|r| r.release != release.name);
    let idle_release = newest.filter(is_idle).cloned();
    let (active, mut ended): (Vec<_>, Vec<_>) =
        rollouts.into_iter().partition(|r| !r.phase.is_terminal() && r.phase != Phase::Ready);
    ended.truncate(ENDED);
    Ok(Overview {
        problem: ready(cx).await.err(),
        online: sees_all.then(|| cx.hub.online()),
        alerts: open_alerts(cx, by, &board).await?,
        endings: if sees_all { soon(cx) } else { vec![] },
        board,
        active,
        ended,
        devices,
        unsigned: unsigned(cx, &builds).await?,
        builds,
        releases,
        idle_release,
    })
}

/// Alerts that nobody has acknowledged, newest first.
async fn open_alerts(cx: &Context, by: &Actor, board: &Board) -> Result<Vec<Alert>, Error> {
    let fleets = match by.may(Permission::View, Scope::All) {
        true => vec![None],
        false => board.fleets.iter().take(FLEETS).map(|(fleet, _)| Some(fleet.clone())).collect(),
    };
    let mut all = Vec::new();
    for fleet in fleets {
        let query = AlertQuery { fleet, all: false, after: None, limit: Some(4 * ALERTS) };
        all.extend(alerts::page(cx, by, &query).await?);
    }
    all.retain(|alert| alert.state == State::Open);
    all.sort_by_key(|alert| Reverse((alert.severity, alert.since_s)));
    all.truncate(ALERTS as usize);
    Ok(all)
}

/// What ends soon, the next end first.
fn soon(cx: &Context) -> Vec<(Ending, Stage)> {
    let now_s = cx.now_s();
    let near = |ending: Ending| stage(&ending, now_s).map(|stage| (ending, stage));
    let mut all: Vec<_> = doctor::endings(cx).into_iter().filter_map(near).collect();
    all.sort_by_key(|(ending, _)| ending.ends_s);
    all
}

/// Those of these builds that have succeeded and whose release does not exist.
async fn unsigned(cx: &Context, builds: &[Build]) -> Result<Vec<Build>, Error> {
    let mut waiting = Vec::new();
    for build in builds {
        let is_built = build.phase == BuildPhase::Succeeded && build.signing.is_none();
        if !is_built {
            continue;
        }
        match releases::get(cx, &build.release).await {
            Ok(_) => {}
            Err(e) if e.code() == Code::NotFound => waiting.push(build.clone()),
            Err(e) => return Err(e),
        }
    }
    Ok(waiting)
}

/// Checks that the server lacks nothing, also nothing that it can run without. The server still
/// serves devices if this fails, so a load balancer must not use it.
///
/// # Errors
/// [`Code::Unavailable`] with all reasons.
pub async fn ready(cx: &Context) -> Result<(), Error> {
    store::releases::newest(cx.db.pool(), 1).await?;
    let missing = health::warnings(cx);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::Unavailable, missing.join("; ")))
}

/// Checks that the server can serve devices.
pub async fn healthy(cx: &Context) -> Result<(), Error> {
    Ok(store::releases::newest(cx.db.pool(), 1).await.map(drop)?)
}
