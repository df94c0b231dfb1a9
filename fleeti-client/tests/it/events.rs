//! The event stream continues after a broken connection.

use fleeti_client::{Client, ClientError};
use fleeti_core::wire::api::Event;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A server that gives each connection the next of its answers, and then closes it.
pub struct Scripted {
    pub url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    pub fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&heads);
        let answers: Vec<String> = answers.iter().map(|&text| text.to_owned()).collect();
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(&stream);
                let lines = reader.by_ref().lines().map(Result::unwrap);
                let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                let head = head.join("\n").to_lowercase();
                let length = of(&head, "content-length: ").map_or(0, |n| n.parse().unwrap());
                reader.read_exact(&mut vec![0; length]).unwrap();
                seen.lock().unwrap().push(head);
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { url, heads }
    }

    /// A header of each request.
    pub fn headers(&self, name: &str) -> Vec<Option<String>> {
        self.heads.lock().unwrap().iter().map(|head| of(head, name)).collect()
    }
}

fn of(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned))
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

fn rollout(id: &str) -> Option<Event> {
    Some(Event::Rollout { id: id.into() })
}

fn message(id: &str, rollout: &str) -> String {
    format!("id: {id}\ndata: {{\"type\":\"rollout\",\"id\":\"{rollout}\"}}\n\n")
}

#[tokio::test]
async fn a_broken_stream_continues_after_the_last_event_that_was_read_whole() {
    // The second connection breaks between the id of an event and its data.
    let peer = Scripted::start(&[
        &format!("{OK}: keep-alive\n\nid: 3-9\n\n{}", message("4-9", "a")),
        &format!("{OK}id: 4-9\n\n{}id: 6-9\ndata: {{\"type\"", message("5-9", "b")),
        "HTTP/1.1 503 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        &format!("{OK}id: 5-9\n\n{}", message("6-9", "c")),
        &format!("{OK}id: 9-9\nevent: gap\ndata: {{}}\n\n{}", message("10-9", "d")),
        "HTTP/1.1 401 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ]);
    let mut events = Client::new(&peer.url, "TOKEN").unwrap().events().await.unwrap();
    for expected in [rollout("a"), rollout("b"), rollout("c"), None, rollout("d")] {
        assert_eq!(events.next().await.unwrap(), expected);
    }
    // The credential has ended: no other attempt.
    let refused = events.next().await.unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(p) if p.status == 401), "{refused:?}");
    let ids = [None, Some("4-9"), Some("5-9"), Some("5-9"), Some("6-9"), Some("10-9")];
    assert_eq!(peer.headers("last-event-id: "), ids.map(|id| id.map(str::to_owned)));
}

#[tokio::test]
async fn an_id_that_no_header_may_have_is_not_sent_back() {
    let long = "9".repeat(65);
    for forged in [long.as_str(), "a b", "\u{7f}", "ü"] {
        let peer = Scripted::start(&[&format!("{OK}{}", message(forged, "a"))]);
        let mut events = Client::new(&peer.url, "TOKEN").unwrap().events().await.unwrap();
        assert_eq!(events.next().await.unwrap(), rollout("a"));
        // There is nothing to continue from.
        let ended = events.next().await.unwrap_err();
        assert!(matches!(ended, ClientError::StreamEnded), "{forged:?}: {ended:?}");
    }
}
