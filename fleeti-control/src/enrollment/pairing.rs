//! Pairing of devices with a screen: a device without a token shows a short code, an operator
//! enters it, and a secret of the device becomes its enrollment token (as in RFC 8628, 3). The code
//! is short, so it expires soon and wrong codes are rate-limited.

use crate::app::{App, now_s};
use crate::error::AppError;
use crate::gateway::ledger::Ledger;
use crate::gateway::places::{Origin, Places};
use crate::server::Addresses;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::api::{Pair, Paired};
use fleeti_core::wire::enrollment::{
    EnrollmentRecord, PairRequest, PairResponse, PairWait, PairWaited,
};
use fleeti_core::wire::problem::Code;
use fleeti_pki::csr;
use fleeti_pki::signer::fast;
use fleeti_store as store;
use fleeti_store::pairings::PairingRow;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Validity of a code, in seconds.
pub const CODE_S: u64 = 600;
/// Maximum number of waiting requests, in total and per address.
const HELD_MAX: usize = 400;
const HELD_PER_ADDRESS: usize = 100;
/// Maximum number of addresses whose codes are counted.
const ADDRESSES_MAX: usize = 4096;
/// Maximum number of wrong codes per minute, over all clients. At this rate a code out of 20^8 is
/// not guessed within its ten minutes.
const WRONG_PER_MINUTE: u32 = 10;
/// How long the server holds a waiting request before the device must repeat it.
const PATIENCE: Duration = Duration::from_secs(50);
/// The same while too many requests wait.
const PATIENCE_WHEN_FULL: Duration = Duration::from_secs(1);
/// Consonants only, so that no code is a word or looks like another (RFC 8628, 6.1).
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// Counts events within a minute from the first one.
#[derive(Default)]
struct Minute {
    began_s: u64,
    count: u32,
}

impl Minute {
    fn at(&mut self, now_s: u64) -> u32 {
        if now_s.abs_diff(self.began_s) >= 60 {
            *self = Self { began_s: now_s, count: 0 };
        }
        self.count
    }
}

/// The in-memory state of pairing.
pub struct Pairing {
    given: Mutex<HashMap<Origin, Minute>>,
    /// Codes of the last ten minutes, by the address that requested them.
    codes: Mutex<Codes>,
    wrong: Mutex<Minute>,
    /// Notifies waiting requests that a code was entered.
    admitted: Notify,
    /// Places of waiting requests.
    held: Arc<Places<Origin>>,
}

impl Default for Pairing {
    fn default() -> Self {
        let held = Places::new(HELD_MAX, HELD_PER_ADDRESS);
        Self {
            given: Mutex::default(),
            codes: Mutex::default(),
            wrong: Mutex::default(),
            admitted: Notify::new(),
            held,
        }
    }
}

/// Tokens of pending enrollments, by address, and when they expire.
#[derive(Default)]
struct Codes {
    of: Ledger<Origin, String>,
    ends: VecDeque<(u64, Origin, u64)>,
}

impl Codes {
    /// Adds a pending enrollment. If there is no place left, evicts one of an address that has at
    /// least two more, and returns the evicted token.
    fn enter(
        &mut self,
        origin: Origin,
        token_sha256: &str,
        now_s: u64,
        all: usize,
    ) -> Result<Option<String>, AppError> {
        while let Some((_, of, number)) =
            self.ends.front().copied().filter(|(ends_s, ..)| *ends_s < now_s)
        {
            self.of.remove(&of, number);
            self.ends.pop_front();
        }
        let mut lost = None;
        if self.of.total() >= all {
            let own = self.of.count(&origin);
            let fullest =
                self.of.fullest().filter(|(_, count)| *count > own + 1).map(|(of, _)| *of);
            let Some(fullest) = fullest else {
                return Err(AppError::new(Code::Unavailable, "too many pending enrollments")
                    .hint("try again in ten minutes")
                    .retry_after(CODE_S));
            };
            lost = self.of.take_oldest(&fullest);
        }
        let number = self.of.add(&origin, token_sha256.to_owned());
        self.ends.push_back((now_s + CODE_S, origin, number));
        Ok(lost)
    }
}

