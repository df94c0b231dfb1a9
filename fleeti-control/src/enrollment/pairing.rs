//! Pairing of devices with a screen: a device without a token shows a short code, an operator
//! enters it, and a secret of the device becomes its enrollment token (as in RFC 8628, 3). The code
//! is short, so it expires soon and wrong codes are rate-limited.

use crate::accounts::actor::{Actor, Scope};
use crate::context::Context;
use crate::error::Error;
use crate::places::Origin;
use crate::ports::Addresses;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::enrollment::pairing::{self as machine, Effect, Event, State};
use fleeti_core::enrollment::token::Terms;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::api::{Pair, Paired};
use fleeti_core::wire::enrollment::{
    EnrollmentRecord, PairRequest, PairResponse, PairWait, PairWaited,
};
use fleeti_core::wire::problem::Code;
use fleeti_pki::csr;
use fleeti_pki::signer::fast;
use fleeti_store::pairings::{PairingRow, StoredPairing};
use fleeti_store::{self as store, Tx};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long the server holds a waiting request before the device must repeat it.
const PATIENCE: Duration = Duration::from_secs(50);
/// The same while too many requests wait.
const PATIENCE_WHEN_FULL: Duration = Duration::from_secs(1);
/// Consonants only, so that no code is a word or looks like another (RFC 8628, 6.1).
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

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
    cx: &Context,
    origin: Origin,
    request: &PairRequest,
) -> Result<PairResponse, Error> {
    let limits = &cx.settings.limits;
    let now_s = cx.now_s();
    cx.enrollment.pairing.give(origin, limits.codes_per_minute, now_s)?;
    // Verify the proof of possession first: a client that only knows a device's public key cannot
    // replace its code, and invalid requests take no place.
    let proved = csr::check_with(&request.csr_pem, fast::verify)
        .map_err(|e| Error::new(Code::Invalid, format!("csr_pem: {e}")))?;
    let (token, code) = (hex::encode(rand::random::<[u8; 32]>()), new_code());
    let row = PairingRow {
        token_sha256: sha256_hex(token.as_bytes()),
        key_sha256: sha256_hex(proved.public_key_der()),
        running: request.running.to_string(),
    };
    let expires_s = machine::expires_s(now_s);
    let evicted = cx
        .enrollment
        .pairing
        .codes
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .enter(origin, &row.token_sha256, now_s, limits.pairing)?;
    let mut tx = cx.db.write().await?;
    store::pairings::prune(&mut tx, now_s).await?;
    if let Some(token_sha256) = evicted {
        let state = store::pairings::state(&mut tx, &token_sha256).await?;
        end(&mut tx, &token_sha256, state, Event::Evict, now_s).await?;
    }
    // One pending enrollment per key: a restarted device gets a new code.
    for StoredPairing { row, state } in store::pairings::of_key(&mut tx, &row.key_sha256).await? {
        end(&mut tx, &row.token_sha256, state, Event::Replace, now_s).await?;
    }
    store::pairings::insert(&mut tx, &row, &sha256_hex(code.as_bytes()), expires_s).await?;
    tx.commit().await?;
    Ok(PairResponse { token, code, expires_s })
}

/// Ends a pairing for a newer one.
async fn end(
    tx: &mut Tx<'_>,
    token_sha256: &str,
    state: State,
    event: Event,
    now_s: u64,
) -> Result<(), Error> {
    // A pairing that has ended already stays as it is.
    let Ok((_, effects)) = machine::step(state, event, now_s) else { return Ok(()) };
    if effects.contains(&Effect::Delete) {
        store::pairings::remove(tx, token_sha256).await?;
    }
    Ok(())
}

