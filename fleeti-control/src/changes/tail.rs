//! The newest records of the outbox, read once for all clients that watch.

use super::fleets::Fleets;
use super::position::Position;
use super::record::{CHANGED_MANY, change_of};
use crate::error::Error;
use fleeti_core::wire::api::Event;
use fleeti_store::Pool;
use fleeti_store::domain_events::{self, Record};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// Maximum number of records that a client gets at once.
pub const PAGE: usize = 200;
/// Maximum number of records that are kept in memory.
const KEPT: usize = 1024;

/// A record of the outbox, for clients that watch.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Where it is.
    pub position: Position,
    /// The change; `None` for a record that is no change of an object.
    pub change: Option<Event>,
    /// Whether more devices changed than are named.
    pub are_many: bool,
}

impl From<Record> for Recorded {
    fn from(record: Record) -> Self {
        let position = Position { number: record.number, at_s: record.at_s };
        Self { position, change: change_of(&record), are_many: record.kind == CHANGED_MANY }
    }
}

/// The newest records. Empty until the first client watches.
#[derive(Default)]
pub(crate) struct Tail {
    told: AtomicU64,
    read: Mutex<Read>,
}

/// What was read.
#[derive(Default)]
struct Read {
    /// [`Tail::told`] before it was read.
    told: Option<u64>,
    /// Every record after this number is here.
    after: i64,
    records: VecDeque<Recorded>,
}

impl Tail {
    /// Call this after the commit of records.
    pub fn has_more(&self) {
        self.told.fetch_add(1, Ordering::SeqCst);
    }

    /// Up to [`PAGE`] records after a position, oldest first. Forgets the fleets of what they are
    /// about, if they were read for the first time.
    pub async fn after(
        &self,
        (pool, fleets): (&Pool, &Fleets),
        position: Position,
    ) -> Result<Vec<Recorded>, Error> {
        let forget = |records: &[Recorded]| {
            fleets.forget(records.iter().filter_map(|record| record.change.as_ref()));
        };
        let mut read = self.read.lock().await;
        let told = self.told.load(Ordering::SeqCst);
        if read.told != Some(told) {
            forget(&read.catch_up(pool).await?);
            read.told = Some(told);
        }
        if position.number >= read.after {
            let is_later = |known: &&Recorded| known.position.number > position.number;
            return Ok(read.records.iter().filter(is_later).take(PAGE).cloned().collect());
        }
        drop(read);
        let records = page(pool, position.number, PAGE).await?;
        forget(&records);
        Ok(records)
    }
}

impl Read {
    /// Reads what is new, and returns it.
    async fn catch_up(&mut self, pool: &Pool) -> Result<Vec<Recorded>, Error> {
        let last = self.records.back().map_or(self.after, |known| known.position.number);
        let new = if self.told.is_some() { page(pool, last, KEPT + 1).await? } else { Vec::new() };
        if self.told.is_none() || new.len() > KEPT {
            self.records.clear();
            let newest = domain_events::newest(pool).await?;
            self.after = newest.map_or(0, |(number, _)| number);
            return Ok(new);
        }
        self.records.extend(new.iter().cloned());
        while self.records.len() > KEPT {
            let dropped = self.records.pop_front();
            self.after = dropped.map_or(self.after, |known| known.position.number);
        }
        Ok(new)
    }
}

async fn page(pool: &Pool, number: i64, limit: usize) -> Result<Vec<Recorded>, Error> {
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    let records = domain_events::after(pool, number, limit).await?;
    Ok(records.into_iter().map(Recorded::from).collect())
}
