//! Changes for clients that watch: what is stored is a record of the outbox, and can be read again
//! from a position on. What only passes by (telemetry, connections of devices, evidence without
//! another level, progress of builds) is told once ([`Context::publish_unstored`]).

pub(crate) mod fleets;
mod position;
pub(crate) mod record;
pub mod streams;
pub(crate) mod tail;

pub use position::Position;
pub use tail::{PAGE, Recorded};

use crate::accounts::actor::{Actor, Scope};
use crate::context::Context;
use crate::error::Error;
use crate::{devices, rollouts};
use fleeti_core::id::FleetId;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::api::Event;
use fleeti_store::domain_events;
use fleets::Object;

/// Where a client begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// The position after which it gets every change.
    pub position: Position,
    /// Whether it missed changes that the outbox does not have any more, or named a position that
    /// the outbox never had.
    pub has_gap: bool,
}

/// Where a client continues that got the event `last`, or begins that got none. Any text is
/// accepted: one that is no position of the outbox is a gap.
pub async fn begin(cx: &Context, last: Option<&str>) -> Result<Begun, Error> {
    let pool = cx.db.pool();
    if let Some(known) = last.and_then(|text| text.parse().ok())
        && is_kept(cx, known).await?
    {
        return Ok(Begun { position: known, has_gap: false });
    }
    let newest = domain_events::newest(pool).await?;
    let position = newest.map_or(Position::default(), |(number, at_s)| Position { number, at_s });
    Ok(Begun { position, has_gap: last.is_some() })
}

/// Whether the outbox has this record, and so every later one.
async fn is_kept(cx: &Context, position: Position) -> Result<bool, Error> {
    let pool = cx.db.pool();
    if position == Position::default() {
        // Before the first record: nothing may have been deleted.
        let oldest = domain_events::after(pool, 0, 1).await?;
        return Ok(oldest.first().is_none_or(|record| record.number == 1));
    }
    Ok(domain_events::at_s(pool, position.number).await? == Some(position.at_s))
}

/// Up to [`PAGE`] records after a position, oldest first.
pub async fn after(cx: &Context, position: Position) -> Result<Vec<Recorded>, Error> {
    cx.tail.after((cx.db.pool(), &cx.fleets), position).await
}

/// Whether an actor may learn of a change: if it may read what changed, as things are now.
pub async fn may_see(cx: &Context, by: &Actor, change: &Event) -> Result<bool, Error> {
    if by.may(Permission::View, Scope::All) {
        return Ok(true);
    }
    let fleet = match change {
        Event::Device { id } => fleet_of(cx, Object::Device(id.clone())).await?,
        Event::Rollout { id } => fleet_of(cx, Object::Rollout(id.clone())).await?,
        Event::Fleet { name } => Some(name.clone()),
        Event::Build { .. }
        | Event::BuildLog { .. }
        | Event::Profile { .. }
        | Event::Release { .. } => return Ok(by.may(Permission::View, Scope::Shared)),
        // Without content: the list of alerts has those of the actor's fleets.
        Event::Alerts => return Ok(by.may_somewhere(Permission::View)),
    };
    Ok(fleet.is_some_and(|fleet| by.may(Permission::View, Scope::Fleet(&fleet))))
}

async fn fleet_of(cx: &Context, object: Object) -> Result<Option<FleetId>, Error> {
    let look = async |object: &Object| match object {
        Object::Device(id) => devices::fleet_of(cx, id).await,
        Object::Rollout(id) => rollouts::fleet_of(cx, id).await,
    };
    cx.fleets.of(object, look).await
}
