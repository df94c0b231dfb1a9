//! Changes, as server-sent events under `/api/v1`.

use crate::sse::{self, KEEP_ALIVE, Message};
use actix_web::web::Data;
use actix_web::{HttpRequest, Responder, get};
use fleeti_control::accounts::access;
use fleeti_control::accounts::actor::Scope;
use fleeti_control::context::Context;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::api::Event;
use futures::{Stream, StreamExt};
use std::net::IpAddr;
use std::time::Instant;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Watch changes as server-sent events, one for each change. A client that lags gets the event
/// `lagged` and must read the resources again.
#[utoipa::path(tag = "events", responses((status = 200, description = "The data of each event", body = Event, content_type = "text/event-stream")))]
#[get("/events")]
pub async fn events(cx: Data<Context>, request: HttpRequest) -> impl Responder {
    let token = super::bearer_token(request.headers()).map(str::to_owned);
    let from = request.peer_addr().map(|address| address.ip());
    // A first message, so that the client gets the head of the response.
    let first = futures::stream::once(async { [Message::KeepAlive] });
    sse::response(first.chain(changes(cx, token, from)))
}

/// The changes, as long as the credential counts.
fn changes(
    cx: Data<Context>,
    token: Option<String>,
    from: Option<IpAddr>,
) -> impl Stream<Item = [Message; 1]> {
    let start = (cx.events.subscribe(), Instant::now());
    futures::stream::unfold(start, move |(mut watcher, mut checked)| {
        let (cx, token) = (cx.clone(), token.clone());
        async move {
            let message = next_event(&mut watcher).await?;
            if checked.elapsed() >= KEEP_ALIVE {
                let by = access::bearer(&cx, token.as_deref(), from).await.ok()?;
                by.may(Permission::View, Scope::All).then_some(())?;
                checked = Instant::now();
            }
            Some(([message], (watcher, checked)))
        }
    })
}

async fn next_event(watcher: &mut Receiver<Event>) -> Option<Message> {
    Some(match tokio::time::timeout(KEEP_ALIVE, watcher.recv()).await {
        Ok(Ok(event)) => Message::plain(serde_json::to_string(&event).unwrap_or_default()),
        Ok(Err(RecvError::Lagged(_))) => Message::named("lagged", "{}"),
        Ok(Err(RecvError::Closed)) => return None,
        Err(_) => Message::KeepAlive,
    })
}
