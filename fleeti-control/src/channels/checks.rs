//! What acts on updates need: a reason, and a release that may be offered.

use crate::context::Context;
use crate::error::Error;
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::api::REASON_MAX;
use fleeti_core::wire::problem::Code;
use fleeti_store::{self as store, Tx};

/// The reason of an act, without space around it.
pub(super) fn checked_reason(reason: &str) -> Result<&str, Error> {
    let reason = reason.trim();
    let length = reason.chars().count();
    if (1..=REASON_MAX).contains(&length) {
        return Ok(reason);
    }
    let text = format!("reason has {length} characters, must have 1 to {REASON_MAX}");
    Err(Error::new(Code::Invalid, text))
}

/// Checks that a release is published and not revoked.
pub(super) async fn check_release(
    cx: &Context,
    tx: &mut Tx<'_>,
    release: &ReleaseName,
) -> Result<(), Error> {
    if cx.releases.is_revoked(release) {
        return Err(Error::new(Code::Conflict, format!("{release} is revoked"))
            .hint("publish a higher version"));
    }
    if store::releases::is_good(tx, release).await? {
        return Ok(());
    }
    Err(Error::not_found("release", &release.to_string()))
}
