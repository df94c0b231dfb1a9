//! Numbers of devices by fleet, for the overview and the pages of fleets.
//!
//! The database reads every device for them, so they are kept, and shared by all readers: counting
//! takes at most a fiftieth of the time, however many devices there are and however often
//! people look. With few devices the numbers are always new.

pub(crate) mod state;

pub use self::state::Numbers;

use self::state::{Fleets, Kept};
use crate::accounts::actor::{Actor, Scope};
use crate::context::{Context, ContextRef};
use crate::error::Error;
use fleeti_core::id::FleetId;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::attestation::FRESH_S;
use fleeti_store as store;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A reader waits for new numbers if the last ones took at most this time; else they are made in the
/// background, and the reader gets the last ones.
const QUICK: Duration = Duration::from_millis(20);
/// The numbers of the fleets that an actor may see.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// All of them together.
    pub total: Numbers,
    /// Each of them, by name.
    pub fleets: Vec<(FleetId, Numbers)>,
}

/// The numbers of the fleets that the actor may see.
///
/// # Errors
/// When the database does not answer.
pub async fn get(cx: &Context, by: &Actor) -> Result<Board, Error> {
    let kept = current(cx).await?;
    let mut board = Board::default();
    for (fleet, numbers) in &kept.fleets {
        if by.may(Permission::View, Scope::Fleet(fleet)) {
            board.total.add(numbers);
            board.fleets.push((fleet.clone(), numbers.clone()));
        }
    }
    Ok(board)
}

/// The numbers of a fleet. A fleet that was made since the numbers were has none yet.
///
/// # Errors
/// When the database does not answer.
pub async fn of_fleet(cx: &Context, fleet: &FleetId) -> Result<Numbers, Error> {
    Ok(current(cx).await?.fleets.get(fleet).cloned().unwrap_or_default())
}

async fn current(cx: &Context) -> Result<Arc<Kept>, Error> {
    let state = &cx.figures.board;
    match state.kept.load_full() {
        Some(kept) if kept.is_new() => Ok(kept),
        Some(kept) if kept.took > QUICK && !kept.is_old() => {
            state.wanted.notify_one();
            Ok(kept)
        }
        Some(_) | None => make(cx).await,
    }
}

/// Makes new numbers. One at a time: the others wait, and get the same.
async fn make(cx: &Context) -> Result<Arc<Kept>, Error> {
    let state = &cx.figures.board;
    let _making = state.making.lock().await;
    if let Some(kept) = state.kept.load_full().filter(|kept| kept.is_new()) {
        return Ok(kept);
    }
    let started = Instant::now();
    let fleets = count(cx).await?;
    let kept = Arc::new(Kept { made: Instant::now(), took: started.elapsed(), fleets });
    state.kept.store(Some(Arc::clone(&kept)));
    Ok(kept)
}

async fn count(cx: &Context) -> Result<Fleets, Error> {
    let (pool, mut fleets) = (cx.db.pool(), Fleets::new());
    for row in store::board::releases(pool).await? {
        let numbers = fleets.entry(row.fleet).or_default();
        numbers.devices += row.devices;
        *numbers.of_update(&row.update) += row.devices;
        *numbers.releases.entry(row.release).or_default() += row.devices;
    }
    for (fleet, update, devices) in store::board::alarms(pool).await? {
        let numbers = fleets.entry(fleet).or_default();
        let others = numbers.of_update(&update);
        // Devices may have changed between the two statements.
        *others = others.saturating_sub(devices);
        numbers.alarms += devices;
    }
    for (fleet, devices) in store::board::drifting(pool).await? {
        fleets.entry(fleet).or_default().drifting = devices;
    }
    for (fleet, devices) in store::board::revoked(pool).await? {
        fleets.entry(fleet).or_default().revoked = devices;
    }
    let fresh_after_s = cx.now_s().saturating_sub(FRESH_S);
    for (fleet, level, devices) in store::board::levels(pool, fresh_after_s).await? {
        fleets.entry(fleet).or_default().levels[level as usize] += devices;
    }
    Ok(fleets)
}

/// Makes new numbers when a reader got old ones, until the task is aborted.
pub(crate) async fn run(cx: ContextRef) {
    loop {
        cx.figures.board.wanted.notified().await;
        if let Err(e) = make(&cx).await {
            tracing::error!("the numbers of the overview stay: {}", e.for_log());
        }
    }
}
