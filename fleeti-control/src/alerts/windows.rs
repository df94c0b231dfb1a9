//! The reboot windows of devices silence what an update causes: a device that is away, that changes
//! its release, or that connects again and again. What may be an attack is never silent.

use super::about::About;
use crate::attestation::policy;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::alert::Kind;
use fleeti_core::windows::{Job, Local};
use fleeti_store::{self as store, Tx};

/// Until when the reboot window of a device silences alerts of a kind; `None` outside of it.
pub(super) async fn silenced_until_s(
    cx: &Context,
    tx: &mut Tx<'_>,
    kind: Kind,
    about: About<'_>,
) -> Result<Option<u64>, Error> {
    let of_device = about.fleet().zip(about.device());
    let Some((fleet, device)) = of_device.filter(|_| kind.is_of_reboots()) else {
        return Ok(None);
    };
    let windows = policy::of(cx, fleet).windows;
    if windows.reboot.is_empty() {
        return Ok(None);
    }
    let zone = store::known::time_zone(tx, device).await?;
    let zone = zone.as_deref().unwrap_or("Etc/UTC");
    Ok(windows.lasts_until_s(Job::Reboot, Local { now_s: cx.now_s(), zone }))
}
