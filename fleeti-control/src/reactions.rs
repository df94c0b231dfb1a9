//! Which areas react to domain events of others, to which kinds, and in which order.

use crate::alerts;
use crate::context::Context;
use crate::events::Kind;
use crate::history;
use crate::reaction::{Reaction, has_circle};
use crate::{channels, rollouts};

/// All reactions. A failure is noted before the rollout withdraws the offer that failed, and a fleet
/// converges after its rollout has decided. No area reacts to [`Kind::AlertsTold`]: it is for the
/// outbox.
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
    Reaction {
        area: "alerts",
        to: &[Kind::DeviceReported, Kind::DevicesAppraised, Kind::DeviceRevoked],
        causes: &[],
        react: alerts::react,
    },
    Reaction {
        area: "history",
        to: &[Kind::DeviceReported, Kind::DevicesAppraised],
        causes: &[],
        react: history::react,
    },
];

const _: () = assert!(!has_circle(REACTIONS), "reactions to domain events form a circle");
