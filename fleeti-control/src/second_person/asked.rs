//! Requests: what is asked for becomes an act in which nothing is looked up again.

use super::{kept, rights};
use crate::accounts::actor::Actor;
use crate::accounts::independence;
use crate::clock::new_id;
use crate::context::Context;
use crate::error::Error;
use crate::{bulk, rollouts, secrets};
use fleeti_core::approval::State;
use fleeti_core::canonical;
use fleeti_core::foreign::Foreign;
use fleeti_core::wire::approval::{
    Approval, AskedAct, GuardedAct, REASON_MAX, RequestApproval, VALID_S, VALID_S_MAX, WAITING_MAX,
};
use fleeti_core::wire::labels::is_line;
use fleeti_core::wire::problem::Code;
use fleeti_store as store;
use fleeti_store::pending_acts::PendingAct;

/// What became of an act that may need a second person.
#[derive(Debug)]
pub enum Submitted<T> {
    /// It needed none, and is done.
    Done(T),
    /// It waits for one.
    Waits(Box<Approval>),
}

/// Does an act directly; if it needs a second person and there is a reason, requests the approval.
///
/// # Errors
/// Those of the act, and of [`request`].
pub async fn or_request<T>(
    cx: &Context,
    by: &Actor,
    (act, reason): (AskedAct, &str),
    directly: impl Future<Output = Result<T, Error>>,
) -> Result<Submitted<T>, Error> {
    match directly.await {
        Ok(done) => Ok(Submitted::Done(done)),
        Err(e) if e.code() == Code::SecondPerson && !reason.trim().is_empty() => {
            let asked = RequestApproval { act, reason: reason.trim().to_owned(), valid_s: None };
            Ok(Submitted::Waits(Box::new(request(cx, by, &asked).await?)))
        }
        Err(e) => Err(e),
    }
}

/// Requests the approval of a second person.
///
/// # Errors
/// [`Code::Invalid`] for a reason or validity that is refused, and as the act itself;
/// [`Code::Forbidden`] without what the act needs, and for `bootstrap`; [`Code::Conflict`] for an account with too many
/// acts that wait.
pub async fn request(
    cx: &Context,
    by: &Actor,
    request: &RequestApproval,
) -> Result<Approval, Error> {
    let valid_s = check(request)?;
    independence::names_somebody(by)?;
    let act = resolved(cx, by, &request.act).await?;
    rights::authorize(cx, by, &act).await?;
    let (_, fleets) = rights::needed(cx, &act).await?;
    let now_s = cx.now_s();
    let approval = Approval {
        id: new_id("approval"),
        act: act.to_string(),
        fleets,
        requester: by.account().parse().map_err(Error::internal)?,
        via: by.via().to_string(),
        reason: request.reason.clone(),
        requested_s: now_s,
        expires_s: now_s + u64::from(valid_s),
        state: State::Waiting,
        decided_by: None,
        decided_s: None,
        note: String::new(),
        outcome: String::new(),
    };
    let text = canonical::to_vec(&act).map_err(Error::internal)?;
    let text = String::from_utf8(text).map_err(Error::internal)?;
    let mut row = PendingAct { approval, decided_via: None, act: text, seal: String::new() };
    row.seal = kept::seal(cx, &row)?;
    let mut tx = cx.db.write().await?;
    if store::pending_acts::waiting_of(&mut tx, &row.approval.requester).await? >= WAITING_MAX {
        let text = format!("{WAITING_MAX} acts of {} wait already", row.approval.requester);
        return Err(
            Error::new(Code::Conflict, text).hint("withdraw one with `fleeti approval deny`")
        );
    }
    store::pending_acts::insert(&mut tx, &row).await?;
    let Approval { id, act, reason, .. } = &row.approval;
    let subject = format!("{id} {act}: {}", Foreign::log(reason));
    cx.audit(&mut tx, by.act("approval.request", subject)).await?;
    tx.commit().await?;
    Ok(row.approval)
}

/// Checks the form of a request. Returns its validity in seconds.
fn check(request: &RequestApproval) -> Result<u32, Error> {
    if !is_line(&request.reason, REASON_MAX) {
        let text = format!("reason: must be one line of 1 to {REASON_MAX} characters");
        return Err(Error::new(Code::Invalid, text));
    }
    let valid_s = request.valid_s.unwrap_or(VALID_S);
    if !(60..=VALID_S_MAX).contains(&valid_s) {
        let text = format!("valid_s is {valid_s}, must be 60 to {VALID_S_MAX}");
        return Err(Error::new(Code::Invalid, text));
    }
    Ok(valid_s)
}

async fn resolved(cx: &Context, by: &Actor, asked: &AskedAct) -> Result<GuardedAct, Error> {
    let act = match asked.clone() {
        AskedAct::RevokeDevices { request } => {
            let (devices, reason) = bulk::to_revoke(cx, by, &request).await?;
            GuardedAct::RevokeDevices { devices, filter: request.filter, reason }
        }
        AskedAct::StartRollout { request } => GuardedAct::StartRollout { request },
        AskedAct::SupersedeRollout { rollout, request } => {
            GuardedAct::SupersedeRollout { rollout, request }
        }
        AskedAct::NextWave { rollout, request } => {
            rollouts::checked_reason(&request.reason)?;
            let (wave, _) = rollouts::next_wave(cx, &rollout).await?;
            GuardedAct::NextWave { rollout, wave, request }
        }
        AskedAct::PinFleet { fleet, request } => GuardedAct::PinFleet { fleet, request },
        AskedAct::OrderUpdates { device, request } => GuardedAct::OrderUpdates { device, request },
        AskedAct::SetReleasePath { release, path } => GuardedAct::SetReleasePath { release, path },
        AskedAct::ShowRecoveryKey { device, request } => {
            secrets::checked_reason(&request.reason)?;
            // Before the key is looked up: whether there is one is not for everybody.
            let unknown = GuardedAct::ShowRecoveryKey { device, request, kept_s: 0 };
            rights::authorize(cx, by, &unknown).await?;
            with_key(cx, unknown).await?
        }
        AskedAct::SetPolicy { policy } => GuardedAct::SetPolicy { policy },
    };
    Ok(act)
}

/// Names the key that is shown.
async fn with_key(cx: &Context, act: GuardedAct) -> Result<GuardedAct, Error> {
    let GuardedAct::ShowRecoveryKey { device, request, .. } = act else { return Ok(act) };
    let kept_s = secrets::recovery_key_status(cx, &device).await?.kept_s;
    Ok(GuardedAct::ShowRecoveryKey { device, request, kept_s })
}
