//! What reports, appraisals and telemetry add to the history of devices.

use crate::context::Context;
use crate::error::Error;
use crate::events::{Appraised, Caused, DeviceReport, DomainEvent, FleetAppraisal};
use crate::reaction::Reacting;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::device::Telemetry;
use fleeti_core::wire::history::Sample;
use fleeti_store::{self as store, Tx, history::Known};

/// Largest load that is kept, thousandths: a device reports what it likes.
const LOAD_MAX: u64 = 10_000_000;

/// Reacts to events of other areas.
pub(crate) fn react<'a>(
    cx: &'a Context,
    tx: &'a mut Tx<'_>,
    event: &'a DomainEvent,
) -> Reacting<'a> {
    Box::pin(async move {
        match event {
            DomainEvent::DeviceReported(report) => reported(cx, tx, report).await?,
            DomainEvent::DevicesAppraised(appraisal) => appraised(cx, tx, appraisal).await?,
            DomainEvent::DeviceRevoked { .. }
            | DomainEvent::ReleaseRevoked { .. }
            | DomainEvent::RolloutFinished { .. }
            | DomainEvent::AlertsTold { .. } => {}
        }
        Ok(Caused::default())
    })
}

/// A report: one row if the device runs another release or booted, otherwise none.
async fn reported(cx: &Context, tx: &mut Tx<'_>, sent: &DeviceReport) -> Result<(), Error> {
    let DeviceReport { fleet, device, report, .. } = sent;
    let running = report.boot.running.to_string();
    let boot_id: String = report.boot.boot_id.chars().take(64).collect();
    let known = Known { fleet, boot: Some((running.as_str(), boot_id.as_str())), level: None };
    store::history::record(tx, device, known, cx.now_s()).await?;
    Ok(())
}

async fn appraised(cx: &Context, tx: &mut Tx<'_>, appraisal: &FleetAppraisal) -> Result<(), Error> {
    let Appraised::Devices(changes) = &appraisal.devices else { return Ok(()) };
    for change in changes.iter().filter(|change| change.before != change.now) {
        let known = Known { fleet: &appraisal.fleet, boot: None, level: Some(change.now) };
        store::history::record(tx, &change.device, known, cx.now_s()).await?;
    }
    Ok(())
}

fn percent(part: u64, total: u64) -> u64 {
    part.saturating_mul(100).checked_div(total).unwrap_or(0).min(100)
}

/// Adds telemetry of a device, in its transaction: one row.
pub async fn telemetry(
    cx: &Context,
    tx: &mut Tx<'_>,
    device: &DeviceId,
    telemetry: &Telemetry,
) -> Result<(), Error> {
    let sample = Sample {
        at_s: cx.now_s(),
        load_milli: telemetry.load_milli.min(LOAD_MAX),
        memory_percent: percent(telemetry.memory_used_kib, telemetry.memory_total_kib),
        data_percent: percent(telemetry.data_used_kib, telemetry.data_total_kib),
    };
    Ok(store::history::add_sample(tx, device, &sample).await?)
}
