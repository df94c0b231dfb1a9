//! Acts as they are stored: only rows whose seal is right, and sealed when they are written.

use super::rights::sees;
use crate::accounts::actor::Actor;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::approval::{self, Event, Rejected, State};
use fleeti_core::strict;
use fleeti_core::wire::approval::GuardedAct;
use fleeti_core::wire::problem::Code;
use fleeti_store::pending_acts::PendingAct;
use fleeti_store::{self as store, Connection, Tx};

/// What a pending act is sealed as.
const SEALED_AS: &str = "pending act";

/// The seal of a row: over everything that decides what is performed, and for whom.
pub(super) fn seal(cx: &Context, row: &PendingAct) -> Result<String, Error> {
    let of = &row.approval;
    let asked = (&of.id, &row.act, &of.act, &of.fleets, &of.reason);
    let who = (&of.requester, &of.via, of.requested_s, of.expires_s);
    let decided = (of.state, &of.decided_by, &row.decided_via, of.decided_s);
    cx.accounts.seal(SEALED_AS, &(asked, who, decided))
}

/// Whether only this server wrote the row.
pub(super) fn is_sealed(cx: &Context, row: &PendingAct) -> Result<bool, Error> {
    Ok(seal(cx, row)? == row.seal)
}

/// A pending act that the actor may see.
pub(super) async fn load(
    cx: &Context,
    connection: &mut Connection,
    by: &Actor,
    id: &str,
) -> Result<PendingAct, Error> {
    let found = store::pending_acts::get(connection, id).await?;
    let row = found.filter(|row| sees(by, &row.approval));
    let row = row.ok_or_else(|| Error::not_found("approval", id))?;
    if is_sealed(cx, &row)? {
        return Ok(row);
    }
    let text = format!("another program changed {id} in the database: it does not count");
    Err(Error::new(Code::Conflict, text).hint("request it again"))
}

/// The act of a row.
pub(super) fn act(row: &PendingAct) -> Result<GuardedAct, Error> {
    strict::from_slice(row.act.as_bytes()).map_err(Error::internal)
}

/// Takes a step and stores it.
pub(super) async fn step(
    cx: &Context,
    tx: &mut Tx<'_>,
    row: &mut PendingAct,
    event: Event,
) -> Result<State, Error> {
    let of = &mut row.approval;
    of.state = approval::step(of.state, event, of.expires_s, cx.now_s())
        .map_err(|Rejected(state)| refused(&of.id, state))?;
    row.seal = seal(cx, row)?;
    store::pending_acts::update(tx, row).await?;
    Ok(row.approval.state)
}

fn refused(id: &str, state: State) -> Error {
    Error::new(Code::Conflict, format!("{id} is {state}")).hint("request the act again")
}