fn limited(code: Code, what: &str) -> AppError {
    AppError::new(code, format!("too many {what} within a minute"))
        .hint("try again in a minute")
        .retry_after(60)
}

impl Pairing {
    /// Counts a code for an address. An address gets `max` codes per minute.
    fn give(&self, origin: Origin, max: u32) -> Result<(), AppError> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if given.len() >= ADDRESSES_MAX && !given.contains_key(&origin) {
            // An attacker with this many addresses is not limited here, but must not block others.
            given.clear();
        }
        let minute = given.entry(origin).or_default();
        if minute.at(now_s()) >= max {
            return Err(limited(Code::TooMany, "codes for one address"));
        }
        minute.count += 1;
        Ok(())
    }

    /// Counts a code as wrong before the lookup, so that concurrent guesses are counted as well.
    fn guess(&self) -> Result<Guess<'_>, AppError> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.at(now_s()) >= WRONG_PER_MINUTE {
            return Err(limited(Code::Unavailable, "wrong codes"));
        }
        wrong.count += 1;
        Ok(Guess(&self.wrong))
    }
}

/// A guess that counts as wrong until the code turns out to be right.
struct Guess<'a>(&'a Mutex<Minute>);

impl Guess<'_> {
    fn was_right(self) {
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.count = wrong.count.saturating_sub(1);
    }
}

fn new_code() -> String {
    use rand::seq::IndexedRandom;
    let mut letters =
        (0..8).map(|_| char::from(*ALPHABET.choose(&mut rand::rng()).unwrap_or(&b'B')));
    let mut four = || letters.by_ref().take(4).collect::<String>();
    format!("{}-{}", four(), four())
}

/// Normalises a typed code: people omit the hyphen and type in lower case.
fn normalised(code: &str) -> Option<String> {
    let letters: String = code
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '-')
        .map(|c| c.to_ascii_uppercase())
        .collect();
    (letters.len() == 8 && letters.bytes().all(|b| ALPHABET.contains(&b)))
        .then(|| format!("{}-{}", &letters[..4], &letters[4..]))
}

/// Creates a pending enrollment, and returns its code.
///
/// # Errors
/// [`Code::TooMany`] for too many codes of this address; [`Code::Unavailable`] for too many pending
/// enrollments; [`Code::Invalid`] for a bad request.
pub async fn begin(
    app: &App,
    origin: Origin,
    request: &PairRequest,
) -> Result<PairResponse, AppError> {
    let limits = &app.config.limits;
    app.pairing.give(origin, limits.codes_per_minute)?;
    // Verify the proof of possession first: a client that only knows a device's public key cannot
    // replace its code, and invalid requests take no place.
    let proved = csr::check_with(&request.csr_pem, fast::verify)
        .map_err(|e| AppError::new(Code::Invalid, format!("csr_pem: {e}")))?;
    let (token, code) = (hex::encode(rand::random::<[u8; 32]>()), new_code());
    let row = PairingRow {
        token_sha256: sha256_hex(token.as_bytes()),
        key_sha256: sha256_hex(proved.public_key_der()),
        running: request.running.to_string(),
    };
    let (now, expires_s) = (now_s(), now_s() + CODE_S);
    let lost = app.pairing.codes.lock().unwrap_or_else(PoisonError::into_inner).enter(
        origin,
        &row.token_sha256,
        now,
        limits.pairing,
    )?;
    let mut tx = app.db.write().await?;
    if let Some(token_sha256) = lost {
        store::pairings::remove(&mut tx, &token_sha256).await?;
    }
    store::pairings::insert(&mut tx, &row, &sha256_hex(code.as_bytes()), (now, expires_s)).await?;
    tx.commit().await?;
    Ok(PairResponse { token, code, expires_s })
}

