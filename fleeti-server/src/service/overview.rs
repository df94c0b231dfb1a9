//! Everything at one glance.

use super::devices::{self, Counts, Filter};
use super::{builds, releases, rollouts};
use crate::app::{App, now_s};
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
///
/// # Errors
/// When the database does not answer.
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

/// A list that ends within this time was not made again as it should have been.
const LIST_S_MIN: u64 = 12 * 3600;

/// That the server can work, and goes on to.
///
/// # Errors
/// When the database does not answer; [`Code::Unavailable`] when the revocation list is about to end: no device can
/// connect then.
pub async fn ready(app: &App) -> Result<(), AppError> {
    db::releases::newest(app.db.pool(), 1).await?;
    let left_s = app.tls.list_ends_s().saturating_sub(now_s());
    if left_s < LIST_S_MIN {
        let text = format!("the devices' revocation list ends in {} min and was not made again", left_s / 60);
        return Err(AppError::new(Code::Unavailable, text).hint("start fleeti-signer, or look into its log"));
    }
    Ok(())
}
