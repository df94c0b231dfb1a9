//! Acts that wait for a second person: an account requests one, another person approves or denies
//! it, and exactly what was approved is performed, once. Which acts need that is in
//! [`crate::guard`].
//!
//! Code map: `asked` (a request becomes an act) · `kept` (acts as they are stored) · `rights` (who may
//! decide) · `decide` (approvals, denials) · `perform` (does it) · `expiry` (what time brings).

mod asked;
mod decide;
pub mod expiry;
mod kept;
mod perform;
mod rights;

use crate::accounts::actor::Actor;
use crate::context::Context;
use crate::error::Error;
use crate::guard;
pub use asked::{Submitted, or_request, request};
pub use decide::{approve, collect, deny};
use fleeti_core::approval::State;
use fleeti_core::wire::approval::{Approval, ApprovalDetails, ApprovalPolicy, LIST_MAX};
use fleeti_store as store;

/// Acts that wait, and then the newest others, of those that the actor may see.
///
/// # Errors
/// When the database does not answer.
pub async fn list(cx: &Context, by: &Actor) -> Result<Vec<Approval>, Error> {
    let mut all = store::pending_acts::list(&mut cx.db.reader().await?, LIST_MAX).await?;
    all.retain(|approval| rights::sees(by, approval));
    Ok(all)
}

/// An act with all that is performed, and whether the actor may decide.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound); a conflict if another program
/// changed it in the database.
pub async fn get(cx: &Context, by: &Actor, id: &str) -> Result<ApprovalDetails, Error> {
    let mut reader = cx.db.reader().await?;
    let row = kept::load(cx, &mut reader, by, id).await?;
    let act = kept::act(&row)?;
    let mut why_not = match row.approval.state {
        State::Waiting => rights::objection(cx, &mut reader, &row, by).await?,
        state => Some(format!("it is {state}")),
    };
    drop(reader);
    if why_not.is_none() {
        why_not = rights::authorize(cx, by, &act).await.err().map(|e| e.to_string());
    }
    Ok(ApprovalDetails {
        is_own: row.approval.requester.as_str() == by.account(),
        may_decide: why_not.is_none(),
        why_not,
        act,
        approval: row.approval,
    })
}

/// Which acts need a second person, without fleets that the actor may not see.
///
/// # Errors
/// As [`guard::policy`].
pub async fn policy(cx: &Context, by: &Actor) -> Result<ApprovalPolicy, Error> {
    Ok(guard::seen(by, guard::policy(cx).await?))
}
