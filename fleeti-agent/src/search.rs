//! What a device does while it cannot reach its server. The server's certificate may chain to a
//! root newer than this image's, the device's own certificate may have expired whatever its clock
//! says, or its intermediate CA may no longer count. Or the server moved, and nothing answers at
//! the new address.

use crate::identity::Identity;
use crate::privileged::Helper;
use crate::{Paths, enrollment, transitions};
use anyhow::Result;
use std::time::Duration;

/// The first search starts after this fraction of the time that a boot on trial has to reach the
/// server.
const FIRST: u32 = 5;
/// How often the delay between searches doubles.
const DOUBLINGS: u32 = 5;

/// Searches repeatedly, with growing delays, until a change needs a new start of the daemon.
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
    match transitions::ask_any_server(paths, &identity.server).await {
        Ok(true) => return true,
        Ok(false) => {}
        // No server answers, so none would renew a certificate.
        Err(e) => {
            tracing::warn!("no server names newer trust anchors: {e:#}");
            return go_back(paths, identity).await.unwrap_or_else(|e| {
                tracing::warn!("the server's previous address: {e:#}");
                false
            });
        }
    }
    let renewed = enrollment::renew(paths, identity, helper).await;
    renewed.inspect_err(|e| tracing::warn!("the certificate was not renewed: {e:#}")).is_ok()
}

/// Returns to the server's previous address, if the server answers there and not at the new one.
async fn go_back(paths: &Paths, identity: &Identity) -> Result<bool> {
    let Some(back) = identity.server.back() else { return Ok(false) };
    if !transitions::is_there(paths, identity.tls(paths)?, &back).await {
        // The server at this address may know newer trust anchors or another address.
        return transitions::ask_any_server(paths, &back).await;
    }
    tracing::warn!("the server is not at {}, but at {}", identity.server.https_url, back.https_url);
    Identity::keep_server(paths, &back)?;
    Ok(true)
}
