//! Everything at one glance.

use super::devices::{self, Counts, Filter};
use super::{builds, health, releases, rollouts};
use crate::app::App;
use crate::db;
use crate::error::AppError;
use fleeti_core::wire::api::{Build, Device, Fleet, Release, RolloutSummary};
use fleeti_core::wire::problem::Code;

/// Most devices at a glance.
const DEVICES: u32 = 25;
/// Most builds and releases.
const ROWS: u32 = 5;
/// Most rollouts.
const ROLLOUTS: u32 = 3;

/// What the devices run, and what is on its way to them.
pub struct Overview {
    /// How the devices are.
    pub counts: Counts,
    /// Every fleet.
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

/// What the devices run, and what is on its way to them.
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

/// That the server lacks nothing: what it goes on without is said as well, so that somebody hears
/// of it. Devices are served all the same, so nothing is to be taken out of their way because of
/// it.
///
/// # Errors
/// When the database does not answer; [`Code::Unavailable`] with every reason.
pub async fn ready(app: &App) -> Result<(), AppError> {
    db::releases::newest(app.db.pool(), 1).await?;
    let missing = health::warnings(app);
    if missing.is_empty() {
        return Ok(());
    }
    Err(AppError::new(Code::Unavailable, missing.join("; ")))
}

/// That the server lives.
pub async fn healthy(app: &App) -> Result<(), AppError> {
    db::releases::newest(app.db.pool(), 1).await.map(drop)
}
