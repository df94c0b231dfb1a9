//! Places for connections, shared fairly by key: a key with few places can evict a connection of a
//! key with many, never the reverse.
//!
//! INVARIANT: a place is free again when its [`Place`] is dropped, however its connection ends.

use super::ledger::Ledger;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// The origin of a connection: an IPv4 address, or the /64 of an IPv6 address, because one customer
/// has a whole /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(IpAddr);

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => Self(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into()),
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The key has reached its own limit.
    Own,
    /// All places are taken, and no other key has more than this one.
    All,
}

#[derive(Debug)]
struct Holder {
    since: Instant,
    evicted: Arc<Notify>,
}

#[derive(Debug)]
struct State<K: Key> {
    taken: Ledger<K, Holder>,
    waiting: Ledger<K, oneshot::Sender<Place<K>>>,
}

/// Places of one kind.
#[derive(Debug)]
pub struct Places<K: Key> {
    all: usize,
    own: usize,
    waiting_max: usize,
    stalled: Duration,
    state: Mutex<State<K>>,
}

/// The key by which places are counted.
pub trait Key: Clone + Eq + Hash + Ord + std::fmt::Debug {}
impl<K: Clone + Eq + Hash + Ord + std::fmt::Debug> Key for K {}

/// A place, taken until it is dropped.
#[derive(Debug)]
pub struct Place<K: Key> {
    places: Arc<Places<K>>,
    key: K,
    number: u64,
    evicted: Arc<Notify>,
}

impl<K: Key> Drop for Place<K> {
    fn drop(&mut self) {
        self.places.release(&self.key, self.number);
    }
}

impl<K: Key> Place<K> {
    /// Resolves when the place was given to another connection.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }
    /// The key of the place.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Key> Places<K> {
    /// Creates `all` places, of which one key may hold `own`.
    #[must_use]
    pub fn new(all: usize, own: usize) -> Arc<Self> {
        Self::with_queue(all, own, 0, Duration::MAX)
    }

    /// Like [`Places::new`], with a queue of `waiting_max` for [`Places::wait`]. If all places are
    /// taken, a connection that has had one for `stalled` is evicted.
    #[must_use]
    pub fn with_queue(all: usize, own: usize, waiting_max: usize, stalled: Duration) -> Arc<Self> {
        let state = State { taken: Ledger::default(), waiting: Ledger::default() };
        Arc::new(Self { all, own, waiting_max, stalled, state: Mutex::new(state) })
    }

    /// Number of places that are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.lock().taken.total()
    }

    /// Always gives a place: if all are taken, evicts the oldest one of the key with the most. Also
    /// returns whether one was evicted.
    #[must_use]
    pub fn enter_newest(self: &Arc<Self>, key: &K, evicted: Arc<Notify>) -> (Place<K>, bool) {
        let mut state = self.lock();
        let evicts = state.taken.total() >= self.all;
        if evicts {
            evict_fullest(&mut state);
        }
        (self.take(&mut state, key, evicted), evicts)
    }

    /// Gives a place if one is free, if another key has at least two more, or if one was taken for
    /// too long. `evicted` is notified when this place is given to another connection.
    ///
    /// # Errors
    /// The limit that was reached.
    pub fn enter(self: &Arc<Self>, key: &K, evicted: Arc<Notify>) -> Result<Place<K>, Full> {
        let mut state = self.lock();
        if state.taken.count(key) >= self.own {
            return Err(Full::Own);
        }
        self.try_take(&mut state, key, evicted).ok_or(Full::All)
    }

    /// Waits for a place. Keys with few places go first. Returns `None` if too many wait: the
    /// oldest wait of the key with the most then ends.
    pub async fn wait(self: &Arc<Self>, key: &K) -> Option<Place<K>> {
        let (number, mut given) = {
            let mut state = self.lock();
            if let Some(place) = self.try_take(&mut state, key, Arc::default()) {
                return Some(place);
            }
            if state.waiting.total() >= self.waiting_max {
                // Dropping the sender ends that wait without a place.
                let fullest = state.waiting.fullest()?.0.clone();
                state.waiting.take_oldest(&fullest);
            }
            let (give, given) = oneshot::channel();
            (state.waiting.add(key, give), given)
        };
        let _in_queue = InQueue { places: self, key, number };
        loop {
            match tokio::time::timeout(self.stalled, &mut given).await {
                Ok(place) => return place.ok(),
                Err(_) => self.reclaim(),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, state: &mut State<K>, key: &K, evicted: Arc<Notify>) -> Place<K> {
        let number =
            state.taken.add(key, Holder { since: Instant::now(), evicted: Arc::clone(&evicted) });
        Place { places: Arc::clone(self), key: key.clone(), number, evicted }
    }

    fn try_take(
        self: &Arc<Self>,
        state: &mut State<K>,
        key: &K,
        evicted: Arc<Notify>,
    ) -> Option<Place<K>> {
        if state.taken.total() >= self.all {
            let most = state.taken.fullest().map_or(0, |(_, count)| count);
            if most <= state.taken.count(key) + 1 && !self.is_stalled(state) {
                return None;
            }
            evict_fullest(state);
        }
        Some(self.take(state, key, evicted))
    }

    /// Whether the place that would be evicted was taken for too long.
    fn is_stalled(&self, state: &State<K>) -> bool {
        let oldest = state.taken.fullest().and_then(|(key, _)| state.taken.oldest(key));
        oldest.is_some_and(|(_, holder)| holder.since.elapsed() >= self.stalled)
    }

    /// Evicts a place that was taken for too long, if another connection waits.
    fn reclaim(self: &Arc<Self>) {
        let mut state = self.lock();
        if self.is_stalled(&state) {
            evict_fullest(&mut state);
            self.assign(state);
        }
    }

    fn release(self: &Arc<Self>, key: &K, number: u64) {
        let mut state = self.lock();
        // An evicted connection has no place to give back.
        if state.taken.remove(key, number).is_some() && state.waiting.total() > 0 {
            self.assign(state);
        }
    }

    /// Gives free places to the waiting keys with the fewest places; among equals, to the one that
    /// has waited longest.
    fn assign(self: &Arc<Self>, mut state: MutexGuard<'_, State<K>>) {
        let mut refused = Vec::new();
        while state.taken.total() < self.all {
            let next = state
                .waiting
                .keys()
                .min_by_key(|(key, oldest)| (state.taken.count(key), *oldest))
                .map(|(key, _)| key.clone());
            let Some(key) = next else { break };
            let Some(give) = state.waiting.take_oldest(&key) else { break };
            let place = self.take(&mut state, &key, Arc::default());
            if let Err(place) = give.send(place) {
                // The connection has ended: drop the place after the lock is released.
                state.taken.remove(&place.key, place.number);
                refused.push(place);
            }
        }
        drop(state);
        drop(refused);
    }
}

fn evict_fullest<K: Key>(state: &mut State<K>) {
    let fullest = state.taken.fullest().map(|(key, _)| key.clone());
    if let Some(holder) = fullest.and_then(|key| state.taken.take_oldest(&key)) {
        holder.evicted.notify_one();
    }
}

/// Removes a waiter from the queue when it is dropped.
struct InQueue<'a, K: Key> {
    places: &'a Places<K>,
    key: &'a K,
    number: u64,
}

