//! How an area reacts to domain events of others: to which kinds, and which kinds that may cause.
//!
//! INVARIANT: reactions form no circle. The table says which kinds a reaction may cause, the
//! compiler checks the table ([`has_circle`]), [`Reaction::run`] refuses a kind that the table does
//! not list, and [`check_may_emit`] an event that is emitted past the table.

use crate::error::Error;
use crate::events::{Caused, DomainEvent, Kind};
use fleeti_store::Tx;
use std::pin::Pin;

/// What an area does in the transaction of an event. `C` is the context.
pub(crate) type React<C> = for<'a, 't> fn(&'a C, &'a mut Tx<'t>, &'a DomainEvent) -> Reacting<'a>;
/// A reaction that is running.
pub(crate) type Reacting<'a> = Pin<Box<dyn Future<Output = Result<Caused, Error>> + Send + 'a>>;

/// The reaction of an area.
pub(crate) struct Reaction<C> {
    /// The area.
    pub(crate) area: &'static str,
    /// The kinds to which it reacts.
    pub(crate) to: &'static [Kind],
    /// The kinds that its reactions may cause.
    pub(crate) causes: &'static [Kind],
    /// What it does.
    pub(crate) react: React<C>,
}

tokio::task_local! {
    /// The area that is reacting.
    static REACTING: &'static str;
}

impl<C> Reaction<C> {
    /// Reacts to an event.
    pub(crate) async fn run(
        &self,
        cx: &C,
        tx: &mut Tx<'_>,
        event: &DomainEvent,
    ) -> Result<Caused, Error> {
        self.checked(REACTING.scope(self.area, (self.react)(cx, tx, event)).await?)
    }

    fn checked(&self, caused: Caused) -> Result<Caused, Error> {
        match caused.events.iter().find(|event| !self.causes.contains(&event.kind())) {
            None => Ok(caused),
            Some(event) => Err(Error::internal(format!(
                "the reaction of {} caused {:?}, which the table of reactions does not list",
                self.area,
                event.kind()
            ))),
        }
    }
}

/// Refuses an event that an area emits while it reacts to another one.
///
/// # Errors
/// [`Code::Internal`](fleeti_core::wire::problem::Code::Internal).
pub(crate) fn check_may_emit(kind: Kind) -> Result<(), Error> {
    match REACTING.try_with(|area| *area) {
        Err(_) => Ok(()),
        Ok(area) => Err(Error::internal(format!(
            "{area} emitted {kind:?} in a reaction, and must return it instead"
        ))),
    }
}

/// Whether an event can cause another one of its kind, over any number of reactions.
pub(crate) const fn has_circle<C>(reactions: &[Reaction<C>]) -> bool {
    // For each kind, the set of kinds that it can cause: one bit for each.
    let mut caused = [0_u32; Kind::COUNT];
    let mut round = 0;
    while round < Kind::COUNT {
        let mut i = 0;
        while i < reactions.len() {
            let (to, causes) = (reactions[i].to, reactions[i].causes);
            let mut j = 0;
            while j < to.len() * causes.len() {
                let (from, next) = (to[j / causes.len()], causes[j % causes.len()]);
                caused[from as usize] |= 1 << next as u32 | caused[next as usize];
                j += 1;
            }
            i += 1;
        }
        round += 1;
    }
    let mut kind = 0;
    while kind < Kind::COUNT {
        if caused[kind] & (1 << kind) != 0 {
            return true;
        }
        kind += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::After;
    use Kind::{DeviceReported, DeviceRevoked, DevicesAppraised, ReleaseRevoked, RolloutFinished};
    use fleeti_core::wire::problem::Code;

    fn no_reaction<'a>(_: &'a (), _: &'a mut Tx<'_>, _: &'a DomainEvent) -> Reacting<'a> {
        Box::pin(async { Ok(Caused::default()) })
    }

    const fn reaction(to: &'static [Kind], causes: &'static [Kind]) -> Reaction<()> {
        Reaction { area: "planted", to, causes, react: no_reaction }
    }

    #[test]
    fn a_circle_of_reactions_is_found() {
        let to_itself = reaction(&[DeviceReported], &[RolloutFinished, DeviceReported]);
        assert!(has_circle(&[to_itself]));
        let there = || reaction(&[DeviceReported, ReleaseRevoked], &[RolloutFinished]);
        let back = || reaction(&[DeviceRevoked, RolloutFinished], &[ReleaseRevoked]);
        assert!(has_circle(&[there(), back()]));
        assert!(has_circle(&[back(), there()]));
        let far = [
            reaction(&[DevicesAppraised], &[DeviceReported]),
            reaction(&[RolloutFinished], &[DeviceRevoked]),
            reaction(&[DeviceReported], &[RolloutFinished]),
            reaction(&[DeviceRevoked], &[DevicesAppraised]),
        ];
        assert!(has_circle(&far));
        assert!(!has_circle(&far[..3]));
        assert!(!has_circle(&[there(), reaction(&[RolloutFinished], &[])]));
        assert!(!has_circle::<()>(&[]));
    }

    fn caused(release: &str) -> Caused {
        let event = DomainEvent::ReleaseRevoked { release: release.parse().unwrap() };
        Caused { after: After::default(), events: vec![event] }
    }

    #[test]
    fn a_reaction_causes_only_what_the_table_lists() {
        let release = "kiosk@1";
        let listed = reaction(&[DeviceReported], &[ReleaseRevoked]);
        assert_eq!(listed.checked(caused(release)).unwrap().events.len(), 1);
        let silent = reaction(&[DeviceReported], &[RolloutFinished]);
        assert_eq!(silent.checked(caused(release)).unwrap_err().code(), Code::Internal);
    }

    #[tokio::test]
    async fn an_area_that_reacts_cannot_emit() {
        check_may_emit(ReleaseRevoked).unwrap();
        let refused = REACTING.scope("planted", async { check_may_emit(ReleaseRevoked) }).await;
        assert_eq!(refused.unwrap_err().code(), Code::Internal);
        check_may_emit(ReleaseRevoked).unwrap();
    }
}
