//! What the alerts area keeps in memory: rules, silences, and connections of devices.

use super::about::About;
use crate::error::Error;
use arc_swap::ArcSwap;
use fleeti_core::alert::{Kind, Rule};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName};
use fleeti_core::wire::alerts::Silence;
use fleeti_store::{self as store, Connection, Db};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tokio::sync::Notify;

/// Connections are counted within this time, in seconds.
const CONNECTIONS_S: u64 = 3600;
/// Maximum number of devices whose connections are counted.
const CONNECTIONS_MAX: usize = 16_384;

/// What the alerts area keeps in memory.
pub(crate) struct AlertState {
    rules: ArcSwap<Vec<Rule>>,
    silences: ArcSwap<Vec<Silence>>,
    connections: Mutex<HashMap<DeviceId, Connected>>,
    /// What each fleet was compared with, for security fixes that wait.
    compared: Mutex<HashMap<FleetId, Compared>>,
    wake: Notify,
    /// When this server began to run. It heard from no device before.
    pub(super) started_s: u64,
}

/// Connections of a device since a time.
#[derive(Clone, Copy)]
struct Connected {
    since_s: u64,
    count: u64,
}

/// What a fleet was compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) release: ReleaseName,
    /// When the index of the suite was made.
    pub(super) index: SystemTime,
    /// When to compare again because of time, Unix seconds.
    pub(super) again_s: Option<u64>,
}

impl Compared {
    /// Whether the comparison still says what is so.
    pub(super) fn holds(&self, release: &ReleaseName, index: SystemTime, now_s: u64) -> bool {
        self.release == *release
            && self.index == index
            && self.again_s.is_none_or(|again_s| now_s < again_s)
    }
}

impl AlertState {
    /// Loads rules and silences.
    pub(crate) async fn load(db: &Db, now_s: u64) -> Result<Self, Error> {
        let mut connection = db.reader().await?;
        Ok(Self {
            rules: ArcSwap::from_pointee(rules(&mut connection).await?),
            silences: ArcSwap::from_pointee(
                store::alert_rules::silences(&mut connection, 0).await?,
            ),
            connections: Mutex::default(),
            compared: Mutex::default(),
            wake: Notify::new(),
            started_s: now_s,
        })
    }

    /// The rules that count now.
    pub(super) fn rules(&self) -> Arc<Vec<Rule>> {
        self.rules.load_full()
    }

    /// Reads rules and silences again, after a change of them was stored.
    pub(super) async fn reload(&self, db: &Db) -> Result<(), Error> {
        let mut connection = db.reader().await?;
        self.rules.store(Arc::new(rules(&mut connection).await?));
        let silences = store::alert_rules::silences(&mut connection, 0).await?;
        self.silences.store(Arc::new(silences));
        self.with_compared(HashMap::clear);
        Ok(())
    }

    /// Does something with what fleets were compared with.
    pub(super) fn with_compared<T>(
        &self,
        work: impl FnOnce(&mut HashMap<FleetId, Compared>) -> T,
    ) -> T {
        work(&mut self.compared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Until when nobody is told of alerts of a rule; `None` if people are told.
    pub(super) fn silenced_until_s(&self, rule: &str, about: About<'_>, now_s: u64) -> Option<u64> {
        let silences = self.silences.load();
        let covering =
            silences.iter().filter(|s| s.covers(rule, (about.fleet(), about.device()), now_s));
        covering.map(|silence| silence.until_s).max()
    }

    /// Counts a connection of a device. Returns how many there were within an hour.
    pub(super) fn connected(&self, device: &DeviceId, now_s: u64) -> u64 {
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= CONNECTIONS_MAX && !all.contains_key(device) {
            all.retain(|_, c| now_s.saturating_sub(c.since_s) < CONNECTIONS_S && c.count > 1);
            if all.len() >= CONNECTIONS_MAX {
                all.clear();
            }
        }
        let entry = all.entry(device.clone()).or_insert(Connected { since_s: now_s, count: 0 });
        if now_s.saturating_sub(entry.since_s) >= CONNECTIONS_S {
            *entry = Connected { since_s: now_s, count: 0 };
        }
        entry.count += 1;
        entry.count
    }

    /// Number of connections of a device within an hour.
    pub(super) fn connections(&self, device: &DeviceId, now_s: u64) -> u64 {
        let all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.get(device);
        found.filter(|c| now_s.saturating_sub(c.since_s) < CONNECTIONS_S).map_or(0, |c| c.count)
    }

    /// Makes the task look now.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Returns when somebody called [`Self::wake`].
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The lowest threshold of the enabled rules of a kind.
    pub(super) fn lowest(&self, kind: Kind) -> Option<u64> {
        let rules = self.rules.load();
        rules.iter().filter(|r| r.enabled && r.kind == kind).map(|r| r.threshold).min()
    }
}

async fn rules(connection: &mut Connection) -> Result<Vec<Rule>, Error> {
    Ok(Rule::effective(store::alert_rules::rules(connection).await?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_compared_again_for_a_release_an_index_and_a_time() {
        let (one, two): (ReleaseName, ReleaseName) =
            ("kiosk@1".parse().unwrap(), "kiosk@2".parse().unwrap());
        let index = SystemTime::UNIX_EPOCH;
        let compared = Compared { release: one.clone(), index, again_s: Some(100) };
        assert!(compared.holds(&one, index, 99));
        assert!(!compared.holds(&two, index, 99));
        assert!(!compared.holds(&one, SystemTime::now(), 99));
        assert!(!compared.holds(&one, index, 100));
        assert!(Compared { again_s: None, ..compared }.holds(&one, index, u64::MAX));
    }
}
