//! Live sessions by device. A star: whoever has committed news for a device hands it to its session, or has it look
//! into the mailbox.

use crate::service::devices::TURNS_S;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::device::DesiredState;
use fleeti_core::wire::packet::Reason;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A session's handle.
#[derive(Clone)]
pub struct Handle {
    number: u64,
    /// What has come for the device.
    pub mail: Arc<Mail>,
    /// The session must end.
    pub kicked: CancellationToken,
    reason: Arc<OnceLock<Reason>>,
    ended: CancellationToken,
}

impl Handle {
    /// The first reason counts.
    fn kick(&self, reason: Reason) {
        self.reason.get_or_init(|| reason);
        self.kicked.cancel();
    }

    /// Why the session was kicked.
    #[must_use]
    pub fn reason(&self, is_revoked: bool) -> Reason {
        if is_revoked { Reason::NotAuthorized } else { self.reason.get().copied().unwrap_or(Reason::UnspecifiedError) }
    }
}

/// What has come for a device since its session looked last.
#[derive(Default)]
pub struct Mail {
    /// There is something.
    pub arrived: Notify,
    desired: Mutex<Option<DesiredState>>,
    commands: AtomicBool,
    notice: AtomicBool,
    challenge: AtomicBool,
}

impl Mail {
    /// Takes it.
    #[must_use]
    pub fn take(&self) -> Arrived {
        Arrived {
            desired: self.desired.lock().unwrap_or_else(PoisonError::into_inner).take(),
            commands: self.commands.swap(false, Ordering::SeqCst),
            notice: self.notice.swap(false, Ordering::SeqCst),
            challenge: self.challenge.swap(false, Ordering::SeqCst),
        }
    }
}

/// What had come.
pub struct Arrived {
    /// The newest desired state.
    pub desired: Option<DesiredState>,
    /// Commands wait in the database.
    pub commands: bool,
    /// There is a new notice.
    pub notice: bool,
    /// The device's TPM is to be asked.
    pub challenge: bool,
}

/// Live sessions.
#[derive(Default)]
pub struct Hub {
    sessions: Mutex<HashMap<DeviceId, Handle>>,
    counter: AtomicU64,
    turns: Mutex<HashMap<DeviceId, Turns>>,
    is_closing: AtomicBool,
    is_empty: Notify,
}

/// Removes the session from the hub when it ends, however it ends.
pub struct Registration<'a> {
    hub: &'a Hub,
    device: DeviceId,
    /// The session's own handle.
    pub handle: Handle,
    /// How many sessions of the device were ended by another one of it within [`TURNS_S`], with the one that this session ended; 0
    /// when it ended none.
    pub turns: u32,
}

/// Devices whose turns are counted at once.
const TURNS_COUNTED_MAX: usize = 4096;

/// How often a session of a device was ended by another one of it, since when.
struct Turns {
    began: Instant,
    count: u32,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut sessions = self.hub.lock();
        if sessions.get(&self.device).is_some_and(|h| h.number == self.handle.number) {
            sessions.remove(&self.device);
        }
        if sessions.is_empty() {
            self.hub.is_empty.notify_waiters();
        }
        drop(sessions);
        self.handle.ended.cancel();
    }
}

impl Hub {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<DeviceId, Handle>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a session. The device's old one is kicked, and awaited, before the new one begins. A kicked session waits for no
    /// peer, so this takes as long as the database takes for what it was about to write.
    pub async fn register(&self, device: &DeviceId) -> Registration<'_> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let handle = Handle {
            number,
            mail: Arc::default(),
            kicked: CancellationToken::new(),
            reason: Arc::default(),
            ended: CancellationToken::new(),
        };
        let old = self.lock().insert(device.clone(), handle.clone());
        if self.is_closing() {
            handle.kick(Reason::ServerShuttingDown);
        }
        let is_turn = old.as_ref().is_some_and(|old| !old.kicked.is_cancelled());
        let turns = if is_turn { self.count_turn(device) } else { 0 };
        let registration = Registration { hub: self, device: device.clone(), handle, turns };
        if let Some(old) = old {
            old.kick(Reason::SessionTakenOver);
            // The limit is for the day a session does not end.
            tokio::time::timeout(Duration::from_secs(15), old.ended.cancelled()).await.ok();
        }
        registration
    }

    fn count_turn(&self, device: &DeviceId) -> u32 {
        let mut all = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |t: &Turns| t.began.elapsed() >= Duration::from_secs(TURNS_S);
        if all.len() >= TURNS_COUNTED_MAX {
            all.retain(|_, t| !is_old(t));
        }
        if all.len() >= TURNS_COUNTED_MAX {
            all.clear();
        }
        let turns = all.entry(device.clone()).or_insert_with(|| Turns { began: Instant::now(), count: 0 });
        if is_old(turns) {
            *turns = Turns { began: Instant::now(), count: 0 };
        }
        turns.count += 1;
        turns.count
    }

    /// Hands a desired state that was committed to the device's session, if there is one. A newer one replaces it.
    pub fn push(&self, device: &DeviceId, desired: DesiredState) {
        if let Some(handle) = self.lock().get(device) {
            let mut waiting = handle.mail.desired.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.as_ref().is_none_or(|w| w.generation < desired.generation) {
                *waiting = Some(desired);
            }
            drop(waiting);
            handle.mail.arrived.notify_one();
        }
    }

    /// Has the device's session look for commands, if there is one.
    pub fn commands_wait(&self, device: &DeviceId) {
        if let Some(handle) = self.lock().get(device) {
            handle.mail.commands.store(true, Ordering::SeqCst);
            handle.mail.arrived.notify_one();
        }
    }

    /// Has the device's session ask its TPM, if there is one.
    pub fn challenge(&self, device: &DeviceId) {
        if let Some(handle) = self.lock().get(device) {
            handle.mail.challenge.store(true, Ordering::SeqCst);
            handle.mail.arrived.notify_one();
        }
    }

    /// Has every session send the notice.
    pub fn notice_all(&self) {
        for handle in self.lock().values() {
            handle.mail.notice.store(true, Ordering::SeqCst);
            handle.mail.arrived.notify_one();
        }
    }

    /// Ends a device's session, if there is one: it is revoked, or its next key has taken over.
    pub fn kick(&self, device: &DeviceId) {
        if let Some(handle) = self.lock().get(device) {
            handle.kick(Reason::SessionTakenOver);
        }
    }

    /// Ends every session, and each that is about to begin, and waits until they have ended.
    pub async fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        let is_empty = self.is_empty.notified();
        tokio::pin!(is_empty);
        is_empty.as_mut().enable();
        let handles: Vec<_> = self.lock().values().cloned().collect();
        for handle in &handles {
            handle.kick(Reason::ServerShuttingDown);
        }
        if !handles.is_empty() {
            tokio::time::timeout(Duration::from_secs(5), is_empty).await.ok();
        }
    }

    /// Whether no session begins any more.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
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
