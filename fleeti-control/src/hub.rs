//! Open sessions by device. After a commit, services push a desired state to the device's session
//! here, or make the session read pending commands from the database.

use fleeti_core::id::DeviceId;
use fleeti_core::wire::device::DesiredState;
use fleeti_core::wire::packet::Reason;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The handle of a session.
#[derive(Clone)]
pub struct Handle {
    number: u64,
    /// News for the session.
    pub mail: Arc<Mail>,
    /// Cancelled when the session must end.
    pub kicked: CancellationToken,
    reason: Arc<OnceLock<Reason>>,
    is_left: Arc<AtomicBool>,
    ended: CancellationToken,
}

impl Handle {
    /// Ends the session. The first reason counts.
    fn kick(&self, reason: Reason) {
        self.reason.get_or_init(|| reason);
        self.kicked.cancel();
        self.mail.arrived.notify_one();
    }

    /// Records, before the session ends, that its client had closed the connection already: the
    /// next session then takes over from nobody.
    pub fn client_has_left(&self) {
        self.is_left.store(true, Ordering::SeqCst);
    }

    /// Why the session was kicked.
    #[must_use]
    pub fn reason(&self, is_revoked: bool) -> Reason {
        if is_revoked {
            Reason::NotAuthorized
        } else {
            self.reason.get().copied().unwrap_or(Reason::UnspecifiedError)
        }
    }
}

/// News for a device since its session last checked.
#[derive(Default)]
pub struct Mail {
    /// Notified when there is news, or the session was kicked.
    pub arrived: Notify,
    waiting: Mutex<Arrived>,
}

impl Mail {
    fn put(&self, news: impl FnOnce(&mut Arrived)) {
        news(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.arrived.notify_one();
    }

    /// Takes the news.
    #[must_use]
    pub fn take(&self) -> Arrived {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The news of a [`Mail`].
#[derive(Default)]
pub struct Arrived {
    /// The newest desired state.
    pub desired: Option<Box<DesiredState>>,
    /// Commands are pending in the database.
    pub commands: bool,
    /// There is a new notice.
    pub notice: bool,
    /// The session must request evidence.
    pub challenge: bool,
}

/// News for many devices that is not delivered to their sessions yet.
#[derive(Default)]
struct Outbox {
    desired: Vec<(DeviceId, DesiredState)>,
    challenges: Vec<DeviceId>,
    notice: bool,
}

/// Number of sessions that are served before other tasks on the thread get their turn.
const TOLD_AT_ONCE: usize = 256;

/// All open sessions.
#[derive(Default)]
pub struct Hub {
    sessions: Mutex<HashMap<DeviceId, Handle>>,
    counter: AtomicU64,
    turns: Mutex<HashMap<DeviceId, Turns>>,
    outbox: Mutex<Outbox>,
    filled: Notify,
    changes: AtomicU64,
    is_closing: AtomicBool,
    is_empty: Notify,
}

/// Removes a session from the hub when it is dropped.
pub struct Registration<'a> {
    hub: &'a Hub,
    device: DeviceId,
    /// The session's own handle.
    pub handle: Handle,
    /// Number of takeovers among sessions of the device within [`TURNS_S`], including the one by
    /// this session; 0 if this session took over none. Sessions whose client had closed the
    /// connection do not count.
    pub turns: u32,
}

/// Two clients may take turns with one certificate: this many takeovers within [`TURNS_S`] cannot
/// be explained by a bad network.
pub const TURNS_MAX: u32 = 6;
/// The period of [`TURNS_MAX`], in seconds.
pub const TURNS_S: u64 = 600;

/// Maximum number of devices whose takeovers are counted.
const TURNS_COUNTED_MAX: usize = 4096;

/// Number of takeovers of a device, and since when.
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

    /// Registers a session. Kicks an older session of the device, and waits for its end first. A
    /// kicked session waits for no peer, only for its database writes.
    pub async fn register(&self, device: &DeviceId) -> Registration<'_> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let handle = Handle {
            number,
            mail: Arc::default(),
            kicked: CancellationToken::new(),
            reason: Arc::default(),
            is_left: Arc::default(),
            ended: CancellationToken::new(),
        };
        let old = self.lock().insert(device.clone(), handle.clone());
        if self.is_closing() {
            handle.kick(Reason::ServerShuttingDown);
        }
        let mut registration = Registration { hub: self, device: device.clone(), handle, turns: 0 };
        if let Some(old) = old {
            let is_first_kick = !old.kicked.is_cancelled();
            old.kick(Reason::SessionTakenOver);
            // The timeout guards against a session that does not end because of a bug.
            tokio::time::timeout(Duration::from_secs(15), old.ended.cancelled()).await.ok();
            if is_first_kick && !old.is_left.load(Ordering::SeqCst) {
                registration.turns = self.count_turn(device);
            }
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
        let turns =
            all.entry(device.clone()).or_insert_with(|| Turns { began: Instant::now(), count: 0 });
        if is_old(turns) {
            *turns = Turns { began: Instant::now(), count: 0 };
        }
        turns.count += 1;
        turns.count
    }

