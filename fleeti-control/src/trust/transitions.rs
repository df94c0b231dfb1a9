//! Transitions from old trust anchors to new ones. The server only stores and serves them: a device
//! verifies them with its own anchors.

use crate::accounts::actor::Actor;
use crate::context::Context;
use crate::error::Error;
use crate::trust::notice;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::readmission::SignedTransition;
use fleeti_pki::transition::{self, Change, SIGNATURES_MAX, TRANSITIONS_MAX};
use fleeti_store as store;
use std::collections::BTreeMap;

/// All transitions, oldest first.
pub async fn all(cx: &Context) -> Result<Vec<SignedTransition>, Error> {
    Ok(store::trust::transitions(cx.db.pool()).await?)
}

/// Stores a transition forever and announces it to devices. Importing it again with other
/// signatures adds these signatures.
///
/// # Errors
/// [`Code::Invalid`] for an invalid transition, or one without signatures; [`Code::Conflict`] if
/// there are [`TRANSITIONS_MAX`] already.
pub async fn import(
    cx: &Context,
    by: &Actor,
    signed: &SignedTransition,
) -> Result<Vec<SignedTransition>, Error> {
    let invalid = |text: String| Error::new(Code::Invalid, text);
    let read = transition::read(&signed.transition).map_err(|e| invalid(e.to_string()))?;
    if signed.signatures.is_empty() {
        return Err(invalid("the transition has no signature".into()));
    }
    let sha256 = sha256_hex(signed.transition.as_bytes());
    let known = all(cx).await?;
    let same = known.iter().find(|k| k.transition == signed.transition);
    if same.is_none() && known.len() >= TRANSITIONS_MAX {
        return Err(Error::new(
            Code::Conflict,
            format!("limit of {TRANSITIONS_MAX} transitions reached"),
        ));
    }
    let signatures: BTreeMap<_, _> =
        same.iter().flat_map(|s| &s.signatures).chain(&signed.signatures).cloned().collect();
    if signatures.len() > SIGNATURES_MAX {
        return Err(invalid(format!(
            "{} signatures, at most {SIGNATURES_MAX} are allowed",
            signatures.len()
        )));
    }
    let merged = SignedTransition {
        transition: signed.transition.clone(),
        signatures: signatures.into_iter().collect(),
    };
    let what = match read.change {
        Change::Root { .. } => "root",
        Change::ReleaseKeys { .. } => "release-keys",
        Change::LogKey { .. } => "log-key",
        Change::LogReset { .. } => "log-reset",
        Change::Server(_) => "server",
        Change::OpenpgpKeys { .. } => "openpgp-keys",
    };
    let mut tx = cx.db.write().await?;
    store::trust::keep_transition(&mut tx, &sha256, &merged, cx.now_s()).await?;
    cx.audit(&mut tx, by.act("transition.import", format!("{what} {sha256}"))).await?;
    tx.commit().await?;
    notice::tell(cx).await;
    all(cx).await
}
