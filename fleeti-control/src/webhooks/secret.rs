//! Secrets of webhooks, and signatures with them.

use crate::context::Context;
use crate::error::Error;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::webhook::{SECRET_PREFIX, Webhook};
use fleeti_pki::wrap::{WrapKey, Wrapped};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A new secret: 32 random bytes.
pub(super) fn new() -> [u8; 32] {
    rand::random()
}

/// The secret as its receiver gets it.
pub(super) fn shown(secret: &[u8]) -> String {
    format!("{SECRET_PREFIX}{}", BASE64_STANDARD.encode(secret))
}

/// What the secret is bound to. An attacker who can only write the database can neither read a
/// secret nor send its events elsewhere.
fn target(webhook: &Webhook) -> String {
    format!("{} {} {}", webhook.id, webhook.events.join(","), webhook.url)
}

fn key(cx: &Context) -> Result<WrapKey, Error> {
    Ok(WrapKey::from_bytes(&cx.accounts.derived_key("webhooks")?)?)
}

/// Seals a secret for the database.
pub(super) fn seal(cx: &Context, webhook: &Webhook, secret: &[u8]) -> Result<String, Error> {
    let sealed = key(cx)?.wrap(Wrapped::Webhook(&target(webhook)), secret)?;
    Ok(BASE64_STANDARD.encode(sealed))
}

/// Opens a sealed secret.
pub(super) fn open(cx: &Context, webhook: &Webhook, sealed: &str) -> Result<Vec<u8>, Error> {
    let changed = || {
        let text = format!(
            "webhook {} was changed by another program, or the key of the server was replaced (DIR/accounts.key)",
            webhook.id
        );
        Error::new(Code::Conflict, text).hint("remove the webhook, and add it again")
    };
    let sealed = BASE64_STANDARD.decode(sealed).map_err(|_| changed())?;
    let opened = key(cx)?.unwrap(Wrapped::Webhook(&target(webhook)), &sealed);
    Ok(opened.map_err(|_| changed())?.to_vec())
}

/// `webhook-signature` of a message (Standard Webhooks, version 1).
pub(super) fn signature(
    secret: &[u8],
    id: &str,
    timestamp_s: u64,
    body: &str,
) -> Result<String, Error> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(Error::internal)?;
    mac.update(format!("{id}.{timestamp_s}.{body}").as_bytes());
    Ok(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the libraries of Standard Webhooks.
    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = r#"{"test": 2432232314}"#;
        let made = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(made.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
