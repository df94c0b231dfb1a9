//! The way back: a rollout of the release that the devices of another one ran before.

use crate::clock::new_id;
use crate::error::Error;
use fleeti_store::rollouts::StoredRollout;
use fleeti_store::{self as store, Tx};

/// The rollout that takes the devices of another one back to the release that most of them ran
/// before. `None` if none ran an older release of the line that still counts.
pub(super) async fn of(
    tx: &mut Tx<'_>,
    rollout: &StoredRollout,
    now_s: u64,
) -> Result<Option<StoredRollout>, Error> {
    let (id, release) = (&rollout.id, &rollout.release);
    if rollout.back_of.is_some() {
        return Ok(None);
    }
    let Some(previous) = store::rollout_devices::most_previous(tx, id).await? else {
        return Ok(None);
    };
    let is_older = previous.line == release.line && previous.version < release.version;
    if !is_older || !store::releases::is_good(tx, &previous).await? {
        return Ok(None);
    }
    let back = StoredRollout::ready(new_id("rollout"), rollout.fleet.clone(), previous, now_s);
    Ok(Some(StoredRollout { back_of: Some(id.clone()), ..back }))
}
