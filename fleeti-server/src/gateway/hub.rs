//! Live sessions by device. A star: whoever has news for a device wakes its session, which looks into the mailbox.

use fleeti_core::id::DeviceId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A session's handle.
#[derive(Clone)]
pub struct Handle {
    number: u64,
    /// Something lies in the mailbox.
    pub mail: Arc<Notify>,
    /// The session must end.
    pub kicked: CancellationToken,
    ended: CancellationToken,
}

/// Live sessions.
#[derive(Default)]
pub struct Hub {
    sessions: Mutex<HashMap<DeviceId, Handle>>,
    counter: std::sync::atomic::AtomicU64,
}

/// Removes the session from the hub when it ends, however it ends.
pub struct Registration<'a> {
    hub: &'a Hub,
    device: DeviceId,
    /// The session's own handle.
    pub handle: Handle,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut sessions = self.hub.lock();
        if sessions.get(&self.device).is_some_and(|h| h.number == self.handle.number) {
            sessions.remove(&self.device);
        }
        drop(sessions);
        self.handle.ended.cancel();
    }
}

impl Hub {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<DeviceId, Handle>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a session. The device's old one is kicked, and awaited, before the new one begins.
    pub async fn register(&self, device: &DeviceId) -> Registration<'_> {
        let number = self.counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let handle = Handle { number, mail: Arc::default(), kicked: CancellationToken::new(), ended: CancellationToken::new() };
        let old = self.lock().insert(device.clone(), handle.clone());
        let registration = Registration { hub: self, device: device.clone(), handle };
        if let Some(old) = old {
            old.kicked.cancel();
            // Every write of a session has a deadline, so it ends; the limit is for the day it does not.
            tokio::time::timeout(Duration::from_secs(15), old.ended.cancelled()).await.ok();
        }
        registration
    }

    /// Wakes a device's session, if there is one.
    pub fn notify(&self, device: &DeviceId) {
        if let Some(handle) = self.lock().get(device) {
            handle.mail.notify_one();
        }
    }

    /// Ends a device's session, if there is one.
    pub fn kick(&self, device: &DeviceId) {
        if let Some(handle) = self.lock().get(device) {
            handle.kicked.cancel();
        }
    }

    /// Ends every session.
    pub fn kick_all(&self) {
        for handle in self.lock().values() {
            handle.kicked.cancel();
        }
    }

    /// How many devices hold a session.
    #[must_use]
    pub fn online(&self) -> usize {
        self.lock().len()
    }

    /// Whether the device holds a session.
    #[must_use]
    pub fn is_online(&self, device: &DeviceId) -> bool {
        self.lock().contains_key(device)
    }
}
