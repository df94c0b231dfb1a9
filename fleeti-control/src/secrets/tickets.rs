//! Which fleets have secrets, and the outstanding tickets for them.

use crate::error::Error;
use arc_swap::ArcSwap;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::vault::TICKET_S;
use fleeti_store::{self as store, Db};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Maximum number of outstanding tickets.
const TICKETS_MAX: usize = 65_536;
/// How often a device can get secrets within [`GIVEN_S`]. It needs them once per boot, and each
/// time makes an audit entry.
const GIVEN_MAX: u32 = 5;
/// The period of [`GIVEN_MAX`], in seconds.
const GIVEN_S: u64 = 600;

pub(super) type Ticket = (String, Instant);

/// Which fleets have secrets, and the outstanding tickets.
pub(crate) struct Vault {
    versions: ArcSwap<HashMap<FleetId, u64>>,
    /// Digest and expiry of each device's ticket. A device has at most one.
    tickets: Mutex<HashMap<DeviceId, Ticket>>,
    /// Devices whose recovery key was shown: the server commands them to make a new one.
    shown: Mutex<HashSet<DeviceId>>,
    /// Start of the period, and how often each device got secrets in it.
    given: Mutex<HashMap<DeviceId, (Instant, u32)>>,
}

impl Vault {
    /// Loads the names of fleets with secrets, and of devices whose recovery key was shown.
    pub(crate) async fn load(db: &Db) -> Result<Self, Error> {
        Ok(Self {
            versions: ArcSwap::from_pointee(store::vault::versions(db.pool()).await?),
            tickets: Mutex::default(),
            shown: Mutex::new(store::vault::shown(db.pool()).await?),
            given: Mutex::default(),
        })
    }

    pub(super) fn issue(&self, device: &DeviceId) -> Option<Secret> {
        let (ticket, until) = (
            hex::encode(rand::random::<[u8; 32]>()),
            Instant::now() + Duration::from_secs(TICKET_S),
        );
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() >= TICKETS_MAX {
            let now = Instant::now();
            tickets.retain(|_, (_, until)| *until > now);
        }
        if tickets.len() >= TICKETS_MAX {
            return None;
        }
        tickets.insert(device.clone(), (sha256_hex(ticket.as_bytes()), until));
        Some(Secret::new(ticket))
    }

    /// Takes the ticket of the device, if it matches. A ticket is valid once.
    pub(super) fn redeem(&self, device: &DeviceId, ticket: &Secret) -> Option<Ticket> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        // Compares digests, so that the time reveals nothing about the ticket.
        let given = sha256_hex(ticket.expose().as_bytes());
        let is_good = tickets
            .get(device)
            .is_some_and(|(sha256, until)| *sha256 == given && *until > Instant::now());
        if is_good { tickets.remove(device) } else { None }
    }

    /// Makes a ticket valid again after a failure, unless there is a newer one.
    pub(super) fn put_back(&self, device: &DeviceId, ticket: Ticket) {
        self.tickets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(device.clone())
            .or_insert(ticket);
    }

    /// Counts how often a device gets secrets.
    pub(super) fn count(&self, device: &DeviceId) -> Result<(), Error> {
        let mut all = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let left_s = |began: Instant| GIVEN_S.saturating_sub(began.elapsed().as_secs());
        if all.len() >= TICKETS_MAX {
            all.retain(|_, (began, _)| left_s(*began) > 0);
        }
        let (began, count) = all.entry(device.clone()).or_insert_with(|| (Instant::now(), 0));
        if left_s(*began) == 0 {
            (*began, *count) = (Instant::now(), 0);
        }
        *count += 1;
        if *count > GIVEN_MAX {
            let text = format!(
                "this device got the secrets of its fleet {GIVEN_MAX} times within {} minutes",
                GIVEN_S / 60
            );
            return Err(Error::new(Code::TooMany, text).retry_after(left_s(*began)));
        }
        Ok(())
    }

    pub(super) fn shown(&self) -> MutexGuard<'_, HashSet<DeviceId>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of changes of the secrets of each fleet that has, or had, secrets.
    pub(super) fn versions(&self) -> Arc<HashMap<FleetId, u64>> {
        self.versions.load_full()
    }

    pub(super) fn set(&self, fleet: &FleetId, version: u64) {
        self.versions.rcu(|all| {
            let mut all = HashMap::clone(all);
            // Tasks may arrive here in another order than they committed.
            let known = all.entry(fleet.clone()).or_default();
            *known = version.max(*known);
            all
        });
    }
}
