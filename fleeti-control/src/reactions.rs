//! Which areas react to domain events of others, to which kinds, and in which order.

use crate::context::Context;
use crate::events::Kind;
use crate::reaction::{Reaction, has_circle};
use crate::{channels, rollouts};

/// All reactions. A failure is noted before the rollout withdraws the offer that failed, and a fleet
/// converges after its rollout has decided.
pub(crate) const REACTIONS: &[Reaction<Context>] = &[
    Reaction {
        area: "channels",
        to: &[Kind::DeviceReported],
        causes: &[],
        react: channels::note_failure,
    },
    Reaction {
        area: "rollouts",
        to: &[
            Kind::DeviceReported,
            Kind::DevicesAppraised,
            Kind::DeviceRevoked,
            Kind::ReleaseRevoked,
        ],
        causes: &[Kind::RolloutFinished],
        react: rollouts::react,
    },
    Reaction {
        area: "channels",
        to: &[Kind::DeviceReported, Kind::DevicesAppraised, Kind::RolloutFinished],
        causes: &[],
        react: channels::react,
    },
];

const _: () = assert!(!has_circle(REACTIONS), "reactions to domain events form a circle");
