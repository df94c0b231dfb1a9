//! The header of a rollout: its phase, and how many devices are in each category. It follows the
//! rows of the devices by differences, so that an event costs the same for every size of the fleet.
//!
//! A rollout starts and is aborted in chunks of devices: in between it is
//! [`Phase::Starting`] or [`Phase::Aborting`].

use super::{Category, Counts, Ctx, Phase};

/// Phase and counters of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Phase of the rollout.
    pub phase: Phase,
    /// Number of devices in each category.
    pub counts: Counts,
}

impl Default for Header {
    fn default() -> Self {
        Self { phase: Phase::Ready, counts: Counts::default() }
    }
}

/// What happened to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An operator starts the rollout, for about this many devices.
    Start {
        /// Number of devices in the fleet.
        devices: usize,
    },
    /// A device joined while the rollout starts.
    Added(Category),
    /// All devices have joined.
    Started,
    /// A device changed its category.
    Moved {
        /// The category until now.
        from: Category,
        /// The category from now on.
        to: Category,
    },
    /// An operator aborts the rollout.
    Abort,
    /// All offers of an aborted rollout are withdrawn.
    Withdrawn,
}

impl Event {
    /// The name in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Added(_) => "added",
            Self::Started => "started",
            Self::Moved { .. } => "moved",
            Self::Abort => "abort",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// What the server must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Add the devices of the fleet, in chunks; then [`Event::Started`].
    AddDevices,
    /// Withdraw the offers, in chunks; then [`Event::Withdrawn`].
    WithdrawOffers,
    /// Publish a change event.
    Publish,
}

/// An event that does not apply to a rollout. The header does not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// The phase does not permit the event.
    #[error("{event} does not apply to a rollout that is {phase}")]
    Phase {
        /// The event's name.
        event: &'static str,
        /// The rollout's phase.
        phase: Phase,
    },
    /// The rollout has no devices.
    #[error("the fleet has no devices; enroll one first")]
    NoDevices,
    /// The rollout has too many devices.
    #[error("{devices} devices, expected at most {max}")]
    TooMany {
        /// Number of devices.
        devices: usize,
        /// The limit.
        max: usize,
    },
    /// The counters contradict the rows: no device is in the category that one leaves.
    #[error("no device is counted as {0:?}")]
    Miscounted(Category),
}

/// Applies an event to the header of a rollout.
///
/// # Errors
/// [`Rejected`] if the event does not apply. The caller keeps its header.
pub fn step(
    header: &Header,
    event: Event,
    ctx: &Ctx<'_>,
) -> Result<(Header, Vec<Effect>), Rejected> {
    let rejected = Err(Rejected::Phase { event: event.name(), phase: header.phase });
    match (header.phase, event) {
        (Phase::Ready, Event::Start { devices: 0 }) => Err(Rejected::NoDevices),
        (Phase::Ready, Event::Start { devices }) => {
            fits(devices, ctx)?;
            let header = Header { phase: Phase::Starting, ..*header };
            Ok((header, vec![Effect::AddDevices, Effect::Publish]))
        }
        (Phase::Starting, Event::Added(category)) => {
            fits(header.counts.total + 1, ctx)?;
            Ok((Header { counts: header.counts.added(category), ..*header }, Vec::new()))
        }
        (Phase::Starting, Event::Started) => {
            Ok((ended(Header { phase: Phase::Running, ..*header }), vec![Effect::Publish]))
        }
        (Phase::Starting | Phase::Running, Event::Moved { from, to }) => {
            let counts = header.counts.moved(from, to).ok_or(Rejected::Miscounted(from))?;
            let after = ended(Header { counts, ..*header });
            Ok((after, if after == *header { Vec::new() } else { vec![Effect::Publish] }))
        }
        (Phase::Ready, Event::Abort) => {
            Ok((Header { phase: Phase::Aborted, ..*header }, vec![Effect::Publish]))
        }
        (Phase::Starting | Phase::Running, Event::Abort) => Ok((
            Header { phase: Phase::Aborting, ..*header },
            vec![Effect::WithdrawOffers, Effect::Publish],
        )),
        (Phase::Aborting, Event::Withdrawn) => {
            Ok((Header { phase: Phase::Aborted, ..*header }, vec![Effect::Publish]))
        }
        (
            Phase::Starting
            | Phase::Running
            | Phase::Aborting
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Aborted,
            Event::Start { .. },
        )
        | (
            Phase::Ready
            | Phase::Running
            | Phase::Aborting
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Aborted,
            Event::Added(_) | Event::Started,
        )
        | (
            Phase::Ready | Phase::Aborting | Phase::Succeeded | Phase::Failed | Phase::Aborted,
            Event::Moved { .. },
        )
        | (Phase::Aborting | Phase::Succeeded | Phase::Failed | Phase::Aborted, Event::Abort)
        | (
            Phase::Ready
            | Phase::Starting
            | Phase::Running
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Aborted,
            Event::Withdrawn,
        ) => rejected,
    }
}

fn fits(devices: usize, ctx: &Ctx<'_>) -> Result<(), Rejected> {
    let max = ctx.limits.devices_max;
    if devices > max { Err(Rejected::TooMany { devices, max }) } else { Ok(()) }
}

/// Ends a running rollout if all devices have finished.
fn ended(header: Header) -> Header {
    let Counts { total, succeeded, failed, .. } = header.counts;
    let phase = match header.phase {
        Phase::Running if total > 0 && succeeded == total => Phase::Succeeded,
        Phase::Running if succeeded + failed == total => Phase::Failed,
        Phase::Running
        | Phase::Ready
        | Phase::Starting
        | Phase::Aborting
        | Phase::Succeeded
        | Phase::Failed
        | Phase::Aborted => header.phase,
    };
    Header { phase, ..header }
}

impl Counts {
    /// Number of devices in a category.
    #[must_use]
    pub fn of(&self, category: Category) -> usize {
        match category {
            Category::Failed => self.failed,
            Category::Unconfirmed => self.unconfirmed,
            Category::Moving => self.moving,
            Category::Waiting => self
                .total
                .saturating_sub(self.failed + self.unconfirmed + self.moving + self.succeeded),
            Category::Succeeded => self.succeeded,
        }
    }

    /// The counter of a category; devices that wait are what the others leave of the total.
    fn counter(&mut self, category: Category) -> Option<&mut usize> {
        match category {
            Category::Failed => Some(&mut self.failed),
            Category::Unconfirmed => Some(&mut self.unconfirmed),
            Category::Moving => Some(&mut self.moving),
            Category::Waiting => None,
            Category::Succeeded => Some(&mut self.succeeded),
        }
    }

    fn added(mut self, category: Category) -> Self {
        self.total += 1;
        if let Some(n) = self.counter(category) {
            *n += 1;
        }
        self
    }

    /// `None` if no device is in the category that one leaves.
    fn moved(mut self, from: Category, to: Category) -> Option<Self> {
        if self.of(from) == 0 {
            return None;
        }
        if let Some(n) = self.counter(from) {
            *n -= 1;
        }
        if let Some(n) = self.counter(to) {
            *n += 1;
        }
        Some(self)
    }
}

#[cfg(test)]
mod tests;
