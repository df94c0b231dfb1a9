//! What acts on updates need: a release that may be offered.

use crate::context::Context;
use crate::error::Error;
use fleeti_core::id::ReleaseName;
use fleeti_core::wire::problem::Code;
use fleeti_store::{self as store, Tx};

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
