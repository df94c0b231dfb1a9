//! Pairing, for people at a screen: a device without a token shows a short code, somebody who may enters it, and what the
//! device holds becomes its token (the shape of RFC 8628, 3). The code is short, so it lives shortly and is guessed rarely.

use crate::app::{App, now_s};
use crate::db;
use crate::db::pairings::PairingRow;
use crate::error::AppError;
use crate::server::Addresses;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::api::{Pair, Paired};
use fleeti_core::wire::device::{EnrollmentRecord, PairRequest, PairResponse, PairWait, PairWaited};
use fleeti_core::wire::problem::Code;
use fleeti_pki::csr;
use fleeti_pki::signer::fast;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a code is good, seconds.
pub const CODE_S: u64 = 600;
/// Devices that wait at once.
const WAITING_MAX: i64 = 200;
/// Requests that are held at once.
const HELD_MAX: usize = 400;
/// Codes that are given out in a minute.
const GIVEN_PER_MINUTE: u32 = 60;
/// Wrong codes in a minute, by whomever: at this rate one of 20^8 is not guessed in its ten minutes.
const WRONG_PER_MINUTE: u32 = 10;
/// How long a device waits for an answer before it asks again.
const PATIENCE: Duration = Duration::from_secs(50);
/// Consonants, so that no code is a word, and none is mistaken for another (RFC 8628, 6.1).
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// How often something happened within a minute of its first time.
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

/// What pairing remembers in memory.
#[derive(Default)]
pub struct Pairing {
    given: Mutex<Minute>,
    wrong: Mutex<Minute>,
    /// A code was entered.
    admitted: Notify,
    /// Devices that are held until theirs is.
    waiting: AtomicUsize,
}

fn limited(what: &str) -> AppError {
    AppError::new(Code::Unavailable, format!("too many {what} in this minute")).hint("come back in a minute")
}

fn count(minute: &Mutex<Minute>, max: u32, what: &str) -> Result<(), AppError> {
    let mut minute = minute.lock().unwrap_or_else(PoisonError::into_inner);
    if minute.at(now_s()) >= max {
        return Err(limited(what));
    }
    minute.count += 1;
    Ok(())
}

fn new_code() -> String {
    use rand::seq::IndexedRandom;
    let mut letters = (0..8).map(|_| char::from(*ALPHABET.choose(&mut rand::rng()).unwrap_or(&b'B')));
    let mut four = || letters.by_ref().take(4).collect::<String>();
    format!("{}-{}", four(), four())
}

/// What was typed, as it was shown: people leave out the line, and write small.
fn normalised(code: &str) -> Option<String> {
    let letters: String = code.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_uppercase()).collect();
    (letters.len() == 8 && letters.bytes().all(|b| ALPHABET.contains(&b))).then(|| format!("{}-{}", &letters[..4], &letters[4..]))
}

/// A device asks for a code.
///
/// # Errors
/// [`Code::Unavailable`] when too many do; [`Code::Invalid`] for a bad request.
pub async fn begin(app: &App, request: &PairRequest) -> Result<PairResponse, AppError> {
    // Proved first: whoever only knows a device's key does not take its code away, and junk costs nobody a place.
    let proved = csr::check_with(&request.csr_pem, fast::verify).map_err(|e| AppError::new(Code::Invalid, format!("csr_pem: {e}")))?;
    count(&app.pairing.given, GIVEN_PER_MINUTE, "devices that want a code")?;
    let (token, code) = (hex::encode(rand::random::<[u8; 32]>()), new_code());
    let row = PairingRow {
        token_sha256: sha256_hex(token.as_bytes()),
        key_sha256: sha256_hex(proved.public_key_der()),
        running: request.running.to_string(),
    };
    let (now, expires_s) = (now_s(), now_s() + CODE_S);
    let mut tx = app.db.write().await?;
    if !db::pairings::insert(&mut tx, &row, &sha256_hex(code.as_bytes()), (now, expires_s), WAITING_MAX).await? {
        return Err(AppError::new(Code::Unavailable, "too many devices wait for their code").hint("come back in ten minutes"));
    }
    tx.commit().await?;
    Ok(PairResponse { token, code, expires_s })
}

/// One of those who are held.
struct Held<'a>(&'a AtomicUsize);

impl<'a> Held<'a> {
    fn new(waiting: &'a AtomicUsize) -> Result<Self, AppError> {
        let held = Self(waiting);
        if waiting.fetch_add(1, Ordering::SeqCst) >= HELD_MAX { Err(limited("devices that wait")) } else { Ok(held) }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A device waits until its code was entered. It is answered when that happens, or after a while.
///
/// # Errors
/// [`Code::Forbidden`] for a token that nobody waits with.
pub async fn wait(app: &App, request: &PairWait) -> Result<PairWaited, AppError> {
    let _held = Held::new(&app.pairing.waiting)?;
    let token_sha256 = sha256_hex(request.token.as_bytes());
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        // Listened to first, so that nothing is missed between the look and the wait.
        let mut admitted = std::pin::pin!(app.pairing.admitted.notified());
        admitted.as_mut().enable();
        match db::pairings::state(app.db.pool(), &token_sha256, now_s()).await? {
            (_, true) => return Ok(PairWaited { is_paired: true }),
            (false, false) => return Err(AppError::new(Code::Forbidden, "the code was not entered in time, or is of another device")),
            (true, false) => {}
        }
        if tokio::time::timeout_at(end, admitted).await.is_err() {
            return Ok(PairWaited { is_paired: false });
        }
    }
}

/// Somebody who may enters a code.
///
/// # Errors
/// [`Code::NotFound`] for a code that no device shows; [`Code::Unavailable`] after too many wrong ones.
pub async fn enter(app: &App, pair: &Pair) -> Result<Paired, AppError> {
    let wrong_max = |minute: &Mutex<Minute>| minute.lock().unwrap_or_else(PoisonError::into_inner).at(now_s()) >= WRONG_PER_MINUTE;
    if wrong_max(&app.pairing.wrong) {
        return Err(limited("wrong codes"));
    }
    let mut tx = app.db.write().await?;
    // By its digest: how long the look takes says nothing about the code.
    let found = match normalised(&pair.code) {
        Some(code) => db::pairings::take(&mut tx, &sha256_hex(code.as_bytes()), now_s()).await?,
        None => None,
    };
    let Some(row) = found else {
        count(&app.pairing.wrong, WRONG_PER_MINUTE, "wrong codes")?;
        return Err(AppError::new(Code::NotFound, "no device shows this code")
            .hint("a code is good for ten minutes; the device shows the newest one"));
    };
    db::pairings::admit(&mut tx, &row, &pair.fleet, now_s() + CODE_S).await?;
    app.audit(&mut tx, now_s(), "admin", "enrollment.pair", &format!("{} key {}", pair.fleet, row.key_sha256)).await?;
    tx.commit().await?;
    app.pairing.admitted.notify_waiters();
    Ok(Paired { fleet: pair.fleet.clone(), running: row.running.parse().map_err(AppError::internal)?, key_sha256: row.key_sha256 })
}

/// What a device must be told that pairs: where the server is, and no token.
#[must_use]
pub fn record(app: &App, addresses: &Addresses) -> EnrollmentRecord {
    super::enrollment::record(app, addresses, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

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
