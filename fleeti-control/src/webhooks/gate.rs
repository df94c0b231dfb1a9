//! Webhooks that rollouts ask: the question whether a wave may begin.

use super::message::{Message, signed};
use crate::clock::instant;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::webhook::{GATE_EVENT, GateQuestion};
use fleeti_store::webhooks::WebhookRow;
use fleeti_store::{self as store, Connection};
use serde_json::json;

async fn gate(connection: &mut Connection, id: &str) -> Result<WebhookRow, Error> {
    let all = store::webhooks::all(connection).await?;
    let found = all.into_iter().find(|row| row.webhook.id == id);
    let is_gate = |row: &WebhookRow| row.webhook.events.iter().any(|event| event == GATE_EVENT);
    found.filter(is_gate).ok_or_else(|| {
        let text = format!("no webhook {id} has the event {GATE_EVENT}");
        Error::new(Code::Invalid, text)
            .hint("an administrator adds one: `fleeti webhook add URL --event rollout.gate`")
    })
}

/// Checks that a rollout may name a webhook as its gate.
///
/// # Errors
/// [`Code::Invalid`] for a webhook that does not exist, or that was not added for it.
pub(crate) async fn check_gate(connection: &mut Connection, id: &str) -> Result<(), Error> {
    gate(connection, id).await.map(|_| ())
}

/// A question to the webhook that a rollout names, signed.
///
/// # Errors
/// As [`check_gate`]; [`Code::Conflict`] for a webhook that another program changed.
pub(crate) async fn question(
    cx: &Context,
    id: &str,
    question: &GateQuestion,
) -> Result<Message, Error> {
    let row = gate(&mut cx.db.reader().await?, id).await?;
    let body = json!({ "type": GATE_EVENT, "timestamp": instant(cx.now_s()), "data": question });
    signed(cx, &row, (question.id.clone(), body.to_string()))
}
