//! The overview of the server, and its health checks.

use crate::accounts::actor::{Actor, Scope};
use crate::context::Context;
use crate::devices;
use crate::devices::{Counts, Filter};
use crate::error::Error;
use crate::{builds, health, releases, rollouts};
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::api::{Build, Device, Fleet, Release, RolloutSummary};
use fleeti_core::wire::problem::Code;
use fleeti_store as store;

/// Maximum number of devices in the overview.
const DEVICES: u32 = 25;
/// Maximum number of builds, and of releases.
const ROWS: u32 = 5;
/// Maximum number of rollouts.
const ROLLOUTS: u32 = 3;

/// The contents of the overview page.
pub struct Overview {
    /// Why devices cannot connect, or soon no longer can.
    pub problem: Option<Error>,
    /// Numbers of devices by state, for those who may see all fleets.
    pub counts: Option<Counts>,
    /// The fleets that the actor may see.
    pub fleets: Vec<Fleet>,
    /// The newest rollouts.
    pub rollouts: Vec<RolloutSummary>,
    /// The first devices, for those who may see all fleets.
    pub devices: Vec<Device>,
    /// The newest builds.
    pub builds: Vec<Build>,
    /// The newest releases.
    pub releases: Vec<Release>,
}

/// Loads the contents of the overview page.
pub async fn get(cx: &Context, by: &Actor) -> Result<Overview, Error> {
    let (counts, devices) = if by.may(Permission::View, Scope::All) {
        let first = devices::page(cx, by, Filter::All, "", DEVICES).await?;
        (Some(devices::counts(cx).await?), first)
    } else {
        (None, vec![])
    };
    let rollouts = rollouts::summaries(cx, by, ROLLOUTS).await?;
    Ok(Overview {
        problem: ready(cx).await.err(),
        counts,
        fleets: devices::fleets_for(cx, by).await?,
        rollouts,
        devices,
        builds: builds::newest(cx, ROWS).await?,
        releases: releases::newest(cx, ROWS).await?,
    })
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
