//! Session state that outlasts a connection: expiry, subscriptions, and unacknowledged messages.
//!
//! Expiry and subscriptions are written behind, in batches. If the server is killed before a write,
//! the device gets "no session" (MQTT 5, 3.2.2.1.1) and subscribes again. Unacknowledged messages
//! are in memory only: after a restart the server sends them from the database as new messages.

use bytes::Bytes;
use fleeti_control::context::Context;
use fleeti_control::devices;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::mqtt::Down;
use fleeti_store::mqtt_sessions::Stored;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Changes within this time are written together.
const GATHER: Duration = Duration::from_millis(50);
/// Maximum number of disconnected sessions whose unacknowledged messages are kept. Messages of
/// other sessions are sent as new ones.
const IN_FLIGHT_SESSIONS_MAX: usize = 10_000;

/// An unacknowledged message.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    pub id: u16,
    pub kind: Down,
    pub payload: Bytes,
    pub sent: Sent,
}

/// The content of an unacknowledged message.
#[derive(Debug, Clone)]
pub(super) enum Sent {
    Generation(u64),
    Command(String),
    Other,
}

/// The state that a session leaves.
pub(super) struct Kept {
    pub stored: Stored,
    pub in_flight: Vec<InFlight>,
}

struct Entry {
    kept: Kept,
    is_unwritten: bool,
    /// Written in the last round: a reader may have read the row before that.
    is_fresh: bool,
}

/// State of disconnected sessions that is not, or not only, in the database.
#[derive(Default)]
pub struct Sessions {
    entries: Mutex<HashMap<DeviceId, Entry>>,
    changed: Notify,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the state of a device's session, with its unacknowledged messages. `read` is the state
    /// from the database.
    pub(super) fn take(&self, device: &DeviceId, read: Stored) -> (Stored, Vec<InFlight>) {
        match self.lock().get_mut(device) {
            Some(entry) => (entry.kept.stored, std::mem::take(&mut entry.kept.in_flight)),
            None => (read, Vec::new()),
        }
    }

    /// Stores the state that a session leaves.
    pub(super) fn keep(&self, device: &DeviceId, mut kept: Kept) {
        let mut entries = self.lock();
        if !kept.in_flight.is_empty() && entries.len() >= IN_FLIGHT_SESSIONS_MAX {
            kept.in_flight.clear();
        }
        entries.insert(device.clone(), Entry { kept, is_unwritten: true, is_fresh: true });
        drop(entries);
        self.changed.notify_one();
    }

    fn unwritten(&self) -> HashMap<DeviceId, Stored> {
        let entries = self.lock();
        entries
            .iter()
            .filter(|(_, e)| e.is_unwritten)
            .map(|(device, e)| (device.clone(), e.kept.stored))
            .collect()
    }

    fn written(&self, some: &HashMap<DeviceId, Stored>, now_s: u64) {
        self.lock().retain(|device, entry| {
            match some.get(device) {
                // State that has changed meanwhile stays for the next round.
                Some(stored) if *stored == entry.kept.stored => entry.is_unwritten = false,
                Some(_) => {}
                None => entry.is_fresh = false,
            }
            let is_waited_for =
                !entry.kept.in_flight.is_empty() && entry.kept.stored.until_s > now_s;
            entry.is_unwritten || entry.is_fresh || is_waited_for
        });
    }
}

/// Writes all unwritten state.
///
/// # Errors
/// When the database does not answer.
pub async fn flush(
    sessions: &Sessions,
    control: &Context,
) -> Result<(), fleeti_control::error::Error> {
    let some = sessions.unwritten();
    devices::keep_sessions(control, &some).await?;
    sessions.written(&some, control.now_s());
    Ok(())
}

/// Writes state until the task is aborted.
pub async fn run(sessions: &Sessions, control: &Context) {
    loop {
        sessions.changed.notified().await;
        tokio::time::sleep(GATHER).await;
        if let Err(e) = flush(sessions, control).await {
            tracing::warn!("cannot store session state: {}", e.for_log());
            tokio::time::sleep(GATHER * 20).await;
            sessions.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_forgotten_a_round_later_unless_something_is_in_flight() {
        let (sessions, a, b): (_, DeviceId, DeviceId) =
            (Sessions::default(), "dev-a".parse().unwrap(), "dev-b".parse().unwrap());
        let stored = Stored { until_s: 10, ..Stored::default() };
        let message =
            InFlight { id: 1, kind: Down::Notice, payload: Bytes::new(), sent: Sent::Other };
        sessions.keep(&a, Kept { stored, in_flight: vec![] });
        sessions.keep(&b, Kept { stored, in_flight: vec![message] });
        let some = sessions.unwritten();
        assert_eq!(some.len(), 2);
        sessions.written(&some, 1);
        assert_eq!(
            sessions.take(&a, Stored::default()).0,
            stored,
            "another session may have read the row before"
        );
        sessions.written(&HashMap::new(), 1);
        assert_eq!(sessions.take(&a, Stored::default()).0, Stored::default());
        assert_eq!(sessions.take(&b, Stored::default()).1.len(), 1);
        sessions.written(&HashMap::new(), 1);
        assert!(sessions.lock().is_empty());
    }
}
