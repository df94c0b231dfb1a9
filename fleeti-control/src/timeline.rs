//! What happened to one device, newest first, from what the server stores about it: its states,
//! alerts, commands and rollouts.

use crate::context::Context;
use crate::error::Error;
use fleeti_core::attestation::Level;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_store::timeline::{AlertRow, CommandRow, Part, RolloutRow, StateRow};
use fleeti_store::{self as store};

/// Number of entries of a page. Entries of the same second are not parted, so there may be more.
pub const ENTRIES: usize = 50;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The first state that is known.
    First {
        /// What it reported that it runs.
        running: Option<ReleaseName>,
        /// Its level.
        level: Level,
    },
    /// It booted what it ran before.
    Booted {
        /// What it runs.
        running: Option<ReleaseName>,
    },
    /// It runs another release.
    Updated {
        /// What it ran before.
        from: Option<ReleaseName>,
        /// What it runs.
        to: Option<ReleaseName>,
    },
    /// Its evidence gave another level, or none came any more.
    Level {
        /// The level before.
        from: Level,
        /// The level since then.
        to: Level,
    },
    /// It belongs to another fleet.
    Moved {
        /// The fleet before.
        from: FleetId,
        /// The fleet since then.
        to: FleetId,
    },
    /// An alert about it changed.
    Alert(AlertRow),
    /// It got a command.
    Command(CommandRow),
    /// Its part in a rollout.
    Rollout(RolloutRow),
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, Unix seconds.
    pub at_s: u64,
    /// What happened.
    pub what: What,
}

/// A page of a timeline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The entries, newest first.
    pub entries: Vec<Entry>,
    /// The next page has what happened before this time; `None` for the last page.
    pub next_s: Option<u64>,
}

/// A page of what happened to a device before a time, or until now.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn get(
    cx: &Context,
    device: &DeviceId,
    before_s: Option<u64>,
) -> Result<Timeline, Error> {
    if store::devices::fleet_of(cx.db.pool(), device).await?.is_none() {
        return Err(Error::not_found("device", device.as_str()));
    }
    let before_s = before_s.unwrap_or(u64::MAX >> 1).min(i64::MAX as u64);
    let limit = ENTRIES as u32 + 1;
    let (part, mut connection) = (Part { device, before_s, limit }, cx.db.reader().await?);
    let states = store::timeline::states(&mut connection, part).await?;
    let alerts = store::timeline::alerts(&mut connection, part).await?;
    let commands = store::timeline::commands(&mut connection, part, cx.now_s()).await?;
    let rollouts = store::timeline::rollouts(&mut connection, part).await?;
    let entry = |at_s, what| Entry { at_s, what };
    Ok(merged(vec![
        Source::of(states, limit, changes),
        Source::of(alerts, limit, |all| {
            all.into_iter().map(|row| entry(row.at_s, What::Alert(row))).collect()
        }),
        Source::of(commands, limit, |all| {
            all.into_iter().map(|row| entry(row.at_s, What::Command(row))).collect()
        }),
        Source::of(rollouts, limit, |all| {
            all.into_iter().map(|row| entry(row.at_s, What::Rollout(row))).collect()
        }),
    ]))
}

/// Entries of one kind, and whether there are older ones.
struct Source {
    entries: Vec<Entry>,
    has_more: bool,
}

impl Source {
    fn of<T>(rows: Vec<T>, limit: u32, read: impl FnOnce(Vec<T>) -> Vec<Entry>) -> Self {
        let has_more = rows.len() >= limit as usize;
        let mut entries = read(rows);
        if has_more {
            // Of states, the oldest row is only what the one after it is compared with.
            entries.pop();
        }
        Self { entries, has_more }
    }
}

