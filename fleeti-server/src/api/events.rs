//! Changes, as server-sent events under `/api/v1`.

use crate::access::By;
use crate::sse::{self, KEEP_ALIVE, Message};
use actix_web::web::Data;
use actix_web::{HttpRequest, Responder, get};
use fleeti_control::accounts::access;
use fleeti_control::accounts::actor::Actor;
use fleeti_control::changes::{self, PAGE, Position, Recorded};
use fleeti_control::context::Context;
use fleeti_control::error::Error;
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::api::Event;
use futures::stream;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// How long a credential counts without another look at it.
const CHECKED_EVERY: Duration = Duration::from_secs(1);

/// Watch changes as server-sent events. A change that is stored has an id: a client that reconnects
/// with `Last-Event-ID` gets those that it missed. After the event `gap` (the id is too old, or
/// unknown) or `lagged`, the client must read the resources again. A client gets changes of what it
/// may read.
#[utoipa::path(tag = "events", params(("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that the client got")), responses((status = 200, description = "The data of each event", body = Event, content_type = "text/event-stream")))]
#[get("/events")]
pub async fn events(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
) -> super::Result<impl Responder> {
    let place = cx.streams.open(&by)?;
    let token = super::bearer_token(request.headers()).map(str::to_owned);
    let from = request.peer_addr().map(|address| address.ip());
    let last = sse::last_event_id(&request);
    let watch = Watch::begin(cx, Actor::clone(&by), Credential { token, from }, last).await?;
    Ok(sse::response(place, stream::unfold(watch, Watch::next)))
}

/// The credential of the request.
struct Credential {
    token: Option<String>,
    from: Option<IpAddr>,
}

/// A client that watches.
struct Watch {
    cx: Data<Context>,
    credential: Credential,
    by: Actor,
    checked: Instant,
    live: Receiver<Event>,
    /// The last record that was sent, or that the client may not see.
    position: Position,
    /// What is sent next.
    waiting: Vec<Message>,
    /// Whether the outbox may have more records.
    has_more: bool,
    written: Instant,
}

/// What was published meanwhile.
#[derive(Default)]
struct Heard {
    changes: Vec<Event>,
    has_lagged: bool,
}

impl Watch {
    async fn begin(
        cx: Data<Context>,
        by: Actor,
        credential: Credential,
        last: Option<String>,
    ) -> Result<Self, Error> {
        // Before the position is read, so that no change is missed.
        let live = cx.events.subscribe();
        let begun = changes::begin(&cx, last.as_deref()).await?;
        // A first message, so that the client gets the head of the response, and an id.
        let mut waiting = vec![Message::KeepAlive];
        if begun.has_gap {
            waiting.push(Message::Event {
                id: Some(begun.position.to_string()),
                name: Some("gap"),
                data: "{}".into(),
            });
        } else {
            waiting.push(Message::Position(begun.position.to_string()));
        }
        let (position, now) = (begun.position, Instant::now());
        let has_more = last.is_some();
        Ok(Self {
            cx,
            credential,
            by,
            checked: now,
            live,
            position,
            waiting,
            has_more,
            written: now,
        })
    }

    /// The next messages, as long as the credential counts. If the database does not answer, the
    /// stream ends, and the client reconnects with its last id.
    async fn next(mut self) -> Option<(Vec<Message>, Self)> {
        while self.waiting.is_empty() {
            let heard = if self.has_more { Heard::default() } else { hear(&mut self.live).await? };
            self.check().await?;
            self.look(heard).await.ok()?;
            if self.waiting.is_empty() && self.written.elapsed() >= KEEP_ALIVE {
                self.waiting.push(Message::KeepAlive);
            }
        }
        self.written = Instant::now();
        Some((std::mem::take(&mut self.waiting), self))
    }

    /// Looks at the credential again: it may have ended, or have lost roles.
    async fn check(&mut self) -> Option<()> {
        if self.checked.elapsed() < CHECKED_EVERY {
            return Some(());
        }
        let Credential { token, from } = &self.credential;
        self.by = access::bearer(&self.cx, token.as_deref(), *from).await.ok()?;
        self.checked = Instant::now();
        self.by.may_somewhere(Permission::View).then_some(())
    }

    /// Takes new records, and what was published without one.
    async fn look(&mut self, heard: Heard) -> Result<(), Error> {
        let records = changes::after(&self.cx, self.position).await?;
        self.has_more = records.len() == PAGE;
        if heard.has_lagged {
            self.waiting.push(Message::named("lagged", "{}"));
        }
        let recorded: Vec<_> = records.iter().filter_map(|r| r.change.as_ref()).collect();
        for change in heard.changes.iter().filter(|change| !recorded.contains(change)) {
            self.tell(change, None).await?;
        }
        for (n, record) in records.iter().enumerate() {
            let later = records.get(n + 1..).unwrap_or_default();
            let is_last = later.iter().all(|later| later.change != record.change);
            let told = match &record.change {
                // Once for the page is enough.
                Some(change) if is_last => self.tell(change, Some(record.position)).await?,
                Some(_) | None => false,
            };
            if !told && later.is_empty() {
                self.waiting.push(Message::Position(record.position.to_string()));
            }
        }
        self.tell_of_many(&records);
        self.position = records.last().map_or(self.position, |record| record.position);
        Ok(())
    }

    /// Adds the event that lets a client read everything again, if a record is of many devices.
    fn tell_of_many(&mut self, records: &[Recorded]) {
        if let (true, Some(last)) = (records.iter().any(|r| r.are_many), records.last()) {
            let id = Some(last.position.to_string());
            self.waiting.push(Message::Event { id, name: Some("lagged"), data: "{}".into() });
        }
    }

    /// Adds a change, if the client may see it.
    async fn tell(&mut self, change: &Event, position: Option<Position>) -> Result<bool, Error> {
        let may_see = changes::may_see(&self.cx, &self.by, change).await?;
        if may_see {
            let data = serde_json::to_string(change)?;
            let id = position.map(|position| position.to_string());
            self.waiting.push(Message::Event { id, name: None, data });
        }
        Ok(may_see)
    }
}

/// Waits until something is published, and takes all of it; `None` when the server ends.
async fn hear(live: &mut Receiver<Event>) -> Option<Heard> {
    let mut heard = Heard::default();
    match tokio::time::timeout(KEEP_ALIVE, live.recv()).await {
        Ok(Ok(event)) => heard.changes.push(event),
        Ok(Err(RecvError::Lagged(_))) => heard.has_lagged = true,
        Ok(Err(RecvError::Closed)) => return None,
        Err(_) => return Some(heard),
    }
    take_waiting(live, &mut heard);
    Some(heard)
}

fn take_waiting(live: &mut Receiver<Event>, heard: &mut Heard) {
    while heard.changes.len() < PAGE {
        match live.try_recv() {
            Ok(event) if heard.changes.contains(&event) => {}
            Ok(event) => heard.changes.push(event),
            Err(TryRecvError::Lagged(_)) => heard.has_lagged = true,
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        }
    }
}
