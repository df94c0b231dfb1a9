//! What may be asked for.

use super::{checked_reason, select};
use crate::attestation::policy;
use crate::context::Context;
use crate::error::Error;
use crate::webhooks;
use fleeti_core::id::FleetId;
use fleeti_core::rollout::plan::Plan;
use fleeti_core::wire::api::CreateRollout;
use fleeti_core::wire::problem::Code;
use fleeti_store::{self as store, Connection};

/// Checks what is asked for, whatever is active in the fleet.
pub(super) async fn check(
    cx: &Context,
    tx: &mut Connection,
    request: &CreateRollout,
) -> Result<(), Error> {
    let CreateRollout { release, fleet, plan, urgent } = request;
    if let Some(urgent) = urgent {
        checked_reason(&urgent.reason)?;
    }
    if let Some(plan) = plan {
        check_plan(tx, fleet, plan).await?;
        select::check(cx, tx, fleet, plan).await?;
        if let Some(gate) = &plan.gate {
            webhooks::check_gate(tx, gate).await?;
        }
    }
    let conflict = |text: String| Error::new(Code::Conflict, text);
    if !store::releases::is_good(tx, release).await? {
        return Err(conflict(format!("{release} is revoked"))
            .hint("publish a higher version and roll that out"));
    }
    check_pin(tx, fleet).await?;
    let policy = policy::of(cx, fleet);
    if policy.proved_releases && !store::releases::is_proved(tx, release).await? {
        let text = format!("{release} has no boot proof, which fleet {fleet} requires");
        return Err(conflict(text).hint("roll it out to a fleet that does not require one, then run `fleeti release prove DIR --device DEVICE`"));
    }
    Ok(())
}

/// Checks that a fleet is not pinned.
pub(super) async fn check_pin(tx: &mut Connection, fleet: &FleetId) -> Result<(), Error> {
    let Some(pin) = store::channels::pin(tx, fleet).await? else { return Ok(()) };
    let text = format!("fleet {fleet} is pinned to {}: {}", pin.release, pin.reason);
    Err(Error::new(Code::Conflict, text).hint("end the pin first: `fleeti channel unpin FLEET`"))
}

/// Checks a plan, and that its lists name devices of the fleet.
async fn check_plan(tx: &mut Connection, fleet: &FleetId, plan: &Plan) -> Result<(), Error> {
    plan.check().map_err(|e| Error::new(Code::Invalid, format!("plan: {e}")))?;
    let listed: Vec<_> = plan.listed().collect();
    let found = store::devices::in_fleet(tx, fleet, &listed).await?;
    match listed.iter().find(|device| !found.contains(device.as_str())) {
        None => Ok(()),
        Some(device) => {
            let text = format!("plan: {device} is not a device of fleet {fleet}, or is revoked");
            Err(Error::new(Code::Invalid, text).hint("see `fleeti device list`"))
        }
    }
}