impl<K: Key> Drop for InQueue<'_, K> {
    fn drop(&mut self) {
        let waiter = self.places.lock().waiting.remove(self.key, self.number);
        drop(waiter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn origin(text: &str) -> Origin {
        Origin::from(text.parse::<IpAddr>().unwrap())
    }

    fn is_evicted(place: &Place<Origin>) -> bool {
        place.evicted().now_or_never().is_some()
    }

    #[test]
    fn an_ipv6_customer_is_one_origin_and_a_mapped_address_is_its_ipv4_address() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:1"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
    }

    #[test]
    fn the_oldest_of_who_holds_the_most_gives_way_to_a_newcomer() {
        let places = Places::new(3, 3);
        let (one, two) = (origin("10.0.0.1"), origin("10.0.0.2"));
        let enter = |origin| places.enter_newest(origin, Arc::default());
        let honest = enter(&one).0;
        let (first, second) = (enter(&two).0, enter(&two).0);
        let (_newest, evicts) = enter(&two);
        assert!(evicts && places.taken() == 3);
        assert!(is_evicted(&first) && !is_evicted(&second) && !is_evicted(&honest));
        drop((honest, first, second));
        assert_eq!(places.taken(), 1, "the place of who was evicted is not given back twice");
    }

    #[test]
    fn one_key_has_a_limit_of_its_own_and_a_full_house_is_shared() {
        let places = Places::new(4, 3);
        let (one, two) = (origin("10.0.0.1"), origin("10.0.0.2"));
        let enter = |origin| places.enter(origin, Arc::default());
        let taken: Vec<_> = (0..3).map(|_| enter(&one).unwrap()).collect();
        assert_eq!(enter(&one).unwrap_err(), Full::Own);
        let _a = enter(&two).unwrap();
        let _b = enter(&two).unwrap();
        assert!(is_evicted(&taken[0]) && !is_evicted(&taken[1]));
        assert_eq!(enter(&two).unwrap_err(), Full::All, "both hold two");
    }

    #[tokio::test]
    async fn who_holds_few_goes_before_who_holds_many() {
        let places = Places::with_queue(2, 2, 10, Duration::from_secs(3600));
        let (one, two) = (origin("10.0.0.1"), origin("10.0.0.2"));
        let (first, second) = (places.wait(&one).await.unwrap(), places.wait(&one).await.unwrap());
        let (mut same, mut other) = (Box::pin(places.wait(&one)), Box::pin(places.wait(&two)));
        assert!(same.as_mut().now_or_never().is_none(), "an address does not evict its own");
        let given =
            other.as_mut().now_or_never().flatten().expect("the other address gets one at once");
        assert!(is_evicted(&first) && !is_evicted(&second));
        drop(given);
        assert!(same.await.is_some());
    }

    #[tokio::test]
    async fn a_stalled_place_is_taken_by_who_waits_and_who_left_the_queue_gets_none() {
        let places = Places::with_queue(1, 1, 10, Duration::from_millis(20));
        let one = origin("10.0.0.1");
        let stalled = places.wait(&one).await.unwrap();
        let gone = places.wait(&one).now_or_never();
        assert!(gone.is_none());
        let next = places.wait(&one).await.unwrap();
        assert!(is_evicted(&stalled));
        drop((stalled, next));
        let state = places.lock();
        assert_eq!((state.taken.total(), state.waiting.total()), (0, 0));
    }
}
