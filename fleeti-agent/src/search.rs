//! What a device does that does not reach its server: the server's certificate may be by a root that follows this image's, and
//! the device's own may have ended, whatever its clock says, or its intermediate may not count any more.

use crate::identity::Identity;
use crate::privileged::Helper;
use crate::{Paths, anchors, enrollment};
use std::time::Duration;

/// The first look comes after this part of the time that a boot on trial has to reach the server.
const FIRST: u32 = 5;
/// Each look doubles the pause, so often.
const DOUBLINGS: u32 = 5;

/// Looks again and again, longer apart each time, until something has changed that a new start of the daemon takes up.
pub async fn run(paths: &Paths, identity: &Identity, helper: &Helper, patience: Duration) {
    for n in 0_u32.. {
        let pause = (patience / FIRST).saturating_mul(1 << n.min(DOUBLINGS));
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.7..1.0))).await;
        if look(paths, identity, helper).await {
            return;
        }
    }
}

async fn look(paths: &Paths, identity: &Identity, helper: &Helper) -> bool {
    match anchors::ask_anybody(paths, &identity.server).await {
        Ok(true) => return true,
        Ok(false) => {}
        // Nobody is there: nobody would renew a certificate either.
        Err(e) => {
            tracing::warn!("nobody says which anchors follow: {e:#}");
            return false;
        }
    }
    let renewed = enrollment::renew(paths, identity, helper).await;
    renewed.inspect_err(|e| tracing::warn!("the certificate was not renewed: {e:#}")).is_ok()
}