/// What changed from each state to the next; newest first, as the states are.
fn changes(states: Vec<StateRow>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for pair in states.windows(2) {
        let [now, before] = pair else { continue };
        let mut add = |what| entries.push(Entry { at_s: now.at_s, what });
        if now.fleet != before.fleet {
            add(What::Moved { from: before.fleet.clone(), to: now.fleet.clone() });
        }
        if now.level != before.level {
            add(What::Level { from: before.level, to: now.level });
        }
        if now.running != before.running {
            add(What::Updated { from: before.running.clone(), to: now.running.clone() });
        } else if now.boot_id != before.boot_id {
            add(What::Booted { running: now.running.clone() });
        }
    }
    if let Some(first) = states.last() {
        let what = What::First { running: first.running.clone(), level: first.level };
        entries.push(Entry { at_s: first.at_s, what });
    }
    entries
}

/// A page of all sources. What is as old as the end of a source that has more is left for the next
/// page, so that no page lacks an entry between two others.
fn merged(sources: Vec<Source>) -> Timeline {
    let ends = sources.iter().filter(|source| source.has_more);
    let end_s = ends.filter_map(|source| source.entries.last()).map(|e| e.at_s).max();
    let mut has_more = end_s.is_some();
    let mut entries: Vec<_> = sources.into_iter().flat_map(|source| source.entries).collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.at_s));
    if let Some(end_s) = end_s {
        let complete = entries.iter().filter(|entry| entry.at_s > end_s).count();
        if complete > 0 {
            entries.truncate(complete);
        }
    }
    if let Some(last_s) = entries.get(ENTRIES - 1).map(|entry| entry.at_s) {
        let whole = entries.iter().filter(|entry| entry.at_s >= last_s).count();
        has_more |= whole < entries.len();
        entries.truncate(whole);
    }
    let next_s = entries.last().map(|entry| entry.at_s).filter(|_| has_more);
    Timeline { entries, next_s }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::command::State as CommandState;

    fn state(at_s: u64, running: &str, boot: &str, level: Level) -> StateRow {
        StateRow {
            at_s,
            fleet: "demo".parse().unwrap(),
            running: Some(running.parse().unwrap()),
            boot_id: boot.into(),
            level,
        }
    }

    fn command(at_s: u64) -> Entry {
        let row = CommandRow { at_s, kind: String::new(), state: CommandState::Pending };
        Entry { at_s, what: What::Command(row) }
    }

    fn source(from_s: u64, to_s: u64, has_more: bool) -> Source {
        Source { entries: (from_s..=to_s).rev().map(command).collect(), has_more }
    }

    #[test]
    fn each_difference_of_two_states_is_an_entry() {
        let found = changes(vec![
            state(40, "kiosk@2", "c", Level::VerifiedBoot),
            state(30, "kiosk@2", "c", Level::Token),
            state(20, "kiosk@2", "b", Level::Token),
            state(10, "kiosk@1", "a", Level::Token),
        ]);
        let name = |text: &str| Some(text.parse().unwrap());
        let expected = [
            (40, What::Level { from: Level::Token, to: Level::VerifiedBoot }),
            (30, What::Booted { running: name("kiosk@2") }),
            (20, What::Updated { from: name("kiosk@1"), to: name("kiosk@2") }),
            (10, What::First { running: name("kiosk@1"), level: Level::Token }),
        ];
        assert_eq!(found, expected.map(|(at_s, what)| Entry { at_s, what }));
    }

    #[test]
    fn pages_together_have_every_entry_once() {
        // One source reaches further back than the other, which has more.
        let page = merged(vec![source(100, 120, true), source(1, 130, false)]);
        assert_eq!(page.next_s, Some(101));
        assert_eq!(page.entries.len(), 20 + 30);
        // Entries of the same second stay together.
        let same = (0..ENTRIES + 5).map(|_| command(7)).chain([command(6)]).collect();
        let page = merged(vec![Source { entries: same, has_more: false }]);
        assert_eq!((page.entries.len(), page.next_s), (ENTRIES + 5, Some(7)));
        let page = merged(vec![source(1, 3, false)]);
        assert_eq!((page.entries.len(), page.next_s), (3, None));
        assert_eq!(merged(vec![]), Timeline::default());
    }
}
