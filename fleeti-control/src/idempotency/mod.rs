//! Requests that a client may repeat: with the same `Idempotency-Key` (IETF,
//! draft-ietf-httpapi-idempotency-key-header) a request is done once, and a repetition gets the same
//! answer.
//!
//! A key belongs to an account. That its request was done is stored in the transaction of its act
//! (`running`), and its answer afterwards: if the server ends between the two, a repetition is refused
//! and does nothing. Answers may have one-time secrets, so they are sealed by a key that follows from
//! `DIR/accounts.key` and the client's key; of the latter the database has a MAC only.

pub(crate) mod running;
pub(crate) mod state;

use crate::accounts::actor::Actor;
use crate::context::Context;
use crate::error::Error;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::strict;
use fleeti_core::wire::problem::Code;
use fleeti_pki::wrap::{WrapKey, Wrapped};
use fleeti_store as store;
use fleeti_store::idempotency::KeyRow;
use running::Running;
use serde::{Deserialize, Serialize};
use state::{IN_PROGRESS_MAX, NoPlace, Place};
use std::sync::Arc;

/// Maximum length of a key, characters.
pub const KEY_MAX: usize = 128;
/// How long a key is kept, seconds.
pub const KEPT_S: u64 = 24 * 3600;
/// Number of keys of an account that are kept: the newest.
pub const KEPT_MAX: u32 = 1000;
/// Size limit of an answer that is kept, bytes.
pub const ANSWER_MAX: usize = 16 << 10;

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The media type of the body; empty without a body.
    pub kind: String,
    /// The body.
    pub body: String,
}

/// A request with a key.
pub enum Begun<'c> {
    /// It was not done yet. No other request with this key is begun until this is dropped.
    New(Begin<'c>),
    /// It was done: the same answer.
    Again(Answer),
}

/// A request that is worked on.
pub struct Begin<'c> {
    cx: &'c Context,
    running: Arc<Running>,
    seal: WrapKey,
    _place: Place<'c>,
}

/// Begins a request of an account with a key. `request` is everything that makes it the same: its
/// method, address and body.
///
/// # Errors
/// [`Code::InProgress`] while the same request is worked on; [`Code::TooMany`] while many of the
/// account are; [`Code::Invalid`] for another request with
/// a known key; [`Code::Conflict`] for one that was done, and whose answer is not kept.
pub async fn begin<'c>(
    cx: &'c Context,
    by: &Actor,
    key: &str,
    request: &[u8],
) -> Result<Begun<'c>, Error> {
    let account = by.account().to_owned();
    let id = hex::encode(cx.accounts.derived_key(&format!("the id of {account}'s request {key}"))?);
    let seal = cx.accounts.derived_key(&format!("the answer to {account}'s request {key}"))?;
    let (seal, request) = (WrapKey::from_bytes(&seal)?, sha256_hex(request));
    let place = cx.in_progress.enter(&id, &account).map_err(refused)?;
    let row = KeyRow { id, account, created_s: cx.now_s(), request, answer: None };
    let begin = Begin { cx, running: Arc::new(Running::new(row)), seal, _place: place };
    let row = &begin.running.row;
    let found = store::idempotency::get(&mut cx.db.reader().await?, &row.id).await?;
    let Some(known) = found.filter(|known| known.created_s + KEPT_S > row.created_s) else {
        return Ok(Begun::New(begin));
    };
    if known.request != row.request {
        let text = "Idempotency-Key: this key was used for another request";
        return Err(Error::new(Code::Invalid, text).hint("use a new key for each request"));
    }
    match known.answer {
        Some(sealed) => Ok(Begun::Again(begin.open(&sealed)?)),
        None => {
            let text = "this request was begun before, and its answer is not kept: it may be done \
                        whole or in part";
            Err(Error::new(Code::Conflict, text)
                .hint("look at what it made; use a new key to do it again"))
        }
    }
}

/// The error of a request that gets no place.
fn refused(why: NoPlace) -> Error {
    match why {
        NoPlace::IsTheSame => Error::new(Code::InProgress, "the same request is being worked on")
            .hint("repeat it in a moment"),
        NoPlace::TooMany => {
            let text =
                format!("{IN_PROGRESS_MAX} requests of this account with keys are being worked on");
            Error::new(Code::TooMany, text).hint("wait until one of them is answered")
        }
    }
    .retry_after(1)
}

impl Begin<'_> {
    /// Works on the request: an act of it is stored with its key.
    pub async fn scope<F: Future>(&self, work: F) -> F::Output {
        self.running.scope(work).await
    }

    /// Stores the answer, if the request was done: if it succeeded, or an act of it was stored. `None`
    /// stands for an answer that is not kept.
    pub async fn answered(&self, is_success: bool, answer: Option<&Answer>) -> Result<(), Error> {
        if !is_success && !self.running.has_acted() {
            return Ok(());
        }
        let row = &self.running.row;
        let mut tx = self.cx.db.write().await?;
        // An act that was rolled back has stored nothing.
        if !is_success && store::idempotency::get(&mut tx, &row.id).await?.is_none() {
            return Ok(());
        }
        let answer = answer.map(|answer| self.sealed(answer)).transpose()?;
        store::idempotency::put(&mut tx, &KeyRow { answer, ..row.clone() }).await?;
        store::idempotency::prune_account(&mut tx, &row.account, KEPT_MAX).await?;
        Ok(tx.commit().await?)
    }

    fn sealed(&self, answer: &Answer) -> Result<String, Error> {
        let what = Wrapped::Answer(&self.running.row.id);
        Ok(BASE64_STANDARD.encode(self.seal.wrap(what, &serde_json::to_vec(answer)?)?))
    }

    fn open(&self, sealed: &str) -> Result<Answer, Error> {
        let changed = || {
            let text =
                "the answer was changed in the database, or the key of the server was replaced";
            Error::new(Code::Conflict, text)
                .hint("look at what the request made; use a new key to do it again")
        };
        let sealed = BASE64_STANDARD.decode(sealed).map_err(|_| changed())?;
        let what = Wrapped::Answer(&self.running.row.id);
        let plain = self.seal.unwrap(what, &sealed).map_err(|_| changed())?;
        Ok(strict::from_slice(&plain)?)
    }
}
