//! Events that make pages refresh: the names of what changed, gathered for 200 ms, never content.

use super::session;
use crate::access::By;
use crate::error::AppError;
use crate::sse::{self, KEEP_ALIVE, Message};
use actix_web::web::Data;
use actix_web::{HttpRequest, Responder};
use fleeti_control::accounts::sessions;
use fleeti_control::context::Context;
use fleeti_core::wire::api::Event;
use futures::stream;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Changes within this time are sent as one event.
const GATHER: Duration = Duration::from_millis(200);

/// All names, for a page that may have missed events.
const ALL: &[&str] = &["device", "rollout", "build", "release", "profile", "fleet", "alerts"];

fn name(event: &Event) -> Option<&'static str> {
    match event {
        Event::Device { .. } => Some("device"),
        Event::Rollout { .. } => Some("rollout"),
        Event::Build { .. } => Some("build"),
        Event::Release { .. } => Some("release"),
        Event::Profile { .. } => Some("profile"),
        Event::Fleet { .. } => Some("fleet"),
        Event::Alerts => Some("alerts"),
        // The log has a stream of its own.
        Event::BuildLog { .. } => None,
    }
}

/// `GET /live`. First sends all names: a page is rendered before it listens, and a page in the
/// background may have missed events.
pub async fn events(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
) -> Result<impl Responder, AppError> {
    let place = cx.streams.open(&by)?;
    let watched = (cx.clone(), session::of(&request), cx.events.subscribe());
    Ok(sse::response(place, stream::unfold((watched, true), next)))
}

/// What a stream needs: the session, by its token, and what is published.
type Watched = (Data<Context>, String, Receiver<Event>);

/// The next messages, as long as the session lasts.
async fn next((mut watched, first): (Watched, bool)) -> Option<(Vec<Message>, (Watched, bool))> {
    let (cx, session, receiver) = &mut watched;
    let messages = if first { changed(ALL.iter().copied()) } else { gather(receiver).await? };
    // A session that has ended gets no more events.
    if !sessions::is_live(cx, session).await.unwrap_or(false) {
        return None;
    }
    Some((messages, (watched, false)))
}

async fn gather(receiver: &mut Receiver<Event>) -> Option<Vec<Message>> {
    let mut names = BTreeSet::new();
    match tokio::time::timeout(KEEP_ALIVE, receiver.recv()).await {
        Err(_) => return Some(vec![Message::KeepAlive]),
        Ok(Err(RecvError::Closed)) => return None,
        Ok(Err(RecvError::Lagged(_))) => names.extend(ALL),
        Ok(Ok(event)) => names.extend(name(&event)),
    }
    tokio::time::sleep(GATHER).await;
    take_waiting(receiver, &mut names);
    if names.is_empty() {
        return Some(vec![Message::KeepAlive]);
    }
    Some(changed(names))
}

fn take_waiting(receiver: &mut Receiver<Event>, names: &mut BTreeSet<&'static str>) {
    loop {
        match receiver.try_recv() {
            Ok(event) => names.extend(name(&event)),
            Err(TryRecvError::Lagged(_)) => names.extend(ALL),
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        }
    }
}

fn changed(names: impl IntoIterator<Item = &'static str>) -> Vec<Message> {
    names.into_iter().map(|name| Message::named(name, "changed")).collect()
}
