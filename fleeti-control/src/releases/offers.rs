//! Which releases a device may still be offered. The offers of a revoked release are withdrawn in
//! chunks of devices, but from the moment of the revocation on no device gets such an offer.
//!
//! INVARIANT: every desired state passes [`permitted`] before it is sent to a device.

use crate::context::Context;
use fleeti_core::wire::device::DesiredState;

/// A desired state as a device may get it now: without a release that is revoked.
#[must_use]
pub fn permitted(cx: &Context, desired: DesiredState) -> DesiredState {
    let is_revoked = |name| cx.releases.is_revoked(name);
    if desired.release.as_ref().is_some_and(is_revoked) {
        return DesiredState {
            release: None,
            back: false,
            critical: vec!["release".into()],
            ..desired
        };
    }
    desired
}
