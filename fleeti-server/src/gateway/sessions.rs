//! What outlasts a connection: until when a session lasts, what it has subscribed, and what was
//! sent and not acknowledged.
//!
//! Until when, and subscriptions, are written behind, many at once: a kill may lose the last of
//! them, and a device is then told "no session" (MQTT 5, 3.2.2.1.1) and subscribes again. What is
//! not acknowledged is in memory only: messages are in the database, and are sent as new ones after
//! a start.

use crate::app::App;
use crate::db::mqtt_sessions::Stored;
use crate::service::devices;
use bytes::Bytes;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::mqtt::Down;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// What is set within this time is written at once.
const GATHER: Duration = Duration::from_millis(50);
/// Sessions without a connection whose unacknowledged messages are kept; beyond it they are sent as
/// new ones.
const IN_FLIGHT_SESSIONS_MAX: usize = 10_000;

/// A message that is not acknowledged.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    pub id: u16,
    pub kind: Down,
    pub payload: Bytes,
    pub sent: Sent,
}

/// Which message it is.
#[derive(Debug, Clone)]
pub(super) enum Sent {
    Generation(u64),
    Command(String),
    Other,
}

/// What a session leaves.
pub(super) struct Kept {
    pub stored: Stored,
    pub in_flight: Vec<InFlight>,
}

struct Entry {
    kept: Kept,
    is_unwritten: bool,
    /// Written in the last round: somebody may have read the row before.
    is_fresh: bool,
}

/// What was left and is not in the database, or not only.
#[derive(Default)]
pub struct Sessions {
    entries: Mutex<HashMap<DeviceId, Entry>>,
    changed: Notify,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept of a device's session, where `read` is what the database said; with what was
    /// not acknowledged.
    pub(super) fn take(&self, device: &DeviceId, read: Stored) -> (Stored, Vec<InFlight>) {
        match self.lock().get_mut(device) {
            Some(entry) => (entry.kept.stored, std::mem::take(&mut entry.kept.in_flight)),
            None => (read, Vec::new()),
        }
    }

    /// Keeps what a session leaves.
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
                // What was changed meanwhile stays for the next time.
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

/// Writes what is not written.
///
/// # Errors
/// When the database does not answer.
pub async fn flush(app: &App) -> Result<(), crate::error::AppError> {
    let some = app.sessions.unwritten();
    devices::keep_sessions(app, &some).await?;
    app.sessions.written(&some, app.now_s());
    Ok(())
}

/// Writes until the task is ended.
pub async fn run(app: &App) {
    loop {
        app.sessions.changed.notified().await;
        tokio::time::sleep(GATHER).await;
        if let Err(e) = flush(app).await {
            tracing::warn!("sessions: {e}");
            tokio::time::sleep(GATHER * 20).await;
            app.sessions.changed.notify_one();
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
            "somebody may have read the row before"
        );
        sessions.written(&HashMap::new(), 1);
        assert_eq!(sessions.take(&a, Stored::default()).0, Stored::default());
        assert_eq!(sessions.take(&b, Stored::default()).1.len(), 1);
        sessions.written(&HashMap::new(), 1);
        assert!(sessions.lock().is_empty());
    }
}