    /// Passes committed desired states and challenges to [`Self::run`], which wakes the sessions on
    /// their own thread, without a system call for each.
    pub fn push_all(&self, desired: Vec<(DeviceId, DesiredState)>, challenges: Vec<DeviceId>) {
        if desired.is_empty() && challenges.is_empty() {
            return;
        }
        self.changes.fetch_add(1, Ordering::SeqCst);
        let mut outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        outbox.desired.extend(desired);
        outbox.challenges.extend(challenges);
        drop(outbox);
        self.filled.notify_one();
    }

    /// Delivers news for many devices until the task is aborted.
    pub async fn run(&self) {
        loop {
            self.filled.notified().await;
            let outbox =
                std::mem::take(&mut *self.outbox.lock().unwrap_or_else(PoisonError::into_inner));
            if outbox.notice {
                let mails: Vec<_> = self.lock().values().map(|h| Arc::clone(&h.mail)).collect();
                for mails in mails.chunks(TOLD_AT_ONCE) {
                    mails.iter().for_each(|mail| mail.put(|m| m.notice = true));
                    tokio::task::yield_now().await;
                }
            }
            let mut desired = outbox.desired.into_iter();
            while desired.len() > 0 {
                desired
                    .by_ref()
                    .take(TOLD_AT_ONCE)
                    .for_each(|(device, desired)| self.deliver(&device, desired));
                tokio::task::yield_now().await;
            }
            for devices in outbox.challenges.chunks(TOLD_AT_ONCE) {
                devices.iter().for_each(|device| self.challenge(device));
                tokio::task::yield_now().await;
            }
        }
    }

    /// A counter that grows with every pushed desired state, before any session gets it. If it is
    /// the same as before a desired state was read, and the session is registered, none was missed.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Pushes a committed desired state to the device's session, if there is one. Replaces an older
    /// one that is not sent yet.
    pub fn push(&self, device: &DeviceId, desired: DesiredState) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.deliver(device, desired);
    }

    fn deliver(&self, device: &DeviceId, desired: DesiredState) {
        if let Some(handle) = self.lock().get(device) {
            handle.mail.put(|m| {
                if m.desired.as_ref().is_none_or(|w| w.generation < desired.generation) {
                    m.desired = Some(Box::new(desired));
                }
            });
        }
    }

    /// Makes the device's session, if there is one, read pending commands.
    pub fn commands_wait(&self, device: &DeviceId) {
        if let Some(handle) = self.lock().get(device) {
            handle.mail.put(|m| m.commands = true);
        }
    }

    /// Makes the device's session, if there is one, request evidence.
    pub fn challenge(&self, device: &DeviceId) {
        if let Some(handle) = self.lock().get(device) {
            handle.mail.put(|m| m.challenge = true);
        }
    }

    /// Makes every session send the notice.
    pub fn notice_all(&self) {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner).notice = true;
        self.filled.notify_one();
    }

    /// Ends the device's session, if there is one: the device was revoked, or its new key was first
    /// used.
    pub fn kick(&self, device: &DeviceId) {
        if let Some(handle) = self.lock().get(device) {
            handle.kick(Reason::SessionTakenOver);
        }
    }

    /// Ends all sessions, also those that are starting, and waits for their end.
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

    /// Whether the hub refuses new sessions.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    /// Number of devices with a session.
    #[must_use]
    pub fn online(&self) -> usize {
        self.lock().len()
    }

    /// Whether the device has a session.
    #[must_use]
    pub fn is_online(&self, device: &DeviceId) -> bool {
        self.lock().contains_key(device)
    }
}
