//! What makes pages look again: the names of what changed, gathered for a moment, never their content.

use crate::app::AppRef;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpResponse, Responder};
use fleeti_core::wire::api::Event;
use futures::stream;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Changes that come within this time are told as one.
const GATHER: Duration = Duration::from_millis(200);
/// A connection that is gone is noticed when it is written to.
const KEEP_ALIVE: Duration = Duration::from_secs(25);

/// Every name, for a watcher that missed some.
const ALL: &[&str] = &["device", "rollout", "build", "release", "profile"];

fn name(event: &Event) -> Option<&'static str> {
    match event {
        Event::Device { .. } => Some("device"),
        Event::Rollout { .. } => Some("rollout"),
        Event::Build { .. } => Some("build"),
        Event::Release { .. } => Some("release"),
        Event::Profile { .. } => Some("profile"),
        // The log has a stream of its own.
        Event::BuildLog { .. } => None,
    }
}

/// `GET /live`.
pub async fn events(app: Data<AppRef>) -> impl Responder {
    let stream = stream::unfold((app.events.subscribe(), true), |(mut receiver, first)| async move {
        if first {
            return Some((Ok::<_, actix_web::Error>(Bytes::from_static(b": welcome\n\n")), (receiver, false)));
        }
        let text = gather(&mut receiver).await?;
        Some((Ok(Bytes::from(text)), (receiver, false)))
    });
    HttpResponse::Ok().content_type("text/event-stream").insert_header(("cache-control", "no-store")).streaming(stream)
}

async fn gather(receiver: &mut Receiver<Event>) -> Option<String> {
    let mut names = BTreeSet::new();
    match tokio::time::timeout(KEEP_ALIVE, receiver.recv()).await {
        Err(_) => return Some(": still here\n\n".to_owned()),
        Ok(Err(RecvError::Closed)) => return None,
        Ok(Err(RecvError::Lagged(_))) => names.extend(ALL),
        Ok(Ok(event)) => names.extend(name(&event)),
    }
    tokio::time::sleep(GATHER).await;
    loop {
        match receiver.try_recv() {
            Ok(event) => names.extend(name(&event)),
            Err(TryRecvError::Lagged(_)) => names.extend(ALL),
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    if names.is_empty() {
        return Some(": nothing for pages\n\n".to_owned());
    }
    Some(names.into_iter().map(|n| format!("event: {n}\ndata: changed\n\n")).collect())
}
