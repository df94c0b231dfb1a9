//! A signed message to a receiver, and the answer.

use super::secret;
use crate::context::Context;
use crate::error::Error;
use fleeti_store::webhooks::WebhookRow;

/// A request to send.
pub struct Message {
    /// Where it is sent.
    pub url: String,
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`, Unix seconds.
    pub timestamp_s: u64,
    /// `webhook-signature`.
    pub signature: String,
    /// The body, JSON.
    pub body: String,
}

/// What a receiver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status; `None` if there was no answer.
    pub status: Option<u16>,
    /// The beginning of the body, or why there was no answer.
    pub text: String,
}

/// Signs a message with the secret of a webhook.
///
/// # Errors
/// [`Code::Conflict`](fleeti_core::wire::problem::Code::Conflict) for a webhook that another program
/// changed.
pub(super) fn signed(
    cx: &Context,
    row: &WebhookRow,
    (id, body): (String, String),
) -> Result<Message, Error> {
    let (secret, timestamp_s) = (secret::open(cx, &row.webhook, &row.secret)?, cx.now_s());
    let signature = secret::signature(&secret, &id, timestamp_s, &body)?;
    Ok(Message { url: row.webhook.url.clone(), id, timestamp_s, signature, body })
}
