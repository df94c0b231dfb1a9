//! What a device does that does not reach its server: the server's certificate may be by a root
//! that follows this image's, and the device's own may have ended, whatever its clock says, or its
//! intermediate may not count any more. Or the server moved, and nobody is at the next address.

use crate::identity::Identity;
use crate::privileged::Helper;
use crate::{Paths, anchors, enrollment};
use anyhow::Result;
use std::time::Duration;

/// The first look comes after this part of the time that a boot on trial has to reach the server.
const FIRST: u32 = 5;
/// Each look doubles the pause, so often.
const DOUBLINGS: u32 = 5;

/// Looks again and again, longer apart each time, until something has changed that a new start of
/// the daemon takes up.
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
            return go_back(paths, identity).await.unwrap_or_else(|e| {
                tracing::warn!("the server's previous address: {e:#}");
                false
            });
        }
    }
    let renewed = enrollment::renew(paths, identity, helper).await;
    renewed.inspect_err(|e| tracing::warn!("the certificate was not renewed: {e:#}")).is_ok()
}

/// Goes back to the server's previous address, where the server is there and not at the next one.
async fn go_back(paths: &Paths, identity: &Identity) -> Result<bool> {
    let Some(back) = identity.server.back() else { return Ok(false) };
    if !anchors::is_there(paths, identity.tls(paths)?, &back).await {
        // Somebody there may know which anchors or which address follow.
        return anchors::ask_anybody(paths, &back).await;
    }
    tracing::warn!("the server is not at {}, but at {}", identity.server.https_url, back.https_url);
    Identity::keep_server(paths, &back)?;
    Ok(true)
}
