//! The overview of the server, and its health checks.

use super::devices::{self, Counts, Filter};
use super::{builds, health, releases, rollouts};
use crate::app::App;
use crate::error::AppError;
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
    /// Numbers of devices by state.
    pub counts: Counts,
    /// All fleets.
    pub fleets: Vec<Fleet>,
    /// The newest rollouts.
    pub rollouts: Vec<RolloutSummary>,
    /// The first devices.
    pub devices: Vec<Device>,
    /// The newest builds.
    pub builds: Vec<Build>,
    /// The newest releases.
    pub releases: Vec<Release>,
}

/// Loads the contents of the overview page.
pub async fn get(app: &App) -> Result<Overview, AppError> {
    Ok(Overview {
        counts: devices::counts(app).await?,
        fleets: devices::fleets(app).await?,
        rollouts: rollouts::summaries(app, ROLLOUTS).await?,
        devices: devices::page(app, Filter::All, "", DEVICES).await?,
        builds: builds::newest(app, ROWS).await?,
        releases: releases::newest(app, ROWS).await?,
    })
}

/// Checks that the server lacks nothing, also nothing that it can run without. The server still
/// serves devices if this fails, so a load balancer must not use it.
///
/// # Errors
/// [`Code::Unavailable`] with all reasons.
pub async fn ready(app: &App) -> Result<(), AppError> {
    store::releases::newest(app.db.pool(), 1).await?;
    let missing = health::warnings(app);
    if missing.is_empty() {
        return Ok(());
    }
    Err(AppError::new(Code::Unavailable, missing.join("; ")))
}

/// Checks that the server can serve devices.
pub async fn healthy(app: &App) -> Result<(), AppError> {
    Ok(store::releases::newest(app.db.pool(), 1).await.map(drop)?)
}
