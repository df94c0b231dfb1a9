//! Which areas react to domain events of others, in this order.

use crate::context::Reaction;
use crate::rollouts;

/// All reactions.
pub(crate) const REACTIONS: &[Reaction] = &[rollouts::react];
