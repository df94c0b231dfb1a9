//! Pauses all rollouts at once.

use super::{act, summary};
use crate::accounts::actor::Actor;
use crate::context::Context;
use crate::error::Error;
use crate::rollouts::checked_reason;
use fleeti_core::foreign::Foreign;
use fleeti_core::rollout::Phase;
use fleeti_core::rollout::header;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::api::{PAUSES_MAX, PauseRollouts, PausedRollouts};
use fleeti_core::wire::problem::Code;
use fleeti_store as store;

/// Pauses every rollout that runs, of the fleets that the actor may roll out to. Each is a
/// transaction with an audit entry of its own: one that cannot be paused keeps none of the others
/// running.
///
/// # Errors
/// [`Code::Invalid`] for a reason that is empty or too long. Rollouts before the error are paused.
pub async fn pause_all(
    cx: &Context,
    by: &Actor,
    request: &PauseRollouts,
) -> Result<PausedRollouts, Error> {
    let reason = Foreign::log(checked_reason(&request.reason)?).to_string();
    let fleets = by.fleets(Permission::Rollout);
    let going = store::rollouts::going(cx.db.pool(), fleets.as_deref(), PAUSES_MAX).await?;
    let mut all = PausedRollouts::default();
    for rollout in going {
        let id = &rollout.id;
        let entry = by.act("rollout.pause", format!("{id} {reason}"));
        match act(cx, id, header::Event::Pause, entry).await {
            Ok(paused) => all.paused.push(paused),
            // It is not running: not yet, or not any more.
            Err(e) if e.code() == Code::Conflict => {
                let now = summary(cx, id).await?;
                if will_offer(now.phase) {
                    all.left.push(now);
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}

/// Whether a rollout offers its release, or will without an operator.
fn will_offer(phase: Phase) -> bool {
    match phase {
        Phase::Ready | Phase::Starting | Phase::Running => true,
        Phase::Pausing
        | Phase::Paused
        | Phase::Succeeded
        | Phase::Failed
        | Phase::Aborting
        | Phase::Aborted => false,
    }
}