/// Waits until the code of a device is entered. Returns when that happens, or after `PATIENCE`;
/// sooner if too many requests wait.
///
/// # Errors
/// [`Code::Forbidden`] for an unknown token.
pub async fn wait(app: &App, origin: Origin, request: &PairWait) -> Result<PairWaited, AppError> {
    let held = app.pairing.held.enter(&origin, Arc::default());
    let token_sha256 = sha256_hex(request.token.as_bytes());
    let end =
        tokio::time::Instant::now() + if held.is_ok() { PATIENCE } else { PATIENCE_WHEN_FULL };
    loop {
        // Subscribe first, so that no notification is missed between the check and the wait.
        let mut admitted = std::pin::pin!(app.pairing.admitted.notified());
        admitted.as_mut().enable();
        match store::pairings::state(app.db.pool(), &token_sha256, now_s()).await? {
            (_, true) => return Ok(PairWaited { is_paired: true }),
            (false, false) => {
                return Err(AppError::new(
                    Code::Forbidden,
                    "the code has expired, or belongs to another device",
                ));
            }
            (true, false) => {}
        }
        if tokio::time::timeout_at(end, admitted).await.is_err() {
            return Ok(PairWaited { is_paired: false });
        }
    }
}

/// Enters a code, on behalf of an operator.
///
/// # Errors
/// [`Code::NotFound`] for a code that no device shows; [`Code::Unavailable`] after too many wrong
/// codes.
pub async fn enter(app: &App, pair: &Pair) -> Result<Paired, AppError> {
    let guess = app.pairing.guess()?;
    let mut tx = app.db.write().await?;
    // Looks up the digest, so that the time reveals nothing about the code.
    let found = match normalised(&pair.code) {
        Some(code) => store::pairings::take(&mut tx, &sha256_hex(code.as_bytes()), now_s()).await?,
        None => None,
    };
    let Some(row) = found else {
        return Err(AppError::new(Code::NotFound, "no device shows this code")
            .hint("a code expires after ten minutes; enter the one that the device shows now"));
    };
    guess.was_right();
    store::pairings::admit(&mut tx, &row, &pair.fleet, now_s() + CODE_S).await?;
    app.audit(
        &mut tx,
        now_s(),
        "admin",
        "enrollment.pair",
        &format!("{} key {}", pair.fleet, row.key_sha256),
    )
    .await?;
    tx.commit().await?;
    app.pairing.admitted.notify_waiters();
    Ok(Paired {
        fleet: pair.fleet.clone(),
        running: row.running.parse().map_err(AppError::internal)?,
        key_sha256: row.key_sha256,
    })
}

/// The enrollment record for pairing: the server's addresses and anchors, without a token.
#[must_use]
pub fn record(app: &App, addresses: &Addresses) -> EnrollmentRecord {
    super::enrollment::record(app, addresses, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_many_codes_gives_way_to_one_with_few() {
        let (mut codes, now) = (Codes::default(), 1000);
        let [many, few] = ["192.0.2.1", "192.0.2.2"]
            .map(|a| Origin::from(a.parse::<std::net::IpAddr>().unwrap()));
        for token in ["a", "b", "c"] {
            assert_eq!(codes.enter(many, token, now, 3).unwrap(), None);
        }
        assert_eq!(codes.enter(many, "d", now, 3).unwrap_err().code(), Code::Unavailable);
        assert_eq!(codes.enter(few, "e", now, 3).unwrap().as_deref(), Some("a"));
        assert_eq!(
            codes.enter(few, "f", now, 3).unwrap_err().code(),
            Code::Unavailable,
            "as many, but for one"
        );
        // Their time is over.
        assert_eq!(codes.enter(many, "g", now + CODE_S + 1, 3).unwrap(), None);
        assert_eq!((codes.of.total(), codes.ends.len()), (1, 1));
    }

    #[test]
    fn guesses_are_counted_before_they_are_looked_up() {
        let pairing = Pairing::default();
        let mut guesses: Vec<_> = (0..WRONG_PER_MINUTE).map(|_| pairing.guess().unwrap()).collect();
        assert_eq!(
            pairing.guess().err().unwrap().code(),
            Code::Unavailable,
            "all at the same time"
        );
        guesses.pop().unwrap().was_right();
        assert!(pairing.guess().is_ok() && pairing.guess().is_err());
    }

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let code = new_code();
        assert_eq!(normalised(&code), Some(code.clone()));
        assert_eq!(normalised(&code.to_lowercase().replace('-', " ")), Some(code.clone()));
        for bad in ["", "BCDF-GHJ", "AEIO-UBCD", "BCDF-GHJKL", "ßßßß-ßßßß"] {
            assert_eq!(normalised(bad), None, "{bad}");
        }
        assert_ne!(new_code(), code);
    }
}
