//! Server-sent events (WHATWG HTML, 9.2): the one writer of the API's events, of what makes pages
//! refresh, and of logs of builds.

use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use fleeti_control::changes::streams::Place;
use futures::{Stream, StreamExt};
use std::fmt::Write;
use std::time::Duration;

/// How often a server writes to an idle stream: only a write detects a closed connection, and
/// proxies close idle ones.
pub const KEEP_ALIVE: Duration = Duration::from_secs(25);

/// A message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// An event.
    Event {
        /// Where a client continues that reconnects (`Last-Event-ID`).
        id: Option<String>,
        /// Type of the event; `None` for the default type, `message`.
        name: Option<&'static str>,
        /// The data. Each line break starts another `data` field.
        data: String,
    },
    /// Where a client continues that reconnects, without an event.
    Position(String),
    /// A comment, which clients ignore: keeps the connection open.
    KeepAlive,
}

impl Message {
    /// An event of a type.
    pub fn named(name: &'static str, data: impl Into<String>) -> Self {
        Self::Event { id: None, name: Some(name), data: data.into() }
    }

    /// An event of the default type.
    pub fn plain(data: impl Into<String>) -> Self {
        Self::Event { id: None, name: None, data: data.into() }
    }

    fn write(&self, text: &mut String) {
        let (id, name, data) = match self {
            Self::Event { id, name, data } => (id, name, data),
            Self::Position(id) => {
                // Writing to a string does not fail.
                write!(text, "id: {id}\n\n").ok();
                return;
            }
            Self::KeepAlive => return text.push_str(": keep-alive\n\n"),
        };
        if let Some(id) = id {
            writeln!(text, "id: {id}").ok();
        }
        if let Some(name) = name {
            writeln!(text, "event: {name}").ok();
        }
        // CR and CR LF also end a line of a stream.
        for line in data.replace("\r\n", "\n").split(['\n', '\r']) {
            writeln!(text, "data: {line}").ok();
        }
        text.push('\n');
    }
}

/// The id of the last event that a client got which reconnects; empty if it is no text.
pub fn last_event_id(request: &HttpRequest) -> Option<String> {
    let sent = request.headers().get("last-event-id")?;
    Some(sent.to_str().unwrap_or_default().to_owned())
}

/// A response that sends messages as they come, and holds its place among the streams of its
/// account. An item is sent in one piece.
pub fn response<I>(place: Place, messages: impl Stream<Item = I> + 'static) -> HttpResponse
where
    I: IntoIterator<Item = Message>,
{
    let pieces = messages.map(move |some| {
        let _held = &place;
        let mut text = String::new();
        some.into_iter().for_each(|message| message.write(&mut text));
        Ok::<_, actix_web::Error>(Bytes::from(text))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-store"))
        .streaming(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(message: &Message) -> String {
        let mut text = String::new();
        message.write(&mut text);
        text
    }

    #[test]
    fn a_message_has_its_fields_and_ends_with_an_empty_line() {
        assert_eq!(written(&Message::plain("{}")), "data: {}\n\n");
        assert_eq!(written(&Message::named("lagged", "{}")), "event: lagged\ndata: {}\n\n");
        let log = Message::Event { id: Some("7".into()), name: None, data: "a".into() };
        assert_eq!(written(&log), "id: 7\ndata: a\n\n");
        assert_eq!(written(&Message::Position("7-1".into())), "id: 7-1\n\n");
        assert!(written(&Message::KeepAlive).starts_with(':'));
    }

    #[test]
    fn data_cannot_start_another_field() {
        let text = "a\nevent: x\rid: 9\r\n\r\n: b";
        assert_eq!(
            written(&Message::plain(text)),
            "data: a\ndata: event: x\ndata: id: 9\ndata: \ndata: : b\n\n"
        );
    }
}
