//! Which devices hold a persistent MQTT session. Written behind, many at once: what a kill loses is only that a device
//! is told "no session" (MQTT 5, 3.2.2.1.1) and subscribes again; no message is ever in a session, they are in the
//! database.

use crate::app::App;
use crate::service::devices;
use fleeti_core::id::DeviceId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// What is set within this time is written at once.
const GATHER: Duration = Duration::from_millis(50);

/// What is to be written.
#[derive(Default)]
pub struct Sessions {
    unwritten: Mutex<HashMap<DeviceId, bool>>,
    changed: Notify,
}

impl Sessions {
    fn unwritten(&self) -> std::sync::MutexGuard<'_, HashMap<DeviceId, bool>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a device holds a session, where `written` is what the database says.
    #[must_use]
    pub fn holds(&self, device: &DeviceId, written: bool) -> bool {
        self.unwritten().get(device).copied().unwrap_or(written)
    }

    /// Remembers whether a device holds a session from now on.
    pub fn set(&self, device: &DeviceId, holds: bool) {
        self.unwritten().insert(device.clone(), holds);
        self.changed.notify_one();
    }
}

/// Writes until the task is ended.
pub async fn run(app: &App) {
    loop {
        app.sessions.changed.notified().await;
        tokio::time::sleep(GATHER).await;
        let some = app.sessions.unwritten().clone();
        match devices::keep_sessions(app, &some).await {
            // What was set anew meanwhile stays for the next time.
            Ok(()) => app.sessions.unwritten().retain(|device, holds| some.get(device) != Some(holds)),
            Err(e) => {
                tracing::warn!("sessions: {e}");
                tokio::time::sleep(GATHER * 20).await;
                app.sessions.changed.notify_one();
            }
        }
    }
}