/// Waits until the code of a device is entered. Returns when that happens, or after `PATIENCE`;
/// sooner if too many requests wait.
///
/// # Errors
/// [`Code::Forbidden`] for an unknown token.
pub async fn wait(cx: &Context, origin: Origin, request: &PairWait) -> Result<PairWaited, Error> {
    let place = cx.enrollment.pairing.waiting.enter(&origin, Arc::default());
    let token_sha256 = sha256_hex(request.token.as_bytes());
    let end =
        tokio::time::Instant::now() + if place.is_ok() { PATIENCE } else { PATIENCE_WHEN_FULL };
    loop {
        // Subscribe first, so that no notification is missed between the check and the wait.
        let mut admitted = std::pin::pin!(cx.enrollment.pairing.admitted.notified());
        admitted.as_mut().enable();
        let state = store::pairings::state(&mut cx.db.reader().await?, &token_sha256).await?;
        let (_, effects) = machine::step(state, Event::Wait, cx.now_s()).map_err(|_| {
            Error::new(Code::Forbidden, "the code has expired, or belongs to another device")
        })?;
        if effects.contains(&Effect::AnswerPaired) {
            return Ok(PairWaited { is_paired: true });
        }
        if tokio::time::timeout_at(end, admitted).await.is_err() {
            return Ok(PairWaited { is_paired: false });
        }
    }
}

/// A code that an operator has entered.
struct Entered {
    row: PairingRow,
    /// Last second of the token.
    expires_s: u64,
    effects: Vec<Effect>,
}

/// Enters a code, on behalf of an operator.
///
/// # Errors
/// [`Code::NotFound`] for a code that no device shows; [`Code::Unavailable`] after too many wrong
/// codes.
pub async fn enter(cx: &Context, by: &Actor, pair: &Pair) -> Result<Paired, Error> {
    by.authorize(Permission::Enroll, Scope::Fleet(&pair.fleet))?;
    let now_s = cx.now_s();
    let guess = cx.enrollment.pairing.guess(now_s)?;
    let mut tx = cx.db.write().await?;
    // Looks up the digest, so that the time reveals nothing about the code.
    let found = match normalised(&pair.code) {
        Some(code) => store::pairings::by_code(&mut tx, &sha256_hex(code.as_bytes())).await?,
        None => None,
    };
    // The same error for a code that has expired, so that a wrong guess learns nothing.
    let entered = found.and_then(|StoredPairing { row, state }| {
        match machine::step(state, Event::Enter, now_s).ok()? {
            (State::Paired { expires_s }, effects) => Some(Entered { row, expires_s, effects }),
            (State::Pending { .. } | State::Gone, _) => None,
        }
    });
    let Some(Entered { row, expires_s, effects }) = entered else {
        return Err(Error::new(Code::NotFound, "no device shows this code")
            .hint("a code expires after ten minutes; enter the one that the device shows now"));
    };
    guess.was_right();
    store::pairings::remove(&mut tx, &row.token_sha256).await?;
    if effects.contains(&Effect::IssueToken) {
        let terms =
            Terms { for_key_sha256: Some(row.key_sha256.clone()), ..Terms::until(expires_s) };
        store::enrollments::insert(&mut tx, &row.token_sha256, &pair.fleet, &terms).await?;
        store::accounts::made_enrollment(&mut tx, &row.token_sha256, by.account()).await?;
    }
    let subject = format!("{} key {}", pair.fleet, row.key_sha256);
    cx.audit(&mut tx, by.act("enrollment.pair", &subject)).await?;
    tx.commit().await?;
    if effects.contains(&Effect::WakeWaiting) {
        cx.enrollment.pairing.admitted.notify_waiters();
    }
    Ok(Paired {
        fleet: pair.fleet.clone(),
        running: row.running.parse().map_err(Error::internal)?,
        key_sha256: row.key_sha256,
    })
}

/// The enrollment record for pairing: the server's addresses and anchors, without a token.
#[must_use]
pub fn record(cx: &Context, addresses: &Addresses) -> EnrollmentRecord {
    crate::enrollment::token::record(cx, addresses, String::new())
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
