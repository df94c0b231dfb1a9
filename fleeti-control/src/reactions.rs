//! Which areas react to domain events of others, to which kinds, and in which order.

use crate::context::Context;
use crate::events::Kind;
use crate::reaction::{Reaction, has_circle};
use crate::rollouts;

/// All reactions. No area reacts to [`Kind::RolloutFinished`]: it is for the outbox.
pub(crate) const REACTIONS: &[Reaction<Context>] = &[Reaction {
    area: "rollouts",
    to: &[Kind::DeviceReported, Kind::DevicesAppraised, Kind::DeviceRevoked, Kind::ReleaseRevoked],
    causes: &[Kind::RolloutFinished],
    react: rollouts::react,
}];

const _: () = assert!(!has_circle(REACTIONS), "reactions to domain events form a circle");
