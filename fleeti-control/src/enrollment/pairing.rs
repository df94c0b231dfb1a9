//! Pairing of devices with a screen: a device without a token shows a short code, an operator
//! enters it, and a secret of the device becomes its enrollment token (as in RFC 8628, 3). The code
//! is short, so it expires soon and wrong codes are rate-limited.

use crate::clock::now_s;
use crate::context::Context;
use crate::enrollment::codes::CODE_S;
use crate::error::Error;
use crate::places::Origin;
use crate::ports::Addresses;
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
    cx.enrollment.pairing.give(origin, limits.codes_per_minute)?;
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
    let (now, expires_s) = (now_s(), now_s() + CODE_S);
    let lost = cx.enrollment.pairing.codes.lock().unwrap_or_else(PoisonError::into_inner).enter(
        origin,
        &row.token_sha256,
        now,
        limits.pairing,
    )?;
    let mut tx = cx.db.write().await?;
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
pub async fn wait(cx: &Context, origin: Origin, request: &PairWait) -> Result<PairWaited, Error> {
    let place = cx.enrollment.pairing.waiting.enter(&origin, Arc::default());
    let token_sha256 = sha256_hex(request.token.as_bytes());
    let end =
        tokio::time::Instant::now() + if place.is_ok() { PATIENCE } else { PATIENCE_WHEN_FULL };
    loop {
        // Subscribe first, so that no notification is missed between the check and the wait.
        let mut admitted = std::pin::pin!(cx.enrollment.pairing.admitted.notified());
        admitted.as_mut().enable();
        match store::pairings::state(cx.db.pool(), &token_sha256, now_s()).await? {
            (_, true) => return Ok(PairWaited { is_paired: true }),
            (false, false) => {
                return Err(Error::new(
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
pub async fn enter(cx: &Context, pair: &Pair) -> Result<Paired, Error> {
    let guess = cx.enrollment.pairing.guess()?;
    let mut tx = cx.db.write().await?;
    // Looks up the digest, so that the time reveals nothing about the code.
    let found = match normalised(&pair.code) {
        Some(code) => store::pairings::take(&mut tx, &sha256_hex(code.as_bytes()), now_s()).await?,
        None => None,
    };
    let Some(row) = found else {
        return Err(Error::new(Code::NotFound, "no device shows this code")
            .hint("a code expires after ten minutes; enter the one that the device shows now"));
    };
    guess.was_right();
    store::pairings::admit(&mut tx, &row, &pair.fleet, now_s() + CODE_S).await?;
    cx.audit(
        &mut tx,
        now_s(),
        "admin",
        "enrollment.pair",
        &format!("{} key {}", pair.fleet, row.key_sha256),
    )
    .await?;
    tx.commit().await?;
    cx.enrollment.pairing.admitted.notify_waiters();
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
