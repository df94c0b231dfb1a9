//! Changes, as server-sent events under `/api/v1`.

use crate::sse::{self, KEEP_ALIVE, Message};
use actix_web::web::Data;
use actix_web::{Responder, get};
use fleeti_control::context::Context;
use fleeti_core::wire::api::Event;
use futures::StreamExt;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Watch changes as server-sent events, one for each change. A client that lags gets the event
/// `lagged` and must read the resources again.
#[utoipa::path(tag = "events", responses((status = 200, description = "The data of each event", body = Event, content_type = "text/event-stream")))]
#[get("/events")]
pub async fn events(cx: Data<Context>) -> impl Responder {
    // A first message, so that the client gets the head of the response.
    let first = futures::stream::once(async { [Message::KeepAlive] });
    let rest = futures::stream::unfold(cx.events.subscribe(), |mut events| async move {
        Some(([next_event(&mut events).await?], events))
    });
    sse::response(first.chain(rest))
}

async fn next_event(watcher: &mut Receiver<Event>) -> Option<Message> {
    Some(match tokio::time::timeout(KEEP_ALIVE, watcher.recv()).await {
        Ok(Ok(event)) => Message::plain(serde_json::to_string(&event).unwrap_or_default()),
        Ok(Err(RecvError::Lagged(_))) => Message::named("lagged", "{}"),
        Ok(Err(RecvError::Closed)) => return None,
        Err(_) => Message::KeepAlive,
    })
}
